"""Levels of sampling from coarse to fine, and the coarsest one within a tolerance.

Features of the intensity are 1/(t |g|) wide in both angles of an orientation. A level says how many tilts and y nodes
meet one such width, and what of the beams is left out; :func:`level_for` takes the coarsest level whose error, measured
on a few frames against the next finer one but one, is small beside the misfit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edtbx.arrays import ComplexArray, FloatArray
from edtbx.execution.memory import TooLarge, at_once
from edtbx.execution.progress import Progress, no_progress
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.intensities.forward import ForwardModel
from edtbx.intensities.nuisance import Nuisance, best_scale, intensity_weights
from edtbx.intensities.sampling import Sampling
from edtbx.intensities.thickness import mean_thickness
from edtbx.solvers.block import Accuracy

COARSE = Sampling(
    accuracy=Accuracy(s_max=0.03, s_strong=0.003, tolerance=1e-4),
    tilt_thickness=800.0,
    spread_reach=float(np.radians(0.4)),
    spread_spacing=float(np.radians(0.1)),
    shared=True,
    thickness_max=3000.0,
    thickness_step=50.0,
)
"""Sampling for an unknown thickness: an error of 2 to 5 % in amplitudes on crystals of 1000 to 2000 Å. With beams out to
0.02 and 0.002 Å⁻¹ urea without hydrogen is found to be 1430 Å thick in place of 1800."""

_MOVE = float(np.radians(0.06))
"""Largest shift of the centre of a frame (radians) at one of the levels below, from where a coarser one left it."""

_NARROWEST = float(np.radians(0.02))
"""Least spread (radians) for which the y nodes are laid out, so that it can grow."""

_STEPS = 40.0
"""Thicknesses of a grid. Intensities are then off by 0.002 s.u.s (slab: 0.01)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Fineness of sampling for a crystal of known thickness.

    ``tilts`` is the number of tilts as a part of what integrates the rocking curves of the thickest part exactly, where the
    spread sums over some y nodes; ``spacing`` the distance of the y nodes in units of 1/(mean thickness · largest |g|).
    """

    accuracy: Accuracy
    tilts: float
    spacing: float

    def sampling(self, nuisance: Nuisance, bounds: NuisanceBounds, g_max: float) -> Sampling:
        """Sampling for the thickness and spread known, and reflections out to ``g_max`` in Å⁻¹.

        The y nodes, counted from the centre of each frame, reach as far as it may still move and 2.5 σ more.
        """
        histogram = nuisance.histogram
        thickest = nuisance.thickness if histogram is None else float(histogram[0, np.flatnonzero(histogram[1])[-1]])
        mean = mean_thickness(nuisance.shape, nuisance.thickness)
        spacing = float(np.clip(self.spacing / (mean * g_max), np.radians(0.005), np.radians(0.15)))
        move = max(spacing, _MOVE) if bounds.refine_centres else 0.0
        summed = max(1.0, _NODES_SUMMED * nuisance.sigma / spacing)
        return Sampling(
            accuracy=self.accuracy,
            tilt_thickness=max(self.tilts, _ALONE / summed) * thickest,
            spread_reach=move + 2.5 * max(nuisance.sigma, _NARROWEST),
            spread_spacing=spacing,
            centre_reach=move,
            shared=nuisance.sigma >= _WIDE * spacing,
            thickness_max=1.2 * thickest,
            thickness_step=1.2 * thickest / _STEPS,
        )


_ALONE = 0.85
"""Least part of the exact number of tilts where a single y node has all the weight: on quartz and CsPbBr3, whose spread is
zero, half of it doubles the error (0.46 for 0.17, 0.40 for 0.19)."""

_NODES_SUMMED = 3.5
"""Number of y nodes that share the weight of a spread of one spacing: 2 √π."""

_WIDE = 0.45
"""Least spread in units of the spacing with which frames share nodes: sums over a narrower one depend on where these are."""

DRAFT = Level(accuracy=Accuracy(s_max=0.03, s_strong=0.003, tolerance=1e-4), tilts=0.25, spacing=6.0)
"""The level at which atoms move, corrected by a finer one."""

FOR_ROWS = Level(accuracy=Accuracy(s_max=0.03, s_strong=0.003, tolerance=1e-4), tilts=0.35, spacing=4.0)
"""The level of rows of a design matrix that stand for gradients: another 0.03 (paracetamol) to 0.1 (urea) of their length
off the mark."""

LEVELS = (
    Level(accuracy=Accuracy(s_max=0.02, s_strong=0.002, tolerance=1e-5), tilts=0.35, spacing=2.0),
    Level(accuracy=Accuracy(s_max=0.02, s_strong=0.002, tolerance=1e-5), tilts=0.42, spacing=2.0),
    Level(accuracy=Accuracy(s_max=0.03, s_strong=0.003, tolerance=1e-5), tilts=0.5, spacing=2.0),
    Level(accuracy=Accuracy(s_max=0.045, s_strong=0.005, tolerance=1e-5), tilts=0.6, spacing=1.5),
    Level(accuracy=Accuracy(s_max=0.06, s_strong=0.0075, tolerance=1e-5), tilts=0.7, spacing=1.2),
    Level(accuracy=Accuracy(s_max=0.09, s_strong=0.01, tolerance=1e-5), tilts=0.85, spacing=1.0),
    Level(accuracy=Accuracy(s_max=0.12, s_strong=0.015, tolerance=1e-5), tilts=1.0, spacing=0.8),
    Level(accuracy=Accuracy(s_max=0.16, s_strong=0.02, tolerance=1e-5), tilts=1.2, spacing=0.7),
)
"""From coarse to fine. Errors (as in :class:`ChosenLevel`) of the first three against the sixth: urea 0.49, 0.22, 0.21;
paracetamol 0.28, 0.20, 0.15; abiraterone 0.25, 0.17, 0.10. The first takes 0.5 to 0.7 of the time of the third, and each
from the third on some 1.8 times as much as the one before."""

USUAL = LEVELS[2]
"""The level at which thickness laws are compared: none of the crystals in hand errs by more than 0.25 there."""

_FINER, _LEAST_FINE = 2, 3
"""Errors of a level are measured against the one so many levels finer, or against the fourth: the first three are close."""

_FRAMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenLevel:
    """A level, its numerical error and the misfit that it leaves, and whether the error is ``kept`` within the tolerance.

    Both are root mean squares over a few frames: of ΔI/max(σ, 0.01 I_obs) against a finer level, and of
    (I_obs − k I_calc)/max(σ, 0.01 I_obs). ``seconds`` is what a forward pass over all frames takes, from these few.
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
    levels: Sequence[Level] = LEVELS,
    progress: Progress[Any] = no_progress,
) -> ChosenLevel:
    """Coarsest of the levels whose error is within the tolerance; the last but two, with its error, if none is.

    The tolerance is a part of the misfit that the level leaves, or of max(σ, 0.01 I_obs) where that is less: an error of a
    tenth of the misfit adds a hundredth to the sum of squares, and shifts parameters by a tenth of their s.u.s.

    The model gives frames and reflections; its own sampling does not matter. Levels that the memory does not hold are left
    out, unless they are the first and the one it is measured against.

    Raises
    ------
    TooLarge
        The memory does not hold these.
    """
    places = _typical(model)
    sample = nuisance.at(places)

    def intensities(level: Level) -> list[FloatArray]:
        sampling = level.sampling(nuisance, bounds, model.g_max)
        sampled = model.resampled(sampling, places, sample.centres)
        began = time.perf_counter()
        found = sampled.intensities(f, sample, progress)
        taken[level] = time.perf_counter() - began
        return found

    known: dict[int, list[FloatArray]] = {}
    taken: dict[Level, float] = {}
    threads = max(at_once(model.executor), 1)
    of_all = model.scan.frames / (threads * math.ceil(len(places) / threads))
    chosen: ChosenLevel | None = None
    for place, level in enumerate(levels[:-_FINER]):
        finer = min(max(place + _FINER, _LEAST_FINE), len(levels) - 1)
        for number in (place, finer):
            if number not in known:
                try:
                    known[number] = intensities(levels[number])
                except TooLarge:
                    if chosen is None:
                        raise
                    return chosen
        error = intensity_error(model, places, known[place], known[finer])
        misfit = _misfit(model, places, known[place])
        chosen = ChosenLevel(
            level=level,
            error=error,
            misfit=misfit,
            kept=error <= tolerance * max(misfit, 1.0),
            seconds=of_all * taken[level],
        )
        if chosen.kept:
            break
    assert chosen is not None
    return chosen


