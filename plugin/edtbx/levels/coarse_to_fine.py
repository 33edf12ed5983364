"""Nuisance parameters from a coarse sampling, and the level of sampling that they and a tolerance ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from edtbx.arrays import ComplexArray
from edtbx.checks import expect_positive
from edtbx.crystal.law import fit_law
from edtbx.execution.progress import Progress, no_progress
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.fitting.nuisance_fit import fit_nuisance
from edtbx.intensities.forward import ForwardModel
from edtbx.intensities.nuisance import FrameCube, Nuisance
from edtbx.intensities.sampling import Sampling
from edtbx.levels.level_search import ChosenLevel, level_for
from edtbx.levels.sampling_levels import COARSE, Level
from edtbx.solvers.block import Accuracy, Solver

_FULL = 5.0
"""How much further than ``s_strong`` a solver reaches that folds no beams: 0.015 Å⁻¹ at the first level. On urea 0.019 errs
by 0.005 (R of amplitudes)."""

_APPROXIMATE = 4.0
"""How much farther apart the nodes of a spread are for a solver that is an approximation on purpose: it errs by more."""

_ENOUGH, _FEWEST_FRAMES = 4000, 12
"""Rows and frames that suffice to find law, thickness and spread."""

_MARGIN, _STEPS = 1.3, 30
"""Margin of the grid of thicknesses, and its steps, where the greatest thickness is known."""

_AT_THE_END = 0.97
"""Part of the greatest thickness computed beyond which the crystal may be thicker still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracySettings:
    """Accuracy asked of computed intensities.

    Attributes
    ----------
    tolerance : float
        Numerical error allowed, as a part of the misfit, or of max(σ, 0.01 I_obs) where that is less.
    s_max, s_strong : float or None, Å⁻¹
        Limits on beams (:class:`edtbx.Accuracy`) in place of those that follow from it.

    Raises
    ------
    TypeError, ValueError
        One of them is not a finite number > 0.
    """

    tolerance: float = 0.1
    s_max: float | None = None
    s_strong: float | None = None

    def __post_init__(self) -> None:
        for name in ("tolerance", "s_max", "s_strong"):
            value = getattr(self, name)
            if value is not None or name == "tolerance":
                expect_positive(value, name)

    def beams(self, accuracy: Accuracy, solver: Solver) -> Accuracy:
        """The limits on beams with what was set by hand; a solver that folds none takes more of them in full."""
        s_strong = self.s_strong or accuracy.s_strong
        farthest = accuracy.s_max if solver.folds else _FULL * s_strong
        return replace(accuracy, s_strong=s_strong, s_max=self.s_max or farthest)

    def coarse(self, solver: Solver) -> Sampling:
        """Sampling for a crystal of unknown thickness."""
        return replace(COARSE, accuracy=self.beams(COARSE.accuracy, solver))

    def at(self, level: Level, solver: Solver) -> Level:
        """The level with the limits on beams that the solver needs, and nodes that suffice for it."""
        spacing = level.spacing if solver.approximation is None else _APPROXIMATE * level.spacing
        return replace(level, accuracy=self.beams(level.accuracy, solver), spacing=spacing)

    def sampling(self, level: Level, forward: ForwardModel, nuisance: Nuisance, bounds: NuisanceBounds) -> Sampling:
        """Sampling at a level for the thickness and spread known, with the limits on beams that the solver needs."""
        return self.at(level, forward.solver).sampling(nuisance, bounds, forward.g_max)


def fit_coarse(
    forward: ForwardModel,
    f: ComplexArray,
    bounds: NuisanceBounds,
    accuracy: AccuracySettings,
    *,
    search_further: bool = True,
    progress: Progress[FrameCube] = no_progress,
) -> Nuisance:
    """Nuisance parameters fitted at the coarse level, for structure factors f (G,) in Å.

    Thickness is searched up to 3000 Å and, with ``search_further``, up to twice that where it ends there; where there are
    enough rows, on some of the frames: the others are then computed for the thickness found, and give their centres and
    scales. The forward model gives frames and reflections; its own sampling does not matter.
    """
    sampling = accuracy.coarse(forward.solver)
    if bounds.refine_centres:
        reach = bounds.centre_max + 2.0 * sampling.spread_spacing
        sampling = replace(sampling, spread_reach=max(sampling.spread_reach, reach))
    if bounds.thickness is not None:
        sampling = replace(sampling, thickness_max=_MARGIN * bounds.thickness)
    number = forward.scan.frames
    places = list(range(number)) if "free" in bounds.shapes else forward.observations.evenly(_ENOUGH, _FEWEST_FRAMES)
    for _ in range(2):
        coarse = forward.resampled(sampling, places, np.zeros(len(places)))
        some = fit_law(coarse.cubes(f, progress), coarse.grid, bounds, coarse.observations.numbers)
        thin = some.thickness < _AT_THE_END * sampling.thickness_max
        if thin or bounds.thickness is not None or not search_further:
            break
        sampling = replace(sampling, thickness_max=2.0 * sampling.thickness_max, thickness_step=100.0)
    others = sorted(set(range(number)) - set(places))
    if not others:
        return some
    thickest = min(_MARGIN * some.thickness, sampling.thickness_max)
    sampling = replace(sampling, thickness_max=thickest, thickness_step=thickest / _STEPS)
    coarse = forward.resampled(sampling, others, np.zeros(len(others)))
    known = replace(bounds, shapes=(some.shape,), thickness=some.thickness, sigma=some.sigma)
    rest = fit_nuisance(coarse.cubes(f, progress), coarse.grid, known)
    every = replace(some, centres=np.zeros(number), scales=np.ones(number))
    return every.updated(rest, others).updated(some, places)


def choose_level(
    forward: ForwardModel,
    f: ComplexArray,
    nuisance: Nuisance,
    bounds: NuisanceBounds,
    accuracy: AccuracySettings,
    progress: Progress[Any] = no_progress,
) -> ChosenLevel:
    """Level of sampling within the tolerance, and its error (see :func:`edtbx.levels.level_search.level_for`).

    Raises
    ------
    TooLarge
        The memory does not hold the first levels.
    """
    adapt = partial(accuracy.at, solver=forward.solver)
    return level_for(forward, f, nuisance, bounds, accuracy.tolerance, adapt, progress)
