"""Displacement parameters that a file does not give, or gives without a meaning: starts for them, or a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TextIO, TypeAlias

import numpy as np
from cctbx import adptbx, xray
from libtbx.utils import Sorry

from edtbx.arrays import FloatArray
from edtbx_cctbx.arrays import rotation_matrix, to_numpy, translation_vector
from edtbx_cctbx.structure.atom_names import listed

NonPositive: TypeAlias = Literal["refuse", "mend"]
"""What becomes of displacement parameters that are not positive."""

START_U = 0.03
"""U_iso in Å² of atoms in a file without any."""

SMALLEST_U = 0.001
"""Principal mean-square displacement in Å² that takes the place of one that is not positive."""

_RIDING = 1.2
_LONGEST_BOND = 1.4
_LARGEST_U = 100.0


def start_unknown(structure: xray.structure, unknown: Sequence[int]) -> FloatArray:
    """U_iso (N,) in Å² for the atoms at these places, set in the structure.

    Of hydrogen 1.2 U_eq of the atom that it is bonded to, of others the mean of their element, of all atoms where there is
    none, or 0.03 Å².
    """
    scatterers, cell = structure.scatterers(), structure.unit_cell()
    elements = [scatterer.element_symbol() for scatterer in scatterers]
    u_eq = {n: scatterer.u_iso_or_equiv(cell) for n, scatterer in enumerate(scatterers) if n not in set(unknown)}
    known = {n: u for n, u in u_eq.items() if u > 0.0}

    def mean(element: str) -> float:
        same = [u for n, u in known.items() if elements[n] == element] or list(known.values())
        return float(np.mean(same)) if same else START_U

    means = {element: mean(element) for element in {elements[n] for n in unknown}}
    chosen = {n: means[elements[n]] for n in unknown}
    parent = _parents(structure, [n for n in unknown if elements[n] in ("H", "D")])
    for n, bonded in parent.items():
        chosen[n] = _RIDING * known.get(bonded, chosen.get(bonded, means[elements[n]]))
    for n, u in chosen.items():
        scatterers[n].set_use_u_iso_only()
        scatterers[n].u_iso = u
    return np.array([chosen[n] for n in unknown])


def tell_starts(structure: xray.structure, unknown: Sequence[int], path: str | Path, log: TextIO) -> None:
    """Give the atoms at these places a start, and say so in one line."""
    if not unknown:
        return
    u = start_unknown(structure, unknown)
    span = f"{u.min():.4f}" if u.max() - u.min() < 5e-5 else f"{u.min():.4f} to {u.max():.4f}"
    names = listed(structure.scatterers()[n].label.strip() for n in unknown)
    print(
        f"{path}: U_iso of {names} unknown: {span} A^2 taken (hydrogen: 1.2 times its parent's, others: the mean of their "
        f"element, of all atoms, or {START_U})",
        file=log,
    )


def check_displacements(structure: xray.structure, path: str | Path, log: TextIO, non_positive: NonPositive) -> None:
    """Refuse displacement parameters that are not positive, or mend them.

    Mended, an isotropic one becomes the start of an unknown one, and principal values of an anisotropic one are at least
    0.001 Å².

    Raises
    ------
    Sorry
        Some are not positive and ``non_positive`` is "refuse", or one is larger than 100 Å².
    """
    cell, scatterers = structure.unit_cell(), structure.scatterers()
    for scatterer, values in zip(scatterers, _principal(structure), strict=True):
        if values[-1] > _LARGEST_U:
            raise Sorry(f"{path}: atom {scatterer.label}: U of {values[-1]:g} A^2 is impossible: correct it")
    not_positive = non_positive_displacements(structure)
    if not not_positive:
        return
    bad, names = list(not_positive), listed(not_positive.values())
    if non_positive == "refuse":
        raise Sorry(
            f"{path}: displacement parameters that are not positive, in A^2: {names}: correct them, or let them be made "
            "positive (model.mend_displacements=True, or read_model(..., non_positive='mend'))"
        )
    start_unknown(structure, [n for n in bad if scatterers[n].flags.use_u_iso()])
    for n in bad:
        if scatterers[n].flags.use_u_aniso():
            scatterers[n].u_star = _raised(scatterers[n].u_star, cell)
    print(f"{path}: displacement parameters made positive, in A^2: {names}", file=log)


def non_positive_displacements(structure: xray.structure) -> dict[int, str]:
    """Atoms whose displacement parameters are not positive, by place: the label, and the smallest of these in Å²."""
    return {
        n: f"{atom.label.strip()} ({'smallest principal U' if atom.flags.use_u_aniso() else 'U_iso'} {values[0]:.4g})"
        for n, (atom, values) in enumerate(zip(structure.scatterers(), _principal(structure), strict=True))
        if not values[0] > 0.0
    }


def _principal(structure: xray.structure) -> list[FloatArray]:
    """Principal mean-square displacements (3,) of every atom in Å², rising; (1,) of an isotropic one."""
    return [
        np.asarray(np.linalg.eigvalsh(_matrix(adptbx.u_star_as_u_cart(structure.unit_cell(), scatterer.u_star))))
        if scatterer.flags.use_u_aniso()
        else np.array([scatterer.u_iso])
        for scatterer in structure.scatterers()
    ]


def _raised(u_star: Sequence[float], cell: Any) -> tuple[float, ...]:
    values, axes = np.linalg.eigh(_matrix(adptbx.u_star_as_u_cart(cell, u_star)))
    raised = (axes * np.maximum(values, SMALLEST_U)) @ axes.T
    u_cart = tuple(float(raised[i, j]) for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)))
    return tuple(adptbx.u_cart_as_u_star(cell, u_cart))


def _matrix(u: Sequence[float]) -> FloatArray:
    return np.array([[u[0], u[3], u[4]], [u[3], u[1], u[5]], [u[4], u[5], u[2]]])


def _parents(structure: xray.structure, hydrogen: Sequence[int]) -> dict[int, int]:
    """For hydrogen at these places, the atom that it is bonded to, where there is one."""
    scatterers = structure.scatterers()
    heavy = [n for n, scatterer in enumerate(scatterers) if scatterer.element_symbol() not in ("H", "D")]
    if not heavy or not hydrogen:
        return {}
    orthogonal = np.array(structure.unit_cell().orthogonalization_matrix()).reshape(3, 3)
    sites = to_numpy(structure.sites_frac())
    images = [
        sites[heavy] @ rotation_matrix(operation).T + translation_vector(operation)
        for operation in structure.space_group().all_ops()
    ]
    chosen = {}
    for n in hydrogen:
        apart = np.array(images) - sites[n]
        apart -= np.round(apart)
        lengths = np.linalg.norm(apart @ orthogonal.T, axis=2).min(axis=0)
        if lengths.min() < _LONGEST_BOND:
            chosen[n] = heavy[int(np.argmin(lengths))]
    return chosen
