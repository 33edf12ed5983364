"""The faster of the exact solvers for each block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edtbx.experiment import FloatArray
from edtbx.solvers.block import Adjoint, Block, Coupling, Pullback, jacobian_rows, pullback
from edtbx.solvers.eigen import EigenSolver
from edtbx.solvers.propagator import PropagatorSolver

_FEW_ORIENTATIONS = 4
"""Below this number the propagator has nothing to share."""

_LONGEST = 2e4
"""Phase in radians beyond which a series is longer than an eigenproblem is hard. No crystal comes near; a minimiser that
tries a displacement parameter far below zero does, and is to be told a number."""


class AutoSolver:
    """The propagator, but for a handful of orientations the eigensolver."""

    folds = True

    def intensities(self, block: Block) -> FloatArray:
        """Σ_b w_jb I_h(b, t), shape (J, M, T)."""
        return _faster(block).intensities(block)

    def adjoint(self, block: Block, seed: FloatArray) -> Adjoint:
        """Derivatives of T = Σ seed · intensities."""
        return _faster(block).adjoint(block, seed)

    def pullback(self, block: Block) -> tuple[FloatArray, Pullback]:
        """Intensities, and the way back from a seed of them."""
        return pullback(_faster(block), block)

    def jacobian_rows(self, block: Block, seed: FloatArray) -> Iterator[tuple[int, Coupling]]:
        """∂/∂u of Σ_jt seed_jt I_m(j, t), beam by beam."""
        return jacobian_rows(_faster(block), block, seed)


def _faster(block: Block) -> EigenSolver | PropagatorSolver:
    strongest = np.abs(block.u).sum(axis=1).max() * np.pi * block.thickness.max() / block.wavenumber
    return EigenSolver() if len(block.s_g) < _FEW_ORIENTATIONS or strongest > _LONGEST else PropagatorSolver()
