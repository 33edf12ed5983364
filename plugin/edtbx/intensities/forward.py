"""Forward model of an experiment: intensities of all frames from structure factors, and derivatives by these.

One :class:`ForwardModel` holds what does not change while a structure is refined: beams, orientations and observations
of every frame. Its cost is that of the solver times frames × y nodes × tilts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from edtbx.arrays import ComplexArray, FloatArray, IntArray
from edtbx.execution.executors import portable, results
from edtbx.execution.memory import FrameSize, at_once, bytes_text, expect_room, frames_bytes
from edtbx.execution.progress import Progress, no_progress
from edtbx.experiment import Experiment
from edtbx.geometry import frame_vectors, scan_lever
from edtbx.intensities.frame_task import FrameTask, Measured, Projection
from edtbx.intensities.frame_waves import FrameWaves, Rows, is_real
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance, intensity_weights
from edtbx.intensities.potential import GVectors, u_per_f, wave_number
from edtbx.intensities.quadrature import Quadrature, tilts_needed
from edtbx.intensities.sampling import Sampling
from edtbx.selection import Selection
from edtbx.solvers.block import Solver

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameData:
    """Geometry of one frame, the places of its rows in the experiment, and the intensities measured.

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

    ``f_000`` in Å sets the mean inner potential once and for all; ``executor`` takes one frame at a time and may be that
    of threads, processes or a cluster (:mod:`edtbx.execution.executors`); ``bases`` in radians are the zeros of the y nodes,
    one for each frame with rows (0 by default).

    Raises
    ------
    TooLarge
        The memory does not hold the weights of the orientations.
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
        self.executor = executor
        self._f_000 = f_000
        self.wavenumber = wave_number(experiment.wavelength, f_000 * u_per_f(experiment.cell, experiment.wavelength))
        reach = Quadrature.spanning(1, sampling.spread_reach, sampling.spread_spacing)
        self.grid = Grid(y=reach.y, thickness=sampling.thickness_grid, centre_reach=sampling.centre_reach)
        occupied = [(place, rows) for place, rows in enumerate(_rows_by_frame(experiment, selection)) if len(rows)]
        bases = np.zeros(len(occupied)) if bases is None else bases
        tilts = [self._tilts(position, rows) for position, rows in occupied]
        expect_room(
            16.0 * len(self.grid.y) ** 2 * sum(tilts),
            f"{len(self.grid.y)} nodes of the spread with up to {max(tilts, default=0)} tilts each",
            "take a smaller thickness or spread, or a coarser sampling",
        )
        self.frames = [
            self._prepare(position, rows, number, float(base))
            for (position, rows), number, base in zip(occupied, tilts, bases, strict=True)
        ]
        self._has_room: set[tuple[bool, bool]] = set()
        self._norm = sum(
            float(intensity_weights(frame.observed, frame.sigma) @ frame.observed**2) for frame in self.frames
        )

    def __getstate__(self) -> dict[str, Any]:
        """State for copies and pickles, with threads in place of an executor that belongs to somebody else."""
        return {**self.__dict__, "executor": portable(self.executor)}

    def _tilts(self, position: int, rows: IntArray) -> int:
        experiment, sampling = self.experiment, self.sampling
        frame, hkl = experiment.frames[position], experiment.reflections.hkl[rows]
        lever = float(scan_lever(experiment, frame_vectors(experiment, frame, hkl)).max())
        return sampling.tilts or tilts_needed(sampling.tilt_thickness, frame.semi_angle, lever, experiment.geometry)

    def _prepare(self, position: int, rows: IntArray, tilts: int, base: float) -> FrameData:
        experiment, sampling = self.experiment, self.sampling
        frame, reflections = experiment.frames[position], experiment.reflections
        hkl = reflections.hkl[rows]
        approximate = self.solver.approximation is not None
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
        """The model at another sampling, of all frames or those at ``places``, with other zeros ``bases`` (radians) of y."""
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
            self.executor,
            f_000=self._f_000,
            bases=bases,
        )

    @property
    def g_max(self) -> float:
        """Largest |g| of a row in Å⁻¹."""
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

    def expect_room(self, f: ComplexArray, derivatives: bool = False) -> None:
        """Check once that the memory holds what intensities for f (G,), or their derivatives, take.

        Raises
        ------
        TooLarge
            By the estimate it does not.
        """
        real = is_real(f)
        if (real, derivatives) in self._has_room:
            return
        sizes = [self._size(frame, summed=derivatives) for frame in self.frames]
        workers, accuracy = min(at_once(self.executor), len(sizes)), self.sampling.accuracy
        folds = self.solver.folds and accuracy.s_strong < accuracy.s_max
        taken = partial(frames_bytes, sizes, coupling_bytes=8.0 if real else 16.0, folds=folds, derivatives=derivatives)
        needed, alone = taken(workers), taken(min(workers, 1))
        expect_room(
            needed,
            f"frames of up to {max(size.beams for size in sizes)} beams and {max(size.orientations for size in sizes)} "
            f"orientations, {workers} of them at a time,",
            f"lower g_max ({self.vectors.g_max:g} 1/Å) or s_max ({self.sampling.accuracy.s_max:g} 1/Å)"
            + (f", or take fewer threads (nproc=1 takes {bytes_text(alone)})" if alone < 0.9 * needed else ""),
        )
        self._has_room.add((real, derivatives))

    def _size(self, frame: FrameData, summed: bool) -> FrameSize:
        return FrameSize(
            beams=len(frame.waves.g),
            orientations=len(frame.waves.orientations.x),
            nodes=1 if summed else len(self.grid.y),
            rows=len(frame.rows),
            thicknesses=len(self.grid.thickness),
        )

    def cubes(self, f: ComplexArray, progress: Progress[FrameCube] = no_progress) -> list[FrameCube]:
        """Cubes of intensities of every frame on the grid of y × thickness, for f (G,) in Å.

        Raises
        ------
        TooLarge
            The memory does not hold them.
        """
        self.expect_room(f)
        tasks = [
            FrameTask(waves=frame.waves, solver=self.solver, f=f, thickness=self.grid.thickness)
            for frame in self.frames
        ]
        computed = zip(self.frames, results(self.executor, FrameTask.cube, tasks), strict=True)
        cubes = (
            FrameCube(
                frame_id=frame.frame_id,
                intensities=cube,
                observed=frame.observed,
                weights=intensity_weights(frame.observed, frame.sigma),
                base=frame.base,
            )
            for frame, cube in computed
        )
        return list(progress(cubes, len(self.frames)))

    def intensities(
        self, f: ComplexArray, nuisance: Nuisance, progress: Progress[FloatArray] = no_progress
    ) -> list[FloatArray]:
        """Unscaled I_calc (M,) of every frame for a fixed thickness law, spread and centres."""
        return list(progress(self._each(FrameTask.intensities, f, nuisance), len(self.frames)))

    def target(self, f: ComplexArray, nuisance: Nuisance, offsets: Sequence[FloatArray] | None = None) -> float:
        """Target T = Σ w (I_obs − k I_calc)²/Σ w I_obs² with the best scale of each frame.

        ``offsets``, one (M,) array a frame, are added to the unscaled I_calc: what a finer sampling adds to this one.
        """
        return sum(self._each(FrameTask.misfit, f, nuisance, offsets))

    def target_and_gradient(
        self, f: ComplexArray, nuisance: Nuisance, offsets: Sequence[FloatArray] | None = None
    ) -> tuple[float, ComplexArray]:
        """Target T and its gradient ∂T/∂Re F + i ∂T/∂Im F (G,). Costs about three forward passes.

        Raises
        ------
        ValueError
            The solver gives no derivatives.
        """
        self.expect_room(f, derivatives=True)
        total, gradient = 0.0, np.zeros(len(f), dtype=complex)
        for value, part in self._each(FrameTask.misfit_and_gradient, f, nuisance, offsets):
            total += value
            gradient += part
        return total, gradient

    def gradient(
        self,
        f: ComplexArray,
        nuisance: Nuisance,
        seeds: Sequence[FloatArray],
        progress: Progress[ComplexArray] = no_progress,
    ) -> ComplexArray:
        """Gradient ∂/∂Re F + i ∂/∂Im F (G,) of Σ seed · I_calc, for unscaled I_calc and a seed (M,) for each frame.

        Raises
        ------
        ValueError
            The solver gives no derivatives.
        """
        self.expect_room(f, derivatives=True)
        tasks = self._tasks(f, self._over_spread(nuisance), nuisance.over_thickness(self.grid))
        seeded = [replace(task, seed=seed) for task, seed in zip(tasks, seeds, strict=True)]
        total = np.zeros(len(f), dtype=complex)
        for part in progress(results(self.executor, FrameTask.gradient, seeded), len(seeded)):
            total += part
        return total

    def jacobian(
        self, f: ComplexArray, nuisance: Nuisance, project: Projection, rows: Rows = Rows.EXACT
    ) -> Iterator[FloatArray]:
        """Derivatives ∂I_calc/∂p (M, P), unscaled, frame by frame, by the parameters that ``project`` leads to."""
        return self._each(partial(FrameTask.jacobian, rows=rows, project=project), f, nuisance)

    def _each(
        self,
        function: Callable[[FrameTask], _Result],
        f: ComplexArray,
        nuisance: Nuisance,
        offsets: Sequence[FloatArray] | None = None,
    ) -> Iterator[_Result]:
        """Results of a function of the tasks of all frames, at a fixed thickness law, spread and centres."""
        self.expect_room(f)
        tasks = self._tasks(f, self._over_spread(nuisance), nuisance.over_thickness(self.grid), offsets)
        return results(self.executor, function, tasks)

    def _over_spread(self, nuisance: Nuisance) -> list[FloatArray]:
        """Weights (J,) on the y nodes of every frame."""
        if len(nuisance.centres) != len(self.frames):
            raise ValueError(
                f"nuisance parameters of {len(nuisance.centres)} frames given for a model of {len(self.frames)} (frames "
                "without reflections have none): fit them to it, or pick them with nuisance.at(places)"
            )
        return [nuisance.over_spread(self.grid, n, frame.base) for n, frame in enumerate(self.frames)]

    def _tasks(
        self,
        f: ComplexArray,
        over_y: Sequence[FloatArray],
        over_t: FloatArray,
        offsets: Sequence[FloatArray] | None = None,
    ) -> list[FrameTask]:
        """Task of every frame, with the y nodes and thicknesses of non-zero weight (J,) and (T,)."""
        times = np.flatnonzero(over_t)
        return [
            FrameTask(
                waves=frame.waves.summed(np.where(weights > 1e-6, weights, 0.0)[None]),
                solver=self.solver,
                f=f,
                thickness=self.grid.thickness[times],
                over_thickness=over_t[times],
                measured=Measured(
                    observed=frame.observed,
                    sigma=frame.sigma,
                    norm=self._norm,
                    offset=0.0 if offsets is None else offsets[place],
                ),
            )
            for place, (frame, weights) in enumerate(zip(self.frames, over_y, strict=True))
        ]


def _rows_by_frame(experiment: Experiment, selection: Selection) -> list[IntArray]:
    used = selection.used
    return [np.flatnonzero(used & (experiment.reflections.frame_id == frame.id)) for frame in experiment.frames]
