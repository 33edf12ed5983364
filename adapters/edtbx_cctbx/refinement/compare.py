"""Fits of both theories to one structure on the same rows: nuisance parameters, R factors and curves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from cctbx import xray

from edtbx.arrays import BoolArray, FloatArray
from edtbx.checks import given_or_default
from edtbx.crystal.learning import LearntFrames, learn_frames
from edtbx.crystal.left_out import fitted_nearby, foretold, parts_of
from edtbx.execution.progress import SILENT, CountingReporter, Reporter
from edtbx.fitting.nuisance_fit import fit_nuisance, rescale
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance, best_scale
from edtbx.levels.level_search import ChosenLevel
from edtbx.levels.sampling_levels import ROOM_FOR_TRENDS
from edtbx.measurement.experiment import Experiment
from edtbx.measurement.statistics import Statistics, statistics
from edtbx_cctbx.indexing.diagnosis import warn_if_hopeless
from edtbx_cctbx.refinement.results import Comparison, LeastSquaresFit, LeftOut, SamplingReport, TheoryFit
from edtbx_cctbx.refinement.settings import Settings
from edtbx_cctbx.targets.scattering_model import ScatteringModel


def compare(
    experiment: Experiment,
    structure: xray.structure,
    settings: Settings | None = None,
    report: Reporter = SILENT,
    parameters: dict[str, Any] | None = None,
    *,
    cross_validate: int | None = None,
) -> Comparison:
    """Kinematical and dynamical fits of the nuisance parameters of one structure, which is not changed.

    A KeyboardInterrupt ends it with the theory that is done; it is raised again where none is.

    Parameters
    ----------
    experiment : Experiment
    structure : xray.structure
    settings : Settings, optional
    report : Reporter
        Shows progress.
    parameters : dict, optional
        Kept in the result, as a record.
    cross_validate : int, optional
        Number of parts of the indices that are left out in turn, for R(free).

    Raises
    ------
    TypeError, Sorry
        An argument is of the wrong kind, or out of range.
    """
    settings = given_or_default(settings, Settings, "settings")
    began, report = time.perf_counter(), CountingReporter(report)
    fits: list[TheoryFit] = []
    interrupted = None
    try:
        for solver in ("kinematical", settings.solver):
            scattering = settings.scattering_model(solver, experiment, structure)
            start = scattering.fit_coarse(structure, report.progress(f"{solver}, coarse"))
            fits.append(fit_theory(scattering, start, structure, report, parts=cross_validate, learn=settings.learn))
    except KeyboardInterrupt as stop:
        if not fits:
            raise
        interrupted = str(stop) or "interrupted"
    return Comparison(
        experiment=warn_if_hopeless(scattering.experiment, structure, fits[0].statistics.r_obs),
        selection=scattering.selection,
        kinematical=fits[0],
        dynamical=fits[1] if len(fits) > 1 else None,
        refined=False,
        total_seconds=time.perf_counter() - began,
        costs=report.costs,
        parameters=parameters or {},
        interrupted=interrupted,
    )


def fit_theory(
    scattering: ScatteringModel,
    start: Nuisance,
    structure: xray.structure,
    report: Reporter = SILENT,
    *,
    parts: int | None = None,
    learn: bool = False,
) -> TheoryFit:
    """Fit at the sampling level that the tolerance asks for, with the thickness law of the start.

    With a number of parts, the indices are left out in so many, for R(free); ``learn`` says whether the evidence sets the
    priors of frames.
    """
    began = time.perf_counter()
    chosen = scattering.choose_level(structure, start, report.progress(f"{scattering.solver_name}, level"))
    fine, _ = scattering.at_level(replace(chosen.level, room=ROOM_FOR_TRENDS) if learn else chosen.level, start)
    cubes = fine.cubes(structure, report.progress(f"{fine.solver_name}, fine"))
    nuisance = fit_nuisance(cubes, fine.forward.grid, replace(fine.bounds, shapes=(start.shape,)))
    learnt = fine.learn(cubes, nuisance) if learn else None
    fit = theory_fit(
        fine,
        nuisance if learnt is None else learnt.nuisance,
        structure,
        cubes,
        chosen,
        time.perf_counter() - began,
        learnt=learnt,
    )
    if parts is None:
        return fit
    free = _cross_validated(fine, nuisance, cubes, parts, learnt)
    of = f"indices left out of the fits in {parts} parts, one after the other"
    return replace(fit, free=LeftOut(statistics=free, of=of))


def _cross_validated(
    scattering: ScatteringModel,
    nuisance: Nuisance,
    cubes: Sequence[FrameCube],
    parts: int,
    learnt: LearntFrames | None,
) -> Statistics:
    """R factors of all rows, each foretold by nuisance parameters that it took no part in.

    Whether thickness and spread have trends was decided with all rows.
    """
    observations, grid, scan = scattering.observations, scattering.forward.grid, scattering.scan_rows
    measured = observations.reflections
    split = observations.split(parts_of(np.concatenate(scan.numbers), parts))

    def fit(some: list[FrameCube], places: list[int], rows: list[BoolArray]) -> Nuisance:
        found = fitted_nearby(some, grid, scattering.bounds, nuisance.at(places))
        if learnt is None:
            return found
        return learn_frames(some, grid, scattering.bounds, found, scan.at(places, rows), learnt.trends).nuisance

    calculated = np.concatenate(foretold(cubes, grid, split, fit))
    known = np.isfinite(calculated)
    rows = measured.select(np.flatnonzero(known))
    return statistics(rows.intensity, rows.sigma, calculated[known], rows.frame_id, observations.unique[known])


def theory_fit(
    scattering: ScatteringModel,
    nuisance: Nuisance,
    structure: xray.structure,
    cubes: Sequence[FrameCube],
    chosen: ChosenLevel | None,
    seconds: float,
    *,
    least_squares: LeastSquaresFit | None = None,
    learnt: LearntFrames | None = None,
) -> TheoryFit:
    """Result of a fit: intensities, R factors and curves from the cubes of a structure.

    Parameters
    ----------
    scattering : ScatteringModel
    nuisance : Nuisance
    structure : xray.structure
    cubes : sequence of FrameCube
        Of this structure, at the sampling of the scattering model.
    chosen : ChosenLevel, optional
        Sampling level with its error; None where the error was not measured.
    seconds : float
        Time that the fit took.
    least_squares : LeastSquaresFit, optional
    learnt : LearntFrames, optional
        Where the evidence set the priors of frames.
    """
    grid = scattering.forward.grid
    i_calc = np.concatenate(nuisance.intensities(grid, cubes))
    return TheoryFit(
        solver=scattering.solver_name,
        structure=structure,
        nuisance=nuisance,
        observations=scattering.observations,
        i_calc=i_calc,
        statistics=scattering.statistics(i_calc),
        r_of_thickness=_curve(scattering, cubes, _thicknesses(nuisance, grid), learnt is None),
        r_of_spread=_curve(scattering, cubes, _spreads(nuisance), learnt is None),
        accuracy=SamplingReport(
            error=chosen.error if chosen else float("nan"),
            misfit=chosen.misfit if chosen else float("nan"),
            kept=chosen.kept if chosen else True,
            waves=scattering.forward.waves_per_frame,
            beams=scattering.forward.beams_per_frame,
            limits=scattering.forward.sampling.accuracy,
        ),
        forward_seconds=seconds,
        least_squares=least_squares,
        learnt=learnt,
    )


def _thicknesses(nuisance: Nuisance, grid: Grid) -> list[tuple[float, Nuisance]]:
    if nuisance.histogram is not None:
        return []
    step = max(len(grid.thickness) // 40, 1)
    return [(float(t), replace(nuisance, thickness=float(t))) for t in grid.thickness[::step]]


def _spreads(nuisance: Nuisance) -> list[tuple[float, Nuisance]]:
    top = max(2.0 * nuisance.sigma, np.radians(0.1))
    return [(float(np.degrees(s)), replace(nuisance, sigma=float(s))) for s in np.linspace(0.0, top, 21)]


def _curve(
    scattering: ScatteringModel, cubes: Sequence[FrameCube], variants: list[tuple[float, Nuisance]], free: bool
) -> FloatArray:
    """Values and R(obs) (2, n) of variants of the nuisance parameters, each with its best scales or, unless these are free,
    with the best factor on all.
    """
    grid, points = scattering.forward.grid, []
    for value, nuisance in variants:
        some = rescale(nuisance, grid, cubes) if free else nuisance
        i_calc = np.concatenate(some.intensities(grid, cubes))
        if not free:
            observed, weights = (
                np.concatenate([getattr(cube, name) for cube in cubes]) for name in ("observed", "weights")
            )
            i_calc *= best_scale(i_calc, observed, weights)
        points.append((value, scattering.statistics(i_calc).r_obs))
    return np.array(points).reshape(-1, 2).T
