"""The resulting structure as a CIF for deposition: s.u.s, geometry, refinement, and every reflection used."""

from __future__ import annotations

import io
import math
import re
import textwrap
from typing import Any

import cctbx
import iotbx.cif.model
import numpy as np
import smtbx.utils
from cctbx import adptbx, xray
from cctbx.array_family import flex
from iotbx.cif.geometry import angles_as_cif_loop, distances_as_cif_loop

from edtbx import __version__
from edtbx.arrays import FloatArray
from edtbx.measurement.experiment import ScanGeometry
from edtbx.measurement.statistics import DEFINITION, Statistics
from edtbx_cctbx.refinement.results import Comparison, TheoryFit
from edtbx_cctbx.report.numbers import LAWS, mean_thickness, with_su
from edtbx_cctbx.structure.connectivity import is_hydrogen

_FORM_FACTORS = "International Tables Vol. C, Table 4.3.2.2, electrons"


def structure_cif(comparison: Comparison, name: str) -> str:
    """The structure of the result with its R factors, as a CIF with one data block.

    Items that the core dictionary has had since it took in electron diffraction (3.3) have no name without a dot.

    References
    ----------
    COMCIFS, cif_core.dic, REFINE and REFINE_LS: ``_refine_ls.sample_thickness`` is in nanometres, the shape is the
    cumulative distribution of the reduced thickness.
    """
    fit, experiment = comparison.result, comparison.experiment
    block = structure_block(fit)
    block["_audit_creation_method"] = f"edtbx {__version__} with cctbx {cctbx.__version__}"
    block["_diffrn_radiation_probe"] = "electron"
    block["_diffrn_radiation_wavelength"] = f"{experiment.wavelength:.6f}"
    precession = experiment.geometry is ScanGeometry.PRECESSION
    block["_diffrn_measurement.method_precession"] = "yes" if precession else "no"
    block["_diffrn_measurement.rotation_mode"] = "stepwise" if precession else "rotation"
    block["_refine.diffraction_theory"] = comparison.theory
    block["_refine.diffraction_theory_details"] = _text_field(_theory(comparison))
    block["_refine_ls_structure_factor_coef"] = "Fsqd" if fit.least_squares else "F"
    block["_refine_ls_R_factor_gt"] = _number(fit.statistics.r_obs)
    block["_refine_ls_R_factor_all"] = _number(fit.statistics.r_all)
    block["_refine_ls_wR_factor_gt"] = _number(fit.statistics.wr_obs)
    block["_refine_ls_wR_factor_ref"] = _number(fit.statistics.wr_all)
    block["_refine_ls_number_reflns"] = str(fit.statistics.n_all)
    block["_reflns_number_gt"] = str(fit.statistics.n_obs)
    block["_reflns_threshold_expression"] = r"I>3\s(I)"
    for key, value in (_thickness_items(fit) | _least_squares_items(fit)).items():
        block[key] = value
    block["_refine_special_details"] = _text_field(*_special_details(comparison))
    for loop in (*_geometry(fit), *_reflections(comparison)):
        block.add_loop(loop)
    return _as_text(block, name)


def model_cif(structure: xray.structure, name: str) -> str:
    """A structure alone: cell, symmetry and atoms."""
    return _as_text(_bare_block(structure), name)


def _as_text(block: Any, name: str) -> str:
    cif = iotbx.cif.model.cif()
    cif[re.sub(r"[^A-Za-z0-9.-]+", "_", name)[:70] or "edtbx"] = block
    text = io.StringIO()
    cif.show(out=text)
    return text.getvalue()


def structure_block(fit: TheoryFit) -> Any:
    """Cell, symmetry and atoms, with s.u.s and what rides where least squares was used."""
    structure, least_squares = fit.structure, fit.least_squares
    if least_squares is None:
        return _bare_block(structure)
    block = _bare_block(structure, least_squares.covariance)
    atoms = block.get_loop("_atom_site")
    rides = [place in least_squares.riding for place in range(len(structure.scatterers()))]
    atoms.add_column("_atom_site_calc_flag", ["calc" if each else "d" for each in rides])
    atoms.add_column("_atom_site_refinement_flags_posn", ["R" if each else "." for each in rides])
    return block


