"""PHIL parameters that several programs share."""

INPUT = r"""
input {
  model = None
    .type = path
    .help = "Structure: CIF, mmCIF, PDB or SHELX .ins/.res. Naming it on the command line is enough."
  data = None
    .type = path
    .help = "Measured frames: a .cif_pets file. Naming it on the command line is enough."
  data_block = None
    .type = str
    .help = "Data block of a CIF with several structures; the first one with atoms by default."
  reindex = None
    .type = str
    .help = "Other indices for the reflections, such as -h,-k,-l or k,h,-l. Whether the UB matrix goes with them is told \
      from which rows come near the Ewald sphere, and said."
  cell_tolerance = 0.06
    .type = float(value_min=0, value_max=0.3)
    .help = "How far cells of model and data and the UB matrix may be apart: a fraction of lengths, and in angles 2.5 \
      degrees for 0.06. The cell of the model is taken, and the orientation that the UB matrix has for it."
}
"""

SHARED = r"""
solver {
  name = auto
    .type = str
    .help = "Dynamical solver. auto: the fastest that keeps the tolerance (the propagator, but for a handful of \
      orientations). propagator: all orientations of a frame in one series, weak beams folded into strong ones. \
      eigen: one eigenproblem for each orientation (the reference, some fifty times slower). two_beam: each \
      reflection with the incident beam only, fast and wrong by a few per cent in R. kinematical: single scattering."
}
accuracy {
  tolerance = 0.1
    .type = float(value_min=0.001, value_max=10)
    .help = "Numerical error of intensities that is allowed, as a part of the misfit that the model leaves, or of \
      max(sigma, 1 % of I) where that is less. Tilts, spread nodes and beams follow from it; error and misfit are \
      measured on a few frames and printed. 0.1 shifts parameters by one to three tenths of their s.u.s (root mean \
      square); 0.05 takes two to three times as long."
}
beams {
  g_max = None
    .type = float(value_min=0.1, value_max=10)
    .help = "Beams reach out to this |g| in 1/Angstrom. None: 0.2 beyond the outermost measured reflection. Too small \
      a value leaves measured reflections without their neighbours."
  s_max = None
    .type = float(value_min=0.001, value_max=1)
    .help = "Beams with a larger excitation error (1/Angstrom) are left out. None: chosen by accuracy.tolerance, 0.02 \
      to 0.09, or 0.015 to 0.05 for a solver that cannot fold beams."
  s_strong = None
    .type = float(value_min=0.001, value_max=1)
    .help = "Beams with a larger excitation error are folded into the others by perturbation. None: chosen by \
      accuracy.tolerance, 0.002 to 0.01."
}
selection {
  rsg_max = 0.7
    .type = float(value_min=0)
    .help = "Largest |S_g|/(|g_y| semi-angle): nearer 1 takes reflections that a frame has barely swept through."
  dsg_min = 0.0015
    .type = float
    .help = "Smallest |g_y| semi-angle - |S_g| in 1/Angstrom: leaves out reflections beside the rotation axis, which \
      the slightest wobble takes in or out."
  sg_max = 0.1
    .type = float(value_min=0)
    .help = "Largest |S_g| in 1/Angstrom at the centre of the frame."
  d_min = 0
    .type = float(value_min=0)
    .help = "High-resolution limit in Angstrom; 0 takes all."
}
thickness {
  value = None
    .type = float
    .help = "Greatest thickness in Angstrom; None searches for it."
  shape = *auto slab wedge cylinder lens thin free
    .type = choice
    .help = "How area is spread over thickness: one thickness, uniform, chords of a cylinder or ball, 1-x, or a free \
      histogram. auto takes the likeliest of the one-parameter laws, unless another one foretells indices that are left \
      out clearly better."
  refine = True
    .type = bool
    .help = "Fit the thickness, starting anywhere; with False thickness.value must be given and stays."
}
spread {
  sigma = None
    .type = float(value_min=0, value_max=2)
    .help = "Orientation spread in degrees about the axis across beam and rotation axis; None fits it."
  refine = True
    .type = bool
    .help = "Fit the spread. False without spread.sigma means none at all, which on bent crystals costs 2 % in R."
  sigma_max = 0.2
    .type = float(value_min=0, value_max=2)
    .help = "Largest spread tried, in degrees."
}
frames {
  first = None
    .type = int
    .help = "Leave out frames before this one."
  last = None
    .type = int
    .help = "Leave out frames after this one."
  exclude = None
    .type = ints
    .help = "Frames to leave out, by number."
  refine_orientation = True
    .type = bool
    .help = "Fit the centre of each frame's spread, that is its orientation across the axis."
  orientation_max = 0.2
    .type = float(value_min=0, value_max=2)
    .help = "How far in degrees a frame may be turned; a prior keeps those that say little near zero."
  min_reflections = 5
    .type = int(value_min=1)
    .help = "Frames with fewer reflections after selection are left out, with a message."
  geometry = *auto rotation precession
    .type = choice
    .help = "auto reads it off the intensities, because headers are not always right."
}
model {
  invert = False
    .type = bool
    .help = "Take the other hand of the structure (and the enantiomorphic space group)."
  mend_displacements = False
    .type = bool
    .help = "Make displacement parameters of the file that are not positive positive: isotropic ones by those of other \
      atoms, principal values of anisotropic ones 0.001 Angstrom^2 at least. False refuses them."
}
"""

