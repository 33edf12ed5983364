"""Waves of many orientations by one Chebyshev series, and its adjoint.

With H = (A − c)/ρ of spectrum within [−1, 1], exp(iθA) e_0 = e^{iθc} Σ_k (2 − δ_k0) i^k J_k(θρ) T_k(H) e_0. The terms obey
T_{k+1} = 2 H T_k − T_{k−1}; for B orientations that share their coupling each is one (n, n)·(n, B) matrix product and a
diagonal scaling, H = M a M + diag(d): ``a`` is shared, the columns of ``m`` and ``d`` belong to an orientation. Where ``a``
(n + v, n) has more rows than columns, the others belong to v beams that follow the n: of every term T they yield a M T.

Arrays of waves are kept as real ones (n, w): w = B where the coupling is real (then so are all terms), w = 2B with real
and imaginary parts in turn where it is complex. Costs 8 n² B operations a term, 2 n² B where the coupling is real.

References
----------
H. Tal-Ezer & R. Kosloff, J. Chem. Phys. 81, 3967 (1984), doi:10.1063/1.448136, equations 3.5 to 3.9.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from edtbx.arrays import ComplexArray, FloatArray, IntArray

_AT_ONCE = 8
"""Terms whose outer products are taken together."""


@njit(nogil=True, cache=True)
def series_length(argument: float, tolerance: float) -> int:
    """Number of terms after which Σ 2|J_k(argument)| of the rest is below the tolerance.

    For k > x, J_k(x) ≤ (1 − q²)^{-1/4} e^{−k(artanh q − q)}/√(2πk) with q² = 1 − (x/k)² (Debye), and falls at least
    geometrically.
    """
    k = max(int(argument), 1)
    step = max(1, int(0.3 * argument ** (1.0 / 3.0)))
    while True:
        k += step
        q = math.sqrt(1.0 - min(argument / k, 1.0) ** 2)
        if q <= 0.0:
            continue
        bound = math.exp(-k * (math.atanh(min(q, 1.0 - 1e-16)) - q)) / math.sqrt(2.0 * math.pi * k * q)
        ratio = math.exp(-math.atanh(min(q, 1.0 - 1e-16)))
        if 2.0 * bound / (1.0 - ratio) <= tolerance:
            return k + 1


@njit(nogil=True, cache=True)
def bessel(arguments: FloatArray, length: int) -> FloatArray:
    """J_k(x) (length, T) for k = 0 … length − 1, by downward recurrence (Miller) normalised by J_0 + 2 ΣJ_2k = 1."""
    table = np.zeros((length, len(arguments)))
    for t in range(len(arguments)):
        x = abs(arguments[t])
        if x < 1e-14:
            table[0, t] = 1.0
            continue
        start = int(max(length, x)) + 30 + int(4.0 * x ** (1.0 / 3.0))
        start += start % 2
        above, current, norm = 0.0, 1e-300, 0.0
        for k in range(start, -1, -1):
            if k < length:
                table[k, t] = current
            norm += current if k == 0 else (2.0 * current if k % 2 == 0 else 0.0)
            above, current = current, 2.0 * k / x * current - above
            if abs(current) > 1e200:
                above, current, norm = above * 1e-200, current * 1e-200, norm * 1e-200
                for j in range(k, length):
                    table[j, t] *= 1e-200
        for k in range(length):
            table[k, t] /= norm
            if arguments[t] < 0.0 and k % 2 == 1:
                table[k, t] = -table[k, t]
    return table


def coefficients(arguments: FloatArray, tolerance: float, kind: np.dtype[Any]) -> NDArray[Any]:
    """Coefficients (2 − δ_k0) i^k J_k (L, T) of the series for θρ (T,), odd terms times −i."""
    table = 2.0 * bessel(arguments, series_length(float(arguments.max()), 0.1 * tolerance))
    table[0] *= 0.5
    table[2::4] *= -1.0
    table[3::4] *= -1.0
    return np.asarray(table.astype(kind))


@njit(nogil=True, cache=True)
def greatest_eigenvalue(matrix: ComplexArray, diagonal: FloatArray, steps: int = 16) -> float:
    """Bound on the greatest eigenvalue of a Hermitian matrix (n, n) plus a diagonal (n,).

    Greatest Ritz value of some Lanczos steps, plus its residual. The start is the sum of the rows, rich in the extreme
    vectors of a potential, and a ripple so that symmetry hides none.
    """
    n = len(matrix)
    steps = min(steps, n)
    basis = np.zeros((steps, n), dtype=matrix.dtype)
    alpha, beta = np.zeros(steps), np.zeros(steps + 1)
    vector = matrix @ np.ones(n).astype(matrix.dtype)
    size = max(np.max(np.abs(vector)), np.max(np.abs(diagonal)))
    if size == 0.0:
        return 0.0
    top, width = np.max(diagonal), np.ptp(diagonal) + 1e-300
    for i in range(n):
        vector[i] += size * math.cos(1.7 * i) * (0.1 + math.exp(-20.0 * (top - diagonal[i]) / width))
    beta[0] = np.linalg.norm(vector)
    taken = 0
    while taken < steps and beta[taken] > 1e-6 * size:
        for i in range(n):
            basis[taken, i] = vector[i] / beta[taken]
        vector = matrix @ basis[taken]
        for i in range(n):
            vector[i] += diagonal[i] * basis[taken, i]
        taken += 1
        parts = np.conj(basis[:taken]) @ vector
        alpha[taken - 1] = parts[taken - 1].real
        vector -= basis[:taken].T.copy() @ parts
        beta[taken] = np.linalg.norm(vector)
    if taken == 0:
        return math.nan
    small = np.zeros((taken, taken))
    for k in range(taken):
        small[k, k] = alpha[k]
        if k > 0:
            small[k, k - 1] = small[k - 1, k] = beta[k]
    values, vectors = np.linalg.eigh(small)
    return float(values[-1] + beta[taken] * abs(vectors[-1, -1]))


def spectrum(coupling: NDArray[Any], m: FloatArray, diagonal: FloatArray) -> tuple[float, float]:
    """Bounds on the eigenvalues of m u m + diag(d) of all orientations, for the columns of m and d (n, B).

    A matrix with a greater diagonal has greater eigenvalues, so two matrices bound all of them; the surface terms m differ
    by less than the margin.
    """
    mean = m.mean(axis=1)
    shared = np.ascontiguousarray(coupling * np.outer(mean, mean).astype(coupling.real.dtype))
    highest = greatest_eigenvalue(shared, diagonal.max(axis=1))
    return -greatest_eigenvalue(-shared, -diagonal.min(axis=1)), highest


@njit(nogil=True, cache=True)
def picked_terms(
    a: ComplexArray, m: FloatArray, d: FloatArray, start: FloatArray, rows: IntArray, length: int
) -> tuple[FloatArray, float]:
    """Rows (k,) of all terms and the v following beams' share of them, (length, k + v, w), from the first term (n, w).

    The share of the last term is left out; its greatest element is returned as well.
    """
    n, w = d.shape
    picked = np.zeros((length, len(rows) + len(a) - n, w), dtype=d.dtype)
    before, current, x, product = np.zeros_like(d), start.copy(), np.empty_like(d), np.empty((len(a), w), dtype=d.dtype)
    for term in range(length):
        for r in range(len(rows)):
            picked[term, r] = current[rows[r]]
        if term + 1 < length:
            _scale(m, current, x)
            np.dot(a, x.view(a.dtype), product.view(a.dtype))
            picked[term, len(rows) :] = product[n:]
            _recur(m, d, product, current, before, term == 0)
            before, current = current, before
    return picked, np.max(np.abs(current))


@njit(nogil=True, cache=True)
def all_terms(
    a: ComplexArray, m: FloatArray, d: FloatArray, start: FloatArray, length: int
) -> tuple[FloatArray, FloatArray]:
    """All terms (length, n, w), and the v following beams' share of all but the last, (length, v, w)."""
    n, w = d.shape
    terms = np.empty((length, n, w), dtype=d.dtype)
    following = np.zeros((length, len(a) - n, w), dtype=d.dtype)
    x, product = np.empty_like(d), np.empty((len(a), w), dtype=d.dtype)
    terms[0] = start
    for term in range(1, length):
        _scale(m, terms[term - 1], x)
        np.dot(a, x.view(a.dtype), product.view(a.dtype))
        following[term - 1] = product[n:]
        _follow(m, d, product, terms[term - 1], terms[max(term - 2, 0)], terms[term], term == 1)
    return terms, following


