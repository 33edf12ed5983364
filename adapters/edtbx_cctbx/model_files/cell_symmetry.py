"""Cells of models that miss their symmetry: averaged by the space group, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from cctbx import sgtbx, uctbx
from libtbx.utils import Sorry

from edtbx.cell import CellMisfit, cell_text

_ROUNDING = CellMisfit(length=2e-6, angle=2e-4)
"""Up to here a cell is what its symmetry demands, as far as files tell."""


def symmetrised(
    cell: uctbx.unit_cell, group: sgtbx.space_group, tolerance: float, path: str | Path, log: TextIO
) -> uctbx.unit_cell:
    """A cell as its space group demands it; ``log`` gives both where they differ.

    Raises
    ------
    Sorry
        They differ by more than the tolerance, as :meth:`edtbx.cell.CellMisfit.within` has it.
    """
    average = group.average_unit_cell(cell)
    misfit = CellMisfit.between(cell.parameters(), average.parameters())
    if misfit.length <= _ROUNDING.length and misfit.angle <= _ROUNDING.angle:
        return cell
    name = group.type().lookup_symbol()
    cells = f"the cell {cell_text(cell.parameters())} misses the symmetry of {name} by {misfit}"
    if not misfit.within(tolerance):
        raise Sorry(
            f"{path}: {cells}: correct the cell or the space group, or let more pass than input.cell_tolerance={tolerance:g}"
        )
    print(f"{path}: {cells}; {cell_text(average.parameters())} is taken", file=log)
    return average


def completed(parameters: list[float | None], group: sgtbx.space_group) -> list[float | None]:
    """Cell parameters with those unknown that symmetry fixes (90°, 120°, b = a ...) put in."""
    general = group.average_unit_cell(uctbx.unit_cell((5.0, 6.0, 7.0, 80.0, 85.0, 95.0))).parameters()
    whole = list(parameters)
    for n, value in enumerate(general):
        if whole[n] is not None:
            continue
        if n >= 3 and min(abs(value - 90.0), abs(value - 120.0)) < 1e-6:
            whole[n] = round(value)
            continue
        kin = range(3) if n < 3 else range(3, 6)
        whole[n] = next((parameters[m] for m in kin if m != n and abs(general[m] - value) < 1e-6), None)
    return whole
