"""Forward model of an experiment: intensities of all frames from structure factors, and derivatives by these.

One :class:`ForwardModel` holds what does not change while a structure is refined: beams, orientations and observations
of every frame. Its cost is that of the solver times frames × y nodes × tilts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from edtbx.arrays import ComplexArray, FloatArray, IntArray
from edtbx.execution.executors import portable, results
from edtbx.execution.memory import FrameSize, at_once, bytes_text, expect_room, frames_bytes
from edtbx.execution.progress import Progress, no_progress
from edtbx.intensities.frame_waves import FrameWaves, Rows, is_real
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance, intensity_weights
from edtbx.intensities.potential import GVectors, u_per_f, wave_number
from edtbx.intensities.propagation import Projection, Propagation
from edtbx.intensities.quadrature import Quadrature, tilts_needed
from edtbx.intensities.sampling import Sampling
from edtbx.measurement.experiment import Experiment, Frame
from edtbx.measurement.geometry import frame_vectors, scan_lever
from edtbx.measurement.observations import Observations
from edtbx.solvers.block import Solver

_Result = TypeVar("_Result")


class ForwardModel:
    """Intensities of the observations of an experiment as a function of F(g).

    ``f_000`` in Å sets the mean inner potential once and for all; ``executor`` takes one frame at a time and may be that
    of threads, processes or a cluster (:mod:`edtbx.execution.executors`).

    Attributes
    ----------
    waves : list of FrameWaves
        Beams and orientations of the frames (F,).
    bases : (F,), radians
        Zeros of the y nodes of the frames (0 by default).
    grid : Grid
        The y nodes and thicknesses of the cubes.
    wavenumber : float, Å⁻¹
        K inside the crystal.

    Raises
    ------
    TooLarge
        The memory does not hold the weights of the orientations.
    """

    def __init__(
        self,
        experiment: Experiment,
        observations: Observations,
        vectors: GVectors,
        sampling: Sampling,
        solver: Solver,
        executor: Executor | None = None,
        *,
        f_000: float = 0.0,
        bases: FloatArray | None = None,
    ) -> None:
        self.experiment = experiment
        self.observations = observations
        self.vectors = vectors
        self.sampling = sampling
        self.solver = solver
        self.executor = executor
        self._f_000 = f_000
        self.wavenumber = wave_number(experiment.wavelength, f_000 * u_per_f(experiment.cell, experiment.wavelength))
        reach = Quadrature.spanning(1, sampling.spread_reach, sampling.spread_spacing)
        self.grid = Grid(y=reach.y, thickness=sampling.thickness_grid, centre_reach=sampling.centre_reach)
        self.bases = np.zeros(len(observations.frame_ids)) if bases is None else bases
        self.waves = self._prepared_waves()
        self._has_room: set[tuple[bool, bool]] = set()
        reflections = observations.reflections
        self._observed = observations.split(reflections.intensity)
        self._weights = observations.split(intensity_weights(reflections.intensity, reflections.sigma))
        self._norm = sum(float(w @ i**2) for w, i in zip(self._weights, self._observed, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        """State for copies and pickles, with threads in place of an executor that belongs to somebody else."""
        return {**self.__dict__, "executor": portable(self.executor)}

    def _prepared_waves(self) -> list[FrameWaves]:
        """Beams and orientations of every frame, unless the memory does not hold the weights of the orientations."""
        by_id = {frame.id: frame for frame in self.experiment.frames}
        frames = [by_id[frame_id] for frame_id in self.observations.frame_ids]
        indices = self.observations.split(self.observations.reflections.hkl)
        tilts = [self._tilts(frame, hkl) for frame, hkl in zip(frames, indices, strict=True)]
        expect_room(
            16.0 * len(self.grid.y) ** 2 * sum(tilts),
            f"{len(self.grid.y)} nodes of the spread with up to {max(tilts, default=0)} tilts each",
            "take a smaller thickness or spread, or a coarser sampling",
        )
        accuracy = self.sampling.accuracy
        if self.solver.approximation is not None:  # it has no use for beams besides those asked for
            accuracy = replace(accuracy, s_max=-math.inf)
        return [
            FrameWaves.prepare(
                self.experiment,
                frame,
                hkl,
                vectors=self.vectors,
                quadrature=Quadrature(tilts=number, y=float(base) + self.grid.y),
                accuracy=accuracy,
                wavenumber=self.wavenumber,
            )
            for frame, hkl, number, base in zip(frames, indices, tilts, self.bases, strict=True)
        ]

    def _tilts(self, frame: Frame, hkl: IntArray) -> int:
        experiment, sampling = self.experiment, self.sampling
        lever = float(scan_lever(experiment, frame_vectors(experiment, frame, hkl)).max())
        return sampling.tilts or tilts_needed(sampling.tilt_thickness, frame.semi_angle, lever, experiment.geometry)

    def resampled(
        self, sampling: Sampling, places: Sequence[int] | None = None, bases: FloatArray | None = None
    ) -> ForwardModel:
        """The model at another sampling, of all frames or those at ``places``, with other zeros ``bases`` (radians) of y."""
        return ForwardModel(
            self.experiment,
            self.observations if places is None else self.observations.at(places),
            self.vectors,
            sampling,
            self.solver,
            self.executor,
            f_000=self._f_000,
            bases=self.bases[slice(None) if places is None else list(places)] if bases is None else bases,
        )

    @property
    def g_max(self) -> float:
        """Largest |g| of a row in Å⁻¹."""
        return max(float(np.linalg.norm(waves.g[waves.wanted], axis=1).max()) for waves in self.waves)

    @property
    def waves_per_frame(self) -> float:
        """Mean number of orientations a frame."""
        return float(np.mean([len(waves.orientations.x) for waves in self.waves]))

    @property
    def beams_per_frame(self) -> float:
        """Mean number of beams that come near the Ewald sphere somewhere in a frame."""
        return float(np.mean([len(waves.g) for waves in self.waves]))

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
        sizes = [self._size(waves, summed=derivatives) for waves in self.waves]
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

    def _size(self, waves: FrameWaves, summed: bool) -> FrameSize:
        return FrameSize(
            beams=len(waves.g),
            orientations=len(waves.orientations.x),
            nodes=1 if summed else len(self.grid.y),
            rows=len(waves.wanted),
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
        cube = partial(FrameWaves.cube, solver=self.solver, f=f, thickness=self.grid.thickness)
        columns = (
            self.observations.frame_ids,
            results(self.executor, cube, self.waves),
            self._observed,
            self._weights,
            self.bases.tolist(),
        )
        cubes = (
            FrameCube(frame_id=frame_id, intensities=intensities, observed=observed, weights=weights, base=base)
            for frame_id, intensities, observed, weights, base in zip(*columns, strict=True)
        )
        return list(progress(cubes, len(self.waves)))

    def intensities(
        self, f: ComplexArray, nuisance: Nuisance, progress: Progress[FloatArray] = no_progress
    ) -> list[FloatArray]:
        """Unscaled I_calc (M,) of every frame for a fixed thickness law, spread and centres."""
        return list(progress(self._each(Propagation.intensities, f, nuisance), len(self.waves)))

    def target(self, f: ComplexArray, nuisance: Nuisance, offsets: Sequence[FloatArray] | None = None) -> float:
        """Target T = Σ w (I_obs − k I_calc)²/Σ w I_obs² with the best scale of each frame.

        ``offsets``, one (M,) array a frame, are added to the unscaled I_calc: what a finer sampling adds to this one.
        """
        return sum(self._each(Propagation.misfit, f, nuisance, *self._measured(offsets)))

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
        for value, part in self._each(Propagation.misfit_and_gradient, f, nuisance, *self._measured(offsets)):
            total += value
            gradient += part
        return total, gradient

    def _measured(self, offsets: Sequence[FloatArray] | None) -> tuple[Sequence[Any], ...]:
        """Intensities, weights of the target and offsets of every frame."""
        weights = [w / self._norm for w in self._weights]
        return self._observed, weights, [0.0] * len(weights) if offsets is None else offsets

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
        total = np.zeros(len(f), dtype=complex)
        for part in progress(self._each(Propagation.gradient, f, nuisance, seeds), len(self.waves)):
            total += part
        return total

    def jacobian(
        self, f: ComplexArray, nuisance: Nuisance, project: Projection, rows: Rows = Rows.EXACT
    ) -> Iterator[FloatArray]:
        """Derivatives ∂I_calc/∂p (M, P), unscaled, frame by frame, by the parameters that ``project`` leads to."""
        return self._each(partial(Propagation.jacobian, rows=rows, project=project), f, nuisance)

    def _each(
        self, method: Callable[..., _Result], f: ComplexArray, nuisance: Nuisance, *arguments: Sequence[Any]
    ) -> Iterator[_Result]:
        """Results of a method of :class:`Propagation` for every frame, at a fixed thickness law, spread and centres.

        Further arguments of the method are one for each frame. Nodes and thicknesses without weight are left out.
        """
        self.expect_room(f)
        law = nuisance.over_thickness(self.grid)
        times = np.flatnonzero(law)
        propagation = Propagation(solver=self.solver, f=f, thickness=self.grid.thickness[times], law=law[times])
        return results(self.executor, partial(method, propagation), self._summed(nuisance), *arguments)

    def _summed(self, nuisance: Nuisance) -> list[FrameWaves]:
        """The waves of every frame, summed over the spread."""
        if len(nuisance.centres) != len(self.waves):
            raise ValueError(
                f"nuisance parameters of {len(nuisance.centres)} frames given for a model of {len(self.waves)} (frames "
                "without reflections have none): fit them to it, or pick them with nuisance.at(places)"
            )
        over_y = [nuisance.over_spread(self.grid, n, float(base)) for n, base in enumerate(self.bases)]
        return [
            waves.summed(np.where(weights > 1e-6, weights, 0.0)[None])
            for waves, weights in zip(self.waves, over_y, strict=True)
        ]