@njit(nogil=True, cache=True)
def adjoint_terms(
    a_adjoint: ComplexArray, m: FloatArray, d: FloatArray, terms: FloatArray, rows: IntArray, seeds: FloatArray
) -> tuple[ComplexArray, FloatArray]:
    """∂T/∂a (n + v, n) and ∂T/∂d (n, w) for ``seeds`` ∂T/∂(picked terms) (length, k + v, w); ``a_adjoint`` is a†.

    ∂T/∂d is a real number for each column of the real arrays: the two columns of a complex wave are to be added.
    """
    n, w = d.shape
    size = a_adjoint.shape[1]
    by_a, by_d = np.zeros((size, n), dtype=a_adjoint.dtype), np.zeros_like(d)
    after, bar, product = np.zeros_like(d), np.zeros_like(d), np.empty_like(d)
    x = np.zeros((size, w), dtype=d.dtype)
    # outer products of some terms are taken at once: narrow products are slow
    left, right = np.zeros((size, _AT_ONCE * w), dtype=d.dtype), np.zeros((n, _AT_ONCE * w), dtype=d.dtype)
    filled = 0
    for term in range(len(terms) - 1, 0, -1):
        # bar of this term: seeds + 2 H† (bar of the next) − (bar of the one after that)
        if term < len(terms) - 1:
            x[n:] = seeds[term, len(rows) :] / 2
            np.dot(a_adjoint, x.view(a_adjoint.dtype), product.view(a_adjoint.dtype))
            _recur(m, d, product, bar, after, False)
            bar, after = after, bar
        for r in range(len(rows)):
            for j in range(w):
                bar[rows[r], j] += seeds[term, r, j]
        _scale(m, bar, x)
        _keep(x[:n], left, filled * w, term == 1)
        left[n:, filled * w : (filled + 1) * w] = seeds[term - 1, len(rows) :]
        _keep_conjugate(m, terms[term - 1], right, filled * w, np.iscomplexobj(a_adjoint))
        _correlate(by_d, bar, terms[term - 1], term == 1)
        filled += 1
        if filled == _AT_ONCE or term == 1:
            left[:, filled * w :] = 0.0
            by_a += np.dot(left.view(a_adjoint.dtype), right.view(a_adjoint.dtype).T)
            filled = 0
    return by_a, by_d


