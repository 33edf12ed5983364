"""Coded parameters of SHELX atoms: fixed ones (10 added) and multiples of free variables, as linear equations.

A parameter is written 10 m + p: p alone, fixed where m = 1, p × fv(m) for m > 1, p × (fv(−m) − 1) for m < −1.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from cctbx import xray
from libtbx.utils import Sorry

from edtbx_cctbx.constraints.linear import OCCUPANCY, SITE, U_ISO, U_STAR, LinearEquation
from edtbx_cctbx.shelx.file import Atom, Instruction, ShelxFile
from edtbx_cctbx.shelx.text import is_number

_U_ORDER = (*U_STAR[:3], "u23", "u13", "u12")
"""Displacements in the order of SHELX."""

_WHOLE = 1e-4
"""Occupancies of 1 are written to four digits."""


@dataclass(slots=True, eq=False, kw_only=True)
class Variables:
    """Constraints from the coded parameters of a file.

    ``fixed`` are atoms that stay where they are, ``displacements`` those whose displacements are fixed or follow a free
    variable, ``coded_sites`` those with a coordinate that does, ``free`` those with an occupancy that is refined.
    """

    equations: list[LinearEquation] = field(default_factory=list)
    fixed: set[int] = field(default_factory=set)
    displacements: set[int] = field(default_factory=set)
    coded_sites: set[int] = field(default_factory=set)
    free: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def read_variables(file: ShelxFile, structure: xray.structure) -> Variables:
    """Equations and fixed parameters of a structure, from the coded parameters of its file.

    Raises
    ------
    Sorry
        A parameter cannot be read, or names a free variable that is not there, or a sum of free variables has no atoms.
    """
    variables = Variables()
    number = sum(len(instruction.words) for instruction in file.instructions if instruction.name == "FVAR")
    uses: dict[int, list[tuple[int, str, float]]] = defaultdict(list)
    bare: list[Atom] = []
    for atom in file.atoms:
        for name, word in _parameters(file, atom):
            m, p = _decoded(file, atom, word, name, number)
            factor = _factor(structure, atom.place, name)
            if m == 0:
                if name == OCCUPANCY:
                    bare.append(atom)
                continue
            _note(variables, atom.place, name)
            if m == 1:
                variables.equations.append(LinearEquation(terms=((atom.place, name, 1.0),)))
                continue
            if p == 0.0:
                variables.equations.append(LinearEquation(terms=((atom.place, name, 1.0),)))
            else:
                if name == OCCUPANCY:
                    variables.free.add(atom.place)
                uses[abs(m)].append((atom.place, name, p * factor))
    for (place, name, a), *rest in uses.values():
        for tied, its_name, its_a in rest:
            variables.equations.append(
                LinearEquation(terms=_scaled((place, name, -1.0 / a), (tied, its_name, 1.0 / its_a)))
            )
    for instruction in file.instructions:
        if instruction.name == "SUMP":
            variables.equations.append(_sum(file, instruction, uses))
            variables.notes.append(f"line {instruction.line}, {instruction}: held exactly, not within its s.u.")
    variables.fixed = {
        place
        for place in variables.coded_sites
        if {term[1] for e in variables.equations if len(e.terms) == 1 for term in e.terms if term[0] == place}
        >= set(SITE)
    }
    _bare_occupancies(variables, bare, structure)
    variables.equations = [e for e in variables.equations if not (len(e.terms) == 1 and e.terms[0][1] == OCCUPANCY)]
    return variables


def _parameters(file: ShelxFile, atom: Atom) -> list[tuple[str, str]]:
    """Names and words of the coded parameters of an atom."""
    words = atom.instruction.words
    if len(words) < 5 or not all(is_number(word) for word in words):
        raise Sorry(
            f"{file.said(atom.instruction)}: an atom is a label, the number of its element and five numbers or ten"
        )
    occupancy = words[4] if atom.part == 0 or atom.part_occupancy is None else atom.part_occupancy
    names = _U_ORDER if len(words) >= 11 else (U_ISO,)
    return [*zip(SITE, words[1:4], strict=True), (OCCUPANCY, occupancy), *zip(names, words[5:], strict=False)]


def _decoded(file: ShelxFile, atom: Atom, word: str, name: str, number: int) -> tuple[int, float]:
    value = float(word)
    m = round(value / 10.0)
    p = value - 10.0 * m
    if name == U_ISO and m == 0:
        return 0, p  # negative ones are multiples of the parent's, which smtbx reads
    if m == -1:
        raise Sorry(
            f"{file.said(atom.instruction)}: {word} says nothing: parameters between -15 and -5 have no meaning"
        )
    if abs(m) > max(number, 1):
        raise Sorry(
            f"{file.said(atom.instruction)}: {word} is a multiple of free variable {abs(m)}, and FVAR has {number}: "
            "add its value there"
        )
    return m, p


def _factor(structure: xray.structure, place: int, name: str) -> float:
    """Factor that turns a parameter of SHELX into that of cctbx."""
    if name == OCCUPANCY:
        return 1.0 / float(structure.scatterers()[place].weight_without_occupancy())
    if name in U_STAR:
        recip = structure.unit_cell().reciprocal_parameters()
        return float(recip[int(name[1]) - 1] * recip[int(name[2]) - 1])
    return 1.0


def _note(variables: Variables, place: int, name: str) -> None:
    if name in SITE:
        variables.coded_sites.add(place)
    elif name != OCCUPANCY:
        variables.displacements.add(place)


def _scaled(*terms: tuple[int, str, float]) -> tuple[tuple[int, str, float], ...]:
    largest = max(abs(factor) for _, _, factor in terms)
    return tuple((place, name, factor / largest) for place, name, factor in terms)


def _sum(file: ShelxFile, instruction: Instruction, uses: dict[int, list[tuple[int, str, float]]]) -> LinearEquation:
    """SUMP c σ c1 m1 c2 m2 ...: Σ ci fv(mi) = c, by the first parameter that each free variable has."""
    if (
        len(instruction.words) < 4
        or len(instruction.words) % 2
        or not all(is_number(word) for word in instruction.words)
    ):
        raise Sorry(
            f"{file.said(instruction)}: give a sum, its s.u., and pairs of a factor and the number of a free variable"
        )
    terms = []
    for factor, m in zip(instruction.words[2::2], instruction.words[3::2], strict=True):
        used = uses.get(int(float(m)))
        if not used:
            raise Sorry(
                f"{file.said(instruction)}: no atom is a multiple of free variable {m}: leave it out of the sum"
            )
        place, name, a = used[0]
        terms.append((place, name, float(factor) / a))
    return LinearEquation(terms=_scaled(*terms))


def _bare_occupancies(variables: Variables, bare: list[Atom], structure: xray.structure) -> None:
    """Refine occupancies without 10 added, as SHELX does, except those of 1, which many programs write so."""
    scatterers = structure.scatterers()
    partial = [atom for atom in bare if _WHOLE < abs(scatterers[atom.place].occupancy - 1.0) < 1.0]
    variables.free |= {atom.place for atom in partial}
    if partial:
        variables.notes.append(
            f"occupancies refined, as they have no 10 added: {', '.join(atom.label for atom in partial)} "
            f"(line {partial[0].instruction.line})"
        )
    if len(bare) > len(partial):
        variables.notes.append(
            f"{len(bare) - len(partial)} occupancies have no 10 added and stay as they are all the same: name atoms in "
            "refinement.occupancies to refine them"
        )
