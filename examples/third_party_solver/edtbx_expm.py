"""A solver from outside: waves by scipy's matrix exponential, one orientation and one thickness at a time.

ψ = exp(iπ t A/K) e_0 with A_gh = U(h − g) M_g M_h, A_gg = 2 K S_g M_g²; the flux of a beam is |ψ_g|².
Slow, and no beam is ever left out: what counts here is what edtbx asks of a solver, and how little that is.
"""

import numpy as np
from scipy.linalg import expm, expm_frechet

from edtbx import Adjoint, Solver, hookimpl


class ExpmSolver(Solver):
    """Intensities are all that is needed; ``adjoint`` is for refinement and maps."""

    def intensities(self, block):
        total = np.zeros((len(block.weights), len(block.wanted), len(block.thickness)))
        for b, weights in enumerate(block.weights.T):
            for n, exponent in enumerate(exponents(block, b)):
                wave = expm(exponent)[block.wanted, 0]
                total[:, :, n] += np.outer(weights, np.abs(wave) ** 2)
        return total

    def adjoint(self, block, seed):
        by_u, by_s_g = np.zeros(block.u.shape, dtype=complex), np.zeros_like(block.s_g)
        for b, weights in enumerate(block.weights.T):
            by_matrix = np.zeros_like(by_u)
            for n, exponent in enumerate(exponents(block, b)):
                wave = expm(exponent)[:, 0]
                by_wave = np.zeros_like(by_u)  # of the first column of the exponential, ∂T/∂Re ψ + i ∂T/∂Im ψ
                np.add.at(by_wave[:, 0], block.wanted, 2.0 * (weights @ seed[:, :, n]) * wave[block.wanted])
                by_exponent = expm_frechet(exponent.conj().T, by_wave, compute_expm=False)
                by_matrix -= 1j * np.pi * block.thickness[n] / block.wavenumber * by_exponent
            m = block.surface[b]
            by_s_g[b] = 2.0 * block.wavenumber * m * m * by_matrix.diagonal().real
            by_u += by_matrix * np.outer(m, m)
        np.fill_diagonal(by_u, 0.0)
        return Adjoint(u=by_u if np.iscomplexobj(block.u) else by_u.real, s_g=by_s_g)


def exponents(block, b):
    """iπ t A/K of orientation b at each thickness."""
    m = block.surface[b]
    a = block.u * np.outer(m, m)
    np.fill_diagonal(a, 2.0 * block.wavenumber * block.s_g[b] * m * m)
    return [1j * np.pi * t / block.wavenumber * a for t in block.thickness]


@hookimpl
def edtbx_register_solvers(register):
    register("expm", ExpmSolver)
