"""The forward model of a whole experiment: structure factors in, intensities of every frame out, and the way back.

One :class:`ForwardModel` holds what does not change while a structure is refined: beams, orientations and observations
of every frame. Its cost is that of the solver times frames × y nodes × tilts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from edtbx.experiment import ComplexArray, Experiment, FloatArray, IntArray
from edtbx.frame_waves import FrameWaves
from edtbx.geometry import frame_vectors, scan_lever
from edtbx.nuisance import FrameCube, Grid, Nuisance, best_scale, intensity_weights
from edtbx.potential import GVectors, u_per_f, wave_number
from edtbx.quadrature import Quadrature, tilts_needed
from edtbx.selection import Selection
from edtbx.solvers.block import Accuracy, DifferentiableSolver, Solver

_Result = TypeVar("_Result")
Progress = Callable[[Iterable[_Result], int], Iterable[_Result]]
"""Wraps an iterable of the given length to show how far it has come."""


def no_progress(items: Iterable[_Result], total: int) -> Iterable[_Result]:
    """Show nothing."""
    return items


def frame_threads(number: int | None = None) -> ThreadPoolExecutor:
    """Threads to work on one frame each; as many as there are cores unless a number is given.

    More than cores would fight for the interpreter's lock and for the cache.
    """
    available = getattr(os, "sched_getaffinity", None)
    return ThreadPoolExecutor(number or (len(available(0)) if available else os.cpu_count()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How finely waves are computed: the numbers that trade time for accuracy.

    Attributes
    ----------
    accuracy : Accuracy
        What the solver may leave out.
    tilts : int or None
        Tilts at each y node; None takes what integrates rocking curves of ``tilt_thickness`` exactly.
    tilt_thickness : float, Å
        Thickness for which the tilts must be enough.
    spread_reach, spread_spacing : float, radians
        The y nodes go from −reach to +reach.
    centre_reach : float, radians
        How far the centre of a frame may be from where its nodes have their zero.
    thickness_max, thickness_step : float, Å
        The grid of thicknesses.
    """

    accuracy: Accuracy = field(default_factory=Accuracy)
    tilts: int | None = None
    tilt_thickness: float = 1500.0
    spread_reach: float = np.radians(0.4)
    spread_spacing: float = np.radians(0.06)
    centre_reach: float = math.inf
    thickness_max: float = 3000.0
    thickness_step: float = 50.0

    @property
    def thickness_grid(self) -> FloatArray:
        """Thicknesses (T,) in Å."""
        return self.thickness_step * np.arange(1, round(self.thickness_max / self.thickness_step) + 1.0)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameData:
    """One frame, ready: its geometry, which rows of the experiment it holds, and what was measured there.

    ``base`` in radians is where its y nodes have their zero.
    """

    frame_id: int
    waves: FrameWaves
    rows: IntArray
    observed: FloatArray
    sigma: FloatArray
    base: float


