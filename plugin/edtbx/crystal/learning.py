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

from edtbx.arrays import BoolArray, FloatArray
from edtbx.crystal.evidence import JointPrior
from edtbx.crystal.frame_parameters import FrameParameters, prior_of_frames
from edtbx.crystal.noise import Noise
from edtbx.crystal.scan_prior import Amplitudes
from edtbx.fitting.nuisance_bounds import NuisanceBounds, centre_limits
from edtbx.fitting.nuisance_fit import rescale
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance

_ROUNDS = 12
"""Most rounds of noise, amplitudes and fit in turn."""

_SETTLED = 0.03
"""Change of all ln amplitudes at which they end: 3 %."""

_STEPS = 5
"""Most steps of a fit in a round."""

_SHARED = 2
"""Parameters that frames share, the last ones: ln thickness and ln spread."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LearntFrames:
    """Nuisance parameters under priors that their own data set.

    Attributes
    ----------
    nuisance : Nuisance
    scale_su : (F,)
        S.u.s of scales, as parts of them.
    centre_su : (F,), radians
        Zero where centres are held.
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
    scale_su: FloatArray
    centre_su: FloatArray
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

    @property
    def precision(self) -> FloatArray:
        """Inverse covariance (N, N) of the prior of ln scales and centres, in units of weights with these in them."""
        covariance = self.prior.covariance(self.logarithms)[:-_SHARED, :-_SHARED]
        return np.asarray(self._usual * np.linalg.inv(covariance))

    def point(self, nuisance: Nuisance) -> FloatArray:
        """ln scales and centres (N,) of nuisance parameters, as the prior has them."""
        logs = np.log(np.maximum(nuisance.scales, 1e-300) / self.scale)
        return logs if self.centres is None else np.concatenate([logs, nuisance.centres])

    def held(self, cubes: Sequence[FrameCube], grid: Grid, bounds: NuisanceBounds, nuisance: Nuisance) -> BoolArray:
        """Which of the ln scales and centres (N,) are at a bound, where they stay."""
        scales = np.zeros(len(cubes), dtype=bool)
        if self.centres is None:
            return scales
        low, high = centre_limits(np.array([cube.base for cube in cubes]), grid, bounds)
        return np.concatenate([scales, (nuisance.centres <= low) | (nuisance.centres >= high)])

    def followed(self, cubes: Sequence[FrameCube], grid: Grid, bounds: NuisanceBounds, nuisance: Nuisance) -> Nuisance:
        """The most probable nuisance parameters under this prior, from a start nearby; the same where nothing is gained.

        The weights of the cubes have the ``frame_weights`` in them.
        """
        frames = replace(FrameParameters.of(cubes, grid, bounds, nuisance, self.prior), scale=self.scale)
        observed = np.concatenate([cube.observed for cube in cubes])
        weights = np.concatenate([cube.weights for cube in cubes]) / self._usual
        first = frames.first
        x = frames.fitted(first, observed, weights, self.logarithms, _STEPS)
        return nuisance if x is first else frames.nuisance(x)

    @property
    def _usual(self) -> float:
        return float(np.median(self.inflation))


def learn_frames(
    cubes: Sequence[FrameCube],
    grid: Grid,
    bounds: NuisanceBounds,
    start: Nuisance,
    *,
    angles: FloatArray,
    sigma: FloatArray,
    shares: FloatArray,
) -> LearntFrames:
    """Nuisance parameters of frames at greatest evidence, from a start nearby; the thickness law stays.

    Costs a pass over the cubes a step, some 40 of them, and O(F³) for each of some 300 amplitudes tried.

    Parameters
    ----------
    cubes : sequence of FrameCube
        Of F frames, with the weights of least squares.
    start : Nuisance
        Scales do not matter.
    angles : (F,), radians
        Angles of the frames along the scan.
    sigma, shares : (M,)
        S.u.s of the measured intensities of all frames, one after the other, and how many rows share each measurement.
    """
    prior = prior_of_frames(angles, bounds.refine_centres)
    # of scales far off, noise would explain all that is measured
    frames = FrameParameters.of(cubes, grid, bounds, rescale(start, grid, cubes), prior)
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
        likelihood = frames.quadratic(x, observed - frames.calculated(x), weights)
        before, logarithms = logarithms, frames.prior.most_probable(likelihood, logarithms)
        covariance = frames.prior.posterior(logarithms, likelihood)[1]
        uncertainty = frames.variances(x, covariance)
        if np.abs(logarithms - before).max() < _SETTLED:
            break
    x = frames.fitted(x, observed, weights, logarithms, _STEPS)
    likelihood = frames.quadratic(x, observed - frames.calculated(x), weights)
    covariance = frames.prior.posterior(logarithms, likelihood)[1]
    number, refined = len(cubes), bounds.refine_centres
    su = np.sqrt(np.diag(covariance))
    return LearntFrames(
        nuisance=frames.nuisance(x),
        scale_su=su[:number],
        centre_su=su[number : 2 * number] if refined else np.zeros(number),
        scales=Amplitudes.of(logarithms[:5]),
        centres=Amplitudes.of(logarithms[5:]) if refined else None,
        noise=noise,
        effective=float(np.sum(covariance * likelihood.information)),
        inflation=inflation,
        prior=frames.prior,
        logarithms=logarithms,
        scale=frames.scale,
    )
