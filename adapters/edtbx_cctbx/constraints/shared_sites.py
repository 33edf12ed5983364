"""Atoms on one site, which share position and displacement because data cannot tell these apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cctbx import xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from edtbx_cctbx.structure.connectivity import Parts, moved_by

SAME_SITE = 0.02
"""Distance in Å below which atoms are on one site: files have four or five digits."""

_FULL = 0.999


def merged(groups: Iterable[Sequence[int]]) -> list[tuple[int, ...]]:
    """Groups merged where they overlap, in the order of their first members."""
    disjoint: list[set[int]] = []
    for group in groups:
        members = set(group)
        for overlapping in [overlapping for overlapping in disjoint if overlapping & members]:
            members |= overlapping
            disjoint.remove(overlapping)
        disjoint.append(members)
    return sorted(tuple(sorted(members)) for members in disjoint if len(members) > 1)


def atoms_on_one_site(structure: xray.structure) -> tuple[xray.structure, list[tuple[int, ...]]]:
    """The structure, copied with atoms on one site next to each other where needed, and the groups of these atoms.

    Raises
    ------
    Sorry
        Two atoms on one site have occupancy 1 each.
    """
    table = structure.pair_asu_table(distance_cutoff=SAME_SITE).extract_pair_sym_table()
    groups = merged([i, j] for i, neighbours in enumerate(table) for j, _ in neighbours.items() if j != i)
    scatterers = structure.scatterers()
    operations = {}
    for first, *rest in groups:
        full = [scatterers[place].label for place in (first, *rest) if scatterers[place].occupancy > _FULL]
        if len(full) > 1:
            raise Sorry(
                f"atoms {' and '.join(full)} are on one site, with occupancy 1 each: remove one of them, or correct the "
                "occupancies"
            )
        for place in rest:
            operation = table[first][place][0]
            if not operation.is_unit_mx():
                operations[place] = operation
    return (moved_by(structure, operations) if operations else structure), groups


def parts_without(structure: xray.structure, places: frozenset[int]) -> Parts | None:
    """Parts that leave some atoms without bonds, so that they do not count as neighbours; None for no such atoms."""
    if not places:
        return None
    number = len(structure.scatterers())
    return Parts(
        conformers=tuple(2 + place if place in places else 1 for place in range(number)),
        exclusive=(0,) * number,
    )


def make_alike(structure: xray.structure, groups: Iterable[Sequence[int]]) -> None:
    """Make mixed groups of atoms anisotropic, in place: smtbx needs one kind for shared displacements."""
    scatterers = structure.scatterers()
    for group in groups:
        if len({bool(scatterers[place].flags.use_u_aniso()) for place in group}) > 1:
            chosen = flex.bool(len(scatterers), False)
            for place in group:
                chosen[place] = bool(scatterers[place].flags.use_u_iso())
            structure.convert_to_anisotropic(selection=chosen)


def described(structure: xray.structure, groups: Iterable[Sequence[int]]) -> list[str]:
    """A line for each group of atoms on one site, with their occupancies."""
    scatterers = structure.scatterers()
    lines = []
    for group in groups:
        labels = [scatterers[place].label for place in group]
        occupancies = [scatterers[place].occupancy for place in group]
        said = " + ".join(f"{occupancy:g}" for occupancy in occupancies)
        lines.append(
            f"{' and '.join(labels)} are on one site (occupancies {said} = {sum(occupancies):g}): they share position and "
            f'displacement; refinement.occupancies="{"+".join(labels)}=1" refines the ratio'
        )
    return lines
