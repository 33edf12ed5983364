"""What each program says of itself: its name, what it does, and its parameters. ``--help`` needs no more."""

from __future__ import annotations

from edtbx_cctbx.io.output_files import output_phil
from edtbx_cctbx.programs.phil import INPUT, REFINEMENT, SHARED, WORKERS
from edtbx_cctbx.programs.template import EdtbxProgram

_RESTART = """
restart = False
  .type = bool
  .help = "Go on where a run of the same command was killed or interrupted, from PREFIX.checkpoint; the end is the same \\
    as if it had not been."
"""

_CROSS_VALIDATE = r"""
cross_validate = None
  .type = int(value_min=2, value_max=100)
  .help = "Leave the indices out in so many parts, one after the other, their equivalents, Friedel mates and repeats with \
    them, and print R(free) of what scales, centres, thickness and spread foretell that were fitted to the others. It costs \
    seconds."
"""

_LEARN = r"""
learn = False
  .type = bool
  .help = "Learn from the data how scales and centres of the frames vary along the scan: each is a constant, a trend, \
    something smooth and jumps from frame to frame, in amounts that maximise the evidence; thickness and spread grow or \
    fall along the scan where that foretells left-out indices better. False: scales are free, centres held near zero alike \
    for every crystal. It costs a quarter of a minute, and lowers R of what was left out (R(free)), not R(obs)."
"""

_MAP = r"""
map {
  kind = *newton gradient fo_fc_dynamical fo_fc_kinematical
    .type = choice
    .help = "The map whose peaks are listed and which goes to PREFIX.ccp4 and to the columns DELFWT and PHDELFWT; all of \
      them are in PREFIX.mtz. newton: the most likely change of all structure factors, measured or not. gradient: one \
      step of steepest descent. fo_fc_dynamical: the recipe of Palatinus et al. (2017), with the phases of the model. \
      fo_fc_kinematical: the same from single scattering."
  omit = None
    .type = strings
    .help = "Labels of atoms to leave out, such as H* or O1."
  atoms_follow = True
    .type = bool
    .help = "Let the atoms follow in the newton map, hydrogen riding: it shows what no shift of them explains, and atoms \
      left out do not hide in shifts of the others. Otherwise errors of the atoms show, too."
  hydrogens = False
    .type = bool
    .help = "Propose hydrogen at peaks that have its distance and angle to an atom with a bond to spare, down to where as \
      many peaks are elsewhere. The structure with it goes to PREFIX_hydrogens.cif."
  scattering_type = H
    .type = str
    .help = "Atom that is looked for: what its scattering cannot be is taken for noise."
}
"""

_SIMULATED = r"""
input {
  model = None
    .type = path
    .help = "Structure: CIF, mmCIF, PDB or SHELX .ins/.res. Naming it on the command line is enough."
  data_block = None
    .type = str
    .help = "Data block of a CIF with several structures; the first one with atoms by default."
  cell_tolerance = 0.06
    .type = float(value_min=0, value_max=0.3)
    .help = "How far the cell may miss the symmetry of the space group: a fraction of lengths, and in angles 2.5 degrees \
      for 0.06. It is averaged."
}
model {
  mend_displacements = False
    .type = bool
    .help = "Make displacement parameters of the file that are not positive positive: isotropic ones by those of other \
      atoms, principal values of anisotropic ones 0.001 Angstrom^2 at least. False refuses them."
}
beam {
  energy = 200
    .type = float
    .help = "Energy of the electrons in keV."
  wavelength = None
    .type = float
    .help = "Wavelength in Angstrom, in place of the energy."
}
scan {
  geometry = *rotation precession
    .type = choice
    .help = "How a frame is scanned. Real files of a rotation often hold overlapping frames that repeat one integrated \
      intensity; here every frame is integrated over its own range and has noise of its own, overlapping or not."
  first = -50
    .type = float
    .help = "Goniometer angle alpha at the centre of the first frame, in degrees."
  step = 2
    .type = float
    .help = "From one frame to the next, in degrees."
  frames = 50
    .type = int
    .help = "Number of frames."
  semi_angle = 1
    .type = float
    .help = "Half the rotation range of a frame, or the semi-angle of the precession cone, in degrees (0 to 20)."
  orientation = None
    .type = floats(size=3)
    .help = "Orientation of the crystal at alpha = 0: turned about the lab axes x, y and z in turn by these angles in \
      degrees, from a* along x. None takes one at random, by the seed."
}
selection {
  d_min = 0.7
    .type = float
    .help = "High-resolution limit in Angstrom of the reflections listed."
  rsg_max = 1.0
    .type = float
    .help = "Listed are reflections up to this |S_g|/(|g_y| semi-angle), |g| in place of |g_y| in precession. 1: all \
      that pass the Bragg position in the frame. Those that the space group extinguishes are listed too."
}
thickness {
  value = 1000
    .type = float
    .help = "Greatest thickness in Angstrom."
  shape = slab *wedge cylinder lens thin
    .type = choice
    .help = "How area is spread over thickness: one thickness, uniform, chords of a cylinder or ball, 1-x."
}
spread {
  sigma = 0.06
    .type = float
    .help = "Orientation spread in degrees about the axis across beam and rotation axis."
}
noise {
  counts = 1000
    .type = float
    .help = "Expected counts of a reflection of mean strength; every intensity has Poisson noise."
  background = 3
    .type = float
    .help = "Normal noise in counts that every intensity has besides: it makes some of them negative."
  orientation = 0.03
    .type = float
    .help = "Standard deviation in degrees of the orientation of a frame across the axis; the file does not tell it."
  scale = 0.1
    .type = float
    .help = "Relative standard deviation of the scale of a frame; the file does not tell it."
}
seed = 1
  .type = int(value_min=0)
  .help = "Seed of all random numbers: the same seed gives the same file."
solver {
  name = auto
    .type = str
    .help = "auto, propagator: all beams that come near in a group of orientations, exact. eigen: those of each \
      orientation by itself, slower. two_beam: each reflection with the incident beam only. kinematical: single \
      scattering."
}
beams {
  g_max = None
    .type = float
    .help = "Beams reach out to this |g| in 1/Angstrom. None: 0.2 beyond 1/d_min."
  s_max = 0.02
    .type = float
    .help = "Beams with a larger excitation error (1/Angstrom) are left out. The time rises with its second or third power."
}
"""


