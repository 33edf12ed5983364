"""Unit cells: metric, how far two of them differ, and how one lattice maps onto another that is nearly the same.

Lengths in Å, angles in degrees, as crystallographers write them. A matrix M (3, 3) stands for new axes a'_i = Σ_j M_ij a_j;
the indices of reflections go the same way, h' = M h.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
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
    def between(cls, cell: Cell, reference: Cell) -> CellMisfit:
        """Of one cell from another, which lengths are relative to."""
        return cls(
            length=max(abs(x / y - 1.0) for x, y in zip(cell[:3], reference[:3], strict=True)),
            angle=max(abs(x - y) for x, y in zip(cell[3:], reference[3:], strict=True)),
        )

    def within(self, tolerance: float) -> bool:
        """Whether lengths differ by no more than the tolerance (0.06: 6 %) and angles by what goes with it (2.5°)."""
        return self.length <= tolerance and self.angle <= angle_tolerance(tolerance)

    def __str__(self) -> str:
        return f"up to {self.length:.2%} in length and {self.angle:.2f}° in angle"


def cell_text(cell: Cell) -> str:
    """The parameters as a message shows them."""
    return " ".join(f"{value:.3f}" for value in cell)


_LARGEST = 3
"""Coefficients of new axes: settings in use have 0 and ±1, a cell that nobody reduced up to 3."""


def transformed_cell(cell: Cell, matrix: NDArray[np.float64]) -> Cell:
    """The cell of the new axes."""
    return cell_of_metric(matrix @ metric_matrix(cell) @ matrix.T)


def lattice_maps(cell: Cell, target: Cell, tolerance: float) -> list[NDArray[np.int64]]:
    """All right-handed matrices of whole numbers that bring one cell within a tolerance of another, the nearest first.

    Of those equally near the plainest comes first: the identity where the cells agree. With both cells the same these are
    the rotations of the lattice, those that hold but nearly among them.
    """
    rows = np.array(list(product(range(-_LARGEST, _LARGEST + 1), repeat=3)))
    rows = rows[np.any(rows, axis=1)]
    metric = metric_matrix(cell)
    lengths = np.sqrt(np.einsum("ni,ij,nj->n", rows, metric, rows))
    axes = [rows[np.abs(lengths / length - 1.0) <= tolerance] for length in target[:3]]
    unimodular = []
    for a in axes[0]:
        b_axes = axes[1][_angles(a, axes[1], metric, target[5]) <= angle_tolerance(tolerance)]
        c_axes = axes[2][_angles(a, axes[2], metric, target[4]) <= angle_tolerance(tolerance)]
        for b in b_axes:
            volumes = c_axes @ np.cross(a, b)
            unimodular += [np.array([a, b, c]) for c in c_axes[volumes == 1]]
    misfits = [(CellMisfit.between(transformed_cell(cell, m), target), m) for m in unimodular]
    kept = [(misfit, m) for misfit, m in misfits if misfit.within(tolerance)]
    return [m for _, m in sorted(kept, key=lambda pair: (round(_size(pair[0]), 4), *_plainness(pair[1])))]


def _angles(
    a: NDArray[np.int64], axes: NDArray[np.int64], metric: NDArray[np.float64], wanted: float
) -> NDArray[np.float64]:
    """How far in degrees the angles (N,) between an axis and others are from the one wanted."""
    lengths = np.sqrt(a @ metric @ a * np.einsum("ni,ij,nj->n", axes, metric, axes))
    cosines = axes @ metric @ a / lengths
    return np.asarray(np.abs(np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))) - wanted))


def _size(misfit: CellMisfit) -> float:
    return misfit.length + np.radians(misfit.angle)


def _plainness(matrix: NDArray[np.int64]) -> tuple[int, int, int, tuple[int, ...]]:
    """Small for matrices that are easy to read: off the diagonal little, few minus signs."""
    off = int(np.abs(matrix).sum() - np.abs(np.diag(matrix)).sum())
    return int(np.abs(matrix).sum()), off, int((matrix < 0).sum()), tuple(-matrix.ravel())
