"""Our structure factors in the shape of abTEM's, so that both programs scatter from the same crystal."""

from __future__ import annotations

import numpy as np
from abtem.bloch.dynamical import StructureFactorArray

from edtbx.arrays import ComplexArray, IntArray
from edtbx.cell import Cell, cell_volume
from edtbx.intensities.potential import GVectors
from edtbx.measurement.geometry import orthogonalisation_matrix

_SQUARE = 1e-6
"""Cosine up to which two axes count as orthogonal."""


def structure_factors(cell: Cell, vectors: GVectors, f: ComplexArray) -> StructureFactorArray:
    """abTEM's structure factors F/V in Å⁻², of the f (G,) in Å of a set of g vectors.

    The cell stands in the Cartesian frame of :func:`edtbx.measurement.geometry.orthogonalisation_matrix`.
    """
    lattice = np.linalg.inv(orthogonalisation_matrix(cell))
    values = np.asarray(f, dtype=complex) / cell_volume(cell)
    return StructureFactorArray(values, hkl=vectors.hkl, cell=lattice, g_max=2.0 * vectors.g_max)


def in_supercell(structure_factors: StructureFactorArray, supercell: IntArray) -> StructureFactorArray:
    """The same crystal in a larger cell with orthogonal axes, along x, y and z: what abTEM's multislice asks for.

    Parameters
    ----------
    supercell : (3, 3)
        Its axes, one a row, as multiples of a, b and c.

    Raises
    ------
    ValueError
        The axes are not orthogonal, or left-handed.
    """
    axes = np.asarray(supercell) @ np.asarray(structure_factors.cell)
    lengths = np.linalg.norm(axes, axis=1)
    cosines = np.abs(axes @ axes.T / np.outer(lengths, lengths) - np.eye(3)).max()
    if cosines > _SQUARE or np.linalg.det(axes) <= 0.0:
        raise ValueError(
            f"the axes of the supercell must be orthogonal and right-handed, got {np.asarray(supercell).tolist()} "
            f"with a largest cosine of {cosines:.2g}: choose other multiples of a, b and c"
        )
    return StructureFactorArray(
        structure_factors.array,
        hkl=structure_factors.hkl @ np.asarray(supercell).T,
        cell=np.diag(lengths),
        g_max=structure_factors.g_max,
    )
