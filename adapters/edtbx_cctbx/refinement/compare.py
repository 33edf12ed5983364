"""Both theories on the same rows: nuisance parameters fitted from coarse to fine, statistics and curves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from cctbx import xray

from edtbx.arrays import FloatArray
from edtbx.execution.progress import SILENT, Reporter
from edtbx.experiment import Experiment
from edtbx.fitting.nuisance_fit import fit_nuisance, rescale
from edtbx.fitting.sampling_levels import COARSE, ChosenLevel
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance
from edtbx_cctbx.boundary import expect_kind
from edtbx_cctbx.indexing.diagnosis import warn_if_hopeless
from edtbx_cctbx.refinement.results import Comparison, LeastSquaresFit, SamplingReport, TheoryFit
from edtbx_cctbx.refinement.settings import Settings
from edtbx_cctbx.targets.target import DynamicalTarget


def compare(
    experiment: Experiment,
    structure: xray.structure,
    settings: Settings | None = None,
    report: Reporter = SILENT,
    parameters: dict[str, Any] | None = None,
) -> Comparison:
    """Kinematical and dynamical fits of one structure that stays as it is.

    A KeyboardInterrupt ends it: with the theory that is done, and raised where none is.

    Raises
    ------
    TypeError, Sorry
        An argument is of the wrong kind, or out of range.
    """
    settings = expect_kind(Settings() if settings is None else settings, Settings, "settings")
    began = time.perf_counter()
    fits: list[TheoryFit] = []
    interrupted = None
    try:
        for solver in ("kinematical", settings.solver):
            target = settings.target(solver, experiment, structure)
            target.nuisance = fit_coarse(target, structure, settings, report)
            fits.append(fit_theory(target, structure, settings, report)[0])
    except KeyboardInterrupt as stop:
        if not fits:
            raise
        interrupted = str(stop) or "interrupted"
    return Comparison(
        experiment=warn_if_hopeless(target.experiment, structure, fits[0].statistics.r_obs),
        selection=target.selection,
        kinematical=fits[0],
        dynamical=fits[1] if len(fits) > 1 else None,
        refined=False,
        total_seconds=time.perf_counter() - began,
        parameters=parameters or {},
        interrupted=interrupted,
    )


def fit_theory(
    target: DynamicalTarget, structure: xray.structure, settings: Settings, report: Reporter = SILENT
) -> tuple[TheoryFit, DynamicalTarget]:
    """Nuisance parameters at the level that the tolerance asks for, from those of the target; and the fine target."""
    began = time.perf_counter()
    start = target.nuisance
    found = settings.level_for(target, structure, start, report)
    target = target.resampled(settings.sampling(target, found.level))
    cubes = target.cubes(structure, report.progress(f"{target.solver_name}, fine"))
    target.nuisance = fit_nuisance(cubes, target.forward.grid, replace(target.choices, shapes=(start.shape,)))
    return theory_fit(target, structure, cubes, found, time.perf_counter() - began), target


def theory_fit(
    target: DynamicalTarget,
    structure: xray.structure,
    cubes: Sequence[FrameCube],
    found: ChosenLevel | None,
    seconds: float,
    least_squares: LeastSquaresFit | None = None,
) -> TheoryFit:
    """What a target with its nuisance parameters says of a structure whose cubes are at hand; ``found`` is None where its
    level was taken without measuring the error.
    """
    nuisance, grid = target.nuisance, target.forward.grid
    i_calc = np.concatenate(nuisance.intensities(grid, cubes))
    return TheoryFit(
        solver=target.solver_name,
        structure=structure,
        nuisance=nuisance,
        frame_ids=tuple(cube.frame_id for cube in cubes),
        rows=target.rows,
        i_calc=i_calc,
        statistics=target.statistics(i_calc),
        r_of_thickness=_curve(target, cubes, grid, _thicknesses(nuisance, grid)),
        r_of_spread=_curve(target, cubes, grid, _spreads(nuisance)),
        accuracy=SamplingReport(
            error=found.error if found else float("nan"),
            kept=found.kept if found else True,
            waves=target.forward.waves_per_frame,
            beams=target.forward.beams_per_frame,
            limits=target.forward.sampling.accuracy,
        ),
        forward_seconds=seconds,
        least_squares=least_squares,
    )


def fit_coarse(
    target: DynamicalTarget, structure: xray.structure, settings: Settings, report: Reporter = SILENT
) -> Nuisance:
    """Nuisance parameters at the coarse level, thickness searched up to 3000 Å and, if need be, twice that."""
    sampling = replace(COARSE, accuracy=settings.beams(COARSE.accuracy, target.forward.solver))
    if settings.thickness is not None:
        sampling = replace(sampling, thickness_max=1.3 * settings.thickness)
    for _ in range(2):
        coarse = target.resampled(sampling)
        nuisance = coarse.fit_nuisance(structure, report.progress(f"{target.solver_name}, coarse"))
        if (
            nuisance.thickness < 0.97 * sampling.thickness_max
            or settings.thickness is not None
            or target.solver_name != settings.solver
        ):
            break
        sampling = replace(sampling, thickness_max=2.0 * sampling.thickness_max, thickness_step=100.0)
    return nuisance


def _thicknesses(nuisance: Nuisance, grid: Grid) -> list[tuple[float, Nuisance]]:
    if nuisance.histogram is not None:
        return []
    step = max(len(grid.thickness) // 40, 1)
    return [(float(t), replace(nuisance, thickness=float(t))) for t in grid.thickness[::step]]


def _spreads(nuisance: Nuisance) -> list[tuple[float, Nuisance]]:
    top = max(2.0 * nuisance.sigma, np.radians(0.1))
    return [(float(np.degrees(s)), replace(nuisance, sigma=float(s))) for s in np.linspace(0.0, top, 21)]


def _curve(
    target: DynamicalTarget, cubes: Sequence[FrameCube], grid: Grid, variants: list[tuple[float, Nuisance]]
) -> FloatArray:
    """R(obs) of each variant at its own best scales, (2, n)."""
    points = []
    for value, nuisance in variants:
        i_calc = np.concatenate(rescale(nuisance, grid, cubes).intensities(grid, cubes))
        points.append((value, target.statistics(i_calc).r_obs))
    return np.array(points).reshape(-1, 2).T
