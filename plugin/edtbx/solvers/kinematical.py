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

_SMALL = 1e-4
"""Phase below which sin(phase)/phase is taken for that of this phase: it differs from 1 by 2e-9."""

_EQUAL = 1e-12
"""Part of the greatest phase by which steps between phases may differ and still be the same."""


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
        slopes = _slopes(*_arguments(block), np.ascontiguousarray(np.swapaxes(seed, 1, 2)))
        np.add.at(by_s.T, block.wanted, square[:, None] * slopes.T)
        return Adjoint(u=by_u, s_g=by_s)


def _arguments(block: Block) -> tuple[FloatArray, FloatArray, FloatArray, IntArray, FloatArray, float]:
    phase = np.pi * block.thickness / block.wavenumber
    return block.s_g, block.surface, block.weights, block.wanted, phase, block.wavenumber


@njit(nogil=True, cache=True, fastmath=True)
def _rocking_curves(
    s_g: FloatArray, surface: FloatArray, weights: FloatArray, wanted: IntArray, phase: FloatArray, wavenumber: float
) -> FloatArray:
    """Intensity per |U|², Σ_b w_jb (m sin(phase x)/x)² with x = K S m², shape (J, M, T)."""
    total = np.zeros((len(weights), len(phase), len(wanted)))
    sine, cosine, by_sine, by_cosine = np.empty((4, len(wanted)))
    for b in range(len(s_g)):
        sums = np.nonzero(weights[:, b])[0]
        m, x = _at_beams(s_g[b], surface[b], wanted, phase, wavenumber)
        square = (m / x) ** 2
        for t in range(len(phase)):
            _turn(sine, cosine, by_sine, by_cosine, x, phase, t)
            for j in sums:
                _add_squares(total[j, t], sine, square, weights[j, b])
    return total.transpose(0, 2, 1)


@njit(nogil=True, cache=True, fastmath=True)
def _slopes(
    s_g: FloatArray,
    surface: FloatArray,
    weights: FloatArray,
    wanted: IntArray,
    phase: FloatArray,
    wavenumber: float,
    seed: FloatArray,
) -> FloatArray:
    """Σ_jt w_jb seed_jtm ∂/∂S of the same before the sum, shape (B, M), for a seed (J, T, M)."""
    slopes = np.zeros((len(s_g), len(wanted)))
    sine, cosine, by_sine, by_cosine = np.empty((4, len(wanted)))
    for b in range(len(s_g)):
        sums = np.nonzero(weights[:, b])[0]
        m, x = _at_beams(s_g[b], surface[b], wanted, phase, wavenumber)
        inverse = 1.0 / x
        for t in range(len(phase)):
            _turn(sine, cosine, by_sine, by_cosine, x, phase, t)
            for j in sums:
                _add_products(slopes[b], seed[j, t], sine, cosine, inverse, phase[t], weights[j, b])
        for row in range(len(wanted)):
            # even in x but for the sign
            signed = wavenumber * s_g[b, wanted[row]] * m[row] * m[row] * inverse[row]
            slopes[b, row] *= 2.0 * wavenumber * m[row] ** 4 * inverse[row] * signed
    return slopes


@njit(nogil=True, cache=True, fastmath=True)
def _at_beams(
    s_g: FloatArray, surface: FloatArray, wanted: IntArray, phase: FloatArray, wavenumber: float
) -> tuple[FloatArray, FloatArray]:
    """m and |x| (M,), the latter away from 0: sin(phase x)/x is even, and no different there."""
    m, x = np.empty(len(wanted)), np.empty(len(wanted))
    least = _SMALL / max(np.max(phase), 1e-300)
    for row in range(len(wanted)):
        m[row] = surface[wanted[row]]
        x[row] = max(abs(wavenumber * s_g[wanted[row]] * m[row] * m[row]), least)
    return m, x


@njit(nogil=True, cache=True, fastmath=True)
def _turn(
    sine: FloatArray,
    cosine: FloatArray,
    by_sine: FloatArray,
    by_cosine: FloatArray,
    x: FloatArray,
    phase: FloatArray,
    t: int,
) -> None:
    """Turn sin(phase x) and cos(phase x) (M,) from one phase to the next, by sines and cosines that hold for equal steps."""
    if t == 0:
        sine[:], cosine[:] = np.sin(phase[0] * x), np.cos(phase[0] * x)
        return
    step = phase[t] - phase[t - 1]
    if t == 1 and abs(step - phase[0]) <= _EQUAL * abs(phase[-1]):
        by_sine[:], by_cosine[:] = sine, cosine
    elif t == 1 or abs(step - phase[t - 1] + phase[t - 2]) > _EQUAL * abs(phase[-1]):
        by_sine[:], by_cosine[:] = np.sin(step * x), np.cos(step * x)
    for row in range(len(x)):
        before = sine[row]
        sine[row] = by_cosine[row] * before + by_sine[row] * cosine[row]
        cosine[row] = by_cosine[row] * cosine[row] - by_sine[row] * before


@njit(nogil=True, cache=True, fastmath=True)
def _add_squares(total: FloatArray, sine: FloatArray, square: FloatArray, weight: float) -> None:
    """total += weight · square · sine²."""
    for row in range(len(total)):
        total[row] += weight * square[row] * sine[row] * sine[row]


@njit(nogil=True, cache=True, fastmath=True)
def _add_products(
    total: FloatArray,
    seed: FloatArray,
    sine: FloatArray,
    cosine: FloatArray,
    inverse: FloatArray,
    phase: float,
    weight: float,
) -> None:
    """total += weight · seed · wave (phase cosine − wave), wave = sine/x."""
    for row in range(len(total)):
        wave = sine[row] * inverse[row]
        total[row] += weight * seed[row] * wave * (phase * cosine[row] - wave)