REFINEMENT = r"""
refinement {
  sites = True
    .type = bool
    .help = "Refine the positions of the atoms."
  displacements = True
    .type = bool
    .help = "Refine displacement parameters, isotropic first."
  occupancies = None
    .type = str
    .multiple = True
    .help = "Occupancies to refine, by labels: occupancies=O1W of one atom, occupancies=O1,H1,H2 of atoms with one in \
      common, occupancies='N1A,H1A + N1B = 1' of several that add up to a total; as often as there are any. Free variables \
      of a SHELX file are refined without being repeated here. All at once is refused: scales of frames undo that."
  anisotropic = *auto all none
    .type = choice
    .help = "auto: atoms other than hydrogen become anisotropic where there are rows enough; all: hydrogen, too; none: \
      all are isotropic, whatever they are in the model."
  hydrogens = *riding free
    .type = choice
    .help = "riding: hydrogen atoms keep their geometry and the distances of nuclei (C-H 1.09, N-H 1.03, O-H 0.98 \
      Angstrom), and isotropic displacements of 1.2 or 1.5 times those of their parents. free: they are refined like \
      other atoms."
  place_hydrogens = False
    .type = bool
    .help = "Add missing hydrogen atoms by geometry: on carbon, nitrogen and oxygen of organic molecules, as bond lengths \
      and angles tell after some cycles without hydrogen."
  instruction = None
    .type = str
    .multiple = True
    .help = "A restraint, or shared displacements, as SHELX writes them: instruction='DFIX 1.25 0.02 C1 O1'. DFIX, DANG, \
      FLAT, SADI, SIMU, DELU, RIGU, ISOR, EADP and EXYZ, with the labels of the model, as often as there are any. Those \
      of a SHELX file, its AFIX among them, hold without being repeated here."
  free_frames = None
    .type = int(value_min=2)
    .help = "Leave every n-th frame out, and print R(free) of what these measured and no other frame did: structure, \
      thickness and spread as refined, scale and centre of each frame its own."
  free_fraction = None
    .type = float(value_min=0.01, value_max=0.5)
    .help = "Leave this part of the indices out, their equivalents, Friedel mates and repeats with them, and print R(free) \
      of them: structure, thickness, spread, scales and centres as refined against the others."
  method = *auto least_squares gradient
    .type = choice
    .help = "Full-matrix least squares, with standard uncertainties, or a gradient minimiser without. auto: least \
      squares up to some 65 atoms."
  cycles = 10
    .type = int(value_min=1)
    .help = "At most so many cycles at the fine level; fewer when the atoms have come to rest."
  shift_over_su = 0.01
    .type = float(value_min=1e-6)
    .help = "Least squares ends when no parameter moves by more than this part of its standard uncertainty."
  loss = *cauchy huber squares
    .type = choice
    .help = "What least squares does with outliers. cauchy, huber: they count for less, the further off the less; all are \
      used, and the worst are listed. squares: every residual counts with its square."
  weighting = 0.01
    .type = float(value_min=0, value_max=1)
    .help = "The a of the weights 1/(sigma^2 + (a P)^2), P = (max(Iobs, 0) + 2 Icalc)/3. None: that of the flattest \
      analysis of variance, which judges strong reflections by the errors that the model leaves, and costs R(obs)."
}
"""

WORKERS = r"""
nproc = None
  .type = int(value_min=1)
  .help = "Threads; None takes all cores. Every one works on a frame of its own."
cluster = None
  .type = str
  .help = "Address of a Dask scheduler, such as tcp://host:8786: its workers take the frames in place of threads. `dask \
    scheduler` prints it, and `dask worker ADDRESS` on each machine adds workers, at any time; one that dies is made up \
    for. Scheduler and workers need the same edtbx[dask]. tcp:// is neither encrypted nor guarded: trust the network."
"""
