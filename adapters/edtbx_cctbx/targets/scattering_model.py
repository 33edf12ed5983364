"""Frozen model of an experiment: intensities of the used reflections from a structure and nuisance parameters.

References
----------
L. Palatinus, V. Petříček & C. A. Corrêa, Acta Cryst. A71, 235 (2015), doi:10.1107/S2053273315001266.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cctbx import xray
from libtbx.utils import Sorry, null_out

from edtbx.arrays import BoolArray, ComplexArray, FloatArray
from edtbx.checks import expect_positive
from edtbx.crystal.frame_parameters import Trends
from edtbx.crystal.law import fit_law
from edtbx.crystal.learning import LearntFrames, learn_frames
from edtbx.crystal.scan_rows import ScanRows
from edtbx.crystal.trends import choose_trends
from edtbx.execution.executors import frame_executor
from edtbx.execution.memory import expect_room_for
from edtbx.execution.progress import Progress, no_progress
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.intensities.forward import ForwardModel
from edtbx.intensities.nuisance import FrameCube, Nuisance
from edtbx.intensities.sampling import G_MAX_MARGIN, Sampling
from edtbx.levels.coarse_to_fine import AccuracySettings, choose_level, fit_coarse
from edtbx.levels.level_search import ChosenLevel
from edtbx.levels.sampling_levels import Level
from edtbx.measurement.experiment import Experiment
from edtbx.measurement.geometry import orthogonalisation_matrix
from edtbx.measurement.observations import Observations
from edtbx.measurement.selection import Selection, SelectionRules
from edtbx.measurement.statistics import Statistics, statistics
from edtbx.solvers.block import Solver
from edtbx.solvers.registry import installed_solvers
from edtbx_cctbx.boundary import expect_experiment, expect_intensities, expect_same_crystal, expect_structure
from edtbx_cctbx.indexing.model_cell import with_model_cell
from edtbx_cctbx.structure.form_factors import ensure_electron_form_factors, set_electron_form_factors
from edtbx_cctbx.structure.structure_factors import Expansion, f_000, g_vectors
from edtbx_cctbx.targets.selected_rows import left_out_together, select_rows, unique_numbers


@dataclass(frozen=True, slots=True, eq=False, kw_only=True, repr=False)
class ScatteringModel:
    """Fixed part of a fit of structure and nuisance parameters: data, rows, solver, beams and sampling.

    Attributes
    ----------
    experiment : Experiment
        With the cell of the model.
    selection : Selection
        Used rows of the experiment.
    expansion : Expansion
        Maps structure factors of the asymmetric unit to all g vectors.
    forward : ForwardModel
        Computes intensities from structure factors.
    solver_name : str
    bounds : NuisanceBounds
        Which nuisance parameters are fitted, and in which bounds.
    accuracy : AccuracySettings
        The accuracy that levels of sampling are chosen for.
    g_max : float, Å⁻¹
        Greatest length |g| of the beams.
    f_000 : float, Å
        F(000) of the structure at the start.
    """

    experiment: Experiment
    selection: Selection
    expansion: Expansion
    forward: ForwardModel
    solver_name: str
    bounds: NuisanceBounds
    accuracy: AccuracySettings
    g_max: float
    f_000: float

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        xray_structure: xray.structure,
        *,
        solver: str,
        bounds: NuisanceBounds,
        rules: SelectionRules,
        accuracy: AccuracySettings,
        sampling: Sampling | None = None,
        g_max: float | None = None,
        nproc: int | None = None,
        executor: Executor | None = None,
    ) -> ScatteringModel:
        """A model of an experiment and a starting structure; the arguments are those of :class:`DynamicalTarget`.

        Without a sampling it is coarse, for a crystal of unknown thickness.

        Raises
        ------
        TypeError, Sorry
            An argument is of the wrong kind or out of range, nobody knows the solver, or no reflection is left.
        TooLarge
            The memory does not hold what it takes.
        """
        try:
            if g_max is not None:
                expect_positive(g_max, "g_max", "1/Å")
            set_electron_form_factors(expect_structure(xray_structure), log=null_out())
            experiment = with_model_cell(expect_experiment(experiment), xray_structure)
            backend = installed_solvers().create(solver)
            sampling = accuracy.coarse(backend) if sampling is None else sampling
            executor = frame_executor(executor, nproc)
            selection = select_rows(experiment, xray_structure, rules)
            length = _largest_g(experiment, selection.used)
            g_max = max(length + G_MAX_MARGIN if g_max is None else g_max, length)
            expect_room_for(experiment, g_max, sampling.accuracy.s_max)
            vectors = g_vectors(xray_structure, g_max)
            known = f_000(xray_structure)
            unique = unique_numbers(xray_structure, experiment.reflections.hkl)
            observations = Observations.of(experiment, selection.used, unique)
            forward = ForwardModel(experiment, observations, vectors, sampling, backend, executor, f_000=known)
        except ValueError as error:
            raise Sorry(str(error)) from error
        return cls(
            experiment=experiment,
            selection=selection,
            expansion=Expansion.of(xray_structure, vectors),
            forward=forward,
            solver_name=solver,
            bounds=bounds,
            accuracy=accuracy,
            g_max=g_max,
            f_000=known,
        )

    def fit_coarse(self, xray_structure: xray.structure, progress: Progress[FrameCube] = no_progress) -> Nuisance:
        """Nuisance parameters of a structure at the coarse level; single scattering is not tried for thick crystals."""
        return fit_coarse(
            self.forward,
            self.structure_factors(xray_structure),
            self.bounds,
            self.accuracy,
            search_further=self.forward.solver.approximation != "kinematical",
            progress=progress,
        )

    def choose_level(
        self, xray_structure: xray.structure, nuisance: Nuisance, progress: Progress[Any] = no_progress
    ) -> ChosenLevel:
        """The sampling level that the accuracy asks for, with its error."""
        f = self.structure_factors(xray_structure)
        return choose_level(self.forward, f, nuisance, self.bounds, self.accuracy, progress)

    def at_level(
        self, level: Level, nuisance: Nuisance, places: Sequence[int] | None = None
    ) -> tuple[ScatteringModel, Nuisance]:
        """A model of all or some frames, sampled at a level for the fitted thickness and spread, and its parameters."""
        return self.resampled(self.accuracy.sampling(level, self.forward, nuisance, self.bounds), nuisance, places)

    def resampled(
        self, sampling: Sampling, nuisance: Nuisance, places: Sequence[int] | None = None
    ) -> tuple[ScatteringModel, Nuisance]:
        """A model of all or some frames at another sampling, orientations counted from their centres; and the nuisance
        parameters of these frames.

        Parameters
        ----------
        sampling : Sampling
        nuisance : Nuisance
            Of all frames.
        places : sequence of int, optional
            Indices of the frames to keep; all by default.
        """
        some = nuisance if places is None else nuisance.at(places)
        number = self.forward.scan.frames if places is None else len(places)
        bases = np.zeros(number) if math.isinf(sampling.centre_reach) else some.centres
        return replace(self, forward=self.forward.resampled(sampling, places, bases)), some

    def with_solver(self, name: str, solver: Solver, sampling: Sampling) -> ScatteringModel:
        """A model of the same rows and beams with another solver and sampling."""
        old = self.forward
        forward = ForwardModel(
            self.experiment, old.observations, old.vectors, sampling, solver, old.executor, f_000=self.f_000
        )
        return replace(self, forward=forward, solver_name=name)

    def accepted(self, xray_structure: xray.structure) -> xray.structure:
        """The structure, given electron form factors, if its cell and space group are those of the model; atoms may differ.

        Raises
        ------
        TypeError, ValueError
            It is no structure, has no atoms, or is of another cell or space group.
        """
        structure = expect_same_crystal(xray_structure, self.expansion.unique)
        ensure_electron_form_factors(structure)
        return structure

    def structure_factors(self, xray_structure: xray.structure) -> ComplexArray:
        """F (G,) in Å of a structure on all g vectors of the forward model."""
        return self.expansion.structure_factors(self.accepted(xray_structure))

    def cubes(self, xray_structure: xray.structure, progress: Progress[FrameCube] = no_progress) -> list[FrameCube]:
        """Computed and measured intensities of every frame, over spread and thickness."""
        return self.forward.cubes(self.structure_factors(xray_structure), progress)

    def fit_nuisance(self, xray_structure: xray.structure, progress: Progress[FrameCube] = no_progress) -> Nuisance:
        """Scales, thickness (Å) and its law, spread and centres (radians) that fit a structure best."""
        cubes = self.cubes(xray_structure, progress)
        return fit_law(cubes, self.forward.grid, self.bounds, self.observations.numbers)

    @property
    def scan_rows(self) -> ScanRows:
        """What is measured along the scan, beside the intensities in the cubes."""
        observations = self.observations
        angles = {frame.id: frame.alpha for frame in self.experiment.frames}
        measured = observations.reflections
        return ScanRows(
            angles=np.array([angles[frame_id] for frame_id in observations.frame_ids]),
            sigma=observations.split(measured.sigma),
            shares=observations.split(observations.multiplicity),
            numbers=observations.split(left_out_together(self.expansion.unique, measured.hkl)),
        )

    def learn(self, cubes: Sequence[FrameCube], start: Nuisance, trends: Trends | None = None) -> LearntFrames:
        """Nuisance parameters under priors over the scan that the evidence sets, from cubes and a start nearby.

        Without ``trends``, indices left out in turn say which of thickness and spread grow or fall along the scan.
        """
        scan, grid = self.scan_rows, self.forward.grid
        trends = choose_trends(cubes, grid, self.bounds, start, scan) if trends is None else trends
        return learn_frames(cubes, grid, self.bounds, start, scan, trends)

    def i_calc(self, xray_structure: xray.structure, nuisance: Nuisance) -> FloatArray:
        """Scaled I_calc (M,) of the observations."""
        unscaled = self.forward.intensities(self.structure_factors(xray_structure), nuisance)
        return np.concatenate([k * i for k, i in zip(nuisance.scales, unscaled, strict=True)])

    @property
    def observations(self) -> Observations:
        """The measured reflections that are used, in the order of the frames."""
        return self.forward.observations

    def statistics(self, i_calc: FloatArray) -> Statistics:
        """R factors of scaled intensities (M,) of the observations."""
        observations = self.observations
        measured = observations.reflections
        i_calc = expect_intensities(i_calc, len(observations))
        return statistics(measured.intensity, measured.sigma, i_calc, measured.frame_id, observations.unique)


def _largest_g(experiment: Experiment, used: BoolArray) -> float:
    hkl = experiment.reflections.hkl[used]
    return float(np.linalg.norm(hkl @ orthogonalisation_matrix(experiment.cell).T, axis=1).max())
