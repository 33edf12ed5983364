"""Groups of refined occupancies: of single atoms, of atoms with a common one, and of sums with a fixed total."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cctbx import xray
from libtbx.utils import Sorry

from edtbx_cctbx.constraints.linear import LEAST, OCCUPANCY, LinearEquation, equal_parameters

_SMALL = 1e-4
"""Difference below which occupancies are equal: files have four digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OccupancyGroup:
    """Occupancies that are refined together.

    ``terms`` are labels of atoms, those of a term with one occupancy in common; the occupancies of several terms add up to
    ``total``. One term alone has no total.
    """

    terms: tuple[tuple[str, ...], ...]
    total: float | None = None

    def __post_init__(self) -> None:
        labels = self.labels
        if not labels or not all(self.terms) or not all(labels):
            raise ValueError(
                "name atoms: labels with commas between atoms of one occupancy, + between those that add up"
            )
        if twice := [label for label, number in Counter(label.lower() for label in labels).items() if number > 1]:
            raise ValueError(f"atom {twice[0].upper()} is named twice")
        if len(self.terms) > 1 and self.total is None:
            raise ValueError("say what the occupancies add up to, such as =1")
        if len(self.terms) == 1 and self.total is not None:
            raise ValueError(
                "one occupancy alone with a total is not refined: leave out the total, or name what shares it"
            )
        if self.total is not None and not 0.0 < self.total < np.inf:
            raise ValueError(f"occupancies must add up to a number > 0, got {self.total:g}")

    @classmethod
    def parse(cls, text: str) -> OccupancyGroup:
        """From ``O1``, ``O1,H1,H2`` or ``N1A,H1A + N1B = 1``.

        Raises
        ------
        ValueError
            The text is none of these.
        """
        left, sign, right = text.partition("=")
        total = None
        if sign:
            try:
                total = float(right)
            except ValueError:
                raise ValueError(f"a number must follow =, got {right.strip()!r}") from None
        terms = tuple(tuple(re.split(r"\s*,\s*|\s+", term.strip())) for term in re.split(r"\+", left))
        return cls(terms=terms, total=total)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of all atoms of the group."""
        return tuple(label for term in self.terms for label in term)

    def __str__(self) -> str:
        said = " + ".join(",".join(term) for term in self.terms)
        return said if self.total is None else f"{said} = {self.total:g}"

    def places(self, structure: xray.structure) -> list[list[int]]:
        """Indices of the atoms of every term.

        Raises
        ------
        Sorry
            The structure has no atom with a label, or several.
        """
        return [[_place(label, structure, str(self)) for label in term] for term in self.terms]

    def equations(self, structure: xray.structure) -> list[LinearEquation]:
        """Equal occupancies within every term, and the sum of the terms where there is a total."""
        terms = self.places(structure)
        equations = [
            equation
            for first, *rest in terms
            for equation in equal_parameters((first, OCCUPANCY), [(atom, OCCUPANCY) for atom in rest])
        ]
        if self.total is not None:
            equations.append(LinearEquation(terms=tuple((term[0], OCCUPANCY, 1.0) for term in terms)))
        return equations

    def fulfil(self, structure: xray.structure) -> bool:
        """Set occupancies, in place, to the mean of their term and scale them to the total; whether any changed."""
        scatterers, terms = structure.scatterers(), self.places(structure)
        values = np.array([np.mean([scatterers[place].occupancy for place in term]) for term in terms])
        if self.total is not None:
            values = (
                values * self.total / values.sum()
                if values.sum() > _SMALL
                else np.full(len(values), self.total / len(values))
            )
        moved = 0.0
        for term, value in zip(terms, values, strict=True):
            for place in term:
                moved = max(moved, abs(scatterers[place].occupancy - value))
                scatterers[place].occupancy = float(value)
        return moved > _SMALL


def _place(label: str, structure: xray.structure, said_in: str) -> int:
    labels = [scatterer.label for scatterer in structure.scatterers()]
    places = [n for n, candidate in enumerate(labels) if candidate == label] or [
        n for n, candidate in enumerate(labels) if candidate.lower() == label.lower()
    ]
    if len(places) == 1:
        return places[0]
    if places:
        raise Sorry(
            f"refinement.occupancies={said_in}: {len(places)} atoms have the label {label}: give them labels of their own"
        )
    raise Sorry(f"refinement.occupancies={said_in}: the model has no atom {label}{nearest(label, labels)}")


def nearest(label: str, labels: Sequence[str]) -> str:
    """Ending of a message: the labels most similar to one that does not exist."""
    by_lower = {known.lower(): known for known in reversed(labels)}
    alike = difflib.get_close_matches(label.lower(), list(by_lower), n=3, cutoff=0.4)
    return f" (nearest: {', '.join(by_lower[known] for known in alike)})" if alike else ""


def parse_occupancies(texts: Sequence[str | None] | None) -> tuple[OccupancyGroup, ...]:
    """Groups from the values of ``refinement.occupancies``; ``False`` and ``None`` stand for no group.

    Raises
    ------
    Sorry
        A value is ``True``, for all occupancies at once, or cannot be read.
    """
    groups = []
    for text in texts or ():
        said = (text or "").strip()
        if said.lower() in ("", "false", "none", "no"):
            continue
        if said.lower() in ("true", "yes", "all"):
            raise Sorry(
                f"refinement.occupancies={said}: all occupancies at once cannot be told from the scales of the frames: name "
                'atoms or groups, such as refinement.occupancies=O1W or refinement.occupancies="N1A+N1B=1"'
            )
        try:
            groups.append(OccupancyGroup.parse(said))
        except ValueError as error:
            raise Sorry(f"refinement.occupancies={said}: {error}") from error
    return tuple(groups)


def check_overlap(structure: xray.structure, groups: Sequence[OccupancyGroup], free: frozenset[int]) -> None:
    """Refuse groups that share an atom, or have one whose occupancy the model file refines.

    Raises
    ------
    Sorry
        An atom is refined twice, or one of a group is not in the model.
    """
    taken = dict.fromkeys(free, "the file of the model")
    for group in groups:
        for place in (place for term in group.places(structure) for place in term):
            if place in taken:
                raise Sorry(
                    f"refinement.occupancies={group}: the occupancy of {structure.scatterers()[place].label} is refined by "
                    f"{taken[place]} already: leave it out of one of them"
                )
            taken[place] = f"refinement.occupancies={group}"


def check_scales(structure: xray.structure, free: frozenset[int], equations: Sequence[LinearEquation]) -> None:
    """Refuse refined occupancies, by index of the atom, that are fully correlated with the scales of the frames.

    Raises
    ------
    Sorry
        No occupancy is held, and no sum of occupancies is.
    """
    if not free or any(
        place not in free and atom.occupancy != 0.0 for place, atom in enumerate(structure.scatterers())
    ):
        return
    sums = [
        equation.value(structure) for equation in equations if all(name == OCCUPANCY for _, name, _ in equation.terms)
    ]
    if not any(abs(value) > _SMALL for value in sums):
        raise Sorry(
            "the occupancies of all atoms are refined, and could grow together as the scales of the frames fall: leave "
            'one of them as it is, or give a sum, such as refinement.occupancies="N1A+N1B=1"'
        )


def occupancy_notes(structure: xray.structure, free: Sequence[int]) -> list[str]:
    """A line for each refined occupancy, by index of the atom, that is at or out of its bounds."""
    atoms = [structure.scatterers()[place] for place in free]
    gone = [
        f"the occupancy of {atom.label} fell to 0 and is held there: the atom may not be in the crystal"
        for atom in atoms
        if atom.occupancy < 1.5 * LEAST
    ]
    return gone + [
        f"the occupancy of {atom.label} came out as {atom.occupancy:.3f}, above 1: its site may hold "
        "a heavier element, or more atoms"
        for atom in atoms
        if atom.occupancy > 1.0 + _SMALL
    ]
