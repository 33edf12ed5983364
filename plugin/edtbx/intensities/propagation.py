"""Propagation of electrons through a crystal, one frame at a time: tasks for any thread, process or machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edtbx.arrays import ComplexArray, FloatArray, IntArray
from edtbx.intensities.frame_waves import FrameWaves, Rows
from edtbx.intensities.nuisance import scaled_misfit
from edtbx.solvers.block import Solver

Projection = Callable[[IntArray, ComplexArray], FloatArray]
"""From places (n,) of g vectors and rows ∂I/∂Re F + i ∂I/∂Im F (m, n) there, zero elsewhere, to derivatives (m, P) by the
parameters of a structure."""

_AT_ONCE = 32
"""Rows that are projected together."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Propagation:
    """What all frames have in common: solver, structure factors and thicknesses.

    Every method computes one stretch of a scan from its waves, summed over the spread for each of K frames, or one frame;
    their laws (K, T) are weights of the thicknesses.

    Attributes
    ----------
    solver : Solver
    f : (G,) complex, Å
        Structure factors.
    thickness : (T,), Å
    """

    solver: Solver
    f: ComplexArray
    thickness: FloatArray

    def intensities(self, waves: FrameWaves, laws: FloatArray) -> FloatArray:
        """Unscaled I_calc (K, M)."""
        return np.asarray((waves.cube(self.solver, self.f, self.thickness) @ laws[:, :, None])[:, :, 0])

    def misfit_and_gradient(
        self,
        waves: FrameWaves,
        laws: FloatArray,
        observed: FloatArray,
        weights: FloatArray,
        offset: FloatArray | float,
    ) -> tuple[float, ComplexArray]:
        """Misfit Σ w (I_obs − k I_calc)² of one frame at the best scale k, and its gradient ∂T/∂Re F + i ∂T/∂Im F (G,).

        The offset (M,) is added to the unscaled I_calc.
        """
        cube, gradient = waves.pullback(self.solver, self.f, self.thickness)
        value, by_calc = scaled_misfit(cube[0] @ laws[0] + offset, observed, weights)
        return value, gradient(by_calc[None, :, None] * laws[0]).f

    def gradient(self, waves: FrameWaves, laws: FloatArray, seed: FloatArray) -> ComplexArray:
        """Gradient ∂/∂Re F + i ∂/∂Im F (G,) of seed · I_calc, for unscaled I_calc and a seed (K, M)."""
        return waves.gradient(self.solver, self.f, self.thickness, seed[:, :, None] * laws[:, None]).f

    def jacobian(self, waves: FrameWaves, laws: FloatArray, rows: Rows, project: Projection) -> FloatArray:
        """Derivatives ∂I_calc/∂p (M, P) of one frame, unscaled; the Jacobian by F is held a few rows at a time.

        In single precision where the accuracy asks for no more.
        """
        block = waves.block(self.f, self.thickness)
        projected: list[FloatArray] = []
        order: list[int] = []
        pending: list[tuple[IntArray, ComplexArray]] = []
        for place, where, row in waves.jacobian_rows(rows, self.solver, block, laws):
            order.append(place)
            pending.append((where, row))
            if len(pending) == _AT_ONCE or len(order) == len(waves.wanted):
                projected.append(project(*_side_by_side(pending, len(self.f))))
                pending.clear()
        kind = np.float32 if block.accuracy.single else np.float64
        return np.concatenate(projected)[np.argsort(order)].astype(kind, copy=False)


def _side_by_side(rows: Sequence[tuple[IntArray, ComplexArray]], number: int) -> tuple[IntArray, ComplexArray]:
    """Sparse rows, each of its own places below ``number``, as an array (m, n) with the places (n,) of all of them."""
    occupied = np.zeros(number, dtype=bool)
    for where, _ in rows:
        occupied[where] = True
    column = np.cumsum(occupied) - 1
    side_by_side = np.zeros((len(rows), np.count_nonzero(occupied)), dtype=complex)
    for line, (where, row) in zip(side_by_side, rows, strict=True):
        line[column[where]] = row
    return np.flatnonzero(occupied), side_by_side
