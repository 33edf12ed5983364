"""Operators on indices, and those that bring one lattice to the setting of another."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from cctbx import sgtbx
from libtbx.utils import Sorry

from edtbx.arrays import FloatArray, IntArray
from edtbx.cell import Cell, CellMisfit, cell_volume, lattice_maps, transformed_cell
from edtbx.checks import expect_kind
from edtbx_cctbx.arrays import rotation_matrix, translation_vector

_CENTRINGS = ("P 1", "A 1", "B 1", "C 1", "I 1", "F 1", "R 1")
"""Hall symbols."""

_EXAMPLES = 'an operator such as "-h,-k,-l" or "k,h,-l"'


def index_matrix(operator: str) -> FloatArray:
    """Matrix M (3, 3) of h' = M h, from an operator in the notation of cctbx: ``-h,-k,-l``, ``k,h,-l``, ``h+k,h-k,l``.

    Raises
    ------
    Sorry
        It is no operator, or has no inverse.
    TypeError
        It is no text.
    """
    expect_kind(operator, str, "reindex")
    # the parser of cctbx takes a, b, c and x, y, z for other things: only indices are meant
    if set(operator.lower()) - set("hkl,+-*/0123456789 "):
        raise Sorry(f"input.reindex must be {_EXAMPLES}, got {operator!r}")
    try:
        change = sgtbx.change_of_basis_op(operator.lower())
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()).replace("cctbx Error: ", "")
        raise Sorry(f"input.reindex must be {_EXAMPLES}, got {operator!r}: {reason}") from error
    if np.any(translation_vector(change.c_inv())):
        raise Sorry(f"input.reindex must be {_EXAMPLES}, without a constant, got {operator!r}")
    return rotation_matrix(change.c_inv()).T


def operator_text(matrix: FloatArray | IntArray) -> str:
    """The operator of h' = M h as cctbx writes it."""
    words = []
    for row in matrix:
        word = ""
        for coefficient, letter in zip(row, "hkl", strict=True):
            part = Fraction(float(coefficient)).limit_denominator(12)
            if part:
                size = "" if abs(part) == 1 else f"{abs(part)}*"
                word += ("-" if part < 0 else "+" if word else "") + size + letter
        words.append(word or "0")
    return ",".join(words)


def transform_indices(hkl: IntArray, matrix: FloatArray) -> IntArray:
    """Transformed indices M h (M, 3) of all rows.

    Raises
    ------
    Sorry
        A transformed index is no whole number.
    """
    exact = hkl @ matrix.T
    indices = np.rint(exact)
    broken = np.flatnonzero(np.any(np.abs(exact - indices) > 1e-6, axis=1))
    if broken.size:
        first = " ".join(str(n) for n in hkl[broken[0]])
        raise Sorry(
            f"{operator_text(matrix)} makes no whole indices of {broken.size} of {len(hkl)} rows ({first} is the first): "
            "it is another operator that these data need"
        )
    return np.asarray(indices, dtype=np.int64)


def operators_to_model(
    cell: Cell, model_cell: Cell, group: sgtbx.space_group, tolerance: float, hkl: IntArray | None = None
) -> list[FloatArray]:
    """The right-handed M of h' = M h that bring a lattice of that cell to the setting of a model, the nearest first.

    The cell may be centred in another way than that of the model; ``hkl`` leave out what makes no whole indices of them.
    """
    to_primitive = _to_primitive(group)
    target = transformed_cell(model_cell, to_primitive)
    ratio = cell_volume(model_cell) / cell_volume(cell)
    candidates = [m.astype(np.float64) for m in lattice_maps(cell, model_cell, tolerance)]  # obverse to reverse, too
    for symbol in _CENTRINGS:
        own = _to_primitive(sgtbx.space_group(symbol))
        if abs(ratio * np.linalg.det(to_primitive) / np.linalg.det(own) - 1.0) <= 4.0 * tolerance:
            maps = lattice_maps(transformed_cell(cell, own), target, tolerance)
            candidates += [np.linalg.inv(to_primitive) @ matrix @ own for matrix in maps]
    operators: dict[tuple[float, ...], FloatArray] = {}
    for operator in candidates:
        whole = hkl is None or np.allclose(hkl @ operator.T, np.rint(hkl @ operator.T), atol=1e-6)
        if whole and CellMisfit.between(transformed_cell(cell, operator), model_cell).within(tolerance):
            operators.setdefault(_key(operator), operator)
    return sorted(operators.values(), key=lambda m: _distance(transformed_cell(cell, m), model_cell))


def _distance(cell: Cell, reference: Cell) -> float:
    """Difference of two cells, rounded so that sorting keeps operators of equal distance in order."""
    misfit = CellMisfit.between(cell, reference)
    return round(misfit.length + float(np.radians(misfit.angle)), 4)


def _key(operator: FloatArray) -> tuple[float, ...]:
    return tuple((np.round(operator, 6).ravel() + 0.0).tolist())


def distinct_operators(operators: list[FloatArray], group: sgtbx.space_group) -> list[FloatArray]:
    """Operators without those equivalent to an earlier one by the Laue group."""
    rotations = [rotation_matrix(op).T for op in group.build_derived_laue_group().all_ops()]
    known: set[tuple[float, ...]] = set()
    first = []
    for operator in operators:
        if _key(operator) not in known:
            first.append(operator)
            known |= {_key(rotation @ operator) for rotation in rotations}
    return first


def _to_primitive(group: sgtbx.space_group) -> FloatArray:
    change = group.info().change_of_basis_op_to_primitive_setting()
    return rotation_matrix(change.c_inv()).T
