"""Hydrogen atoms from peaks of a difference map, where distances and angles allow them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cctbx import xray

from edtbx.arrays import FloatArray
from edtbx_cctbx.hydrogens.placement import add_hydrogens, room_on_carbon
from edtbx_cctbx.hydrogens.riding import NUCLEAR
from edtbx_cctbx.maps.peaks import Peak
from edtbx_cctbx.structure.connectivity import angle_between, bonded, bonds, is_hydrogen
from edtbx_cctbx.structure.form_factors import set_electron_form_factors

_BESIDE = 0.7
"""Peaks nearer to an atom than this, in Å, are errors of that atom."""

_OFF = 0.3
"""Tolerance in Å of the distance between a peak and its parent, against that of nuclei."""

_LEAST_ANGLE = 85.0
"""Least angle in degrees between two bonds of a parent."""

_MOST_BONDS = {"B": 4, "C": 4, "N": 4, "O": 2, "S": 2}
"""Most bonds of a parent, hydrogen included; for carbon, bond lengths and angles decide."""

_LEAST_PART = 0.5
"""Least height of a hydrogen peak, relative to the median of those taken."""

_PLANAR = 350.0
"""Sum of three angles in degrees beyond which bonds are planar, and no fourth is added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A proposed hydrogen atom, its parent, and its peak."""

    label: str
    parent: str
    peak: Peak


def find_hydrogens(structure: xray.structure, peaks: Sequence[Peak]) -> tuple[xray.structure, list[Proposal]]:
    """A copy with hydrogen added at peaks, given in falling order, and a proposal for each of these atoms.

    A peak may be hydrogen if it is at the nuclear distance from an atom, in a direction in which that atom has no bond yet,
    and if the atom has a bond to spare. Sites keep the directions of the peaks, at nuclear distances.
    """
    beside = [peak for peak in peaks if peak.distance > _BESIDE]
    lowest = _lowest(beside, structure)
    completed = structure.deep_copy_scatterers()
    scatterers, cell, table = structure.scatterers(), structure.unit_cell(), bonds(structure)
    taken: dict[int, list[tuple[Peak, FloatArray]]] = defaultdict(list)
    for peak in beside:
        if peak.height_volts < lowest or not _may_be_hydrogen(peak, structure):
            continue
        accepted = taken[peak.nearest]
        existing = bonded(structure, table, peak.nearest)
        away = np.array(cell.orthogonalize(peak.site)) - np.array(cell.orthogonalize(scatterers[peak.nearest].site))
        if len(accepted) >= _room(structure, table, peak.nearest, existing) or _is_planar(
            [*existing, *(at for _, at in accepted)]
        ):
            continue
        if any(angle_between(away, direction) < _LEAST_ANGLE for _, direction in accepted):
            continue
        accepted.append((peak, away))
    labels = {scatterer.label for scatterer in scatterers}
    proposals = []
    for place, accepted in sorted(taken.items()):
        parent = scatterers[place]
        origin, length = np.array(cell.orthogonalize(parent.site)), NUCLEAR[parent.element_symbol()]
        sites = [origin + length * away / np.linalg.norm(away) for _, away in accepted]
        turns = len(bonded(structure, table, place)) == 1 and len(accepted) in (1, 3)
        before = completed.scatterers().size()
        add_hydrogens(completed, place, sites, turns, labels)
        added = list(completed.scatterers())[before:]
        proposals += [
            Proposal(label=atom.label, parent=parent.label, peak=peak)
            for atom, (peak, _) in zip(added, accepted, strict=True)
        ]
    set_electron_form_factors(completed)
    return completed, proposals


def _lowest(peaks: Sequence[Peak], structure: xray.structure) -> float:
    """Least height in volts of a peak, of those given in falling order, that is taken for hydrogen.

    A fifth of the space beside atoms can hold hydrogen (0.15 to 0.19 in three crystals). As long as the rest has no more
    peaks than this fifth, at most one in five of the peaks in it is noise. Peaks below half the median are noise, too.
    """
    heights: list[float] = []
    elsewhere, lowest = 0, np.inf
    for peak in peaks:
        if _may_be_hydrogen(peak, structure):
            heights.append(peak.height_volts)
        else:
            elsewhere += 1
        if elsewhere <= len(heights):
            lowest = peak.height_volts
    taken = [height for height in heights if height >= lowest]
    return max(lowest, _LEAST_PART * float(np.median(taken))) if taken else np.inf


def _may_be_hydrogen(peak: Peak, structure: xray.structure) -> bool:
    parent = structure.scatterers()[peak.nearest]
    element = parent.element_symbol()
    if element not in _MOST_BONDS or is_hydrogen(parent):
        return False
    return abs(peak.distance - NUCLEAR[element]) < _OFF and not peak.angle < _LEAST_ANGLE


def _room(structure: xray.structure, table: Any, place: int, existing: Sequence[FloatArray]) -> int:
    """Most hydrogen atoms that an atom with these bonds (3,) can take."""
    element = structure.scatterers()[place].element_symbol()
    return room_on_carbon(structure, table, place) if element == "C" else _MOST_BONDS[element] - len(existing)


def _is_planar(directions: Sequence[FloatArray]) -> bool:
    """Whether three bonds (3,) are planar: their angles sum up to 360 degrees."""
    return (
        len(directions) == 3 and sum(angle_between(*pair) for pair in itertools.combinations(directions, 2)) > _PLANAR
    )
