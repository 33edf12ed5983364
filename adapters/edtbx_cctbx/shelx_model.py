"""Constraints and restraints of a SHELX file, by the reader of iotbx and smtbx."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import iotbx.shelx
from cctbx import xray
from libtbx.utils import Sorry
from smtbx.refinement.constraints import adp
from smtbx.refinement.constraints.geometrical import any as geometrical

from edtbx_cctbx.hydrogens import NUCLEAR
from edtbx_cctbx.model import UNREADABLE, is_shelx, plain_shelx
from edtbx_cctbx.refinement_model import RefinementModel
from edtbx_cctbx.text_file import read_text

_INSTRUCTIONS = ("AFIX", "DFIX", "DANG", "FLAT", "CHIV", "SADI", "SIMU", "DELU", "RIGU", "ISOR", "EADP")


def shelx_model(path: str | Path, structure: xray.structure) -> RefinementModel | None:
    """A structure with what its SHELX file says of it; None for a file of another kind, or one that says nothing.

    AFIX constraints take the distances of nuclei where the file gives none of its own. EADP joins displacements.

    Raises
    ------
    Sorry
        An instruction cannot be read, or names an atom that is not there.
    """
    text = read_text(path, "SHELX .ins or .res file")
    pattern = rf"^({'|'.join(_INSTRUCTIONS)})(_\S+)?\s"
    if not is_shelx(text) or not re.search(pattern, text, flags=re.MULTILINE | re.IGNORECASE):
        return None
    try:
        builder = iotbx.shelx.parse_smtbx_refinement_model(file=io.StringIO(plain_shelx(text)), strictly_shelxl=False)
    except UNREADABLE as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise Sorry(f"{path}: its constraints and restraints cannot be read: {said}: correct or remove them") from error
    scatterers = structure.scatterers()
    for constraint in builder.constraints:
        if isinstance(constraint, geometrical) and not constraint.bond_length:
            constraint.bond_length = NUCLEAR.get(scatterers[constraint.pivot].element_symbol())
    restraints = builder.restraints_manager
    return RefinementModel(
        structure=structure,
        constraints=[*_shared_displacements(text, structure, path), *builder.constraints],
        restraints=restraints() if callable(restraints) else restraints,
    )


def _shared_displacements(text: str, structure: xray.structure, path: str | Path) -> list[Any]:
    places = {scatterer.label.lower(): n for n, scatterer in enumerate(structure.scatterers())}
    found = []
    for match in re.finditer(r"^EADP\s+([^\n!]*)", text, flags=re.MULTILINE | re.IGNORECASE):
        labels = match.group(1).split()
        missing = [label for label in labels if label.lower() not in places]
        if missing or len(labels) < 2:
            raise Sorry(f"{path}: {match.group(0).strip()}: name two atoms of the model or more ({missing or labels})")
        found.append(adp.shared_u(tuple(places[label.lower()] for label in labels)))
    return found
