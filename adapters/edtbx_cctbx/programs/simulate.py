"""edtbx.simulate: the .cif_pets file that a crystal of a given structure would give."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import numpy as np
from libtbx.utils import Sorry
from scipy.spatial.transform import Rotation

from edtbx.arrays import FloatArray
from edtbx.constants import wavelength_from_energy
from edtbx.intensities.simulation import Crystal, Noise, Scan, Simulation
from edtbx.measurement.experiment import ScanGeometry
from edtbx_cctbx.command_line.progress import ProgramReporter
from edtbx_cctbx.io.cif_pets import experiment_text
from edtbx_cctbx.io.output_files import OutputFiles, output_phil, write_files
from edtbx_cctbx.programs import running as command_line
from edtbx_cctbx.programs.cluster import workers_of
from edtbx_cctbx.programs.dry_run import reserving_outputs, show_outputs, show_workers
from edtbx_cctbx.programs.parameters import WORKERS, check_workers, solver_name
from edtbx_cctbx.programs.template import EdtbxProgram
from edtbx_cctbx.simulation import SimulationSettings, forward_model, simulate
from edtbx_launch.signals import finishing

PHIL = r"""
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


class Program(EdtbxProgram):
    """Dynamical intensities of every frame, noise, and a data file that the other programs read."""

    program_name = "edtbx.simulate"
    description = """
edtbx.simulate MODEL: the 3D electron diffraction data that a crystal of a given structure, thickness and orientation
spread would give on the frames of a scan, with counting noise, in the .cif_pets format that edtbx.compare,
edtbx.refine and Jana2020 read. What the file does not tell (orientation and scale of each frame) is printed.

Example: edtbx.simulate urea.cif scan.frames=20 thickness.value=800 output.prefix=urea_simulated
"""
    master_phil_str = PHIL + WORKERS + output_phil(program_name, prefix="simulated")

    def validate(self) -> None:
        """Fail early: on parameters out of range, and on a folder that is not there before any work is done."""
        if self.params.input.model is None:
            raise Sorry("no model given: name a CIF, PDB or SHELX file on the command line")
        self.outputs = OutputFiles.of(self.program_name, self.params, self.data_manager)
        check_workers(self.params)
        try:
            self._settings()
        except ValueError as error:
            raise Sorry(str(error)) from error

    def plan(self) -> None:
        """Read and check everything, and say what would be done."""
        params = self.params
        structure = command_line.read_structure(params, self.logger)
        try:
            model, _ = forward_model(structure, *self._settings())
        except ValueError as error:
            raise Sorry(str(error)) from error
        rows = model.experiment.reflections
        print(
            f"Would simulate {len(rows)} intensities on {model.scan.frames} frames ({model.experiment.geometry.value}):",
            file=self.logger,
        )
        print(
            f"  solver: {solver_name(params)}; {model.beams_per_frame:.0f} beams and {model.waves_per_frame:.0f} "
            "orientations a frame",
            file=self.logger,
        )
        show_workers(params, self.logger)
        show_outputs(self.outputs, self.logger)

    @reserving_outputs
    def run(self) -> None:
        """Simulate, print, write."""
        params = self.params
        structure = command_line.read_structure(params, self.logger)
        try:
            with workers_of(params.cluster, self.logger) as executor, ProgramReporter.of(self.logger) as reporter:
                reporter.announce_compilation()
                self.simulation = simulate(structure, *self._settings(executor), reporter.progress("simulate"))
        except ValueError as error:
            raise Sorry(str(error)) from error
        with finishing():
            _show(self.simulation, self.logger)
            contents = {".cif_pets": lambda: experiment_text(self.simulation.experiment).encode("ascii")}
            for path in write_files(self.outputs.base, contents):
                print(f"  wrote {path}", file=self.logger)

    def get_results(self) -> Simulation:
        """The simulation, for callers from Python."""
        return self.simulation

    def _settings(self, executor: Executor | None = None) -> tuple[SimulationSettings, np.random.Generator]:
        """Settings with angles in radians, and the random numbers behind those of the orientation."""
        params, scan, noise = self.params, self.params.scan, self.params.noise
        rng = np.random.default_rng(params.seed)
        settings = SimulationSettings(
            wavelength=_wavelength(params.beam),
            orientation=_orientation(scan.orientation, rng),
            scan=Scan(
                geometry=ScanGeometry(scan.geometry),
                first=float(np.radians(scan.first)),
                step=float(np.radians(scan.step)),
                frames=scan.frames,
                semi_angle=float(np.radians(scan.semi_angle)),
                d_min=params.selection.d_min,
                rsg_max=params.selection.rsg_max,
            ),
            crystal=Crystal(
                shape=params.thickness.shape,
                thickness=params.thickness.value,
                sigma=float(np.radians(params.spread.sigma)),
            ),
            noise=Noise(
                counts=noise.counts,
                background=noise.background,
                orientation=float(np.radians(noise.orientation)),
                scale=noise.scale,
            ),
            solver=solver_name(params),
            s_max=params.beams.s_max,
            g_max=params.beams.g_max,
            nproc=params.nproc,
            executor=executor,
        )
        return settings, rng


def _wavelength(beam: Any) -> float:
    """λ in Å, given or of the energy."""
    if beam.wavelength is not None:
        return float(beam.wavelength)
    if not 10.0 <= beam.energy <= 3000.0:
        raise ValueError(f"beam.energy must lie between 10 and 3000 keV, got {beam.energy:g}")
    return wavelength_from_energy(1000.0 * beam.energy)


def _orientation(angles: list[float] | None, rng: np.random.Generator) -> FloatArray:
    """U (3, 3) from angles in degrees about the lab axes x, y, z in turn; uniform over all rotations without them."""
    if angles is None:
        return np.asarray(Rotation.from_quat(rng.standard_normal(4)).as_matrix())
    return np.asarray(Rotation.from_euler("xyz", angles, degrees=True).as_matrix())


def _show(simulation: Simulation, log: Any) -> None:
    """What was simulated, and what the file does not tell."""
    experiment, truth = simulation.experiment, simulation.truth
    rows = experiment.reflections
    strong = int(np.sum(rows.observed))
    print(
        f"  {len(rows)} intensities on {len(experiment.frames)} frames ({experiment.geometry.value}, "
        f"wavelength {experiment.wavelength:.6f} A): {strong} above 3 sigma, {int(np.sum(rows.intensity < 0.0))} negative",
        file=log,
    )
    print(
        f"  {truth.shape} of {truth.thickness:g} A, spread {np.degrees(truth.sigma):g} deg; "
        f"R(obs) of the true intensities, by the noise alone: {simulation.r_noise:.4f}",
        file=log,
    )
    print("  frame    alpha/deg  true orientation across the axis/deg  true scale/(mean)", file=log)
    for frame, centre, scale in zip(experiment.frames, truth.centres, truth.scales / truth.scales.mean(), strict=True):
        print(f"  {frame.id:5d} {np.degrees(frame.alpha):12.3f} {np.degrees(centre):37.4f} {scale:18.4f}", file=log)


def run(arguments: list[str] | None = None) -> None:
    """Entry point."""
    command_line.run(Program, arguments)
