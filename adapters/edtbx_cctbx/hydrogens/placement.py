"""Hydrogen atoms placed by geometry: their number from bond lengths and angles of the parent, then their sites.

For organic molecules that lack no other atoms. Parents for which geometry does not decide (water, the nitrogen of imidazole)
get none, and are reported.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cctbx import xray

from edtbx.arrays import FloatArray
from edtbx_cctbx.hydrogens.riding import NUCLEAR
from edtbx_cctbx.structure.connectivity import angle_between, bonds, is_hydrogen, joined
from edtbx_cctbx.structure.form_factors import set_electron_form_factors

_SINGLE = {"C": 1.53, "N": 1.47, "O": 1.43, "S": 1.81}
"""Lengths of single bonds of carbon to other elements, in Å."""

_MULTIPLE = 0.09
"""A bond shorter than single by this much, in Å, is a multiple one."""

_TRIPLE = 0.27
"""A bond shorter than single by this much, in Å, is a triple one."""

_LONGEST_CARBONYL = 1.32
"""C-O bonds longer than this, in Å, are those of hydroxyl, also where no other bond of the carbon is shorter."""

_SAME = 0.065
"""Greatest difference in Å between the C-O bonds of a carboxylate; in a carboxylic acid it is 0.1 Å."""

_TETRAHEDRAL = math.acos(-1.0 / 3.0)
_CONTACT = 3.3
"""Greatest distance in Å between donor and acceptor of a hydrogen bond."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Neighbour:
    element: str
    bond: FloatArray  # from the parent, (3,) in Å
    further: tuple[tuple[str, FloatArray], ...]  # its other neighbours, from the parent

    @property
    def length(self) -> float:
        return float(np.linalg.norm(self.bond))

    @property
    def direction(self) -> FloatArray:
        return np.asarray(self.bond / self.length)

    def shorter_than_single(self, by: float) -> bool:
        return self.length < _SINGLE.get(self.element, 1.53) - by


def place_hydrogens(structure: xray.structure) -> tuple[xray.structure, list[str]]:
    """A copy with hydrogen added, and the labels of atoms for which geometry does not decide.

    Hydrogen is put at nuclear distances, with 1.2 or 1.5 times the displacement of the parent. Atoms that have hydrogen
    already get no more.
    """
    structure = joined(structure)
    completed = structure.deep_copy_scatterers()
    table = bonds(structure)
    surroundings = {
        place: _neighbours(structure, table, place)
        for place, scatterer in enumerate(structure.scatterers())
        if scatterer.element_symbol() in ("C", "N", "O")
    }
    acid = any(
        structure.scatterers()[place].element_symbol() == "O" and not hydrogen and _is_carboxylate(neighbours)
        for place, (neighbours, hydrogen) in surroundings.items()
    )
    unsure = []
    labels = {scatterer.label for scatterer in structure.scatterers()}
    for place, (neighbours, hydrogen) in surroundings.items():
        parent = structure.scatterers()[place]
        element = parent.element_symbol()
        if hydrogen:
            continue
        if element == "N":
            number = _on_nitrogen(neighbours, acid)
        else:
            number = _on_carbon(neighbours) if element == "C" else _on_oxygen(neighbours)
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
    neighbours, hydrogen = _neighbours(structure, table, place)
    return max((_on_carbon(neighbours) or 0) - hydrogen, 0)


def _neighbours(structure: xray.structure, table: Any, place: int) -> tuple[list[_Neighbour], int]:
    """Neighbours of an atom other than hydrogen, and the number of its hydrogen atoms, from a table of bonds."""
    scatterers, cell = structure.scatterers(), structure.unit_cell()
    origin = np.array(cell.orthogonalize(scatterers[place].site))

    def around(centre: int) -> Iterator[tuple[int, Any]]:
        return ((j, operation) for j, operations in table[centre].items() for operation in operations)

    def relative(site: Any) -> FloatArray:
        return np.asarray(np.array(cell.orthogonalize(site)) - origin)

    neighbours, hydrogen = [], 0
    for j, operation in around(place):
        if is_hydrogen(scatterers[j]):
            hydrogen += 1
            continue
        further = (
            (scatterers[k].element_symbol(), relative(operation.multiply(next_operation) * scatterers[k].site))
            for k, next_operation in around(j)
        )
        neighbours.append(
            _Neighbour(
                element=scatterers[j].element_symbol(),
                bond=relative(operation * scatterers[j].site),
                further=tuple(far for far in further if np.linalg.norm(far[1]) > 0.1),
            )
        )
    return neighbours, hydrogen


