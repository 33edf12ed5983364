"""The structure in a CIF block, atom by atom: an unknown value belongs to one atom, and leaves the others alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from cctbx import adptbx, xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from edtbx_cctbx.model_files.cif_columns import Columns, is_unknown, number
from edtbx_cctbx.model_files.cif_symmetry import crystal_symmetry
from edtbx_cctbx.structure.atom_names import listed, unique_labels

_INDICES = ("11", "22", "33", "12", "13", "23")
FARTHEST = 1000.0
"""A fraction of the cell that no site has; integers of cctbx end at some multiple of it."""

Tensor = tuple[float, ...]


@dataclass(slots=True)
class _Rows:
    """What the rows of the loop of atoms say, and what of it is mended."""

    labels: list[str]
    types: list[str | None]
    sites: list[tuple[float | None, ...]]
    u_iso: list[float | None]
    u_cif: list[Tensor | None]
    occupancies: list[float | None]
    kept: list[int]
    notes: list[str] = field(default_factory=list)


def structure_of_block(
    block: Any, name: str, path: str | Path, log: TextIO, tolerance: float
) -> tuple[xray.structure, list[int]]:
    """The structure in a block with a loop of atoms, and the places of those whose displacement is unknown.

    Atoms without coordinates, and dummies by their calc_flag, are left out. An unknown occupancy is 1. An atom with an
    anisotropic row that is not complete is isotropic.

    Raises
    ------
    Sorry
        A value is no number, an atom has no element, or the symmetry is none.
    """
    symmetry = crystal_symmetry(block, name, path, log, tolerance)
    rows = _read(block, path)
    if not rows.kept:
        raise Sorry(f"{path} has no atoms with coordinates in the data block {name}: add them")
    for note in rows.notes:
        print(f"{path}: {note}", file=log)
    cell = symmetry.unit_cell()
    scatterers, sites, unknown = flex.xray_scatterer(), flex.vec3_double(), []
    for n in rows.kept:
        values: dict[str, Any] = {"label": rows.labels[n]}
        if rows.types[n] is not None:
            values["scattering_type"] = rows.types[n]
        u_cif, u_iso = rows.u_cif[n], rows.u_iso[n]
        if u_cif is not None:
            values["u"] = adptbx.u_cif_as_u_star(cell, u_cif)
        elif u_iso is not None:
            values["u"] = u_iso
        else:
            unknown.append(scatterers.size())
        occupancy = rows.occupancies[n]
        values["occupancy"] = 1.0 if occupancy is None else occupancy
        try:
            scatterers.append(xray.scatterer(**values))
        except ValueError as error:
            raise Sorry(
                f"{path}: atom {rows.labels[n]} has no element that its label tells: give its _atom_site_type_symbol"
            ) from error
        sites.append(rows.sites[n])
    scatterers.set_sites(sites)
    structure = xray.structure(crystal_symmetry=symmetry, scatterers=scatterers, wavelength=_wavelength(block))
    return structure, unknown


def _read(block: Any, path: str | Path) -> _Rows:
    columns = Columns(block, "_atom_site_fract_x", path)
    given = columns.words("_atom_site_label") or ["?"] * columns.size
    types = _types(columns)
    labels = [f"{types[n] or 'X'}{n + 1}" if is_unknown(label) else label.strip() for n, label in enumerate(given)]
    columns.names = labels
    notes: list[str] = []
    sites = list(zip(*(columns.numbers(f"_atom_site_fract_{axis}") for axis in "xyz"), strict=True))
    calculated = columns.words("_atom_site_calc_flag") or [""] * columns.size
    kept = []
    left_out: dict[str, list[str]] = {"without coordinates": [], "dummy": []}
    for n, site in enumerate(sites):
        if calculated[n].strip().lower() == "dum":
            left_out["dummy"].append(labels[n])
        elif None in site:
            left_out["without coordinates"].append(labels[n])
        else:
            kept.append(n)
        for axis, x in zip("xyz", site, strict=True):
            if x is not None and abs(x) > FARTHEST:
                raise Sorry(
                    f"{path}: atom {labels[n]}: _atom_site_fract_{axis} {x:g} is no fraction of the cell: correct it"
                )
    notes += [f"atoms left out, {why}: {listed(names)}" for why, names in left_out.items() if names]
    _note(notes, "without label, named", [labels[n] for n in kept if is_unknown(given[n])])
    untold = [labels[n] for n in kept if types[n] is None and columns.words("_atom_site_type_symbol") is not None]
    _note(notes, "of unknown element, taken from the label", untold)
    occupancies = columns.numbers("_atom_site_occupancy")
    if columns.words("_atom_site_occupancy") is not None:
        unknown = [labels[n] for n in kept if occupancies[n] is None]
        _note(notes, "of unknown occupancy, 1 taken", unknown)
    u_cif = _anisotropic(block, columns, labels, kept, notes, path)
    unique = unique_labels([labels[n] for n in kept])
    renamed = [new for n, new in zip(kept, unique, strict=True) if new != labels[n]]
    if renamed:
        notes.append(f"labels that are given twice: the later atoms are called {listed(renamed)}")
    for n, new in zip(kept, unique, strict=True):
        labels[n] = new
    return _Rows(labels, types, sites, _isotropic(columns), u_cif, occupancies, kept, notes)


def _note(notes: list[str], what: str, labels: Sequence[str]) -> None:
    if labels:
        notes.append(f"{'atoms' if len(labels) > 1 else 'atom'} {what}: {listed(labels)}")


def _types(columns: Columns) -> list[str | None]:
    words = columns.words("_atom_site_type_symbol") or ["?"] * columns.size
    # a charge of zero is none
    return [None if is_unknown(word) else word.strip().replace("0+", "").replace("0-", "") for word in words]


def _isotropic(columns: Columns) -> list[float | None]:
    u = columns.numbers("_atom_site_U_iso_or_equiv", "_atom_site_U_equiv_geom_mean")
    b = columns.numbers("_atom_site_B_iso_or_equiv", "_atom_site_B_equiv_geom_mean")
    return [adptbx.b_as_u(b[n]) if u[n] is None and b[n] is not None else u[n] for n in range(columns.size)]


def _anisotropic(
    block: Any, columns: Columns, labels: list[str], kept: list[int], notes: list[str], path: str | Path
) -> list[Tensor | None]:
    """U_cif of every atom that has a complete row of its own; the n-th row of a label is the n-th atom's."""
    chosen: list[Tensor | None] = [None] * columns.size
    adp_types = [word.strip().lower() for word in columns.words("_atom_site_adp_type") or [""] * columns.size]
    rows = _tensors(block, path)
    atoms = defaultdict(list)
    for n, label in enumerate(labels):
        atoms[label].append(n)
    missing, incomplete = set(), set()
    for label, places in atoms.items():
        own = rows.pop(label, None)
        if own is None:
            missing |= {n for n in places if adp_types[n] in ("uani", "bani")}
            continue
        if len(own) != len(places):
            if len(set(own)) > 1:
                raise Sorry(f"{path}: atom {label} has {len(own)} anisotropic rows that differ: leave one of them")
            own = own[:1] * len(places)
        for n, (tensor, is_empty) in zip(places, own, strict=True):
            chosen[n] = tensor
            if tensor is None and not (is_empty and adp_types[n] in ("uiso", "biso")):
                incomplete.add(n)
    for what, which in (("missing", missing), ("incomplete", incomplete)):
        if names := [labels[n] for n in kept if n in which]:
            notes.append(f"anisotropic displacements {what}, isotropic ones taken: {listed(names)}")
    if rows:
        notes.append(f"anisotropic displacements of no atom in the list: {listed(rows)}")
    return chosen


def _tensors(block: Any, path: str | Path) -> dict[str, list[tuple[Tensor | None, bool]]]:
    """By label, U_cif of every anisotropic row (None for an incomplete one), and whether it is empty."""
    columns = Columns(block, "_atom_site_aniso_label", path)
    columns.names = [label.strip() for label in columns.words("_atom_site_aniso_label") or []]
    by_kind = [
        list(zip(*(columns.numbers(f"_atom_site_aniso_{kind}_{ij}") for ij in _INDICES), strict=True)) for kind in "UB"
    ]
    rows: dict[str, list[tuple[Tensor | None, bool]]] = defaultdict(list)
    for n, label in enumerate(columns.names):
        u, b = by_kind[0][n], by_kind[1][n]
        tensor = None
        if None not in u:
            tensor = tuple(u)
        elif None not in b:
            tensor = tuple(adptbx.b_as_u(b))
        rows[label].append((tensor, set(u) | set(b) == {None}))
    return rows


def _wavelength(block: Any) -> float | None:
    value = block.get("_diffrn_radiation_wavelength")
    if value is not None and not isinstance(value, str):
        value = value[0]
    try:
        return None if value is None else number(value)
    except ValueError:
        return None
