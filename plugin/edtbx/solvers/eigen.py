"""Reference solver: one dense eigenproblem for each orientation, complex128, with its exact adjoint.

A_gh = U(h − g) M_g M_h, A_gg = 2 K S_g M_g², A = C Λ C†, and the flux through the exit face is
I_g(t) = |[exp(iπ t A/K)]_{g0}|². Costs O(N³) for each orientation; N counts the beams with |S_g| ≤ s_max there.

References
----------
C. J. Humphreys, Rep. Prog. Phys. 42, 1825 (1979), doi:10.1088/0034-4885/42/11/002.
J. Daleckii & S. Krein, Trudy Sem. Funktsion. Anal. 1, 81 (1956): derivative of a matrix function.
"""

from __future__ import annotations

import numpy as np

from edtbx.experiment import ComplexArray, FloatArray, IntArray
from edtbx.solvers.block import Block

_CLOSE = 1e-4
"""Phase difference in radians below which a divided difference gives way to its sinc form: there cancellation
would cost more than the eight digits that the derivatives promise."""


class EigenSolver:
    """Bloch waves by diagonalisation: the solver that the others are held to."""

    def intensities(self, block: Block) -> FloatArray:
        """Σ_b w_b I_h(b, t), shape (M, T)."""
        total = np.zeros((len(block.wanted), len(block.thickness)))
        phase = np.pi * block.thickness / block.wavenumber
        for b, weight in enumerate(block.weights):
            beams, rows, asked = _beams_of(block, b)
            if not asked.size:
                continue
            x, c = np.linalg.eigh(_matrix(block, b, beams))
            wave = c[rows] @ (c[0].conj()[:, None] * np.exp(1j * np.outer(x, phase)))
            total[asked] += weight * (wave.real**2 + wave.imag**2)
        return total

    def adjoint(self, block: Block, seed: FloatArray) -> ComplexArray:
        """∂T/∂u, shape (N, N), of T = Σ seed · intensities."""
        gradient = np.zeros_like(block.u)
        phase = np.pi * block.thickness / block.wavenumber
        for b, weight in enumerate(block.weights):
            beams, rows, asked = _beams_of(block, b)
            if not asked.size:
                continue
            x, c = np.linalg.eigh(_matrix(block, b, beams))
            by_matrix = _matrix_adjoint(x, c, rows, phase, weight * seed[asked])
            m = block.surface[b, beams]
            gradient[np.ix_(beams, beams)] += by_matrix * m[:, None] * m[None, :]
        np.fill_diagonal(gradient, 0.0)
        return gradient


def _beams_of(block: Block, b: int) -> tuple[IntArray, IntArray, IntArray]:
    """Beams that count at orientation b, the rows of the wanted ones among them, and which wanted ones these are."""
    near = np.abs(block.s_g[b]) <= block.s_max
    near[0] = True
    rank = np.cumsum(near) - 1
    asked = np.flatnonzero(near[block.wanted])
    return np.flatnonzero(near), rank[block.wanted[asked]], asked


def _matrix(block: Block, b: int, beams: IntArray) -> ComplexArray:
    m = block.surface[b, beams]
    a = block.u[np.ix_(beams, beams)] * m[:, None] * m[None, :]
    np.fill_diagonal(a, 2.0 * block.wavenumber * block.s_g[b, beams] * m * m)
    return a


def _matrix_adjoint(
    x: FloatArray, c: ComplexArray, rows: IntArray, phase: FloatArray, seed: FloatArray
) -> ComplexArray:
    """∂T/∂A (N, N) for eigenvalues x and eigenvectors c, phases (T,) and seeds (rows, T).

    dψ(t) = C [(C† dA C) ∘ Φ(t)] C†e_0 with Φ_jk(t) = iθ e^{iθ(x_j+x_k)/2} sinc(θ(x_j−x_k)/2), which away from
    degeneracy is the divided difference (e^{iθx_j} − e^{iθx_k})/(x_j − x_k): the sum over t is then one product.
    """
    wave_at = np.exp(1j * np.outer(x, phase))
    start = c[0].conj()
    wave = c[rows] @ (start[:, None] * wave_at)
    left = c[rows].conj().T @ (2.0 * seed * wave)
    inner = left.conj() @ wave_at.T
    gap = x[:, None] - x[None, :]
    close = np.abs(gap) * phase[-1] < _CLOSE
    divided = (np.diag(inner)[:, None] - inner) / np.where(close, 1.0, gap)
    j, k = np.nonzero(close)
    mean, half = 0.5 * (x[j] + x[k]), 0.5 * (x[j] - x[k])
    sinc = 1j * phase * np.exp(1j * np.outer(mean, phase)) * np.sinc(np.outer(half, phase) / np.pi)
    divided[j, k] = np.sum(left.conj()[j] * sinc, axis=1)
    return np.asarray(c @ (divided * start[None, :]).conj() @ c.conj().T)
