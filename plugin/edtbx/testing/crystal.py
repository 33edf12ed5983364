"""Blocks of made-up crystals, small and without any symmetry that would hide a mistake."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.spatial.transform import Rotation

from edtbx.arrays import FloatArray
from edtbx.cell import Cell
from edtbx.intensities.potential import GVectors, indices_within, surface_term
from edtbx.measurement.geometry import excitation_error, orthogonalisation_matrix, rotate
from edtbx.solvers.block import Accuracy, Block

_CELL: Cell = (5.1, 6.2, 7.3, 88.0, 97.0, 104.0)
_G_MAX = 1.6
_S_MAX = 10.0
"""More than any |S_g| with |g| ≤ 1.6 Å⁻¹ and K > 1 Å⁻¹: no beam may be left out."""


def random_block(
    seed: int = 0,
    *,
    beams: int = 20,
    tilts: int = 3,
    wavenumber: float = 40.0,
    strength: float = 0.03,
    centric: bool = False,
    nearest: bool = True,
    tolerance: float = 1e-10,
) -> Block:
    """A block of a triclinic crystal in a random orientation, with beams of several Laue zones.

    Parameters
    ----------
    seed
        Of the orientation, the potential and the weights.
    wavenumber
        K in Å⁻¹: 40 is 200 kV; at 9 the Ewald sphere is curved so much that M_g differs from 1 by per cents.
    strength
        Of the potential, Å⁻².
    centric
        The origin is a centre of symmetry: u is real.
    nearest
        Take the beams nearest to the Ewald sphere; else any, most of them with large |S_g|.
    tolerance
        Goes into the accuracy of the block.
    """
    rng = np.random.default_rng(seed)
    vectors = _lattice()
    g = vectors.hkl @ (Rotation.from_quat(rng.normal(size=4)).as_matrix() @ orthogonalisation_matrix(_CELL)).T
    length = np.linalg.norm(g, axis=1)
    preference = np.abs(excitation_error(g, wavenumber)) if nearest else rng.uniform(size=len(g))
    preference[length > _G_MAX] = np.inf
    preference[length == 0.0] = -1.0
    chosen = np.argsort(preference)[:beams]
    potential = strength * np.exp(-length) * (rng.normal(size=len(g)) + 1j * rng.normal(size=len(g)))
    potential = 0.5 * (potential + potential[vectors.find(-vectors.hkl)].conj())
    potential[length == 0.0] = 3.0 * strength  # the mean inner potential: on the diagonal, not to be used
    x = np.linspace(-0.01, 0.012, tilts)
    s_g = excitation_error(rotate(g[chosen], x, 0.3 * x), wavenumber)
    return Block(
        u=vectors.coupling(vectors.hkl[chosen], potential.real if centric else potential),
        s_g=s_g,
        surface=surface_term(s_g, np.sum(g[chosen] ** 2, axis=1), wavenumber),
        weights=rng.uniform(0.2, 1.0, (2, tilts)),
        wanted=np.arange(beams),
        thickness=np.array([100.0, 450.0, 1000.0]),
        wavenumber=wavenumber,
        accuracy=Accuracy(s_max=_S_MAX, tolerance=tolerance),
    )


@lru_cache(maxsize=1)
def _lattice() -> GVectors:
    return GVectors.from_indices(indices_within(_CELL, 2.0 * _G_MAX), _G_MAX)


def two_beam_block(tolerance: float = 1e-10) -> Block:
    """One reflection on its Bragg position and off it on both sides, over several extinction lengths, M ≠ 1."""
    u = 0.02 * np.exp(0.7j)
    return Block(
        u=np.array([[0.05, u], [np.conj(u), 0.05]]),
        s_g=np.array([[0.0, 0.0], [0.0, 0.0013], [0.0, -0.004]]),
        surface=np.array([[1.0, 1.01], [1.0, 1.01], [1.0, 0.98]]),
        weights=np.array([[1.0, 0.5, 0.25], [0.2, 0.3, 0.9]]),
        wanted=np.array([0, 1]),
        thickness=np.linspace(0.0, 5000.0, 21),
        wavenumber=40.0,
        accuracy=Accuracy(s_max=_S_MAX, tolerance=tolerance),
    )


def degenerate_block(tolerance: float = 1e-10) -> Block:
    """All beams on their Bragg positions and coupled to the incident one alone, alike: equal eigenvalues."""
    block = random_block(beams=6, tilts=2, tolerance=tolerance)
    u = np.zeros_like(block.u)
    u[1:, 0], u[0, 1:] = 0.02 + 0.01j, 0.02 - 0.01j
    return replace(block, u=u, s_g=np.zeros_like(block.s_g), surface=np.ones_like(block.surface))


def copied(block: Block) -> Block:
    """The same block in memory of its own."""
    return deepcopy(block)


def incident_flux(block: Block) -> FloatArray:
    """Σ_b w_jb, shape (J, 1, 1): what the intensities of a sum add up to."""
    return block.weights.sum(axis=1)[:, None, None]
