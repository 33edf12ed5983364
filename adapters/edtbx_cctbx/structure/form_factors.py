"""Electron form factors in Å (rest mass) for the atoms of an xray.structure."""

from __future__ import annotations

import re
from typing import Any, TextIO

from cctbx import xray
from cctbx.eltbx import e_scattering, xray_scattering
from libtbx.utils import Sorry, null_out

from edtbx_cctbx.boundary import expect_any_structure


def set_electron_form_factors(xray_structure: xray.structure, log: TextIO | None = None) -> None:
    """Give every scatterer its electron form factor in Å (rest mass), in place; scattering types stay as they are.

    The table is that of neutral atoms (five Gaussians, s = sin θ/λ up to 2 Å⁻¹). Deuterium takes that of hydrogen.
    An ion takes that of its neutral atom, and ``log`` says so: the field of a bare charge diverges as
    1/s², no sum of Gaussians holds it, and in a crystal the neighbours screen it. It matters below s of about 0.3 Å⁻¹.
    A pickled structure forgets the table: call this again on the copy.

    Raises
    ------
    Sorry
        An element is unknown or not in the table.

    References
    ----------
    International Tables for Crystallography C (2006), table 4.3.2.2, doi:10.1107/97809553602060000593.
    """
    expect_any_structure(xray_structure)
    log = null_out() if log is None else log
    gaussians = {}
    for scattering_type in sorted({scatterer.scattering_type for scatterer in xray_structure.scatterers()}):
        element = _element(scattering_type)
        if element is None:
            labels = [s.label for s in xray_structure.scatterers() if s.scattering_type == scattering_type]
            raise Sorry(
                f"no electron form factor for scattering type {scattering_type!r} of atom {labels[0]}: "
                "give a chemical element from H to Cf"
            )
        gaussians[scattering_type] = e_scattering.ito_vol_c_2011_table_4_3_2_2_entry_as_gaussian(element, exact=True)
        if re.search(r"[1-9]?[+-]$|[+-][1-9]$", scattering_type) and "0" not in scattering_type:
            print(f"{scattering_type}: the electron form factor of the neutral atom {element} stands in", file=log)
    registry = xray_structure.scattering_type_registry(custom_dict=gaussians, table="electron")
    registry.set_last_table("electron")


def ensure_electron_form_factors(structure: xray.structure) -> None:
    """Set electron form factors unless the structure has them; a pickled or deep-copied structure has lost them."""
    registry = getattr(structure, "_scattering_type_registry", None)
    if registry is None or structure._scattering_type_registry_is_out_of_date or registry.last_table() != "electron":
        set_electron_form_factors(structure, log=null_out())


def form_factor(scattering_type: str) -> Any:
    """Electron form factor of an element in Å, as a sum of Gaussians of cctbx.

    Raises
    ------
    Sorry
        The table has no such element.

    References
    ----------
    International Tables for Crystallography C (2006), table 4.3.2.2, doi:10.1107/97809553602060000593.
    """
    if scattering_type not in e_scattering.ito_vol_c_2011_table_4_3_2_2_elements():
        raise Sorry(f"no electron form factor is known for {scattering_type}: name an element, such as H")
    return e_scattering.ito_vol_c_2011_table_4_3_2_2_entry_as_gaussian(scattering_type)


def _element(scattering_type: str) -> str | None:
    """Element symbol in the electron table; None where the table lacks it."""
    element, _ = xray_scattering.get_element_and_charge_symbols(scattering_type, False)
    element = "H" if element == "D" else element
    return element if element in e_scattering.ito_vol_c_2011_table_4_3_2_2_elements() else None
