"""Output of maps: a table on the screen, coefficients, a map, peaks and a picture."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import iotbx.mtz

from edtbx.constants import VOLTS_PER_E_PER_A
from edtbx_cctbx.indexing.model_cell import cell_report
from edtbx_cctbx.io.output_files import ENDINGS, output_base, write_files
from edtbx_cctbx.maps.coefficients import KINDS
from edtbx_cctbx.maps.make_maps import FOUND, MapQuality, Maps
from edtbx_cctbx.maps.peaks import Peak
from edtbx_cctbx.report.cif import model_cif
from edtbx_cctbx.report.csv_json import plain, versions

_MOST_PEAKS = 12

LABELS = {
    "newton": "NEWTON",
    "gradient": "GRADIENT",
    "fo_fc_dynamical": "FOFC_BIASED",
    "two_fo_fc": "FWT",
    "fo_fc_kinematical": "FOFCKIN_BIASED",
}
"""Columns of amplitudes in the reflection file; those of phases are called PH and the same, but PHWT. Coefficients with the
phases of the model are biased towards it, and say so; FWT, which programs look for by that name, is one of them."""

DIFFERENCE = "DELFWT"
"""The column of the kind whose peaks count."""


def show_maps(maps: Maps, out: TextIO) -> None:
    """Print the kinds side by side, the peaks of the one that counts, and what was found of atoms left out."""
    nuisance, shown = maps.calculator.reweighted.nuisance, maps.quality
    print(
        f"R(obs) {maps.statistics.r_obs:.4f} of {maps.structure.scatterers().size()} atoms, {nuisance.describe()}",
        file=out,
    )
    print(file=out)
    heads = ["map", "rms, V", "max", "min", "highest off atoms, V (e/Å)", "deepest off atoms, V (e/Å)"]
    widths = [18, 9, 9, 9, 28, 28]
    omitted = len(shown.recovered)
    if omitted:
        heads += ["found", "above false", "lowest/false"]
        widths += [8, 13, 14]
    print("".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)), file=out)
    for kind, quality in maps.qualities.items():
        if kind == "two_fo_fc":
            continue
        cells = [
            kind,
            f"{quality.rms:.2f}",
            f"{quality.maximum:.2f}",
            f"{quality.minimum:.2f}",
            *(f"{value:.2f} ({value / VOLTS_PER_E_PER_A:+.3f})" for value in (quality.highest, quality.deepest)),
        ]
        if omitted:
            contrast = f"{quality.contrast:.2f}" if math.isfinite(quality.contrast) else "-"
            cells += [f"{quality.number_found}/{omitted}", f"{quality.above_false}/{omitted}", contrast]
        print("".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)), file=out)
    label, far = maps.farthest_to_follow
    if far > 0.0:
        print(f"Atoms follow in newton by up to {far:.3f} Å ({label})", file=out)
    print(file=out)
    print(f"Peaks of the {maps.kind} map off the atoms:", file=out)
    print(
        f"{'x':>9}{'y':>9}{'z':>9}{'volts':>9}{'s.u.':>7}{'sigma':>8}   nearest   distance, Å   angle, degrees",
        file=out,
    )
    for peak in shown.off_atoms[:_MOST_PEAKS]:
        error = f"{peak.height_su:.2f}" if math.isfinite(peak.height_su) else "-"
        numbers = "".join(f"{x:>9.4f}" for x in peak.site)
        numbers += f"{peak.height_volts:>9.2f}{error:>7}{peak.height_sigma:>8.2f}"
        angle = f"{peak.angle:.0f}" if math.isfinite(peak.angle) else "-"
        print(f"{numbers}   {peak.nearest_atom:<7}{peak.distance:>14.2f}{angle:>17}", file=out)
    for atom in shown.recovered:
        said = f"no peak within {FOUND} Å"
        if atom.peak is not None:
            said = f"{_height(atom.peak)}, {atom.away:.3f} Å from its site"
        print(f"Left out: {atom.label:<6} {said}", file=out)
    if maps.with_hydrogen is not None:
        advice = "" if maps.proposals else "; refine the structure without hydrogen first (edtbx.refine, or map.omit)"
        print(f"Hydrogen: {len(maps.proposals)} peaks that stand out where it can be{advice}", file=out)
    for proposal in maps.proposals:
        peak = proposal.peak
        print(
            f"  {proposal.label:<6} on {proposal.parent:<6} {_height(peak)}, {peak.distance:.2f} Å, "
            f"{peak.angle:.0f} degrees",
            file=out,
        )


def _height(peak: Peak) -> str:
    error = f" ± {peak.height_su:.2f}" if math.isfinite(peak.height_su) else ""
    return f"{peak.height_volts:.2f}{error} V"


def _picture(maps: Maps) -> bytes:
    from edtbx_cctbx.report.map_figure import map_picture  # matplotlib takes half a second, which --help need not

    return map_picture(maps)


def write_maps(prefix: str | Path, maps: Maps) -> list[Path]:
    """Write ``PREFIX_map.json``, ``PREFIX.mtz``, ``PREFIX.ccp4`` and ``PREFIX_map.png``, and ``PREFIX_hydrogens.cif`` of a
    structure with the hydrogen found; return their paths.

    Raises
    ------
    Sorry
        As :func:`edtbx_cctbx.report.tables.write_outputs`.
    """
    base = output_base(prefix)
    makers: dict[str, Callable[[], bytes]] = {
        "_map.json": lambda: maps_json(maps).encode("utf-8", "backslashreplace"),
        ".mtz": lambda: through_a_file(lambda path: _mtz(maps).write(path)),
        ".ccp4": lambda: through_a_file(
            lambda path: maps.calculator.fft_map(maps.kind).as_ccp4_map(
                file_name=path, labels=[f"edtbx: {maps.kind} difference potential in volts"]
            )
        ),
        "_map.png": lambda: _picture(maps),
    }
    if maps.with_hydrogen is not None:
        makers["_hydrogens.cif"] = lambda: model_cif(maps.with_hydrogen, base.name).encode("ascii", "replace")
    return write_files(base, {end: makers[end] for end in ENDINGS["edtbx.map"] if end in makers})


def maps_json(maps: Maps) -> str:
    """All results in JSON; heights in volts, in e/Å where named so."""
    step, shown = maps.calculator.map_estimate, maps.quality
    atom, far = maps.farthest_to_follow
    summary = {
        "kind": maps.kind,
        "kinds": {kind: _quality(quality) | {"what": KINDS[kind]} for kind, quality in maps.qualities.items()},
        "units": {"map": "V", "coefficients": "V Å^3", "volts_per_e_per_angstrom": VOLTS_PER_E_PER_A},
        "refine_diff": {
            "potential_max": shown.highest / VOLTS_PER_E_PER_A,
            "potential_min": shown.deepest / VOLTS_PER_E_PER_A,
            "potential_rms": shown.rms / VOLTS_PER_E_PER_A,
            "units": "e/Å, extremes more than 0.5 Å away from all atoms",
        },
        "newton": {"variance_ratio": step.ratio, "noise": step.noise, "atom": atom, "follows_by": far},
        "peaks": [_peak(peak) for peak in shown.off_atoms],
        "peaks_on_atoms": [_peak(peak) for peak in shown.peaks if peak.is_on_atom],
        "hydrogens": [
            {"label": proposal.label, "parent": proposal.parent, "peak": _peak(proposal.peak)}
            for proposal in maps.proposals
        ],
        "statistics": {"r_obs": maps.statistics.r_obs, "r_all": maps.statistics.r_all},
        "thickness": {
            "value": maps.calculator.reweighted.nuisance.thickness,
            "shape": maps.calculator.reweighted.nuisance.shape,
        },
        "cell": cell_report(maps.experiment),
        "warnings": maps.experiment.warnings,
        "seconds": maps.total_seconds,
        "versions": versions(),
        "parameters": maps.parameters,
    }
    return json.dumps(plain(summary), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _quality(quality: MapQuality) -> dict[str, Any]:
    return {
        "rms": quality.rms,
        "max": quality.maximum,
        "min": quality.minimum,
        "highest_off_atoms": quality.highest,
        "deepest_off_atoms": quality.deepest,
        "left_out": [
            {
                "label": atom.label,
                "site_frac": atom.site,
                "peak": None if atom.peak is None else _peak(atom.peak),
                "away": atom.away,
            }
            for atom in quality.recovered
        ],
        "lowest_true_over_highest_false": quality.contrast,
    }


def _peak(peak: Peak) -> dict[str, Any]:
    return {
        "site_frac": peak.site,
        "height_sigma": peak.height_sigma,
        "height_volts": peak.height_volts,
        "height_su": peak.height_su,
        "nearest_atom": peak.nearest_atom,
        "distance": peak.distance,
        "angle": peak.angle,
    }


def _mtz(maps: Maps) -> Any:
    """All kinds, and the one that counts once more under the name that programs look for."""
    columns = {label: maps.calculator.coefficients(kind) for kind, label in LABELS.items()}
    columns[DIFFERENCE] = maps.calculator.coefficients(maps.kind)
    decorator = iotbx.mtz.label_decorator(phases_prefix="PH")
    first, *rest = columns.items()
    dataset = first[1].as_mtz_dataset(
        column_root_label=first[0], label_decorator=decorator, wavelength=maps.experiment.wavelength
    )
    for label, coefficients in rest:
        dataset.add_miller_array(coefficients, column_root_label=label, label_decorator=decorator)
    mtz = dataset.mtz_object()
    mtz.get_column("PHFWT").set_label("PHWT")  # as programs know it
    return mtz


def through_a_file(write: Any) -> bytes:
    """Bytes that a function writes to the path of a temporary file."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            write(str(Path(folder) / "content"))
            return next(Path(folder).iterdir()).read_bytes()
    except (OSError, RuntimeError) as error:  # of iotbx, on a full disk
        raise RuntimeError(f"the folder for temporary files, {tempfile.gettempdir()}: {error}") from error
