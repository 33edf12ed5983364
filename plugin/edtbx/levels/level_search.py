"""The coarsest level of sampling within a tolerance, found on a few frames.

Beams and orientations err independently, and crystals differ in which of them errs more: at a coarse level, an error of
0.41 on urea is 0.12 with more orientations and 0.39 with more beams; one of 0.30 on quartz is 0.29 and 0.04. Each is made
finer on its own, and errors add as squares.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edtbx.arrays import ComplexArray, FloatArray
from edtbx.execution.memory import TooLarge, at_once
from edtbx.execution.progress import Progress, no_progress
from edtbx.fitting.loss import loss_factors, usual_sizes
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.intensities.forward import ForwardModel
from edtbx.intensities.nuisance import Nuisance, best_scale, intensity_weights
from edtbx.levels.sampling_levels import BEAMS, ORIENTATIONS, Level, level

_FINER = 2
"""How many steps finer that is against which errors are measured."""

_ROWS, _FEWEST = 300, 4
"""Least rows and frames that are computed. A few rows have most of the error: on three frames of urea it seemed half of what
it was."""

_LOSS = "cauchy"

_BEAMS = 2
"""Beams with which orientations are compared. With fewer, what folding leaves out depends on which orientations are
together: on CsPbBr3 that would be 0.16 of an error of 0.17."""

_OFF_NODE = 0.25
"""How far from where its nodes were laid out, in spacings, each centre is when errors are measured: intensities are
interpolated, and centres will be anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenLevel:
    """A level, its numerical error and the misfit that it leaves, and whether the error is ``kept`` within the tolerance.

    Both are root mean squares over a few frames: of ΔI/max(σ, 0.01 I_obs) against a finer level, and of
    (I_obs − k I_calc)/max(σ, 0.01 I_obs), in which outliers count for less. ``seconds`` is what a forward pass over all
    frames takes, from these few.
    """

    level: Level
    error: float
    misfit: float
    kept: bool
    seconds: float


def level_for(
    model: ForwardModel,
    f: ComplexArray,
    nuisance: Nuisance,
    bounds: NuisanceBounds,
    tolerance: float,
    adapt: Callable[[Level], Level] = lambda level: level,
    progress: Progress[Any] = no_progress,
) -> ChosenLevel:
    """Coarsest level whose error is within the tolerance; the finest but two, with its error, if none is.

    The tolerance is a part of the misfit that the level leaves, or of max(σ, 0.01 I_obs) where that is less: an error of a
    tenth of the misfit adds a hundredth to the sum of squares, and shifts parameters by one to three tenths of their s.u.s.

    The model gives frames and reflections; its own sampling does not matter. ``adapt`` gives levels what a solver needs; the
    level found is as it was before. Levels that the memory does not hold are left out, unless they are the first and those
    it is measured against.

    Raises
    ------
    TooLarge
        The memory does not hold these.
    """
    trials = _Trials(model, f, nuisance, bounds, adapt, progress, model.observations.evenly(_ROWS, _FEWEST))
    chosen: ChosenLevel | None = None
    beams = orientations = 0
    while True:
        try:
            errors = np.array([trials.error(along, n) for along, n in zip(_AXES, (beams, orientations), strict=True)])
        except TooLarge:
            if chosen is None:
                raise
            return chosen
        error = float(np.linalg.norm(errors))
        misfit = min(trials.misfit(along.levels[n]) for along, n in zip(_AXES, (beams, orientations), strict=True))
        chosen = ChosenLevel(
            level=level(beams, orientations),
            error=error,
            misfit=misfit,
            kept=error <= tolerance * max(misfit, 1.0),
            seconds=trials.seconds(beams, orientations),
        )
        left = [beams < len(BEAMS) - 1 - _FINER, orientations < len(ORIENTATIONS) - 1 - _FINER]
        if chosen.kept or not any(left):
            return chosen
        if np.argmax(np.where(left, errors, -1.0)) == 0:
            beams += 1
        else:
            orientations += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Along:
    """Levels in which one of the two alone becomes finer, and the least of them against which errors are measured."""

    levels: list[Level]
    least: int

    def finer(self, n: int) -> Level:
        """The level against which the error of the nth is measured."""
        return self.levels[min(max(n + _FINER, self.least), len(self.levels) - 1)]


