"""Rows of a Jacobian for the price of a few forward passes, from few beams around the rocking curve of each reflection.

A least-squares step needs the exact gradient where it ends, not an exact Jacobian. So each orientation is treated alone:
its strong beams, |S_g| ≤ ``s_strong``, with the weak ones folded into their coupling (Bethe) and then held, are
diagonalised once, A = C Λ C†. With ψ(t) = exp(iθA) e_0, θ = π t/K, and q(x) = Σ_t 2 w_t conj(ψ_m(t)) e^{iθx}, each
reflection m among them has ∂I_m/∂A = conj(C* diag(C_m) D diag(C_0*) Cᵀ), where D_jk = (q(x_j) − q(x_k))/(x_j − x_k) is
a divided difference (Daleckii–Krein). Costs O(n³ (c + m)) for an orientation with n strong beams, m of them wanted; with
no beam folded the rows are those of the eigensolver.

References
----------
H. Bethe, Ann. Phys. 392, 55 (1928), doi:10.1002/andp.19283921704, section 13.
J. Daleckii & S. Krein, Trudy Sem. Funktsion. Anal. 1, 81 (1956): derivative of a matrix function.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numba import njit

from edtbx.experiment import BoolArray, ComplexArray, FloatArray, IntArray
from edtbx.potential import GVectors, add_differences
from edtbx.solvers.block import Block, Coupling

_CLOSE = 1e-4
"""Phase difference in radians below which a divided difference gives way to the derivative in the middle."""


def local_rows(
    block: Block, seed: FloatArray, vectors: GVectors, hkl: IntArray
) -> Iterator[tuple[int, IntArray, ComplexArray]]:
    """∂/∂Re U + i ∂/∂Im U of Σ_jt seed_jt I_m(j, t) for each wanted beam m: its place, the g with derivatives, and these.

    ``hkl`` (N, 3) are the indices of the beams among the ``vectors``; the seed (J, T) is one for all.
    """
    accuracy = block.accuracy
    near = np.abs(block.s_g) <= accuracy.s_max
    strong = near & (np.abs(block.s_g) <= accuracy.s_strong)
    strong[:, 0] = True
    beams = _first(strong)
    values, waves = _diagonalised(block.u, block.s_g, block.surface, beams, near & ~strong, block.wavenumber)
    phase = np.pi * block.thickness / block.wavenumber
    turned = np.exp(1j * values[:, :, None] * phase)
    seeds = block.weights.T @ seed
    row = np.zeros(len(vectors.hkl), dtype=complex)
    for place, beam in enumerate(block.wanted):
        of_beam = np.argmax(beams == beam, axis=1)
        of_beam[~strong[:, beam]] = -1
        _add_row(
            row,
            vectors.position,
            vectors.extent,
            hkl,
            beams,
            values,
            waves,
            block.surface,
            of_beam,
            phase,
            turned,
            seeds,
        )
        where, found = filled(row)
        row[where] = 0.0
        yield place, where, found


def filled(row: ComplexArray) -> tuple[IntArray, ComplexArray]:
    """Places of what is not zero, and copies of it."""
    where = np.flatnonzero(row)
    return where, row[where]


def _first(chosen: BoolArray) -> IntArray:
    """Where each row (B, N) is true, filled up with −1: (B, n)."""
    count = chosen.sum(axis=1)
    order = np.argsort(~chosen, axis=1, kind="stable")[:, : count.max()]
    return np.where(np.arange(order.shape[1]) < count[:, None], order, -1)


@njit(nogil=True, cache=True)
def _diagonalised(
    u: Coupling, s_g: FloatArray, surface: FloatArray, beams: IntArray, weak: BoolArray, wavenumber: float
) -> tuple[FloatArray, Coupling]:
    """Eigenvalues (B, n) and eigenvectors (B, n, n) of the strong beams of every orientation."""
    size = beams.shape[1]
    values, vectors = np.zeros((len(beams), size)), np.zeros((len(beams), size, size), dtype=u.dtype)
    for b in range(len(beams)):
        mine = beams[b][beams[b] >= 0]
        others = np.nonzero(weak[b])[0]
        n = len(mine)
        a, left = np.empty((n, n), dtype=u.dtype), np.empty((n, len(others)), dtype=u.dtype)
        for i in range(n):
            for j in range(n):
                a[i, j] = u[mine[i], mine[j]] if i != j else 2.0 * wavenumber * s_g[b, mine[i]]
            for j in range(len(others)):
                left[i, j] = u[mine[i], others[j]]
        right = np.conj(left.T).copy()
        for j in range(len(others)):
            right[j] *= 0.5 / (wavenumber * s_g[b, others[j]])
        a -= left @ right
        for i in range(n):
            for j in range(n):
                a[i, j] *= surface[b, mine[i]] * surface[b, mine[j]]
        x, c = np.linalg.eigh(a)
        values[b, :n] = x
        vectors[b, :n, :n] = c
    return values, vectors


@njit(nogil=True, cache=True)
def _add_row(
    row: ComplexArray,
    position: IntArray,
    extent: IntArray,
    hkl: IntArray,
    beams: IntArray,
    values: FloatArray,
    vectors: Coupling,
    surface: FloatArray,
    of_beam: IntArray,
    phase: FloatArray,
    turned: ComplexArray,
    seeds: FloatArray,
) -> None:
    """Add the derivatives (G,) of the intensity of one beam, whose place among those of each orientation is given."""
    for b in range(len(beams)):
        if of_beam[b] < 0:
            continue
        mine = beams[b][beams[b] >= 0]
        n = len(mine)
        c = np.ascontiguousarray(vectors[b, :n, :n])
        by_matrix = _by_matrix(values[b, :n], c, of_beam[b], phase, turned[b, :n], seeds[b])
        for i in range(n):
            for j in range(n):
                by_matrix[i, j] *= surface[b, mine[i]] * surface[b, mine[j]]
            by_matrix[i, i] = 0.0
        add_differences(position, extent, hkl[mine], by_matrix, row)


@njit(nogil=True, cache=True)
def _by_matrix(
    x: FloatArray, c: Coupling, beam: int, phase: FloatArray, turned: ComplexArray, seed: FloatArray
) -> Coupling:
    """∂/∂A (n, n) of Σ_t seed_t |ψ_beam(t)|²; ``turned`` (n, T) is exp(iθx)."""
    n, longest = len(x), np.max(phase)
    wave = (np.conj(c[0]) * c[beam]).astype(np.complex128) @ turned
    bar = 2.0 * seed * np.conj(wave)
    q = turned @ bar
    divided = np.empty_like(c)
    parts = divided.view(np.float64)  # where c is real, only the real part of a derivative is of use
    width = parts.shape[1] // n
    for j in range(n):
        for k in range(j + 1):
            gap = x[j] - x[k]
            if abs(gap) * longest >= _CLOSE:
                value = (q[j] - q[k]) / gap
            else:
                value = 1j * np.sum(bar * phase * np.exp(0.5j * phase * (x[j] + x[k])))
            parts[j, k * width] = parts[k, j * width] = value.real
            if width == 2:
                parts[j, 2 * k + 1] = parts[k, 2 * j + 1] = value.imag
    left, right = np.conj(c) * c[beam], (c * np.conj(c[0])).T
    return np.conj(left @ divided @ right)
