"""Both theories on the same rows: nuisance parameters fitted from coarse to fine, statistics and curves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from cctbx import xray

from edtbx.experiment import Experiment, FloatArray
from edtbx.forward import Progress, Sampling, no_progress
from edtbx.levels import COARSE, fine_sampling
from edtbx.nuisance import Choices, FrameCube, Grid, Nuisance, fit_nuisance, rescale
from edtbx.selection import SelectionRules
from edtbx_cctbx.results import Comparison, TheoryFit
from edtbx_cctbx.target import DynamicalTarget

ProgressFactory = Callable[[str], Progress[FrameCube]]


def silent(label: str) -> Progress[FrameCube]:
    """No progress bar, whatever the label."""
    return no_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a program was told: rows, beams, what may be fitted. Angles in radians, lengths in Å and Å⁻¹."""

    solver: str = "eigen"
    g_max: float | None = None
    s_max: float = 0.02
    thickness: float | None = None
    spread: float | None = None
    choices: Choices = field(default_factory=Choices)
    rules: SelectionRules = field(default_factory=SelectionRules)
    nproc: int | None = None

    def target(
        self,
        solver: str,
        experiment: Experiment,
        structure: xray.structure,
        sampling: Sampling,
        nuisance: Nuisance | None = None,
    ) -> DynamicalTarget:
        """A target of the named solver at one level of sampling, for ever with the same rows."""
        return DynamicalTarget(
            experiment,
            structure,
            solver=solver,
            thickness=self.thickness,
            spread=self.spread,
            choices=self.choices,
            rules=self.rules,
            sampling=sampling,
            g_max=self.g_max,
            nproc=self.nproc,
            nuisance=nuisance,
        )


def compare(
    experiment: Experiment,
    structure: xray.structure,
    settings: Settings,
    progress: ProgressFactory = silent,
    parameters: dict[str, Any] | None = None,
) -> Comparison:
    """Kinematical and dynamical fits of one structure that stays as it is."""
    began = time.perf_counter()
    dynamical, target = fit_theory(settings.solver, experiment, structure, settings, progress)
    kinematical, _ = fit_theory("kinematical", experiment, structure, settings, progress)
    return Comparison(
        experiment=target.experiment,
        selection=target.selection,
        rows=target.rows,
        kinematical=kinematical,
        dynamical=dynamical,
        refined=False,
        total_seconds=time.perf_counter() - began,
        parameters=parameters or {},
    )


def fit_theory(
    solver: str,
    experiment: Experiment,
    structure: xray.structure,
    settings: Settings,
    progress: ProgressFactory = silent,
    start: Nuisance | None = None,
) -> tuple[TheoryFit, DynamicalTarget]:
    """Nuisance parameters of one solver, coarse first unless a start is given, then fine; and the fine target."""
    began = time.perf_counter()
    if start is None:
        start = fit_coarse(solver, experiment, structure, settings, progress)
    sampling = fine_sampling(start, settings.choices, settings.s_max)
    target = settings.target(solver, experiment, structure, sampling, start)
    cubes = target.cubes(structure, progress(f"{solver}, fine"))
    grid = target.forward.grid
    choices = replace(target.choices, shapes=(start.shape,))
    nuisance = target.nuisance = fit_nuisance(cubes, grid, choices)
    seconds = time.perf_counter() - began
    i_calc = np.concatenate(nuisance.intensities(grid, cubes))
    return TheoryFit(
        solver=solver,
        structure=structure,
        nuisance=nuisance,
        frame_ids=tuple(cube.frame_id for cube in cubes),
        i_calc=i_calc,
        statistics=target.statistics(i_calc),
        r_of_thickness=_curve(target, cubes, grid, _thicknesses(nuisance, grid)),
        r_of_spread=_curve(target, cubes, grid, _spreads(nuisance)),
        forward_seconds=seconds,
    ), target


def fit_coarse(
    solver: str,
    experiment: Experiment,
    structure: xray.structure,
    settings: Settings,
    progress: ProgressFactory = silent,
) -> Nuisance:
    """Nuisance parameters at the coarse level, thickness searched up to 3000 Å and, if need be, twice that."""
    sampling = COARSE if settings.thickness is None else replace(COARSE, thickness_max=1.3 * settings.thickness)
    for _ in range(2):
        target = settings.target(solver, experiment, structure, sampling, _UNFITTED)
        nuisance = target.fit_nuisance(structure, progress(f"{solver}, coarse"))
        if (
            nuisance.thickness < 0.97 * sampling.thickness_max
            or settings.thickness is not None
            or solver != settings.solver
        ):
            break
        sampling = replace(sampling, thickness_max=2.0 * sampling.thickness_max, thickness_step=100.0)
    return nuisance


_UNFITTED = Nuisance(shape="slab", thickness=0.0, sigma=0.0, centres=np.zeros(0), scales=np.zeros(0))


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
