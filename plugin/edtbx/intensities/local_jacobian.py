"""Approximate rows of a Jacobian from the strong beams near each orientation, at the cost of a few forward passes.

A least-squares step needs the exact gradient where it ends, not an exact Jacobian. So each orientation is treated alone:
its strong beams, |S_g| ≤ ``s_strong``, with the weak ones folded into their coupling (Bethe) and then held, are
diagonalised once, A = C Λ C†. With ψ(t) = exp(iθA) e_0, θ = π t/K, and q(x) = Σ_t 2 w_t conj(ψ_m(t)) e^{iθx}, each
reflection m among them has ∂I_m/∂A = conj(C* diag(C_m) D diag(C_0*) Cᵀ), where D_jk = (q(x_j) − q(x_k))/(x_j − x_k) is
a divided difference (Daleckii–Krein). Costs O(n³ (c + m)) for an orientation with n strong beams, m of them wanted; with
no beam folded the rows are those of the eigensolver. Single precision where the tolerance of the block allows it.

References
----------
H. Bethe, Ann. Phys. 392, 55 (1928), doi:10.1002/andp.19283921704, section 13.
J. Daleckii & S. Krein, Trudy Sem. Funktsion. Anal. 1, 81 (1956): derivative of a matrix function.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numba import njit

from edtbx.arrays import BoolArray, ComplexArray, FloatArray, IntArray
from edtbx.intensities.potential import GVectors, add_differences
from edtbx.solvers.block import Block, Coupling
from edtbx.solvers.precision import in_single, unit_phases

_CLOSE = {"float32": 1e-2, "float64": 1e-4}
"""Phase difference in radians below which a divided difference gives way to the mean of the derivatives at either end."""


def local_jacobian(
    block: Block, seed: FloatArray, vectors: GVectors, hkl: IntArray
) -> Iterator[tuple[int, IntArray, ComplexArray]]:
    """Rows ∂/∂Re U + i ∂/∂Im U of Σ_jt seed_jt I_m(j, t): the place of m, the places of g (n,), the derivatives (n,).

    ``hkl`` (N, 3) are the indices of the beams among the ``vectors``; the seed (J, T) is one for all.
    """
    accuracy = block.accuracy
    near = np.abs(block.s_g) <= accuracy.s_max
    strong = near & (np.abs(block.s_g) <= accuracy.s_strong)
    strong[:, 0] = True
    beams = _first(strong)
    u = in_single(block.u) if accuracy.single else block.u
    kind = u.real.dtype
    surface, seeds = block.surface.astype(kind), (block.weights.T @ seed).astype(kind)
    values, waves = _diagonalised(u, block.s_g, surface, beams, near & ~strong, block.wavenumber)
    phase = np.pi * block.thickness / block.wavenumber
    turned = unit_phases((values[:, :, None] * phase).astype(kind))
    row = np.zeros(len(vectors.hkl), dtype=complex)
    for place, beam in enumerate(block.wanted):
        orientations = np.flatnonzero(strong[:, beam])
        coupled = _ever(beams, orientations, len(hkl))
        by_coupling = _by_coupling(
            beam, orientations, coupled, beams, values, waves, surface, phase, turned, seeds, _CLOSE[kind.name]
        )
        add_differences(vectors.position, vectors.extent, hkl[coupled], by_coupling, row)
        yield place, *filled(row)


@njit(nogil=True, cache=True)
def filled(row: ComplexArray) -> tuple[IntArray, ComplexArray]:
    """Places (n,) and values (n,) of the non-zero elements of a row, which is then set to zero."""
    number = 0
    for place in range(len(row)):
        number += row[place] != 0.0
    where, values = np.empty(number, dtype=np.int64), np.empty(number, dtype=row.dtype)
    number = 0
    for place in range(len(row)):
        if row[place] != 0.0:
            where[number], values[number] = place, row[place]
            row[place] = 0.0
            number += 1
    return where, values


def _first(chosen: BoolArray) -> IntArray:
    """Places (B, n) where each row (B, N) is true, filled up with −1."""
    count = chosen.sum(axis=1)
    order = np.argsort(~chosen, axis=1, kind="stable")[:, : count.max()]
    return np.where(np.arange(order.shape[1]) < count[:, None], order, -1)


@njit(nogil=True, cache=True)
def _ever(beams: IntArray, orientations: IntArray, number: int) -> IntArray:
    """Beams (below ``number``) that at least one of the orientations lists (B, n), −1 filling up."""
    listed = np.zeros(number + 1, dtype=np.bool_)
    for b in orientations:
        for beam in beams[b]:
            listed[beam] = True
    return np.nonzero(listed[:number])[0]


@njit(nogil=True, cache=True)
def _diagonalised(
    u: Coupling, s_g: FloatArray, surface: FloatArray, beams: IntArray, weak: BoolArray, wavenumber: float
) -> tuple[FloatArray, Coupling]:
    """Eigenvalues (B, n) and eigenvectors (B, n, n) of the strong beams of every orientation."""
    size = beams.shape[1]
    values, vectors = np.zeros((len(beams), size)), np.zeros((len(beams), size, size), dtype=u.dtype)
    for b in range(len(beams)):
        strong = beams[b][beams[b] >= 0]
        folded = np.nonzero(weak[b])[0]
        n = len(strong)
        a, left = np.empty((n, n), dtype=u.dtype), np.empty((n, len(folded)), dtype=u.dtype)
        for i in range(n):
            for j in range(n):
                a[i, j] = u[strong[i], strong[j]] if i != j else 2.0 * wavenumber * s_g[b, strong[i]]
            for j in range(len(folded)):
                left[i, j] = u[strong[i], folded[j]]
        right = np.conj(left.T).copy()
        for j in range(len(folded)):
            inverse = 0.5 / (wavenumber * s_g[b, folded[j]])
            for i in range(n):
                right[j, i] *= inverse
        a -= left @ right
        for i in range(n):
            for j in range(n):
                a[i, j] *= surface[b, strong[i]] * surface[b, strong[j]]
        x, c = np.linalg.eigh(a)
        values[b, :n] = x
        vectors[b, :n, :n] = c
    return values, vectors


@njit(nogil=True, cache=True)
def _by_coupling(
    beam: int,
    orientations: IntArray,
    coupled: IntArray,
    beams: IntArray,
    values: FloatArray,
    vectors: Coupling,
    surface: FloatArray,
    phase: FloatArray,
    turned: ComplexArray,
    seeds: FloatArray,
    close: float,
) -> Coupling:
    """Derivatives (N', N') of the intensity of a beam by the coupling of the beams (N',) that are strong together with it.

    ``turned`` (B, n, T) is exp(iθx).
    """
    total = np.zeros((len(coupled), len(coupled)), dtype=vectors.dtype)
    for b in orientations:
        strong = beams[b][beams[b] >= 0]
        n = len(strong)
        c = np.ascontiguousarray(vectors[b, :n, :n])
        by_matrix = _by_matrix(
            values[b, :n], c, int(np.searchsorted(strong, beam)), phase, turned[b, :n], seeds[b], close
        )
        place = np.searchsorted(coupled, strong)
        m = surface[b][strong]
        for i in range(n):
            line = total[place[i]]
            for j in range(n):
                line[place[j]] += m[i] * m[j] * by_matrix[i, j]
    for i in range(len(coupled)):
        total[i, i] = 0.0
    return np.conj(total)


@njit(nogil=True, cache=True)
def _by_matrix(
    x: FloatArray, c: Coupling, beam: int, phase: FloatArray, turned: ComplexArray, seed: FloatArray, close: float
) -> Coupling:
    """The conjugate of ∂/∂A (n, n) of Σ_t seed_t |ψ_beam(t)|²; ``turned`` (n, T) is exp(iθx), x ascends."""
    n = len(x)
    start, end = np.conj(c[0]), c[beam]
    bar = np.conj((start * end).astype(turned.dtype) @ turned)
    for t in range(len(seed)):
        bar[t] *= 2 * seed[t]
    q = turned @ bar
    divided = np.empty_like(c)
    parts, q_parts = divided.view(seed.dtype), q.view(seed.dtype)  # where c is real, only real parts are of use
    width = parts.shape[1] // n
    _differences(x.astype(seed.dtype), q_parts, parts, width)
    least = close / np.max(phase)
    for t in range(len(phase)):
        bar[t] *= 1j * phase[t]
    slope = turned @ bar
    for j in range(n):
        k = j
        while k >= 0 and x[j] - x[k] < least:
            value = 0.5 * (slope[j] + slope[k])
            parts[j, width * k] = parts[k, width * j] = value.real
            if width == 2:
                parts[j, 2 * k + 1] = parts[k, 2 * j + 1] = value.imag
            k -= 1
    for j in range(n):
        for k in range(n):
            divided[j, k] *= end[j] * start[k]
    return np.conj(c) @ divided @ c.T


@njit(nogil=True, cache=True, fastmath=True)
def _differences(x: FloatArray, q: FloatArray, parts: FloatArray, width: int) -> None:
    """(q_j − q_k)/(x_j − x_k) (n, n width), real and imaginary parts in turn or the real ones, of q (2n,); 0 for equal x."""
    for j in range(len(x)):
        for k in range(len(x)):
            gap = x[j] - x[k]
            inverse = 1 / gap if gap != 0 else gap
            for part in range(width):
                parts[j, width * k + part] = (q[2 * j + part] - q[2 * k + part]) * inverse
