"""What a data block of a ``.cif_pets`` file holds, checked: cell, orientation, frames, reflections.

Everything wrong is a ValueError of one line: what, the value got, the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from edtbx.arrays import BoolArray, FloatArray, IntArray
from edtbx.cell import Cell, CellMisfit, cell_of_ub, cell_text
from edtbx.constants import energy_from_wavelength, wavelength_from_energy
from edtbx.measurement.experiment import Frame, Reflections, ScanGeometry
from edtbx.measurement.geometry import polar_factors

CELL_TAGS = tuple(
    f"_cell_{x}" for x in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
)
UB_TAGS = tuple(f"_diffrn_orient_matrix_UB_{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3))
ZONE = "_diffrn_zone_axis_"
_GEOMETRY_TEXTS = ("_diffrn_measurement_details", "_diffrn_reflns_reduction_process")
_GEOMETRY_TAG = "_diffrn_measurement_data_collection_geometry"
_LARGEST_INDEX = 500
_LARGEST_VALUE = 1e15
_RADIANS_BELOW = 0.06
"""1° in radians is 0.017; a frame of that many degrees holds no reflection."""
_NOTED_LENGTH_MISFIT, _NOTED_ANGLE_MISFIT = 0.001, 0.05


def number(block: Any, tag: str) -> float:
    """A finite number, without its s.u. in brackets."""
    if tag not in block:
        raise ValueError(f"{tag} is missing: export the file from PETS2 again")
    entries = _entries(block, tag)
    value = _float(entries[0]) if len(entries) == 1 else float("nan")
    if not np.isfinite(value):
        got = repr(entries[0]) if len(entries) == 1 else f"a loop of {len(entries)}"
        raise ValueError(f"{tag} must be a number, got {got}: correct it, or export the file from PETS2 again")
    return value


def wavelength(block: Any, warnings: list[str]) -> float:
    """The wavelength in Å; a word on the unit or quantity that a value out of range looks like."""
    tag = "_diffrn_radiation_wavelength"
    value = number(block, tag)
    kilovolts = next((kv for kv in (value, value / 1000.0) if 20.0 <= kv <= 3000.0), None)
    looks_like = None
    if kilovolts is not None:
        looks_like = f"an energy of {kilovolts:g} keV, which is {wavelength_from_energy(1000.0 * kilovolts):.5f} Å"
    elif 0.3 <= value < 1.6:
        looks_like = "that of X-rays; give that of the electrons"
    elif 1.6 <= value <= 20.0:
        looks_like = f"a wavelength in pm, which is {0.01 * value:.5g} Å"
    if looks_like is not None:
        raise ValueError(
            f"{tag} must be that of fast electrons (0.001 to 0.2 Å), got {value:g}: it looks like {looks_like}"
        )
    if 0.001 < value < 0.005:
        energy = energy_from_wavelength(value) / 1e6
        warnings.append(f"the wavelength {value:g} Å is that of electrons of {energy:.1f} MeV: is it in nm?")
    return value


def cell_parameters(block: Any) -> Cell:
    a, b, c, alpha, beta, gamma = (number(block, tag) for tag in CELL_TAGS)
    if min(a, b, c) <= 0.0 or not all(0.0 < angle < 180.0 for angle in (alpha, beta, gamma)):
        raise ValueError(
            f"cell lengths must be > 0 Å and angles between 0 and 180°, got {(a, b, c, alpha, beta, gamma)}: "
            "correct them, or export the file from PETS2 again"
        )
    return a, b, c, alpha, beta, gamma


def ub_matrix(block: Any) -> FloatArray:
    """UB in Å⁻¹ (3, 3)."""
    return np.array([number(block, tag) for tag in UB_TAGS]).reshape(3, 3)


def orientation(ub: FloatArray, cell: Cell, notes: list[str], tolerance: float) -> FloatArray:
    """The rotation nearest to UB·B⁻¹; a ValueError where UB is no matrix of this cell."""
    try:
        rotation, _ = polar_factors(ub, cell)
    except ValueError as error:
        if "left-handed" not in str(error):
            raise
        raise ValueError(
            f"{error}: where indices and matrix agree, input.reindex=-h,-k,-l turns both to the right hand; otherwise "
            "reindex to a right-handed cell"
        ) from error
    of_ub = cell_of_ub(ub)
    misfit = CellMisfit.between(of_ub, cell)
    far = f"the UB matrix has the cell {cell_text(of_ub)}, {misfit} off the cell of the file"
    if not misfit.within(tolerance):
        raise ValueError(
            f"{far}: they do not belong together, export the file from PETS2 again (input.cell_tolerance says how much "
            f"may be, {tolerance:g} now)"
        )
    if misfit.length > _NOTED_LENGTH_MISFIT or misfit.angle > _NOTED_ANGLE_MISFIT:
        notes.append(f"{far}; only its orientation is used")
    return rotation


def is_kinematical(block: Any) -> bool:
    """Whether a block holds one list of reflections and no frames, as the kinematical file of PETS2 does."""
    listed = any(tag in block for tag in ("_refln_index_h", "_diffrn_refln_index_h", "_diffrn_reflns_number"))
    return listed and ZONE + "id" not in block and "_refln_zone_axis_id" not in block


def _entries(block: Any, tag: str) -> list[str]:
    entries = block[tag]
    return [entries] if isinstance(entries, str) else list(entries)


def _columns(block: Any, defaults: Mapping[str, float | None]) -> list[FloatArray]:
    """Columns of one loop, NaN where an entry is no number; one of its own value where the file has none and may."""
    columns = {}
    for tag, default in defaults.items():
        if tag in block:
            columns[tag] = np.array([_float(text) for text in _entries(block, tag)])
        elif default is None:
            raise ValueError(f"the column {tag} is missing: export the file from PETS2 again")
    (first, rows), *others = ((tag, len(column)) for tag, column in columns.items())
    for tag, length in others:
        if length != rows:
            raise ValueError(
                f"the column {tag} has {length} rows and {first} has {rows}: they belong in one loop, export the file again"
            )
    return [columns[tag] if tag in columns else np.full(rows, default) for tag, default in defaults.items()]


def _float(text: str) -> float:
    try:
        return float(text.partition("(")[0])
    except ValueError:
        return float("nan")


def _whole(values: FloatArray, tag: str) -> IntArray:
    wrong = np.flatnonzero(~(np.abs(values) < 2**31) | (values != np.rint(values)))
    if wrong.size:
        raise ValueError(f"{tag} must hold whole numbers, got {values[wrong[0]]} in row {wrong[0] + 1}: correct it")
    return values.astype(np.int64)


def frames(block: Any, notes: list[str]) -> tuple[Frame, ...]:
    names = ("id", "precession_angle", "alpha", "beta")
    columns = _columns(block, {**{ZONE + name: None for name in names}, ZONE + "omega": 0.0, ZONE + "scale": 1.0})
    ids = _whole(columns[0], ZONE + "id")
    _check_angles(ids, *columns[1:4])
    known: dict[int, Frame] = {}
    for frame_id, semi, alpha, beta, omega, scale in zip(ids.tolist(), *columns[1:], strict=True):
        frame = Frame(
            id=frame_id,
            alpha=float(np.radians(alpha)),
            beta=float(np.radians(beta)),
            semi_angle=float(np.radians(semi)),
            omega=float(np.radians(omega)) if np.isfinite(omega) else 0.0,
            scale=float(scale) if np.isfinite(scale) else 1.0,
        )
        if known.setdefault(frame_id, frame) != frame:
            raise ValueError(f"frame {frame_id} is listed twice with different angles: give every frame its own id")
    if len(known) < len(ids):
        notes.append(f"{len(ids) - len(known)} frames listed twice, taken once")
    return tuple(known.values())


def _check_angles(ids: IntArray, semi: FloatArray, alpha: FloatArray, beta: FloatArray) -> None:
    """Angles in degrees, of the size that goniometers have."""
    for name, values in (("precession_angle", semi), ("alpha", alpha), ("beta", beta)):
        wrong = np.flatnonzero(~(np.abs(values) <= 360.0))
        if wrong.size:
            raise ValueError(
                f"frame {ids[wrong[0]]}: {ZONE}{name} must be an angle in degrees, got {values[wrong[0]]:g} in row "
                f"{wrong[0] + 1}: correct it, or take the frame and its reflections out"
            )
    if len(semi) and 0.0 < np.max(semi) < _RADIANS_BELOW and np.max(np.abs(alpha)) < np.pi:
        raise ValueError(
            f"the angles of the frames look like radians (semi-angles up to {np.max(semi):g}, alpha up to "
            f"{np.max(np.abs(alpha)):g}): give degrees"
        )


def reflections(block: Any, notes: list[str]) -> Reflections:
    indices = [f"_refln_index_{x}" for x in "hkl"]
    tags = [*indices, "_refln_zone_axis_id", "_refln_intensity_meas", "_refln_intensity_sigma"]
    columns = _columns(block, dict.fromkeys(tags))
    hkl = np.stack([_whole(column, tag) for column, tag in zip(columns, indices, strict=False)], axis=1)
    frame_id = _whole(columns[3], tags[3])
    large = np.argwhere(np.abs(hkl) > _LARGEST_INDEX)
    if len(large):
        row, place = large[0]
        raise ValueError(
            f"{indices[place]} is {hkl[row, place]} in row {row + 1}: no reflection has such an index, correct it"
        )
    intensity, sigma = columns[4:]
    finite = np.isfinite(intensity) & np.isfinite(sigma)
    keep = np.ones(len(hkl), dtype=bool)
    reasons = []
    for wrong, reason in (
        (~finite, "without a finite intensity and s.u."),
        (finite & ~(sigma > 0.0), "with an s.u. that is not positive"),
        (
            finite & ((np.abs(intensity) > _LARGEST_VALUE) | (sigma > _LARGEST_VALUE)),
            "with a number beyond all measure",
        ),
        (~hkl.any(axis=1), "with the index 0 0 0"),
        (_repeated(np.column_stack([frame_id, hkl, intensity, sigma])), "repeated word for word in the same frame"),
    ):
        if np.any(wrong & keep):
            reasons.append(f"{np.count_nonzero(wrong & keep)} of {len(hkl)} rows dropped: {reason}")
        keep &= ~wrong
    if not keep.any():
        why = f" ({'; '.join(reasons)})" if reasons else ""
        raise ValueError(
            f"no reflection with a finite intensity and a positive s.u. is left{why}: export the file again"
        )
    notes += reasons
    return Reflections(hkl=hkl[keep], intensity=intensity[keep], sigma=sigma[keep], frame_id=frame_id[keep])


def _repeated(rows: FloatArray) -> BoolArray:
    """Rows (M,) that stand further up already."""
    _, first = np.unique(rows, axis=0, return_index=True)
    repeated = np.ones(len(rows), dtype=bool)
    repeated[first] = False
    return repeated


def named_geometry(block: Any) -> ScanGeometry | None:
    """The scan geometry that the header names; None where it names none that is known."""
    lines = [block[_GEOMETRY_TAG]] if _GEOMETRY_TAG in block else []
    for tag in _GEOMETRY_TEXTS:
        lines += re.findall(r"data collection geometry:(.*)", str(block[tag])) if tag in block else []
    for line in lines:
        for word, geometry in (("precession", ScanGeometry.PRECESSION), ("rotation", ScanGeometry.ROTATION)):
            if word in line.lower():
                return geometry
    return None
