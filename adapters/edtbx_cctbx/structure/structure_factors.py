"""Structure factors F(g) in Å of an xray.structure on the g vectors of the solver, and derivatives by F collected back.

Electron form factors must be in place (:func:`edtbx_cctbx.structure.form_factors.set_electron_form_factors`).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from cctbx import crystal, miller, xray

from edtbx.arrays import BoolArray, ComplexArray, IntArray
from edtbx.intensities.potential import GVectors, add_equivalents, indices_within
from edtbx_cctbx.arrays import from_numpy, to_miller_index, to_numpy, translation_vector
from edtbx_cctbx.boundary import expect_structure
from edtbx_cctbx.structure.form_factors import ensure_electron_form_factors


def g_vectors(symmetry: crystal.symmetry, g_max: float) -> GVectors:
    """All g vectors of the lattice with |g| ≤ 2 g_max in Å⁻¹, Friedel mates and 000 included.

    Only absences by centring are left out: reflections absent by a screw axis or glide plane are beams all the same.
    """
    hkl = indices_within(symmetry.unit_cell().parameters(), 2.0 * g_max)
    allowed = np.ones(len(hkl), dtype=bool)
    for operation in symmetry.space_group().all_ops():
        if not operation.r().is_unit_mx():
            continue
        phase = hkl @ translation_vector(operation)
        allowed &= np.abs(phase - np.rint(phase)) < 1e-6
    return GVectors.from_indices(hkl[allowed], g_max)


def miller_set(symmetry: crystal.symmetry, hkl: IntArray, anomalous_flag: bool = True) -> miller.set:
    """A miller set of indices (G, 3), in their order."""
    return miller.set(symmetry, to_miller_index(hkl), anomalous_flag=anomalous_flag)


def indices_of(array: miller.set) -> IntArray:
    """Indices (G, 3) of a miller set."""
    return to_numpy(array.indices())


def f_000(structure: xray.structure) -> float:
    """F(000) in Å of a structure, by direct summation."""
    origin = miller_set(structure, np.zeros((1, 3), dtype=np.int64))
    f_calc = origin.structure_factors_from_scatterers(structure, algorithm="direct", cos_sin_table=False).f_calc()
    return float(f_calc.data()[0].real)


class InexactStructureFactors(UserWarning):
    """A target was given structure factors by FFT in place of direct summation."""


_F_000_TOLERANCE = 0.005
"""cctbx's FFT makes F(000) 1.4 to 15 % too small (81 structures, 7 of them real), direct summation 1e-15."""


def warn_if_by_fft(given: float, structure: xray.structure, known: float) -> None:
    """Warn if F(000) in Å is smaller than ``known`` and than direct summation gives for the structure now.

    Other structure factors are then off by 0.4 to 2 %, derivatives by 2 %. Tables of sines and cosines are not detected:
    they leave F(000) exact, and the rest off by 0.4 %.
    """
    if given > (1.0 - _F_000_TOLERANCE) * known:
        return
    if given > (1.0 - _F_000_TOLERANCE) * f_000(structure):
        return
    warnings.warn(
        f"F(000) is {given:.4g} Å, {1.0 - given / known:.1%} too small: these structure factors come from the FFT, or from "
        'another structure. Pass structure_factor_algorithm="direct", cos_sin_table=False to xray.minimization.lbfgs, '
        "or call edtbx_cctbx.minimise_with_lbfgs",
        InexactStructureFactors,
        stacklevel=3,
    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Expansion:
    """Map from F of the asymmetric unit to F of every g: F(hR) = F(h) e^{−2πi h·t}, conjugated for Friedel mates.

    ``parent`` (G,) is the index in ``unique``, −1 for systematic absences; ``phase`` (G,) the factor e^{−2πi h·t}; ``mate``
    (G,) whether F is conjugated.
    """

    unique: miller.set
    parent: IntArray
    phase: ComplexArray
    mate: BoolArray

    @classmethod
    def of(cls, symmetry: crystal.symmetry, vectors: GVectors) -> Expansion:
        """The expansion to given g vectors, derived from cctbx's own expansion to P1."""
        everywhere = miller_set(symmetry, vectors.hkl, anomalous_flag=False)
        unique = everywhere.select(~everywhere.sys_absent_flags().data()).map_to_asu().unique_under_symmetry()
        ones = _expanded(unique, np.ones(unique.size(), dtype=complex))
        turned = to_numpy(_expanded(unique, np.full(unique.size(), 1j)).data())
        places = to_numpy(_expanded(unique, np.arange(unique.size(), dtype=float)).data())
        phase = to_numpy(ones.data())
        at = vectors.find(indices_of(ones))
        parent = np.full(len(vectors.hkl), -1, dtype=np.int64)
        phases, mate = np.zeros(len(parent), dtype=complex), np.zeros(len(parent), dtype=bool)
        parent[at], phases[at], mate[at] = np.rint(places), phase, (turned / phase).imag < 0.0
        return cls(unique=unique, parent=parent, phase=phases, mate=mate)

    def expand(self, f_unique: ComplexArray) -> ComplexArray:
        """F (G,) of every g."""
        f = f_unique[self.parent]
        return np.asarray(self.phase * np.where(self.mate, f.conj(), f))

    def collect(self, derivatives: ComplexArray) -> ComplexArray:
        """∂T/∂Re F + i ∂T/∂Im F (U,) of the asymmetric unit from those of every g (G,)."""
        unique, sums = self.collect_some(np.arange(len(self.parent)), derivatives.reshape(1, -1))
        total = np.zeros(self.unique.size(), dtype=complex)
        total[unique] = sums[0]
        return total

    def collect_some(self, where: IntArray, derivatives: ComplexArray) -> tuple[IntArray, ComplexArray]:
        """The same for m sets of derivatives (m, n) by F at the g vectors of indices (n,): indices (u,) in ``unique``, and
        the derivatives (m, u) by those.
        """
        where, derivatives = where[self.parent[where] >= 0], derivatives[:, self.parent[where] >= 0]
        unique, parent = np.unique(self.parent[where], return_inverse=True)
        total = np.zeros((len(derivatives), len(unique)), dtype=complex)
        add_equivalents(parent, self.phase[where], self.mate[where], np.ascontiguousarray(derivatives), total)
        return unique, total

    def structure_factors(self, structure: xray.structure) -> ComplexArray:
        """F (G,) in Å by direct summation over the atoms."""
        return self.expand(self.unique_structure_factors(structure))

    def unique_structure_factors(self, structure: xray.structure) -> ComplexArray:
        """F (U,) in Å of the asymmetric unit, by direct summation over the atoms."""
        f_calc = self.unique.structure_factors_from_scatterers(
            xray_structure=structure, algorithm="direct", cos_sin_table=False
        ).f_calc()
        return to_numpy(f_calc.data())


def structure_factors(structure: xray.structure, g_max: float) -> tuple[GVectors, ComplexArray]:
    """The g vectors (G, 3) that couple beams with |g| ≤ g_max in Å⁻¹, and F(g) (G,) in Å, as input of a solver.

    Raises
    ------
    TypeError, ValueError
        ``structure`` is no xray.structure, or has no atoms.
    """
    ensure_electron_form_factors(expect_structure(structure))
    vectors = g_vectors(structure, g_max)
    return vectors, Expansion.of(structure, vectors).structure_factors(structure)


def _expanded(unique: miller.set, data: ComplexArray) -> miller.array:
    return unique.array(data=from_numpy(data)).expand_to_p1().generate_bijvoet_mates()