def intensity_error(
    model: ForwardModel, places: Sequence[int], computed: Sequence[FloatArray], reference: Sequence[FloatArray]
) -> float:
    """Root mean square of ΔI/max(σ, 0.01 I_obs) over the rows of some frames, each at its best scale."""
    return _size(
        model,
        places,
        np.concatenate(_scaled(model, places, computed)) - np.concatenate(_scaled(model, places, reference)),
    )


def _misfit(model: ForwardModel, places: Sequence[int], computed: Sequence[FloatArray]) -> float:
    """Root mean square of (I_obs − k I_calc)/max(σ, 0.01 I_obs) over the rows of some frames, each at its best scale."""
    observed = model.observations.at(places).reflections.intensity
    return _size(model, places, observed - np.concatenate(_scaled(model, places, computed)))


def _scaled(model: ForwardModel, places: Sequence[int], computed: Sequence[FloatArray]) -> list[FloatArray]:
    """Intensities of some frames, each at its best scale."""
    observations = model.observations.at(places)
    reflections = observations.reflections
    columns = (observations.split(reflections.intensity), observations.split(reflections.sigma))
    return [
        best_scale(calculated, observed, intensity_weights(observed, sigma)) * calculated
        for observed, sigma, calculated in zip(*columns, computed, strict=True)
    ]


def _size(model: ForwardModel, places: Sequence[int], differences: FloatArray) -> float:
    """Root mean square of differences over max(σ, 0.01 I_obs)."""
    reflections = model.observations.at(places).reflections
    return float(np.sqrt(np.mean((differences / np.maximum(reflections.sigma, 0.01 * reflections.intensity)) ** 2)))


def _typical(model: ForwardModel) -> list[int]:
    """Places of a few frames, spread over the scan, each with at least the median number of rows."""
    sizes = np.diff(model.observations.edges)
    rich = np.flatnonzero(sizes >= np.median(sizes))
    at = np.linspace(0, len(rich) - 1, min(_FRAMES, len(rich)) + 2)[1:-1]
    return [int(rich[n]) for n in np.unique(np.rint(at).astype(int))]
