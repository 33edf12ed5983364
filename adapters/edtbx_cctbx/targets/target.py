"""Drop-in refinement targets for cctbx: kinematical and dynamical, with one signature.

A target obeys the functor protocol of ``cctbx.xray.minimization.lbfgs``: ``f_obs()`` names the structure factors it wants,
``target(f_calc, compute_derivatives)`` returns value and derivatives. What the measurement adds to a structure (scales,
thickness and its law, orientation spread and centres) lives in ``target.nuisance`` and is held during a minimisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from cctbx import miller, xray

from edtbx.arrays import ComplexArray, FloatArray
from edtbx.checks import expect_kind, given_or_default
from edtbx.execution.progress import Progress, no_progress
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.intensities.forward import ForwardModel
from edtbx.intensities.nuisance import FrameCube, Nuisance
from edtbx.intensities.sampling import Sampling
from edtbx.levels.coarse_to_fine import AccuracySettings
from edtbx.measurement.experiment import Experiment
from edtbx.measurement.observations import Observations
from edtbx.measurement.selection import SelectionRules
from edtbx.measurement.statistics import Statistics
from edtbx.summary import Summarised
from edtbx_cctbx.arrays import from_numpy
from edtbx_cctbx.boundary import described, expect_structure_factors
from edtbx_cctbx.structure.form_factors import ensure_electron_form_factors
from edtbx_cctbx.structure.structure_factors import Expansion, miller_set, warn_if_by_fft
from edtbx_cctbx.targets.scattering_model import ScatteringModel
from edtbx_cctbx.targets.target_result import TargetResult

_Target = TypeVar("_Target", bound="Target")


class Target(Summarised):
    """Base of kinematical and dynamical targets: a fixed scattering model and its nuisance parameters as fitted so far.

    Attributes
    ----------
    scattering : ScatteringModel
        Data, rows, solver, beams and sampling.
    nuisance : Nuisance
        Scales, thickness (Å) and its law, spread and centres (radians); fitted on first use unless given.
    offsets : sequence of (M,) arrays, or None
        Corrections by a finer sampling, added to the unscaled I_calc of each frame.
    """

    default_solver: str
    _scattering: ScatteringModel
    offsets: Sequence[FloatArray] | None
    _nuisance: Nuisance | None
    _sampling_is_chosen: bool
    _structure_at_hand: xray.structure | None
    _progress: Progress[Any]

    def __init__(
        self,
        experiment: Experiment,
        xray_structure: xray.structure,
        *,
        solver: str | None = None,
        tolerance: float | None = None,
        bounds: NuisanceBounds | None = None,
        rules: SelectionRules | None = None,
        sampling: Sampling | None = None,
        g_max: float | None = None,
        nproc: int | None = None,
        executor: Executor | None = None,
        progress: Progress[Any] = no_progress,
        nuisance: Nuisance | None = None,
    ) -> None:
        if sampling is not None and tolerance is not None:
            raise ValueError("give a tolerance, which chooses the sampling, or a sampling, not both")
        if nuisance is not None:
            expect_kind(nuisance, Nuisance, "nuisance")
        scattering = ScatteringModel.of(
            experiment,
            xray_structure,
            solver=expect_kind(solver or self.default_solver, str, "solver"),
            bounds=given_or_default(bounds, NuisanceBounds, "bounds"),
            rules=given_or_default(rules, SelectionRules, "rules"),
            accuracy=AccuracySettings() if tolerance is None else AccuracySettings(tolerance=tolerance),
            sampling=sampling if sampling is None else expect_kind(sampling, Sampling, "sampling"),
            g_max=g_max,
            nproc=nproc,
            executor=executor,
        )
        number = len(scattering.observations.frame_ids)
        if nuisance is not None and len(nuisance.centres) != number:
            raise ValueError(
                f"nuisance parameters of {len(nuisance.centres)} frames given for {number} frames with reflections: leave "
                "them out to have them fitted"
            )
        self._hold(scattering, nuisance)
        self._sampling_is_chosen = sampling is not None
        self._structure_at_hand = xray_structure
        self._progress = progress

    @classmethod
    def of(cls: type[_Target], scattering: ScatteringModel, nuisance: Nuisance) -> _Target:
        """A target from a scattering model and nuisance parameters that are known already."""
        target = cls.__new__(cls)
        target._hold(scattering, nuisance)
        return target

    def _hold(self, scattering: ScatteringModel, nuisance: Nuisance | None) -> None:
        self._scattering, self._nuisance = scattering, nuisance
        self.offsets = self._structure_at_hand = None
        self._sampling_is_chosen = True
        self._progress = no_progress

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_progress": no_progress}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._structure_at_hand is not None:
            ensure_electron_form_factors(self._structure_at_hand)

    def __repr__(self) -> str:
        observations = self.observations
        return (
            f"<{type(self).__name__} of {len(observations.frame_ids)} frames, {len(observations)} reflections, "
            f"solver {self.solver_name}>"
        )

    def summary_lines(self) -> list[str]:
        """Solver, frames, reflections, beams and nuisance parameters, one line each."""
        crystal = f"Crystal: {self.nuisance.describe()}"  # first: it may choose the sampling
        forward, structure_factors = self.forward, self.f_obs()
        return [
            f"Target: {type(self).__name__}, solver {self.solver_name}",
            f"Frames: {forward.scan.frames}, {forward.beams_per_frame:.0f} beams and {forward.waves_per_frame:.0f} "
            "orientations each",
            f"Reflections: {len(self.observations)} of {len(self.experiment.reflections)}",
            f"Structure factors: {structure_factors.size()} in {structure_factors.space_group_info()}, beams out to "
            f"{self._scattering.g_max:.3f} 1/Å",
            crystal,
        ]

    @property
    def nuisance(self) -> Nuisance:
        """Scales, thickness (Å) and its law, spread and centres (radians); fitted on first use."""
        if self._nuisance is None:
            self._fit(self._structure_at_hand)
        assert self._nuisance is not None
        return self._nuisance

    @nuisance.setter
    def nuisance(self, nuisance: Nuisance) -> None:
        self._nuisance = nuisance

    @property
    def scattering(self) -> ScatteringModel:
        """Data, rows, solver, beams and sampling; the sampling is chosen on first use."""
        if not self._sampling_is_chosen:
            self._fit(self._structure_at_hand)
        return self._scattering

    def _fit(self, xray_structure: xray.structure) -> None:
        """Fit nuisance parameters, and choose the sampling that keeps the tolerance unless it was given."""
        scattering, progress = self._scattering, self._progress
        if not self._sampling_is_chosen:
            start = self._nuisance or scattering.fit_coarse(xray_structure, progress)
            level = scattering.choose_level(xray_structure, start, progress).level
            self._scattering, _ = scattering.at_level(level, start)
            self._sampling_is_chosen = True
            scattering = replace(self._scattering, bounds=replace(scattering.bounds, shapes=(start.shape,)))
        if self._nuisance is None:
            self._nuisance = scattering.fit_nuisance(xray_structure, progress)

    def fit_nuisance(self, xray_structure: xray.structure, progress: Progress[FrameCube] = no_progress) -> Nuisance:
        """Nuisance parameters fitted to a structure; the target keeps them."""
        self._progress, self._nuisance = progress, None
        self._fit(xray_structure)
        return self.nuisance

    def f_obs(self) -> miller.set:
        """Indices of the structure factors the target takes: the asymmetric unit of all g that couple two beams."""
        return self.expansion.unique

    def __call__(self, f_calc: miller.array, compute_derivatives: bool) -> TargetResult:
        """Value and derivatives of the target at structure factors in the order of ``f_obs()``, nuisance parameters held.

        Raises
        ------
        TypeError, ValueError
            ``f_calc`` holds no complex structure factors of these indices.
        """
        data = expect_structure_factors(f_calc, self.expansion.unique)
        nuisance, forward = self.nuisance, self.forward
        if self._structure_at_hand is not None:  # on the first call only: atoms may change afterwards
            structure, self._structure_at_hand = self._structure_at_hand, None
            origin = next(n for n, h in enumerate(self.expansion.unique.indices()) if h == (0, 0, 0))
            warn_if_by_fft(data[origin].real, structure, self._scattering.f_000)
        f = self.expansion.expand(data)
        scale = float(np.mean(nuisance.scales))
        if not compute_derivatives:
            return TargetResult(forward.target(f, nuisance, self.offsets), None, scale)
        value, gradient = forward.target_and_gradient(f, nuisance, self.offsets)
        return TargetResult(value, from_numpy(self.expansion.collect(gradient)), scale)

    def i_obs(self) -> miller.array:
        """Measured intensities and s.u.s (M,) of the observations, of one frame after those of another."""
        return self._intensities(self.observations.reflections.intensity, self.observations.reflections.sigma)

    def i_calc(self, xray_structure: xray.structure) -> miller.array:
        """Intensities (M,) of a structure on the scale of ``i_obs()`` and in its order."""
        return self._intensities(self.scattering.i_calc(xray_structure, self.nuisance))

    def frame_ids(self) -> miller.array:
        """Ids (M,) of the frames of ``i_obs()``, in its order."""
        return self._measured_set().array(data=from_numpy(self.observations.reflections.frame_id))

    def _measured_set(self) -> miller.set:
        return miller_set(self.expansion.unique, self.observations.reflections.hkl)

    def _intensities(self, values: FloatArray, sigmas: FloatArray | None = None) -> miller.array:
        intensities = self._measured_set().array(
            data=from_numpy(values), sigmas=None if sigmas is None else from_numpy(sigmas)
        )
        return intensities.set_observation_type_xray_intensity()

    def accepted(self, xray_structure: xray.structure) -> xray.structure:
        """A structure of this crystal, with electron form factors (:meth:`ScatteringModel.accepted`)."""
        return self._scattering.accepted(xray_structure)

    def structure_factors(self, xray_structure: xray.structure) -> ComplexArray:
        """F (G,) in Å of a structure on all g vectors of the forward model."""
        return self._scattering.structure_factors(xray_structure)

    def statistics(self, i_calc: miller.array | FloatArray) -> Statistics:
        """R factors of intensities (M,) on the scale of ``i_obs()`` and in its order."""
        return self._scattering.statistics(i_calc)

    @property
    def fo_sq(self) -> miller.array:
        """``i_obs()`` by the name that smtbx asks for."""
        return self.i_obs()

    @property
    def observations(self) -> Observations:
        """The measured reflections that are used, in the order of the frames."""
        return self._scattering.observations

    @property
    def experiment(self) -> Experiment:
        """The measured data, with the cell of the model."""
        return self._scattering.experiment

    @property
    def expansion(self) -> Expansion:
        """Maps structure factors of the asymmetric unit to all g vectors."""
        return self._scattering.expansion

    @property
    def forward(self) -> ForwardModel:
        """Computes intensities from structure factors."""
        return self.scattering.forward

    @property
    def bounds(self) -> NuisanceBounds:
        """Which nuisance parameters are fitted, and in which bounds."""
        return self._scattering.bounds

    @property
    def solver_name(self) -> str:
        """Name of the solver."""
        return self._scattering.solver_name


def expect_target(value: Any) -> Target:
    """The value, checked to be a target.

    Raises
    ------
    TypeError
        It is of another type.
    """
    if not isinstance(value, Target):
        raise TypeError(f"expected a DynamicalTarget or KinematicalTarget, got {described(value)}")
    return value
