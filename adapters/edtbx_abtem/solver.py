"""The solver ``abtem``: abTEM diagonalises the structure matrix of each orientation and propagates the incident wave.

A block has excitation errors and couplings, and no indices or cell: abTEM's own beams, structure matrix and surface terms
cannot be driven by it; the tests compare with them (``abtem_bloch``), starting from structure factors.
"""

from __future__ import annotations

from edtbx_abtem import _guard  # noqa: F401  # isort: skip  (first: it says what is missing)

import numpy as np
from abtem.bloch.dynamical import calculate_dynamical_scattering
from abtem.core.energy import energy2wavelength
from ase.cell import Cell

from edtbx.arrays import ComplexArray, FloatArray
from edtbx.constants import energy_from_wavelength
from edtbx.solvers.block import Block, Solver


class AbtemSolver(Solver):
    """Bloch waves by ``abtem.bloch.dynamical.calculate_dynamical_scattering``; no derivatives."""

    def intensities(self, block: Block) -> FloatArray:
        total = np.zeros((len(block.weights), len(block.wanted), len(block.thickness)))
        for b, weights in enumerate(block.weights.T):
            flux = np.zeros((len(block.u), len(block.thickness)))
            near = np.abs(block.s_g[b]) <= block.accuracy.s_max
            near[0] = True
            flux[near] = np.abs(_amplitudes(block, b, near)) ** 2
            total += weights[:, None, None] * flux[block.wanted]
        return total


def _amplitudes(block: Block, b: int, near: np.ndarray) -> ComplexArray:
    """Amplitudes (n, T) of the beams of one orientation that are near the Ewald sphere, in the normalisation of the flux."""
    m, s_g = block.surface[b, near], block.s_g[b, near]
    matrix = block.u[np.ix_(near, near)].astype(complex) * np.outer(m, m)
    np.fill_diagonal(matrix, 2.0 * block.wavenumber * s_g * m**2)
    labels = np.repeat(np.arange(len(m))[:, None], 3, axis=1)  # abTEM looks for 000 only
    energy = energy_from_wavelength(1.0 / block.wavenumber)
    # abTEM's constants are those of CODATA 2014: its wavelength differs from 1/K by 5e-9
    lengths = block.thickness / (block.wavenumber * energy2wavelength(energy))
    # use_wave_eq: the matrix is symmetrised already, abTEM must not map it back
    waves = calculate_dynamical_scattering(matrix, labels, Cell(np.eye(3)), energy, lengths, use_wave_eq=True)
    return np.asarray(waves.T)
