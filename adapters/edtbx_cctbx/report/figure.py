"""The picture of a comparison: how well either theory fits, frame by frame, and how sharply the nuisances are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from edtbx.arrays import FloatArray
from edtbx_cctbx.refinement.results import Comparison, TheoryFit
from edtbx_cctbx.report.numbers import amplitudes, frame_numbers, mean_thickness
from edtbx_cctbx.report.png import as_png

# Okabe and Ito: apart for every kind of colour vision, and in grey
KINEMATICAL, DYNAMICAL, WEAK = "#D55E00", "#0072B2", "#B0B0B0"
COLOURS = {"kinematical": KINEMATICAL, "dynamical": DYNAMICAL}
_SCAN = {"scale": "scale", "centre_degrees": "centre / degrees"}
_LEARNT = {"thickness": "greatest thickness / Å", "spread_degrees": "spread σ / degrees"}
_MARKERS = {"kinematical": "s", "dynamical": "o"}


def comparison_picture(comparison: Comparison) -> bytes:
    """A PNG of 1650 × 2000 pixels with six panels, or of 1650 × 2450 with eight.

    √I_obs against √I_calc of every theory fitted, R(obs) of every frame, R(obs) of the result against thickness and spread,
    and its scales and centres along the scan, with bands of two s.u.s where these are known; so thickness and spread, where
    they are learnt from the data.
    """
    columns = _SCAN if comparison.result.learnt is None else {**_SCAN, **_LEARNT}
    rows = len(columns) // 2
    figure = Figure(figsize=(11.0, 10.3 + 3.0 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_title(comparison), fontsize=11, parse_math=False)  # a file may be called $a$
    grid = figure.add_gridspec(2 + rows, 2, height_ratios=(1.0, 0.85, *[0.6] * rows))
    fits = comparison.fits
    scatter = [figure.add_subplot(grid[0, column]) for column in range(len(fits))]
    for axes, (theory, fit) in zip(scatter, fits.items(), strict=True):
        _draw_amplitudes(axes, fit, COLOURS[theory], theory.capitalize())
    limit = 1.04 * max(float(f.max()) for fit in fits.values() for f in amplitudes(fit))
    for axes in scatter:
        axes.plot([0.0, limit], [0.0, limit], color="black", linewidth=0.8, zorder=1)
        axes.set(xlim=(-0.02 * limit, limit), ylim=(-0.02 * limit, limit), aspect="equal")
    _draw_frames(figure.add_subplot(grid[1, 0]), comparison)
    halves = grid[1, 1].subgridspec(1, 2, wspace=0.03)
    left = figure.add_subplot(halves[0])
    _draw_curves(left, figure.add_subplot(halves[1], sharey=left), comparison)
    for place, (name, label) in enumerate(columns.items()):
        _draw_scan(figure.add_subplot(grid[2 + place // 2, place % 2]), comparison, name, label)
    return as_png(figure)


def _title(comparison: Comparison) -> str:
    fit, nuisance = comparison.result, comparison.result.nuisance
    statistics = fit.statistics
    name = Path(comparison.experiment.source).name.encode("utf-8", "replace").decode("utf-8")  # bytes that are no text
    source = f"{name}:  " if name else ""
    return (
        f"{'' if comparison.interrupted is None else 'INTERRUPTED  '}"
        f"{source}{statistics.n_all} reflections ({statistics.n_obs} observed) on {len(fit.observations.frame_ids)} frames\n"
        f"{comparison.theory}: solver {fit.solver}, {nuisance.shape} of {nuisance.thickness:.0f} Å "
        f"(mean {mean_thickness(nuisance):.0f} Å), orientation spread σ = {np.degrees(nuisance.sigma):.3f}°"
    )


def _draw_amplitudes(axes: Axes, fit: TheoryFit, colour: str, name: str) -> None:
    f_obs, f_calc = amplitudes(fit)
    strong = fit.observations.reflections.observed
    size = float(np.clip(9000.0 / max(len(f_obs), 1), 6.0, 18.0))
    for rows, shade, label in ((~strong, WEAK, "weak, I ≤ 3σ(I)"), (strong, colour, "observed, I > 3σ(I)")):
        axes.scatter(f_calc[rows], f_obs[rows], s=size, color=shade, alpha=0.55, linewidths=0.0, label=label, zorder=2)
    r = fit.statistics
    axes.set_title(f"{name}:  R(obs) = {_percent(r.r_obs)},  R(all) = {_percent(r.r_all)}", color=colour, weight="bold")
    axes.set(xlabel="√I calculated, scaled (units of the data)", ylabel="√I measured (units of the data)")
    axes.legend(loc="upper left", frameon=False, markerscale=1.6)


def _draw_frames(axes: Axes, comparison: Comparison) -> None:
    for theory, fit in comparison.fits.items():
        colour, marker = COLOURS[theory], _MARKERS[theory]
        frames = frame_numbers(fit)
        mean = fit.statistics.r_frames
        ids, r = [frame.id for frame in frames], [100.0 * frame.r_obs for frame in frames]
        axes.plot(
            ids, r, marker=marker, markersize=4.5, color=colour, linewidth=0.8, label=f"{theory}, mean {_percent(mean)}"
        )
        axes.axhline(100.0 * mean, color=colour, linewidth=0.8, linestyle=(0, (6, 4)))
    axes.set(title="R(obs) of every frame", xlabel="frame", ylabel="R(obs) / %")
    axes.set_ylim(0.0, axes.get_ylim()[1] * 1.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper right", framealpha=1.0, edgecolor="none", ncols=2)
    axes.grid(axis="y", color="#E0E0E0", linewidth=0.6)


def _draw_curves(left: Axes, right: Axes, comparison: Comparison) -> None:
    """R(obs) against thickness and against spread, side by side with one scale of R."""
    fit, colour = comparison.result, COLOURS[comparison.theory]
    nuisance = fit.nuisance
    of_thickness = f"{'mean' if nuisance.shape == 'free' else 'greatest'} thickness / Å"
    _draw_curve(left, colour, fit.r_of_thickness, nuisance.thickness, of_thickness, f"{nuisance.thickness:.0f} Å")
    sigma = float(np.degrees(nuisance.sigma))
    _draw_curve(right, colour, fit.r_of_spread, sigma, "spread σ / degrees", f"{sigma:.3f}°")
    left.set_ylabel(f"{comparison.theory} R(obs) / %")
    left.set_title("against thickness", color=colour)
    right.set_title("against orientation spread", color=colour)
    right.tick_params(labelleft=False)
    left.margins(y=0.12)


def _draw_curve(axes: Axes, colour: str, curve: FloatArray, chosen: float, label: str, value: str) -> None:
    """One curve (2, n), or a word that there is none; a dashed line at the value in use."""
    axes.set_xlabel(label)
    axes.grid(axis="y", color="#E0E0E0", linewidth=0.6)
    shown = np.isfinite(curve).all(axis=0) if curve.size else np.zeros(0, dtype=bool)
    if not shown.any():
        axes.text(0.5, 0.5, f"not varied\n({value})", ha="center", va="center", transform=axes.transAxes)
        return
    x, r = curve[0][shown], 100.0 * curve[1][shown]
    axes.plot(x, r, color=colour, marker="o", markersize=3.0, linewidth=1.4)
    axes.axvline(chosen, color="black", linewidth=0.9, linestyle=(0, (4, 3)), label=f"used: {value}")
    axes.legend(loc="upper right", framealpha=1.0, edgecolor="none")


def _draw_scan(axes: Axes, comparison: Comparison, name: str, label: str) -> None:
    """A number of every frame of the result against its angle."""
    fit, colour = comparison.result, COLOURS[comparison.theory]
    angles = {frame.id: np.degrees(frame.alpha) for frame in comparison.experiment.frames}
    frames = sorted(frame_numbers(fit), key=lambda frame: angles[frame.id])
    x = np.array([angles[frame.id] for frame in frames])
    values, sus = (np.array([getattr(frame, each) for frame in frames]) for each in (name, f"{name}_su"))
    axes.plot(x, values, color=colour, marker="o", markersize=3.0, linewidth=1.0)
    if np.any(sus > 0.0):
        axes.fill_between(x, values - 2.0 * sus, values + 2.0 * sus, color=colour, alpha=0.2, linewidth=0.0)
    axes.set(xlabel="angle of the frame / degrees", ylabel=label)
    how = "" if fit.learnt is None else ", priors learnt"
    axes.set_title(f"{label.split(' /')[0]} of every frame{how}", color=colour)
    axes.grid(axis="y", color="#E0E0E0", linewidth=0.6)
    if name != "centre_degrees":
        axes.set_ylim(0.0, None)


def _percent(r: float) -> str:
    return f"{100.0 * r:.2f} %" if np.isfinite(r) else "–"
