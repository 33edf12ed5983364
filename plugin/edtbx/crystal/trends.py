"""Whether thickness and spread grow or fall along a scan, as what was left out says.

A plate seen under another tilt is thicker, and a crystal that bends as it is damaged spreads its orientations: two numbers
for a whole scan, which fit most crystals better in sample. There is evidence for them on urea, too, where indices left out
are foretold worse by 2 % (abiraterone: better by 1 %). So they are judged by such indices themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from edtbx.arrays import BoolArray
from edtbx.crystal.frame_parameters import NO_TRENDS, Trends
from edtbx.crystal.learning import learn_frames
from edtbx.crystal.left_out import foretold, parts_of
from edtbx.crystal.scan_rows import ScanRows
from edtbx.fitting.nuisance_bounds import NuisanceBounds, shared_are_free
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance
from edtbx.measurement.statistics import r_factor

_PARTS = 3
"""Parts of the indices that are left out in turn."""

_GAIN = 0.003
"""Part of R that a trend must gain."""

_OBSERVED = 3.0
"""Rows of intensities above so many s.u.s count."""


def choose_trends(
    cubes: Sequence[FrameCube], grid: Grid, bounds: NuisanceBounds, start: Nuisance, scan: ScanRows
) -> Trends:
    """The trends with which indices left out in turn are foretold best; each must lower R by some parts in a thousand.

    Costs up to twelve times :func:`learn_frames`; its parameters are those of that function.
    """
    free = shared_are_free(start, bounds)[::-1]
    edges = np.cumsum([len(numbers) for numbers in scan.numbers])[:-1]
    parts = np.split(parts_of(np.concatenate(scan.numbers), _PARTS), edges)
    observed = np.concatenate([cube.observed for cube in cubes])
    strong = observed > _OBSERVED * np.concatenate(scan.sigma)

    def r_of(trends: Trends) -> float:
        def fit(some: list[FrameCube], places: list[int], rows: list[BoolArray]) -> Nuisance:
            return learn_frames(some, grid, bounds, start.at(places), scan.at(places, rows), trends).nuisance

        calculated = np.concatenate(foretold(cubes, grid, parts, fit))
        known = strong & np.isfinite(calculated)
        return r_factor(np.sqrt(observed[known]), np.sqrt(np.maximum(calculated[known], 0.0)))

    tried = [Trends(*each) for each in product((False, True), repeat=2) if free[0] >= each[0] and free[1] >= each[1]]
    return min(tried, key=lambda trends: r_of(trends) * (1.0 + _GAIN * sum(trends))) if len(tried) > 1 else NO_TRENDS
