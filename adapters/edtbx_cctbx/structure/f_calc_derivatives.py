"""Derivatives of structure factors by the independent parameters of a structure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from smtbx.structure_factors import direct

from edtbx.arrays import ComplexArray, FloatArray, IntArray
from edtbx.execution.memory import expect_room
from edtbx_cctbx.arrays import parameter_jacobian, to_numpy
from edtbx_cctbx.structure.structure_factors import Expansion

_BYTES_PER_SLOPE, _BYTES_PER_ROW = 16.0, 16.0
"""Bytes for a derivative of a structure factor, and of an intensity, by a parameter."""

_AT_ONCE = 2_000_000
"""Derivatives that are made or used together: copies of all of them would take several times the memory."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StructureSlopes:
    """∂F/∂p (U, P) of the asymmetric unit, for the chain rule from derivatives by F of every g to those by p."""

    expansion: Expansion
    slopes: ComplexArray

    @classmethod
    def of(cls, expansion: Expansion, reparametrisation: Any, where: IntArray | None = None) -> StructureSlopes:
        """∂F/∂p at the current structure of a linearised reparametrisation of smtbx.

        Those by which no intensity has a derivative may stay 0: with ``where``, all but F at the g vectors of these indices
        (n,). The flags of the atoms must be those that it was made with: smtbx corrupts memory otherwise.
        """
        structure = reparametrisation.structure
        structure.scattering_type_registry()
        linear = direct.f_calc_modulus_squared(structure)
        jacobian = parameter_jacobian(reparametrisation)
        indices = expansion.unique.indices()
        slopes = np.zeros((len(indices), len(jacobian)), dtype=complex)
        needed = np.arange(len(indices)) if where is None else np.setdiff1d(expansion.parent[where], -1)
        for some in _parts(len(needed), jacobian.shape[1]):
            by_atom: list[ComplexArray] = []
            for place in needed[some].tolist():
                linear.linearise(indices[place])
                by_atom.append(to_numpy(linear.grad_f_calc))
            slopes[needed[some]] = np.array(by_atom) @ jacobian.T
        return cls(expansion=expansion, slopes=slopes)

    @classmethod
    def with_room(
        cls, expansion: Expansion, reparametrisation: Any, rows: int, remedy: str, where: IntArray | None = None
    ) -> StructureSlopes:
        """The same where the memory holds them and the derivatives of so many intensities.

        Raises
        ------
        TooLarge
            It does not; the remedy says what to do.
        """
        number, parameters = expansion.unique.size(), reparametrisation.n_independents
        expect_room(
            (_BYTES_PER_SLOPE * number + _BYTES_PER_ROW * rows) * parameters,
            f"derivatives of {number} structure factors and {rows} intensities by {parameters} parameters",
            remedy,
        )
        return cls.of(expansion, reparametrisation, where)

    def __call__(self, where: IntArray, rows: ComplexArray) -> FloatArray:
        """∂I/∂p (m, P) from ∂I/∂Re F + i ∂I/∂Im F (m, n) by F at the g vectors of these indices (n,)."""
        unique, by_f = self.expansion.collect_some(where, rows)
        total = np.zeros((len(by_f), self.slopes.shape[1]))
        for some in _parts(len(unique), self.slopes.shape[1]):
            slopes, own = self.slopes[unique[some]], by_f[:, some]
            total += own.real @ slopes.real + own.imag @ slopes.imag
        return total


def _parts(number: int, width: int) -> Iterator[slice]:
    """So many rows of a width, some at a time."""
    length = max(1, _AT_ONCE // max(width, 1))
    return (slice(start, start + length) for start in range(0, number, length))
