"""Derivatives of structure factors by the independent parameters of a structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from smtbx.structure_factors import direct

from edtbx.arrays import ComplexArray, FloatArray, IntArray
from edtbx.execution.memory import expect_room
from edtbx_cctbx.arrays import parameter_jacobian, to_numpy
from edtbx_cctbx.structure.structure_factors import Expansion

_BYTES_PER_SLOPE, _BYTES_PER_ROW = 32.0, 24.0
"""Bytes for a derivative of a structure factor, and of an intensity, by a parameter; two or three copies exist at once."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StructureSlopes:
    """∂F/∂p (U, P) of the asymmetric unit, for the chain rule from derivatives by F of every g to those by p."""

    expansion: Expansion
    slopes: ComplexArray

    @classmethod
    def of(cls, expansion: Expansion, reparametrisation: Any) -> StructureSlopes:
        """∂F/∂p at the current structure of a linearised reparametrisation of smtbx.

        The flags of the atoms must be those that it was made with: smtbx corrupts memory otherwise.
        """
        structure = reparametrisation.structure
        structure.scattering_type_registry()
        linear = direct.f_calc_modulus_squared(structure)
        by_atom: list[ComplexArray] = []
        for h in expansion.unique.indices():
            linear.linearise(h)
            by_atom.append(to_numpy(linear.grad_f_calc))
        jacobian = parameter_jacobian(reparametrisation)
        return cls(expansion=expansion, slopes=np.array(by_atom) @ jacobian.T)

    @classmethod
    def with_room(cls, expansion: Expansion, reparametrisation: Any, rows: int, remedy: str) -> StructureSlopes:
        """The same where the memory holds them and the derivatives of so many intensities.

        Raises
        ------
        TooLarge
            It does not; the remedy says what to do.
        """
        number, atoms = expansion.unique.size(), reparametrisation.structure.scatterers().size()
        parameters = reparametrisation.n_independents
        expect_room(
            _BYTES_PER_SLOPE * number * 9 * atoms + _BYTES_PER_ROW * rows * parameters,
            f"derivatives of {number} structure factors and {rows} intensities by {parameters} parameters",
            remedy,
        )
        return cls.of(expansion, reparametrisation)

    def __call__(self, where: IntArray, rows: ComplexArray) -> FloatArray:
        """∂I/∂p (m, P) from ∂I/∂Re F + i ∂I/∂Im F (m, n) by F at the g vectors of these indices (n,)."""
        unique, by_f = self.expansion.collect_some(where, rows)
        slopes = self.slopes[unique]
        return np.asarray(by_f.real @ slopes.real + by_f.imag @ slopes.imag)
