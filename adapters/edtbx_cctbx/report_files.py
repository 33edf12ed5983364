"""The contents of the files of a comparison: reflections as CSV, numbers as JSON, the structure as CIF."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
import re
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from typing import Any

import cctbx
import iotbx.cif.model
import numpy as np
import scipy
from cctbx import xray

from edtbx import __version__
from edtbx.experiment import ScanGeometry
from edtbx.nuisance import Nuisance
from edtbx.statistics import DEFINITION, Statistics
from edtbx_cctbx.report_numbers import LAWS, frame_numbers, mean_thickness
from edtbx_cctbx.results import Comparison

CSV_HEADER = ("frame", "h", "k", "l", "i_obs", "sigma", "i_calc", "i_kin", "s_g", "rsg", "used")
_FORM_FACTORS = "International Tables Vol. C, Table 4.3.2.2, electrons"


def reflections_csv(comparison: Comparison) -> str:
    """All rows of the experiment, in its order; S_g in Å⁻¹. Calculated intensities only where a row is used."""
    rows, selection = comparison.experiment.reflections, comparison.selection
    place = np.full(len(rows), -1)
    place[comparison.rows] = np.arange(len(comparison.rows))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(CSV_HEADER)
    for n, at in enumerate(place):
        used = at >= 0
        calculated = [f"{fit.i_calc[at]:.7g}" if used else "" for fit in (comparison.dynamical, comparison.kinematical)]
        measured = [f"{rows.intensity[n]:.9g}", f"{rows.sigma[n]:.9g}"]
        geometry = [f"{selection.s_g[n]:.7g}", f"{selection.rsg[n]:.7g}"]
        table.writerow([rows.frame_id[n], *rows.hkl[n], *measured, *calculated, *geometry, int(used)])
    return text.getvalue()


def summary_json(comparison: Comparison) -> str:
    """Everything that was found, in JSON; what has no value (an R of no reflections) is null."""
    fit, nuisance = comparison.dynamical, comparison.dynamical.nuisance
    frames = [
        {
            "id": frame.id,
            "scale": frame.scale,
            "r_obs": frame.r_obs,
            "n_obs": frame.n_obs,
            "orientation_centre_degrees": frame.centre_degrees,
        }
        for frame in frame_numbers(comparison, fit)
    ]
    forward = fit.forward_seconds + comparison.kinematical.forward_seconds
    summary = {
        "solver": fit.solver,
        "kinematical": asdict(comparison.kinematical.statistics),
        "dynamical": asdict(fit.statistics),
        "refined": comparison.refined,
        "thickness": {"value": nuisance.thickness, "shape": nuisance.shape, "mean": mean_thickness(nuisance)},
        "spread": {"sigma_degrees": np.degrees(nuisance.sigma)},
        "accuracy": {**asdict(fit.accuracy), "limits": asdict(fit.accuracy.limits)},
        "frames": frames,
        "seconds": {"total": comparison.total_seconds, "forward": forward},
        "versions": versions(),
        "parameters": comparison.parameters,
        "geometry": comparison.experiment.geometry.value,
        "left_out": comparison.selection.left_out,
        "frames_left_out": comparison.selection.poor_frames,
        "definition": DEFINITION,
    }
    return json.dumps(_plain(summary), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def versions() -> dict[str, str]:
    """What computed the numbers."""
    return {
        "edtbx": __version__,
        "cctbx": str(cctbx.__version__),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }


def structure_cif(comparison: Comparison, name: str) -> str:
    """The structure of the dynamical theory with its R factors, as a CIF with one data block.

    Items that the core dictionary has had since it took in electron diffraction (3.3) have no name without a dot.

    References
    ----------
    COMCIFS, cif_core.dic, REFINE and REFINE_LS: ``_refine_ls.sample_thickness`` is in nanometres, the shape is the
    cumulative distribution of the reduced thickness.
    """
    fit, experiment = comparison.dynamical, comparison.experiment
    block = _structure_block(fit.structure)
    block["_audit_creation_method"] = f"edtbx {__version__} with cctbx {cctbx.__version__}"
    block["_diffrn_radiation_probe"] = "electron"
    block["_diffrn_radiation_wavelength"] = f"{experiment.wavelength:.6f}"
    precession = experiment.geometry is ScanGeometry.PRECESSION
    block["_diffrn_measurement.method_precession"] = "yes" if precession else "no"
    block["_diffrn_measurement.rotation_mode"] = "stepwise" if precession else "rotation"
    block["_refine.diffraction_theory"] = "dynamical"
    block["_refine.diffraction_theory_details"] = _text_field(_theory(comparison))
    block["_refine_ls_structure_factor_coef"] = "F"
    block["_refine_ls_R_factor_gt"] = _number(fit.statistics.r_obs)
    block["_refine_ls_R_factor_all"] = _number(fit.statistics.r_all)
    block["_refine_ls_wR_factor_gt"] = _number(fit.statistics.wr_obs)
    block["_refine_ls_wR_factor_ref"] = _number(fit.statistics.wr_all)
    block["_refine_ls_number_reflns"] = str(fit.statistics.n_all)
    block["_reflns_number_gt"] = str(fit.statistics.n_obs)
    block["_reflns_threshold_expression"] = r"I>3\s(I)"
    for key, value in _thickness_items(fit.nuisance).items():
        block[key] = value
    block["_refine_special_details"] = _text_field(*_special_details(comparison))
    cif = iotbx.cif.model.cif()
    cif[re.sub(r"[^A-Za-z0-9.-]+", "_", name)[:70] or "edtbx"] = block
    text = io.StringIO()
    cif.show(out=text)
    return text.getvalue()


def _structure_block(structure: xray.structure) -> Any:
    """Cell, symmetry and atoms as iotbx writes them, with all digits of the cell and the source of the form factors."""
    block = structure.as_cif_block(format="coreCIF")
    for part, value in structure.crystal_symmetry().as_cif_block(format="coreCIF", numeric_format="%.6f").items():
        if part.startswith("_cell_"):
            block[part] = value
    for key in [key for key in block if key.startswith("_atom_type_")]:
        del block[key]
    elements = sorted({scatterer.scattering_type for scatterer in structure.scatterers()})
    loop = iotbx.cif.model.loop(header=("_atom_type_symbol", "_atom_type_scat_source"))
    for element in elements:
        loop.add_row((element, _FORM_FACTORS))
    block.add_loop(loop)
    return block


def _thickness_items(nuisance: Nuisance) -> dict[str, str]:
    """Thickness in nm and its law: the greatest thickness t~m~, or the mean of a free histogram."""
    items = {"_refine_ls.sample_thickness": f"{nuisance.thickness / 10.0:.2f}"}
    if nuisance.shape in LAWS:
        items["_refine_ls.sample_shape_expression"] = LAWS[nuisance.shape]
        said = f"{nuisance.shape}: cumulative distribution of t/t~m~; the thickness given is t~m~"
    else:
        said = f"{nuisance.shape}: a histogram; the thickness given is its mean"
    items["_refine_ls.sample_shape_details"] = f"{said}, mean {mean_thickness(nuisance) / 10.0:.2f} nm"
    return items


def _theory(comparison: Comparison) -> str:
    fit, nuisance = comparison.dynamical, comparison.dynamical.nuisance
    structure = "refined with" if comparison.refined else "taken as given; only these were fitted:"
    return (
        f"Many-beam calculation, solver {fit.solver}, summed over the scan of each frame, over thickness and over a "
        f"spread of the orientation (standard deviation {np.degrees(nuisance.sigma):.4f} degrees) across the beam and "
        f"the rotation axis. The structure was {structure} one scale and one orientation centre for each of "
        f"{len(fit.frame_ids)} frames, thickness, its law and the spread. "
        "Minimised: sum w(Iobs - k Icalc)^2 on intensities, negative ones included."
    )


def _special_details(comparison: Comparison) -> list[str]:
    left_out = ", ".join(f"{name} {count}" for name, count in comparison.selection.left_out.items() if count)
    return [
        f"Dynamical theory: {_r_factors(comparison.dynamical.statistics)}.",
        f"Kinematical theory on the same rows: {_r_factors(comparison.kinematical.statistics)}.",
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


def _plain(value: Any) -> Any:
    """The same in what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
