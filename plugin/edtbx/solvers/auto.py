"""Choice of the faster of the exact solvers for each block."""

from __future__ import annotations

import numpy as np

from edtbx.arrays import FloatArray
from edtbx.solvers.block import Adjoint, Block, Pullback, Solver
from edtbx.solvers.eigen import EigenSolver
from edtbx.solvers.propagator import PropagatorSolver

_SMALL = 1.5e5
"""B n³ of eigenproblems, for n beams each, below which a series is not worth its overhead."""

_CROSSING = 7.0
"""Multiplications of a series (n² a term) that take as long as one of an eigenproblem (n³). Measured for 24 to 117 beams:
5 to 10 in single precision, half of that in double."""

_LONGEST = 2e4
"""Phase in radians beyond which a series costs more than an eigenproblem. No crystal comes near; a minimiser that tries a
displacement parameter far below zero does, and needs a finite answer."""

_SAMPLE = 32
"""Orientations that the estimate takes into account."""


class AutoSolver(Solver):
    """Propagator wherever beams may be folded; else the eigensolver for few beams and thick crystals.

    With beams to fold the propagator is five times faster already for one orientation.
    """

    folds = True

    def intensities(self, block: Block) -> FloatArray:
        return _faster(block).intensities(block)

    def adjoint(self, block: Block, seed: FloatArray) -> Adjoint:
        return _faster(block).adjoint(block, seed)

    def pullback(self, block: Block) -> tuple[FloatArray, Pullback]:
        return _faster(block).pullback(block)


def _faster(block: Block) -> EigenSolver | PropagatorSolver:
    """Solver with fewer multiplications, estimated from some of the orientations."""
    accuracy = block.accuracy
    longest = np.pi * float(block.thickness.max())
    coupled = float(np.abs(block.u).sum(axis=1).max()) / block.wavenumber
    s_g = np.abs(block.s_g[:: -(-len(block.s_g) // _SAMPLE)])
    near = np.mean(np.sum(s_g <= accuracy.s_max, axis=1))
    reach = min(accuracy.s_max, accuracy.s_strong)
    strong = np.mean(np.sum(s_g <= reach, axis=1))
    dense = len(block.s_g) * near**3
    terms = longest * (2.0 * min(reach, float(s_g.max())) + coupled) + 20.0
    series = len(block.s_g) * strong**2 * terms
    if longest * coupled > _LONGEST or dense < _SMALL or series > _CROSSING * dense:
        return EigenSolver()
    return PropagatorSolver()
