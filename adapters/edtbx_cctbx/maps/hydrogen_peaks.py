"""Hydrogen atoms at the peaks of a difference map, where they can be any."""

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
"""Peaks nearer to an atom than this, in Å, say how that moves."""

_OFF = 0.3
"""How far the distance of a peak from its parent may be from that of nuclei, in Å."""

_LEAST_ANGLE = 85.0
"""Least angle in degrees between two bonds of a parent."""

_MOST_BONDS = {"B": 4, "C": 4, "N": 4, "O": 2, "S": 2}
"""Most bonds of a parent, those to hydrogen among them; of carbon, its other bonds tell."""

_LEAST_PART = 0.5
"""Least height of a peak in medians of those taken for hydrogen."""

_PLANAR = 350.0
"""Sum of three angles in degrees beyond which bonds lie in a plane, and leave no room for a fourth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A hydrogen atom, the atom it sits on, and the peak that shows it."""

    label: str
    parent: str
    peak: Peak


def find_hydrogens(structure: xray.structure, peaks: Sequence[Peak]) -> tuple[xray.structure, list[Proposal]]:
    """A copy with hydrogen at those of the peaks, given in falling order, that leave no better explanation.

    A peak may be hydrogen if it is as far from an atom as a nucleus of hydrogen would be, in a direction in which that atom
    has no bond yet, and if the atom has a bond to spare. Sites keep the directions of the peaks, at the distances of nuclei.
    """
    beside = [peak for peak in peaks if peak.distance > _BESIDE]
    lowest = _lowest(beside, structure)
    found = structure.deep_copy_scatterers()
    scatterers, cell, table = structure.scatterers(), structure.unit_cell(), bonds(structure)
    taken: dict[int, list[tuple[Peak, FloatArray]]] = defaultdict(list)
    for peak in beside:
        if peak.height_volts < lowest or not _may_be_hydrogen(peak, structure):
            continue
        mine = taken[peak.nearest]
        there = bonded(structure, table, peak.nearest)
        away = np.array(cell.orthogonalize(peak.site)) - np.array(cell.orthogonalize(scatterers[peak.nearest].site))
        if len(mine) >= _room(structure, table, peak.nearest, there) or _is_planar([*there, *(at for _, at in mine)]):
            continue
        if any(angle_between(away, other) < _LEAST_ANGLE for _, other in mine):
            continue
        mine.append((peak, away))
    labels = {scatterer.label for scatterer in scatterers}
    proposals = []
    for place, mine in sorted(taken.items()):
        parent = scatterers[place]
        origin, length = np.array(cell.orthogonalize(parent.site)), NUCLEAR[parent.element_symbol()]
        sites = [origin + length * away / np.linalg.norm(away) for _, away in mine]
        turns = len(bonded(structure, table, place)) == 1 and len(mine) in (1, 3)
        before = found.scatterers().size()
        add_hydrogens(found, place, sites, turns, labels)
        added = list(found.scatterers())[before:]
        proposals += [
            Proposal(label=atom.label, parent=parent.label, peak=peak)
            for atom, (peak, _) in zip(added, mine, strict=True)
        ]
    set_electron_form_factors(found)
    return found, proposals


def _lowest(peaks: Sequence[Peak], structure: xray.structure) -> float:
    """How high a peak must be, given in falling order, to be taken for hydrogen where it can be any.

    There is room for hydrogen in a fifth of what lies beside atoms (0.15 to 0.19 in three crystals). As long as no more
    peaks are in the rest than there, one in five of those there is noise, at most. Half as high as others is noise, too.
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


def _room(structure: xray.structure, table: Any, place: int, there: Sequence[FloatArray]) -> int:
    """How many hydrogen atoms an atom can take at most, that has bonds (3,) there."""
    element = structure.scatterers()[place].element_symbol()
    return room_on_carbon(structure, table, place) if element == "C" else _MOST_BONDS[element] - len(there)


def _is_planar(there: Sequence[FloatArray]) -> bool:
    """Whether bonds (3,) fill a plane: three with angles of 360 degrees together."""
    return len(there) == 3 and sum(angle_between(*pair) for pair in itertools.combinations(there, 2)) > _PLANAR
