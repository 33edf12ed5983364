"""Bounds on nuisance parameters, and which of them are fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edtbx.arrays import BoolArray, FloatArray
from edtbx.checks import expect_number
from edtbx.intensities.nuisance import LARGEST_ANGLE, THICKEST, Grid, Nuisance
from edtbx.intensities.thickness import LAWS

_LEAST_SPREAD = 1e-5
"""Least orientation spread in radians that is refined: intensities do not depend on smaller ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NuisanceBounds:
    """Bounds on the nuisance parameters, and which of them are fitted.

    Attributes
    ----------
    shapes : tuple of str
        Thickness laws to choose from (see :mod:`edtbx.intensities.thickness`).
    thickness, sigma : float or None, Å and radians
        Values to hold greatest thickness and spread at; None fits them.
    sigma_max, centre_max : float, radians
        Largest spread, and largest deviation of the centre of a frame.
    refine_centres : bool
        Whether centres are fitted, with a prior of s.u. ``centre_prior`` (radians).
    min_reflections : int
        Frames with fewer rows keep their centres.

    Raises
    ------
    TypeError, ValueError
        A law is unknown, or a number is out of range.
    """

    shapes: tuple[str, ...] = ("slab", "wedge", "cylinder", "lens", "thin")
    thickness: float | None = None
    sigma: float | None = None
    sigma_max: float = np.radians(0.2)
    refine_centres: bool = True
    centre_max: float = np.radians(0.2)
    centre_prior: float = np.radians(0.1)
    min_reflections: int = 10

    def __post_init__(self) -> None:
        if isinstance(self.shapes, str) or not self.shapes:
            raise TypeError(f"shapes must be a tuple of names such as ('wedge', 'lens'), got {self.shapes!r}")
        unknown = [shape for shape in self.shapes if shape not in (*LAWS, "free")]
        if unknown:
            raise ValueError(f"there is no thickness law {unknown[0]!r}: choose from {', '.join(LAWS)} and free")
        if self.thickness is not None and not 0.0 < expect_number(self.thickness, "thickness") <= THICKEST:
            limit = f"at most {THICKEST:g}" if self.thickness > 0.0 else "> 0"
            raise ValueError(f"thickness must be {limit} Å, got {self.thickness:g} (is it in nm?)")
        for name in ("sigma", "sigma_max", "centre_max", "centre_prior"):
            value, label = getattr(self, name), "the spread sigma" if name == "sigma" else name
            if value is not None and not 0.0 <= expect_number(value, label) <= LARGEST_ANGLE:
                raise ValueError(
                    f"{label} must lie between 0 and {LARGEST_ANGLE:g} radians, got {value:g} (is it in degrees?)"
                )


def centre_is_free(centre: float, base: float, rows: int, grid: Grid, bounds: NuisanceBounds) -> bool:
    """Whether a centre (radians) is fitted: not in frames of few rows, and not at a bound."""
    inside = abs(centre) < 0.999 * bounds.centre_max and abs(centre - base) < 0.999 * grid.centre_reach
    return bounds.refine_centres and rows >= bounds.min_reflections and inside


def shared_are_free(nuisance: Nuisance, bounds: NuisanceBounds) -> BoolArray:
    """Whether spread and thickness (2,) are fitted: no spread at a bound, no thickness of a free histogram."""
    spread = bounds.sigma is None and _LEAST_SPREAD < nuisance.sigma < bounds.sigma_max
    return np.array([spread, bounds.thickness is None and nuisance.histogram is None])


def centre_limits(bases: FloatArray, grid: Grid, bounds: NuisanceBounds) -> tuple[FloatArray, FloatArray]:
    """Least and greatest centre (F,) of each frame in radians, for the bases (F,) of its y nodes."""
    reach = grid.centre_reach
    return np.maximum(-bounds.centre_max, bases - reach), np.minimum(bounds.centre_max, bases + reach)


def shared_limits(grid: Grid, bounds: NuisanceBounds) -> tuple[tuple[float, float], tuple[float, float]]:
    """Least and greatest thickness (Å), and spread (radians)."""
    return (0.5 * float(grid.thickness[0]), float(grid.thickness[-1])), (0.0, bounds.sigma_max)
