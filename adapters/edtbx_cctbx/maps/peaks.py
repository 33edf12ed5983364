"""Peaks of a map: sites, heights in volts, and the nearest atoms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cctbx import maptbx, xray

from edtbx.arrays import FloatArray, IntArray
from edtbx_cctbx.arrays import rotation_matrix, to_numpy, translation_vector
from edtbx_cctbx.structure.connectivity import angle_between, bonded, bonds

ON_ATOM = 0.5
"""Distance in Å below which a peak is attributed to an atom rather than to a missing one."""

APART = 0.5
"""Least distance between two peaks in Å."""

_SHIFTS = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3)
_CELLS = np.stack(np.meshgrid(*[[-2, -1, 0, 1, 2]] * 3), axis=-1).reshape(-1, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """A maximum of a map in volts.

    ``site`` (3,) is fractional, and that of the equivalent next to the nearest atom, which has the place ``nearest`` in the
    structure; ``distance`` in Å; ``angle`` in degrees is the smallest there between the peak and an atom bonded to it, NaN
    where there is none; ``height_sigma`` is in standard deviations of the map, ``height_su`` in volts, NaN where it is not
    known.
    """

    site: tuple[float, float, float]
    height_volts: float
    height_sigma: float
    nearest: int
    nearest_atom: str
    distance: float
    angle: float
    height_su: float = math.nan

    @property
    def is_on_atom(self) -> bool:
        """Whether it is on an atom (nearer than :data:`ON_ATOM`)."""
        return self.distance < ON_ATOM


def find_peaks(fft_map: Any, structure: xray.structure, most: int = 60) -> list[Peak]:
    """The highest peaks of a map of cctbx in volts, symmetry-unique, in falling order."""
    return _described(*_search(fft_map, most), float(fft_map.statistics().sigma()), structure)


def find_holes(fft_map: Any, structure: xray.structure, most: int = 60) -> list[Peak]:
    """The deepest minima of a map, as peaks of the negated map."""
    real = fft_map.real_map()
    real *= -1.0  # in place: the map is given by reference
    try:
        return find_peaks(fft_map, structure, most)
    finally:
        real *= -1.0


def _search(fft_map: Any, most: int) -> tuple[FloatArray, FloatArray]:
    parameters = maptbx.peak_search_parameters(
        peak_search_level=3, max_peaks=4 * most, interpolate=True, min_distance_sym_equiv=APART
    )
    clusters = fft_map.peak_search(parameters=parameters, verify_symmetry=False).all(max_clusters=most)
    heights = np.array(list(clusters.heights()))
    order = np.argsort(-heights, kind="stable")
    return np.array(list(clusters.sites())).reshape(-1, 3)[order], heights[order]


def _described(sites: FloatArray, heights: FloatArray, sigma: float, structure: xray.structure) -> list[Peak]:
    scatterers = structure.scatterers()
    around = Surroundings.of(structure)
    table = bonds(structure)
    neighbours = [bonded(structure, table, place) for place in range(len(scatterers))]
    peaks = []
    for site, height in zip(sites, heights, strict=True):
        place, image, away = around.nearest(site)
        distance = float(np.linalg.norm(away))
        angles = [angle_between(away, bond) for bond in neighbours[place] if distance > 1e-3]
        peaks.append(
            Peak(
                site=(float(image[0]), float(image[1]), float(image[2])),
                height_volts=float(height),
                height_sigma=float(height) / sigma,
                nearest=place,
                nearest_atom=scatterers[place].label,
                distance=distance,
                angle=min(angles, default=math.nan),
            )
        )
    return peaks


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Surroundings:
    """Atoms of a structure and the symmetry that brings a site next to them, for distances.

    Attributes
    ----------
    atoms : (A, 3), fractional
    turns, shifts : (O, 3, 3), (O, 3)
        Rotations and translations of the space group.
    orthogonal : (3, 3), Å
        Orthogonalisation matrix of the cell.
    """

    atoms: FloatArray
    turns: FloatArray
    shifts: FloatArray
    orthogonal: FloatArray

    @classmethod
    def of(cls, structure: xray.structure) -> Surroundings:
        """Surroundings of the atoms of a structure."""
        operations = list(structure.space_group().all_ops())
        return cls(
            atoms=to_numpy(structure.sites_frac()),
            turns=np.array([rotation_matrix(operation) for operation in operations]),
            shifts=np.array([translation_vector(operation) for operation in operations]),
            orthogonal=np.array(structure.unit_cell().orthogonalization_matrix()).reshape(3, 3),
        )

    def images(self, site: FloatArray) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Equivalents of a site in the cells around the origin: position (3,) in Å and rotation (3, 3)."""
        back = np.linalg.inv(self.orthogonal)
        for turn, shift in zip(self.turns, self.shifts, strict=True):
            turned = self.orthogonal @ turn @ back
            base = np.mod(turn @ site + shift, 1.0)
            for cell in _CELLS:
                yield self.orthogonal @ (base + cell), turned

    def nearest(self, site: FloatArray) -> tuple[int, FloatArray, FloatArray]:
        """Index of the nearest atom, the equivalent (3,) of the site there, and the vector (3,) in Å from atom to site."""
        images = self.turns @ site + self.shifts
        away = images[:, None] - self.atoms[None]
        nearest = np.rint(away)
        candidates = (away - nearest)[:, :, None] + _SHIFTS  # the nearest in fractions need not be it in a skewed cell
        distances = candidates @ self.orthogonal.T
        at = np.unravel_index(int(np.argmin(np.sum(distances**2, axis=-1))), distances.shape[:3])
        place = int(at[1])
        return place, self.atoms[place] + candidates[at], distances[at]


def distances_to(sites: Sequence[Any] | FloatArray, structure: xray.structure) -> tuple[IntArray, FloatArray]:
    """Index of the nearest atom of a structure (K,) and its distance (K,) in Å, for fractional sites (K, 3)."""
    around = Surroundings.of(structure)
    neighbours = [around.nearest(np.asarray(site)) for site in sites]
    return np.array([place for place, _, _ in neighbours], dtype=int), np.array(
        [np.linalg.norm(away) for _, _, away in neighbours]
    )
