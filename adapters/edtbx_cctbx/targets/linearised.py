"""A target whose intensities are linear in the structure factors, exact to first order where it was made.

Minimisers evaluate a target some fifty times, each time at the cost of four forward passes. Of this one an evaluation costs
a product with the rows ∂I/∂F of its reflections. These are local rows, off by a tenth; what the exact gradient of the target
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

import numpy as np
from cctbx import miller, xray

from edtbx.arrays import ComplexArray, FloatArray, IntArray
from edtbx.execution.memory import expect_room
from edtbx.fitting.sampling_levels import FOR_ROWS
from edtbx.intensities.frame_waves import Rows
from edtbx.intensities.nuisance import best_scale
from edtbx_cctbx.arrays import from_numpy, to_numpy
from edtbx_cctbx.structure.structure_factors import Expansion
from edtbx_cctbx.targets.target import Target
from edtbx_cctbx.targets.target_result import TargetResult


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearisedTarget:
    """Functor for ``xray.minimization.lbfgs``, nuisance parameters held.

    Attributes
    ----------
    target : Target
    f : (U,) complex, Å
        Structure factors of the asymmetric unit where it is exact.
    value : float
        The target there.
    intensities : list of (M,)
        Unscaled I_calc of every frame there.
    rows : list of (M, 2 u)
        Their derivatives by real and imaginary parts of those F that rows depend on.
    places : (u,)
        Where these are in the asymmetric unit.
    gradient : (U,) complex
        The gradient of the target there, ∂T/∂Re F + i ∂T/∂Im F.
    narrow : bool
        Whether it takes these F only, a fifth of all; the gradient by the others is then left out.
    damping : float
        Adds so many times Σ c ΔF² to the value, for changes ΔF from the point of linearisation and c = Σ w k² (∂I/∂F)²
        (Marquardt). Along a polar axis nothing else keeps the structure where it is.
    """

    target: Target
    f: ComplexArray
    value: float
    intensities: Sequence[FloatArray]
    rows: Sequence[FloatArray]
    places: IntArray
    gradient: ComplexArray
    narrow: bool = False
    damping: float = 0.0

    @classmethod
    def at(
        cls, target: Target, xray_structure: xray.structure, like: LinearisedTarget | None = None
    ) -> LinearisedTarget:
        """The target linearised at a structure, with the rows of another linearisation or new ones.

        Costs a forward pass and a gradient, and as much again for new rows.

        Raises
        ------
        TooLarge
            The memory does not hold the rows.
        """
        unique = target.expansion.unique_structure_factors(xray_structure)
        f, forward, nuisance = target.expansion.expand(unique), target.forward, target.nuisance
        intensities = forward.intensities(f, nuisance)
        misfits = forward.misfits(intensities, target.offsets)
        gradient = target.expansion.collect(forward.gradient(f, nuisance, [seed for _, seed in misfits]))
        places, rows = _rows(target, f) if like is None else (like.places, like.rows)
        return cls(
            target=target,
            f=unique,
            value=sum(value for value, _ in misfits),
            intensities=intensities,
            rows=rows,
            places=places,
            gradient=gradient,
        )

    def with_new_rows(self) -> LinearisedTarget:
        """The same with rows computed here."""
        places, rows = _rows(self.target, self.target.expansion.expand(self.f))
        return replace(self, rows=rows, places=places)

    def damped(self, damping: float, narrow: bool) -> LinearisedTarget:
        """The same with another damping, of all structure factors or of those that rows depend on."""
        return replace(self, damping=damping, narrow=narrow)

    @cached_property
    def _lacking(self) -> FloatArray:
        """What the gradient of the rows lacks there, by real and imaginary parts (2, U)."""
        misfits = self.target.forward.misfits(self.intensities, self.target.offsets)
        parts = _parts(self.gradient).reshape(2, -1)
        parts[:, self.places] -= _summed([seed for _, seed in misfits], self.rows).reshape(2, -1)
        return parts

    @cached_property
    def _curvature(self) -> FloatArray:
        """Σ w k² (∂I/∂F)² (2 u,)."""
        target, total = self.target, np.zeros(2 * len(self.places))
        observed = target.observations.split(target.observations.reflections.intensity)
        for i_obs, i_calc, weights, row in zip(
            observed, self.intensities, target.forward.weights, self.rows, strict=True
        ):
            total += (weights * best_scale(i_calc, i_obs, weights) ** 2).astype(row.dtype) @ row**2
        return total

    def f_obs(self) -> miller.set:
        """Indices of the structure factors it takes."""
        every = self.target.f_obs()
        taken = np.zeros(len(self.f), dtype=bool)
        taken[self.places] = True
        return every.select(from_numpy(taken)) if self.narrow else every

    def __call__(self, f_calc: miller.array, compute_derivatives: bool) -> TargetResult:
        """Value and derivatives at structure factors in the order of ``f_obs()``."""
        taken = self.places if self.narrow else np.arange(len(self.f))
        moved = to_numpy(f_calc.data()) - self.f[taken]
        own = slice(None) if self.narrow else self.places
        step, lacking = _parts(moved[own]), self._lacking[:, taken].ravel()
        changes = [(row @ step.astype(row.dtype)).astype(float) for row in self.rows]
        intensities = [i + change for i, change in zip(self.intensities, changes, strict=True)]
        misfits = self.target.forward.misfits(intensities, self.target.offsets)
        damped = self.damping * self._curvature * step
        value = sum(value for value, _ in misfits) + float(lacking @ _parts(moved)) + float(damped @ step)
        scale = float(np.mean(self.target.nuisance.scales))
        if not compute_derivatives:
            return TargetResult(value, None, scale)
        gradient = lacking[: len(taken)] + 1j * lacking[len(taken) :]
        by_rows = _summed([seed for _, seed in misfits], self.rows) + 2.0 * damped
        gradient[own] += by_rows[: len(self.places)] + 1j * by_rows[len(self.places) :]
        return TargetResult(value, from_numpy(gradient), scale)


def _rows(target: Target, f: ComplexArray) -> tuple[IntArray, list[FloatArray]]:
    """Places (u,) of the F that rows depend on, and ∂I/∂F (M, 2 u) of every frame, coarsely sampled, in single precision."""
    number, approximation = target.expansion.unique.size(), target.forward.solver.approximation
    expect_room(
        12.0 * len(target.observations) * number,
        f"derivatives of {len(target.observations)} intensities by {number} structure factors",
        "take fewer frames, or a smaller g_max",
    )
    source = target
    if approximation is None:
        source = Target.of(*target.scattering.at_level(FOR_ROWS, target.nuisance))
    kind = Rows.usual(source.forward.solver)
    rows = list(source.forward.jacobian(f, source.nuisance, _ByStructureFactors(target.expansion), kind))
    places = np.flatnonzero(np.any([np.any(row.reshape(len(row), 2, -1), axis=(0, 1)) for row in rows], axis=0))
    return places, [
        np.ascontiguousarray(row.reshape(len(row), 2, -1)[:, :, places]).reshape(len(row), -1) for row in rows
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _ByStructureFactors:
    """Projection of derivatives by F of every g on those of the asymmetric unit."""

    expansion: Expansion

    def __call__(self, where: IntArray, rows: ComplexArray) -> FloatArray:
        """∂I/∂Re F and ∂I/∂Im F (m, 2 U) from ∂I/∂Re F + i ∂I/∂Im F (m, n) at the g vectors of these indices (n,)."""
        unique, by_f = self.expansion.collect_some(where, rows)
        number = self.expansion.unique.size()
        projected = np.zeros((len(rows), 2 * number), dtype=np.float32)
        projected[:, unique], projected[:, number + unique] = by_f.real, by_f.imag
        return projected


def _parts(f: ComplexArray) -> FloatArray:
    return np.concatenate([f.real, f.imag])


def _summed(seeds: Sequence[FloatArray], rows: Sequence[FloatArray]) -> FloatArray:
    """Σ seed · row (2 U,)."""
    return np.asarray(sum(seed @ row for seed, row in zip(seeds, rows, strict=True)), dtype=float)
