"""Thickness laws: distributions of the diffracting area over thickness, as weights on a grid.

With t the greatest thickness (the one thickness of a slab) and u = thickness/t, the density over u in (0, 1] is
``slab`` δ(u − 1), ``wedge`` 1, ``cylinder`` u/√(1−u²) (chords of a circle), ``lens`` 2u (chords of a ball),
``thin`` 2(1−u) (thin parts prevail); ``free`` is any non-negative histogram on the grid itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.polynomial.legendre import leggauss

from edtbx.arrays import FloatArray, IntArray

QUANTILES: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "slab": np.ones_like,
    "wedge": lambda p: p,
    "cylinder": lambda p: np.sqrt(1.0 - (1.0 - p) ** 2),
    "lens": lambda p: np.sqrt(p),
    "thin": lambda p: 1.0 - np.sqrt(1.0 - p),
}
"""Quantile functions: the u below which a share p of the diffracting area lies, for every law with one parameter."""

_NODES, _NODE_WEIGHTS = leggauss(256)
_SHARES = 0.5 * (_NODES + 1.0)


def thickness_weights(grid: FloatArray, shape: str, thickness: float) -> FloatArray:
    """Weights (T,) on the thickness grid (Å, rising from its step) of a law with greatest thickness in Å.

    Linear interpolation between the points of the grid, and down to no intensity at thickness 0. The weights sum to
    one where all of the law lies within the grid and above its first step.

    Raises
    ------
    KeyError
        The law is not in :data:`QUANTILES`.
    """
    return histogram_weights(grid, QUANTILES[shape](_SHARES) * thickness, 0.5 * _NODE_WEIGHTS)


def thickness_slopes(grid: FloatArray, shape: str, thickness: float) -> FloatArray:
    """Derivatives (T,) of :func:`thickness_weights` by the greatest thickness, per Å."""
    shares = QUANTILES[shape](_SHARES)
    left, step, padded = _cells(grid, shares * thickness)
    rise = np.where(shares * thickness < grid[-1], 0.5 * _NODE_WEIGHTS * shares / step, 0.0)
    slopes = np.bincount(left + 1, weights=rise, minlength=len(padded))
    slopes -= np.bincount(left, weights=rise, minlength=len(padded))
    return np.asarray(slopes[1:])


def histogram_weights(grid: FloatArray, thickness: FloatArray, weight: FloatArray) -> FloatArray:
    """Weights (T,) on the grid of a histogram given by thicknesses (H,) in Å and their weights (H,)."""
    t = np.clip(thickness, 0.0, grid[-1])
    left, step, padded = _cells(grid, t)
    part = (t - padded[left]) / step
    weights = np.bincount(left + 1, weights=weight * part, minlength=len(padded))
    weights += np.bincount(left, weights=weight * (1.0 - part), minlength=len(padded))
    return np.asarray(weights[1:])


def _cells(grid: FloatArray, t: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Place (H,) of the grid point below each thickness, the step (H,) there, and the grid with a 0 put before it."""
    padded = np.concatenate([[0.0], grid])
    left = np.clip(np.searchsorted(padded, t) - 1, 0, len(grid) - 1)
    return left, padded[left + 1] - padded[left], padded


def mean_thickness(shape: str, thickness: float) -> float:
    """Mean thickness in Å of a law with the given greatest one; a free histogram is named by its mean."""
    if shape == "free":
        return thickness
    return thickness * float(0.5 * _NODE_WEIGHTS @ QUANTILES[shape](_SHARES))
