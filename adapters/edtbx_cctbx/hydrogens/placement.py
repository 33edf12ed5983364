"""Hydrogen atoms placed by geometry: their number from bond lengths and angles of the parent, then their sites.

For organic molecules that lack no other atoms. Parents for which geometry does not decide (water, the nitrogen of imidazole)
get none, and are reported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from cctbx import xray

from edtbx.arrays import FloatArray
from edtbx_cctbx.hydrogens.riding import NUCLEAR
from edtbx_cctbx.hydrogens.valences import Neighbour, is_carboxylate, lacking, neighbours_of
from edtbx_cctbx.structure.connectivity import bonds, joined
from edtbx_cctbx.structure.form_factors import set_electron_form_factors

_TETRAHEDRAL = math.acos(-1.0 / 3.0)
_CONTACT = 3.3
"""Greatest distance in Å between donor and acceptor of a hydrogen bond."""


def place_hydrogens(structure: xray.structure) -> tuple[xray.structure, list[str]]:
    """A copy with hydrogen added, and the labels of atoms for which geometry does not decide.

    Hydrogen is put at nuclear distances, with 1.2 or 1.5 times the displacement of the parent. Atoms that have hydrogen
    already get no more.
    """
    structure = joined(structure)
    completed = structure.deep_copy_scatterers()
    table = bonds(structure)
    surroundings = {
        place: neighbours_of(structure, table, place)
        for place, scatterer in enumerate(structure.scatterers())
        if scatterer.element_symbol() in ("C", "N", "O")
    }
    acid = any(
        structure.scatterers()[place].element_symbol() == "O" and not hydrogen and is_carboxylate(neighbours)
        for place, (neighbours, hydrogen) in surroundings.items()
    )
    unsure = []
    labels = {scatterer.label for scatterer in structure.scatterers()}
    for place, (neighbours, hydrogen) in surroundings.items():
        parent = structure.scatterers()[place]
        element = parent.element_symbol()
        if hydrogen:
            continue
        number = lacking(element, neighbours, acid)
        if number is None:
            unsure.append(parent.label)
            continue
        origin = np.array(structure.unit_cell().orthogonalize(parent.site))
        sites = _sites(
            neighbours, number, NUCLEAR[element], lambda at, o=origin, p=place: _attraction(structure, p, o + at)
        )
        turns = len(neighbours) == 1 and number in (1, 3)
        add_hydrogens(completed, place, [origin + site for site in sites], turns, labels)
    set_electron_form_factors(completed)
    return completed, unsure


def add_hydrogens(
    structure: xray.structure, place: int, sites: Sequence[FloatArray], turns: bool, taken: set[str]
) -> None:
    """Add hydrogen atoms of one parent to a structure, in place.

    Parameters
    ----------
    structure : xray.structure
    place : int
        Index of the parent.
    sites : sequence of (3,), Å
        Cartesian sites of the hydrogen atoms.
    turns : bool
        Whether they turn about the bond of the parent: U_iso is 1.5 times that of the parent then, else 1.2 times.
    taken : set of str
        Labels in use; those of the new atoms are added.
    """
    cell, parent = structure.unit_cell(), structure.scatterers()[place]
    label, occupancy, u = parent.label, parent.occupancy, parent.u_iso_or_equiv(cell)
    for n, site in enumerate(sites):
        structure.add_scatterer(
            xray.scatterer(
                label=_label(label, n if len(sites) > 1 else None, taken),
                site=cell.fractionalize(tuple(float(x) for x in site)),
                u=(1.5 if turns else 1.2) * u,
                occupancy=occupancy,
                scattering_type="H",
            )
        )


def room_on_carbon(structure: xray.structure, table: Any, place: int) -> int:
    """Number of hydrogen atoms that a carbon atom lacks, from its other bonds in a table of bonds."""
    neighbours, hydrogen = neighbours_of(structure, table, place)
    return max((lacking("C", neighbours, False) or 0) - hydrogen, 0)


def _sites(neighbours: list[Neighbour], number: int, length: float, attraction: Any) -> list[FloatArray]:
    """Sites of hydrogen relative to the parent, in Å."""
    if not number:
        return []
    if len(neighbours) > 1:
        away = -np.sum([neighbour.direction for neighbour in neighbours], axis=0)
        away /= np.linalg.norm(away)
        if number == 1:
            return [length * away]
        across = np.cross(neighbours[0].direction, neighbours[1].direction)
        across /= np.linalg.norm(across)
        half = 0.5 * math.radians(108.0)
        return [length * (math.cos(half) * away + sign * math.sin(half) * across) for sign in (1.0, -1.0)]
    axis, sideways = _frame(neighbours[0])
    if number == 2:
        half = math.radians(60.0)
        return [length * (math.cos(half) * axis + sign * math.sin(half) * sideways) for sign in (1.0, -1.0)]
    if number == 1 and neighbours[0].is_triple:
        return [length * axis]
    third = np.cross(axis, sideways)

    def turned(angle: float) -> FloatArray:
        across = math.cos(angle) * sideways + math.sin(angle) * third
        return np.asarray(length * (math.sin(_TETRAHEDRAL) * across - math.cos(_TETRAHEDRAL) * axis))

    start = 0.0
    if number == 1:
        angles = np.linspace(0.0, 2.0 * math.pi, 36, endpoint=False)
        start = float(angles[int(np.argmax([attraction(turned(angle)) for angle in angles]))])
    return [turned(start + 2.0 * math.pi * n / 3.0) for n in range(number)]


def _frame(neighbour: Neighbour) -> tuple[FloatArray, FloatArray]:
    """Unit vectors away from the only neighbour, and across that in the plane of the neighbour's first bond (staggered)."""
    axis = -neighbour.direction
    candidates = [neighbour.bond - far for _, far in neighbour.further] + list(np.eye(3))
    across = [candidate - (candidate @ axis) * axis for candidate in candidates]
    # one along the axis, as in nitriles, says nothing
    sideways = next(candidate for candidate in across if np.linalg.norm(candidate) > 0.3)
    return axis, np.asarray(sideways / np.linalg.norm(sideways))


def _attraction(structure: xray.structure, donor: int, site: FloatArray) -> float:
    """Score of a hydrogen site: minus its distance in Å to the nearest acceptor around the donor."""
    cell = structure.unit_cell()
    orthogonal = np.array(cell.orthogonalization_matrix()).reshape(3, 3)
    donor_site = np.array(structure.scatterers()[donor].site)
    best = -_CONTACT
    for acceptor in structure.scatterers():
        if acceptor.element_symbol() not in ("N", "O", "F", "Cl"):
            continue
        equivalent = np.array([operation * acceptor.site for operation in structure.space_group()])
        shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3)
        # those nearest to the donor, and their neighbours in the next cells
        images = equivalent - np.rint(equivalent - donor_site)
        images = (images[:, None] + shifts[None]).reshape(-1, 3) @ orthogonal.T
        from_donor = np.linalg.norm(images - donor_site @ orthogonal.T, axis=1)
        near = images[(from_donor > 2.4) & (from_donor < _CONTACT)]
        if len(near):
            best = max(best, -float(np.linalg.norm(near - site, axis=1).min()))
    return best


def _label(parent: str, number: int | None, taken: set[str]) -> str:
    base = "H" + parent.lstrip("CNOcno")
    letters = [""] if number is None else ["ABC"[number]]
    label = next(
        name
        for suffix in ("", *(chr(c) for c in range(ord("a"), ord("z") + 1)))
        for letter in letters
        if (name := base + letter + suffix) not in taken
    )
    taken.add(label)
    return label
