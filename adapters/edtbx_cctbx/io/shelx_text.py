"""SHELX files as the reader of iotbx takes them: elements on one SFAC line, and a cell that obeys the symmetry."""

from __future__ import annotations

import re

from cctbx import sgtbx, uctbx
from libtbx.utils import Sorry

_SFAC = re.compile(r"^SFAC\b((?:[^\n!=]*=[^\n]*\n)*[^\n]*)\n?", flags=re.MULTILINE | re.IGNORECASE)
_CELL = re.compile(r"^(CELL\s+\S+)((?:\s+[^\s!=]+){6})(.*)$", flags=re.MULTILINE | re.IGNORECASE)
_ION = re.compile(r"([A-Za-z]{1,2})(?:\d*[+-]\d*)")
_CENTRINGS = "*PIRFABC"


def is_shelx(text: str) -> bool:
    """Whether a text is a SHELX file: has an SFAC instruction, and is no CIF that holds one."""
    if re.search(r"^\s*(_atom_site\.|data_)", text, flags=re.MULTILINE | re.IGNORECASE):
        return False
    return re.search(r"^SFAC\s", text, flags=re.MULTILINE | re.IGNORECASE) is not None


def is_number(word: str) -> bool:
    """Whether a word of a file is a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def plain_shelx(text: str) -> str:
    """The text with neutral elements on one SFAC line, and the cell averaged by the symmetry.

    iotbx has no reader for ions and for the Gaussians of an SFAC line, forgets all SFAC lines but the last, and refuses a
    cell that misses the symmetry.
    """
    return _with_average_cell(_with_plain_sfac(text))


def sfac_entries(text: str) -> list[str]:
    """The elements and ions of all SFAC instructions, in the order in which atoms count them."""
    return [word for words in _instructions(text) for word in words if word[0].isalpha()]


def has_form_factors(text: str) -> bool:
    """Whether an SFAC instruction gives Gaussians."""
    return any(not word[0].isalpha() for words in _instructions(text) for word in words)


def ions(text: str) -> list[str]:
    """The ions on SFAC."""
    return [entry for entry in sfac_entries(text) if _ION.fullmatch(entry)]


def cell_and_group(text: str) -> tuple[uctbx.unit_cell, sgtbx.space_group] | None:
    """Cell and space group of CELL, LATT and SYMM; None where there is no whole CELL.

    Raises
    ------
    Sorry
        LATT is none of SHELX, or SYMM is no operation.
    """
    cell = _CELL.search(text)
    if cell is None or not all(is_number(word) for word in cell[2].split()):
        return None
    group = sgtbx.space_group()
    lattice = re.search(r"^LATT\s+([^\s!]+)", text, flags=re.MULTILINE | re.IGNORECASE)
    number = int(lattice[1]) if lattice and re.fullmatch(r"[+-]?\d", lattice[1]) else 1
    if (lattice and not re.fullmatch(r"[+-]?\d", lattice[1])) or not 1 <= abs(number) < len(_CENTRINGS):
        raise Sorry(f"LATT {lattice[1] if lattice else ''} is no lattice type: give 1 to 7 or -1 to -7")
    if number > 0:
        group.expand_inv(sgtbx.tr_vec((0, 0, 0)))
    group.expand_conventional_centring_type(_CENTRINGS[abs(number)])
    for operation in re.findall(r"^SYMM\s+([^\n!]*)", text, flags=re.MULTILINE | re.IGNORECASE):
        group.expand_smx(sgtbx.rt_mx("".join(operation.split())))
    return uctbx.unit_cell([float(word) for word in cell[2].split()]), group


def _with_average_cell(text: str) -> str:
    """U_ij and coordinates stay as they are in the file: they belong to whatever the axes are."""
    symmetry = cell_and_group(text)
    if symmetry is None:
        return text
    cell, group = symmetry
    average = group.average_unit_cell(cell)
    if average.is_similar_to(cell, relative_length_tolerance=2e-6, absolute_angle_tolerance=2e-4):
        return text
    parameters = " ".join(f"{value:.7f}" for value in average.parameters())
    return _CELL.sub(lambda match: f"{match[1]} {parameters}{match[3]}", text, count=1)


def _with_plain_sfac(text: str) -> str:
    instructions = _instructions(text)
    first = _SFAC.search(text)
    if first is None or (len(instructions) < 2 and not has_form_factors(text) and not ions(text)):
        return text
    elements = [match[1] if (match := _ION.fullmatch(entry)) else entry for entry in sfac_entries(text)]
    # the number of lines stays: messages of iotbx count them
    rest = _SFAC.sub(lambda match: "\n" * match[0].count("\n"), text[first.start() :])
    return f"{text[: first.start()]}SFAC {' '.join(elements)}{rest}"


def _instructions(text: str) -> list[list[str]]:
    return [re.sub(r"=[^\n]*\n", " ", match[1]).partition("!")[0].split() for match in _SFAC.finditer(text)]
