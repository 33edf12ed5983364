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
    """Which atoms are never bonded, by two numbers (N,) for each: those of different conformers other than 0, and those that
    exclude their own images by symmetry (numbers other than 0)."""

    conformers: tuple[int, ...]
    exclusive: tuple[int, ...]


def connectivity(structure: xray.structure, parts: Parts | None = None) -> Any:
    """smtbx's table of bonds."""
    if parts is None:
        return smtbx.utils.connectivity_table(structure)
    return smtbx.utils.connectivity_table(
        structure,
        conformer_indices=flex.size_t(parts.conformers),
        sym_excl_indices=flex.size_t(parts.exclusive),
    )


def joined(structure: xray.structure, parts: Parts | None = None) -> xray.structure:
    """A copy in which atoms are next to those they are bonded to, as far as symmetry allows.

    smtbx forgets the symmetry between an atom and the next but one, and would put hydrogen of a terminal NH2 in the wrong
    plane.
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
    """A copy with atoms, by their places, taken to where operations of symmetry take them."""
    moved = [scatterer.customized_copy() for scatterer in structure.scatterers()]
    for place, operation in operations.items():
        turn = rotation_matrix(operation)
        atom = moved[place]
        atom.site = operation * atom.site
        if atom.flags.use_u_aniso():
            u = turn @ np.array(matrix.sym(sym_mat3=atom.u_star)).reshape(3, 3) @ turn.T
            atom.u_star = (u[0, 0], u[1, 1], u[2, 2], u[0, 1], u[0, 2], u[1, 2])
    found = xray.structure(structure, flex.xray_scatterer(moved))
    set_electron_form_factors(found, log=io.StringIO())
    return found


def bonds(structure: xray.structure, parts: Parts | None = None) -> Any:
    """For every atom, its neighbours and the operations that make them so."""
    return connectivity(structure, parts).pair_asu_table.extract_pair_sym_table(
        skip_j_seq_less_than_i_seq=False, all_interactions_from_inside_asu=True
    )


def bonded(structure: xray.structure, table: Any, place: int) -> list[FloatArray]:
    """The bonds (3,) in Å from an atom, by the table of all bonds."""
    cell, scatterers = structure.unit_cell(), structure.scatterers()
    here = np.array(cell.orthogonalize(scatterers[place].site))
    return [
        np.array(cell.orthogonalize(operation * scatterers[other].site)) - here
        for other, operations in table[place].items()
        for operation in operations
    ]


def angle_between(one: FloatArray, other: FloatArray) -> float:
    """The angle in degrees between two vectors (3,)."""
    cosine = float(one @ other) / float(np.linalg.norm(one) * np.linalg.norm(other))
    return math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))
