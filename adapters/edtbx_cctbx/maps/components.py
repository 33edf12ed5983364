"""Real parameters of a change of the structure factors, and their expected sizes, as a prior for maps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edtbx.arrays import BoolArray, ComplexArray, FloatArray, IntArray
from edtbx_cctbx.arrays import to_numpy
from edtbx_cctbx.structure.f_calc_derivatives import StructureSlopes
from edtbx_cctbx.structure.form_factors import form_factor
from edtbx_cctbx.structure.structure_factors import Expansion

_LEAST_EXPECTED = 0.005
"""Least expected change of a structure factor, relative to the largest, that is estimated."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Components:
    """Real parameters of a change of the structure factors of the asymmetric unit, in units of their expected size.

    Attributes
    ----------
    expansion : Expansion
    place : (P,)
        Index of the structure factor that a parameter belongs to; F(000) has none.
    direction : (P,) complex
        Of the change: one for each centric structure factor, two for others.
    expected : (P,), Å
        Expected size, from an atom of one kind anywhere in the asymmetric unit.
    """

    expansion: Expansion
    place: IntArray
    direction: ComplexArray
    expected: FloatArray

    @classmethod
    def of(cls, expansion: Expansion, scattering_type: str, u_iso: float) -> Components:
        """Components for one missing atom in the asymmetric unit, of a scattering type and displacement in Å².

        Raises
        ------
        Sorry
            There is no form factor of that name.
        """
        unique = expansion.unique
        group = unique.space_group()
        squared = unique.sin_theta_over_lambda_sq().data()
        gaussian = form_factor(scattering_type)
        amplitude = np.array([gaussian.at_stol_sq(x) for x in squared])
        amplitude *= np.exp(-8.0 * np.pi**2 * u_iso * to_numpy(squared))
        size = amplitude * np.sqrt(to_numpy(unique.epsilons().data()) * group.order_z() * group.n_ltr())
        free = ~to_numpy(unique.centric_flags().data())
        size[free] /= np.sqrt(2.0)
        angles = np.array([group.phase_restriction(h).ht_angle() for h in unique.indices()])
        along = np.where(free, 1.0, np.exp(1j * np.where(free, 0.0, angles)))
        first = np.flatnonzero(to_numpy(squared) > 0.0)
        second = first[free[first]]
        return cls(
            expansion=expansion,
            place=np.concatenate([first, second]),
            direction=np.concatenate([along[first], np.full(len(second), 1j)]),
            expected=np.concatenate([size[first], size[second]]),
        )

    @property
    def are_likely(self) -> BoolArray:
        """Which components (P,) have an expected size that is not negligible beside the largest."""
        return np.asarray(self.expected > _LEAST_EXPECTED * self.expected.max())

    def likely(self) -> Components:
        """The likely components alone."""
        kept = self.are_likely
        return replace(self, place=self.place[kept], direction=self.direction[kept], expected=self.expected[kept])

    def __call__(self, where: IntArray, rows: ComplexArray) -> FloatArray:
        """∂I/∂p (m, P) from ∂I/∂Re F + i ∂I/∂Im F (m, n) by F at the g vectors of these indices (n,)."""
        unique, by_f = self.expansion.collect_some(where, rows)
        every = np.zeros((len(rows), self.expansion.unique.size()), dtype=np.complex64)
        every[:, unique] = by_f
        return np.asarray(np.real(every[:, self.place] * self.direction.conj()) * self.expected, dtype=np.float32)

    def change(self, parameters: FloatArray) -> ComplexArray:
        """ΔF (U,) in Å from parameters (P,)."""
        return self._sum(self.expected * parameters)

    def along(self, change: ComplexArray) -> FloatArray:
        """Parameters (P,) that make a change ΔF (U,) in Å."""
        return np.asarray(np.real(change[self.place] * self.direction.conj()) / self.expected)

    def gradient(self, by_parameters: FloatArray) -> ComplexArray:
        """∂/∂Re F + i ∂/∂Im F (U,) from derivatives (P,) by the parameters."""
        return self._sum(by_parameters / self.expected)

    def allowed(self, values: ComplexArray) -> ComplexArray:
        """Values (U,) projected on the phases that symmetry allows; 0 for F(000)."""
        return self._sum(np.real(values[self.place] * self.direction.conj()))

    def _sum(self, along: FloatArray) -> ComplexArray:
        total = np.zeros(self.expansion.unique.size(), dtype=complex)
        np.add.at(total, self.place, self.direction * along)
        return total


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ComponentsAndAtoms:
    """Chain rule from derivatives by F of every g to those by components and by typical shifts (Q,) of the atoms."""

    components: Components
    slopes: StructureSlopes
    usual: FloatArray

    def __call__(self, where: IntArray, rows: ComplexArray) -> FloatArray:
        """∂I/∂p (m, P + Q) from ∂I/∂Re F + i ∂I/∂Im F (m, n) by F at the g vectors of these indices (n,)."""
        by_atoms = self.slopes(where, rows) * self.usual
        return np.concatenate([self.components(where, rows), by_atoms], axis=1, dtype=np.float32)
