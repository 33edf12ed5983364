"""Structures from PDB and mmCIF, with the values that iotbx takes for zero, or stumbles over, mended atom by atom."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

import iotbx.cif
import iotbx.pdb
from cctbx import adptbx, crystal, sgtbx, uctbx, xray
from cctbx.array_family import flex
from iotbx.pdb import cryst1_interpretation
from iotbx.pdb.mmcif import cif_input
from libtbx.utils import Sorry

from edtbx_cctbx.model_files.cell_symmetry import symmetrised
from edtbx_cctbx.model_files.cif_columns import Columns, is_unknown
from edtbx_cctbx.model_files.cif_symmetry import CELL, cell_and_group
from edtbx_cctbx.structure.atom_names import listed

_UNKNOWN_B = -987.6
"""A B that no atom has, in place of an unknown one."""

_CRYST1_ENDS = (6, 15, 24, 33, 40, 47, 54)

_NO_RESIDUE = "0"
_LAST_RESIDUE = 2436111
"""The last number that four characters of the hybrid-36 system hold."""

_NAMING = (
    (("label_atom_id", "auth_atom_id"), "X"),
    (("label_alt_id",), "."),
    (("label_asym_id", "auth_asym_id"), "A"),
    (("auth_asym_id", "label_asym_id"), "A"),
    (("auth_comp_id", "label_comp_id"), "UNK"),
    (("label_entity_id",), "1"),
    (("auth_seq_id", "label_seq_id"), _NO_RESIDUE),
)
"""Columns that iotbx builds chains and residues by, what stands in for them, and the value of rows that have none."""

_ANISOTROPIC = tuple(f"[{i}][{j}]" for i, j in ((1, 1), (2, 2), (3, 3), (1, 2), (1, 3), (2, 3)))


def structure_of_pdb(text: str, path: str | Path, log: TextIO, tolerance: float) -> tuple[xray.structure, list[int]]:
    """The structure of a PDB file, and the places of atoms whose displacement is unknown.

    Of several models the first is read. A blank occupancy is 1; atoms without coordinates are left out.

    Raises
    ------
    Sorry
        Cell or space group are missing, or the one misses the other by more than the tolerance.
    """
    lines = _mended_lines(text.split("\n"), path, log)
    cryst1 = next((line for line in lines if line.startswith("CRYST1")), None)
    source = iotbx.pdb.pdb_input(source_info=str(path), lines=lines)
    if cryst1 is None:
        symmetry = source.crystal_symmetry()
        if symmetry is None or symmetry.unit_cell() is None:
            raise Sorry(f"{path} has no cell: add the CRYST1 record (PDB) or the _cell items (mmCIF)")
        return _read(source)
    try:
        parameters = [float(cryst1[start:end]) for start, end in pairwise(_CRYST1_ENDS)]
    except ValueError as error:
        raise Sorry(f"{path}: CRYST1 has no cell of six numbers in columns 7 to 54: complete it") from error
    if parameters[:3] == [1.0, 1.0, 1.0]:
        raise Sorry(f"{path} has no cell: CRYST1 gives 1 1 1, which stands for none")
    cell = uctbx.unit_cell(parameters)
    symbol = cryst1[55:66].strip()
    group = _group(symbol, cell)
    if group is None:
        raise Sorry(
            f"{path}: {symbol or 'a blank'} is no space group: give that of the crystal in columns 56 to 66 of CRYST1"
        )
    average = symmetrised(cell, group, tolerance, path, log)
    if average is cell:
        return _read(source)
    triclinic = f"{cryst1[:55]:55s}{'P 1':11s}{cryst1[66:]}"
    lines = [triclinic if line is cryst1 else line for line in lines]
    structure, unknown = _read(iotbx.pdb.pdb_input(source_info=str(path), lines=lines))
    return _in_symmetry(structure, crystal.symmetry(unit_cell=average, space_group=group)), unknown


def structure_of_mmcif(
    block: Any, name: str, path: str | Path, log: TextIO, tolerance: float
) -> tuple[xray.structure, list[int]]:
    """The structure of an mmCIF block, and the places of atoms whose displacement is unknown; as :func:`structure_of_pdb`.

    Raises
    ------
    Sorry
        As :func:`structure_of_pdb`, or a value is no number.
    """
    cell, group = cell_and_group(block, name, path, log)
    average = symmetrised(cell, group, tolerance, path, log)
    plain = _plain_block(block, path, log)
    for tag, value in zip(CELL, cell.parameters(), strict=True):
        plain[tag] = repr(value)
    plain["_space_group_name_Hall"] = group.type().hall_symbol() if average is cell else "P 1"
    structure, unknown = _read(cif_input(cif_object=iotbx.cif.model.cif({name: plain})))
    if average is not cell:
        structure = _in_symmetry(structure, crystal.symmetry(unit_cell=average, space_group=group))
    return structure, unknown


def _read(source: Any) -> tuple[xray.structure, list[int]]:
    structure = source.xray_structure_simple()
    u_iso = adptbx.b_as_u(_UNKNOWN_B)
    scatterers = structure.scatterers()
    return structure, [
        n for n, atom in enumerate(scatterers) if atom.flags.use_u_iso() and abs(atom.u_iso - u_iso) < 1e-6
    ]


def _in_symmetry(structure: xray.structure, symmetry: crystal.symmetry) -> xray.structure:
    """A structure in P 1 with the same coordinates and U_cif in another symmetry, whose cell is a little different."""
    old, new = structure.unit_cell(), symmetry.unit_cell()
    scatterers = flex.xray_scatterer()
    for scatterer in structure.scatterers():
        atom = scatterer.customized_copy()
        if atom.flags.use_u_aniso():
            atom.u_star = adptbx.u_cif_as_u_star(new, adptbx.u_star_as_u_cif(old, atom.u_star))
        scatterers.append(atom)
    return xray.structure(
        special_position_settings=crystal.special_position_settings(symmetry, min_distance_sym_equiv=0.5),
        scatterers=scatterers,
        non_unit_occupancy_implies_min_distance_sym_equiv_zero=True,
    )


def _group(symbol: str, cell: uctbx.unit_cell) -> sgtbx.space_group | None:
    """The space group of CRYST1, whose setting its cell tells; the cell may miss its symmetry."""
    a, b, c, *angles = cell.parameters()
    right = [next((x for x in (90.0, 120.0) if abs(angle - x) < 4.0), angle) for angle in angles]
    if right[2] == 120.0:
        a = b = 0.5 * (a + b)
    for near in (cell.parameters(), (a, b, c, *right)):
        try:
            info = cryst1_interpretation.categorize(symbol).space_group_info(unit_cell=near)
        except RuntimeError:  # none of the angles is a right one
            continue
        if info is not None:
            return info.group()
    return None


def _mended_lines(lines: list[str], path: str | Path, log: TextIO) -> list[str]:
    """The lines of one model, without atoms that have no coordinates, and with the values that are blank."""
    starts = [n for n, line in enumerate(lines) if line[:6].rstrip() == "MODEL"]
    if len(starts) > 1:
        print(f"{path}: {len(starts)} models; the first is taken", file=log)
        lines = [*lines[: starts[1]], "END"]
    mended: list[str] = []
    left_out, occupied = [], []
    for line in lines:
        if line[:6] not in ("ATOM  ", "HETATM"):
            mended.append(line)
            continue
        label = " ".join(line[12:27].split())
        if not all(line[start : start + 8].strip() for start in (30, 38, 46)):
            left_out.append(label)
            continue
        row = f"{line:80s}"
        if not row[54:60].strip():
            occupied.append(label)
            row = f"{row[:54]}  1.00{row[60:]}"
        if not row[60:66].strip():
            row = f"{row[:60]}{_UNKNOWN_B:6.1f}{row[66:]}"
        mended.append(row)
    _tell(left_out, occupied, path, log)
    return mended


def _plain_block(block: Any, path: str | Path, log: TextIO) -> Any:
    """A block with the atoms of one model, their unknown values mended."""
    atoms = Columns(block, "_atom_site.Cartn_x", path)
    names = atoms.words("_atom_site.label_atom_id", "_atom_site.auth_atom_id") or ["?"] * atoms.size
    atoms.names = names
    models = atoms.words("_atom_site.pdbx_PDB_model_num") or ["1"] * atoms.size
    first = models[0] if models else "1"
    if any(model != first for model in models):
        print(f"{path}: {len(set(models))} models; the first is taken", file=log)
    sites = list(zip(*(atoms.numbers(f"_atom_site.Cartn_{axis}") for axis in "xyz"), strict=True))
    occupancies = atoms.numbers("_atom_site.occupancy")
    b_iso, u_iso = (atoms.numbers(f"_atom_site.{kind}_iso_or_equiv") for kind in "BU")
    kept = [n for n in range(atoms.size) if models[n] == first and None not in sites[n]]
    columns = {tag: atoms.words(tag) for tag in block if tag.lower().startswith("_atom_site.")}
    ids = atoms.words("_atom_site.id") or ["?"] * atoms.size
    numbers = [str(n + 1) for n in range(atoms.size)]
    columns |= {
        "_atom_site.id": numbers,
        "_atom_site.pdbx_PDB_model_num": models,
        "_atom_site.occupancy": [repr(1.0 if x is None else x) for x in occupancies],
        "_atom_site.B_iso_or_equiv": [repr(_b(b, u)) for b, u in zip(b_iso, u_iso, strict=True)],
    }
    unknown = [names[n] for n in kept if occupancies[n] is None] if "_atom_site.occupancy" in block else []
    columns |= _naming(atoms)
    _tell([names[n] for n in range(atoms.size) if models[n] == first and n not in set(kept)], unknown, path, log)
    plain = iotbx.cif.model.block()
    _add_loop(plain, columns, kept)
    _add_anisotropic(plain, block, {ids[n]: (numbers[n], names[n]) for n in kept}, path, log)
    for tag in block:
        if tag.lower().startswith("_atom_sites.") and isinstance(block[tag], str):
            plain[tag] = block[tag]
    return plain


def _naming(atoms: Columns) -> dict[str, list[str] | None]:
    """The columns by which iotbx builds chains and residues, with a value in every row.

    The structure needs none of them but for the names of its atoms.
    """
    columns: dict[str, list[str] | None] = {}
    for names, fallback in _NAMING:
        tags = [f"_atom_site.{name}" for name in names]
        words = atoms.words(*tags) or [fallback] * atoms.size
        tag = next((tag for tag in tags if tag in atoms.block), tags[0])
        values = [fallback if is_unknown(word) else word for word in words]
        columns[tag] = values
        if fallback == _NO_RESIDUE:
            for name, word in zip(atoms.names, values, strict=True):
                if not re.fullmatch(r"[+-]?[0-9]{1,7}", word) or not -999 <= int(word) <= _LAST_RESIDUE:
                    raise Sorry(
                        f"{atoms.path}: atom {name}: {tag}: {word[:40]!r} is no number of a residue: correct it, or write ?"
                    )
    charges = atoms.words("_atom_site.pdbx_formal_charge")
    if charges is not None:
        plain = (re.fullmatch(r"[+-]?[0-8]", word) for word in charges)
        columns["_atom_site.pdbx_formal_charge"] = ["?" if match is None else match[0] for match in plain]
    return columns


def _add_anisotropic(plain: Any, block: Any, atoms: dict[str, tuple[str, str]], path: str | Path, log: TextIO) -> None:
    """The complete rows of anisotropic displacements of these atoms, which have a number and a name by their id."""
    rows = Columns(block, "_atom_site_anisotrop.id", path)
    ids = rows.words("_atom_site_anisotrop.id") or []
    rows.names = [atoms[word][1] if word in atoms else word for word in ids]
    values = list(zip(*(rows.numbers(f"_atom_site_anisotrop.U{ij}") for ij in _ANISOTROPIC), strict=True))
    kept = [n for n, row in enumerate(values) if None not in row and ids[n] in atoms]
    incomplete = [rows.names[n] for n, row in enumerate(values) if None in row]
    if incomplete:
        print(f"{path}: anisotropic displacements incomplete, isotropic ones taken: {listed(incomplete)}", file=log)
    if kept:
        columns = {tag: rows.words(tag) for tag in block if tag.lower().startswith("_atom_site_anisotrop.")}
        columns["_atom_site_anisotrop.id"] = [atoms[word][0] if word in atoms else word for word in ids]
        _add_loop(plain, columns, kept)


def _add_loop(plain: Any, columns: dict[str, list[str] | None], kept: list[int]) -> None:
    loop = iotbx.cif.model.loop()
    for tag, values in columns.items():
        if values is not None:
            loop[tag] = flex.std_string([values[n] for n in kept])
    plain.add_loop(loop)


def _b(b: float | None, u: float | None) -> float:
    if b is not None:
        return b
    return _UNKNOWN_B if u is None else float(adptbx.u_as_b(u))


def _tell(left_out: list[str], occupied: list[str], path: str | Path, log: TextIO) -> None:
    if left_out:
        print(f"{path}: atoms left out, without coordinates: {listed(left_out)}", file=log)
    if occupied:
        print(f"{path}: atoms of unknown occupancy, 1 taken: {listed(occupied)}", file=log)