class ForwardModel:
    """Intensities of the selected rows of an experiment as a function of F(g).

    ``f_000`` in Å sets the mean inner potential once and for all; ``executor`` takes one frame at a time; ``bases`` in
    radians are the zeros of the y nodes, one for each frame with rows (0 by default).
    """

    def __init__(
        self,
        experiment: Experiment,
        selection: Selection,
        vectors: GVectors,
        sampling: Sampling,
        solver: Solver,
        executor: Executor | None = None,
        *,
        f_000: float = 0.0,
        bases: FloatArray | None = None,
    ) -> None:
        self.experiment = experiment
        self.selection = selection
        self.vectors = vectors
        self.sampling = sampling
        self.solver = solver
        self._executor = executor
        self._f_000 = f_000
        self.wavenumber = wave_number(experiment.wavelength, f_000 * u_per_f(experiment.cell, experiment.wavelength))
        reach = Quadrature.spanning(1, sampling.spread_reach, sampling.spread_spacing)
        self.grid = Grid(y=reach.y, thickness=sampling.thickness_grid, centre_reach=sampling.centre_reach)
        occupied = [(place, rows) for place, rows in enumerate(_rows_by_frame(experiment, selection)) if len(rows)]
        bases = np.zeros(len(occupied)) if bases is None else bases
        self.frames = [
            self._prepare(position, rows, float(base)) for (position, rows), base in zip(occupied, bases, strict=True)
        ]
        self._norm = sum(
            float(intensity_weights(frame.observed, frame.sigma) @ frame.observed**2) for frame in self.frames
        )

    def _prepare(self, position: int, rows: IntArray, base: float) -> FrameData:
        experiment, sampling = self.experiment, self.sampling
        frame, reflections = experiment.frames[position], experiment.reflections
        hkl = reflections.hkl[rows]
        lever = float(scan_lever(experiment, frame_vectors(experiment, frame, hkl)).max())
        tilts = sampling.tilts or tilts_needed(sampling.tilt_thickness, frame.semi_angle, lever, experiment.geometry)
        approximate = getattr(self.solver, "approximation", None) is not None
        waves = FrameWaves.prepare(
            experiment,
            frame,
            hkl,
            vectors=self.vectors,
            quadrature=Quadrature(tilts=tilts, y=base + self.grid.y),
            # no beam besides those asked for where the solver has no use for it
            accuracy=replace(sampling.accuracy, s_max=-math.inf) if approximate else sampling.accuracy,
            wavenumber=self.wavenumber,
        )
        return FrameData(
            frame_id=frame.id,
            waves=waves,
            rows=rows,
            observed=reflections.intensity[rows],
            sigma=reflections.sigma[rows],
            base=base,
        )

    def resampled(
        self, sampling: Sampling, places: Sequence[int] | None = None, bases: FloatArray | None = None
    ) -> ForwardModel:
        """The same model at another level of sampling, of all frames or of some, from other zeros of the y nodes."""
        places = range(len(self.frames)) if places is None else places
        bases = np.array([self.frames[place].base for place in places]) if bases is None else bases
        used = np.zeros_like(self.selection.used)
        used[np.concatenate([self.frames[place].rows for place in places])] = True
        return ForwardModel(
            self.experiment,
            replace(self.selection, used=used),
            self.vectors,
            sampling,
            self.solver,
            self._executor,
            f_000=self._f_000,
            bases=bases,
        )

    @property
    def g_max(self) -> float:
        """Largest |g| in Å⁻¹ of a row."""
        return max(float(np.linalg.norm(frame.waves.g[frame.waves.wanted], axis=1).max()) for frame in self.frames)

    @property
    def rows(self) -> IntArray:
        """Rows of the experiment in the order of the frames' intensities."""
        return np.concatenate([frame.rows for frame in self.frames])

    @property
    def waves_per_frame(self) -> float:
        """Mean number of orientations a frame."""
        return float(np.mean([len(frame.waves.orientations.x) for frame in self.frames]))

    @property
    def beams_per_frame(self) -> float:
        """Mean number of beams that come near the Ewald sphere somewhere in a frame."""
        return float(np.mean([len(frame.waves.g) for frame in self.frames]))

    def cubes(self, f: ComplexArray, progress: Progress[FrameCube] = no_progress) -> list[FrameCube]:
        """Intensities of every frame on the grid of y × thickness, for f (G,) in Å."""

        def one(place: int) -> FrameCube:
            frame = self.frames[place]
            cube = frame.waves.cube(self.solver, f, self.grid.thickness)
            return FrameCube(
                frame_id=frame.frame_id,
                intensities=cube,
                observed=frame.observed,
                sigma=frame.sigma,
                base=frame.base,
            )

        return list(progress(self._map(one), len(self.frames)))

    def intensities(self, f: ComplexArray, nuisance: Nuisance) -> list[FloatArray]:
        """Unscaled I_calc (M,) of every frame for a fixed thickness law, spread and centres."""

        def one(place: int) -> FloatArray:
            waves, times, over_t = self._weighted(nuisance, place)
            return np.asarray(waves.cube(self.solver, f, times)[0] @ over_t)

        return list(self._map(one))

    def target(self, f: ComplexArray, nuisance: Nuisance, offsets: Sequence[FloatArray] | None = None) -> float:
        """T = Σ w (I_obs − k I_calc)²/Σ w I_obs² with the best scale of each frame.

        ``offsets``, one (M,) array a frame, are added to the unscaled I_calc: what a finer sampling adds to this one.
        """

        def one(place: int) -> float:
            waves, times, over_t = self._weighted(nuisance, place)
            calc = waves.cube(self.solver, f, times)[0] @ over_t
            return self._residual(place, calc, offsets)[0]

        return sum(self._map(one))

    def target_and_gradient(
        self, f: ComplexArray, nuisance: Nuisance, offsets: Sequence[FloatArray] | None = None
    ) -> tuple[float, ComplexArray]:
        """The target, and ∂T/∂Re F + i ∂T/∂Im F (G,). Costs about three forward passes.

        Raises
        ------
        ValueError
            The solver gives no derivatives.
        """
        solver = self.solver
        if not isinstance(solver, DifferentiableSolver):
            raise ValueError(f"the solver {type(solver).__name__} gives no derivatives: take another one to refine")

        def one(place: int) -> tuple[float, ComplexArray]:
            waves, times, over_t = self._weighted(nuisance, place)
            cube, gradient = waves.pullback(solver, f, times)
            value, by_calc = self._residual(place, cube[0] @ over_t, offsets)
            return value, gradient(by_calc[None, :, None] * over_t)

        total, gradient = 0.0, np.zeros(len(f), dtype=complex)
        for value, part in self._map(one):
            total += value
            gradient += part
        return total, gradient

    def _residual(self, place: int, calc: FloatArray, offsets: Sequence[FloatArray] | None) -> tuple[float, FloatArray]:
        """Share of one frame in the target, and ∂T/∂I_calc (M,). At its best the scale contributes nothing to it."""
        frame = self.frames[place]
        if offsets is not None:
            calc = calc + offsets[place]
        w = intensity_weights(frame.observed, frame.sigma) / self._norm
        scale = best_scale(calc, frame.observed, frame.sigma)
        residual = frame.observed - scale * calc
        return float(w @ residual**2), -2.0 * scale * w * residual

    def _weighted(self, nuisance: Nuisance, place: int) -> tuple[FrameWaves, FloatArray, FloatArray]:
        """A frame's waves with their weights over the spread, the thicknesses that count, and the weights of these."""
        over_y = nuisance.over_spread(self.grid, place, self.frames[place].base)
        over_t = nuisance.over_thickness(self.grid)
        times = np.flatnonzero(over_t)
        waves = self.frames[place].waves.summed(np.where(over_y > 1e-6, over_y, 0.0))
        return waves, self.grid.thickness[times], over_t[times]

    def _map(self, function: Callable[[int], _Result]) -> Iterator[_Result]:
        """The function at every place among the frames, in order, through the executor if there is one."""
        places = range(len(self.frames))
        with threadpool_limits(1, user_api="blas"):
            yield from map(function, places) if self._executor is None else self._executor.map(function, places)


def _rows_by_frame(experiment: Experiment, selection: Selection) -> list[IntArray]:
    used = selection.used
    return [np.flatnonzero(used & (experiment.reflections.frame_id == frame.id)) for frame in experiment.frames]