@njit(nogil=True, cache=True, fastmath=True)
def _scale(m: FloatArray, wave: FloatArray, out: FloatArray) -> None:
    """out ← M wave."""
    for i in range(wave.shape[0]):
        for j in range(wave.shape[1]):
            out[i, j] = m[i, j] * wave[i, j]


@njit(nogil=True, cache=True, fastmath=True)
def _keep(x: FloatArray, left: FloatArray, place: int, once: bool) -> None:
    """Store x (twice it, unless ``once``) from column ``place`` on for the next outer products."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            left[i, place + j] = x[i, j] if once else x[i, j] + x[i, j]


@njit(nogil=True, cache=True, fastmath=True)
def _keep_conjugate(m: FloatArray, wave: FloatArray, right: FloatArray, place: int, interleaved: bool) -> None:
    """Store the conjugate of M wave from column ``place`` on for the next outer products."""
    for i in range(wave.shape[0]):
        for j in range(wave.shape[1]):
            right[i, place + j] = m[i, j] * wave[i, j]
        if interleaved:
            for j in range(1, wave.shape[1], 2):
                right[i, place + j] = -right[i, place + j]


@njit(nogil=True, cache=True, fastmath=True)
def _recur(
    m: FloatArray, d: FloatArray, product: FloatArray, current: FloatArray, before: FloatArray, first: bool
) -> None:
    """before ← 2 H current − before, or H current for the first term; ``product`` is a M current."""
    for i in range(current.shape[0]):
        if first:
            for j in range(current.shape[1]):
                before[i, j] = m[i, j] * product[i, j] + d[i, j] * current[i, j]
        else:
            for j in range(current.shape[1]):
                value = m[i, j] * product[i, j] + d[i, j] * current[i, j]
                before[i, j] = value + value - before[i, j]


@njit(nogil=True, cache=True, fastmath=True)
def _follow(
    m: FloatArray,
    d: FloatArray,
    product: FloatArray,
    current: FloatArray,
    before: FloatArray,
    after: FloatArray,
    first: bool,
) -> None:
    """after ← 2 H current − before, or H current for the first term; ``product`` is a M current.

    Not for an ``after`` that is ``before``: the compiler then gives up on vectors, and :func:`_recur` is three times faster.
    """
    for i in range(current.shape[0]):
        if first:
            for j in range(current.shape[1]):
                after[i, j] = m[i, j] * product[i, j] + d[i, j] * current[i, j]
        else:
            for j in range(current.shape[1]):
                value = m[i, j] * product[i, j] + d[i, j] * current[i, j]
                after[i, j] = value + value - before[i, j]


@njit(nogil=True, cache=True, fastmath=True)
def _correlate(total: FloatArray, bar: FloatArray, wave: FloatArray, once: bool) -> None:
    """total += bar ∘ wave (twice it, unless ``once``)."""
    for i in range(total.shape[0]):
        for j in range(total.shape[1]):
            value = bar[i, j] * wave[i, j]
            total[i, j] += value if once else value + value
