"""Scales and centres of frames, thickness and spread, as one vector with a normal prior, and their fit.

The vector holds ln scale of all F frames about the mean of the start, then their centres in radians, if these are refined,
then the trends of ln thickness and ln spread over the scan, then these themselves about the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.linalg

from edtbx.arrays import BoolArray, FloatArray, IntArray
from edtbx.crystal.evidence import JointPrior, Quadratic
from edtbx.crystal.scan_prior import Amplitudes, ScanPrior
from edtbx.fitting.nuisance_bounds import NuisanceBounds, centre_limits, shared_are_free, shared_limits
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance

SHARED = 2
"""Places at the end of the vector for what all frames share: ln thickness and ln spread."""

_TRENDS = slice(-4, -SHARED)
"""Where the trends of these are."""

_SINGLES = np.array([0.5, 0.5, 1.0, 1.0])
"""Prior standard deviations of the trends of ln thickness and ln spread, as :attr:`ScanPrior.line` has them, and of these
about the start, which hardly hold them."""

_STEEPEST = 1.0
"""Greatest trend either way."""

_PARTS = (1.0, 0.5, 0.25, 0.1)
"""Parts of a Gauss–Newton step that are tried."""

_GAIN = 1e-9
"""Part of the misfit that a step must gain."""

_SCALES = (
    Amplitudes(constant=3.0, trend=1e-3, smooth=1e-3, length=0.0, jump=1e-3),
    Amplitudes(constant=3.0, trend=0.1, smooth=0.1, length=0.0, jump=0.05),
    Amplitudes(constant=3.0, trend=2.0, smooth=2.0, length=0.0, jump=1.0),
)
"""Least amplitudes, start, and greatest ones of ln scale, whose constant is free; lengths follow from the scan."""

_CENTRES = (
    Amplitudes(constant=1e-3, trend=1e-4, smooth=1e-3, length=0.0, jump=1e-4),
    Amplitudes(constant=0.02, trend=0.02, smooth=0.03, length=0.0, jump=0.02),
    Amplitudes(constant=0.1, trend=0.1, smooth=0.2, length=0.0, jump=0.2),
)
"""The same of centres, in degrees."""

_LENGTH = np.radians(5.0)
"""Length at the start, where the scan allows it."""


class Trends(NamedTuple):
    """Which of thickness and spread grow or fall along the scan."""

    thickness: bool = False
    spread: bool = False


NO_TRENDS = Trends()
"""Thickness and spread are those of all frames."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameParameters:
    """What the vector x stands for, and its prior.

    Attributes
    ----------
    cubes, grid, bounds
        Of F frames, with M rows in all.
    start : Nuisance
        Where x is 0, but for the frames.
    scale : float
        Scale of which ln is 0.
    frame : (M,) int
        Place of the frame of each row.
    prior : JointPrior
    shared : (2,)
        Whether ln thickness and ln spread may change.
    trends : Trends
        Which of them has a trend.
    """

    cubes: Sequence[FrameCube]
    grid: Grid
    bounds: NuisanceBounds
    start: Nuisance
    scale: float
    frame: IntArray
    prior: JointPrior
    shared: BoolArray
    trends: Trends

    @classmethod
    def of(
        cls,
        cubes: Sequence[FrameCube],
        grid: Grid,
        bounds: NuisanceBounds,
        start: Nuisance,
        prior: JointPrior,
        trends: Trends = NO_TRENDS,
    ) -> FrameParameters:
        """Of the cubes, about a start, with a prior of their scales and centres; trends of what is held are none."""
        positive = start.scales[start.scales > 0.0]
        shared = shared_are_free(start, bounds)[::-1]
        return cls(
            cubes=cubes,
            grid=grid,
            bounds=bounds,
            start=start,
            scale=float(np.exp(np.mean(np.log(positive)))) if len(positive) else 1.0,
            frame=np.repeat(np.arange(len(cubes)), [len(cube.observed) for cube in cubes]),
            prior=prior,
            shared=shared,
            trends=Trends(*(bool(trend and free) for trend, free in zip(trends, shared, strict=True))),
        )

    @property
    def line(self) -> FloatArray:
        """What a trend is multiplied with, (F,)."""
        return self.prior.processes[0].line

    @property
    def first(self) -> FloatArray:
        """The vector (N,) at the start; frames without a positive scale have the mean one."""
        start = self.start
        scales = np.where(start.scales > 0.0, start.scales, self.scale)
        parts = [np.log(scales / self.scale), *([start.centres] if self.bounds.refine_centres else [])]
        factors = [start.thickness_factors, start.sigma_factors]
        lines = [(0.0, 0.0) if own is None else self._line_of(np.log(own)) for own in factors]
        return np.concatenate([*parts, [trend for trend, _ in lines], [mean for _, mean in lines]])

    def _line_of(self, values: FloatArray) -> tuple[float, float]:
        """Trend and mean of values (F,)."""
        return float(self.line @ values) / max(float(self.line @ self.line), 1e-300), float(values.mean())

    def nuisance(self, x: FloatArray) -> Nuisance:
        """Nuisance parameters at x (N,)."""
        number = len(self.cubes)
        (thinnest, thickest), (_, widest) = shared_limits(self.grid, self.bounds)
        thickness, sigma = self.start.thickness, self.start.sigma
        if self.shared[0]:
            thickness = float(np.clip(thickness * np.exp(x[-2]), thinnest, thickest))
        if self.shared[1]:
            sigma = float(np.clip(sigma * np.exp(x[-1]), 0.0, widest))
        centres = self.start.centres
        if self.bounds.refine_centres:
            bases = np.array([cube.base for cube in self.cubes])
            centres = np.clip(x[number : 2 * number], *centre_limits(bases, self.grid, self.bounds))
        by_thickness, by_sigma = np.exp(np.outer(np.clip(x[_TRENDS], -_STEEPEST, _STEEPEST), self.line))
        return replace(
            self.start,
            thickness=thickness,
            sigma=sigma,
            centres=centres,
            scales=self.scale * np.exp(x[:number]),
            thickness_factors=by_thickness if self.trends.thickness else None,
            sigma_factors=by_sigma if self.trends.spread else None,
        )

    def calculated(self, x: FloatArray) -> FloatArray:
        """Scaled I_calc (M,) of all frames."""
        return np.concatenate(self.nuisance(x).intensities(self.grid, self.cubes))

    def slopes(self, x: FloatArray) -> FloatArray:
        """Derivatives (M, V) of scaled I_calc by ln scale of its frame, the centre if refined, and the last four of x."""
        nuisance = self.nuisance(x)
        unscaled = np.concatenate(nuisance.unscaled(self.grid, self.cubes))
        by_centre, by_sigma, by_thickness = np.concatenate(nuisance.slopes(self.grid, self.cubes)).T
        own = [unscaled, by_centre] if self.bounds.refine_centres else [unscaled]
        shared = np.stack([nuisance.thicknesses[self.frame] * by_thickness, nuisance.sigmas[self.frame] * by_sigma])
        columns = np.concatenate([own, shared * np.array(self.trends)[:, None] * self.line[self.frame], shared])
        columns[-SHARED:] *= self.shared[:, None]
        return np.asarray((nuisance.scales[self.frame] * columns).T)

    @cached_property
    def places(self) -> IntArray:
        """Where (F, V) in x the parameters of each frame are, in the order of the ``slopes`` of its rows."""
        number, own = len(self.cubes), 2 if self.bounds.refine_centres else 1
        of_frames = np.arange(number)[:, None] + number * np.arange(own)
        return np.hstack([of_frames, np.tile(number * own + np.arange(4), (number, 1))])

    def quadratic(self, x: FloatArray, slopes: FloatArray, residual: FloatArray, weights: FloatArray) -> Quadratic:
        """The likelihood about x (N,), for slopes there (M, V), residuals and weights (M,)."""
        size, places = len(x), self.places[self.frame]
        pairs = places[:, :, None] * size + places[:, None]
        squares = slopes[:, :, None] * slopes[:, None] * weights[:, None, None]
        matrix = np.asarray(np.bincount(pairs.ravel(), squares.ravel(), size * size), dtype=float).reshape(size, size)
        gradient = np.bincount(places.ravel(), (slopes * (weights * residual)[:, None]).ravel(), size)
        return Quadratic(information=matrix, pull=gradient + matrix @ x)

    def fitted(
        self, x: FloatArray, observed: FloatArray, weights: FloatArray, logarithms: FloatArray, steps: int
    ) -> FloatArray:
        """The most probable vector (N,), from a start nearby, after so many Gauss–Newton steps at most.

        Parameters
        ----------
        observed, weights : (M,)
            Measured intensities, and the reciprocal variances of their residuals.
        logarithms : (5 n,)
            ln amplitudes of the n processes.
        """
        root = scipy.linalg.cholesky(self.prior.covariance(logarithms), lower=True)

        def cost(x: FloatArray, residual: FloatArray) -> float:
            away = scipy.linalg.solve_triangular(root, x, lower=True)
            return float(weights @ residual**2 + away @ away)

        residual = observed - self.calculated(x)
        least = cost(x, residual)
        for _ in range(steps):
            target = self.prior.posterior(logarithms, self.quadratic(x, self.slopes(x), residual, weights))[0]
            for part in _PARTS:
                tried = x + part * (target - x)
                left = observed - self.calculated(tried)
                value = cost(tried, left)
                if value < least * (1.0 - _GAIN):
                    x, residual, least = tried, left, value
                    break
            else:
                break
        return x

    def variances(self, slopes: FloatArray, covariance: FloatArray) -> FloatArray:
        """Variances (M,) of scaled I_calc of these slopes (M, V), for a covariance (N, N) of x."""
        own = covariance[self.places[:, :, None], self.places[:, None]][self.frame]
        return np.asarray(np.einsum("mi,mij,mj->m", slopes, own, slopes))

    @property
    def levers(self) -> FloatArray:
        """What a unit of each parameter of a frame, but ln scale and what frames share, changes of its centre, σ and
        thickness, but for its factors, (F, V − 3, 3).
        """
        trends = np.zeros((len(self.cubes), 2, 3))
        trends[:, 0, 2], trends[:, 1, 1] = self.line * self.start.thickness, self.line * self.start.sigma
        centres = np.tile([[1.0, 0.0, 0.0]], (len(self.cubes), 1, 1))
        return np.concatenate([centres, trends], axis=1) if self.bounds.refine_centres else trends

    def uncertainties(self, nuisance: Nuisance, covariance: FloatArray) -> Nuisance:
        """S.u.s for a covariance (N, N) of x, in the form of nuisance parameters; 0 of what is held."""
        number, line = len(self.cubes), self.line[:, None]
        variances = np.diag(covariance)
        along = np.zeros((number, 3))
        if self.bounds.refine_centres:
            along[:, 0] = variances[number : 2 * number]
        squares = self.shared * np.array([nuisance.thickness, nuisance.sigma]) ** 2
        trends, both = variances[_TRENDS], np.diag(covariance[_TRENDS, -SHARED:])
        of_trends = np.array(self.trends) * (line**2 * trends + 2.0 * line * both)
        along[:, :0:-1] = squares * (variances[-SHARED:] + of_trends)
        shared = (squares * variances[-SHARED:])[::-1]
        return nuisance.uncertainties(shared, along, nuisance.scales**2 * variances[:number])

    def inflation(self, calculated: FloatArray, weights: FloatArray, variances: FloatArray) -> FloatArray:
        """By how much (F,) the variance of the scale of each frame exceeds what its weights promise, for variances (M,).

        1 where nothing is calculated.
        """
        promised = weights * calculated**2
        whole = self._by_frame(promised)
        return np.where(whole > 0.0, self._by_frame(weights * variances * promised) / np.maximum(whole, 1e-300), 1.0)

    def _by_frame(self, values: FloatArray) -> FloatArray:
        """Sums (F,) over the rows (M,) of each frame."""
        return np.asarray(np.bincount(self.frame, values, len(self.cubes)), dtype=float)


