"""Thickness laws: distributions of the diffracting area over thickness, as weights on a grid.

With t the greatest thickness (the one thickness of a slab) and u = thickness/t, the density over u in (0, 1] is
``slab`` δ(u − 1), ``wedge`` 1, ``cylinder`` u/√(1−u²) (chords of a circle), ``lens`` 2u (chords of a ball),
``thin`` 2(1−u) (thin parts prevail); ``free`` is any non-negative histogram on the grid itself.

A law of distribution function P, integrated against the hat functions of a grid, gives second differences of t R(x/t) with
R(u) = ∫ P over (0, u): weights and derivatives in closed form. A quadrature over the law would make a kink wherever one of
its points passes one of the grid, at which no fit of the thickness settles. So would linear interpolation at the one
thickness of a slab, which is cubic (Keys) therefore.

References
----------
R. G. Keys, IEEE Trans. Acoust. Speech Signal Process. 29, 1153 (1981), doi:10.1109/TASSP.1981.1163711, equation 15.
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


_SPREAD: Mapping[str, _Law] = {
    "wedge": _Law(lambda u: u, lambda u: u * u / 2.0, 1.0 / 2.0),
    "cylinder": _Law(
        lambda u: 1.0 - np.sqrt(1.0 - u * u),
        lambda u: u - 0.5 * (u * np.sqrt(1.0 - u * u) + np.arcsin(u)),
        math.pi / 4.0,
    ),
    "lens": _Law(lambda u: u * u, lambda u: u**3 / 3.0, 2.0 / 3.0),
    "thin": _Law(lambda u: u * (2.0 - u), lambda u: u * u * (1.0 - u / 3.0), 1.0 / 3.0),
}
"""Laws with one parameter, by name, other than the slab."""

LAWS = ("slab", *_SPREAD)
"""Names of the laws with one parameter."""


def thickness_weights(grid: FloatArray, shape: str, thickness: float) -> FloatArray:
    """Weights (T,) on the thickness grid (Å, rising from its step) of a law with greatest thickness in Å.

    Linear interpolation between the points of the grid (cubic for a slab), and down to no intensity at thickness 0. The
    weights sum to one where all of the law lies within the grid and above its first step.

    Raises
    ------
    KeyError
        The law is not in :data:`LAWS`.
    """
    if shape == "slab":
        return _interpolation(grid, thickness)[0]
    law, t, padded, u = _laid_out(grid, shape, thickness)
    ramp = t * law.integral(u) + np.maximum(padded - t, 0.0)
    return np.maximum(_over_grid(padded, ramp, 1.0, t), 0.0)


def thickness_slopes(grid: FloatArray, shape: str, thickness: float) -> FloatArray:
    """Derivatives (T,) of :func:`thickness_weights` by the greatest thickness, per Å."""
    if shape == "slab":
        return _interpolation(grid, thickness)[1]
    law, t, padded, u = _laid_out(grid, shape, thickness)
    return _over_grid(padded, law.integral(u) - np.where(u < 1.0, u * law.share(u), 1.0), 0.0, t)


def _laid_out(grid: FloatArray, shape: str, thickness: float) -> tuple[_Law, float, FloatArray, FloatArray]:
    """The law, its greatest thickness, the grid with a 0 put before it (T + 1,), and that in parts of the thickness."""
    padded, thickest = _padded(grid), max(thickness, 1e-9 * float(grid[0]))
    return _SPREAD[shape], thickest, padded, np.minimum(padded / thickest, 1.0)


def _padded(grid: FloatArray) -> FloatArray:
    return np.concatenate([[0.0], grid])


def _over_grid(padded: FloatArray, ramp: FloatArray, end: float, thickest: float) -> FloatArray:
    """Values (T,) on the grid: differences of the slopes of a ramp (T + 1,), the last slope being ``end``; 0 beyond the law.

    What lies beyond the grid counts at its last point.
    """
    slopes = np.append(np.diff(ramp) / np.diff(padded), end)
    return np.where(padded[:-1] < thickest, np.diff(slopes), 0.0)


def _interpolation(grid: FloatArray, thickness: float) -> tuple[FloatArray, FloatArray]:
    """Weights (T,) and their derivatives, per Å, of cubic interpolation on an even grid that begins with its step.

    Beyond its ends, at 0 and at the last point, values are extrapolated linearly; a thicker slab is as thick as the last.
    """
    padded, step = _padded(grid), float(grid[0])
    left = min(int(thickness / step), len(grid) - 1)
    x = min(thickness / step - left, 1.0)
    values = np.array(
        [((2.0 - x) * x - 1.0) * x, (3.0 * x - 5.0) * x * x + 2.0, ((4.0 - 3.0 * x) * x + 1.0) * x, (x - 1.0) * x * x]
    )
    slopes = np.array([(4.0 - 3.0 * x) * x - 1.0, (9.0 * x - 10.0) * x, (8.0 - 9.0 * x) * x + 1.0, (3.0 * x - 2.0) * x])
    weights = np.zeros((2, len(padded) + 2))  # one more at either end
    weights[:, left : left + 4] = 0.5 * values, 0.5 / step * slopes
    weights[:, 1:3] += weights[:, :1] * [2.0, -1.0]
    weights[:, -3:-1] += weights[:, -1:] * [-1.0, 2.0]
    if thickness >= grid[-1]:
        weights[1] = 0.0
    return weights[0, 2:-1], weights[1, 2:-1]


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
    return thickness if shape in ("slab", "free") else thickness * _SPREAD[shape].mean
