"""Output of a comparison: tables on the screen, and files."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import TextIO

import numpy as np
from cctbx import xray

from edtbx.crystal.learning import LearntFrames
from edtbx.crystal.scan_prior import Amplitudes
from edtbx.measurement.experiment import number_ranges
from edtbx.measurement.statistics import DEFINITION
from edtbx_cctbx.io.output_files import ENDINGS, output_base, write_files
from edtbx_cctbx.model_files.displacements import non_positive_displacements
from edtbx_cctbx.refinement.results import Comparison
from edtbx_cctbx.report.cif import structure_block, structure_cif
from edtbx_cctbx.report.csv_json import reflections_csv, summary_json
from edtbx_cctbx.report.numbers import OUTLIER, frame_numbers, mean_thickness, outliers, with_su
from edtbx_cctbx.report.shelx import structure_res
from edtbx_cctbx.structure.atom_names import listed

_R_FACTORS = {
    "R(obs)": "r_obs",
    "wR(obs)": "wr_obs",
    "R(all)": "r_all",
    "wR(all)": "wr_all",
    "MR(obs)": "mr_obs",
    "mean R(obs) of frames": "r_frames",
}
_WIDTH = 100
_MOST_OUTLIERS = 10
_FEWEST_FRAMES = 4  # that tell anything of how frames vary


def show_comparison(comparison: Comparison, out: TextIO) -> None:
    """Print the theories side by side, their frames, the definitions and what was left out."""
    pair = list(comparison.fits.values())
    table: list[tuple[str, list[str]]] = [
        (label, [_fixed(getattr(fit.statistics, name), 4) for fit in pair]) for label, name in _R_FACTORS.items()
    ]
    table += [
        (f"R(free), {label}", [_fixed(getattr(fit.free.statistics, name), 4) if fit.free else "-" for fit in pair])
        for label, name in (("observed", "r_obs"), ("all", "r_all"))
        if comparison.result.free
    ]
    if comparison.result.learnt:
        effective = [_fixed(fit.learnt.effective, 1) if fit.learnt else "-" for fit in pair]
        table.append(("parameters of frames, effective", effective))
    table += [
        ("reflections observed", [str(fit.statistics.n_obs) for fit in pair]),
        ("reflections used", [str(fit.statistics.n_all) for fit in pair]),
        ("thickness law", [fit.nuisance.shape for fit in pair]),
        ("thickness, Å", [f"{fit.nuisance.thickness:.0f}" for fit in pair]),
        ("mean thickness, Å", [f"{mean_thickness(fit.nuisance):.0f}" for fit in pair]),
        ("orientation spread sigma, degrees", [f"{np.degrees(fit.nuisance.sigma):.4f}" for fit in pair]),
        ("solver", [fit.solver for fit in pair]),
        ("orientations a frame", [f"{fit.accuracy.waves:.0f}" for fit in pair]),
        ("beams a frame", [f"{fit.accuracy.beams:.0f}" for fit in pair]),
        ("numerical error, in max(σ, 1 % I)", [_fixed(fit.accuracy.error, 3) for fit in pair]),
        ("misfit there, in the same units", [_fixed(fit.accuracy.misfit, 3) for fit in pair]),
    ]
    if comparison.interruption is not None:
        print(textwrap.fill(comparison.interruption, _WIDTH), file=out)
        table.insert(0, ("complete", ["no" if fit.interrupted else "yes" for fit in pair]))
    head = "interrupted" if comparison.interrupted else ""
    print(f"{head:<34}" + "".join(f"{theory:>14}" for theory in comparison.fits), file=out)
    for label, values in table:
        print(f"{label:<34}" + "".join(f"{value:>14}" for value in values), file=out)
    for fit in pair:
        if not fit.accuracy.kept:
            said = "no level of sampling keeps accuracy.tolerance, and the finest was taken: give a larger tolerance"
            print(textwrap.fill(f"Warning: {fit.solver}: {said}", _WIDTH), file=out)
    widest, given = (comparison.parameters.get(f"spread.{name}") for name in ("sigma_max", "sigma"))
    if widest is not None and given is None and np.degrees(comparison.result.nuisance.sigma) > 0.999 * widest:
        said = f"the orientation spread is at its bound of {widest:g} degrees: try a larger spread.sigma_max"
        print(textwrap.fill(f"Note: {comparison.result.solver}: {said}", _WIDTH), file=out)
    print(file=out)
    _show_frames(comparison, out)
    print(file=out)
    print(textwrap.fill(f"Definitions: {DEFINITION}.", _WIDTH), file=out)
    if comparison.result.free:
        free, of = comparison.result.free.statistics, comparison.result.free.of
        said = f"R(free): of {of}, {free.n_all} reflections, {free.n_obs} observed."
        print(textwrap.fill(said, _WIDTH), file=out)
    if comparison.result.learnt and len(comparison.result.nuisance.scales) > _FEWEST_FRAMES:
        print(textwrap.fill(f"Learnt: {_learnt(comparison.result.learnt)}.", _WIDTH), file=out)
    print(textwrap.fill(_left_out(comparison), _WIDTH), file=out)
    if comparison.selection.poor_frames:
        poor = number_ranges(comparison.selection.poor_frames)
        print(
            textwrap.fill(f"Frames left out, with too few reflections (frames.min_reflections): {poor}.", _WIDTH),
            file=out,
        )
    for warning in comparison.experiment.warnings:
        print(textwrap.fill(f"Warning: {warning}", _WIDTH, break_on_hyphens=False), file=out)


def show_structure(comparison: Comparison, out: TextIO) -> None:
    """Print the structure of the result, with s.u.s and the worst rows where least squares was used."""
    fit = comparison.result
    least_squares = fit.least_squares
    if least_squares is None:
        fit.structure.show_scatterers(f=out)
        _show_non_positive(fit.structure, out)
        return
    print(
        f"Least squares: {least_squares.parameters} parameters, {least_squares.restraints} restraints, goodness of fit "
        f"{least_squares.goodness_of_fit:.3f}, largest shift {least_squares.shift_over_su:.3f} s.u.",
        file=out,
    )
    thickness = with_su(fit.nuisance.thickness, least_squares.nuisance_su.thickness, 0)
    spread = with_su(math.degrees(fit.nuisance.sigma), math.degrees(least_squares.nuisance_su.sigma), 4)
    print(f"Thickness {thickness} Å, spread {spread} degrees", file=out)
    columns = {"label": 6, "fract_x": 14, "fract_y": 14, "fract_z": 14, "U_iso_or_equiv": 16, "occupancy": 12}
    atoms = structure_block(fit).get_loop("_atom_site")
    print("".join(f"{name.replace('fract_', ''):>{width}}" for name, width in columns.items()), file=out)
    for row in zip(*(atoms[f"_atom_site_{name}"] for name in columns), strict=True):
        print("".join(f"{cell:>{width}}" for cell, width in zip(row, columns.values(), strict=True)), file=out)
    _show_non_positive(fit.structure, out)
    worst = outliers(fit)
    if worst:
        print(
            f"Rows with residuals of more than {OUTLIER:g} times the usual one: {len(worst)}"
            f"{'' if least_squares.loss == 'squares' else ', which count for less'}; none is left out"
            f"{f'. The worst {_MOST_OUTLIERS}' if len(worst) > _MOST_OUTLIERS else ''}:",
            file=out,
        )
        print(f"{'frame':>6}{'h':>5}{'k':>5}{'l':>5}{'Iobs':>12}{'sigma':>10}{'Icalc':>12}{'residual':>10}", file=out)
    for outlier in worst[:_MOST_OUTLIERS]:
        indices = "".join(f"{index:>5}" for index in outlier.hkl)
        print(
            f"{outlier.frame:>6}{indices}{outlier.i_obs:>12.5g}{outlier.sigma:>10.3g}{outlier.i_calc:>12.5g}{outlier.residual:>10.1f}",
            file=out,
        )


def _show_non_positive(structure: xray.structure, out: TextIO) -> None:
    """Name the atoms whose displacement parameters are not positive."""
    names = non_positive_displacements(structure).values()
    if names:
        print(
            f"Displacements refined to what no atom has, in Å²: {listed(names)}. To go on from this model, restrain them "
            "(ISOR, SIMU) or keep them isotropic, and give model.mend_displacements=True",
            file=out,
        )


def _picture(comparison: Comparison) -> bytes:
    from edtbx_cctbx.report.figure import comparison_picture  # matplotlib takes half a second, which --help need not

    return comparison_picture(comparison)


def write_outputs(prefix: str | Path, comparison: Comparison) -> list[Path]:
    """Write ``PREFIX.cif``, ``PREFIX.json``, ``PREFIX_reflections.csv`` and ``PREFIX.png``, and ``PREFIX.res`` of a refined
    structure; return their paths.

    Files of these names are replaced, each by a complete one; what cannot be made or written leaves the others alone.

    Raises
    ------
    Sorry
        The prefix names no file, its folder is missing or cannot be written, or not all files could be written.
    """
    base = output_base(prefix)
    makers = {
        ".cif": lambda: structure_cif(comparison, base.name).encode("ascii", "replace"),
        ".res": lambda: _utf_8(structure_res(comparison, base.name)),
        ".json": lambda: _utf_8(summary_json(comparison)),
        "_reflections.csv": lambda: _utf_8(reflections_csv(comparison)),
        ".png": lambda: _picture(comparison),
    }
    endings = ENDINGS["edtbx.refine" if comparison.refined else "edtbx.compare"]
    return write_files(base, {end: makers[end] for end in endings})


def _utf_8(text: str) -> bytes:
    """Names of files may hold what UTF-8 has no bytes for: those become escapes, as JSON has them."""
    return text.encode("utf-8", "backslashreplace")


def _show_frames(comparison: Comparison, out: TextIO) -> None:
    """Rows, R(obs) under each theory, scale and centre of every frame of the result."""
    theories = list(comparison.fits)
    short = comparison.theory[:3]
    heads = [("frame", 6), ("used", 6), ("observed", 10)]
    heads += [(f"R(obs) {theory[:3]}.", 13) for theory in theories]
    heads += [(f"scale {short}.", 13), (f"centre {short}., degrees", 22)]
    print("".join(f"{head:>{width}}" for head, width in heads), file=out)
    numbers = {theory: {n.id: n for n in frame_numbers(fit)} for theory, fit in comparison.fits.items()}
    for frame in numbers[comparison.theory].values():
        r_obs = [numbers[theory][frame.id].r_obs if frame.id in numbers[theory] else math.nan for theory in theories]
        cells = (
            str(frame.id),
            str(frame.n_all),
            str(frame.n_obs),
            *(_fixed(r, 4) for r in r_obs),
            f"{frame.scale:.5g}",
            f"{frame.centre_degrees:+.3f}",
        )
        print("".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, heads, strict=True)), file=out)


def _learnt(found: LearntFrames) -> str:
    """What frames and noise are found to be like."""
    said = f"scales vary along the scan by {_varying(found.scales, 100.0, '%')}"
    if found.centres is not None:
        constant = f"{math.degrees(found.centres.constant):.2g} degrees (all alike)"
        said += f"; centres by {constant}, {_varying(found.centres, math.degrees(1.0), 'degrees')}"
    ends = np.argsort(found.prior.processes[0].angles)[[0, -1]]
    if found.trends.thickness:
        first, last = found.nuisance.thicknesses[ends]
        said += f"; thickness goes from {first:.0f} to {last:.0f} Å along the scan"
    if found.trends.spread:
        first, last = np.degrees(found.nuisance.sigmas[ends])
        said += f"; spread goes from {first:.3f} to {last:.3f} degrees along the scan"
    noise = found.noise
    return (
        f"{said}; residuals are {noise.of_sigma:.2f} σ, {100.0 * noise.of_intensity:.1f} % of I and "
        f"{noise.of_amplitude:.2f} √(I × {noise.typical:.4g}) wide, with the tails of Student's t of {noise.freedom:.1f} "
        f"degrees of freedom"
    )


def _varying(found: Amplitudes, factor: float, unit: str) -> str:
    trend, smooth, jump = (f"{factor * value:.2g} {unit}" for value in (found.trend, found.smooth, found.jump))
    return (
        f"{trend} (trend), {smooth} (smooth over {math.degrees(found.length):.1f} degrees) and {jump} (frame to frame)"
    )


def _left_out(comparison: Comparison) -> str:
    total = len(comparison.experiment.reflections)
    fallen = [f"{name} {count}" for name, count in comparison.selection.left_out.items() if count]
    said = f"{', '.join(fallen)} (each row counts under the first rule that it breaks)" if fallen else "none"
    return f"Rows used: {len(comparison.result.observations)} of {total}. Left out: {said}."


def _fixed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"