def _angles(neighbours: list[_Neighbour]) -> list[float]:
    """Angles in degrees between the bonds of the parent."""
    return [angle_between(first.bond, second.bond) for first, second in itertools.combinations(neighbours, 2)]


def _on_carbon(neighbours: list[_Neighbour]) -> int | None:
    number, angles = len(neighbours), _angles(neighbours)
    multiple = any(neighbour.shorter_than_single(_MULTIPLE) for neighbour in neighbours)
    triple = any(neighbour.shorter_than_single(_TRIPLE) for neighbour in neighbours)
    if number == 1:
        return 1 if triple else 2 if multiple else 3
    if number == 2:
        return 0 if angles[0] > 160.0 else 1 if multiple else 2
    if number == 3:
        return 0 if sum(angles) > 350.0 else 1
    return 0 if number else None


def _on_nitrogen(neighbours: list[_Neighbour], acid: bool) -> int | None:
    """Bond lengths do not tell amines from ammonium in a starting model: beside a carboxylate, ammonium is taken."""
    number, angles = len(neighbours), _angles(neighbours)
    lengths = sorted(neighbour.length for neighbour in neighbours)
    if number == 1:
        amine = 3 if acid else 2
        return next(n for n, most in ((0, 1.22), (1, 1.29), (2, 1.40), (amine, math.inf)) if lengths[0] < most)
    if number == 2:
        if lengths[0] > 1.43:
            return 2 if acid else 1
        if lengths[0] < 1.305:
            return 0
        # of rings of five atoms, angles do not tell
        return None if angles[0] < 112.0 else 1 if angles[0] > 120.0 else 0
    return 0 if number else None


def _on_oxygen(neighbours: list[_Neighbour]) -> int | None:
    if len(neighbours) != 1:
        return 0 if neighbours else None
    if _is_carboxylate(neighbours):
        return 0
    least = {"C": 1.28, "N": 1.36, "P": 1.54, "S": 1.53, "B": 1.33}.get(neighbours[0].element)
    if neighbours[0].element == "C" and _has_the_double_bond(neighbours[0]):
        least = _LONGEST_CARBONYL
    return 0 if least is None or neighbours[0].length < least else 1


def _has_the_double_bond(carbon: _Neighbour) -> bool:
    """Whether a planar carbon beside the parent has two more neighbours, and bonds to both are less short than the parent's.

    One of the three is a double bond, and where a model still lacks hydrogen lengths are off by some hundredths.
    """
    lengths = [(element, float(np.linalg.norm(far - carbon.bond))) for element, far in carbon.further]
    shortest = min((length - _SINGLE.get(element, 1.53) for element, length in lengths), default=0.0)
    return len(lengths) == 2 and carbon.length - _SINGLE["O"] < shortest


def _is_carboxylate(neighbours: list[_Neighbour]) -> bool:
    """Whether the neighbours of a terminal oxygen are those in a carboxylate: two equal C-O bonds."""
    if len(neighbours) != 1 or neighbours[0].element != "C":
        return False
    carbon = neighbours[0]
    oxygen_distances = [float(np.linalg.norm(far - carbon.bond)) for element, far in carbon.further if element == "O"]
    return any(
        abs(distance - carbon.length) < _SAME and 0.5 * (distance + carbon.length) < 1.32
        for distance in oxygen_distances
    )


def _sites(neighbours: list[_Neighbour], number: int, length: float, attraction: Any) -> list[FloatArray]:
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
    if number == 1 and neighbours[0].shorter_than_single(_TRIPLE):
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


def _frame(neighbour: _Neighbour) -> tuple[FloatArray, FloatArray]:
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
