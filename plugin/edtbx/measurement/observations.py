"""Observations: the measured reflections that are used, in the order of the frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import numpy as np

from edtbx.arrays import BoolArray, FloatArray, IntArray
from edtbx.measurement.experiment import Experiment, Reflections

_Array = TypeVar("_Array", FloatArray, IntArray, BoolArray)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Observations:
    """The M reflections used, those of one frame after those of another, on the F frames that have any.

    Attributes
    ----------
    reflections : Reflections
        The reflections (M,).
    rows : (M,) int
        Their places among the reflections of the experiment.
    unique : (M,) int
        A number shared by symmetry equivalents.
    frame_ids : tuple of int
        The frames (F,), in the order of the experiment.
    edges : (F + 1,) int
        Frame n has the reflections ``edges[n]`` to ``edges[n + 1] − 1``.
    """

    reflections: Reflections
    rows: IntArray
    unique: IntArray
    frame_ids: tuple[int, ...]
    edges: IntArray

    @classmethod
    def of(cls, experiment: Experiment, used: BoolArray, unique: IntArray | None = None) -> Observations:
        """Observations of the rows of a mask (M,).

        Parameters
        ----------
        unique : (M,) int, optional
            Numbers of all rows of the experiment that symmetry equivalents share; by default only equal indices do.
        """
        reflections = experiment.reflections
        if unique is None:
            unique = np.unique(reflections.hkl, axis=0, return_inverse=True)[1].ravel()
        by_frame = {frame.id: np.flatnonzero(used & (reflections.frame_id == frame.id)) for frame in experiment.frames}
        by_frame = {frame_id: rows for frame_id, rows in by_frame.items() if len(rows)}
        rows = np.concatenate([np.zeros(0, dtype=np.int64), *by_frame.values()])
        return cls(
            reflections=reflections.select(rows),
            rows=rows,
            unique=unique[rows],
            frame_ids=tuple(by_frame),
            edges=np.cumsum([0, *map(len, by_frame.values())]),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<Observations: {len(self)} reflections on {len(self.frame_ids)} frames>"

    def at(self, places: Sequence[int]) -> Observations:
        """The observations of the frames at the given places."""
        chosen = np.concatenate([np.arange(*self.edges[[place, place + 1]]) for place in places])
        return Observations(
            reflections=self.reflections.select(chosen),
            rows=self.rows[chosen],
            unique=self.unique[chosen],
            frame_ids=tuple(self.frame_ids[place] for place in places),
            edges=np.cumsum([0, *np.diff(self.edges)[list(places)]]),
        )

    def evenly(self, number: float, fewest: int) -> list[int]:
        """Places of frames, evenly over the scan: ``fewest``, or more for ``number`` reflections at the mean of a frame."""
        frames = len(self.frame_ids)
        chosen = min(max(math.ceil(number * frames / len(self)), fewest), frames)
        return [int(place) for place in (np.arange(chosen) + 0.5) * frames / chosen]

    def split(self, values: _Array) -> list[_Array]:
        """Values (M, …) in the order of the reflections, by frame."""
        return [values[first:end] for first, end in pairwise(self.edges)]

    @property
    def numbers(self) -> list[IntArray]:
        """Numbers (M,) of each frame that symmetry equivalents share."""
        return self.split(self.unique)

    @cached_property
    def multiplicity(self) -> FloatArray:
        """How often each measurement is among the observations, (M,): overlapping frames list it several times."""
        number = measurements(self.reflections)
        return np.bincount(number)[number].astype(float)


def measurements(reflections: Reflections) -> IntArray:
    """Numbers (M,) of the measurements: rows of the same measurement share one.

    They are told by their equal intensities and s.u.s; those of two measurements agree to the last digit by accident only.
    """
    rows = np.column_stack([reflections.hkl, reflections.intensity, reflections.sigma])
    return np.asarray(np.unique(rows, axis=0, return_inverse=True)[1]).ravel()
