"""Data of an experiment: beam, crystal orientation, frames and the reflections on them.

Lengths in Å, reciprocal lengths in Å⁻¹ (no 2π), angles in radians; the cell alone keeps its
crystallographic degrees. See :mod:`edtbx.measurement.geometry` for the frame of reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from edtbx.arrays import BoolArray, FloatArray, IntArray
from edtbx.cell import Cell, metric_matrix
from edtbx.constants import energy_from_wavelength
from edtbx.summary import Summarised


class ScanGeometry(Enum):
    """Path of the beam through the orientations of one frame: rotation about an axis, or precession on a cone."""

    ROTATION = "rotation"
    PRECESSION = "precession"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One (virtual) frame: the goniometer at its centre and the reach of the scan, in radians.

    Attributes
    ----------
    id : int
        Number of the frame, unique in an experiment.
    alpha, beta, omega : float, radians
        Goniometer angles at the centre, and the angle of the image in its plane.
    semi_angle : float, radians
        Half the rotation range, or the semi-angle of the precession cone.
    scale : float
        Scale of the frame in the file.

    Raises
    ------
    ValueError
        A number is not finite, or the semi-angle is not between 0 and 20 degrees.
    """

    id: int
    alpha: float
    beta: float
    semi_angle: float
    omega: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not np.all(np.isfinite([self.alpha, self.beta, self.semi_angle, self.omega, self.scale])):
            raise ValueError(f"frame {self.id}: angles and scale must be finite")
        if not 0.0 < self.semi_angle < 0.35:
            raise ValueError(
                f"frame {self.id}: the semi-angle must lie between 0 and 20 degrees, "
                f"got {np.degrees(self.semi_angle):.3f} degrees"
            )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Reflections:
    """The M measured rows: indices (M, 3), intensity and its s.u. (M,), and the id of their frame (M,).

    Raises
    ------
    TypeError, ValueError
        One of them is no numpy array, has another shape, or is not finite.
    """

    hkl: IntArray
    intensity: FloatArray
    sigma: FloatArray
    frame_id: IntArray

    def __post_init__(self) -> None:
        for name in ("hkl", "intensity", "sigma", "frame_id"):
            if not isinstance(getattr(self, name), np.ndarray):
                raise TypeError(f"{name} must be a numpy array, got {type(getattr(self, name)).__name__}")
        m = len(self.hkl)
        if self.hkl.shape != (m, 3):
            raise ValueError(f"hkl must have shape (M, 3), got {self.hkl.shape}")
        for name in ("intensity", "sigma", "frame_id"):
            if getattr(self, name).shape != (m,):
                raise ValueError(f"{name} must have shape ({m},), got {getattr(self, name).shape}")
        if not (np.all(np.isfinite(self.intensity)) and np.all(np.isfinite(self.sigma))):
            raise ValueError("intensities and sigmas must be finite")

    def __len__(self) -> int:
        return len(self.hkl)

    def __repr__(self) -> str:
        return f"<Reflections: {len(self)} rows on {len(np.unique(self.frame_id))} frames>"

    @property
    def observed(self) -> BoolArray:
        """Which intensities are above 3σ, (M,)."""
        return np.asarray(self.intensity > 3.0 * self.sigma)

    def select(self, rows: BoolArray | IntArray) -> Reflections:
        """The rows chosen by a mask (M,) or by places, as new reflections."""
        return Reflections(
            hkl=self.hkl[rows],
            intensity=self.intensity[rows],
            sigma=self.sigma[rows],
            frame_id=self.frame_id[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Experiment(Summarised):
    """Data of one crystal: wavelength, orientation, frames and reflections.

    Attributes
    ----------
    wavelength : float, Å
        Relativistic wavelength of the electrons.
    cell : tuple of float, Å and degrees
        The cell in use; :func:`edtbx.measurement.geometry.with_cell` replaces it and keeps the one before in
        ``measured_cell``.
    orientation : (3, 3)
        Rotation matrix U of ``g_lab = R(frame) U B(cell) h`` at alpha = beta = 0.
    geometry, header_geometry : ScanGeometry
        The geometry in use, and the one named in the file (None where somebody chose one).
    frames, reflections
        The frames, and the rows measured on them.
    source : str
        File or program that the data are from.
    notes, warnings : tuple of str
        What the reader found, decided and mended; and what makes results doubtful.
    ub : (3, 3) or None, Å⁻¹
        UB as it was measured, strained against the cell by the distortion of the patterns (None with a chosen orientation).

    Raises
    ------
    ValueError
        The wavelength is not that of fast electrons, the orientation is no rotation, ``ub`` is not 3 by 3 and finite, two
        frames share an id, or reflections name a frame that is not there.
    """

    wavelength: float
    cell: Cell
    orientation: FloatArray
    geometry: ScanGeometry
    frames: tuple[Frame, ...]
    reflections: Reflections
    source: str = ""
    notes: tuple[str, ...] = ()
    ub: FloatArray | None = None
    measured_cell: Cell | None = None
    warnings: tuple[str, ...] = ()
    header_geometry: ScanGeometry | None = None

    def __post_init__(self) -> None:
        if not 0.001 < self.wavelength < 0.2:
            raise ValueError(
                f"the wavelength must be that of fast electrons (0.001 to 0.2 Å), got {self.wavelength:g}: correct it"
            )
        u = self.orientation
        if u.shape != (3, 3) or not np.allclose(u @ u.T, np.eye(3), atol=1e-6) or np.linalg.det(u) < 0.0:
            raise ValueError("the orientation must be a rotation matrix")
        if self.ub is not None and (self.ub.shape != (3, 3) or not np.all(np.isfinite(self.ub))):
            raise ValueError(f"ub must hold 3 by 3 finite numbers, got {self.ub.tolist()}")
        ids = [frame.id for frame in self.frames]
        if len(set(ids)) != len(ids):
            raise ValueError("two frames have the same id")
        unknown = np.setdiff1d(self.reflections.frame_id, ids)
        if unknown.size:
            raise ValueError(
                f"reflections name frame {unknown[0]}, which is not among the frames: "
                "add that frame, or take those reflections out"
            )

    def select_frames(self, ids: Iterable[int]) -> Experiment:
        """The same experiment with only the frames of the given ids and their reflections.

        Raises
        ------
        TypeError, ValueError
            ``ids`` is no list of ids, or one of them is not in the experiment.
        """
        if not isinstance(ids, Iterable):
            raise TypeError(f"expected ids of frames, such as [1, 2], got {ids!r}")
        wanted = set(ids)
        missing = wanted - {frame.id for frame in self.frames}
        if missing:
            raise ValueError(f"no frame {min(missing)} in this experiment")
        keep = np.isin(self.reflections.frame_id, sorted(wanted))
        return replace(
            self,
            frames=tuple(frame for frame in self.frames if frame.id in wanted),
            reflections=self.reflections.select(keep),
        )

    def __repr__(self) -> str:
        source = f" of {self.source}" if self.source else ""
        return f"<Experiment{source}: {len(self.frames)} frames, {len(self.reflections)} reflections>"

    def summary_lines(self) -> list[str]:
        """Frames, beam, cell, reflections, notes; angles in degrees, lengths in Å; observed are intensities above 3σ."""
        rows, d = self.reflections, self._spacings()
        alpha, beta, semi = (np.degrees([getattr(frame, name) for frame in self.frames]) for name in _ANGLES)
        listed = np.isin([frame.id for frame in self.frames], rows.frame_id)
        empty = [frame.id for frame, filled in zip(self.frames, listed, strict=True) if not filled]
        observed, negative = (int(np.sum(which)) for which in (rows.observed, rows.intensity < 0.0))
        kilovolts = energy_from_wavelength(self.wavelength) / 1000.0
        of_model = ", that of the model" if self.measured_cell else ""
        lines = [
            f"Frames: {len(self.frames)}, {self.geometry.value}, semi-angle {_interval(np.sort(semi), 3)} degrees",
            f"Alpha: {_interval(np.sort(alpha), 2)} degrees, beta: {_interval(np.sort(beta), 2)} degrees",
            f"Wavelength: {self.wavelength:.6f} Å ({kilovolts:.1f} keV)",
            f"Unit cell: ({', '.join(f'{x:.6g}' for x in self.cell)}){of_model}",
            f"Reflections: {len(rows)}, of them {observed} observed (I > 3 sigma(I)) and {negative} negative",
            f"Resolution: {_interval(d[::-1], 3)} Å",
        ]
        if empty:
            lines.append(f"Frames without reflections: {number_ranges(empty)}")
        lines += [f"Note: {note}" for note in self.notes]
        return [*lines, *(f"Warning: {warning}" for warning in self.warnings)]

    def _spacings(self) -> FloatArray:
        """Lattice spacings d (M,) in Å of the rows, rising."""
        hkl = self.reflections.hkl
        squares = np.einsum("mi,ij,mj->m", hkl, np.linalg.inv(metric_matrix(self.cell)), hkl)
        return np.sort(1.0 / np.sqrt(squares[squares > 0.0]))


_ANGLES = ("alpha", "beta", "semi_angle")


def number_ranges(numbers: Iterable[int]) -> str:
    """Whole numbers as text, rising, with runs joined: ``1-4, 7, 9-10``; ``none`` where there is none."""
    runs: list[tuple[int, int]] = []
    for n in sorted(set(numbers)):
        if runs and n == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], n)
        else:
            runs.append((n, n))
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) or "none"


def _interval(values: FloatArray, digits: int) -> str:
    """First and last of sorted values as text, or the value that all of them round to."""
    if not len(values):
        return "none"
    ends = [f"{value:.{digits}f}" for value in (values[0], values[-1])]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)
