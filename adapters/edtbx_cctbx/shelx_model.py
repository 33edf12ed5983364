"""Constraints and restraints as SHELX writes them, in its files or beside any other, by the reader of iotbx and smtbx."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import iotbx.shelx
from cctbx import xray
from libtbx.utils import Sorry
from smtbx.refinement.constraints import adp
from smtbx.refinement.constraints.geometrical import any as geometrical

from edtbx_cctbx.hydrogens import NUCLEAR
from edtbx_cctbx.io.shelx_text import is_number, is_shelx, plain_shelx
from edtbx_cctbx.model import UNREADABLE
from edtbx_cctbx.refinement_model import RefinementModel
from edtbx_cctbx.text_file import read_text

_RESTRAINTS = ("DFIX", "DANG", "FLAT", "CHIV", "SADI", "SIMU", "DELU", "RIGU", "ISOR", "EADP")


def shelx_model(
    path: str | Path, structure: xray.structure, instructions: Sequence[str] = ()
) -> RefinementModel | None:
    """A structure with what its SHELX file and more instructions say of it; None for another file, or one that says nothing.

    AFIX constraints take the distances of nuclei where the file gives none of its own. EADP joins displacements. Atoms all
    of whose coordinates are fixed in the file stay where they are.

    Raises
    ------
    Sorry
        An instruction cannot be read, or names an atom that is not there.
    """
    text = read_text(path, "SHELX .ins or .res file")
    if not is_shelx(text):
        return None
    text = plain_shelx(text)
    fixed = _fixed_sites(text, structure)
    pattern = rf"^({'|'.join(('AFIX', *_RESTRAINTS))})(_\S+)?\s"
    if not fixed and not re.search(pattern, text, flags=re.MULTILINE | re.IGNORECASE):
        return None
    _check(instructions)
    sfac = re.search(r"^SFAC\s", text, flags=re.MULTILINE | re.IGNORECASE)
    start = sfac.start() if sfac else 0
    return _read(
        text[:start] + "".join(f"{line}\n" for line in instructions) + text[start:], structure, str(path), fixed
    )


def with_instructions(model: RefinementModel, instructions: Sequence[str]) -> RefinementModel:
    """A model, not from a SHELX file, with restraints and shared displacements as SHELX writes them.

    Raises
    ------
    Sorry
        As :func:`shelx_model`.
    """
    if not instructions:
        return model
    _check(instructions)
    labels = {scatterer.label.lower(): n for n, scatterer in enumerate(model.structure.scatterers())}
    lines = []
    for line in instructions:
        name, *words = line.split()
        if unknown := [word for word in words if not is_number(word) and word.lower() not in labels]:
            raise Sorry(f"refinement.instruction={line}: the model has no atom {unknown[0]}")
        lines.append(" ".join([name, *(f"C{labels[w.lower()]}" if w.lower() in labels else w for w in words)]))
    read = _read(_as_shelx(model.structure, lines), model.structure, "refinement.instruction", frozenset())
    return replace(model, constraints=[*read.constraints, *model.constraints], restraints=read.restraints)


def _check(instructions: Sequence[str]) -> None:
    for line in instructions:
        if not re.fullmatch(rf"({'|'.join(_RESTRAINTS)})\s.*", line.strip(), flags=re.IGNORECASE):
            raise Sorry(f"refinement.instruction={line}: give one of {', '.join(_RESTRAINTS)}, with labels of atoms")


def _read(text: str, structure: xray.structure, said_in: str, fixed: frozenset[int]) -> RefinementModel:
    try:
        builder = iotbx.shelx.parse_smtbx_refinement_model(file=io.StringIO(text), strictly_shelxl=False)
    except UNREADABLE as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise Sorry(f"{said_in}: constraints and restraints cannot be read: {said}: correct or remove them") from error
    scatterers = structure.scatterers()
    for constraint in builder.constraints:
        if isinstance(constraint, geometrical) and not constraint.bond_length:
            constraint.bond_length = NUCLEAR.get(scatterers[constraint.pivot].element_symbol())
    restraints = builder.restraints_manager
    return RefinementModel(
        structure=structure,
        constraints=[*_shared_displacements(text, builder.structure, said_in), *builder.constraints],
        restraints=restraints() if callable(restraints) else restraints,
        fixed=fixed,
    )


def _as_shelx(structure: xray.structure, instructions: Sequence[str]) -> str:
    """A structure with labels C0, C1 ..., whatever the elements, and instructions that name these."""
    group, cell = structure.space_group(), structure.unit_cell()
    lattice = 1 + "PIRFABC".find(group.conventional_centring_type_symbol())
    inverts = group.is_centric() and group.is_origin_centric()
    operations = [group(0, 0, n) for n in range(group.n_smx())]
    elements = sorted({scatterer.element_symbol() for scatterer in structure.scatterers()})
    atoms = [
        f"C{n} {1 + elements.index(scatterer.element_symbol())} {' '.join(f'{x:.6f}' for x in scatterer.site)} 11.0 0.05"
        for n, scatterer in enumerate(structure.scatterers())
    ]
    return "\n".join(
        [
            "TITL",
            f"CELL 0.0251 {' '.join(f'{x:.5f}' for x in cell.parameters())}",
            f"ZERR {group.order_z()} 0 0 0 0 0 0",
            f"LATT {lattice if inverts else -lattice}",
            *(f"SYMM {operation}" for operation in operations if not operation.is_unit_mx()),
            f"SFAC {' '.join(elements)}",
            f"UNIT {' '.join('1' for _ in elements)}",
            *instructions,
            "FVAR 1.0",
            *atoms,
            "HKLF 4",
            "END\n",
        ]
    )


def _fixed_sites(text: str, structure: xray.structure) -> frozenset[int]:
    """Places of the atoms all of whose coordinates have 10 added to them."""
    places = {scatterer.label.lower(): n for n, scatterer in enumerate(structure.scatterers())}
    found = set()
    for match in re.finditer(r"^(\w+)\s+\d+((?:\s+-?[\d.]+){3})\s", text, flags=re.MULTILINE):
        place = places.get(match.group(1).lower())
        if place is not None and all(5.0 <= float(word) < 15.0 for word in match.group(2).split()):
            found.add(place)
    return frozenset(found)


def _shared_displacements(text: str, structure: xray.structure, said_in: str) -> list[Any]:
    places = {scatterer.label.lower(): n for n, scatterer in enumerate(structure.scatterers())}
    found = []
    for match in re.finditer(r"^EADP\s+([^\n!]*)", text, flags=re.MULTILINE | re.IGNORECASE):
        labels = match.group(1).split()
        missing = [label for label in labels if label.lower() not in places]
        if missing or len(labels) < 2:
            raise Sorry(
                f"{said_in}: {match.group(0).strip()}: name two atoms of the model or more ({missing or labels})"
            )
        found.append(adp.shared_u(tuple(places[label.lower()] for label in labels)))
    return found
