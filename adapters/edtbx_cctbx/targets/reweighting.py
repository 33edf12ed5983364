"""Weights and nuisance parameters, each for the other, of a structure that stays where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edtbx.arrays import FloatArray
from edtbx.experiment import Reflections
from edtbx.fitting.loss import loss_factors, usual_sizes
from edtbx.fitting.nuisance_fit import NuisanceBounds, polish_nuisance, rescale
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance
from edtbx_cctbx.targets.weighting import weights_of

_ROUNDS = 20
"""Most rounds of weights and scales, each from the other; spread, thickness and centres follow in the first."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reweighted:
    """Computed beside measured intensities of every frame, at nuisance parameters that suit the weights.

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
        """Those of least squares, (M,)."""
        return np.concatenate([cube.weights for cube in self.cubes])


def reweight(
    cubes: Sequence[FrameCube],
    measured: Reflections,
    nuisance: Nuisance,
    *,
    grid: Grid,
    choices: NuisanceBounds,
    weighting_scheme: Any,
    loss: str,
    shares: FloatArray,
    sizes: FloatArray | None = None,
    polish: bool = True,
) -> Reweighted:
    """From a start nearby; the thickness law stays, and so do thickness, spread and centres unless they are to be polished.

    ``measured`` has the rows of all cubes in their order, ``shares`` (M,) says how many rows share the weight of each, and
    ``sizes`` (M,) are asked anew where they are not given.
    """
    ends = np.cumsum([len(cube.observed) for cube in cubes])[:-1]
    for number in range(_ROUNDS):
        calculated = np.concatenate(nuisance.intensities(grid, cubes))
        weights = weights_of(weighting_scheme, measured.intensity, measured.sigma, calculated)
        weighted = np.sqrt(weights) * (measured.intensity - calculated)
        usual = usual_sizes(weighted, calculated) if sizes is None else sizes
        residuals = weighted / usual
        parts = np.split(weights * loss_factors(loss, residuals) / shares, ends)
        cubes = [replace(cube, weights=part) for cube, part in zip(cubes, parts, strict=True)]
        before, nuisance = nuisance, rescale(nuisance, grid, cubes)
        if number == 0 and polish:
            nuisance = polish_nuisance(cubes, grid, choices, nuisance)
        elif np.allclose(nuisance.scales, before.scales, rtol=1e-6, atol=0.0):
            break
    return Reweighted(
        nuisance=nuisance,
        cubes=list(cubes),
        calculated=np.concatenate(nuisance.intensities(grid, cubes)),
        residuals=residuals,
        sizes=usual,
    )
