"""F(g) of an xray.structure on the g vectors of the solver, and the way back: gradients by its parameters.

Electron form factors must be in place (:func:`edtbx_cctbx.model.set_electron_form_factors`).
"""

from __future__ import annotations

import numpy as np
from cctbx import crystal, miller, xray
from cctbx.array_family import flex

from edtbx.experiment import ComplexArray, IntArray
from edtbx.potential import GVectors, indices_within


def g_vectors(structure: xray.structure, g_max: float) -> GVectors:
    """All g that the lattice allows out to 2 g_max in Å⁻¹, Friedel mates and 000 included.

    Only the centring is taken out: reflections that a screw axis or a glide plane extinguishes are beams all the same.
    """
    hkl = indices_within(structure.unit_cell().parameters(), 2.0 * g_max)
    group = structure.space_group()
    centring = [np.array(group(i).t().as_double()) for i in range(1, group.n_ltr())]
    allowed = np.ones(len(hkl), dtype=bool)
    for shift in centring:
        phase = hkl @ shift
        allowed &= np.abs(phase - np.rint(phase)) < 1e-6
    return GVectors.from_indices(hkl[allowed], g_max)


def miller_set(structure: crystal.symmetry, hkl: IntArray, anomalous_flag: bool = True) -> miller.set:
    """The indices (G, 3) as a miller set in their own order."""
    indices = flex.miller_index(*(flex.int(np.ascontiguousarray(column, dtype=np.int32)) for column in hkl.T))
    return miller.set(structure.crystal_symmetry(), indices, anomalous_flag=anomalous_flag)


def structure_factors(structure: xray.structure, vectors: GVectors) -> ComplexArray:
    """F(g) in Å (G,), by direct summation over the asymmetric unit of g; zero where the space group extinguishes."""
    everywhere = miller_set(structure, vectors.hkl, anomalous_flag=False)
    unique = everywhere.select(~everywhere.sys_absent_flags().data()).map_to_asu().unique_under_symmetry()
    f_unique = unique.structure_factors_from_scatterers(
        xray_structure=structure, algorithm="direct", cos_sin_table=False
    ).f_calc()
    full = f_unique.expand_to_p1().generate_bijvoet_mates()
    f = np.zeros(len(vectors.hkl), dtype=complex)
    f[vectors.find(indices_of(full))] = full.data().as_numpy_array()
    return f


def indices_of(array: miller.set) -> IntArray:
    """The indices (G, 3) of a miller set."""
    return np.asarray(np.rint(array.indices().as_vec3_double().as_numpy_array()), dtype=np.int64)
