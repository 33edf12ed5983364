"""Unit cells: metric, and how far two of them differ. Lengths in Å, angles in degrees, as crystallographers write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Cell: TypeAlias = tuple[float, float, float, float, float, float]

CELL_TOLERANCE = 0.06
"""Relative difference in length up to which two cells may be the same: camera length and elliptical distortion of electron
diffraction patterns make some per cent."""

_DEGREES_PER_LENGTH = 2.5 / 0.06
"""Degrees that go with a relative difference in length of one: 2.5° with 6 %."""


def angle_tolerance(tolerance: float) -> float:
    """Degrees that go with a relative tolerance of lengths."""
    return tolerance * _DEGREES_PER_LENGTH


def stretch_tolerance(tolerance: float) -> float:
    """Largest |ln s| of a singular value s of UB·B⁻¹ that goes with a tolerance: the length, and half of the shear."""
    return float(np.log1p(tolerance) + 0.5 * np.radians(angle_tolerance(tolerance)))


def metric_matrix(cell: Cell) -> NDArray[np.float64]:
    """G = (a_i · a_j) in Å² (3, 3).

    Raises
    ------
    ValueError
        The parameters do not span a volume.
    """
    a, b, c = cell[:3]
    cos_al, cos_be, cos_ga = np.cos(np.radians(cell[3:]))
    metric = np.array(
        [
            [a * a, a * b * cos_ga, a * c * cos_be],
            [a * b * cos_ga, b * b, b * c * cos_al],
            [a * c * cos_be, b * c * cos_al, c * c],
        ]
    )
    if not np.all(np.isfinite(metric)) or np.any(np.linalg.eigvalsh(metric) <= 0.0):
        raise ValueError(f"these cell parameters do not span a volume: {cell}")
    return metric


def cell_volume(cell: Cell) -> float:
    """Volume in Å³."""
    return float(np.sqrt(np.linalg.det(metric_matrix(cell))))


def cell_of_metric(metric: NDArray[np.float64]) -> Cell:
    """The parameters of the cell with the metric G in Å² (3, 3)."""
    a, b, c = np.sqrt(np.diag(metric))
    cosines = metric[1, 2] / (b * c), metric[0, 2] / (a * c), metric[0, 1] / (a * b)
    alpha, beta, gamma = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
    return float(a), float(b), float(c), float(alpha), float(beta), float(gamma)


def cell_of_ub(ub: NDArray[np.float64]) -> Cell:
    """The parameters of the cell that a matrix UB in Å⁻¹ (3, 3) has."""
    return cell_of_metric(np.asarray(np.linalg.inv(ub.T @ ub), dtype=np.float64))


@dataclass(frozen=True, slots=True, kw_only=True)
class CellMisfit:
    """How far two cells differ at most: relative in a length, in degrees in an angle."""

    length: float
    angle: float

    @classmethod
    def between(cls, one: Cell, other: Cell) -> CellMisfit:
        """Of one cell from another, which lengths are relative to."""
        return cls(
            length=max(abs(x / y - 1.0) for x, y in zip(one[:3], other[:3], strict=True)),
            angle=max(abs(x - y) for x, y in zip(one[3:], other[3:], strict=True)),
        )

    def within(self, tolerance: float) -> bool:
        """Whether lengths differ by no more than the tolerance (0.06: 6 %) and angles by what goes with it (2.5°)."""
        return self.length <= tolerance and self.angle <= angle_tolerance(tolerance)

    def __str__(self) -> str:
        return f"up to {self.length:.2%} in length and {self.angle:.2f}° in angle"


def cell_text(cell: Cell) -> str:
    """The parameters as a message shows them."""
    return " ".join(f"{value:.3f}" for value in cell)
