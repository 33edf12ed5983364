"""Instructions of SHELX files: those that a refinement supports, those that it ignores with a note, and those it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from libtbx.utils import Sorry

from edtbx_cctbx.shelx.file import Instruction, ShelxFile, instructions_of
from edtbx_cctbx.shelx.text import is_number

RESTRAINTS = ("DFIX", "DANG", "FLAT", "SADI", "SIMU", "DELU", "RIGU", "ISOR")
"""Restraints that smtbx supports."""

_LOST = {
    "SAME": "write SADI in its place",
    "NCSY": "write SADI and SIMU in its place",
    "CHIV": "leave it out, or write FLAT or DANG in its place",
    "BUMP": "leave it out",
    "DEFS": "give the restraints their standard uncertainties",
    "BLOC": "leave it out, or fix parameters by adding 10",
    "FRAG": "leave it out with its AFIX",
    "MOVE": "apply it to the coordinates (SHELXL does) and leave it out",
    "HFIX": "let SHELXL add the hydrogen atoms first, or leave it out and take refinement.place_hydrogens=True",
    "TWIN": "leave it out: twins are not refined here",
    "BASF": "leave it out: twins are not refined here",
}
"""Instructions that would change the refinement and are refused, with the remedy."""

_NOTED = {
    "ANIS": "refinement.anisotropic decides",
    "EXTI": "the dynamical theory has no such correction",
    "SWAT": "no solvent is modelled",
    "ABIN": "no solvent is modelled",
    "HOPE": "every frame has a scale of its own",
    "NEUT": "form factors are those of electrons",
    "WIGL": "nothing is shaken",
    "XNPD": "displacements are not bounded",
}
"""Instructions that are ignored with a note, and the reason."""

_BONDS = ("BIND", "FREE", "CONN")
_NEED_BONDS = ("AFIX", "SIMU", "DELU", "RIGU", "ISOR")

_GEOMETRIES = {1, 2, 3, 4, 8, 9, 13, 14, 15, 16}
"""The m of AFIX mn that smtbx supports."""

_MODES = {3, 4, 7, 8}
"""The n of AFIX mn that smtbx supports: riding, stretching, turning, both."""

_FARTHEST = 15.0
"""Distances in Å beyond which SHELX takes the target of a restraint for a free variable."""


def check_kinds(file: ShelxFile) -> list[str]:
    """Notes on the instructions that are ignored.

    Raises
    ------
    Sorry
        An instruction changes the refinement, and is not supported.
    """
    notes = []
    names = {instruction.name for instruction in file.instructions}
    for instruction in file.instructions:
        lost = _reason(instruction)
        if instruction.name in _BONDS and names.intersection(_NEED_BONDS):
            lost = "bonds are found by distance: leave it out"
        if lost:
            raise Sorry(f"{file.said(instruction)}: this does not hold in edtbx.refine: {lost}")
        if instruction.name in _NOTED and not (instruction.name == "EXTI" and _zero(instruction)):
            notes.append(f"line {instruction.line}, {instruction}: not used ({_NOTED[instruction.name]})")
    return notes


def tell_unread(text: str, path: str | Path, log: TextIO) -> None:
    """Write a line to ``log`` for each instruction on twinning, which is not used.

    Raises
    ------
    Sorry
        MOVE changes the coordinates, which iotbx does not apply.
    """
    for instruction in instructions_of(text):
        said = f"{path}, line {instruction.line}: {instruction}"
        numbers = [float(word) for word in instruction.words if is_number(word)]
        if instruction.name == "MOVE" and numbers not in ([], [0, 0, 0, 1]):
            raise Sorry(f"{said}: atoms are not moved here: {_LOST['MOVE']}")
        if instruction.name in ("TWIN", "BASF") or (instruction.name == "HKLF" and not _of_one_crystal(instruction)):
            print(f"{said}: not used, the data are taken for those of one crystal", file=log)


def check_restraint(file: ShelxFile, instruction: Instruction, atoms: int) -> None:
    """Refuse a restraint whose numbers, or number of atoms, smtbx would misread.

    Raises
    ------
    Sorry
        Numbers are wrong, or atoms too few.
    """
    numbers = [float(word) for word in instruction.words if is_number(word)]
    if instruction.name == "FLAT" and atoms < 4:
        raise Sorry(f"{file.said(instruction)}: name four atoms or more, got {atoms}")
    if instruction.name == "SADI" and (atoms < 4 or atoms % 2):
        raise Sorry(f"{file.said(instruction)}: name two pairs of atoms or more, got {atoms} atoms")
    if instruction.name in ("DFIX", "DANG"):
        if not 1 <= len(numbers) <= 2 or atoms < 2 or atoms % 2:
            raise Sorry(f"{file.said(instruction)}: give a distance, perhaps its s.u., and pairs of atoms")
        if not 0.0 < numbers[0] <= _FARTHEST:
            raise Sorry(
                f"{file.said(instruction)}: a distance must be > 0 Å and at most {_FARTHEST:g} Å, got {numbers[0]:g} "
                "(free variables and distances that must only not be shorter do not hold here): correct or remove it"
            )
    most = {"DFIX": 2, "DANG": 2, "FLAT": 1, "SADI": 1}.get(instruction.name, 3)
    if len(numbers) > most or any(number <= 0.0 for number in numbers):
        raise Sorry(f"{file.said(instruction)}: give up to {most} numbers > 0: correct or remove it")


def _reason(instruction: Instruction) -> str | None:
    """Why an instruction is refused, with the remedy; None where it is not."""
    if instruction.name in _LOST:
        return _LOST[instruction.name]
    if instruction.name.startswith("+"):
        return "other files are not read: put its lines here"
    if instruction.name == "HKLF" and not _of_one_crystal(instruction):
        return "twins are not refined here: write HKLF 4"
    if instruction.name == "AFIX":
        return _afix(instruction)
    return None


def _of_one_crystal(instruction: Instruction) -> bool:
    return not instruction.words or instruction.words[0] in ("1", "2", "3", "4", "-3", "-4")


def _afix(instruction: Instruction) -> str | None:
    if not instruction.words or not is_number(instruction.words[0]):
        return "give its number"
    m, n = divmod(int(float(instruction.words[0])), 10)
    if (m, n) == (0, 0) or (m in _GEOMETRIES and n in _MODES):
        if len(instruction.words) > 2:
            return "give occupancies and displacements with the atoms"
        return None
    known = ", ".join(str(m) for m in sorted(_GEOMETRIES))
    return (
        f"of AFIX mn, m must be one of {known} and n one of 3, 4, 7, 8: leave it out, or restrain the group by FLAT, "
        "SADI or DFIX"
    )


def _zero(instruction: Instruction) -> bool:
    return bool(instruction.words) and is_number(instruction.words[0]) and float(instruction.words[0]) == 0.0
