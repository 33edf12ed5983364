"""Bonds, angles and neighbours of the atoms of an xray.structure."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import smtbx.utils
from cctbx import sgtbx, xray
from cctbx.array_family import flex
from scitbx import matrix

from edtbx.arrays import FloatArray
from edtbx_cctbx.arrays import rotation_matrix
from edtbx_cctbx.structure.form_factors import set_electron_form_factors


def is_hydrogen(scatterer: Any) -> bool:
    """Whether an atom is hydrogen, deuterium included."""
    return scatterer.element_symbol() in ("H", "D")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Which atoms are never bonded, by two numbers (A,) of each: atoms of different conformers other than 0 are not bonded,
    nor are atoms with an ``exclusive`` number other than 0 to images by symmetry.
    """

    conformers: tuple[int, ...]
    exclusive: tuple[int, ...]


def connectivity(structure: xray.structure, parts: Parts | None = None) -> Any:
    """Connectivity table of smtbx, without bonds between exclusive parts."""
    if parts is None:
        return smtbx.utils.connectivity_table(structure)
    return smtbx.utils.connectivity_table(
        structure,
        conformer_indices=flex.size_t(parts.conformers),
        sym_excl_indices=flex.size_t(parts.exclusive),
    )


def joined(structure: xray.structure, parts: Parts | None = None) -> xray.structure:
    """A copy in which atoms are next to those they are bonded to, as far as symmetry allows.

    Constraints of smtbx ignore symmetry between an atom and its second neighbours, and would put hydrogen of a terminal NH2
    in the wrong plane.
    """
    table = bonds(structure, parts)
    operations: dict[int, Any] = {}
    for start in range(len(structure.scatterers())):
        waiting = [(start, sgtbx.rt_mx())] if start not in operations else []
        while waiting:
            place, operation = waiting.pop(0)
            if place in operations:
                continue
            operations[place] = operation
            waiting += [(j, operation.multiply(first[0])) for j, first in table[place].items() if j not in operations]
    return moved_by(structure, operations)


def moved_by(structure: xray.structure, operations: Mapping[int, Any]) -> xray.structure:
    """A copy with symmetry operations applied to atoms, given by index; displacement tensors are rotated, too."""
    moved = [scatterer.customized_copy() for scatterer in structure.scatterers()]
    for place, operation in operations.items():
        turn = rotation_matrix(operation)
        atom = moved[place]
        atom.site = operation * atom.site
        if atom.flags.use_u_aniso():
            u = turn @ np.array(matrix.sym(sym_mat3=atom.u_star)).reshape(3, 3) @ turn.T
            atom.u_star = (u[0, 0], u[1, 1], u[2, 2], u[0, 1], u[0, 2], u[1, 2])
    moved_structure = xray.structure(structure, flex.xray_scatterer(moved))
    set_electron_form_factors(moved_structure, log=io.StringIO())
    return moved_structure


def bonds(structure: xray.structure, parts: Parts | None = None) -> Any:
    """Table of neighbours of every atom, with the symmetry operations that bring them next to it."""
    return connectivity(structure, parts).pair_asu_table.extract_pair_sym_table(
        skip_j_seq_less_than_i_seq=False, all_interactions_from_inside_asu=True
    )


def bonded(structure: xray.structure, table: Any, place: int) -> list[FloatArray]:
    """Cartesian bond vectors (3,) in Å from an atom to its neighbours in a table of bonds."""
    cell, scatterers = structure.unit_cell(), structure.scatterers()
    origin = np.array(cell.orthogonalize(scatterers[place].site))
    return [
        np.array(cell.orthogonalize(operation * scatterers[neighbour].site)) - origin
        for neighbour, operations in table[place].items()
        for operation in operations
    ]


def angle_between(one: FloatArray, other: FloatArray) -> float:
    """The angle in degrees between two vectors (3,)."""
    cosine = float(one @ other) / float(np.linalg.norm(one) * np.linalg.norm(other))
    return math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))
