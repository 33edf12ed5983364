"""How one lattice maps onto another that is nearly the same: its own symmetry, and other choices of axes.

A matrix M (3, 3) stands for new axes a'_i = Σ_j M_ij a_j; the indices of reflections go the same way, h' = M h.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from edtbx.cell import Cell, CellMisfit, angle_tolerance, cell_of_metric, metric_matrix

_LARGEST = 3
"""Coefficients of new axes: settings in use have 0 and ±1, a cell that nobody reduced up to 3."""


def transformed_cell(cell: Cell, matrix: NDArray[np.float64]) -> Cell:
    """The cell of the new axes."""
    return cell_of_metric(matrix @ metric_matrix(cell) @ matrix.T)


def lattice_maps(one: Cell, other: Cell, tolerance: float) -> list[NDArray[np.int64]]:
    """All right-handed matrices of whole numbers that bring one cell within a tolerance of another, the nearest first.

    Of those equally near the plainest comes first: the identity where the cells agree. With both cells the same these are
    the rotations of the lattice, those that hold but nearly among them.
    """
    rows = np.array(list(product(range(-_LARGEST, _LARGEST + 1), repeat=3)))
    rows = rows[np.any(rows, axis=1)]
    metric = metric_matrix(one)
    lengths = np.sqrt(np.einsum("ni,ij,nj->n", rows, metric, rows))
    axes = [rows[np.abs(lengths / length - 1.0) <= tolerance] for length in other[:3]]
    near = []
    for a in axes[0]:
        b_axes = axes[1][_angles(a, axes[1], metric, other[5]) <= angle_tolerance(tolerance)]
        c_axes = axes[2][_angles(a, axes[2], metric, other[4]) <= angle_tolerance(tolerance)]
        for b in b_axes:
            volumes = c_axes @ np.cross(a, b)
            near += [np.array([a, b, c]) for c in c_axes[volumes == 1]]
    misfits = [(CellMisfit.between(transformed_cell(one, m), other), m) for m in near]
    kept = [(misfit, m) for misfit, m in misfits if misfit.within(tolerance)]
    return [m for _, m in sorted(kept, key=lambda pair: (round(_size(pair[0]), 4), *_plainness(pair[1])))]


def _angles(
    a: NDArray[np.int64], others: NDArray[np.int64], metric: NDArray[np.float64], wanted: float
) -> NDArray[np.float64]:
    """How far in degrees the angles (N,) between an axis and others are from the one wanted."""
    lengths = np.sqrt(a @ metric @ a * np.einsum("ni,ij,nj->n", others, metric, others))
    cosines = others @ metric @ a / lengths
    return np.asarray(np.abs(np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))) - wanted))


def _size(misfit: CellMisfit) -> float:
    return misfit.length + np.radians(misfit.angle)


def _plainness(matrix: NDArray[np.int64]) -> tuple[int, int, int, tuple[int, ...]]:
    """Small for matrices that are easy to read: off the diagonal little, few minus signs."""
    off = int(np.abs(matrix).sum() - np.abs(np.diag(matrix)).sum())
    return int(np.abs(matrix).sum()), off, int((matrix < 0).sum()), tuple(-matrix.ravel())