_AXES = (
    _Along(levels=[level(n, 0) for n in range(len(BEAMS))], least=_BEAMS),
    _Along(levels=[level(_BEAMS, n) for n in range(len(ORIENTATIONS))], least=3),  # the first three are close
)


@dataclass(slots=True, eq=False)
class _Trials:
    """Intensities of the frames at some places at the levels tried so far, and the seconds that each took."""

    model: ForwardModel
    f: ComplexArray
    nuisance: Nuisance
    bounds: NuisanceBounds
    adapt: Callable[[Level], Level]
    progress: Progress[Any]
    places: list[int]
    _known: dict[Level, tuple[list[FloatArray], float]] = field(default_factory=dict)

    def error(self, along: _Along, n: int) -> float:
        """Error of the nth of these levels."""
        return intensity_error(self.model, self.places, self._at(along.levels[n])[0], self._at(along.finer(n))[0])

    def misfit(self, tried: Level) -> float:
        """Misfit at a level."""
        return _misfit(self.model, self.places, self._at(tried)[0])

    def seconds(self, beams: int, orientations: int) -> float:
        """Seconds that a forward pass over all frames takes, from levels in which one alone is as fine."""
        threads = max(at_once(self.model.executor), 1)
        of_all = self.model.scan.frames / (threads * math.ceil(len(self.places) / threads))
        finer, denser, first = (
            self._at(_AXES[axis].levels[n])[1] for axis, n in ((0, beams), (1, orientations), (1, 0))
        )
        return of_all * finer * denser / first

    def _at(self, tried: Level) -> tuple[list[FloatArray], float]:
        adapted = self.adapt(tried)
        if adapted not in self._known:
            sampling = adapted.sampling(self.nuisance, self.bounds, self.model.g_max)
            sample = self.nuisance.at(self.places)
            off = _OFF_NODE * sampling.spread_spacing if self.bounds.refine_centres else 0.0
            sampled = self.model.resampled(sampling, self.places, sample.centres + off)
            began = time.perf_counter()
            intensities = sampled.intensities(self.f, sample, self.progress)
            self._known[adapted] = intensities, time.perf_counter() - began
        return self._known[adapted]


def intensity_error(
    model: ForwardModel, places: Sequence[int], computed: Sequence[FloatArray], reference: Sequence[FloatArray]
) -> float:
    """Root mean square of ΔI/max(σ, 0.01 I_obs) over the rows of some frames, each at its best scale.

    Rows count as a robust fit of the reference weighs them: of those that no model fits, errors do not matter.
    """
    near, true = _scaled(model, places, computed), _scaled(model, places, reference)
    return _size(model, places, near - true, true)


def _misfit(model: ForwardModel, places: Sequence[int], computed: Sequence[FloatArray]) -> float:
    """Root mean square of (I_obs − k I_calc)/max(σ, 0.01 I_obs) likewise."""
    calculated = _scaled(model, places, computed)
    return _size(model, places, model.observations.at(places).reflections.intensity - calculated, calculated)


def _scaled(model: ForwardModel, places: Sequence[int], computed: Sequence[FloatArray]) -> FloatArray:
    """Intensities (M,) of some frames, each at its best scale."""
    observations = model.observations.at(places)
    reflections = observations.reflections
    columns = (observations.split(reflections.intensity), observations.split(reflections.sigma))
    return np.concatenate(
        [
            best_scale(calculated, observed, intensity_weights(observed, sigma)) * calculated
            for observed, sigma, calculated in zip(*columns, computed, strict=True)
        ]
    )


def _size(model: ForwardModel, places: Sequence[int], differences: FloatArray, calculated: FloatArray) -> float:
    """Root mean square of differences over max(σ, 0.01 I_obs), weighted as residuals are by the robust loss."""
    measured = model.observations.at(places).reflections
    unit = np.maximum(measured.sigma, 0.01 * measured.intensity)
    residuals = (measured.intensity - calculated) / unit
    factors = loss_factors(_LOSS, residuals / usual_sizes(residuals, calculated))
    return float(np.sqrt(np.average((differences / unit) ** 2, weights=factors)))
