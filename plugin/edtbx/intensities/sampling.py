"""Sampling of orientations and thicknesses: the numbers that trade time for accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from edtbx.arrays import FloatArray
from edtbx.intensities.quadrature import Quadrature
from edtbx.solvers.block import Accuracy

_LARGEST_REACH = 0.3
"""Largest reach of the y nodes in radians."""

_MOST_THICKNESSES = 1e5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Accuracy of the solver, and the sampling of orientations and thicknesses.

    Attributes
    ----------
    accuracy : Accuracy
        What the solver may leave out.
    tilts : int or None
        Tilts at each y node; None takes what integrates rocking curves of ``tilt_thickness`` exactly.
    tilt_thickness : float, Å
        Thickness for which the tilts must be enough.
    spread_reach, spread_spacing : float, radians
        The y nodes go from −reach to +reach.
    between : bool
        Whether the zero of the nodes lies between two of them: intensities are interpolated, with a kink at every node that
        centres had better keep away from.
    centre_reach : float, radians
        How far the centre of a frame may be from where its nodes have their zero.
    shared : bool
        Whether frames of a continuous rotation that overlap share their orientations. The y nodes of such frames are at the
        same places, wherever their centres are: for a spread that is no narrower than half the spacing.
    thickness_max, thickness_step : float, Å
        The grid of thicknesses.

    Raises
    ------
    ValueError
        A number is out of its range.
    """

    accuracy: Accuracy = field(default_factory=Accuracy)
    tilts: int | None = None
    tilt_thickness: float = 1500.0
    spread_reach: float = np.radians(0.4)
    spread_spacing: float = np.radians(0.06)
    between: bool = False
    centre_reach: float = math.inf
    shared: bool = False
    thickness_max: float = 3000.0
    thickness_step: float = 50.0

    def __post_init__(self) -> None:
        if self.tilts is not None and self.tilts < 1:
            raise ValueError(f"tilts must be at least 1, or None for as many as are needed, got {self.tilts}")
        for name in ("tilt_thickness", "spread_spacing", "thickness_max", "thickness_step"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name):g}")
        if not 0.0 <= self.spread_reach < _LARGEST_REACH:
            raise ValueError(
                f"spread_reach must lie between 0 and {_LARGEST_REACH:g} radians, got {self.spread_reach:g} "
                "(is it in degrees?)"
            )
        if not self.centre_reach >= 0.0:
            raise ValueError(f"centre_reach must be >= 0 radians, got {self.centre_reach:g}")
        if not self.thickness_step <= self.thickness_max < _MOST_THICKNESSES * self.thickness_step:
            raise ValueError(
                f"thickness_max must lie between 1 and {_MOST_THICKNESSES:g} times thickness_step, "
                f"got {self.thickness_max:g} and {self.thickness_step:g} Å"
            )

    @property
    def nodes(self) -> FloatArray:
        """The y nodes (J,) in radians."""
        return Quadrature.spanning(1, self.spread_reach, self.spread_spacing, self.between).y

    @property
    def thickness_grid(self) -> FloatArray:
        """Grid of thicknesses (T,) in Å."""
        return self.thickness_step * np.arange(1, round(self.thickness_max / self.thickness_step) + 1.0)


G_MAX_MARGIN = 0.2
"""Default margin in Å⁻¹ by which the beams reach beyond the reflections measured."""
