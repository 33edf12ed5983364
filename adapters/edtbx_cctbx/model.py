"""Structure models from files, with electron form factors, held against the cell of an experiment."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import iotbx.cif
import iotbx.pdb
import numpy as np
from cctbx import xray
from cctbx.eltbx import e_scattering, xray_scattering
from libtbx.utils import Sorry

from edtbx.experiment import Experiment
from edtbx_cctbx.text_file import parse_cif, read_text

_EXPECTED = "structure model (CIF, mmCIF, PDB, SHELX .ins or .res)"
_SYMMETRY_NAMES = (
    "_space_group_name_H-M_alt",
    "_space_group_name_Hall",
    "_space_group_IT_number",
    "_symmetry_space_group_name_H-M",
    "_symmetry_space_group_name_Hall",
    "_symmetry_Int_Tables_number",
)
_REMEDY = "correct the file, or export it again"
UNREADABLE = (RuntimeError, ValueError, KeyError, AssertionError, ArithmeticError, TypeError, IndexError)
"""What the readers of cctbx raise over a damaged file."""

_MAX_LENGTH_MISFIT, _MAX_ANGLE_MISFIT = 0.01, 1.0


def read_model(path: str | Path, data_block: str | None = None, log: TextIO | None = None) -> xray.structure:
    """The structure in a CIF, mmCIF, PDB or SHELX file, with electron form factors.

    The format is told from the text. Of a CIF with several blocks, ``data_block`` or the first one with atoms is read.
    What was chosen or mended is written to ``log`` (standard output).

    Raises
    ------
    Sorry
        The file is missing, damaged or in no known format, or has no atoms, no cell or an unknown element.
    """
    log = sys.stdout if log is None else log
    text = read_text(path, _EXPECTED)
    read = _reader_for(text, path)
    if data_block is not None and read is not _read_cif:
        raise Sorry(f"{path} has no data blocks to choose from: leave out the data block {data_block!r}")
    try:
        structure = _read_cif(text, path, log, data_block) if read is _read_cif else read(text, path, log)
    except Sorry as error:
        said = " ".join(str(error).split())
        # ours name the file and the remedy; those of cctbx neither
        raise Sorry(said if str(path) in said else f"{path}: {said}: {_REMEDY}") from error
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Sorry(f"{path} cannot be read as a {_EXPECTED}: {reason}: {_REMEDY}") from error
    _check(structure, path, log)
    try:
        set_electron_form_factors(structure, log=log)
    except Sorry as error:
        raise Sorry(f"{path}: {error}") from error
    return structure


def set_electron_form_factors(xray_structure: xray.structure, log: TextIO | None = None) -> None:
    """Give every scatterer its electron form factor in Å (rest mass), in place; scattering types stay as they are.

    The table is that of neutral atoms (five Gaussians, s = sin θ/λ up to 2 Å⁻¹). Deuterium takes that of hydrogen.
    An ion takes that of its neutral atom, and ``log`` (standard output) says so: the field of a bare charge diverges as
    1/s², no sum of Gaussians holds it, and in a crystal the neighbours screen it. It matters below s of about 0.3 Å⁻¹.
    A pickled structure forgets the table: call this again on the copy.

    Raises
    ------
    Sorry
        An element is unknown or not in the table.

    References
    ----------
    International Tables for Crystallography C (2006), table 4.3.2.2, doi:10.1107/97809553602060000593.
    """
    log = sys.stdout if log is None else log
    gaussians = {}
    for scattering_type in sorted({scatterer.scattering_type for scatterer in xray_structure.scatterers()}):
        element = _element(scattering_type)
        if element is None:
            labels = [s.label for s in xray_structure.scatterers() if s.scattering_type == scattering_type]
            raise Sorry(
                f"no electron form factor for scattering type {scattering_type!r} of atom {labels[0]}: "
                "give a chemical element from H to Cf"
            )
        gaussians[scattering_type] = e_scattering.ito_vol_c_2011_table_4_3_2_2_entry_as_gaussian(element, exact=True)
        if re.search(r"[1-9]?[+-]$|[+-][1-9]$", scattering_type) and "0" not in scattering_type:
            print(f"{scattering_type}: the electron form factor of the neutral atom {element} stands in", file=log)
    registry = xray_structure.scattering_type_registry(custom_dict=gaussians, table="electron")
    registry.set_last_table("electron")


def check_cell(xray_structure: xray.structure, experiment: Experiment) -> None:
    """Hold the cell of the model against that of the experiment.

    Raises
    ------
    Sorry
        They differ by more than 1 % in a length or 1° in an angle.
    """
    model, measured = xray_structure.unit_cell().parameters(), experiment.cell
    length = max(abs(x / y - 1.0) for x, y in zip(model[:3], measured[:3], strict=True))
    angle = max(abs(x - y) for x, y in zip(model[3:], measured[3:], strict=True))
    if length > _MAX_LENGTH_MISFIT or angle > _MAX_ANGLE_MISFIT:
        cells = " and ".join(" ".join(f"{x:.3f}" for x in cell) for cell in (model, measured))
        raise Sorry(
            f"the cells of model and data, {cells}, differ by up to {length:.1%} in length and {angle:.2f}° in angle: "
            "bring the model to the setting of the data, or index the data in that of the model"
        )


def with_model_cell(experiment: Experiment, xray_structure: xray.structure) -> Experiment:
    """The experiment with the cell of the model in place of its own; its orientation stays.

    Raises
    ------
    Sorry
        As :func:`check_cell`.
    """
    check_cell(xray_structure, experiment)
    cell = tuple(xray_structure.unit_cell().parameters())
    return replace(experiment, cell=cell)


def is_shelx(text: str) -> bool:
    """Whether a text is a SHELX file: has an SFAC instruction, and is no CIF that holds one."""
    if re.search(r"^\s*(_atom_site\.|data_)", text, flags=re.MULTILINE | re.IGNORECASE):
        return False
    return re.search(r"^SFAC\s", text, flags=re.MULTILINE | re.IGNORECASE) is not None


def _reader_for(text: str, path: str | Path) -> Callable[..., xray.structure]:
    if re.search(r"^\s*_atom_site\.", text, flags=re.MULTILINE):
        return _read_macromolecule
    if re.search(r"^\s*data_", text, flags=re.MULTILINE | re.IGNORECASE):
        return _read_cif
    if is_shelx(text):
        return _read_shelx
    if re.search(r"^(CRYST1|ATOM  |HETATM)", text, flags=re.MULTILINE):
        return _read_macromolecule
    raise Sorry(f"{path} is in no known format: give a {_EXPECTED}")


def _read_cif(text: str, path: str | Path, log: TextIO, data_block: str | None) -> xray.structure:
    blocks = parse_cif(text, path, "CIF")
    with_atoms = [
        name for name in blocks if "_atom_site_label" in blocks[name] and "_atom_site_fract_x" in blocks[name]
    ]
    if not with_atoms:
        raise Sorry(f"{path} has no atoms (no loop with _atom_site_label and _atom_site_fract_x): give a {_EXPECTED}")
    if data_block is not None and data_block not in with_atoms:
        raise Sorry(f"{path} has no data block {data_block!r} with atoms: choose from {', '.join(with_atoms)}")
    name = data_block or with_atoms[0]
    if len(with_atoms) > 1 and data_block is None:
        print(f"{path}: data block {name} taken, not {', '.join(with_atoms[1:])}", file=log)
    block = blocks[name]
    missing = [tag for tag in ("_cell_length_a", "_cell_angle_gamma") if tag not in block]
    if missing:
        raise Sorry(f"{path} has no cell ({missing[0]} is missing): add it to the data block {name}")
    try:
        return _build(block)
    except iotbx.cif.builders.CifBuilderError as error:
        operations = [tag for tag in ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz") if tag in block]
        named = [tag for tag in _SYMMETRY_NAMES if tag in block]
        if not (operations and named and "Inconsistent symmetry" in str(error)):
            raise
    for tag in named:
        del block[tag]
    print(f"{path}: the space group name contradicts the symmetry operations; the operations are taken", file=log)
    return _build(block)


def _build(block: Any) -> xray.structure:
    return iotbx.cif.builders.crystal_structure_builder(block).structure


def _read_macromolecule(text: str, path: str | Path, log: TextIO) -> xray.structure:
    source = iotbx.pdb.input(source_info=str(path), lines=text.splitlines())
    if source.crystal_symmetry() is None or source.crystal_symmetry().unit_cell() is None:
        raise Sorry(f"{path} has no cell: add the CRYST1 record (PDB) or the _cell items (mmCIF)")
    return source.xray_structure_simple()


def _read_shelx(text: str, path: str | Path, log: TextIO) -> xray.structure:
    if not re.search(r"^CELL\s", text, flags=re.MULTILINE | re.IGNORECASE):
        raise Sorry(f"{path} has no cell: add the CELL instruction")
    plain = plain_shelx(text)
    if plain != text:
        print(f"{path}: the form factors on the SFAC lines are not used; only their elements are", file=log)
    return xray.structure.from_shelx(file=io.StringIO(plain), strictly_shelxl=False)


def plain_shelx(text: str) -> str:
    """The text with all SFAC instructions as one line of elements where any of them is with numbers or repeated.

    iotbx has no reader for the Gaussians of an SFAC line, and forgets all SFAC lines but the last.
    """
    pattern = re.compile(r"^SFAC\b((?:[^\n!=]*=[^\n]*\n)*[^\n]*)\n?", flags=re.MULTILINE | re.IGNORECASE)
    instructions = [
        re.sub(r"=[^\n]*\n", " ", match.group(1)).partition("!")[0].split() for match in pattern.finditer(text)
    ]
    if len(instructions) < 2 and not any(is_number(word) for words in instructions for word in words):
        return text
    elements = " ".join(word for words in instructions for word in words if not is_number(word))
    first = pattern.search(text)
    if first is None:
        return text
    return f"{text[: first.start()]}SFAC {elements}\n{pattern.sub('', text[first.start() :])}"


def is_number(word: str) -> bool:
    """Whether a word of a file is a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def _check(structure: xray.structure | None, path: str | Path, log: TextIO) -> None:
    """Atoms, all of them somewhere; a word on those that do not move."""
    if structure is None or structure.scatterers().size() == 0:
        raise Sorry(f"{path} has no atoms: give a {_EXPECTED}")
    for scatterer in structure.scatterers():
        u = [scatterer.u_iso] if scatterer.flags.use_u_iso() else scatterer.u_star
        if not np.all(np.isfinite([*scatterer.site, scatterer.occupancy, *u])):
            raise Sorry(
                f"{path}: atom {scatterer.label} has no finite coordinates, occupancy or displacement parameters: "
                "complete or remove it"
            )
    rigid = [s.label for s in structure.scatterers() if s.flags.use_u_iso() and s.u_iso <= 0.0]
    if rigid:
        print(f"{path}: {len(rigid)} atoms have no displacement parameter > 0 ({rigid[0]} ...)", file=log)


def _element(scattering_type: str) -> str | None:
    """Element symbol as the electron table has it; None for one that it has not."""
    element, _ = xray_scattering.get_element_and_charge_symbols(scattering_type, False)
    element = "H" if element == "D" else element
    return element if element in e_scattering.ito_vol_c_2011_table_4_3_2_2_elements() else None
