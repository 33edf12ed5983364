"""Errors in the atoms of a SHELX file, by line, in place of the Python errors of the reader of iotbx."""

from __future__ import annotations

import math
from pathlib import Path

from libtbx.utils import Sorry

from edtbx_cctbx.shelx.file import instructions_of
from edtbx_cctbx.shelx.text import is_number, sfac_entries


def explain_atoms(text: str, path: str | Path) -> None:
    """Raise an error that names the atom that cannot be read, if there is one.

    Raises
    ------
    Sorry
        An atom is incomplete, of an element or a free variable that is not there, or has the name of another.
    """
    instructions = instructions_of(text)
    elements = sfac_entries(text)
    variables = sum(len(line.words) for line in instructions if line.name == "FVAR")
    first: dict[tuple[str, int], int] = {}
    residue, in_fragment = 0, False
    for line in instructions:
        residue += line.name == "RESI"  # only whether it is another
        in_fragment = line.name == "FRAG" or (in_fragment and line.name != "FEND")
        if line.is_command or in_fragment:
            continue
        said = f"{path}, line {line.line}: {line}"
        if len(line.words) < 5 or not all(is_number(word) and math.isfinite(float(word)) for word in line.words):
            raise Sorry(
                f"{said}: neither an instruction of SHELX nor an atom (a label, the number of its element, and five "
                "numbers or ten): correct or remove it"
            )
        number = float(line.words[0])
        if not 1 <= number <= len(elements):
            raise Sorry(
                f"{said}: element {line.words[0]} of {len(elements)} on SFAC ({' '.join(elements)}): correct it"
            )
        for word in line.words[1:]:
            variable = abs(round(float(word) / 10.0))
            if variable > max(variables, 1):
                raise Sorry(
                    f"{said}: {word} is a multiple of free variable {variable}, and FVAR has {variables}: add its value "
                    "there"
                )
        name = line.name.upper(), residue
        if name in first:
            raise Sorry(f"{said}: line {first[name]} has an atom {line.name}, too: give one of them another name")
        first[name] = line.line
