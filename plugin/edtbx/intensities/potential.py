"""Fourier coefficients of the crystal potential on a set of reciprocal-lattice vectors.

References
----------
L. Palatinus, V. Petříček & C. A. Corrêa, Acta Cryst. A71, 235 (2015), doi:10.1107/S2053273315001266.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from edtbx.arrays import BoolArray, ComplexArray, FloatArray, IntArray
from edtbx.cell import Cell, cell_volume
from edtbx.constants import lorentz_factor
from edtbx.measurement.geometry import orthogonalisation_matrix


@dataclass(frozen=True, slots=True, eq=False)
class GVectors:
    """A set of G reciprocal-lattice vectors that contains the difference of any two beams.

    ``hkl`` (G, 3) are the indices that the lattice allows out to twice ``g_max``, Friedel mates and 000 among them;
    ``position`` is the dense table that finds them again: ``position[h, k, l]`` counted from ``-extent``, −1 where absent.
    """

    hkl: IntArray
    extent: IntArray
    position: IntArray
    g_max: float

    @classmethod
    def from_indices(cls, hkl: IntArray, g_max: float) -> GVectors:
        """The set with the given indices (G, 3); ``g_max`` in Å⁻¹ is the largest |g| of a beam.

        Raises
        ------
        ValueError
            The indices lack 000.
        """
        hkl = np.ascontiguousarray(hkl, dtype=np.int64)
        extent = np.abs(hkl).max(axis=0)
        position = np.full(2 * extent + 1, -1, dtype=np.int64)
        position[tuple((hkl + extent).T)] = np.arange(len(hkl))
        if position[tuple(extent)] < 0:
            raise ValueError("the set of g vectors must hold 000")
        return cls(hkl, extent, position, g_max)

    def __reduce__(self) -> tuple[Any, ...]:
        # a few bytes each on the way to another process; the table is quickly made anew
        return GVectors.from_indices, (self.hkl.astype(np.int16), self.g_max)

    def find(self, hkl: IntArray) -> IntArray:
        """Places (...) of the given indices (..., 3) in ``hkl``; −1 for those that are not in the set."""
        inside = np.all(np.abs(hkl) <= self.extent, axis=-1)
        table = np.moveaxis(np.clip(hkl + self.extent, 0, 2 * self.extent), -1, 0)
        return np.where(inside, self.position[tuple(table)], -1)

    def coupling(self, beams: IntArray, values: NDArray[Any]) -> NDArray[Any]:
        """Matrix (N, N) of the values (G,) at h − g, row g and column h among the beams with indices (N, 3)."""
        return np.asarray(_gather(self.position, self.extent, beams, values))

    def collect(self, beams: IntArray, by_coupling: NDArray[Any]) -> NDArray[Any]:
        """Sum (G,) of the elements (N, N) of a matrix over equal differences h − g: the adjoint of ``coupling``."""
        return np.asarray(_scatter(self.position, self.extent, beams, by_coupling, len(self.hkl)))


@njit(nogil=True, cache=True)
def _gather(position: IntArray, extent: IntArray, beams: IntArray, values: ComplexArray) -> ComplexArray:
    n = len(beams)
    out = np.empty((n, n), dtype=values.dtype)
    for i in range(n):
        h, k, l = extent[0] - beams[i, 0], extent[1] - beams[i, 1], extent[2] - beams[i, 2]
        for j in range(n):
            out[i, j] = values[position[h + beams[j, 0], k + beams[j, 1], l + beams[j, 2]]]
    return out


@njit(nogil=True, cache=True)
def _scatter(
    position: IntArray, extent: IntArray, beams: IntArray, by_coupling: ComplexArray, size: int
) -> ComplexArray:
    out = np.zeros(size, dtype=by_coupling.dtype)
    add_differences(position, extent, beams, by_coupling, out)
    return out


@njit(nogil=True, cache=True)
def add_differences(
    position: IntArray, extent: IntArray, beams: IntArray, by_coupling: ComplexArray, total: ComplexArray
) -> None:
    """Add the elements (n, n) of a matrix to a total (G,), each at the difference h − g of its beams (n, 3).

    For kernels; from Python, see :meth:`GVectors.collect`.
    """
    for i in range(len(beams)):
        h, k, l = extent[0] - beams[i, 0], extent[1] - beams[i, 1], extent[2] - beams[i, 2]
        for j in range(len(beams)):
            value = by_coupling[i, j]
            if value != 0.0:  # of beams that are never strong together
                total[position[h + beams[j, 0], k + beams[j, 1], l + beams[j, 2]]] += value


@njit(nogil=True, cache=True)
def add_equivalents(
    parent: IntArray, phase: ComplexArray, mate: BoolArray, derivatives: ComplexArray, total: ComplexArray
) -> None:
    """Add derivatives (m, n) by F(g) = p F or p conj(F) of its parent to totals (m, U) of those by the parents.

    ``parent`` (n,) says where the parent is among the totals, ``mate`` (n,) where it is conjugated.
    """
    for row in range(len(derivatives)):
        for g in range(len(parent)):
            value = derivatives[row, g] * np.conj(phase[g])
            total[row, parent[g]] += np.conj(value) if mate[g] else value


def indices_within(cell: Cell, g_max: float) -> IntArray:
    """All indices (G, 3) with |g| ≤ g_max in Å⁻¹, 000 included."""
    b = orthogonalisation_matrix(cell)
    extent = np.floor(g_max * np.asarray(cell[:3])).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in extent), indexing="ij"), axis=-1).reshape(-1, 3)
    return grid[np.linalg.norm(grid @ b.T, axis=1) <= g_max]


def u_per_f(cell: Cell, wavelength: float) -> float:
    """Factor γ/(π V) in Å⁻³ from structure factors F in Å to U in Å⁻²; wavelength in Å."""
    return lorentz_factor(wavelength) / (math.pi * cell_volume(cell))


def wave_number(wavelength: float, u_000: float = 0.0) -> float:
    """Wave number K in Å⁻¹ inside the crystal, K² = 1/λ² + U_0, for λ in Å and U_0 in Å⁻²."""
    return math.sqrt(wavelength**-2 + u_000)


def surface_term(s_g: FloatArray, g_squared: FloatArray, wavenumber: float) -> FloatArray:
    """Surface term M_g = (1 + g_n/K)^(−1/2), g_n = −g_z along the direction of travel, for a surface normal to the beam.

    S_g and K in Å⁻¹, |g|² in Å⁻²; the shape is that of S_g.
    """
    g_z = s_g + g_squared / (2.0 * wavenumber)
    return np.asarray(1.0 / np.sqrt(1.0 - g_z / wavenumber))
