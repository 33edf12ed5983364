"""Unit cells: metric, comparison within tolerances, and the maps of a lattice onto one that is nearly the same.

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
"""Tolerance of angles in degrees over the relative one of lengths: 2.5° with 6 %."""


def angle_tolerance(tolerance: float) -> float:
    """Tolerance of angles in degrees that belongs to a relative tolerance of lengths."""
    return tolerance * _DEGREES_PER_LENGTH


def stretch_tolerance(tolerance: float) -> float:
    """Largest |ln s| of a singular value s of UB·B⁻¹ within a relative tolerance: of the length, and half of the shear."""
    return float(np.log1p(tolerance) + 0.5 * np.radians(angle_tolerance(tolerance)))


def metric_matrix(cell: Cell) -> NDArray[np.float64]:
    """Metric matrix G = (a_i · a_j) (3, 3) in Å².

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
    """Volume of the unit cell in Å³.

    Raises
    ------
    ValueError
        The parameters do not span a volume.
    """
    return float(np.sqrt(np.linalg.det(metric_matrix(cell))))


def cell_of_metric(metric: NDArray[np.float64]) -> Cell:
    """Cell parameters (Å, degrees) of a metric matrix G (3, 3) in Å²."""
    a, b, c = np.sqrt(np.diag(metric))
    cosines = metric[1, 2] / (b * c), metric[0, 2] / (a * c), metric[0, 1] / (a * b)
    alpha, beta, gamma = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
    return float(a), float(b), float(c), float(alpha), float(beta), float(gamma)


def cell_of_ub(ub: NDArray[np.float64]) -> Cell:
    """Cell parameters (Å, degrees) of a matrix UB (3, 3) in Å⁻¹."""
    return cell_of_metric(np.asarray(np.linalg.inv(ub.T @ ub), dtype=np.float64))


@dataclass(frozen=True, slots=True, kw_only=True)
class CellMisfit:
    """Largest differences between two cells: ``length`` relative, ``angle`` in degrees."""

    length: float
    angle: float

    @classmethod
    def between(cls, cell: Cell, reference: Cell) -> CellMisfit:
        """Differences of a cell from a reference, to whose lengths they are relative."""
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
    """Cell parameters as text for messages, three decimals each."""
    return " ".join(f"{value:.3f}" for value in cell)


_LARGEST = 3
"""Largest coefficient of new axes: settings in use have 0 and ±1, unreduced cells up to 3."""


def transformed_cell(cell: Cell, matrix: NDArray[np.float64]) -> Cell:
    """Cell parameters (Å, degrees) after a change of axes by a matrix M (3, 3)."""
    return cell_of_metric(matrix @ metric_matrix(cell) @ matrix.T)


def lattice_maps(cell: Cell, target: Cell, tolerance: float) -> list[NDArray[np.int64]]:
    """Unimodular integer matrices (3, 3) that bring a cell within a relative tolerance of a target, the nearest first.

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
    """Deviations (N,) in degrees of the angles between an axis and others from the angle wanted."""
    lengths = np.sqrt(a @ metric @ a * np.einsum("ni,ij,nj->n", axes, metric, axes))
    cosines = axes @ metric @ a / lengths
    return np.asarray(np.abs(np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))) - wanted))


def _size(misfit: CellMisfit) -> float:
    return misfit.length + np.radians(misfit.angle)


def _plainness(matrix: NDArray[np.int64]) -> tuple[int, int, int, tuple[int, ...]]:
    """Sort key of matrices: small elements first, then nearly diagonal ones, then those with few minus signs."""
    off = int(np.abs(matrix).sum() - np.abs(np.diag(matrix)).sum())
    return int(np.abs(matrix).sum()), off, int((matrix < 0).sum()), tuple(-matrix.ravel())
