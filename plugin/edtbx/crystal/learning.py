"""Scales and centres of frames as processes over the scan, whose amplitudes the evidence sets.

Every frame has a scale and a centre. Free, they fit what the model gets wrong: of indices left out, R(obs) of quartz is
0.077 where it is 0.044 in sample. Here ln scale and centre are each constant + trend + smooth + jumps over the frame angle;
thickness and spread belong to the crystal. Round by round, the noise of residuals follows from the fit, the amplitudes from
the evidence of its quadratic approximation, and the fit from both. No wave is computed.

Rows count with the weights of least squares, which strong intensities dominate; a frame as a whole by how far its residuals,
with the noise that they show, may mislead its scale: the ratio of that variance to the one which the weights promise. With
weights from the noise itself, weak rows would decide the scales, and what a structure gets wrong of them all (displacements,
say) would pull them off: those of abiraterone by 40 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edtbx.arrays import FloatArray
from edtbx.crystal.evidence import JointPrior
from edtbx.crystal.frame_parameters import NO_TRENDS, SHARED, FrameParameters, Trends, prior_of_frames
from edtbx.crystal.noise import Noise
from edtbx.crystal.scan_prior import Amplitudes
from edtbx.crystal.scan_rows import ScanRows
from edtbx.fitting.joint_equations import PriorOfFrames
from edtbx.fitting.nuisance_bounds import NuisanceBounds, centre_limits
from edtbx.fitting.nuisance_fit import rescale
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance

_ROUNDS = 12
"""Most rounds of noise, amplitudes and fit in turn."""

_SETTLED = 0.03
"""Change of all ln amplitudes at which they end: 3 %."""

_STEPS = 5
"""Most steps of a fit in a round."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LearntFrames:
    """Nuisance parameters under priors that their own data set.

    Attributes
    ----------
    nuisance, su : Nuisance
        These and their s.u.s.
    trends : Trends
        Which of thickness and spread grow or fall along the scan.
    scales, centres : Amplitudes
        How ln scale, and the centre in radians, vary; None where centres are held.
    noise : Noise
        Of the residuals.
    effective : float
        Number of parameters that the data determine.
    inflation : (F,)
        By how much the variance of the scale of each frame exceeds what the weights promise.
    prior, logarithms, scale
        The prior of ln scale/``scale`` and centres, and the logarithms of its amplitudes.
    """

    nuisance: Nuisance
    su: Nuisance
    trends: Trends
    scales: Amplitudes
    centres: Amplitudes | None
    noise: Noise
    effective: float
    inflation: FloatArray
    prior: JointPrior
    logarithms: FloatArray
    scale: float

    @property
    def frame_weights(self) -> FloatArray:
        """Factors (F,) on the weights of each frame, about 1."""
        return self._usual / self.inflation

    def prior_at(
        self, cubes: Sequence[FrameCube], grid: Grid, bounds: NuisanceBounds, nuisance: Nuisance
    ) -> PriorOfFrames:
        """The prior for normal equations at nuisance parameters, in units of weights with ``frame_weights`` in them."""
        frames, number = self._frames(cubes, grid, bounds, nuisance), len(cubes)
        point = frames.first[:-SHARED]
        held = np.zeros(len(point), dtype=bool)
        held[-len(self.trends) :] = ~np.array(frames.trends)
        if bounds.refine_centres:
            low, high = centre_limits(np.array([cube.base for cube in cubes]), grid, bounds)
            held[number : 2 * number] = (nuisance.centres <= low) | (nuisance.centres >= high)
        covariance = self.prior.covariance(self.logarithms)[:-SHARED, :-SHARED]
        return PriorOfFrames(
            places=frames.places[:, :-SHARED],
            levers=frames.levers,
            precision=np.asarray(self._usual * np.linalg.inv(covariance), dtype=float),
            point=point,
            held=held,
        )

    def followed(self, cubes: Sequence[FrameCube], grid: Grid, bounds: NuisanceBounds, nuisance: Nuisance) -> Nuisance:
        """The most probable nuisance parameters under this prior, from a start nearby; the same where nothing is gained.

        The weights of the cubes have the ``frame_weights`` in them.
        """
        frames = self._frames(cubes, grid, bounds, nuisance)
        observed = np.concatenate([cube.observed for cube in cubes])
        weights = np.concatenate([cube.weights for cube in cubes]) / self._usual
        first = frames.first
        x = frames.fitted(first, observed, weights, self.logarithms, _STEPS)
        return nuisance if x is first else frames.nuisance(x)

    def _frames(
        self, cubes: Sequence[FrameCube], grid: Grid, bounds: NuisanceBounds, nuisance: Nuisance
    ) -> FrameParameters:
        return replace(FrameParameters.of(cubes, grid, bounds, nuisance, self.prior, self.trends), scale=self.scale)

    @property
    def _usual(self) -> float:
        return float(np.median(self.inflation))


