"""Riding constraints on hydrogen atoms, at nuclear distances, as electrons scatter from the potential of the nuclei.

The geometry is that of smtbx (SHELXL's AFIX); this module chooses the constraint for each parent.

References
----------
F. H. Allen & I. J. Bruno, Acta Cryst. B66, 380 (2010), doi:10.1107/S0108768110012048 (distances from neutrons).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from cctbx import xray
from smtbx.refinement import constraints
from smtbx.refinement.constraints import adp
from smtbx.refinement.constraints.geometrical import hydrogens

from edtbx.arrays import FloatArray
from edtbx_cctbx.arrays import to_numpy
from edtbx_cctbx.structure.connectivity import Parts, bonds, connectivity, is_hydrogen

NUCLEAR = {"B": 1.19, "C": 1.09, "N": 1.03, "O": 0.98, "S": 1.34}
"""X-H distances in Å between nuclei."""

_KINDS = {
    ("C", 3, 1): hydrogens.tertiary_xh_site,
    ("C", 2, 2): hydrogens.secondary_xh2_sites,
    ("C", 2, 1): hydrogens.secondary_planar_xh_site,
    ("C", 1, 3): hydrogens.terminal_tetrahedral_xh3_sites,
    ("C", 1, 2): hydrogens.terminal_planar_xh2_sites,
    ("C", 1, 1): hydrogens.terminal_linear_ch_site,
    ("N", 3, 1): hydrogens.tertiary_xh_site,
    ("N", 2, 2): hydrogens.secondary_xh2_sites,
    ("N", 2, 1): hydrogens.secondary_planar_xh_site,
    ("N", 1, 3): hydrogens.terminal_tetrahedral_xh3_sites,
    ("N", 1, 2): hydrogens.terminal_planar_xh2_sites,
    ("O", 1, 1): hydrogens.terminal_tetrahedral_xh_site,
    ("B", 3, 1): hydrogens.tertiary_xh_site,
}
"""Constraints by element, number of other neighbours and number of hydrogen atoms of the parent; others stay free."""

_TURNING = (hydrogens.terminal_tetrahedral_xh3_sites, hydrogens.terminal_tetrahedral_xh_site)
"""Groups that turn about the bond of the parent; U_iso is 1.5 times the parent's U_eq, 1.2 times for others."""

_FARTHEST = 0.6
"""Greatest distance in Å of hydrogen from its riding position; hydrogen farther off stays free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """Indices of an atom and of its hydrogen atoms, and its number of other neighbours."""

    place: int
    hydrogen: tuple[int, ...]
    others: int


def parents(structure: xray.structure, parts: Parts | None = None) -> list[Parent]:
    """Parents of hydrogen atoms, one entry for each conformer of the hydrogen.

    Parents are left out if symmetry repeats a hydrogen atom on them, or if they have hydrogen both of conformer 0 and of
    others.
    """
    scatterers = structure.scatterers()
    conformers = (0,) * len(scatterers) if parts is None else parts.conformers
    table = bonds(structure, parts)
    listed = []
    for place, scatterer in enumerate(scatterers):
        if is_hydrogen(scatterer):
            continue
        near: dict[bool, list[int]] = defaultdict(list)
        for neighbour, operations in table[place].items():
            near[is_hydrogen(scatterers[neighbour])].extend([neighbour] * len(operations))
        present = sorted({conformers[n] for n in near[True]})
        if len(present) > 1 and 0 in present:
            continue
        for conformer in present:
            hydrogen = [n for n in near[True] if conformers[n] == conformer]
            others = [n for n in near[False] if conformer == 0 or conformers[n] in (0, conformer)]
            if len(set(hydrogen)) == len(hydrogen):
                listed.append(Parent(place=place, hydrogen=tuple(hydrogen), others=len(others)))
    return listed


def riding_constraints(
    structure: xray.structure, parts: Parts | None = None, without: frozenset[int] = frozenset()
) -> list[Any]:
    """Riding constraints of smtbx: sites at nuclear distances, U_iso in proportion to U_eq of the parent.

    Each hydrogen atom of a parent takes the riding position nearest to it; where that is far, they stay free.

    Parameters
    ----------
    structure : xray.structure
        With atoms next to those they are bonded to (see :func:`joined`).
    parts : Parts, optional
        Which atoms are never bonded.
    without : frozenset of int
        Hydrogen atoms whose parents get no constraints.
    """
    candidates = [parent for parent in parents(structure, parts) if without.isdisjoint(parent.hydrogen)]
    given, turned = ([_site_constraint(structure, parent, turn) for parent in candidates] for turn in (False, True))
    moved = [_displacements(structure, variant, parts) for variant in (given, turned)]
    chosen: list[Any] = []
    for constraint, alternative in zip(given, turned, strict=True):
        if constraint is None:
            continue
        places = list(constraint.constrained_site_indices)
        if min(distances[places].max() for distances in moved) > _FARTHEST:
            continue
        chosen.append(constraint if moved[0][places].sum() <= moved[1][places].sum() else alternative)
        chosen += [
            adp.u_iso_proportional_to_pivot_u_eq(
                u_iso_scatterer_idx=place,
                u_eq_scatterer_idx=constraint.pivot,
                multiplier=1.5 if isinstance(constraint, _TURNING) else 1.2,
            )
            for place in places
            if structure.scatterers()[place].flags.use_u_iso()
        ]
    return chosen


def _site_constraint(structure: xray.structure, parent: Parent, turn: bool) -> Any:
    """Constraint on the hydrogen of one parent, the last two atoms exchanged on request; None where no kind fits."""
    element = structure.scatterers()[parent.place].element_symbol()
    kind = _KINDS.get((element, parent.others, len(parent.hydrogen)))
    if kind is None:
        return None
    places = parent.hydrogen
    return kind(
        pivot=parent.place,
        constrained_site_indices=(*places[:-2], *places[:-3:-1]) if turn else places,
        bond_length=NUCLEAR[element],
        rotating=kind in _TURNING,
    )


def _displacements(structure: xray.structure, held: list[Any], parts: Parts | None) -> FloatArray:
    """Shifts (A,) in Å of the atoms by a set of constraints."""
    moved = structure.deep_copy_scatterers()
    rp = constraints.reparametrisation(
        structure=moved,
        constraints=[constraint for constraint in held if constraint is not None],
        connectivity_table=connectivity(moved, parts),
    )
    rp.linearise()
    rp.store()
    return to_numpy((moved.sites_cart() - structure.sites_cart()).norms())
