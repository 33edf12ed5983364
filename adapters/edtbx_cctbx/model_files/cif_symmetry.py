"""Space group and cell of a CIF block."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TextIO

import iotbx.cif
from cctbx import crystal, sgtbx, uctbx
from iotbx.cif.builders import CifBuilderError, crystal_symmetry_builder
from libtbx.utils import Sorry

from edtbx_cctbx.model_files.cell_symmetry import completed, symmetrised
from edtbx_cctbx.model_files.cif_columns import is_unknown, number

_OPERATIONS = (
    "_space_group_symop_operation_xyz",
    "_symmetry_equiv_pos_as_xyz",
    "_space_group_symop.operation_xyz",
    "_symmetry_equiv.pos_as_xyz",
)
_NAMES = {
    "_space_group_name_H-M_alt": (
        "_space_group_name_H-M_alt",
        "_symmetry_space_group_name_H-M",
        "_space_group.name_H-M_alt",
        "_symmetry.space_group_name_H-M",
    ),
    "_space_group_name_Hall": (
        "_space_group_name_Hall",
        "_symmetry_space_group_name_Hall",
        "_space_group.name_Hall",
        "_symmetry.space_group_name_Hall",
    ),
    "_space_group_IT_number": (
        "_space_group_IT_number",
        "_symmetry_Int_Tables_number",
        "_space_group.IT_number",
        "_symmetry.Int_Tables_number",
    ),
}
CELL = tuple(f"_cell_length_{axis}" for axis in "abc") + tuple(f"_cell_angle_{a}" for a in ("alpha", "beta", "gamma"))


def crystal_symmetry(block: Any, name: str, path: str | Path, log: TextIO, tolerance: float) -> crystal.symmetry:
    """The symmetry of a block, with a cell that obeys it; operations win over a name that contradicts them.

    Raises
    ------
    Sorry
        Cell or space group is missing, wrong, or the one misses the other by more than the tolerance.
    """
    cell, group = cell_and_group(block, name, path, log)
    return crystal.symmetry(unit_cell=symmetrised(cell, group, tolerance, path, log), space_group=group)


def cell_and_group(block: Any, name: str, path: str | Path, log: TextIO) -> tuple[uctbx.unit_cell, sgtbx.space_group]:
    """Cell and space group as a block has them; parameters of the cell that symmetry fixes may be missing.

    Raises
    ------
    Sorry
        Either is missing or wrong.
    """
    parameters = [_cell_parameter(block, tag, path) for tag in CELL]
    group = _space_group(block, path, log)
    parameters = completed(parameters, group)
    if None in parameters:
        raise Sorry(f"{path} has no cell ({CELL[parameters.index(None)]} is missing): add it to the data block {name}")
    cell = uctbx.unit_cell(parameters)
    if not group.is_compatible_unit_cell(cell):
        primitive = group.info().primitive_setting().group()
        if primitive != group and primitive.is_compatible_unit_cell(cell):
            print(
                f"{path}: the cell is that of {primitive.info()}, not of {group.info()}; the former is taken", file=log
            )
            group = primitive
    return cell, group


def _space_group(block: Any, path: str | Path, log: TextIO) -> sgtbx.space_group:
    operations = next((_operations(block, tag, path) for tag in _OPERATIONS if _known(block.get(tag))), [])
    names = {plain: value for plain, tags in _NAMES.items() if (value := _first_known(block, tags)) is not None}
    _tell_unreadable_name(operations, names, path, log)
    try:
        return _group_of(operations, names)
    except CifBuilderError as error:
        if not (operations and names and "Inconsistent symmetry" in str(error)):
            raise
    print(f"{path}: the space group name contradicts the symmetry operations; the operations are taken", file=log)
    return _group_of(operations, {})


def _group_of(operations: list[str], names: dict[str, str]) -> sgtbx.space_group:
    symmetry = iotbx.cif.model.block()
    for tag, value in names.items():
        symmetry[tag] = value
    if operations:
        symmetry.add_loop(iotbx.cif.model.loop(header=_OPERATIONS[:1], data=operations))
    return crystal_symmetry_builder(symmetry, strict=False).crystal_symmetry.space_group() or _missing()


def _operations(block: Any, tag: str, path: str | Path) -> list[str]:
    values = block.get(tag)
    known = _known(values)
    if not isinstance(values, str) and len(known) != len(values):
        raise Sorry(
            f"{path}: {len(values) - len(known)} of the {len(values)} values of {tag} are unknown: complete them"
        )
    return known


def _tell_unreadable_name(operations: list[str], names: dict[str, str], path: str | Path, log: TextIO) -> None:
    """A name that is none leaves Hall symbol and number, whose setting may be another."""
    name = names.get("_space_group_name_H-M_alt")
    alternatives = [value for tag, value in names.items() if tag != "_space_group_name_H-M_alt"]
    if name is None or operations or not alternatives:
        return
    try:
        sgtbx.space_group_info(symbol=name)
    except RuntimeError:
        print(
            f"{path}: the space group {name} is in no list; {' and '.join(alternatives)} taken, in its own setting",
            file=log,
        )


def _missing() -> sgtbx.space_group:
    raise CifBuilderError("No symmetry could be read: give symmetry operations or the name of a space group")


def _known(values: Any) -> list[str]:
    if values is None:
        return []
    return [value for value in ([values] if isinstance(values, str) else values) if not is_unknown(value)]


def _first_known(block: Any, tags: tuple[str, ...]) -> str | None:
    return next((values[0] for tag in tags if (values := _known(block.get(tag)))), None)


def _cell_parameter(block: Any, tag: str, path: str | Path) -> float | None:
    dotted = tag.replace("_cell_", "_cell.")
    values = block.get(tag, block.get(dotted))
    if values is None:
        return None
    if not isinstance(values, str):
        if len(values) != 1:
            raise Sorry(f"{path}: {tag} has {len(values)} values: leave one of them")
        values = values[0]
    try:
        return number(values)
    except ValueError as error:
        raise Sorry(f"{path}: the unit cell has {tag}: {error}: correct it") from error
