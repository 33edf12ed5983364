"""What a solver should have returned, and what it would have returned with one of the usual mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edtbx.arrays import FloatArray
from edtbx.solvers.block import Block
from edtbx.solvers.eigen import EigenSolver
from edtbx.testing.crystal import incident_flux


def many_beam(block: Block) -> FloatArray:
    """Intensities (J, M, T) by the reference solver, ``eigen``."""
    return EigenSolver().intensities(block)


def two_beam(block: Block) -> FloatArray:
    """Intensities (J, M, T) of every wanted beam with the incident one alone.

    I = |u|² sin²(θ √(s² + |u|²))/(s² + |u|²) with θ = π t/K, u = U_g M_g, s = K S_g M_g².
    """
    u, s, theta = _two_beam_terms(block)
    root = np.sqrt(s * s + u * u)
    flux = (u / root * np.sin(theta * root)) ** 2
    flux[:, block.wanted == 0] = 1.0
    return np.asarray(np.tensordot(block.weights, flux, 1))


def kinematical(block: Block) -> FloatArray:
    """Intensities (J, M, T) by single scattering: I = |u|² sin²(θ s)/s², the letters as in :func:`two_beam`."""
    u, s, theta = _two_beam_terms(block)
    return np.asarray(np.tensordot(block.weights, (u * theta * np.sinc(theta * s / np.pi)) ** 2, 1))


def _two_beam_terms(block: Block) -> tuple[FloatArray, FloatArray, FloatArray]:
    m = block.surface[:, block.wanted, None]
    u = np.abs(block.u[block.wanted, 0])[:, None] * m
    s = block.wavenumber * block.s_g[:, block.wanted, None] * m * m
    return u, s, np.pi * block.thickness / block.wavenumber


Model = Callable[[Block], FloatArray]

MODELS: dict[str | None, Model] = {None: many_beam, "two_beam": two_beam, "kinematical": kinematical}
"""What is to be expected of a solver, by what it says of itself in its attribute ``approximation``."""


def one_by_one(model: Model, block: Block) -> list[FloatArray]:
    """Intensities (M, T) of each orientation."""
    parts = []
    for b in range(len(block.s_g)):
        orientation = slice(b, b + 1)
        part = replace(block, s_g=block.s_g[orientation], surface=block.surface[orientation], weights=np.ones((1, 1)))
        parts.append(model(part)[0])
    return parts


def weighted(block: Block, parts: list[FloatArray]) -> FloatArray:
    """Σ_b w_jb I(b), shape (J, M, T)."""
    return np.asarray(np.tensordot(block.weights, np.array(parts), 1))


def _amplitudes_squared(model: Model, block: Block) -> FloatArray:
    squared = block.surface[:, block.wanted, None] ** 2
    return weighted(block, [m * part for m, part in zip(squared, one_by_one(model, block), strict=True)])


def _with_mean_potential(block: Block) -> Block:
    return replace(block, s_g=block.s_g + block.u.diagonal().real / (2.0 * block.wavenumber))


def _on(change: Callable[[Block], Block]) -> Callable[[Model, Block], FloatArray]:
    return lambda model, block: model(change(block))


MISTAKES: dict[str, Callable[[Model, Block], FloatArray]] = {
    "the hand: u is used transposed; row g, column h of u is U(h − g)": _on(lambda b: replace(b, u=b.u.T.copy())),
    "the surface terms M_g are left out": _on(lambda b: replace(b, surface=np.ones_like(b.surface))),
    "M_g acts on the diagonal only; rows and columns take it: A_gh = U(h − g) M_g M_h": _on(
        lambda b: replace(b, s_g=b.s_g * b.surface**2, surface=np.ones_like(b.surface))
    ),
    "M_g acts off the diagonal only; A_gg = 2 K S_g M_g²": _on(lambda b: replace(b, s_g=b.s_g / b.surface**2)),
    "|ψ_g|² is returned; the flux is |ψ_g|²/M_g²": _amplitudes_squared,
    "the phase is half of π t A/K: a factor 2": _on(lambda b: replace(b, thickness=0.5 * b.thickness)),
    "the phase is twice π t A/K: a factor 2": _on(lambda b: replace(b, thickness=2.0 * b.thickness)),
    "the phase π t A/K lacks its π": _on(lambda b: replace(b, thickness=b.thickness / np.pi)),
    "S_g has the other sign": _on(lambda b: replace(b, s_g=-b.s_g)),
    "the diagonal of A is half of 2 K S_g M_g²": _on(lambda b: replace(b, s_g=0.5 * b.s_g)),
    "the diagonal of A is twice 2 K S_g M_g²": _on(lambda b: replace(b, s_g=2.0 * b.s_g)),
    "the diagonal of u is used; U(0) is in K already": _on(_with_mean_potential),
    "the weights are divided by their sum": lambda model, b: model(b) / incident_flux(b),
    "the weights are not used": _on(lambda b: replace(b, weights=np.ones_like(b.weights))),
}
"""What the reference gives with a mistake made on purpose, by a sentence that names the mistake."""


def recognised(model: Model, block: Block, intensities: FloatArray, error: float) -> str:
    """The mistake that explains an error (relative to the incident flux) to a hundredth of it; "" if none does."""
    for sentence, mistaken in MISTAKES.items():
        if relative(intensities, mistaken(model, block), block) < 0.01 * error:
            return sentence
    return ""


def relative(intensities: FloatArray, expected: FloatArray, block: Block) -> float:
    """Largest difference of two sets of intensities (J, M, T), as a part of the incident flux."""
    if intensities.shape != expected.shape:
        return np.inf
    difference = float(np.max(np.abs(intensities - expected) / incident_flux(block)))
    return difference if np.isfinite(difference) else np.inf
