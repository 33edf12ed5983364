"""Structure models from files, with electron form factors, held against the cell of an experiment."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TextIO, get_args

import numpy as np
from cctbx import xray
from libtbx.utils import Sorry, null_out

from edtbx.cell import CELL_TOLERANCE
from edtbx.checks import expect_number, expect_word
from edtbx_cctbx.boundary import expect_stream
from edtbx_cctbx.io.text_file import parse_cif, read_text
from edtbx_cctbx.model_files.cell_symmetry import symmetrised
from edtbx_cctbx.model_files.cif_model import FARTHEST, structure_of_block
from edtbx_cctbx.model_files.displacements import NonPositive, check_displacements, tell_starts
from edtbx_cctbx.model_files.macromolecule import structure_of_mmcif, structure_of_pdb
from edtbx_cctbx.shelx.atoms import explain_atoms
from edtbx_cctbx.shelx.kinds import tell_unread
from edtbx_cctbx.shelx.text import (
    ReadingStopped,
    cell_and_group,
    has_form_factors,
    ions,
    is_shelx,
    structure_of_shelx,
)
from edtbx_cctbx.structure.atom_names import listed
from edtbx_cctbx.structure.form_factors import set_electron_form_factors

_EXPECTED = "structure model (CIF, mmCIF, PDB, SHELX .ins or .res)"
_REMEDY = "correct the file, or export it again"
UNREADABLE = (
    RuntimeError,
    ValueError,
    LookupError,
    AssertionError,
    ArithmeticError,
    TypeError,
    AttributeError,
    NameError,
)
"""What the readers of cctbx raise over a damaged file."""

_PYTHON_REASONS = {
    "scatterer_to_bind_u_eq_to": "a U below -0.5 stands for that of the atom before, and there is none before it",
    "ArgumentError": "a parameter of an atom is out of range",
    "%i format: a real number is required": "two atoms have the same name",
    "tuple index out of range": "an element or a free variable is named that SFAC or FVAR does not have",
    "Unsuitable value for rational": "a symmetry operation is none",
    "xyz[0]>9999": "coordinates of an atom are impossible",
    "'NoneType' object": "something that must come first is missing (SFAC, FVAR or the cell)",
}
_CONTRADICTION = "something is missing, out of range, or contradicts what else the file says"
_INTERNAL = re.compile(
    r"Internal Error|ASSERT|scitbx|C\+\+|boost|argument|invalid literal|could not convert|not supported between"
    r"|unsupported operand"
    r"|object (has no|is not|of type)|index out of range|to unpack|[a-z]Error\b|\bat 0x|<class|^'[^']*'$"
)
"""Messages about a program, which say nothing of the file."""

_LONGEST_REASON = 200
_LARGEST_OCCUPANCY = 100.0


def read_model(
    path: str | Path,
    data_block: str | None = None,
    log: TextIO | None = None,
    *,
    cell_tolerance: float = CELL_TOLERANCE,
    non_positive: NonPositive = "refuse",
) -> xray.structure:
    """The structure in a CIF, mmCIF, PDB or SHELX file, with electron form factors.

    The format is told from the text. Of a CIF with several blocks, ``data_block`` or the first one with atoms is read.
    An unknown value (``?``, blank) is one atom's: occupancy 1, U_iso 1.2 U_eq of the parent for hydrogen and the mean of the
    element otherwise; an atom without coordinates is left out. A cell that misses its symmetry by no more than
    ``cell_tolerance`` (0.06: 6 % in length and 2.5°) is averaged. Displacement parameters that are not positive are refused,
    or made positive with ``non_positive`` "mend". What was chosen or mended is written to ``log``.

    Raises
    ------
    Sorry
        The file is missing, damaged or in no known format, has no atoms, no cell or an unknown element, or says what is
        impossible.
    """
    log = null_out() if log is None else expect_stream(log, "log")
    expect_word(non_positive, get_args(NonPositive), "non_positive")
    if not expect_number(cell_tolerance, "cell_tolerance") >= 0.0:
        raise ValueError(f"cell_tolerance must be >= 0, got {cell_tolerance}")
    text = read_text(path, _EXPECTED)
    read = _reader_for(text, path)
    if data_block is not None and read is not _read_cif:
        raise Sorry(f"{path} has no data blocks to choose from: leave out the data block {data_block!r}")
    try:
        structure, unknown = read(text, path, log, cell_tolerance, data_block)
        _check_atoms(structure, path, log)
        tell_starts(structure, unknown, path, log)
        check_displacements(structure, path, log, non_positive)
    except Sorry as error:
        said = " ".join(str(error).split())
        # ours name the file and the remedy; those of cctbx neither
        raise Sorry(said if str(path) in said else f"{path}: {said}: {_REMEDY}") from error
    except UNREADABLE as error:
        raise Sorry(f"{path} cannot be read as a {_EXPECTED}: {_reason(error)}: {_REMEDY}") from error
    try:
        set_electron_form_factors(structure, log=log)
    except Sorry as error:
        raise Sorry(f"{path}: {error}") from error
    return structure


def _reader_for(text: str, path: str | Path) -> Callable[..., tuple[xray.structure, list[int]]]:
    if re.search(r"^\s*_atom_site\.Cartn_x", text, flags=re.MULTILINE | re.IGNORECASE):
        return _read_mmcif
    if re.search(r"^\s*data_", text, flags=re.MULTILINE | re.IGNORECASE):
        return _read_cif
    if is_shelx(text):
        return _read_shelx
    if re.search(r"^(CRYST1|ATOM  |HETATM)", text, flags=re.MULTILINE):
        return _read_pdb
    raise Sorry(f"{path} is in no known format: give a {_EXPECTED}")


def _read_cif(
    text: str, path: str | Path, log: TextIO, tolerance: float, data_block: str | None
) -> tuple[xray.structure, list[int]]:
    # the names of the newer core dictionary: _atom_site.label
    text = re.sub(r"^(\s*_atom_site(?:_aniso)?)\.", r"\1_", text, flags=re.MULTILINE | re.IGNORECASE)
    blocks = parse_cif(text, path, "CIF")
    with_atoms = [name for name in blocks if "_atom_site_fract_x" in blocks[name]]
    if not with_atoms:
        raise Sorry(f"{path} has no atoms (no loop with _atom_site_label and _atom_site_fract_x): give a {_EXPECTED}")
    if data_block is not None and data_block not in with_atoms:
        raise Sorry(f"{path} has no data block {data_block!r} with atoms: choose from {', '.join(with_atoms)}")
    name = data_block or with_atoms[0]
    if len(with_atoms) > 1 and data_block is None:
        print(f"{path}: data block {name} taken, not {', '.join(with_atoms[1:])}", file=log)
    return structure_of_block(blocks[name], name, path, log, tolerance)


def _read_mmcif(
    text: str, path: str | Path, log: TextIO, tolerance: float, data_block: str | None
) -> tuple[xray.structure, list[int]]:
    blocks = parse_cif(text, path, "mmCIF")
    name = next((name for name in blocks if "_atom_site.Cartn_x" in blocks[name]), None)
    if name is None:
        raise Sorry(f"{path} has no atoms (no loop with _atom_site.Cartn_x): give a {_EXPECTED}")
    return structure_of_mmcif(blocks[name], name, path, log, tolerance)


def _read_pdb(
    text: str, path: str | Path, log: TextIO, tolerance: float, data_block: str | None
) -> tuple[xray.structure, list[int]]:
    return structure_of_pdb(text, path, log, tolerance)


def _read_shelx(
    text: str, path: str | Path, log: TextIO, tolerance: float, data_block: str | None
) -> tuple[xray.structure, list[int]]:
    if not re.search(r"^CELL\s", text, flags=re.MULTILINE | re.IGNORECASE):
        raise Sorry(f"{path} has no cell: add the CELL instruction")
    if (symmetry := cell_and_group(text)) is not None:
        symmetrised(*symmetry, tolerance, path, log)
    if has_form_factors(text) or text.upper().count("\nSFAC") > 1:
        print(f"{path}: the form factors on the SFAC lines are not used; only their elements are", file=log)
    if charged := ions(text):
        print(f"{path}: the form factors of the neutral atoms stand in for {', '.join(charged)} on SFAC", file=log)
    try:
        structure = structure_of_shelx(text, UNREADABLE)
    except ReadingStopped as stopped:
        explain_atoms(text, path)
        raise Sorry(f"{path}: {stopped.place}: {_reason(stopped.__cause__)}: {_REMEDY}") from stopped
    tell_unread(text, path, log)
    vars(structure.unit_cell()).clear()  # s.u.s of the cell, with which no structure can be pickled
    return structure, []


def _reason(error: BaseException | None) -> str:
    """What a reader of cctbx stumbled over, in words of the file where its own are about Python or C++."""
    said = " ".join(str(error).split())
    for mark, reason in _PYTHON_REASONS.items():
        if mark in said:
            return reason
    if no_number := re.search(r"invalid literal for int\(\) with base 10: (.*)", said):
        said = f"{no_number.group(1)} is no whole number"
    # assertions of cctbx name its source files
    said = re.sub(r"^\w+ Internal Error: \S+\(\d+\): ", "", said)
    if not said or _INTERNAL.search(said):
        return _CONTRADICTION
    return said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]}…"


def _check_atoms(structure: xray.structure | None, path: str | Path, log: TextIO) -> None:
    """Atoms, all of them somewhere and some of them there."""
    if structure is None or structure.scatterers().size() == 0:
        raise Sorry(f"{path} has no atoms: give a {_EXPECTED}")
    for scatterer in structure.scatterers():
        u = [scatterer.u_iso] if scatterer.flags.use_u_iso() else scatterer.u_star
        if not np.all(np.isfinite([*scatterer.site, scatterer.occupancy, *u])):
            raise Sorry(
                f"{path}: atom {scatterer.label} has no finite coordinates, occupancy or displacement parameters: "
                "complete or remove it"
            )
        if max(abs(x) for x in scatterer.site) > FARTHEST:
            x, y, z = scatterer.site
            raise Sorry(
                f"{path}: atom {scatterer.label.strip()} is at ({x:.4g} {y:.4g} {z:.4g}), more than a thousand cells away: "
                "correct its coordinates"
            )
        if abs(scatterer.occupancy) > _LARGEST_OCCUPANCY:
            raise Sorry(f"{path}: atom {scatterer.label} has an occupancy of {scatterer.occupancy:g}: correct it")
    if not any(scatterer.occupancy for scatterer in structure.scatterers()):
        raise Sorry(f"{path}: all atoms have an occupancy of 0: give those that are there another")
    odd = [
        f"{scatterer.label.strip()} ({scatterer.occupancy:.4g})"
        for scatterer in structure.scatterers()
        if not -1e-6 <= scatterer.occupancy <= 1.01
    ]
    if odd:
        print(f"{path}: occupancies that are not between 0 and 1: {listed(odd)}", file=log)
