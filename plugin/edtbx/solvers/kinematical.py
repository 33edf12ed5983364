"""Kinematical solver: single scattering, every reflection proportional to |F|².

I_g = |π t U_g M_g/K|² sinc²(t S_g). Summed over the tilts of a frame this is |F|² times its Lorentz factor,
1/|g_y| in a continuous rotation, without any further correction.

References
----------
J. M. Cowley, Diffraction Physics (1995), chapter 5.
"""

from __future__ import annotations

import numpy as np

from edtbx.experiment import ComplexArray, FloatArray
from edtbx.solvers.block import Block


class KinematicalSolver:
    """First Born approximation, surface term included."""

    def intensities(self, block: Block) -> FloatArray:
        """Σ_b w_b I_h(b, t), shape (M, T)."""
        return np.asarray(np.abs(block.u[block.wanted, 0])[:, None] ** 2 * _geometric(block))

    def adjoint(self, block: Block, seed: FloatArray) -> ComplexArray:
        """∂T/∂u, shape (N, N), of T = Σ seed · intensities; only the first column couples."""
        gradient = np.zeros_like(block.u)
        value = 2.0 * block.u[block.wanted, 0] * np.sum(seed * _geometric(block), axis=1)
        np.add.at(gradient[:, 0], block.wanted, value)
        return gradient


def _geometric(block: Block) -> FloatArray:
    """Intensity per |U|² (M, T): all that does not depend on the structure."""
    phase = np.pi * block.thickness / block.wavenumber
    m = block.surface[:, block.wanted, None]
    each = (m * phase) ** 2 * np.sinc(block.s_g[:, block.wanted, None] * m**2 * block.thickness) ** 2
    return np.einsum("b,bmt->mt", block.weights, each)
