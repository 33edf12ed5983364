"""Computations of one frame as a task for any thread, process or machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edtbx.arrays import ComplexArray, FloatArray, IntArray
from edtbx.intensities.frame_waves import FrameWaves, Rows
from edtbx.intensities.nuisance import best_scale, intensity_weights
from edtbx.solvers.block import Solver


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Measured:
    """Measured intensities of a frame and their s.u.s (M,), and the norm that the target is divided by.

    ``offset`` (M,) is added to the unscaled I_calc: what a finer sampling adds to this one.
    """

    observed: FloatArray
    sigma: FloatArray
    norm: float
    offset: FloatArray | float = 0.0

    def misfit(self, calc: FloatArray) -> tuple[float, FloatArray]:
        """Misfit Σ w (I_obs − k I_calc)² at the best scale, and its derivative (M,) by I_calc (that by k is zero)."""
        calc = calc + self.offset
        w = intensity_weights(self.observed, self.sigma) / self.norm
        scale = best_scale(calc, self.observed, w)
        residual = self.observed - scale * calc
        return float(w @ residual**2), -2.0 * scale * w * residual


Projection = Callable[[IntArray, ComplexArray], FloatArray]
"""From places (n,) of g vectors and rows ∂I/∂Re F + i ∂I/∂Im F (m, n) there, zero elsewhere, to derivatives (m, P) by the
parameters of a structure."""

_AT_ONCE = 32
"""Rows that are projected together."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameTask:
    """The waves of one frame for structure factors ``f`` (G,) in Å at thicknesses (T,) in Å.

    ``over_thickness`` (T,) are their weights, where the waves are summed over the spread as well; ``seed`` (M,) is what a
    gradient is asked for.
    """

    waves: FrameWaves
    solver: Solver
    f: ComplexArray
    thickness: FloatArray
    over_thickness: FloatArray | None = None
    measured: Measured | None = None
    seed: FloatArray | None = None

    def cube(self) -> FloatArray:
        """Intensities (J, M, T) at every y node and thickness."""
        return self.waves.cube(self.solver, self.f, self.thickness)

    def intensities(self) -> FloatArray:
        """Unscaled I_calc (M,)."""
        return np.asarray(self.cube()[0] @ self._law)

    def misfit(self) -> float:
        """The frame's share of the target."""
        return self._measured.misfit(self.intensities())[0]

    def misfit_and_gradient(self) -> tuple[float, ComplexArray]:
        """The frame's share of the target, and its gradient ∂T/∂Re F + i ∂T/∂Im F (G,)."""
        cube, gradient = self.waves.pullback(self.solver, self.f, self.thickness)
        value, by_calc = self._measured.misfit(cube[0] @ self._law)
        return value, gradient(by_calc[None, :, None] * self._law).f

    def gradient(self) -> ComplexArray:
        """Gradient ∂/∂Re F + i ∂/∂Im F (G,) of seed · I_calc, for the seed (M,)."""
        assert self.seed is not None
        return self.waves.gradient(self.solver, self.f, self.thickness, self.seed[None, :, None] * self._law).f

    def jacobian(self, rows: Rows, project: Projection) -> FloatArray:
        """Derivatives ∂I_calc/∂p (M, P), unscaled; the Jacobian by F is held a few rows at a time."""
        block = self.waves.block(self.f, self.thickness)
        projected: list[FloatArray] = []
        order: list[int] = []
        pending: list[tuple[IntArray, ComplexArray]] = []
        for place, where, row in self.waves.jacobian_rows(rows, self.solver, block, self._law[None]):
            order.append(place)
            pending.append((where, row))
            if len(pending) == _AT_ONCE or len(order) == len(self.waves.wanted):
                projected.append(project(*_side_by_side(pending, len(self.f))))
                pending.clear()
        return np.concatenate(projected)[np.argsort(order)]

    @property
    def _law(self) -> FloatArray:
        assert self.over_thickness is not None
        return self.over_thickness

    @property
    def _measured(self) -> Measured:
        assert self.measured is not None
        return self.measured


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
