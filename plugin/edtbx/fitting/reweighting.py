"""Iterative reweighting: weights and nuisance parameters in turn, for a fixed structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from edtbx.arrays import FloatArray
from edtbx.fitting.loss import loss_factors, usual_sizes
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.fitting.nuisance_fit import best_scales, nearer_minimum, polish_nuisance
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance
from edtbx.measurement.observations import Observations

Weighting: TypeAlias = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
"""Function from measured intensities, their s.u.s and scaled calculated intensities, (M,) each, to weights (M,)."""

Follow: TypeAlias = Callable[[Sequence[FrameCube], Nuisance], Nuisance]
"""From cubes with their weights and nuisance parameters nearby to those that fit; the same where nothing is gained."""

_ROUNDS = 20
"""Most rounds of weights and scales in turn."""

_POLISHED = 8
"""Rounds in which spread, thickness and centres follow the weights as well."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reweighted:
    """Cubes, calculated intensities and residuals at nuisance parameters consistent with the weights.

    ``cubes`` hold the weights, those of the loss and of repeated measurements in them; ``calculated`` (M,) is scaled;
    ``residuals`` (M,) are √w (I_obs − k I_calc) before the loss, in units of ``sizes`` (M,), those usual at their intensity.
    """

    nuisance: Nuisance
    cubes: list[FrameCube]
    calculated: FloatArray
    residuals: FloatArray
    sizes: FloatArray

    @property
    def weights(self) -> FloatArray:
        """Weights (M,) of least squares, loss and multiplicity included."""
        return np.concatenate([cube.weights for cube in self.cubes])


def reweight(
    cubes: Sequence[FrameCube],
    observations: Observations,
    nuisance: Nuisance,
    *,
    grid: Grid,
    bounds: NuisanceBounds,
    weighting: Weighting,
    loss: str,
    shares: FloatArray,
    sizes: FloatArray | None = None,
    polish: bool = True,
    follow: Follow | None = None,
) -> Reweighted:
    """Iteratively reweighted nuisance parameters from a start nearby; the law stays.

    Parameters
    ----------
    observations : Observations
        The measured reflections (M,) of the cubes.
    weighting, loss
        The weights, and one of :data:`edtbx.fitting.loss.LOSSES`, by which residuals count for less.
    shares : (M,)
        How many rows share the weight of each.
    sizes : (M,)
        Usual sizes of the residuals; estimated where they are not given.
    polish : bool
        Whether thickness, spread and centres are fitted.
    follow : callable, optional
        Fits all nuisance parameters in place of that, scales included.
    """
    measured = observations.reflections
    unscaled = nuisance.unscaled(grid, cubes)
    for number in range(_ROUNDS):
        calculated = np.concatenate(nuisance.scaled(unscaled))
        weights = weighting(measured.intensity, measured.sigma, calculated)
        weighted = np.sqrt(weights) * (measured.intensity - calculated)
        usual = usual_sizes(weighted, calculated) if sizes is None else sizes
        residuals = weighted / usual
        parts = observations.split(weights * loss_factors(loss, residuals) / shares)
        cubes = [replace(cube, weights=part) for cube, part in zip(cubes, parts, strict=True)]
        before = nuisance
        if follow is not None:
            nuisance = follow(cubes, nuisance)
            if nuisance is before:
                break
            unscaled = nuisance.unscaled(grid, cubes)
            continue
        if polish and number < _POLISHED:
            nuisance = (nearer_minimum if number else polish_nuisance)(cubes, grid, bounds, nuisance)
            if nuisance is not before:
                unscaled = nuisance.unscaled(grid, cubes)
                continue
        nuisance = replace(nuisance, scales=best_scales(unscaled, cubes))
        if np.allclose(nuisance.scales, before.scales, rtol=1e-6, atol=0.0):
            break
    return Reweighted(
        nuisance=nuisance,
        cubes=list(cubes),
        calculated=np.concatenate(nuisance.scaled(unscaled)),
        residuals=residuals,
        sizes=usual,
    )
