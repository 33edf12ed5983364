"""A target whose intensities are linear in the parameters of a structure, exact to first order where it was made.

Minimisers evaluate a target some fifty times, each time at the cost of four forward passes. Of this one an evaluation costs
a product with the rows ∂I/∂p of its reflections. These are local rows, off by a tenth; what the exact gradient of the target
has beside theirs is added as a constant, so that value and gradient are those of the target itself at the point of
linearisation. A minimum of the target is one of its linearisation there, and the other way round (defect correction).

References
----------
H. J. Stetter, Numer. Math. 29, 425 (1978), doi:10.1007/BF01432879.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scitbx.lbfgs
from cctbx import xray
from cctbx.array_family import flex
from smtbx.refinement import constraints

from edtbx.arrays import FloatArray
from edtbx.execution.memory import expect_room
from edtbx.fitting.sampling_levels import FOR_ROWS
from edtbx.intensities.frame_waves import Rows
from edtbx.intensities.nuisance import best_scale
from edtbx_cctbx.arrays import from_numpy, to_numpy
from edtbx_cctbx.structure.connectivity import connectivity
from edtbx_cctbx.structure.f_calc_derivatives import StructureSlopes
from edtbx_cctbx.targets.target import Target

_BYTES_PER_SLOPE, _BYTES_PER_ROW = 32.0, 24.0
"""Bytes for a derivative of a structure factor, and of an intensity, by a parameter."""


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
class LinearisedTarget:
    """Target as a function of shifts of the P independent parameters of a structure, nuisance parameters held.

    Attributes
    ----------
    target : Target
    value : float
        The target where it is exact, at shifts of zero.
    gradient : (P,)
        That of the target there.
    intensities : list of (M,)
        Unscaled I_calc of every frame there.
    rows : list of (M, P)
        Their derivatives, near there.
    damping : float
        Adds so many times Σ c Δp² to the value, for shifts Δp and c = Σ w k² (∂I/∂p)² (Marquardt). Along a polar axis
        nothing else keeps the structure where it is.
    """

    target: Target
    value: float
    gradient: FloatArray
    intensities: Sequence[FloatArray]
    rows: Sequence[FloatArray]
    damping: float = 0.0

    @classmethod
    def at(cls, target: Target, reparametrisation: Any, like: LinearisedTarget | None = None) -> LinearisedTarget:
        """The target linearised at the structure of a reparametrisation, with rows of another linearisation or new ones.

        Costs a forward pass and a gradient, and as much again for new rows.

        Raises
        ------
        TooLarge
            The memory does not hold the rows.
        """
        slopes = _slopes(target, reparametrisation)
        f, forward, nuisance = target.structure_factors(reparametrisation.structure), target.forward, target.nuisance
        intensities = forward.intensities(f, nuisance)
        misfits = forward.misfits(intensities, target.offsets)
        gradient = forward.gradient(f, nuisance, [seed for _, seed in misfits])
        return cls(
            target=target,
            value=sum(value for value, _ in misfits),
            gradient=slopes(np.arange(len(gradient)), gradient[None])[0],
            intensities=intensities,
            rows=_rows(target, reparametrisation) if like is None else like.rows,
        )

    def with_new_rows(self, reparametrisation: Any) -> LinearisedTarget:
        """The same with rows computed at the structure of a reparametrisation."""
        return replace(self, rows=_rows(self.target, reparametrisation))

    def minimum(self, damping: float, iterations: int) -> tuple[FloatArray, float]:
        """Shifts (P,) at the minimum with a damping, and the value there, by lbfgs."""
        search = _Search(replace(self, damping=damping))
        scitbx.lbfgs.run(
            target_evaluator=search,
            termination_params=scitbx.lbfgs.termination_parameters(max_iterations=iterations),
        )
        return search.shifts, search.value

    @cached_property
    def _lacking(self) -> FloatArray:
        """What the gradient of the rows lacks there (P,)."""
        misfits = self.target.forward.misfits(self.intensities, self.target.offsets)
        return self.gradient - _summed([seed for _, seed in misfits], self.rows)

    @cached_property
    def curvature(self) -> FloatArray:
        """Σ w k² (∂I/∂p)² (P,)."""
        target = self.target
        observed = target.observations.split(target.observations.reflections.intensity)
        columns = observed, self.intensities, target.forward.weights, self.rows
        parts = [
            (weights * best_scale(i_calc, i_obs, weights) ** 2) @ row**2
            for i_obs, i_calc, weights, row in zip(*columns, strict=True)
        ]
        return np.asarray(sum(parts))

    def __call__(self, shifts: FloatArray) -> tuple[float, FloatArray]:
        """Value and gradient (P,) at shifts (P,)."""
        intensities = [i + row @ shifts for i, row in zip(self.intensities, self.rows, strict=True)]
        misfits = self.target.forward.misfits(intensities, self.target.offsets)
        damped = self.damping * self.curvature * shifts
        value = sum(value for value, _ in misfits) + float((self._lacking + damped) @ shifts)
        return value, self._lacking + _summed([seed for _, seed in misfits], self.rows) + 2.0 * damped


class _Search:
    """Evaluator of cctbx's lbfgs; its variables are shifts in units that make curvatures alike."""

    def __init__(self, linear: LinearisedTarget) -> None:
        self._linear, self.value = linear, linear.value
        roots = np.sqrt(linear.curvature)
        self._units = 1.0 / np.maximum(roots, 1e-6 * max(float(roots.max(initial=0.0)), 1e-300))
        self.x = flex.double(len(roots), 0.0)

    @property
    def shifts(self) -> FloatArray:
        """Shifts (P,) at the variables at hand."""
        return np.asarray(self._units * to_numpy(self.x))

    def compute_functional_and_gradients(self) -> tuple[float, flex.double]:
        """Value and gradient by the variables."""
        self.value, gradient = self._linear(self.shifts)
        return self.value, from_numpy(self._units * gradient)


def _slopes(target: Target, reparametrisation: Any) -> StructureSlopes:
    """Derivatives of the structure factors by the parameters, unless the memory does not hold them."""
    atoms, rows = reparametrisation.structure.scatterers().size(), len(target.observations)
    parameters = reparametrisation.n_independents
    expect_room(
        _BYTES_PER_SLOPE * target.f_obs().size() * 9 * atoms + _BYTES_PER_ROW * rows * parameters,
        f"derivatives of {target.f_obs().size()} structure factors and {rows} intensities by {parameters} parameters",
        "take fewer frames, or a smaller g_max",
    )
    reparametrisation.linearise()
    return StructureSlopes.of(target.expansion, reparametrisation)


def _rows(target: Target, reparametrisation: Any) -> list[FloatArray]:
    """∂I/∂p (M, P) of every frame, coarsely sampled."""
    source = target
    if target.forward.solver.approximation is None:
        source = Target.of(*target.scattering.at_level(FOR_ROWS, target.nuisance))
    f, slopes = target.structure_factors(reparametrisation.structure), _slopes(target, reparametrisation)
    return list(source.forward.jacobian(f, source.nuisance, slopes, Rows.usual(source.forward.solver)))


def _summed(seeds: Sequence[FloatArray], rows: Sequence[FloatArray]) -> FloatArray:
    """Σ seed · row (P,)."""
    return np.asarray(sum(seed @ row for seed, row in zip(seeds, rows, strict=True)))
