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

from edtbx.arrays import FloatArray, IntArray
from edtbx.solvers.block import Adjoint, Block, Solver


class KinematicalSolver(Solver):
    """Kinematical intensities (first Born approximation), surface term included."""

    approximation = "kinematical"

    def intensities(self, block: Block) -> FloatArray:
        return np.asarray(np.abs(block.u[block.wanted, 0])[:, None] ** 2 * _rocking_curves(*_arguments(block)))

    def adjoint(self, block: Block, seed: FloatArray) -> Adjoint:
        # only the first column of u couples
        by_square = np.einsum("jmt,jmt->m", seed, _rocking_curves(*_arguments(block)))
        by_u, by_s = np.zeros_like(block.u), np.zeros_like(block.s_g)
        np.add.at(by_u[:, 0], block.wanted, 2.0 * block.u[block.wanted, 0] * by_square)
        square = np.abs(block.u[block.wanted, 0]) ** 2
        np.add.at(by_s.T, block.wanted, square[:, None] * _slopes(*_arguments(block), seed))
        return Adjoint(u=by_u, s_g=by_s)


def _arguments(block: Block) -> tuple[FloatArray, FloatArray, FloatArray, IntArray, FloatArray, float]:
    phase = np.pi * block.thickness / block.wavenumber
    return block.s_g, block.surface, block.weights, block.wanted, phase, block.wavenumber


@njit(nogil=True, cache=True)
def _rocking_curves(
    s_g: FloatArray, surface: FloatArray, weights: FloatArray, wanted: IntArray, phase: FloatArray, wavenumber: float
) -> FloatArray:
    """Intensity per |U|², Σ_b w_jb (m sin(phase x)/x)² with x = K S m², shape (J, M, T)."""
    total = np.zeros((len(weights), len(wanted), len(phase)))
    for b in range(len(s_g)):
        sums = np.nonzero(weights[:, b])[0]
        for row in range(len(wanted)):
            m = surface[b, wanted[row]]
            x = wavenumber * s_g[b, wanted[row]] * m * m
            for t in range(len(phase)):
                wave = m * _sine(x, phase[t])
                for j in sums:
                    total[j, row, t] += weights[j, b] * wave * wave
    return total


@njit(nogil=True, cache=True)
def _slopes(
    s_g: FloatArray,
    surface: FloatArray,
    weights: FloatArray,
    wanted: IntArray,
    phase: FloatArray,
    wavenumber: float,
    seed: FloatArray,
) -> FloatArray:
    """Σ_jt w_jb seed_jmt ∂/∂S of the same before the sum, shape (M, B)."""
    slopes = np.zeros((len(wanted), len(s_g)))
    for b in range(len(s_g)):
        sums = np.nonzero(weights[:, b])[0]
        for row in range(len(wanted)):
            m = surface[b, wanted[row]]
            x = wavenumber * s_g[b, wanted[row]] * m * m
            for t in range(len(phase)):
                wave = _sine(x, phase[t])
                angle = x * phase[t]
                by_x = -(phase[t] ** 3) * x / 3.0 if abs(angle) < 1e-4 else (phase[t] * np.cos(angle) - wave) / x
                for j in sums:
                    slopes[row, b] += weights[j, b] * seed[j, row, t] * 2.0 * wavenumber * m**4 * wave * by_x
    return slopes


@njit(nogil=True, cache=True)
def _sine(x: float, phase: float) -> float:
    """sin(phase x)/x."""
    angle = x * phase
    return phase * (1.0 - angle * angle / 6.0) if abs(angle) < 1e-4 else np.sin(angle) / x
