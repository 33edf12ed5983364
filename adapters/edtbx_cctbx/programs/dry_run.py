"""What a program would do, told by ``--dry-run`` in place of doing it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from cctbx import xray

from edtbx.measurement.experiment import Experiment
from edtbx_cctbx.io.output_files import OutputFiles, listed
from edtbx_cctbx.refinement.settings import Settings


def reserving_outputs(run: Callable[[Any], None]) -> Callable[[Any], None]:
    """The ``run`` of a program while no other run writes the files of ``self.outputs``."""

    @wraps(run)
    def run_alone(program: Any) -> None:
        with program.outputs.reserved():
            run(program)

    return run_alone


def show_target(experiment: Experiment, structure: xray.structure, settings: Settings, log: Any) -> None:
    """Solver, frames, rows and beams of the dynamical theory on the log.

    Raises
    ------
    Sorry
        No row is left, or the model does not fit the data.
    """
    scattering = settings.scattering_model(settings.solver, experiment, structure)
    forward, selection, used = scattering.forward, scattering.selection, scattering.observations
    fallen = ", ".join(f"{rule} {count}" for rule, count in selection.left_out.items() if count)
    print(f"  solver of the dynamical theory: {settings.solver}", file=log)
    print(f"  frames used: {len(used.frame_ids)} of {len(experiment.frames)}", file=log)
    print(
        f"  rows used: {len(used)} of {len(experiment.reflections)}; left out: {fallen or 'none'}",
        file=log,
    )
    if settings.learn:
        print("  learnt from the data: how scales and centres of frames vary along the scan", file=log)
    print(
        f"  at the first, coarse level: {forward.beams_per_frame:.0f} beams and {forward.waves_per_frame:.0f} "
        f"orientations a frame; structure factors: {len(scattering.expansion.unique.indices())} unique, "
        f"{len(forward.vectors.hkl)} in all, out to {scattering.g_max:.3f} 1/Angstrom",
        file=log,
    )


def show_workers(params: Any, log: Any) -> None:
    """Who would compute, on the log."""
    if params.cluster is not None:
        print(f"  workers: of the cluster {params.cluster}, which is not asked now", file=log)
    else:
        print(f"  threads: {params.nproc or 'all cores'}", file=log)


def show_outputs(outputs: OutputFiles, log: Any) -> None:
    """Which files would be written, and which of them replaced, on the log."""
    print(f"  would write {listed(outputs.paths)}", file=log)
    if outputs.there:
        print(f"  would replace {listed(outputs.there)}", file=log)
    print("Dry run: nothing was computed, nothing was written", file=log)
