"""Kinematical solver: single scattering, every reflection proportional to |F|².

I_g = |π t U_g M_g/K|² sinc²(t S_g). Summed over the tilts of a frame this is |F|² times its Lorentz factor,
1/|g_y| in a continuous rotation, without any further correction.

References
----------
J. M. Cowley, Diffraction Physics (1995), chapter 5.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from edtbx.experiment import FloatArray, IntArray
from edtbx.solvers.block import Block, Coupling


class KinematicalSolver:
    """First Born approximation, surface term included."""

    def intensities(self, block: Block) -> FloatArray:
        """Σ_b w_jb I_h(b, t), shape (J, M, T)."""
        return np.asarray(np.abs(block.u[block.wanted, 0])[:, None] ** 2 * _geometric(block))

    def adjoint(self, block: Block, seed: FloatArray) -> Coupling:
        """∂T/∂u, shape (N, N), of T = Σ seed · intensities; only the first column couples."""
        gradient = np.zeros_like(block.u)
        value = 2.0 * block.u[block.wanted, 0] * np.einsum("jmt,jmt->m", seed, _geometric(block))
        np.add.at(gradient[:, 0], block.wanted, value)
        return gradient


def _geometric(block: Block) -> FloatArray:
    """Intensity per |U|² (J, M, T): all that does not depend on the structure."""
    phase = np.pi * block.thickness / block.wavenumber
    return np.asarray(_rocking_curves(block.s_g, block.surface, block.weights, block.wanted, phase, block.wavenumber))


@njit(nogil=True, cache=True)
def _rocking_curves(
    s_g: FloatArray, surface: FloatArray, weights: FloatArray, wanted: IntArray, phase: FloatArray, wavenumber: float
) -> FloatArray:
    """Σ_b w_jb (m sin(phase x)/x)², shape (J, M, T), with x = K S m²."""
    total = np.zeros((len(weights), len(wanted), len(phase)))
    each = np.empty(len(phase))
    for b in range(len(s_g)):
        some = np.nonzero(weights[:, b])[0]
        for row in range(len(wanted)):
            m = surface[b, wanted[row]]
            x = wavenumber * s_g[b, wanted[row]] * m * m
            for t in range(len(phase)):
                wave = m * phase[t] if abs(x * phase[t]) < 1e-9 else m * np.sin(x * phase[t]) / x
                each[t] = wave * wave
            for j in some:
                for t in range(len(phase)):
                    total[j, row, t] += weights[j, b] * each[t]
    return total
