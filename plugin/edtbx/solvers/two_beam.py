"""Two-beam solver: every reflection interferes with the incident beam alone.

With u = U_g M_g and s = K S_g M_g², I_g = |u|² sin²(π t √(s² + |u|²)/K)/(s² + |u|²).

References
----------
P. B. Hirsch et al., Electron Microscopy of Thin Crystals (1965), chapter 8.
"""

from __future__ import annotations

import numpy as np

from edtbx.arrays import FloatArray
from edtbx.solvers.block import Adjoint, Block, Solver


class TwoBeamSolver(Solver):
    """Closed form for one reflection at a time; the intensity of the incident beam is taken as 1."""

    approximation = "two_beam"

    def intensities(self, block: Block) -> FloatArray:
        squared, argument, phase = _terms(block)
        sine = phase * np.sinc(argument[..., None] * phase / np.pi)
        flux = squared[..., None] * sine * sine
        flux[:, block.wanted == 0] = 1.0
        return np.asarray(np.tensordot(block.weights, flux, 1))

    def adjoint(self, block: Block, seed: FloatArray) -> Adjoint:
        # |u|² stands for the product u_g0 u_0g of the two elements of a Hermitian pair, each of which takes half
        squared, x, phase = _terms(block)
        x = x[..., None]
        sinc = np.sinc(x * phase / np.pi)
        sine = phase * sinc
        slope = np.where(
            x * phase > 1e-3, (phase * np.cos(x * phase) - sine) / np.maximum(x, 1e-30) ** 2, -(phase**3) / 3
        )
        # sine depends on x² = s² + |u|² only, with d sine/d(x²) = slope/2
        seeds = np.tensordot(block.weights.T, seed, 1)
        by_x_squared = np.einsum("bmt,bmt->bm", squared[..., None] * sine * slope, seeds)
        m = block.surface[:, block.wanted]
        by_square = np.einsum("bmt,bmt->bm", sine * sine, seeds) + by_x_squared
        by_detuning = 2.0 * block.wavenumber * block.s_g[:, block.wanted] * m * m * by_x_squared
        gradient, by_s = np.zeros_like(block.u), np.zeros_like(block.s_g)
        for place, beam in enumerate(block.wanted):
            if beam != 0:
                value = by_square[:, place] @ m[:, place] ** 2
                gradient[beam, 0] += value * block.u[beam, 0]
                gradient[0, beam] += value * np.conj(block.u[beam, 0])
                by_s[:, beam] += block.wavenumber * m[:, place] ** 2 * by_detuning[:, place]
        return Adjoint(u=gradient, s_g=by_s)


def _terms(block: Block) -> tuple[FloatArray, FloatArray, FloatArray]:
    """|u|² and √(s² + |u|²), each (B, M), and the phases π t/K (T,)."""
    m = block.surface[:, block.wanted]
    squared = np.abs(block.u[block.wanted, 0] * m) ** 2
    detuning = block.wavenumber * block.s_g[:, block.wanted] * m * m
    return squared, np.sqrt(detuning**2 + squared), np.pi * block.thickness / block.wavenumber
