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
from typing import Any, TypeAlias, TypeVar

import numpy as np

from edtbx.arrays import ComplexArray, FloatArray, IntArray
from edtbx.execution.executors import portable, results
from edtbx.execution.memory import at_once, expect_room_for_frames
from edtbx.execution.progress import Progress, no_progress
from edtbx.intensities.frame_waves import FrameWaves, Rows, is_real
from edtbx.intensities.nuisance import FrameCube, Grid, Nuisance, intensity_weights, scaled_misfit
from edtbx.intensities.potential import GVectors, u_per_f, wave_number
from edtbx.intensities.propagation import Projection, Propagation
from edtbx.intensities.sampling import Sampling
from edtbx.intensities.scan_waves import ScanWaves
from edtbx.measurement.experiment import Experiment
from edtbx.measurement.observations import Observations
from edtbx.solvers.block import Solver

_Result = TypeVar("_Result")
Offsets: TypeAlias = Sequence[FloatArray] | None
"""Corrections (M,) of the unscaled intensities of every frame, if there are any."""


class ForwardModel:
    """Intensities of the observations of an experiment as a function of F(g).

    ``f_000`` in Å sets the mean inner potential once and for all; ``executor`` takes one frame at a time and may be that
    of threads, processes or a cluster (:mod:`edtbx.execution.executors`).

    Attributes
    ----------
    scan : ScanWaves
        Beams and orientations of the frames (F,), those that overlap in stretches.
    bases : (F,), radians
        Zeros of the y nodes of the frames (0 by default); of frames that share orientations near those that were given.
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
        self.grid = Grid(y=sampling.nodes, thickness=sampling.thickness_grid, centre_reach=sampling.centre_reach)
        self.scan, self.bases = ScanWaves.prepare(
            experiment,
            observations,
            vectors,
            sampling if solver.approximation is None else _of_approximation(sampling),
            nodes=self.grid.y,
            bases=np.zeros(len(observations.frame_ids)) if bases is None else bases,
            wavenumber=self.wavenumber,
        )
        self._has_room: set[tuple[bool, bool]] = set()
        reflections = observations.reflections
        self._observed = observations.split(reflections.intensity)
        self._weights = observations.split(intensity_weights(reflections.intensity, reflections.sigma))
        self._norm = sum(float(w @ i**2) for w, i in zip(self._weights, self._observed, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        """State for copies and pickles, with threads in place of an executor that belongs to somebody else."""
        return {**self.__dict__, "executor": portable(self.executor)}

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
    def waves(self) -> list[FrameWaves]:
        """Waves of the stretches, which are the frames where these share no orientations."""
        return self.scan.waves

    @property
    def sufficient(self) -> IntArray | None:
        """Indices (n,) of the g vectors whose F intensities depend on: of an approximation those of the rows, else None."""
        return None if self.solver.approximation is None else self.vectors.find(self.observations.reflections.hkl)

    @property
    def g_max(self) -> float:
        """Largest |g| of a row in Å⁻¹."""
        return max(float(np.linalg.norm(waves.g[waves.wanted], axis=1).max()) for waves in self.waves)

    @property
    def waves_per_frame(self) -> float:
        """Mean number of orientations a frame."""
        return self.scan.orientations / self.scan.frames

    def part_with_weight(self, nuisance: Nuisance) -> float:
        """Part of the orientations that intensities for given nuisance parameters need; cubes need all."""
        needed = sum(len(waves.orientations.x) for waves in self.scan.summed(self._over_y(nuisance)))
        return needed / self.scan.orientations

    @property
    def beams_per_frame(self) -> float:
        """Mean number of beams that come near the Ewald sphere somewhere in a frame, or in a stretch that frames share."""
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
        times = len(self.grid.thickness)
        sizes = [waves.size(times, 1 if derivatives else len(waves.orientations.weights)) for waves in self.waves]
        expect_room_for_frames(
            sizes,
            min(at_once(self.executor), len(sizes)),
            f"lower g_max ({self.vectors.g_max:g} 1/Å) or s_max ({self.sampling.accuracy.s_max:g} 1/Å)",
            coupling_bytes=8.0 if real else 16.0,
            folds=self.solver.folds and self.sampling.accuracy.s_strong < self.sampling.accuracy.s_max,
            derivatives=derivatives,
        )
        self._has_room.add((real, derivatives))

    def cubes(self, f: ComplexArray, progress: Progress[FrameCube] = no_progress) -> list[FrameCube]:
        """Cubes of intensities of every frame on the grid of y × thickness, for f (G,) in Å.

        Raises
        ------
        TooLarge
            The memory does not hold them.
        """
        self.expect_room(f)
        cube = partial(FrameWaves.cube, solver=self.solver, f=f, thickness=self.grid.thickness)
        kind = np.float32 if self.sampling.accuracy.single else np.float64  # most of the memory is theirs
        each = self.scan.cubes(results(self.executor, cube, self.waves), len(self.grid.y))
        columns = self.observations.frame_ids, each, self._observed, self._weights, self.bases.tolist()
        cubes = (
            FrameCube(frame_id=frame_id, intensities=i.astype(kind), observed=observed, weights=weights, base=base)
            for frame_id, i, observed, weights, base in zip(*columns, strict=True)
        )
        return list(progress(cubes, self.scan.frames))

    def intensities(
        self, f: ComplexArray, nuisance: Nuisance, progress: Progress[FloatArray] = no_progress
    ) -> list[FloatArray]:
        """Unscaled I_calc (M,) of every frame for a fixed thickness law, spread and centres."""
        parts = self._each(Propagation.intensities, f, nuisance)
        return list(progress(self.scan.sums(parts), self.scan.frames))

    def target(self, f: ComplexArray, nuisance: Nuisance, offsets: Offsets = None) -> float:
        """Target T = Σ w (I_obs − k I_calc)²/Σ w I_obs² with the best scale of each frame.

        ``offsets``, one (M,) array a frame, are added to the unscaled I_calc: what a finer sampling adds to this one.
        """
        return sum(value for value, _ in self.misfits(self.intensities(f, nuisance), offsets))

    def target_and_gradient(
        self, f: ComplexArray, nuisance: Nuisance, offsets: Offsets = None
    ) -> tuple[float, ComplexArray]:
        """Target T and its gradient ∂T/∂Re F + i ∂T/∂Im F (G,). Costs about three forward passes.

        Raises
        ------
        ValueError
            The solver gives no derivatives.
        """
        self.expect_room(f, derivatives=True)
        if not self.scan.are_frames:  # misfits are known once all stretches of a frame are
            misfits = self.misfits(self.intensities(f, nuisance), offsets)
            return sum(value for value, _ in misfits), self.gradient(f, nuisance, [seed for _, seed in misfits])
        total, gradient = 0.0, np.zeros(len(f), dtype=complex)
        for value, part in self._each(Propagation.misfit_and_gradient, f, nuisance, *self._measured(offsets)):
            total += value
            gradient += part
        return total, gradient

    def misfits(self, intensities: Sequence[FloatArray], offsets: Offsets = None) -> list[tuple[float, FloatArray]]:
        """What every frame adds to the target, and its derivatives (M,) by the unscaled I_calc, for such (M,) of each."""
        columns = intensities, *self._measured(offsets)
        return [scaled_misfit(i + more, observed, weights) for i, observed, weights, more in zip(*columns, strict=True)]

    @property
    def weights(self) -> list[FloatArray]:
        """Weights w/Σ w I_obs² (M,) of the target, of every frame."""
        return [w / self._norm for w in self._weights]

    def _measured(self, offsets: Offsets) -> tuple[Sequence[Any], ...]:
        """Intensities, weights of the target and offsets of every frame."""
        return self._observed, self.weights, [0.0] * self.scan.frames if offsets is None else offsets

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
        parts = self._each(Propagation.gradient, f, nuisance, self.scan.seeds(seeds))
        for part in progress(self.scan.totals(parts), self.scan.frames):
            total += part
        return total

    def jacobian(
        self, f: ComplexArray, nuisance: Nuisance, project: Projection, rows: Rows = Rows.EXACT
    ) -> Iterator[FloatArray]:
        """Derivatives ∂I_calc/∂p (M, P), unscaled, frame by frame, by the parameters that ``project`` leads to."""
        method = partial(Propagation.jacobian, rows=rows, project=project)
        return self.scan.rows(self._each(method, f, nuisance, apart=True))

    def _each(
        self,
        method: Callable[..., _Result],
        f: ComplexArray,
        nuisance: Nuisance,
        *arguments: Sequence[Any],
        apart: bool = False,
    ) -> Iterator[_Result]:
        """Results of a method of :class:`Propagation` for each stretch, or each frame of each apart, at fixed laws.

        Further arguments of the method are one for each. Thicknesses without weight are left out.
        """
        self.expect_room(f)
        scan, over_y, laws = self.scan, self._over_y(nuisance), nuisance.over_thickness(self.grid)
        times = np.flatnonzero(laws.any(axis=0))
        propagation = Propagation(solver=self.solver, f=f, thickness=self.grid.thickness[times])
        waves = scan.apart(over_y) if apart else scan.summed(over_y)
        of_waves = (scan.of_each if apart else scan.of_sums)(laws[:, times])
        return results(self.executor, partial(method, propagation), waves, of_waves, *arguments)

    def _over_y(self, nuisance: Nuisance) -> list[FloatArray]:
        """Weights (J,) of the nodes of every frame for spread and centres; 0 where they are small."""
        if len(nuisance.centres) != self.scan.frames:
            raise ValueError(
                f"nuisance parameters of {len(nuisance.centres)} frames given for a model of {self.scan.frames} (frames "
                "without reflections have none): fit them to it, or pick them with nuisance.at(places)"
            )
        weights = nuisance.over_spread(self.grid, self.bases)
        return list(np.where(weights > 1e-6, weights, 0.0))


def _of_approximation(sampling: Sampling) -> Sampling:
    """Sampling for an approximation, which costs little and has no use for beams besides those asked for."""
    return replace(sampling, accuracy=replace(sampling.accuracy, s_max=-math.inf), shared=False)
