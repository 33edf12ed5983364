"""Picture of a difference map: sections through planes of the molecule, and a histogram of its values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from cctbx import xray
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from edtbx.arrays import FloatArray
from edtbx_cctbx.arrays import to_numpy
from edtbx_cctbx.maps.make_maps import Maps
from edtbx_cctbx.maps.peaks import Peak, Surroundings
from edtbx_cctbx.report.png import as_png
from edtbx_cctbx.structure.connectivity import bonded, bonds, is_hydrogen, joined

_PLANES = 3
"""Most sections."""

_FLAT = 0.35
"""Atoms nearer to a plane than this, in Å, are in it."""

_DEPTH = 0.7
"""Atoms and peaks nearer to a plane than this, in Å, are drawn."""

_MARGIN = 1.8
"""What a section shows around its atoms, in Å."""

_STEP = 0.08
"""Distance of the points of a section, in Å."""

_SHOWN = 2.5
"""Peaks higher than this in standard deviations, off the atoms, are marked."""

_COLOURS = {"H": "#909090", "C": "#404040", "N": "#0072B2", "O": "#D55E00"}
_POSITIVE, _NEGATIVE = "#009E73", "#CC79A7"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Plane:
    """A plane through atoms, Cartesian in Å: a point (3,) of it, axes (2, 3) in it, and the atoms in it by their places."""

    origin: FloatArray
    axes: FloatArray
    atoms: tuple[int, ...]

    def across(self, points: FloatArray) -> FloatArray:
        """Distances (n,) of points (n, 3) from the plane, with their signs."""
        return np.asarray((points - self.origin) @ np.cross(*self.axes))

    def along(self, points: FloatArray) -> FloatArray:
        """Coordinates (n, 2) of points (n, 3) in the plane."""
        return np.asarray((points - self.origin) @ self.axes.T)


def map_picture(maps: Maps) -> bytes:
    """A PNG: sections with atoms, bonds and peaks, and a histogram of the map."""
    structure = joined(maps.structure)
    planes = best_planes(structure)
    figure = Figure(figsize=(5.2 * (len(planes) + 1), 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    fft_map = maps.calculator.fft_map(maps.kind)
    values = to_numpy(fft_map.real_map_unpadded())
    sigma = float(values.std())
    highest = max((peak.height_volts for peak in maps.quality.off_atoms), default=4.0 * sigma)
    step = max(highest / 5.0, 1.5 * sigma)
    figure.suptitle(
        f"{maps.kind} difference potential of {structure.scatterers().size()} atoms, R(obs) {maps.statistics.r_obs:.4f}\n"
        f"contours every {step:.1f} V; green: missing in the model, pink: too much there",
        fontsize=11,
    )
    grid = figure.subplots(1, len(planes) + 1, squeeze=False)[0]
    for axes, plane in zip(grid, planes, strict=False):
        _draw_section(axes, plane, structure, values, step, maps.quality.off_atoms)
    _draw_histogram(grid[-1], values, maps)
    return as_png(figure)


def best_planes(structure: xray.structure) -> list[Plane]:
    """Planes that hold most of the atoms other than hydrogen, each the best of those that the ones before leave out."""
    cart = to_numpy(structure.sites_cart())
    heavy = [place for place, scatterer in enumerate(structure.scatterers()) if not is_hydrogen(scatterer)]
    table = bonds(structure)
    triples = [
        (first, centre, second)
        for centre in heavy
        for first, second in itertools.combinations([j for j in table[centre] if j in heavy and j != centre], 2)
        if abs(np.linalg.norm(np.cross(cart[first] - cart[centre], cart[second] - cart[centre]))) > 0.3
    ]
    triples = triples or list(itertools.combinations(heavy[:6], 3))
    chosen: list[Plane] = []
    left = set(heavy)
    planes = [_fitted(cart, triple, heavy) for triple in triples]
    while planes and len(chosen) < _PLANES:
        best = max(planes, key=lambda plane: len(left.intersection(plane.atoms)))
        if left.isdisjoint(best.atoms):
            break
        chosen.append(best)
        left.difference_update(best.atoms)
    return chosen or [_fitted(cart, tuple(heavy[:3]), heavy)]


def _fitted(cart: FloatArray, seed: Sequence[int], candidates: Sequence[int]) -> Plane:
    """The plane through some atoms, then through all that are near it and near each other."""
    inside = list(seed)
    for _ in range(2):
        plane = _through(cart[inside], inside)
        near = np.abs(plane.across(cart)) < _FLAT
        inside = [place for place in candidates if near[place]]
    return _through(cart[inside], inside)


def _through(points: FloatArray, atoms: Sequence[int]) -> Plane:
    origin = points.mean(axis=0)
    _, _, axes = np.linalg.svd(np.concatenate([points - origin, np.zeros((3, 3))]))
    return Plane(origin=origin, axes=axes[:2], atoms=tuple(atoms))


def section(values: FloatArray, structure: xray.structure, plane: Plane, x: FloatArray, y: FloatArray) -> FloatArray:
    """Values (Y, X) of a map over the whole cell at the points of a plane, by cubic splines."""
    points = plane.origin + x[None, :, None] * plane.axes[0] + y[:, None, None] * plane.axes[1]
    fractional = points @ np.array(structure.unit_cell().fractionalization_matrix()).reshape(3, 3).T
    at = np.moveaxis(fractional, -1, 0) * np.array(values.shape)[:, None, None]
    return np.asarray(scipy.ndimage.map_coordinates(values, at, order=3, mode="grid-wrap"))


def _draw_section(
    axes: Axes,
    plane: Plane,
    structure: xray.structure,
    values: FloatArray,
    step: float,
    peaks: Sequence[Peak],
) -> None:
    around = Surroundings.of(structure)
    inside = plane.along((around.atoms @ around.orthogonal.T)[list(plane.atoms)])
    (left, bottom), (right, top) = inside.min(axis=0) - _MARGIN, inside.max(axis=0) + _MARGIN
    x, y = np.arange(left, right, _STEP), np.arange(bottom, top, _STEP)
    potential = section(values, structure, plane, x, y)
    levels = step * np.arange(1, 1 + max(int(np.abs(potential).max() / step), 1))
    axes.contour(x, y, potential, levels=levels, colors=_POSITIVE, linewidths=0.9)
    axes.contour(x, y, potential, levels=-levels[::-1], colors=_NEGATIVE, linewidths=0.9, linestyles="solid")

    def shown(point: FloatArray) -> tuple[float, float] | None:
        """Coordinates of a point in the section; None outside of it."""
        (u, v), height = plane.along(point[None])[0], plane.across(point[None])[0]
        return (float(u), float(v)) if abs(height) < _DEPTH and left < u < right and bottom < v < top else None

    table = bonds(structure)
    for place, scatterer in enumerate(structure.scatterers()):
        colour = _COLOURS.get(scatterer.element_symbol(), "#E69F00")
        own = bonded(structure, table, place)
        for at, turn in around.images(np.array(scatterer.site)):
            point_in_plane = shown(at)
            if point_in_plane is None:
                continue
            for bond in own:
                if abs(plane.across((at + turn @ bond)[None])[0]) < _DEPTH:
                    middle = plane.along((at + 0.5 * turn @ bond)[None])[0]
                    axes.plot(*np.transpose([point_in_plane, middle]), color="#707070", linewidth=2.0, zorder=3)
            axes.plot(*point_in_plane, "o", color=colour, markersize=7, zorder=4)
            axes.annotate(
                scatterer.label,
                point_in_plane,
                xytext=(-4, -13),
                textcoords="offset points",
                fontsize=8,
                color=colour,
                zorder=6,
                parse_math=False,
            )
    for peak in peaks:
        if peak.height_sigma < _SHOWN:
            continue
        for at, _ in around.images(np.array(peak.site)):
            point_in_plane = shown(at)
            if point_in_plane is not None:
                axes.plot(*point_in_plane, "+", color="black", markersize=9, markeredgewidth=1.4, zorder=5)
                text = f"{peak.height_volts:.1f}"
                axes.annotate(text, point_in_plane, xytext=(5, 5), textcoords="offset points", fontsize=8, zorder=6)
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xlabel="Å", ylabel="Å")
    labels = [structure.scatterers()[place].label for place in plane.atoms]
    axes.set_title(f"plane of {', '.join(labels[:8])}{' …' if len(labels) > 8 else ''}", fontsize=9, parse_math=False)


def _draw_histogram(axes: Axes, values: FloatArray, maps: Maps) -> None:
    """Draw the histogram of map values beside a normal distribution, with the peaks off the atoms."""
    sigma = float(values.std())
    counts, edges, _ = axes.hist(values.ravel(), bins=80, color="#B0B0B0", log=True, label="map")
    middles = 0.5 * (edges[:-1] + edges[1:])
    normal = np.exp(-(middles**2) / (2.0 * sigma**2)) * values.size * np.diff(edges) / (sigma * np.sqrt(2.0 * np.pi))
    axes.plot(middles, normal, color="black", linewidth=1.0, label=f"normal, σ = {sigma:.2f} V")
    heights: dict[str, list[float]] = {"proposed hydrogen": [entry.peak.height_volts for entry in maps.proposals]}
    heights["left out, found"] = [entry.peak.height_volts for entry in maps.quality.recovered if entry.peak is not None]
    for (name, volts), colour, at in zip(heights.items(), (_POSITIVE, "#0072B2"), (3.0, 6.0), strict=True):
        if volts:
            axes.plot(volts, np.full(len(volts), at), "v", color=colour, markersize=8, label=name)
    axes.axvline(maps.quality.highest, color="#D55E00", linestyle=(0, (4, 3)), label="highest elsewhere")
    axes.axvline(maps.quality.deepest, color=_NEGATIVE, linestyle=(0, (4, 3)), label="deepest off atoms")
    axes.set(ylim=(0.5, 2.0 * float(np.max(counts))), xlabel="difference potential / V", ylabel="points of the map")
    axes.legend(loc="upper right", fontsize=8)
