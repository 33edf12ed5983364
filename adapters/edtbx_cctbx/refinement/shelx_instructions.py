"""Constraints and restraints from SHELX instructions, in a SHELX file or given beside any other model."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import iotbx.shelx
from cctbx import xray
from libtbx.utils import Sorry, null_out
from smtbx.refinement.constraints import InvalidConstraint, reparametrisation
from smtbx.refinement.constraints.geometrical import any as geometrical

from edtbx_cctbx.constraints.restraints import Restraints
from edtbx_cctbx.hydrogens.riding import NUCLEAR
from edtbx_cctbx.io.text_file import read_text
from edtbx_cctbx.model_files.structures import UNREADABLE
from edtbx_cctbx.refinement.model import RefinementModel
from edtbx_cctbx.shelx.file import Instruction, ShelxFile, instructions_of
from edtbx_cctbx.shelx.kinds import RESTRAINTS, check_kinds, check_restraint
from edtbx_cctbx.shelx.text import is_number, is_shelx
from edtbx_cctbx.shelx.variables import read_variables
from edtbx_cctbx.structure.connectivity import Parts, connectivity

_BESIDE = (*RESTRAINTS, "EADP", "EXYZ")
"""Instructions that can be given beside a model file."""

_OPTION = "refinement.instruction"

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def shelx_model(
    path: str | Path,
    structure: xray.structure,
    instructions: Sequence[str] = (),
    riding: bool = True,
    log: TextIO | None = None,
) -> RefinementModel | None:
    """A structure with the constraints and restraints of its SHELX file; None for another format, or where there are none.

    AFIX constraints take nuclear distances where the file gives none; hydrogen without constraints rides as well.

    Parameters
    ----------
    path
        The model file.
    structure : xray.structure
        As read from it.
    instructions : sequence of str
        Further instructions in the format of SHELX.
    riding : bool
        Whether hydrogen rides; otherwise it is free, whatever the file says.
    log
        Stream for lines on instructions that are not used.

    Raises
    ------
    Sorry
        An instruction cannot be read, is not supported, or names an atom that is not in the model.
    """
    text = read_text(path, "SHELX .ins or .res file")
    if not is_shelx(text):
        return None
    log = null_out() if log is None else log
    file = ShelxFile.read(text, structure, str(path))
    variables = read_variables(file, structure)
    for note in (*check_kinds(file), *variables.notes):
        print(f"{path}: {note}", file=log)
    lines = [(file, instruction) for instruction in file.instructions if instruction.name in _BESIDE]
    names = {instruction.name for instruction in file.instructions}
    parts = _parts(file)
    if not (lines or variables.equations or variables.free or parts or "AFIX" in names or _binds_displacements(file)):
        return None
    model = RefinementModel(
        structure=structure.deep_copy_scatterers(),
        fixed=frozenset(variables.fixed),
        equations=tuple(variables.equations),
        free_occupancies=frozenset(variables.free),
        coded_displacements=frozenset(variables.displacements),
        parts=parts,
    )
    geometry, restraints = _read(model.structure, [*lines, *_beside(model.structure, instructions)], file)
    if not riding and geometry:
        free = [constraint for constraint in geometry if not _holds(constraint) & file.hydrogen]
        print(
            f"{path}: refinement.hydrogens=free: {len(geometry) - len(free)} constraints on hydrogen left out", file=log
        )
        geometry = free
    held = {place for constraint in geometry for place in getattr(constraint, "constrained_site_indices", ())}
    if twice := held & variables.coded_sites:
        label = structure.scatterers()[min(twice)].label
        raise Sorry(f"{path}: {label} is held twice, by AFIX and by its coordinates: leave out one of them")
    model = replace(model, constraints=geometry, restraints=restraints)
    model = model.with_shared(*_shared([*lines, *_beside(model.structure, instructions)]), on_one_site=True)
    _check_geometry(model, geometry, file)  # which takes atoms on one site for one
    movable = not variables.coded_sites and "EQIV" not in names
    return model.with_riding(movable) if riding else model


def _check_geometry(model: RefinementModel, geometry: Sequence[Any], file: ShelxFile) -> None:
    """Refuse an AFIX on an atom whose bonds do not allow it."""
    table = connectivity(model.structure, model.parts)
    for constraint in geometry:
        if not isinstance(constraint, geometrical):
            continue
        try:
            reparametrisation(
                structure=model.structure.deep_copy_scatterers(), constraints=[constraint], connectivity_table=table
            )
        except (InvalidConstraint, AssertionError) as error:
            pivot = model.structure.scatterers()[constraint.pivot].label
            atom = file.atoms[constraint.constrained_site_indices[0]]
            raise Sorry(
                f"{file.said(atom.instruction)}: the AFIX before it does not fit the bonds and PARTs of {pivot}, the atom "
                "that it is counted to: put hydrogen behind its own atom, or leave the AFIX out"
            ) from error


def with_instructions(model: RefinementModel, instructions: Sequence[str]) -> RefinementModel:
    """A model, from a file of another format, with restraints and shared sites and displacements by SHELX instructions.

    Raises
    ------
    Sorry
        As :func:`shelx_model`.
    """
    if not instructions:
        return model
    lines = _beside(model.structure, instructions)
    _, restraints = _read(model.structure, lines, ShelxFile.beside(model.structure, _OPTION))
    return replace(model, restraints=restraints).with_shared(*_shared(lines))


Line = tuple[ShelxFile, Instruction]


def _beside(structure: xray.structure, texts: Sequence[str]) -> list[Line]:
    """Instructions that the user gives beside the model file."""
    file, lines = ShelxFile.beside(structure, _OPTION), []
    for text in texts:
        read = [replace(instruction, line=0) for instruction in instructions_of(text.strip())]
        if len(read) != 1 or read[0].name not in _BESIDE or not read[0].words:
            raise Sorry(f"{_OPTION}={text}: give one of {', '.join(_BESIDE)}, with labels of atoms")
        lines.append((file, read[0]))
    return lines


def _parts(file: ShelxFile) -> Parts | None:
    if not any(atom.part for atom in file.atoms):
        return None
    return Parts(
        conformers=tuple(max(atom.part, 0) for atom in file.atoms),
        exclusive=tuple(max(-atom.part, 0) for atom in file.atoms),
    )


def _binds_displacements(file: ShelxFile) -> bool:
    """Whether any U_iso is a multiple of that of the atom before."""
    return any(len(atom.instruction.words) in (6, 7) and float(atom.instruction.words[5]) < -0.5 for atom in file.atoms)


def _holds(constraint: Any) -> set[int]:
    """Indices of the atoms that an AFIX or displacement constraint makes depend on others."""
    if isinstance(constraint, geometrical):
        return set(constraint.constrained_site_indices)
    return {constraint.u_iso_scatterer_idx}


def _shared(lines: Sequence[Line]) -> tuple[list[list[int]], list[list[int]]]:
    """Groups of atoms that share a site (EXYZ), and a displacement (EADP)."""
    groups: dict[str, list[list[int]]] = {"EXYZ": [], "EADP": []}
    for file, instruction in lines:
        if instruction.name not in groups:
            continue
        for atoms in file.groups(instruction):
            if len({place for place, _ in atoms}) < 2 or any(symmetry for _, symmetry in atoms):
                raise Sorry(
                    f"{file.said(instruction)}: name two atoms of the model or more, none of them made by symmetry"
                )
            groups[instruction.name].append([place for place, _ in atoms])
    return groups["EXYZ"], groups["EADP"]


def _read(structure: xray.structure, lines: Sequence[Line], body: ShelxFile) -> tuple[list[Any], Any]:
    """Constraints of AFIX and of displacements, and restraints, as the reader of iotbx makes them from short labels."""
    text = _as_shelx(structure, _restraints(lines), body)
    try:
        builder = iotbx.shelx.parse_smtbx_refinement_model(file=io.StringIO(text), strictly_shelxl=False)
    except UNREADABLE as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise Sorry(
            f"{body.path}: constraints and restraints cannot be read: {said}: correct or remove them"
        ) from error
    scatterers = structure.scatterers()
    for constraint in builder.constraints:
        if isinstance(constraint, geometrical) and not constraint.bond_length:
            constraint.bond_length = NUCLEAR.get(scatterers[constraint.pivot].element_symbol())
    restraints = Restraints(builder.restraints_manager) if builder.proxies() else None
    return list(builder.constraints), restraints


def _restraints(lines: Sequence[Line]) -> Iterator[str]:
    """Restraint lines with short labels, one for each residue that they apply to."""
    for file, instruction in lines:
        if instruction.name not in RESTRAINTS:
            continue
        numbers = [word for word in instruction.words if is_number(word)]
        for atoms in file.groups(instruction):
            check_restraint(file, instruction, len(atoms))
            yield " ".join([instruction.name, *numbers, *(f"{_short(place)}{symmetry}" for place, symmetry in atoms)])


def _short(place: int) -> str:
    """A label of four letters that is no instruction."""
    return "X" + "".join(_DIGITS[place // 36**n % 36] for n in (2, 1, 0))


def _as_shelx(structure: xray.structure, restraints: Iterator[str], body: ShelxFile) -> str:
    """SHELX file of a structure with short labels, with the AFIX of a file and restraints in these labels."""
    group, cell = structure.space_group(), structure.unit_cell()
    lattice = 1 + "PIRFABC".find(group.conventional_centring_type_symbol())
    inverts = group.is_centric() and group.is_origin_centric()
    operations = [group(0, 0, n) for n in range(group.n_smx())]
    elements = sorted(set(body.elements))
    places = {atom.instruction.line: atom.place for atom in body.atoms}
    atoms = [
        str(instruction)
        if instruction.name == "AFIX"
        else _atom(structure, places[instruction.line], elements, instruction)
        for instruction in body.instructions
        if instruction.name == "AFIX" or instruction.line in places
    ]
    if not body.instructions:
        atoms = [_atom(structure, atom.place, elements, atom.instruction) for atom in body.atoms]
    return "\n".join(
        [
            "TITL",
            f"CELL 0.0251 {' '.join(f'{x:.5f}' for x in cell.parameters())}",
            f"ZERR {group.order_z()} 0 0 0 0 0 0",
            f"LATT {lattice if inverts else -lattice}",
            *(f"SYMM {operation}" for operation in operations if not operation.is_unit_mx()),
            f"SFAC {' '.join(elements)}",
            f"UNIT {' '.join('1' for _ in elements)}",
            *(str(instruction) for instruction in body.instructions if instruction.name == "EQIV"),
            *restraints,
            "FVAR 1.0",
            *atoms,
            "HKLF 4",
            "END\n",
        ]
    )


def _atom(structure: xray.structure, place: int, elements: Sequence[str], instruction: Instruction) -> str:
    """Line of an atom with all parameters fixed but its displacement, which may be a multiple of that of the atom before.

    Atoms other than hydrogen are anisotropic, so that restraints on their displacements (ISOR) are made; where they are
    isotropic these do nothing.
    """
    scatterer = structure.scatterers()[place]
    site = " ".join(f"{x:.6f}" for x in scatterer.site)
    bound = instruction.words[5] if len(instruction.words) in (6, 7) and float(instruction.words[5]) < -0.5 else None
    heavy = scatterer.element_symbol() not in ("H", "D")
    u = bound or ("0.05 0.05 0.05 0.0 0.0 0.0" if heavy else "0.05")
    return f"{_short(place)} {1 + elements.index(scatterer.element_symbol())} {site} 11.0 {u}"
