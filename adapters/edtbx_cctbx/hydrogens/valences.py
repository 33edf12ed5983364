"""Number of hydrogen atoms that an atom of an organic molecule lacks, from lengths and angles of its bonds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from cctbx import xray

from edtbx.arrays import FloatArray
from edtbx_cctbx.structure.connectivity import angle_between, is_hydrogen

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


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Neighbour:
    """Neighbour of an atom, the parent.

    ``bond`` (3,) in Å is its place from the parent; ``further`` are its other neighbours, by element and place from the
    parent.
    """

    element: str
    bond: FloatArray
    further: tuple[tuple[str, FloatArray], ...]

    @property
    def length(self) -> float:
        """Length of the bond in Å."""
        return float(np.linalg.norm(self.bond))

    @property
    def direction(self) -> FloatArray:
        """Unit vector (3,) from the parent."""
        return np.asarray(self.bond / self.length)

    @property
    def is_triple(self) -> bool:
        """Whether the bond is a triple one by its length."""
        return self.shorter_than_single(_TRIPLE)

    def shorter_than_single(self, by: float) -> bool:
        """Whether the bond is shorter than a single one to carbon by so much, in Å."""
        return self.length < _SINGLE.get(self.element, 1.53) - by


def neighbours_of(structure: xray.structure, table: Any, place: int) -> tuple[list[Neighbour], int]:
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
            Neighbour(
                element=scatterers[j].element_symbol(),
                bond=relative(operation * scatterers[j].site),
                further=tuple(far for far in further if np.linalg.norm(far[1]) > 0.1),
            )
        )
    return neighbours, hydrogen


def lacking(element: str, neighbours: list[Neighbour], acid: bool) -> int | None:
    """Number of hydrogen atoms on carbon, nitrogen or oxygen with such neighbours; None where geometry does not decide.

    ``acid`` says whether the structure has a carboxylate.
    """
    if element == "N":
        return _on_nitrogen(neighbours, acid)
    return _on_carbon(neighbours) if element == "C" else _on_oxygen(neighbours)


def _angles(neighbours: list[Neighbour]) -> list[float]:
    """Angles in degrees between the bonds of the parent."""
    return [angle_between(first.bond, second.bond) for first, second in itertools.combinations(neighbours, 2)]


def _on_carbon(neighbours: list[Neighbour]) -> int | None:
    number, angles = len(neighbours), _angles(neighbours)
    multiple = any(neighbour.shorter_than_single(_MULTIPLE) for neighbour in neighbours)
    triple = any(neighbour.is_triple for neighbour in neighbours)
    if number == 1:
        return 1 if triple else 2 if multiple else 3
    if number == 2:
        return 0 if angles[0] > 160.0 else 1 if multiple else 2
    if number == 3:
        return 0 if sum(angles) > 350.0 else 1
    return 0 if number else None


def _on_nitrogen(neighbours: list[Neighbour], acid: bool) -> int | None:
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


def _on_oxygen(neighbours: list[Neighbour]) -> int | None:
    if len(neighbours) != 1:
        return 0 if neighbours else None
    if is_carboxylate(neighbours):
        return 0
    least = {"C": 1.28, "N": 1.36, "P": 1.54, "S": 1.53, "B": 1.33}.get(neighbours[0].element)
    if neighbours[0].element == "C" and _has_the_double_bond(neighbours[0]):
        least = _LONGEST_CARBONYL
    return 0 if least is None or neighbours[0].length < least else 1


def _has_the_double_bond(carbon: Neighbour) -> bool:
    """Whether a planar carbon beside the parent has two more neighbours, and bonds to both are less short than the parent's.

    One of the three is a double bond, and where a model still lacks hydrogen lengths are off by some hundredths.
    """
    lengths = [(element, float(np.linalg.norm(far - carbon.bond))) for element, far in carbon.further]
    shortest = min((length - _SINGLE.get(element, 1.53) for element, length in lengths), default=0.0)
    return len(lengths) == 2 and carbon.length - _SINGLE["O"] < shortest


def is_carboxylate(neighbours: list[Neighbour]) -> bool:
    """Whether the neighbours of a terminal oxygen are those in a carboxylate: two equal C-O bonds."""
    if len(neighbours) != 1 or neighbours[0].element != "C":
        return False
    carbon = neighbours[0]
    oxygen_distances = [float(np.linalg.norm(far - carbon.bond)) for element, far in carbon.further if element == "O"]
    return any(
        abs(distance - carbon.length) < _SAME and 0.5 * (distance + carbon.length) < 1.32
        for distance in oxygen_distances
    )
