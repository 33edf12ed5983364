"""Both theories on the same rows: nuisance parameters fitted from coarse to fine, statistics and curves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from cctbx import xray
from libtbx.utils import Sorry

from edtbx.experiment import Experiment, FloatArray
from edtbx.fitting.sampling_levels import COARSE, DRAFT, LEVELS, Found, Level, level_for
from edtbx.intensities.forward import Progress, Sampling, no_progress
from edtbx.intensities.nuisance import Choices, FrameCube, Grid, Nuisance, fit_nuisance, rescale
from edtbx.selection import SelectionRules
from edtbx.solvers.block import Accuracy, DifferentiableSolver, Solver
from edtbx.solvers.registry import installed_solvers
from edtbx_cctbx.boundary import described
from edtbx_cctbx.indexing.diagnosis import warn_if_hopeless
from edtbx_cctbx.refinement.results import Comparison, LeastSquaresFit, SamplingReport, TheoryFit
from edtbx_cctbx.targets.target import DynamicalTarget

ProgressFactory = Callable[[str], Progress[FrameCube]]
Say = Callable[[str], None]

_FULL = 5.0
"""How much further than ``s_strong`` a solver reaches that folds no beams: 0.015 Å⁻¹ at the first level. On urea 0.019 errs
by 0.005 (R of amplitudes)."""

_UNFITTED = Nuisance(shape="slab", thickness=0.0, sigma=0.0, centres=np.zeros(0), scales=np.zeros(0))


def say_nothing(line: str) -> None:
    """No word of how far it has come."""


def silent(label: str) -> Progress[FrameCube]:
    """No progress bar, whatever the label."""
    return no_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a program was told: rows, beams, what may be fitted. Angles in radians, lengths in Å and Å⁻¹.

    ``tolerance`` is the numerical error of intensities allowed, in units of max(σ, 0.01 I_obs); ``s_max`` and
    ``s_strong`` override what follows from it. ``executor`` takes the frames in place of ``nproc`` threads
    (see :class:`DynamicalTarget`).
    """

    solver: str = "auto"
    tolerance: float = 0.15
    g_max: float | None = None
    s_max: float | None = None
    s_strong: float | None = None
    thickness: float | None = None
    spread: float | None = None
    choices: Choices = field(default_factory=Choices)
    rules: SelectionRules = field(default_factory=SelectionRules)
    nproc: int | None = None
    executor: Executor | None = None

    def target(self, solver: str, experiment: Experiment, structure: xray.structure) -> DynamicalTarget:
        """A target of the named solver, coarsely sampled, its nuisance parameters still to be fitted."""
        return DynamicalTarget(
            experiment,
            structure,
            solver=solver,
            thickness=self.thickness,
            spread=self.spread,
            choices=self.choices,
            rules=self.rules,
            sampling=replace(COARSE, accuracy=self.beams(COARSE.accuracy, created(solver))),
            g_max=self.g_max,
            nproc=self.nproc,
            executor=self.executor,
            nuisance=_UNFITTED,
        )

    def check_derivatives(self, purpose: str) -> None:
        """Refuse a solver without derivatives, which the purpose ("refinement needs") asks for."""
        if not isinstance(created(self.solver), DifferentiableSolver):
            raise Sorry(f"the solver {self.solver} gives no derivatives, which {purpose}: take solver.name=auto")

    def beams(self, accuracy: Accuracy, solver: Solver) -> Accuracy:
        """The limits on beams with what was set by hand; a solver that folds none takes more of them in full."""
        strong = self.s_strong or accuracy.s_strong
        most = accuracy.s_max if getattr(solver, "folds", False) else _FULL * strong
        return replace(accuracy, s_strong=strong, s_max=self.s_max or most)

    def level_for(
        self,
        target: DynamicalTarget,
        structure: xray.structure,
        nuisance: Nuisance,
        progress: ProgressFactory = silent,
    ) -> Found:
        """The level of sampling that the tolerance asks for."""
        return level_for(
            target.forward,
            target.structure_factors(structure),
            nuisance,
            target.choices,
            self.tolerance,
            [self._with_beams(level, target) for level in LEVELS],
            progress(f"{target.solver_name}, sampling"),
        )

    def draft_of(self, target: DynamicalTarget) -> DynamicalTarget:
        """The target at the level at which atoms move first."""
        return target.resampled(self.sampling(target, DRAFT))

    def sampling(self, target: DynamicalTarget, level: Level) -> Sampling:
        """A level for what the target knows of thickness and spread, and the beams that its solver needs."""
        return self._with_beams(level, target).sampling(target.nuisance, self.choices, target.forward.g_max)

    def _with_beams(self, level: Level, target: DynamicalTarget) -> Level:
        return replace(level, accuracy=self.beams(level.accuracy, target.forward.solver))


def created(solver: str) -> Solver:
    """The solver of that name.

    Raises
    ------
    Sorry
        There is none.
    """
    try:
        return installed_solvers().create(solver)
    except ValueError as error:
        raise Sorry(str(error)) from error


def compare(
    experiment: Experiment,
    structure: xray.structure,
    settings: Settings,
    progress: ProgressFactory = silent,
    parameters: dict[str, Any] | None = None,
) -> Comparison:
    """Kinematical and dynamical fits of one structure that stays as it is.

    A KeyboardInterrupt ends it: with the theory that is done, and raised where none is.

    Raises
    ------
    TypeError, Sorry
        An argument is of the wrong kind, or out of range.
    """
    if not isinstance(settings, Settings):
        raise TypeError(f"expected Settings, got {described(settings)}: compare(experiment, structure, Settings())")
    began = time.perf_counter()
    fits: list[TheoryFit] = []
    interrupted = None
    try:
        for solver in ("kinematical", settings.solver):
            target = settings.target(solver, experiment, structure)
            target.nuisance = fit_coarse(target, structure, settings, progress)
            fits.append(fit_theory(target, structure, settings, progress)[0])
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
    target: DynamicalTarget, structure: xray.structure, settings: Settings, progress: ProgressFactory = silent
) -> tuple[TheoryFit, DynamicalTarget]:
    """Nuisance parameters at the level that the tolerance asks for, from those of the target; and the fine target."""
    began = time.perf_counter()
    start = target.nuisance
    found = settings.level_for(target, structure, start, progress)
    target = target.resampled(settings.sampling(target, found.level))
    cubes = target.cubes(structure, progress(f"{target.solver_name}, fine"))
    target.nuisance = fit_nuisance(cubes, target.forward.grid, replace(target.choices, shapes=(start.shape,)))
    return theory_fit(target, structure, cubes, found, time.perf_counter() - began), target


def theory_fit(
    target: DynamicalTarget,
    structure: xray.structure,
    cubes: Sequence[FrameCube],
    found: Found | None,
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
    target: DynamicalTarget, structure: xray.structure, settings: Settings, progress: ProgressFactory = silent
) -> Nuisance:
    """Nuisance parameters at the coarse level, thickness searched up to 3000 Å and, if need be, twice that."""
    sampling = replace(COARSE, accuracy=settings.beams(COARSE.accuracy, target.forward.solver))
    if settings.thickness is not None:
        sampling = replace(sampling, thickness_max=1.3 * settings.thickness)
    for _ in range(2):
        coarse = target.resampled(sampling)
        nuisance = coarse.fit_nuisance(structure, progress(f"{target.solver_name}, coarse"))
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