class Compare(EdtbxProgram):
    """Scales, thickness, orientation spread and centres are fitted for each theory; the structure stays as it is."""

    program_name = "edtbx.compare"
    description = """
edtbx.compare MODEL DATA: kinematical and dynamical R-factors of a structure against 3D electron diffraction data,
side by side on the same reflections. Scales, thickness, its law, orientation spread and the orientation of each frame
are fitted for each theory; the structure stays as it is.

Example: edtbx.compare urea.cif urea.cif_pets output.prefix=urea_compared
"""
    master_phil_str = INPUT + SHARED + _CROSS_VALIDATE + _LEARN + WORKERS + output_phil(program_name)


class Refine(EdtbxProgram):
    """Sites, displacements and nuisance parameters in turn, for each theory on its own."""

    program_name = "edtbx.refine"
    description = """
edtbx.refine MODEL DATA: refine sites, displacements (isotropic first, then anisotropic where the data allow) and, when
asked, occupancies, together with scales, thickness, its law, orientation spread and the orientation of each frame.
Both theories are refined from the same start, so that their R-factors can be compared. Ctrl-C (or SIGTERM) ends a refinement
early and writes what is there; PREFIX.checkpoint keeps it, and restart=True goes on from there, also after a crash.

Example: edtbx.refine quartz.cif quartz.cif_pets output.prefix=quartz_refined
"""
    master_phil_str = INPUT + SHARED + REFINEMENT + _LEARN + _RESTART + WORKERS + output_phil(program_name)


class Map(EdtbxProgram):
    """Maps of a structure that stays as it is, but for atoms left out."""

    program_name = "edtbx.map"
    description = """
edtbx.map MODEL DATA: difference potentials of a structure, in volts, from all frames: what the intensities ask for that the
structure does not have, hydrogen above all. Scales, thickness, its law, orientation spread and the orientation of each
frame are fitted first; the structure stays as it is.

Example: edtbx.map urea_without_h.cif urea.cif_pets map.hydrogens=True output.prefix=urea_h
"""
    master_phil_str = INPUT + SHARED + _MAP + WORKERS + output_phil(program_name)


class Simulate(EdtbxProgram):
    """Dynamical intensities of every frame, noise, and a data file that the other programs read."""

    program_name = "edtbx.simulate"
    description = """
edtbx.simulate MODEL: the 3D electron diffraction data that a crystal of a given structure, thickness and orientation
spread would give on the frames of a scan, with counting noise, in the .cif_pets format that edtbx.compare,
edtbx.refine and Jana2020 read. What the file does not tell (orientation and scale of each frame) is printed.

Example: edtbx.simulate urea.cif scan.frames=20 thickness.value=800 output.prefix=urea_simulated
"""
    master_phil_str = _SIMULATED + WORKERS + output_phil(program_name, prefix="simulated")
