"""Scales and centres of frames, thickness and spread, as one vector with a normal prior, and their fit.

The vector holds ln scale of all F frames about the mean of the start, then their centres in radians, if these are refined,
then ln thickness and ln spread about the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg

from edtbx.arrays import BoolArray, FloatArray, IntArray
from edtbx.crystal.evidence import JointPrior, Quadratic
from edtbx.crystal.scan_prior import Amplitudes, ScanPrior
from edtbx.fitting.nuisance_bounds import NuisanceBounds, centre_limits, shared_are_free, shared_limits
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance

_FREE = 1.0
"""Prior standard deviation of ln thickness and ln spread about the start, which hardly holds them."""

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
    """

    cubes: Sequence[FrameCube]
    grid: Grid
    bounds: NuisanceBounds
    start: Nuisance
    scale: float
    frame: IntArray
    prior: JointPrior
    shared: BoolArray

    @classmethod
    def of(
        cls, cubes: Sequence[FrameCube], grid: Grid, bounds: NuisanceBounds, start: Nuisance, prior: JointPrior
    ) -> FrameParameters:
        """Of the cubes, about a start, with a prior of their scales and centres."""
        positive = start.scales[start.scales > 0.0]
        return cls(
            cubes=cubes,
            grid=grid,
            bounds=bounds,
            start=start,
            scale=float(np.exp(np.mean(np.log(positive)))) if len(positive) else 1.0,
            frame=np.repeat(np.arange(len(cubes)), [len(cube.observed) for cube in cubes]),
            prior=prior,
            shared=shared_are_free(start, bounds)[::-1],
        )

    @property
    def first(self) -> FloatArray:
        """The vector (N,) at the start; frames without a positive scale have the mean one."""
        scales = np.where(self.start.scales > 0.0, self.start.scales, self.scale)
        parts = [
            np.log(scales / self.scale),
            *([self.start.centres] if self.bounds.refine_centres else []),
            np.zeros(2),
        ]
        return np.concatenate(parts)

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
        return replace(
            self.start, thickness=thickness, sigma=sigma, centres=centres, scales=self.scale * np.exp(x[:number])
        )

    def calculated(self, x: FloatArray) -> FloatArray:
        """Scaled I_calc (M,) of all frames."""
        return np.concatenate(self.nuisance(x).intensities(self.grid, self.cubes))

    def slopes(self, x: FloatArray) -> FloatArray:
        """Derivatives (M, 4) of scaled I_calc by ln scale and centre of its frame, ln thickness and ln spread."""
        nuisance = self.nuisance(x)
        unscaled = np.concatenate(nuisance.unscaled(self.grid, self.cubes))
        by_centre, by_sigma, by_thickness = np.concatenate(nuisance.slopes(self.grid, self.cubes)).T
        free = np.array([1.0, float(self.bounds.refine_centres), *self.shared])
        by_each = [unscaled, by_centre, nuisance.thickness * by_thickness, nuisance.sigma * by_sigma]
        return np.asarray(nuisance.scales[self.frame, None] * np.stack(by_each, axis=1) * free)

    def quadratic(self, x: FloatArray, residual: FloatArray, weights: FloatArray) -> Quadratic:
        """The likelihood about x (N,), for residuals and weights (M,)."""
        slopes = self.slopes(x)
        number, size = len(self.cubes), len(x)
        places = np.arange(number)
        blocks = self._by_frame(slopes[:, :, None] * slopes[:, None] * weights[:, None, None])
        own = 2 if self.bounds.refine_centres else 1
        matrix = np.zeros((size, size))
        for i in range(own):
            for j in range(own):
                matrix[i * number + places, j * number + places] = blocks[:, i, j]
            matrix[i * number + places, -2:] = blocks[:, i, 2:]
            matrix[-2:, i * number + places] = blocks[:, i, 2:].T
        matrix[-2:, -2:] = blocks[:, 2:, 2:].sum(axis=0)
        pulls = self._by_frame(slopes * (weights * residual)[:, None])
        gradient = np.concatenate([pulls[:, :own].T.ravel(), pulls[:, 2:].sum(axis=0)])
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
            target = self.prior.posterior(logarithms, self.quadratic(x, residual, weights))[0]
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

    def variances(self, x: FloatArray, covariance: FloatArray) -> FloatArray:
        """Variances (M,) of scaled I_calc for a covariance (N, N) of x."""
        slopes = self.slopes(x)
        number = len(self.cubes)
        columns = [self.frame, *([number + self.frame] if self.bounds.refine_centres else [])]
        end = len(x)
        columns += [np.full(len(self.frame), end - 2), np.full(len(self.frame), end - 1)]
        own = slopes if self.bounds.refine_centres else slopes[:, [0, 2, 3]]
        place = np.stack(columns, axis=1)
        return np.einsum("mi,mij,mj->m", own, covariance[place[:, :, None], place[:, None]], own)

    def inflation(self, calculated: FloatArray, weights: FloatArray, variances: FloatArray) -> FloatArray:
        """By how much (F,) the variance of the scale of each frame exceeds what its weights promise, for variances (M,).

        1 where nothing is calculated.
        """
        promised = weights * calculated**2
        whole = self._by_frame(promised)
        return np.where(whole > 0.0, self._by_frame(weights * variances * promised) / np.maximum(whole, 1e-300), 1.0)

    def _by_frame(self, values: FloatArray) -> FloatArray:
        """Sums (F, ...) over the rows (M, ...) of each frame."""
        sums = np.zeros((len(self.cubes), *values.shape[1:]))
        np.add.at(sums, self.frame, values)
        return sums


def prior_of_frames(angles: FloatArray, centres: bool) -> JointPrior:
    """Prior of ln scales of frames at angles (F,) in radians, of their centres if refined, and of what they share."""
    ordered = np.diff(np.unique(angles))
    lengths = np.array([np.median(ordered), _LENGTH, np.ptp(angles)]) if len(ordered) else np.full(3, _LENGTH)
    lengths[2] = max(lengths[2], 1.5 * lengths[0])
    lengths[1] = np.clip(lengths[1], lengths[0], lengths[2])
    processes = [_process(angles, _SCALES, lengths, 1.0)]
    if centres:
        processes.append(_process(angles, _CENTRES, lengths, float(np.radians(1.0))))
    return JointPrior(processes=processes, singles=np.full(2, _FREE))


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
