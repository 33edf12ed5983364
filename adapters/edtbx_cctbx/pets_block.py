"""What a data block of a ``.cif_pets`` file holds, checked: cell, orientation, frames, reflections.

Everything wrong is a ValueError of one line: what, the value got, the remedy.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from edtbx.cell import Cell, cell_of_metric
from edtbx.experiment import BoolArray, FloatArray, Frame, IntArray, Reflections, ScanGeometry
from edtbx.geometry import orthogonalisation_matrix

CELL_TAGS = tuple(
    f"_cell_{x}" for x in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
)
UB_TAGS = tuple(f"_diffrn_orient_matrix_UB_{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3))
ZONE = "_diffrn_zone_axis_"
_GEOMETRY_TEXTS = ("_diffrn_measurement_details", "_diffrn_reflns_reduction_process")
_GEOMETRY_TAG = "_diffrn_measurement_data_collection_geometry"
_MAX_LENGTH_MISFIT, _MAX_ANGLE_MISFIT = 0.02, 2.0
_NOTED_LENGTH_MISFIT, _NOTED_ANGLE_MISFIT = 0.001, 0.05


def number(block: Any, tag: str) -> float:
    """A finite number, without its s.u. in brackets."""
    if tag not in block:
        raise ValueError(f"{tag} is missing: export the file from PETS2 again")
    text = block[tag]
    try:
        value = float(text.partition("(")[0])
    except (ValueError, AttributeError):
        value = float("nan")
    if not np.isfinite(value):
        raise ValueError(f"{tag} must be a number, got {text!r}: correct it, or export the file from PETS2 again")
    return value


def cell_parameters(block: Any) -> Cell:
    a, b, c, alpha, beta, gamma = (number(block, tag) for tag in CELL_TAGS)
    if min(a, b, c) <= 0.0 or not all(0.0 < angle < 180.0 for angle in (alpha, beta, gamma)):
        raise ValueError(
            f"cell lengths must be > 0 Å and angles between 0 and 180°, got {(a, b, c, alpha, beta, gamma)}: "
            "correct them, or export the file from PETS2 again"
        )
    return a, b, c, alpha, beta, gamma


def orientation(block: Any, notes: list[str]) -> FloatArray:
    """The rotation U nearest to UB·B⁻¹: the polar factor, which drops the strain between UB and the cell.

    numpy's singular values, not ``scipy.linalg.polar``: scipy's LAPACK is broken where cctbx came before numpy.
    """
    ub = np.array([number(block, tag) for tag in UB_TAGS]).reshape(3, 3)
    cell = cell_parameters(block)
    b = orthogonalisation_matrix(cell)
    relative_volume = np.linalg.det(ub) / np.linalg.det(b)
    if abs(relative_volume) < 0.01:
        raise ValueError(f"the UB matrix is singular (determinant {np.linalg.det(ub):.3g} Å⁻³): index the data again")
    if relative_volume < 0.0:
        raise ValueError("the UB matrix is left-handed (its determinant is negative): reindex to a right-handed cell")
    _compare_cells(cell_of_metric(np.linalg.inv(ub.T @ ub)), cell, notes)
    left, _, right = np.linalg.svd(ub @ np.linalg.inv(b))
    return np.asarray(left @ right)


def _compare_cells(of_ub: Cell, cell: Cell, notes: list[str]) -> None:
    length = max(abs(x / y - 1.0) for x, y in zip(of_ub[:3], cell[:3], strict=True))
    angle = max(abs(x - y) for x, y in zip(of_ub[3:], cell[3:], strict=True))
    found = " ".join(f"{x:.3f}" for x in of_ub)
    far = f"the UB matrix has the cell {found}, up to {length:.2%} in length and {angle:.2f}° off the cell of the file"
    if length > _MAX_LENGTH_MISFIT or angle > _MAX_ANGLE_MISFIT:
        raise ValueError(f"{far}: they do not belong together, export the file from PETS2 again")
    if length > _NOTED_LENGTH_MISFIT or angle > _NOTED_ANGLE_MISFIT:
        notes.append(f"{far}; only its orientation is used")


def _column(block: Any, tag: str, default: float | None = None) -> FloatArray:
    """A loop column; NaN where the entry is no number."""
    if tag not in block:
        if default is None:
            raise ValueError(f"the column {tag} is missing: export the file from PETS2 again")
        return np.array(default)
    entries = block[tag]
    return np.array([_float(text) for text in ([entries] if isinstance(entries, str) else entries)])


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
    ids = _whole(_column(block, ZONE + "id"), ZONE + "id")
    columns = [
        np.broadcast_to(_column(block, ZONE + name), ids.shape) for name in ("precession_angle", "alpha", "beta")
    ]
    omega = np.broadcast_to(_column(block, ZONE + "omega", default=0.0), ids.shape)
    scale = np.broadcast_to(_column(block, ZONE + "scale", default=1.0), ids.shape)
    found: dict[int, Frame] = {}
    for frame_id, semi, alpha, beta, om, sc in zip(ids.tolist(), *columns, omega, scale, strict=True):
        frame = Frame(
            id=frame_id,
            alpha=float(np.radians(alpha)),
            beta=float(np.radians(beta)),
            semi_angle=float(np.radians(semi)),
            omega=float(np.radians(om)) if np.isfinite(om) else 0.0,
            scale=float(sc) if np.isfinite(sc) else 1.0,
        )
        if found.setdefault(frame_id, frame) != frame:
            raise ValueError(f"frame {frame_id} is listed twice with different angles: give every frame its own id")
    if len(found) < len(ids):
        notes.append(f"{len(ids) - len(found)} frames listed twice, taken once")
    return tuple(found.values())


def reflections(block: Any, notes: list[str]) -> Reflections:
    hkl = np.stack([_whole(_column(block, tag), tag) for tag in (f"_refln_index_{x}" for x in "hkl")], axis=1)
    frame_id = _whole(_column(block, "_refln_zone_axis_id"), "_refln_zone_axis_id")
    intensity, sigma = (_column(block, f"_refln_intensity_{name}") for name in ("meas", "sigma"))
    finite = np.isfinite(intensity) & np.isfinite(sigma)
    keep = np.ones(len(hkl), dtype=bool)
    for wrong, reason in (
        (~finite, "without a finite intensity and s.u."),
        (finite & ~(sigma > 0.0), "with an s.u. that is not positive"),
        (~hkl.any(axis=1), "with the index 0 0 0"),
        (_repeated(np.column_stack([frame_id, hkl, intensity, sigma])), "repeated word for word in the same frame"),
    ):
        if np.any(wrong & keep):
            notes.append(f"{np.count_nonzero(wrong & keep)} of {len(hkl)} rows dropped: {reason}")
        keep &= ~wrong
    if not keep.any():
        raise ValueError("no reflection with a finite intensity and a positive s.u. is left: export the file again")
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
