"""Whether thickness and spread grow or fall along a scan, as what was left out says.

A plate seen under another tilt is thicker, and a crystal that bends as it is damaged spreads its orientations: two numbers
for a whole scan, which fit most crystals better in sample. There is evidence for them on urea, too, where indices left out
are foretold worse by 2 % (abiraterone: better by 1 %). So they are judged by such indices themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from edtbx.arrays import BoolArray
from edtbx.crystal.frame_parameters import NO_TRENDS, Trends
from edtbx.crystal.learning import learn_frames
from edtbx.crystal.left_out import r_foretold
from edtbx.crystal.scan_rows import ScanRows
from edtbx.fitting.nuisance_bounds import NuisanceBounds, shared_are_free
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance

_GAIN = 0.003
"""Part of R that a trend must gain."""


def choose_trends(
    cubes: Sequence[FrameCube], grid: Grid, bounds: NuisanceBounds, start: Nuisance, scan: ScanRows
) -> Trends:
    """The trends with which indices left out in turn are foretold best; each must lower R by some parts in a thousand.

    Costs up to twelve times :func:`learn_frames`; its parameters are those of that function.
    """
    free = shared_are_free(start, bounds)[::-1]

    def r_of(trends: Trends) -> float:
        def fit(some: list[FrameCube], places: list[int], rows: list[BoolArray]) -> Nuisance:
            return learn_frames(some, grid, bounds, start.at(places), scan.at(places, rows), trends).nuisance

        return r_foretold(cubes, grid, scan.numbers, fit) * (1.0 + _GAIN * sum(trends))

    tried = [Trends(*each) for each in product((False, True), repeat=2) if free[0] >= each[0] and free[1] >= each[1]]
    return min(tried, key=r_of) if len(tried) > 1 else NO_TRENDS
