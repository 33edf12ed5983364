"""What one frame contributes to a target, as a task that any thread, process or machine can take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edtbx.experiment import ComplexArray, FloatArray
from edtbx.frame_waves import FrameWaves
from edtbx.nuisance import best_scale, intensity_weights
from edtbx.solvers.block import DifferentiableSolver, Solver


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Measured:
    """Intensities of a frame and their s.u.s (M,), and what the target is divided by.

    ``offset`` (M,) is added to the unscaled I_calc: what a finer sampling adds to this one.
    """

    observed: FloatArray
    sigma: FloatArray
    norm: float
    offset: FloatArray | float = 0.0

    def misfit(self, calc: FloatArray) -> tuple[float, FloatArray]:
        """Σ w (I_obs − k I_calc)² at the best scale, and its derivative (M,) by I_calc, to which k contributes nothing."""
        calc = calc + self.offset
        w = intensity_weights(self.observed, self.sigma) / self.norm
        scale = best_scale(calc, self.observed, self.sigma)
        residual = self.observed - scale * calc
        return float(w @ residual**2), -2.0 * scale * w * residual


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameTask:
    """The waves of one frame for structure factors ``f`` (G,) in Å at thicknesses (T,) in Å.

    ``over_thickness`` (T,) are the weights of the thicknesses; where it is given, the waves are summed over the spread.
    """

    waves: FrameWaves
    solver: Solver
    f: ComplexArray
    thickness: FloatArray
    over_thickness: FloatArray | None = None
    measured: Measured | None = None

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
        """The same, and ∂T/∂Re F + i ∂T/∂Im F (G,)."""
        if not isinstance(self.solver, DifferentiableSolver):
            raise ValueError(
                f"the solver {type(self.solver).__name__} gives no derivatives: take another one to refine"
            )
        cube, gradient = self.waves.pullback(self.solver, self.f, self.thickness)
        value, by_calc = self._measured.misfit(cube[0] @ self._law)
        return value, gradient(by_calc[None, :, None] * self._law)

    @property
    def _law(self) -> FloatArray:
        assert self.over_thickness is not None
        return self.over_thickness

    @property
    def _measured(self) -> Measured:
        assert self.measured is not None
        return self.measured
