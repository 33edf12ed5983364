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
from edtbx_cctbx.io.output_files import OutputFiles, write_files
from edtbx_cctbx.programs import running as command_line
from edtbx_cctbx.programs.cluster import workers_of
from edtbx_cctbx.programs.dry_run import reserving_outputs, show_outputs, show_workers
from edtbx_cctbx.programs.faces import Simulate
from edtbx_cctbx.programs.inputs import read_structure
from edtbx_cctbx.programs.parameters import check_workers, solver_name
from edtbx_cctbx.simulation import SimulationSettings, forward_model, simulate
from edtbx_launch.signals import finishing


class Program(Simulate):
    """Dynamical intensities of every frame, noise, and a data file that the other programs read."""

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
        structure = read_structure(params, self.logger)
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
        structure = read_structure(params, self.logger)
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
