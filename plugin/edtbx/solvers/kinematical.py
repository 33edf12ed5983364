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
from edtbx.solvers.block import Adjoint, Block


class KinematicalSolver:
    """First Born approximation, surface term included."""

    approximation = "kinematical"

    def intensities(self, block: Block) -> FloatArray:
        """Σ_b w_jb I_h(b, t), shape (J, M, T)."""
        ones = np.ones((len(block.weights), len(block.wanted), len(block.thickness)))
        geometric, _ = _rocking_curves(*_arguments(block), ones)
        return np.asarray(np.abs(block.u[block.wanted, 0])[:, None] ** 2 * geometric)

    def adjoint(self, block: Block, seed: FloatArray) -> Adjoint:
        """Derivatives of T = Σ seed · intensities; only the first column of u couples."""
        square = np.abs(block.u[block.wanted, 0]) ** 2
        geometric, slopes = _rocking_curves(*_arguments(block), square[:, None] * seed)
        by_u, by_s = np.zeros_like(block.u), np.zeros_like(block.s_g)
        np.add.at(by_u[:, 0], block.wanted, 2.0 * block.u[block.wanted, 0] * np.einsum("jmt,jmt->m", seed, geometric))
        np.add.at(by_s.T, block.wanted, slopes)
        return Adjoint(u=by_u, s_g=by_s)


def _arguments(block: Block) -> tuple[FloatArray, FloatArray, FloatArray, IntArray, FloatArray, float]:
    phase = np.pi * block.thickness / block.wavenumber
    return block.s_g, block.surface, block.weights, block.wanted, phase, block.wavenumber


@njit(nogil=True, cache=True)
def _rocking_curves(
    s_g: FloatArray,
    surface: FloatArray,
    weights: FloatArray,
    wanted: IntArray,
    phase: FloatArray,
    wavenumber: float,
    seed: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Intensity per |U|², Σ_b w_jb (m sin(phase x)/x)² with x = K S m², shape (J, M, T); and its slope by S.

    The slope (M, B) is Σ_jt w_jb seed_jmt ∂/∂S.
    """
    total = np.zeros((len(weights), len(wanted), len(phase)))
    slopes = np.zeros((len(wanted), len(s_g)))
    for b in range(len(s_g)):
        some = np.nonzero(weights[:, b])[0]
        for row in range(len(wanted)):
            m = surface[b, wanted[row]]
            x = wavenumber * s_g[b, wanted[row]] * m * m
            for t in range(len(phase)):
                angle = x * phase[t]
                if abs(angle) < 1e-4:
                    wave, by_x = phase[t] * (1.0 - angle * angle / 6.0), -(phase[t] ** 3) * x / 3.0
                else:
                    wave = np.sin(angle) / x
                    by_x = (phase[t] * np.cos(angle) - wave) / x
                for j in some:
                    total[j, row, t] += weights[j, b] * (m * wave) ** 2
                    slopes[row, b] += weights[j, b] * seed[j, row, t] * 2.0 * m * m * wave * by_x * wavenumber * m * m
    return total, slopes
