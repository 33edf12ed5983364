"""What is measured along a scan, beside the intensities in the cubes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edtbx.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ScanRows:
    """Frames of a scan and their rows.

    Attributes
    ----------
    angles : (F,), radians
        Angles of the frames along the scan.
    sigma : sequence of (M,)
        S.u.s of the measured intensities of every frame.
    shares : sequence of (M,)
        How many rows share each measurement.
    numbers : sequence of (M,) int
        Shared by rows that are left out together.
    """

    angles: FloatArray
    sigma: Sequence[FloatArray]
    shares: Sequence[FloatArray]
    numbers: Sequence[IntArray]

    def at(self, places: Sequence[int], rows: Sequence[BoolArray] | None = None) -> ScanRows:
        """The frames at some places, all their rows or those of masks (M,)."""

        if rows is None:
            rows = [np.ones(len(self.sigma[place]), dtype=bool) for place in places]
        kept = list(zip(places, rows, strict=True))
        return ScanRows(
            angles=self.angles[list(places)],
            sigma=[self.sigma[place][some] for place, some in kept],
            shares=[self.shares[place][some] for place, some in kept],
            numbers=[self.numbers[place][some] for place, some in kept],
        )
