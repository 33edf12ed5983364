"""Waves of all stretches of a scan, and the way from these to the intensities of frames and back.

Frames that overlap are sums over the stretches that they share (:mod:`edtbx.measurement.stretches`); any other frame is a
stretch of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edtbx.arrays import FloatArray, IntArray
from edtbx.execution.memory import expect_room
from edtbx.intensities.frame_waves import FrameWaves
from edtbx.intensities.potential import GVectors
from edtbx.intensities.quadrature import tilts_needed
from edtbx.intensities.sampling import Sampling
from edtbx.measurement.experiment import Experiment, Frame, ScanGeometry
from edtbx.measurement.geometry import frame_vectors, scan_lever, ub_matrix
from edtbx.measurement.observations import Observations
from edtbx.measurement.stretches import Share, stretches_of_scans, whole_frames

_SAMPLE = 3
"""Stretches that tell of the work of all."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ScanWaves:
    """Waves of all stretches of a scan, and what the frames have of them.

    Attributes
    ----------
    waves : list of FrameWaves
        One for each stretch.
    shares : list of tuples
        For each stretch, each of its frames: the share, and the places (M,) of the frame's reflections among the wanted.
    frames : int
        Number of frames.
    """

    waves: list[FrameWaves]
    shares: list[list[tuple[Share, IntArray]]]
    frames: int

    @classmethod
    def prepare(
        cls,
        experiment: Experiment,
        observations: Observations,
        vectors: GVectors,
        sampling: Sampling,
        *,
        nodes: FloatArray,
        bases: FloatArray,
        wavenumber: float,
    ) -> tuple[ScanWaves, FloatArray]:
        """Waves for observations, with nodes (J,) from the base of every frame on; and the bases (F,) in use, in radians.

        ``wavenumber`` is K in Å⁻¹ inside the crystal.

        Raises
        ------
        TooLarge
            The memory does not hold the weights of the orientations.
        """
        by_id = {frame.id: frame for frame in experiment.frames}
        frames = [by_id[frame_id] for frame_id in observations.frame_ids]
        hkl = observations.split(observations.reflections.hkl)
        tilts = [_tilts(experiment, sampling, frame, own) for frame, own in zip(frames, hkl, strict=True)]
        expect_room(
            16.0 * len(nodes) ** 2 * sum(tilts),
            f"{len(nodes)} nodes of the spread with up to {max(tilts, default=0)} tilts each",
            "take a smaller thickness or spread, or a coarser sampling",
        )
        shared = sampling.shared and experiment.geometry is ScanGeometry.ROTATION
        stretches, bases = (stretches_of_scans if shared else whole_frames)(frames, tilts, nodes, bases)
        candidates = _candidates(experiment, vectors, sampling.accuracy.s_max)
        waves, shares = [], []
        for stretch in stretches:
            found = [vectors.find(hkl[share.frame]) for share in stretch.shares]
            places = found[0] if len(found) == 1 else np.unique(np.concatenate(found))
            wanted = [np.arange(len(places))] if len(found) == 1 else [np.searchsorted(places, own) for own in found]
            shares.append(list(zip(stretch.shares, wanted, strict=True)))
            waves.append(
                FrameWaves.prepare(
                    experiment,
                    stretch,
                    vectors.hkl[places],
                    vectors=vectors,
                    candidates=candidates,
                    accuracy=sampling.accuracy,
                    wavenumber=wavenumber,
                )
            )
        return cls(waves=waves, shares=shares, frames=len(hkl)), bases

    @property
    def are_frames(self) -> bool:
        """Whether every stretch is a frame of its own, in the order of the frames."""
        return all([share.frame for share, _ in shares] == [n] for n, shares in enumerate(self.shares))

    @property
    def orientations(self) -> int:
        """Number of orientations, those that frames share once."""
        return sum(len(waves.orientations.x) for waves in self.waves)

    def work_of_rows(self) -> float:
        """Multiplications of local rows of all frames, up to a factor, from those of some stretches."""
        some = self.waves[:: max(1, len(self.waves) // _SAMPLE)]
        return sum(waves.work_of_rows for waves in some) * len(self.waves) / len(some)

    def summed(self, over_y: Sequence[FloatArray]) -> list[FrameWaves]:
        """Stretches with one sum for each of their frames, of weights (J,) of the nodes of every frame."""
        return [
            waves.summed(np.stack([_placed(waves, share, over_y[share.frame]) for share, _ in shares]))
            for waves, shares in zip(self.waves, self.shares, strict=True)
        ]

    def apart(self, over_y: Sequence[FloatArray]) -> list[FrameWaves]:
        """The same for each frame of each stretch apart, with its own reflections only."""
        return [
            replace(waves.summed(_placed(waves, share, over_y[share.frame])[None]), wanted=waves.wanted[wanted])
            for waves, shares in zip(self.waves, self.shares, strict=True)
            for share, wanted in shares
        ]

    def of_sums(self, values: FloatArray) -> list[FloatArray]:
        """Values (K, ...) of the K sums of every stretch, of those (F, ...) of the frames."""
        return [values[[share.frame for share, _ in shares]] for shares in self.shares]

    def of_each(self, values: FloatArray) -> list[FloatArray]:
        """Values (1, ...) of each frame of each stretch apart, of those (F, ...) of the frames."""
        return [values[[share.frame]] for shares in self.shares for share, _ in shares]

    def seeds(self, seeds: Sequence[FloatArray]) -> list[FloatArray]:
        """Seeds (K, M') of the K sums of every stretch, of those (M,) of every frame."""
        placed = []
        for waves, shares in zip(self.waves, self.shares, strict=True):
            seed = np.zeros((len(shares), len(waves.wanted)))
            for line, (share, wanted) in zip(seed, shares, strict=True):
                line[wanted] = seeds[share.frame]
            placed.append(seed)
        return placed

    def cubes(self, parts: Iterable[FloatArray], nodes: int) -> Iterator[FloatArray]:
        """Cubes (J, M, T) of the frames, from those (J', M', T) of the stretches."""
        return self._frames(
            [share.part * part[share.first : share.first + nodes][:, wanted] for share, wanted in shares]
            for part, shares in zip(parts, self.shares, strict=True)
        )

    def sums(self, parts: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Intensities (M,) of the frames, from the sums (K, M') of the stretches."""
        return self._frames(
            [line[wanted] for line, (_, wanted) in zip(part, shares, strict=True)]
            for part, shares in zip(parts, self.shares, strict=True)
        )

    def rows(self, parts: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Rows (M, P) of the frames, from those of each frame of each stretch (as :meth:`apart` has them)."""
        each = iter(parts)
        return self._frames([next(each) for _ in shares] for shares in self.shares)

    def totals(self, parts: Iterable[Any]) -> Iterator[Any]:
        """Sums over stretches, one whenever a frame is complete: together those of all stretches."""
        left = Counter(share.frame for shares in self.shares for share, _ in shares)
        total: Any = 0.0
        for shares, part in zip(self.shares, parts, strict=True):
            total = total + part
            for share, _ in shares:
                left[share.frame] -= 1
                if not left[share.frame]:
                    yield total
                    total = 0.0

    def _frames(self, parts: Iterable[list[FloatArray]]) -> Iterator[FloatArray]:
        """Sums of the frames, in their order, over what each has in every stretch."""
        left = Counter(share.frame for shares in self.shares for share, _ in shares)
        totals: dict[int, FloatArray] = {}
        following = 0
        for shares, of_frames in zip(self.shares, parts, strict=True):
            for (share, _), part in zip(shares, of_frames, strict=True):
                totals[share.frame] = totals[share.frame] + part if share.frame in totals else part
                left[share.frame] -= 1
            while following < self.frames and not left[following]:
                yield totals.pop(following)
                following += 1


def _candidates(experiment: Experiment, vectors: GVectors, s_max: float) -> IntArray:
    """Indices (C, 3) of the beams that may come within |S_g| ≤ s_max: those of |g| ≤ g_max, none for a negative limit."""
    if s_max < 0.0:
        return vectors.hkl[:0]
    return vectors.hkl[np.linalg.norm(vectors.hkl @ ub_matrix(experiment).T, axis=1) <= vectors.g_max]


def _tilts(experiment: Experiment, sampling: Sampling, frame: Frame, hkl: IntArray) -> int:
    """Tilts that a frame with reflections hkl (M, 3) needs at a node."""
    lever = float(scan_lever(experiment, frame_vectors(experiment, frame, hkl)).max())
    return sampling.tilts or tilts_needed(sampling.tilt_thickness, frame.semi_angle, lever, experiment.geometry)


def _placed(waves: FrameWaves, share: Share, over_y: FloatArray) -> FloatArray:
    """Weights (J',) of the nodes of a stretch for a frame with weights (J,) of its own nodes."""
    weights = np.zeros(len(waves.orientations.weights))
    weights[share.first : share.first + len(over_y)] = share.part * over_y
    return weights
