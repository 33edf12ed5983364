"""The contents of two files of a comparison: reflections as CSV and numbers as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from typing import Any

import cctbx
import numpy as np
import scipy
from smtbx.refinement.least_squares import mainstream_shelx_weighting

from edtbx import __version__
from edtbx.crystal.learning import LearntFrames
from edtbx.measurement.statistics import DEFINITION
from edtbx_cctbx.indexing.model_cell import cell_report
from edtbx_cctbx.refinement.results import Comparison, LeastSquaresFit, LeftOut
from edtbx_cctbx.report.numbers import frame_numbers, mean_thickness, outliers

CSV_HEADER = ("frame", "h", "k", "l", "i_obs", "sigma", "i_calc", "i_kin", "s_g", "rsg", "used")


def reflections_csv(comparison: Comparison) -> str:
    """All rows of the experiment, in its order; S_g in Å⁻¹. Calculated intensities only where a row is used."""
    rows, selection = comparison.experiment.reflections, comparison.selection
    columns = {}
    for theory, fit in comparison.fits.items():
        columns[theory] = np.full(len(rows), "", dtype=object)
        columns[theory][fit.observations.rows] = [f"{value:.7g}" for value in fit.i_calc]
    empty = np.full(len(rows), "", dtype=object)
    dynamical, kinematical = columns.get("dynamical", empty), columns.get("kinematical", empty)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(CSV_HEADER)
    for n in range(len(rows)):
        calculated = [dynamical[n], kinematical[n]]
        measured = [f"{rows.intensity[n]:.9g}", f"{rows.sigma[n]:.9g}"]
        geometry = [f"{selection.s_g[n]:.7g}", f"{selection.rsg[n]:.7g}"]
        table.writerow([rows.frame_id[n], *rows.hkl[n], *measured, *calculated, *geometry, int(calculated != ["", ""])])
    return text.getvalue()


def summary_json(comparison: Comparison) -> str:
    """All results in JSON; undefined values (an R of no reflections) are null."""
    fit, nuisance, theories = comparison.result, comparison.result.nuisance, comparison.fits
    frames = [
        {
            "id": frame.id,
            "scale": frame.scale,
            "r_obs": frame.r_obs,
            "n_obs": frame.n_obs,
            "orientation_centre_degrees": frame.centre_degrees,
            "scale_su": frame.scale_su,
            "orientation_centre_su_degrees": frame.centre_degrees_su,
            "thickness": frame.thickness,
            "thickness_su": frame.thickness_su,
            "spread_degrees": frame.spread_degrees,
            "spread_su_degrees": frame.spread_degrees_su,
        }
        for frame in frame_numbers(fit)
    ]
    forward = sum(each.forward_seconds for each in theories.values())
    summary = {
        "solver": fit.solver,
        "interrupted": comparison.interrupted,
        "theory": comparison.theory,
        **{
            name: asdict(theories[name].statistics) if name in theories else None
            for name in ("kinematical", "dynamical")
        },
        "incomplete": {name: each.interrupted for name, each in theories.items() if each.interrupted},
        "free": {each.solver: _left_out(each.free) for each in theories.values() if each.free},
        "refined": comparison.refined,
        "least_squares": None if fit.least_squares is None else _least_squares(comparison, fit.least_squares),
        "learnt": None if fit.learnt is None else _learnt(fit.learnt),
        "thickness": {"value": nuisance.thickness, "shape": nuisance.shape, "mean": mean_thickness(nuisance)},
        "spread": {"sigma_degrees": np.degrees(nuisance.sigma)},
        "accuracy": {**asdict(fit.accuracy), "limits": asdict(fit.accuracy.limits)},
        "frames": frames,
        "seconds": {"total": comparison.total_seconds, "forward": forward, **comparison.costs.get("seconds", {})},
        "passes": comparison.costs.get("passes", {}),
        "versions": versions(),
        "parameters": comparison.parameters,
        "geometry": comparison.experiment.geometry.value,
        "cell": cell_report(comparison.experiment),
        "warnings": comparison.experiment.warnings,
        "left_out": comparison.selection.left_out,
        "frames_left_out": comparison.selection.poor_frames,
        "definition": DEFINITION,
    }
    return json.dumps(plain(summary), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _left_out(found: LeftOut) -> dict[str, Any]:
    return {**asdict(found.statistics), "of": found.of}


def _learnt(found: LearntFrames) -> dict[str, Any]:
    """Amplitudes of ln scale and of centres in degrees, lengths in degrees, what has a trend, and the noise."""
    scales, centres = asdict(found.scales), None if found.centres is None else asdict(found.centres)
    return {
        "ln_scale": {**scales, "length": np.degrees(scales["length"])},
        "centre_degrees": None if centres is None else {name: np.degrees(value) for name, value in centres.items()},
        "trends": [name for name, trend in found.trends._asdict().items() if trend],
        "noise": asdict(found.noise),
        "effective_parameters": found.effective,
    }


def _least_squares(comparison: Comparison, found: LeastSquaresFit) -> dict[str, Any]:
    return {
        "parameters": found.parameters,
        "restraints": found.restraints,
        "goodness_of_fit": found.goodness_of_fit,
        "wr2": found.wr2,
        "shift_over_su": found.shift_over_su,
        "weighting": str(mainstream_shelx_weighting(a=found.weighting_a, b=0)),
        "loss": found.loss,
        "thickness_su": found.nuisance_su.thickness,
        "spread_su_degrees": np.degrees(found.nuisance_su.sigma),
        "outliers": [asdict(each) for each in outliers(comparison.result)],
    }


def versions() -> dict[str, str]:
    """Versions of the programs that computed the results."""
    return {
        "edtbx": __version__,
        "cctbx": str(cctbx.__version__),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }


def plain(value: Any) -> Any:
    """The value converted to types that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
