"""Bloch-wave solver: one dense eigenproblem for each orientation, complex128, with its exact adjoint.

A_gh = U(h − g) M_g M_h, A_gg = 2 K S_g M_g², A = C Λ C†, and the flux through the exit face is
I_g(t) = |[exp(iπ t A/K)]_{g0}|². Costs O(N³) for each orientation; N counts the beams with |S_g| ≤ s_max there.
The loops over orientations are compiled and release the interpreter lock, so that frames run in threads.

References
----------
C. J. Humphreys, Rep. Prog. Phys. 42, 1825 (1979), doi:10.1088/0034-4885/42/11/002.
J. Daleckii & S. Krein, Trudy Sem. Funktsion. Anal. 1, 81 (1956): derivative of a matrix function.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from edtbx.arrays import ComplexArray, FloatArray, IntArray
from edtbx.solvers.block import Adjoint, Block, Solver

_CLOSE = 1e-4
"""Phase difference in radians below which a divided difference gives way to its sinc form: there cancellation
would cost more than the eight digits that the derivatives promise."""


class EigenSolver(Solver):
    """Bloch waves by diagonalisation: the reference for the other solvers."""

    def intensities(self, block: Block) -> FloatArray:
        return _intensities(
            block.u.astype(complex),
            block.s_g,
            block.surface,
            block.weights,
            block.wanted,
            _phase(block),
            block.wavenumber,
            block.accuracy.s_max,
        )

    def adjoint(self, block: Block, seed: FloatArray) -> Adjoint:
        by_u, by_s = _adjoint(
            block.u.astype(complex),
            block.s_g,
            block.surface,
            np.einsum("jb,jmt->bmt", block.weights, seed, optimize=True),
            block.wanted,
            _phase(block),
            block.wavenumber,
            block.accuracy.s_max,
        )
        np.fill_diagonal(by_u, 0.0)
        return Adjoint(u=by_u if np.iscomplexobj(block.u) else by_u.real, s_g=by_s)


def _phase(block: Block) -> FloatArray:
    return np.pi * block.thickness / block.wavenumber


@njit(nogil=True, cache=True)
def _near(s_g: FloatArray, s_max: float) -> IntArray:
    """Beams (n,) with |S_g| ≤ s_max, the incident one first."""
    keep = np.abs(s_g) <= s_max
    keep[0] = True
    return np.nonzero(keep)[0]


@njit(nogil=True, cache=True)
def _matrix(u: ComplexArray, s_g: FloatArray, m: FloatArray, beams: IntArray, wavenumber: float) -> ComplexArray:
    """Structure matrix A (n, n) in Å⁻² of the given beams."""
    n = len(beams)
    a = np.empty((n, n), dtype=np.complex128)
    for i in range(n):
        for j in range(n):
            a[i, j] = u[beams[i], beams[j]] * (m[beams[i]] * m[beams[j]])
        a[i, i] = 2.0 * wavenumber * s_g[beams[i]] * m[beams[i]] ** 2
    return a


@njit(nogil=True, cache=True)
def _rows(beams: IntArray, wanted: IntArray, size: int) -> tuple[IntArray, IntArray]:
    """Rows (k,) of the wanted beams among the given ones, and their places (k,) among the wanted."""
    rank = np.full(size, -1)
    rank[beams] = np.arange(len(beams))
    asked = np.nonzero(rank[wanted] >= 0)[0]
    return rank[wanted[asked]], asked


@njit(nogil=True, cache=True)
def _intensities(
    u: ComplexArray,
    s_g: FloatArray,
    surface: FloatArray,
    weights: FloatArray,
    wanted: IntArray,
    phase: FloatArray,
    wavenumber: float,
    s_max: float,
) -> FloatArray:
    total = np.zeros((len(weights), len(wanted), len(phase)))
    for b in range(len(s_g)):
        beams = _near(s_g[b], s_max)
        rows, asked = _rows(beams, wanted, len(u))
        if len(asked) == 0:
            continue
        x, c = np.linalg.eigh(_matrix(u, s_g[b], surface[b], beams, wavenumber))
        wave = (c[rows] * np.conj(c[0])) @ np.exp(1j * np.outer(x, phase))
        for j in np.nonzero(weights[:, b])[0]:
            for k in range(len(asked)):
                total[j, asked[k]] += weights[j, b] * (wave[k].real ** 2 + wave[k].imag ** 2)
    return total


@njit(nogil=True, cache=True)
def _adjoint(
    u: ComplexArray,
    s_g: FloatArray,
    surface: FloatArray,
    seeds: FloatArray,
    wanted: IntArray,
    phase: FloatArray,
    wavenumber: float,
    s_max: float,
) -> tuple[ComplexArray, FloatArray]:
    gradient = np.zeros_like(u)
    by_s = np.zeros_like(s_g)
    for b in range(len(s_g)):
        beams = _near(s_g[b], s_max)
        rows, asked = _rows(beams, wanted, len(u))
        if len(asked) == 0:
            continue
        m = surface[b]
        x, c = np.linalg.eigh(_matrix(u, s_g[b], m, beams, wavenumber))
        by_matrix = _matrix_adjoint(x, c, rows, phase, seeds[b][asked])
        for i in range(len(beams)):
            by_s[b, beams[i]] = by_matrix[i, i].real * 2.0 * wavenumber * m[beams[i]] ** 2
            for j in range(len(beams)):
                gradient[beams[i], beams[j]] += by_matrix[i, j] * (m[beams[i]] * m[beams[j]])
    return gradient, by_s


@njit(nogil=True, cache=True)
def _matrix_adjoint(
    x: FloatArray, c: ComplexArray, rows: IntArray, phase: FloatArray, seed: FloatArray
) -> ComplexArray:
    """Derivatives ∂T/∂A (n, n) for eigenvalues x and eigenvectors c, phases (T,) and seeds (rows, T).

    dψ(t) = C [(C† dA C) ∘ Φ(t)] C†e_0 with Φ_jk(t) = iθ e^{iθ(x_j+x_k)/2} sinc(θ(x_j−x_k)/2), which away from
    degeneracy is the divided difference (e^{iθx_j} − e^{iθx_k})/(x_j − x_k): the sum over t is then one product.
    """
    wave_at = np.exp(1j * np.outer(x, phase))
    start = np.conj(c[0])
    picked = c[rows]
    wave = (picked * start) @ wave_at
    left = np.conj(picked.T) @ (2.0 * seed * wave)
    inner = np.conj(left) @ wave_at.T
    n, longest = len(x), np.max(phase)
    divided = np.empty((n, n), dtype=np.complex128)
    for j in range(n):
        for k in range(n):
            gap = x[j] - x[k]
            if abs(gap) * longest >= _CLOSE:
                divided[j, k] = (inner[j, j] - inner[j, k]) / gap
                continue
            total = 0.0j
            for t in range(len(phase)):
                half = 0.5 * phase[t] * gap
                # sinc to the fourth order is exact to rounding where it is used
                sinc = 1.0 - half * half / 6.0
                total += np.conj(left[j, t]) * 1j * phase[t] * np.exp(0.5j * phase[t] * (x[j] + x[k])) * sinc
            divided[j, k] = total
    return c @ np.conj(divided * start) @ np.conj(c.T)
