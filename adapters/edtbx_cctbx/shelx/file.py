"""Instructions and atoms of a SHELX file with their line numbers, and the atoms that an instruction names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cctbx import xray
from libtbx.utils import Sorry

from edtbx_cctbx.constraints.occupancies import nearest
from edtbx_cctbx.shelx.text import is_number

COMMANDS = frozenset(
    word
    for line in (
        "ABIN ACTA AFIX ANIS ANSC ANSR BASF BIND BLOC BOND BUMP CELL CGLS CHIV CONF CONN DAMP DANG DEFS DELU",
        "DFIX DISP EADP END EQIV EXTI EXYZ FEND FLAT FMAP FRAG FREE FVAR GRID HFIX HKLF HOPE HTAB ISOR L.S.",
        "LATT LAUE LIST MERG MOLE MORE MOVE MPLA MUST NCSY NEUT OMIT PART PLAN PRIG REM RESI RIGU RTAB SADI",
        "SAME SFAC SHEL SIMU SIZE SPEC STIR SUMP SWAT SYMM TEMP TIME TITL TWIN TWST UNIT WGHT WIGL WPDB XNPD",
        "ZERR",
    )
    for word in line.split()
)

_AFTER = {1: "after the first atom of its range", -1: "before the first atom of its range"}

_LABEL = re.compile(r"([A-Za-z][^_$]*)((?:_(?:\$\d+|\d+|[+-]))*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """An instruction with its continuation lines: name, suffix after ``_``, other words, and number of its first line."""

    name: str
    suffix: str | None
    words: tuple[str, ...]
    line: int

    def __str__(self) -> str:
        head = self.name if self.suffix is None else f"{self.name}_{self.suffix}"
        return " ".join([head, *self.words])

    @property
    def is_command(self) -> bool:
        """Whether it is a command of SHELX rather than an atom."""
        return self.name.upper() in COMMANDS


def instructions_of(text: str) -> list[Instruction]:
    """Instructions and atoms of a file up to HKLF or END, without comments and empty lines."""
    instructions: list[Instruction] = []
    waiting: tuple[int, str] | None = None
    for number, physical in enumerate(text.splitlines(), start=1):
        start, joined = number, physical
        if waiting is not None:
            start, joined = waiting[0], f"{waiting[1]} {physical}"
        elif not physical.strip() or physical[0].isspace():
            continue
        waiting = None
        silent = re.match(r"(TITL|REM)\b", joined, flags=re.IGNORECASE) is not None
        joined = joined if silent else joined.partition("!")[0].rstrip()
        if not silent and joined.endswith("="):
            waiting = start, joined[:-1]
            continue
        head, *words = joined.split()
        name, sign, suffix = head.partition("_")
        if name.upper() not in COMMANDS:
            name, sign, suffix = head, "", ""
        instructions.append(
            Instruction(
                name=name.upper() if name.upper() in COMMANDS else name,
                suffix=suffix if sign else None,
                words=tuple(words),
                line=start,
            )
        )
        if name.upper() in ("HKLF", "END"):
            break
    return instructions


@dataclass(frozen=True, slots=True, kw_only=True)
class Atom:
    """An atom of the file: index in the structure, label, residue, number and occupancy of PART, and instruction."""

    place: int
    label: str
    residue: int
    part: int
    part_occupancy: str | None
    instruction: Instruction


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ShelxFile:
    """Instructions, atoms in the order of the structure, classes of residues, and elements of the atoms."""

    path: str
    instructions: tuple[Instruction, ...]
    atoms: tuple[Atom, ...]
    classes: dict[int, str]
    elements: tuple[str, ...]

    @classmethod
    def read(cls, text: str, structure: xray.structure, path: str) -> ShelxFile:
        """The file that a structure was read from.

        Raises
        ------
        Sorry
            Its atoms are not those of the structure.
        """
        all_instructions = instructions_of(text)
        atoms: list[Atom] = []
        classes: dict[int, str] = {}
        residue, part = 0, 0
        occupancy: str | None = None
        in_fragment = False
        for instruction in all_instructions:
            if instruction.name == "RESI":
                numbers = [word for word in instruction.words if re.fullmatch(r"[A-Za-z]?:?-?\d+", word)]
                residue = int(re.sub(r"\D", "", numbers[0])) if numbers else 0
                names = [word for word in instruction.words if word not in numbers[:1]]
                classes[residue] = names[0].upper() if names else ""
            elif instruction.name == "PART":
                part, occupancy = (
                    (int(float(instruction.words[0])) if instruction.words else 0),
                    (instruction.words[1:2] or (None,))[0],
                )
            elif instruction.name in ("FRAG", "FEND"):
                in_fragment = instruction.name == "FRAG"
            elif not instruction.is_command and not in_fragment and not re.fullmatch(r"[Qq]\d+", instruction.name):
                atoms.append(
                    Atom(
                        place=len(atoms),
                        label=instruction.name,
                        residue=residue,
                        part=part,
                        part_occupancy=occupancy,
                        instruction=instruction,
                    )
                )
        labels = [scatterer.label.lower() for scatterer in structure.scatterers()]
        if [atom.label.lower() for atom in atoms] != labels:
            odd = next((atom for atom in atoms if atom.label.lower() not in labels), None)
            told = "" if odd is None else f": line {odd.instruction.line}, {odd.instruction}, is no atom of the model"
            raise Sorry(f"{path}: its instructions cannot be told from its atoms{told}")
        return cls(
            path=path,
            instructions=tuple(all_instructions),
            atoms=tuple(atoms),
            classes=classes,
            elements=tuple(scatterer.element_symbol() for scatterer in structure.scatterers()),
        )

    @classmethod
    def beside(cls, structure: xray.structure, said_in: str) -> ShelxFile:
        """The atoms of a structure from any file, without instructions."""
        nothing = Instruction(name="", suffix=None, words=(), line=0)
        return cls(
            path=said_in,
            instructions=(),
            atoms=tuple(
                Atom(place=n, label=s.label, residue=0, part=0, part_occupancy=None, instruction=nothing)
                for n, s in enumerate(structure.scatterers())
            ),
            classes={},
            elements=tuple(scatterer.element_symbol() for scatterer in structure.scatterers()),
        )

    @property
    def hydrogen(self) -> frozenset[int]:
        """Indices of the hydrogen atoms."""
        return frozenset(place for place, element in enumerate(self.elements) if element in ("H", "D"))

    def said(self, instruction: Instruction) -> str:
        """File, line and instruction, as the beginning of a message."""
        return (
            f"{self.path}, line {instruction.line}: {instruction}" if instruction.line else f"{self.path}={instruction}"
        )

    def groups(self, instruction: Instruction) -> Iterator[list[tuple[int, str]]]:
        """Indices of the atoms named, for every residue that an instruction applies to, with ``_$n`` for images by symmetry.

        Raises
        ------
        Sorry
            An atom is not there.
        """
        words = [word for word in instruction.words if not is_number(word)]
        if not words and instruction.suffix is not None:
            for number in self._residues(instruction):
                yield [(a.place, "") for a in self.atoms if a.residue == number and a.place not in self.hydrogen]
            return
        if instruction.suffix is None:
            yield self._named(words, 0, instruction)
            return
        residues = self._residues(instruction)
        complete = 0
        for residue in residues:
            try:
                atoms = self._named(words, residue, instruction)
            except Sorry:  # residues of a class need not have all atoms
                continue
            complete += 1
            yield atoms
        if not complete:
            raise Sorry(f"{self.said(instruction)}: no residue has all of these atoms: correct or remove it")

    def _residues(self, instruction: Instruction) -> list[int]:
        suffix = instruction.suffix or ""
        if suffix in ("", "*"):
            return sorted({atom.residue for atom in self.atoms})
        if suffix.isdigit():
            return [int(suffix)]
        return sorted(number for number, name in self.classes.items() if name == suffix.upper())

    def _named(self, words: Sequence[str], residue: int, instruction: Instruction) -> list[tuple[int, str]]:
        named: list[tuple[int, str]] = []
        last: int | None = None
        direction = 0
        for word in words:
            if word in (">", "<"):
                direction = 1 if word == ">" else -1
                continue
            if word.startswith("$"):
                chosen = self._of_element(word[1:].partition("_")[0], residue, instruction)
            elif word.upper() == "LAST" and direction:
                chosen = [(len(self.atoms) - 1, "")]
            else:
                chosen = [self._one(word, residue, instruction)]
            if direction and last is not None:
                # a range leaves out hydrogen, but for its ends
                between = range(last + direction, chosen[0][0], direction)
                if (chosen[0][0] - last) * direction <= 0:
                    raise Sorry(f"{self.said(instruction)}: {word} does not come {_AFTER[direction]} in the file")
                named += [(place, "") for place in between if place not in self.hydrogen]
            direction = 0
            named += chosen
            last = named[-1][0]
        return named

    def _of_element(self, element: str, residue: int, instruction: Instruction) -> list[tuple[int, str]]:
        chosen = [
            (atom.place, "")
            for atom in self.atoms
            if self.elements[atom.place].upper() == element.upper()
            and (instruction.suffix is None or atom.residue == residue)
        ]
        if not chosen:
            raise Sorry(f"{self.said(instruction)}: the model has no atom of the element {element}")
        return chosen

    def _one(self, word: str, residue: int, instruction: Instruction) -> tuple[int, str]:
        exact = [atom for atom in self.atoms if atom.label == word and atom.residue == residue]
        if len(exact) == 1:
            return exact[0].place, ""
        match = _LABEL.match(word)
        if match is None:
            raise Sorry(f"{self.said(instruction)}: {word} names no atom: correct or remove it")
        label, symmetry = match.group(1), ""
        for part in filter(None, match.group(2).split("_")):
            if part.startswith("$"):
                symmetry = f"_{part}"
            elif part in "+-":
                residue += 1 if part == "+" else -1
            else:
                residue = int(part)
        named = [atom for atom in self.atoms if atom.label.lower() == label.lower()]
        chosen = [atom for atom in named if atom.residue == residue]
        if len(chosen) > 1:
            raise Sorry(f"{self.said(instruction)}: {len(chosen)} atoms have the label {label}")
        if not chosen:
            labels = [atom.label for atom in self.atoms]
            told = f" in residue {residue}" if named else nearest(label, labels)
            raise Sorry(f"{self.said(instruction)}: the model has no atom {label}{told}")
        return chosen[0].place, symmetry
