"""A target as a parabola about a structure: its exact gradient, and curvature from rows of the design matrix.

Minimisers that know only value and gradient evaluate a target some fifty times, each time at the cost of four forward
passes. Local rows ∂I/∂p are off by a tenth, and so are steps; their gradients are exact, so that steps end in the minimum of
the target. What rows do not know, second derivatives of the intensities, secants of former steps tell (BFGS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from cctbx import xray
from smtbx.refinement import constraints

from edtbx.arrays import ComplexArray, FloatArray
from edtbx.fitting.bounded_steps import curvature
from edtbx.intensities.frame_waves import Rows
from edtbx.intensities.nuisance import at_best_scale, best_scale
from edtbx.levels.sampling_levels import FOR_ROWS
from edtbx_cctbx.structure.connectivity import connectivity
from edtbx_cctbx.structure.f_calc_derivatives import StructureSlopes
from edtbx_cctbx.targets.target import Target

_REMEDY = "take fewer frames, or a smaller g_max"


def independent_parameters(structure: xray.structure) -> Any:
    """Reparametrisation of smtbx for what the flags of the atoms refine, under the symmetry of their sites."""
    structure.scattering_type_registry()
    made = constraints.reparametrisation(
        structure=structure, constraints=[], connectivity_table=connectivity(structure), temperature=20
    )
    made.linearise()
    made.store()
    return made


@dataclass(frozen=True, eq=False, kw_only=True)
class TargetParabola:
    """Target about a structure, by P independent parameters of it, nuisance parameters held.

    Attributes
    ----------
    target : Target
    f : (G,) complex, Å
        Structure factors of the structure, where it is exact.
    slopes : StructureSlopes
        Their derivatives by the parameters.
    value : float
        The target there.
    gradient : (P,)
        Its gradient there.
    intensities : list of (M,)
        Unscaled I_calc of every frame there.
    rows : list of (M, P)
        Their derivatives, near there.
    secants : tuple of pairs of (P,)
        Former steps, and the changes of the gradient over them: they correct the second derivatives that rows give (BFGS),
        which lack those of the intensities.
    """

    target: Target
    f: ComplexArray
    slopes: StructureSlopes
    value: float
    gradient: FloatArray
    intensities: Sequence[FloatArray]
    rows: Sequence[FloatArray]
    secants: tuple[tuple[FloatArray, FloatArray], ...] = ()

    @classmethod
    def at(cls, target: Target, reparametrisation: Any, like: TargetParabola | None = None) -> TargetParabola:
        """The parabola at the structure of a reparametrisation, with the rows of another one or new rows.

        Costs a forward pass and a gradient, and as much again for new rows.

        Raises
        ------
        TooLarge
            The memory does not hold the rows.
        """
        reparametrisation.linearise()
        slopes = StructureSlopes.with_room(target.expansion, reparametrisation, len(target.observations), _REMEDY)
        f, forward, nuisance = target.structure_factors(reparametrisation.structure), target.forward, target.nuisance
        intensities = forward.intensities(f, nuisance)
        misfits = forward.misfits(intensities, target.offsets)
        gradient = forward.gradient(f, nuisance, [seed for _, seed in misfits])
        return cls(
            target=target,
            f=f,
            slopes=slopes,
            value=sum(value for value, _ in misfits),
            gradient=slopes(np.arange(len(gradient)), gradient[None])[0],
            intensities=intensities,
            rows=_rows(target, f, slopes) if like is None else like.rows,
        )

    def with_new_rows(self) -> TargetParabola:
        """The same with rows computed here."""
        return replace(self, rows=_rows(self.target, self.f, self.slopes))

    def with_secant(self, shifts: FloatArray, there: TargetParabola) -> TargetParabola:
        """The same with the secant to another parabola, which is that at shifts (P,) from this one."""
        return replace(self, secants=(*self.secants, (shifts, there.gradient - self.gradient)))

    def step(self, damping: float) -> tuple[FloatArray, float]:
        """Shifts (P,) to the minimum of a parabola, and the value there.

        ``damping`` times its curvature by rows is added to that of every parameter (Marquardt): along a polar axis nothing
        else keeps the structure where it is.
        """
        by_rows = self._by_rows
        matrix = curvature(by_rows, list(self.secants)) + damping * np.diag(by_rows.diagonal())
        shifts = np.asarray(-np.linalg.solve(matrix, self.gradient), dtype=float)
        return shifts, self.value + 0.5 * float(self.gradient @ shifts)

    @cached_property
    def _by_rows(self) -> FloatArray:
        """Second derivatives (P, P) of the target where intensities are linear, the scales of the frames following."""
        target = self.target
        observed = target.observations.split(target.observations.reflections.intensity)
        columns = observed, self.intensities, target.forward.weights, self.rows
        matrix = np.zeros((len(self.gradient), len(self.gradient)))
        for i_obs, i_calc, weights, row in zip(*columns, strict=True):
            matrix += 2.0 * best_scale(i_calc, i_obs, weights) ** 2 * at_best_scale(i_calc, row, weights)
        # a parameter that no intensity depends on stays
        diagonal = matrix.diagonal()
        return matrix + np.diag(np.maximum(1e-9 * diagonal, 1e-12 * max(float(diagonal.max(initial=0.0)), 1e-300)))


def _rows(target: Target, f: ComplexArray, slopes: StructureSlopes) -> list[FloatArray]:
    """∂I/∂p (M, P) of every frame, coarsely sampled."""
    source = target
    if target.forward.solver.approximation is None:
        source = Target.of(*target.scattering.at_level(FOR_ROWS, target.nuisance))
    return list(source.forward.jacobian(f, source.nuisance, slopes, Rows.usual(source.forward.solver)))