def _bare_block(structure: xray.structure, covariance: flex.double | None = None) -> Any:
    """Cell, symmetry and atoms as iotbx writes them, with all digits of the cell and the source of the form factors."""
    block = structure.as_cif_block(covariance_matrix=covariance, format="coreCIF")
    _keep_displacements_positive(block, structure)
    for part, value in structure.crystal_symmetry().as_cif_block(format="coreCIF", numeric_format="%.6f").items():
        if part.startswith("_cell_"):
            block[part] = value
    for key in [key for key in block if key.startswith(("_atom_type_", "_symmetry_"))]:
        del block[key]  # iotbx writes both names of the symmetry, and the dictionary allows one
    elements = sorted({scatterer.scattering_type for scatterer in structure.scatterers()})
    loop = iotbx.cif.model.loop(header=("_atom_type_symbol", "_atom_type_scat_source"))
    for element in elements:
        loop.add_row((element, _FORM_FACTORS))
    block.add_loop(loop)
    return block


def _keep_displacements_positive(block: Any, structure: xray.structure) -> None:
    """Give more digits, in place, to displacement parameters that are positive, and would not be as they are rounded."""
    cell = structure.unit_cell()
    sites = block.get_loop("_atom_site")
    isotropic = sites["_atom_site_U_iso_or_equiv"]
    tensors = block.get_loop("_atom_site_aniso")
    rows = {} if tensors is None else {label: n for n, label in enumerate(tensors["_atom_site_aniso_label"])}
    for n, scatterer in enumerate(structure.scatterers()):
        u_iso = scatterer.u_iso_or_equiv(cell)
        if _value(isotropic[n]) <= 0.0 < u_iso:
            isotropic[n] = _with_more_digits(isotropic[n], u_iso)
        if scatterer.flags.use_u_aniso() and scatterer.is_positive_definite_u(cell):
            row = rows[scatterer.label]
            columns = [tensors[f"_atom_site_aniso_U_{ij}"] for ij in ("11", "22", "33", "12", "13", "23")]
            rounded = adptbx.u_cif_as_u_star(cell, [_value(column[row]) for column in columns])
            if min(adptbx.eigenvalues(adptbx.u_star_as_u_cart(cell, rounded))) <= 0.0:
                for column, u in zip(columns, adptbx.u_star_as_u_cif(cell, scatterer.u_star), strict=True):
                    column[row] = _with_more_digits(column[row], u)


def _value(text: str) -> float:
    return float(text.partition("(")[0])


def _with_more_digits(text: str, value: float) -> str:
    """A value with four digits more than a text of it has, and the s.u. of that text."""
    number, bracket, su = text.rstrip(")").partition("(")
    digits = len(number.partition(".")[2]) + 4
    return f"{value:.{digits}f}({su}0000)" if bracket else f"{value:.{digits}f}"


def _thickness_items(fit: TheoryFit) -> dict[str, str]:
    """Thickness in nm and its law: the greatest thickness t~m~, or the mean of a free histogram."""
    nuisance = fit.nuisance
    su = 0.0 if fit.least_squares is None else fit.least_squares.nuisance_su.thickness / 10.0
    items = {"_refine_ls.sample_thickness": with_su(nuisance.thickness / 10.0, su, 2)}
    if nuisance.shape in LAWS:
        items["_refine_ls.sample_shape_expression"] = LAWS[nuisance.shape]
        said = f"{nuisance.shape}: cumulative distribution of t/t~m~; the thickness given is t~m~"
    else:
        said = f"{nuisance.shape}: a histogram; the thickness given is its mean"
    said += f", mean {mean_thickness(nuisance) / 10.0:.2f} nm"
    if nuisance.thickness_factors is not None:
        least, most = nuisance.thicknesses.min() / 10.0, nuisance.thicknesses.max() / 10.0
        said += f"; from {least:.2f} to {most:.2f} nm along the scan, the thickness given is in the middle of it"
    items["_refine_ls.sample_shape_details"] = said
    return items


def _least_squares_items(fit: TheoryFit) -> dict[str, str]:
    least_squares = fit.least_squares
    if least_squares is None:
        return {}
    hydrogen = {place for place, atom in enumerate(fit.structure.scatterers()) if is_hydrogen(atom)}
    treatment = (
        "constr" if hydrogen <= least_squares.riding else "mixed" if hydrogen & least_squares.riding else "refall"
    )
    weights = f"w = 1/[s^2^(Io) + ({least_squares.weighting_a:g}P)^2^], P = (max(Io,0) + 2Ic)/3, s the s.u. of Io"
    if least_squares.loss != "squares":
        weights += f"; times the factor of the robust loss {least_squares.loss}"
    return {
        "_refine_ls_matrix_type": "full",
        "_refine_ls_number_parameters": str(least_squares.parameters),
        "_refine_ls_number_restraints": str(least_squares.restraints),
        "_refine_ls_goodness_of_fit_ref": f"{least_squares.goodness_of_fit:.3f}",
        "_refine_ls_restrained_S_all": f"{least_squares.restrained_goodness_of_fit:.3f}",
        "_refine_ls_shift/su_max": f"{least_squares.shift_over_su:.3f}",
        "_refine_ls_weighting_scheme": "calc",
        "_refine_ls_weighting_details": weights,
        "_refine_ls_extinction_method": "none",
        **({"_refine_ls_hydrogen_treatment": treatment} if hydrogen else {}),
    }


