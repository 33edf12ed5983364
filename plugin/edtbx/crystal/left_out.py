"""Intensities of rows that took no part in the fit of what is computed: the judge of every freedom of a fit.

R factors of the rows that were fitted fall with every parameter. A scale and a centre for each frame bring R(obs) of quartz
to 0.044; of indices left out it is 0.077.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from edtbx.arrays import BoolArray, FloatArray, IntArray
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.fitting.nuisance_fit import fit_nuisance, polish_nuisance
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance
from edtbx.measurement.statistics import r_factor

_LEAST_ROWS = 3
"""Rows that must be left of a frame for its scale to say anything."""


_PARTS = 3
"""Parts of the indices that are left out in turn where a choice depends on it."""

_OBSERVED = 3.0
"""Intensities above so many s.u.s, as the weights have these, count in R(obs)."""


def parts_of(numbers: IntArray, parts: int) -> IntArray:
    """Part (M,), 0 to ``parts`` − 1, of every row: rows that share a number (M,) stay together, parts have equally many
    numbers, taken at random and always alike.
    """
    return np.asarray(_shuffled(numbers)[0] % parts)


def fraction_of(numbers: IntArray, fraction: float) -> BoolArray:
    """Mask (M,) of the rows of a fraction of the numbers (M,), taken in the same way: of one at least."""
    order, different = _shuffled(numbers)
    return np.asarray(order < max(fraction * different, 1.0))


def _shuffled(numbers: IntArray) -> tuple[IntArray, int]:
    """Place (M,) of the number of every row among the different ones, shuffled; and how many these are."""
    different, place = np.unique(numbers, return_inverse=True)
    return np.random.default_rng(0).permutation(len(different))[place.ravel()], len(different)


Fit: TypeAlias = Callable[[list[FrameCube], list[int], list[BoolArray]], Nuisance]
"""Nuisance parameters of some rows: from their cubes, the places of these frames among all, and masks of their rows."""


def foretold(cubes: Sequence[FrameCube], grid: Grid, parts: Sequence[IntArray], fit: Fit) -> list[FloatArray]:
    """Scaled I_calc (M,) of each frame, every row by nuisance parameters that fit the rows of all other parts.

    Costs a fit for each part, and no wave.

    Parameters
    ----------
    parts : sequence of (M,) int
        Part of each row of every frame.
    fit : callable

    Returns
    -------
    list of (M,)
        NaN where hardly anything else of the frame is left.
    """
    found = [np.full(len(part), np.nan) for part in parts]
    for one in np.unique(np.concatenate(parts)):
        kept = [part != one for part in parts]
        places = [n for n, rows in enumerate(kept) if np.count_nonzero(rows) >= _LEAST_ROWS]
        others = fit([_rows(cubes[n], kept[n]) for n in places], places, [kept[n] for n in places])
        whole = others.intensities(grid, [cubes[n] for n in places])
        for n, calculated in zip(places, whole, strict=True):
            found[n][~kept[n]] = calculated[~kept[n]]
    return found


def r_foretold(cubes: Sequence[FrameCube], grid: Grid, numbers: Sequence[IntArray], fit: Fit) -> float:
    """R(obs) of intensities that are foretold with a third of the indices left out in turn.

    Parameters
    ----------
    numbers : sequence of (M,) int
        Shared by rows that are left out together, for each frame.
    fit : callable
        As for :func:`foretold`.
    """
    edges = np.cumsum([len(own) for own in numbers])[:-1]
    parts = np.split(parts_of(np.concatenate(numbers), _PARTS), edges)
    calculated = np.concatenate(foretold(cubes, grid, parts, fit))
    observed, weights = (np.concatenate([getattr(cube, name) for cube in cubes]) for name in ("observed", "weights"))
    known = np.isfinite(calculated) & (observed * np.sqrt(weights) > _OBSERVED)
    return r_factor(np.sqrt(observed[known]), np.sqrt(np.maximum(calculated[known], 0.0)))


def fitted_nearby(cubes: Sequence[FrameCube], grid: Grid, bounds: NuisanceBounds, start: Nuisance) -> Nuisance:
    """Nuisance parameters fitted from a start nearby, the name of the thickness law held."""
    if start.histogram is not None:  # polishing holds it
        return fit_nuisance(cubes, grid, replace(bounds, shapes=(start.shape,)))
    return polish_nuisance(cubes, grid, bounds, start)


def _rows(cube: FrameCube, rows: BoolArray) -> FrameCube:
    """The cube of some of the rows (M,)."""
    return replace(
        cube,
        intensities=cube.intensities.compress(rows, axis=1),
        observed=cube.observed[rows],
        weights=cube.weights[rows],
    )