def learn_frames(
    cubes: Sequence[FrameCube],
    grid: Grid,
    bounds: NuisanceBounds,
    start: Nuisance,
    scan: ScanRows,
    trends: Trends = NO_TRENDS,
) -> LearntFrames:
    """Nuisance parameters of frames at greatest evidence, from a start nearby; the thickness law stays.

    Costs a pass over the cubes a step, some 40 of them, and O(F³) for each of some 300 amplitudes tried.

    Parameters
    ----------
    cubes : sequence of FrameCube
        Of F frames, with the weights of least squares.
    start : Nuisance
        Scales do not matter.
    scan : ScanRows
        Of the same rows.
    trends : Trends
        Which of thickness and spread, if they are refined, grow or fall along the scan.
    """
    sigma, shares = np.concatenate(scan.sigma), np.concatenate(scan.shares)
    prior = prior_of_frames(scan.angles, bounds.refine_centres)
    # of scales far off, noise would explain all that is measured
    frames = FrameParameters.of(cubes, grid, bounds, rescale(start, grid, cubes), prior, trends)
    observed = np.concatenate([cube.observed for cube in cubes])
    promised = np.concatenate([cube.weights for cube in cubes]) / shares
    noise, x = Noise.at_first(observed), frames.first
    logarithms, uncertainty = frames.prior.first, np.zeros(len(observed))
    for _ in range(_ROUNDS):
        calculated = frames.calculated(x)
        squares = (observed - calculated) ** 2 + uncertainty
        noise = noise.fitted(squares, sigma, calculated, shares)
        variances = shares * noise.variances(squares, sigma, calculated)
        inflation = frames.inflation(calculated, promised, variances)
        weights = promised / inflation[frames.frame]
        x = frames.fitted(x, observed, weights, logarithms, _STEPS)
        slopes = frames.slopes(x)
        likelihood = frames.quadratic(x, slopes, observed - frames.calculated(x), weights)
        before, logarithms = logarithms, frames.prior.most_probable(likelihood, logarithms)
        covariance = frames.prior.posterior(logarithms, likelihood)[1]
        uncertainty = frames.variances(slopes, covariance)
        if np.abs(logarithms - before).max() < _SETTLED:
            break
    x = frames.fitted(x, observed, weights, logarithms, _STEPS)
    likelihood = frames.quadratic(x, frames.slopes(x), observed - frames.calculated(x), weights)
    covariance = frames.prior.posterior(logarithms, likelihood)[1]
    nuisance = frames.nuisance(x)
    return LearntFrames(
        nuisance=nuisance,
        su=frames.uncertainties(nuisance, covariance),
        trends=frames.trends,
        scales=Amplitudes.of(logarithms[:5]),
        centres=Amplitudes.of(logarithms[5:]) if bounds.refine_centres else None,
        noise=noise,
        effective=float(np.sum(covariance * likelihood.information)),
        inflation=inflation,
        prior=frames.prior,
        logarithms=logarithms,
        scale=frames.scale,
    )