def _geometry(fit: TheoryFit) -> list[Any]:
    """Distances and angles of bonded atoms, with s.u.s from the covariance matrix where least squares gave one."""
    structure, least_squares = fit.structure, fit.least_squares
    table = smtbx.utils.connectivity_table(structure).pair_asu_table
    common = {
        "pair_asu_table": table,
        "site_labels": structure.scatterers().extract_labels(),
        "sites_frac": structure.sites_frac(),
        "include_bonds_to_hydrogen": True,
    }
    if least_squares is None:
        return [distances_as_cif_loop(**common).loop, angles_as_cif_loop(**common).loop]
    common |= {
        "covariance_matrix": least_squares.covariance,
        "cell_covariance_matrix": flex.double(21, 0.0),
        "parameter_map": structure.parameter_map(),
    }
    return [
        distances_as_cif_loop(**common, fixed_distances=least_squares.fixed_distances).loop,
        angles_as_cif_loop(**common, fixed_angles=least_squares.fixed_angles).loop,
    ]


def _reflections(comparison: Comparison) -> list[Any]:
    """Frames with their scales, and the used rows of each; intensities are on the scale of the measured ones."""
    fit = comparison.result
    scales = iotbx.cif.model.loop(header=("_reflns_scale_group_code", "_reflns_scale_meas_intensity"))
    for frame_id, scale in zip(fit.observations.frame_ids, fit.nuisance.scales, strict=True):
        scales.add_row((str(frame_id), f"{scale:.6g}"))
    measured = fit.observations.reflections
    columns = {
        **{f"_refln_index_{name}": measured.hkl[:, n].astype(str) for n, name in enumerate("hkl")},
        "_refln_intensity_meas": _numbers(measured.intensity),
        "_refln_intensity_calc": _numbers(fit.i_calc),
        "_refln_intensity_sigma": _numbers(measured.sigma),
        "_refln_scale_group_code": measured.frame_id.astype(str),
        "_refln_include_status": np.where(measured.observed, "o", "<"),
    }
    rows = iotbx.cif.model.loop(data={name: flex.std_string(values.tolist()) for name, values in columns.items()})
    return [scales, rows]


def _numbers(values: FloatArray) -> Any:
    return np.array([f"{value:.6g}" for value in values])


def _theory(comparison: Comparison) -> str:
    fit, nuisance = comparison.result, comparison.result.nuisance
    structure = "refined with" if comparison.refined else "taken as given; only these were fitted:"
    calculation = "Many-beam" if comparison.theory == "dynamical" else "Single-scattering"
    return (
        f"{calculation} calculation, solver {fit.solver}, summed over the scan of each frame, over thickness and over a "
        f"spread of the orientation (standard deviation {np.degrees(nuisance.sigma):.4f} degrees) across the beam and "
        f"the rotation axis. The structure was {structure} one scale and one orientation centre for each of "
        f"{len(fit.observations.frame_ids)} frames, thickness, its law and the spread. "
        "Minimised: sum w(Iobs - k Icalc)^2 on intensities, negative ones included."
    )


def _special_details(comparison: Comparison) -> list[str]:
    left_out = ", ".join(f"{name} {count}" for name, count in comparison.selection.left_out.items() if count)
    return [
        *([] if comparison.interruption is None else [comparison.interruption]),
        *(
            f"{theory.capitalize()} theory, {each.statistics.n_all} rows: {_r_factors(each.statistics)}."
            for theory, each in reversed(comparison.fits.items())
        ),
        *(
            f"On {each.free.of}, {theory} theory: {_r_factors(each.free.statistics)}."
            for theory, each in reversed(comparison.fits.items())
            if each.free
        ),
        f"All R factors are on F: {DEFINITION}.",
        "A reflection counts once for every frame on which it is used.",
        f"Rows left out: {left_out or 'none'}.",
    ]


def _r_factors(r: Statistics) -> str:
    return (
        f"R(obs) {_number(r.r_obs)}, wR(obs) {_number(r.wr_obs)}, R(all) {_number(r.r_all)}, "
        f"wR(all) {_number(r.wr_all)}, MR(obs) {_number(r.mr_obs)}, mean R(obs) of frames {_number(r.r_frames)}"
    )


def _text_field(*paragraphs: str) -> str:
    """Lines of at most 78 letters, none of which can end the field."""
    return "\n".join(line for text in paragraphs for line in textwrap.wrap(text, 78, initial_indent=" ")) + "\n"


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "?"
