"""Linear equations among parameters of atoms, held besides the constraints of smtbx.

If C x = d holds at the start for the parameters x of the atoms, and x shifts by J p, then shifts p = T q with C J T = 0
keep it. One mechanism serves single fixed coordinates, free variables and their sums, and occupancies of groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cctbx import xray
from cctbx.array_family import flex
from scitbx import sparse
from smtbx.refinement import constraints

from edtbx.arrays import FloatArray
from edtbx_cctbx.arrays import from_numpy, to_numpy

SITE = ("x", "y", "z")
U_STAR = ("u11", "u22", "u33", "u12", "u13", "u23")
U_ISO = "u_iso"
OCCUPANCY = "occupancy"

LEAST = 1e-4
"""Value to which smtbx resets occupancies and isotropic displacements (Å²) below zero."""

_NEGLIGIBLE = 1e-8
"""Coefficients below this are rounding errors; the largest of an equation are about 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearEquation:
    """Σ coefficient × parameter is constant; terms are (index of the atom, name of the parameter, coefficient)."""

    terms: tuple[tuple[int, str, float], ...]

    def value(self, structure: xray.structure) -> float:
        """Value of the sum for a structure; over terms with occupancies only."""
        scatterers = structure.scatterers()
        return sum(factor * scatterers[place].occupancy for place, name, factor in self.terms if name == OCCUPANCY)


def equal_parameters(first: tuple[int, str], others: Sequence[tuple[int, str]]) -> list[LinearEquation]:
    """Equations that make parameters (index of the atom, name) shift by as much as the first."""
    return [LinearEquation(terms=((*first, 1.0), (*other, -1.0))) for other in others]


def refined_parameters(structure: xray.structure) -> Iterator[tuple[int, str]]:
    """Refined parameters by the flags of the atoms, as index of the atom and name, in the order of smtbx."""
    for place, scatterer in enumerate(structure.scatterers()):
        flags = scatterer.flags
        names = (
            *(SITE if flags.grad_site() else ()),
            *((U_ISO,) if flags.grad_u_iso() and flags.use_u_iso() else ()),
            *(U_STAR if flags.grad_u_aniso() and flags.use_u_aniso() else ()),
            *((OCCUPANCY,) if flags.grad_occupancy() else ()),
        )
        for name in names:
            yield place, name


class Reparametrisation(constraints.reparametrisation):
    """Reparametrisation of smtbx that holds linear equations as well.

    Parameters in equations that the flags of the atoms do not refine are constants. Shifts are shortened so that occupancies
    and isotropic displacements in equations do not fall below ``LEAST``, together with those they are tied to: smtbx would
    reset one parameter alone. ``clipped`` says whether the last shifts were shortened.
    """

    def __init__(
        self, structure: xray.structure, held: Sequence[Any], equations: Sequence[LinearEquation] = (), **kwds: Any
    ) -> None:
        self._basis: Any = None
        self.clipped = False
        super().__init__(structure=structure, constraints=list(held), **kwds)
        if equations:
            self.linearise()
            self._basis = self._basis_for(equations)
            self._find_bounded({(place, name) for each in equations for place, name, _ in each.terms})

    @property
    def n_independents(self) -> int:
        """Number P of independent parameters."""
        return super().n_independents if self._basis is None else self._basis.n_rows

    def jacobian_transpose_matching(self, mapping: Any) -> Any:
        """Transposed Jacobian (P, n) of parameters of the atoms by independent parameters, the equations held."""
        full = super().jacobian_transpose_matching(mapping)
        return full if self._basis is None else self._basis * full

    def apply_shifts(self, shifts: flex.double) -> None:
        """Shift the independent parameters (P,), shortened at bounds."""
        if self._basis is not None:
            shifts = from_numpy(self._shortened(to_numpy(shifts)))
            shifts = self._basis.transpose() * shifts
        super().apply_shifts(shifts)

    def _find_bounded(self, held: set[tuple[int, str]]) -> None:
        """Set the bounded parameters in equations, and their derivatives (P, n) by independent parameters."""
        moving = list(enumerate(refined_parameters(self.structure)))
        chosen = [(n, parameter) for n, parameter in moving if parameter in held and parameter[1] in (OCCUPANCY, U_ISO)]
        jacobian = to_numpy(self.jacobian_transpose_matching(self.mapping_to_grad_fc).as_dense_matrix())
        self._bounded = [parameter for _, parameter in chosen]
        self._slopes = jacobian[:, [n for n, _ in chosen]]

    def _shortened(self, shifts: FloatArray) -> FloatArray:
        """Shifts (P,) that take no bounded parameter below its bound; tied shifts are shortened by the same factor."""
        scatterers = self.structure.scatterers()
        self.clipped = False
        shifts = np.array(shifts, dtype=float)
        for n, (place, name) in enumerate(self._bounded):
            value = scatterers[place].occupancy if name == OCCUPANCY else scatterers[place].u_iso
            change = float(shifts @ self._slopes[:, n])
            if change < 0.0 and value + change < LEAST:
                tied = self._slopes[:, n] != 0.0
                for _ in range(len(self._bounded)):  # all that the same parameters move
                    tied = (self._slopes[:, self._slopes[tied].any(axis=0)] != 0.0).any(axis=1)
                shifts[tied] *= max(value - LEAST, 0.0) / -change
                self.clipped = True
        return shifts

    def _basis_for(self, equations: Sequence[LinearEquation]) -> Any:
        """Rows (P, parameters of smtbx) of T: a basis of the shifts that keep the equations."""
        columns = {parameter: n for n, parameter in enumerate(refined_parameters(self.structure))}
        jacobian = to_numpy(self.jacobian_transpose_matching(self.mapping_to_grad_fc).as_dense_matrix())
        rows = np.zeros((len(equations), jacobian.shape[0]))
        for n, equation in enumerate(equations):
            for place, name, factor in equation.terms:
                if (place, name) in columns:
                    rows[n] += factor * jacobian[:, columns[place, name]]
        basis = null_space(rows)
        elements = [{int(i): float(basis[i, n]) for i in np.flatnonzero(basis[:, n])} for n in range(basis.shape[1])]
        return sparse.matrix(*basis.shape, elements)


def null_space(rows: FloatArray) -> FloatArray:
    """Basis (Q, P) of the null space of a matrix (M, P), by Gaussian elimination, which keeps it sparse."""
    reduced = np.array(rows, dtype=float)
    pivots: dict[int, int] = {}
    for n in range(len(reduced)):
        size = np.abs(reduced[n]).max(initial=0.0)
        if size < _NEGLIGIBLE:
            continue
        # the last of the large ones depends on the others: atoms named first are refined
        pivot = int(np.flatnonzero(np.abs(reduced[n]) > 0.1 * size)[-1])
        reduced[n] /= reduced[n, pivot]
        other_rows = np.arange(len(reduced)) != n
        reduced[other_rows] -= np.outer(reduced[other_rows, pivot], reduced[n])
        reduced[np.abs(reduced) < _NEGLIGIBLE] = 0.0
        pivots[n] = pivot
    free = [n for n in range(reduced.shape[1]) if n not in set(pivots.values())]
    basis = np.zeros((len(free), reduced.shape[1]))
    basis[np.arange(len(free)), free] = 1.0
    for n, pivot in pivots.items():
        basis[:, pivot] = -reduced[n, free]
    return basis
