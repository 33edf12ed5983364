"""Reading of SHELX files by iotbx, after elements are put on one SFAC line and the cell is averaged by symmetry."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator

from cctbx import sgtbx, uctbx, xray
from libtbx.utils import Sorry

_SFAC = re.compile(r"^SFAC\b((?:[^\n!=]*=[^\n]*\n)*[^\n]*)\n?", flags=re.MULTILINE | re.IGNORECASE)
_CELL = re.compile(r"^(CELL\s+\S+)((?:\s+[^\s!=]+){6})(.*)$", flags=re.MULTILINE | re.IGNORECASE)
_ION = re.compile(r"([A-Za-z]{1,2})(?:\d*[+-]\d*)")
_CENTRINGS = "*PIRFABC"


class ReadingStopped(Exception):
    """The reader of iotbx failed; ``place`` is the line that it had reached, in words."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


class _CountedLines:
    """Lines of a text, with number and content of the line read last."""

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text)
        self.number, self.last = 0, ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.last = next(self._lines)
        self.number += 1
        return self.last


def structure_of_shelx(text: str, errors: tuple[type[Exception], ...]) -> xray.structure:
    """The structure as iotbx reads it.

    Raises
    ------
    ReadingStopped
        iotbx raised one of ``errors``, which is the cause.
    Sorry
        A number is not finite.
    """
    _check_finite(text)
    lines = _CountedLines(plain_shelx(text))
    try:
        return xray.structure.from_shelx(file=lines, strictly_shelxl=False)
    except errors as error:
        shown = " ".join(lines.last.split())[:60]
        raise ReadingStopped(f"at line {lines.number} ({shown!r}) or above it") from error


def _check_finite(text: str) -> None:
    """Refuse ``nan``, ``inf`` and numbers too large, which iotbx accepts."""
    lines = [line.split() for line in text.split("\n")]
    names = {words[0].upper() for words in lines if words}
    for number, words in enumerate(lines, start=1):
        if words and words[0].upper() in ("END", "HKLF"):
            break
        if not words or words[0].upper() in ("TITL", "REM"):
            continue
        for word in words[1:]:
            if word.upper() not in names and _is_float(word) and not is_number(word):
                raise Sorry(f"line {number} ({' '.join(words)[:60]!r}): {word[:40]} is no finite number")


def _is_float(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def is_shelx(text: str) -> bool:
    """Whether a text is a SHELX file: has an SFAC instruction, and is no CIF that holds one."""
    if re.search(r"^\s*(_atom_site\.|data_)", text, flags=re.MULTILINE | re.IGNORECASE):
        return False
    return re.search(r"^SFAC\s", text, flags=re.MULTILINE | re.IGNORECASE) is not None


def is_number(word: str) -> bool:
    """Whether a word of a file is a number, and a finite one."""
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


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
        try:
            group.expand_smx(sgtbx.rt_mx("".join(operation.split())))
        except RuntimeError as error:
            raise Sorry(
                f"SYMM {operation.strip()[:60]} is no symmetry operation of a crystal, or none beside the others: correct it"
            ) from error
    return uctbx.unit_cell([float(word) for word in cell[2].split()]), group


def _with_average_cell(text: str) -> str:
    """The text with the cell averaged by symmetry; U_ij and coordinates, relative to the axes, are kept."""
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
