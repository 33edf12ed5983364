"""Thickness laws: distributions of the diffracting area over thickness, as weights on a grid.

With t the greatest thickness (the one thickness of a slab) and u = thickness/t, the density over u in (0, 1] is
``slab`` δ(u − 1), ``wedge`` 1, ``cylinder`` u/√(1−u²) (chords of a circle), ``lens`` 2u (chords of a ball),
``thin`` 2(1−u) (thin parts prevail); ``free`` is any non-negative histogram on the grid itself.

A law of distribution function P, integrated against the hat functions of a grid, gives second differences of t R(x/t) with
R(u) = ∫ P over (0, u): weights and derivatives in closed form. A quadrature over the law would make a kink wherever one of
its points passes one of the grid, at which no fit of the thickness settles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edtbx.arrays import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class _Law:
    """A law as ufuncs of u in (0, 1): the share of the diffracting area below u, the integral of that, and the mean of u."""

    share: Callable[[FloatArray], FloatArray]
    integral: Callable[[FloatArray], FloatArray]
    mean: float


LAWS: Mapping[str, _Law] = {
    "slab": _Law(np.zeros_like, np.zeros_like, 1.0),
    "wedge": _Law(lambda u: u, lambda u: u * u / 2.0, 1.0 / 2.0),
    "cylinder": _Law(
        lambda u: 1.0 - np.sqrt(1.0 - u * u),
        lambda u: u - 0.5 * (u * np.sqrt(1.0 - u * u) + np.arcsin(u)),
        math.pi / 4.0,
    ),
    "lens": _Law(lambda u: u * u, lambda u: u**3 / 3.0, 2.0 / 3.0),
    "thin": _Law(lambda u: u * (2.0 - u), lambda u: u * u * (1.0 - u / 3.0), 1.0 / 3.0),
}
"""Laws with one parameter, by name."""


def thickness_weights(grid: FloatArray, shape: str, thickness: float) -> FloatArray:
    """Weights (T,) on the thickness grid (Å, rising from its step) of a law with greatest thickness in Å.

    Linear interpolation between the points of the grid, and down to no intensity at thickness 0. The weights sum to
    one where all of the law lies within the grid and above its first step.

    Raises
    ------
    KeyError
        The law is not in :data:`LAWS`.
    """
    law, t = LAWS[shape], max(thickness, 1e-9 * float(grid[0]))
    padded, u = _padded(grid), np.minimum(_padded(grid) / t, 1.0)
    ramp = t * law.integral(u) + np.maximum(padded - t, 0.0)
    return np.maximum(_over_grid(padded, ramp, 1.0, t), 0.0)


def thickness_slopes(grid: FloatArray, shape: str, thickness: float) -> FloatArray:
    """Derivatives (T,) of :func:`thickness_weights` by the greatest thickness, per Å."""
    law, t = LAWS[shape], max(thickness, 1e-9 * float(grid[0]))
    padded, u = _padded(grid), np.minimum(_padded(grid) / t, 1.0)
    return _over_grid(padded, law.integral(u) - np.where(u < 1.0, u * law.share(u), 1.0), 0.0, t)


def _padded(grid: FloatArray) -> FloatArray:
    return np.concatenate([[0.0], grid])


def _over_grid(padded: FloatArray, ramp: FloatArray, end: float, thickest: float) -> FloatArray:
    """Values (T,) on the grid: differences of the slopes of a ramp (T + 1,), the last slope being ``end``; 0 beyond the law.

    What lies beyond the grid counts at its last point.
    """
    slopes = np.append(np.diff(ramp) / np.diff(padded), end)
    return np.where(padded[:-1] < thickest, np.diff(slopes), 0.0)


def histogram_weights(grid: FloatArray, thickness: FloatArray, weight: FloatArray) -> FloatArray:
    """Weights (T,) on the grid of a histogram given by thicknesses (H,) in Å and their weights (H,)."""
    t = np.clip(thickness, 0.0, grid[-1])
    padded = _padded(grid)
    left: IntArray = np.clip(np.searchsorted(padded, t) - 1, 0, len(grid) - 1)
    part = (t - padded[left]) / (padded[left + 1] - padded[left])
    weights = np.bincount(left + 1, weights=weight * part, minlength=len(padded))
    weights += np.bincount(left, weights=weight * (1.0 - part), minlength=len(padded))
    return np.asarray(weights[1:])


def mean_thickness(shape: str, thickness: float) -> float:
    """Mean thickness in Å of a law with the given greatest one; a free histogram is named by its mean."""
    return thickness if shape == "free" else thickness * LAWS[shape].mean