def prior_of_frames(angles: FloatArray, centres: bool) -> JointPrior:
    """Prior of ln scales of frames at angles (F,) in radians, of their centres if refined, and of what they share."""
    ordered = np.diff(np.unique(angles))
    lengths = np.array([np.median(ordered), _LENGTH, np.ptp(angles)]) if len(ordered) else np.full(3, _LENGTH)
    lengths[2] = max(lengths[2], 1.5 * lengths[0])
    lengths[1] = np.clip(lengths[1], lengths[0], lengths[2])
    processes = [_process(angles, _SCALES, lengths, 1.0)]
    if centres:
        processes.append(_process(angles, _CENTRES, lengths, float(np.radians(1.0))))
    return JointPrior(processes=processes, singles=_SINGLES)


def _process(
    angles: FloatArray, box: tuple[Amplitudes, Amplitudes, Amplitudes], lengths: FloatArray, unit: float
) -> ScanPrior:
    """A process with bounds and start in a unit, and the lengths that the scan allows."""
    factors = np.log([unit, unit, unit, 1.0, unit])
    least, start, greatest = (
        Amplitudes.of(factors + replace(one, length=float(length)).logarithms)
        for one, length in zip(box, lengths, strict=True)
    )
    return ScanPrior(angles=angles, start=start, least=least, greatest=greatest)
