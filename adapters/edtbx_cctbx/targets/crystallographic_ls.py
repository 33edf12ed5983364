"""Full-matrix least squares on dynamical intensities, in place of ``smtbx.refinement.least_squares.crystallographic_ls``.

The observations are a :class:`DynamicalTarget`; reparametrisation, restraints, weighting schemes and drivers are the stock
ones. Scales, centres, spread and thickness are refined with the structure (see :mod:`edtbx.fitting.least_squares`) and
live in ``target.nuisance``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from cctbx import miller
from cctbx.array_family import flex
from smtbx.refinement import least_squares

from edtbx.arrays import ComplexArray, FloatArray
from edtbx.checks import expect_word
from edtbx.execution.progress import no_progress
from edtbx.fitting.loss import LOSSES, variance_factor
from edtbx.intensities.frame_waves import Rows
from edtbx.intensities.nuisance import FrameCube, Nuisance
from edtbx_cctbx.arrays import from_numpy, to_numpy
from edtbx_cctbx.structure.f_calc_derivatives import StructureSlopes
from edtbx_cctbx.targets.data_equations import DataEquations
from edtbx_cctbx.targets.step_equations import StepEquations
from edtbx_cctbx.targets.target import Target, expect_target

_WEIGHT = 0.02
"""Default a of w = 1/(σ² + (a P)²), P = (max(I_obs, 0) + 2 I_calc)/3."""

_STATE = (
    "fc_sq",
    "residuals",
    "weights",
    "_sum_w_yo_sq",
    "objective_data_only",
    "_objective",
    "n_restraints",
    "chi_sq_data_only",
    "chi_sq_data_and_restraints",
    "restraints_normalisation_factor",
    "normal_matrix",
    "right_hand_side",
)
"""Attributes that ``build_up`` sets and :meth:`state` saves, besides those of the data."""


def _expect_reparametrisation(value: Any, target: Target) -> None:
    if not hasattr(value, "jacobian_transpose_matching_grad_fc"):
        raise TypeError(
            f"expected a reparametrisation, got {type(value).__name__}: make one as "
            "smtbx.refinement.constraints.reparametrisation(structure=..., constraints=[], "
            "connectivity_table=smtbx.utils.connectivity_table(structure))"
        )
    target.accepted(value.structure)


class crystallographic_ls(least_squares.crystallographic_ls_class(StepEquations)):  # type: ignore[misc]
    """Drop-in for ``smtbx.refinement.least_squares.crystallographic_ls``.

    Parameters
    ----------
    observations : DynamicalTarget
        Its nuisance parameters are where refinement starts; they follow every step.
    reparametrisation
        smtbx's, of the same structure.
    rows : Rows
        How the rows of the design matrix are computed: local ones unless the solver is an approximation on purpose. The
        right-hand side is exact with either, and so is the minimum.
    draft : DynamicalTarget
        A coarser sampling of the same frames: ``build_up`` then computes intensities and gradient there, until
        :meth:`correct` puts the observations in its place for good. With ``draft_by_rows`` the gradient of the draft is
        that of its rows, which must be those of all frames; the draft may then be the observations.
    rows_from : DynamicalTarget
        Where rows come from: a coarser sampling of the same frames, or of some, which then stand for all in the normal
        matrix (and s.u.s); the observations themselves by default.
    loss : str
        "squares", or a loss that counts outliers for less (:mod:`edtbx.fitting.loss`).
    repeats, learn : bool
        Whether rows that repeat one measurement share its weight, and whether evidence sets priors of scales and centres.
    progress : Progress
        Shown over the frames of every cycle; ``rows_progress`` over those whose rows are computed.
    **kwds
        Those of the stock class: ``weighting_scheme``, ``restraints_manager``, ``origin_fixing_restraints_type``.
        Weighting schemes are given scaled intensities.

    Attributes
    ----------
    normal_matrix, right_hand_side : (P, P), (P,)
        Of the last ``build_up``, with restraints and origin fixing, before a driver damps or solves them.
    residuals : (M,)
        √w (I_obs − k I_calc) of all rows over the robust scale at their intensity (:mod:`edtbx.fitting.loss`).
    nuisance_su : Nuisance
        Standard uncertainties of scales, centres, spread (radians) and thickness (Å); 0 where not refined.
    renew_rows : bool
        Whether the next ``build_up`` recomputes the design matrix. Near the minimum that of a step or two before will do,
        in half the time; the right-hand side is exact all the same.
    renew_sizes : bool
        Whether the next ``build_up`` re-estimates the robust scale of the residuals, and learns priors anew. Both change by
        jumps, and would keep shifts at some hundredths of their s.u.s.
    """

    repeats: bool = True
    loss: str = "squares"
    renew_rows: bool = True
    renew_sizes: bool = True
    restraints_normalisation_factor: float | None = None

    def __init__(self, observations: Any, reparametrisation: Any, **kwds: Any) -> None:
        _expect_reparametrisation(reparametrisation, expect_target(observations))
        kwds.setdefault("weighting_scheme", least_squares.mainstream_shelx_weighting(a=_WEIGHT, b=0))
        rows = kwds.pop("rows", Rows.usual(observations.forward.solver))
        self.rows = rows if isinstance(rows, Rows) else Rows(expect_word(rows, [kind.value for kind in Rows], "rows"))
        draft = kwds.pop("draft", None)
        self.repeats = kwds.pop("repeats", self.repeats)
        self.loss = expect_word(kwds.pop("loss", self.loss), LOSSES, "loss")
        self.data = DataEquations(
            target=observations,
            draft=None if draft is None else expect_target(draft).scattering,
            by_rows=kwds.pop("draft_by_rows", False),
            rows_from=expect_target(kwds.pop("rows_from", observations)),
            rows=self.rows,
            loss=self.loss,
            learn=kwds.pop("learn", False),
            shares=observations.observations.multiplicity if self.repeats else np.ones(len(observations.observations)),
            progress=kwds.pop("progress", no_progress),
            rows_progress=kwds.pop("rows_progress", no_progress),
        )
        # the stock class would linearise |F|², which nobody asks for
        super().__init__(observations, reparametrisation, one_h_linearisation=True, **kwds)
        self._before: Nuisance | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "crystallographic_ls cannot be pickled or copied, because reparametrisations of smtbx cannot: pickle the target "
            "and the structure, and make it anew of these"
        )

    def build_up(self, objective_only: bool = False) -> None:
        """Build the normal equations of the current structure, or its objective alone; TooLarge without the memory."""
        f = self._structure_factors()
        self.data.weigh(f, self.weighting_scheme, self.renew_sizes)
        self._take_residuals()
        restraints = self._restraints()
        if objective_only:
            return
        self.data.build(f, self.data.slopes_at(f, self._slopes), self.renew_rows)
        self._start_with_data(restraints)

    def correct(self) -> None:
        """Put the equations of the observations in place of the draft's, for this structure and all that follow.

        Called after ``build_up``, at the same structure; costs a pass over all frames at the sampling of the observations.
        """
        f = self.observations.structure_factors(self.xray_structure)
        self.data.correct(f, self.data.slopes_at(f, self._slopes), self.weighting_scheme, self.renew_sizes)
        self._take_residuals()
        self._start_with_data(self._restraints())

    @property
    def cubes(self) -> Sequence[FrameCube]:
        """Computed and measured intensities of every frame for the current structure, with the weights."""
        return self.data.weighted.cubes

    @property
    def jacobian(self) -> dict[int, FloatArray]:
        """∂I_calc/∂p (M, P), unscaled, by frame id, at the point where rows were last renewed."""
        return self.data.jacobian

    @property
    def is_draft(self) -> bool:
        """Whether the equations at hand are those of the draft."""
        return self.data.is_draft

    def _slopes(self) -> StructureSlopes:
        """Derivatives of the structure factors by the parameters of the structure, unless the memory does not hold them."""
        return StructureSlopes.with_room(
            self.observations.expansion,
            self.reparametrisation,
            self.n_equations,
            "refine by gradients (minimise_with_lbfgs, refinement.method=gradient), or take a smaller g_max",
            self.observations.forward.sufficient,
        )

    def _start_with_data(self, restraints: tuple[FloatArray, FloatArray, FloatArray] | None) -> None:
        """Normal equations of the data at hand, restraints and origin fixing added."""
        assert self.data.right is not None
        normal, right = self.data.reduced.matrix / self._sum_w_yo_sq, self.data.right / self._sum_w_yo_sq
        if restraints is not None:
            design, deltas, weights = restraints
            normal = normal + design.T @ (weights[:, None] * design)
            right = right - design.T @ (weights * deltas)
        self._start_with(normal, right)
        self.origin_fixing_restraint.add_to(
            self.step_equations(),
            self.reparametrisation.jacobian_transpose_matching_grad_fc(),
            self.reparametrisation.asu_scatterer_parameters,
        )
        # drivers damp the matrix in place, and solving overwrites it
        self.normal_matrix = to_numpy(self.normal_matrix_packed_u().matrix_packed_u_as_symmetric())
        self.right_hand_side = to_numpy(self.opposite_of_gradient())

    def _structure_factors(self) -> ComplexArray:
        """F (G,) in Å of the structure at the values of its refined parameters."""
        if not self.finalised:
            self.reparametrisation.linearise()
            self.reparametrisation.store()
        target = self.observations
        f = target.structure_factors(self.xray_structure)
        places = target.forward.vectors.find(target.observations.reflections.hkl)
        self.f_calc = self.fo_sq.array(data=from_numpy(f[places]), sigmas=None)
        return f

    def _start_with(self, normal: FloatArray, right: FloatArray) -> None:
        self._start_step_equations()
        # both are given by reference
        packed, opposite_of_gradient = self.normal_matrix_packed_u(), self.opposite_of_gradient()
        packed += from_numpy(normal).matrix_symmetric_as_packed_u()
        opposite_of_gradient += from_numpy(right)

    def state(self) -> dict[str, Any]:
        """Results of the last ``build_up``, as :meth:`restore` takes them."""
        return {"data": self.data.state()} | {name: getattr(self, name) for name in _STATE if hasattr(self, name)}

    def restore(self, state: dict[str, Any]) -> None:
        """Set the state that a ``build_up`` left at this structure, in place of another one."""
        f = self._structure_factors()
        self.data.restore(state["data"])
        for name in _STATE:
            if name in state:
                setattr(self, name, state[name])
        self.data.renew(f, self.data.slopes_at(f, self._slopes), self.renew_rows)
        self._start_with(self.normal_matrix, self.right_hand_side)

    def complete(self) -> None:
        """Recompute the cubes and reduced equations of the observations that a restored state lacks."""
        f = self.observations.structure_factors(self.xray_structure)
        self.data.complete(f, to_numpy(self.weights), self.residuals)

    def _take_residuals(self) -> None:
        """Intensities, residuals and weights of the data; Σ w I_obs² and the objective."""
        weighted, measured = self.data.weighted, self.observations.observations.reflections
        weights, calculated = weighted.weights, weighted.calculated
        self.residuals = weighted.residuals
        self.weights: flex.double = from_numpy(weights)
        self.fc_sq = self.fo_sq.array(data=from_numpy(calculated), sigmas=None).set_observation_type_xray_intensity()
        self._sum_w_yo_sq: float = float(weights @ measured.intensity**2)
        self.objective_data_only = float(weights @ (measured.intensity - calculated) ** 2) / (2.0 * self._sum_w_yo_sq)
        self._objective = self.objective_data_only
        self.n_restraints = None
        self.chi_sq_data_only = self.chi_sq()

    @property
    def fo_sq(self) -> miller.array:
        """Measured intensities and s.u.s (M,) of the observations."""
        return self.observations.fo_sq

    @property
    def n_equations(self) -> int:
        """Number of rows (M), repeated measurements included."""
        return len(self.observations.observations)

    def dof(self) -> float:
        """Degrees of freedom: distinct measurements and restraints less parameters; centres have priors and do not count."""
        measurements = float(np.sum(1.0 / self.data.shares)) + (self.n_restraints or 0)
        return max(measurements - self.n_refined, 1.0)

    @property
    def n_refined(self) -> int:
        """Number of refined parameters, of structure, frames and crystal."""
        return self.n_parameters + self.data.effective_parameters

    def chi_sq(self) -> float:
        """Σ w (I_obs − k I_calc)² and restraints over the degrees of freedom, corrected for the loss."""
        return 2.0 * self._objective * self._sum_w_yo_sq / self.dof() * variance_factor(self.loss)

    def _restraints(self) -> tuple[FloatArray, FloatArray, FloatArray] | None:
        """Design matrix, deltas and weights of the restraints, scaled to the average residual; added to the objective."""
        if self.restraints_manager is None:
            return None
        if self.restraints_normalisation_factor is None:
            self.restraints_normalisation_factor = self.chi_sq_data_only / self._sum_w_yo_sq
        rp = self.reparametrisation
        linearised = self.restraints_manager.build_linearised_eqns(self.xray_structure, rp.parameter_map())
        jacobian = rp.jacobian_transpose_matching(rp.mapping_to_grad_fc_all).transpose()
        design = to_numpy((linearised.design_matrix * jacobian).as_dense_matrix())
        deltas = to_numpy(linearised.deltas)
        weights = to_numpy(linearised.weights) * self.restraints_normalisation_factor
        self._objective += 0.5 * float(weights @ deltas**2)
        self.n_restraints = linearised.n_restraints()
        self.chi_sq_data_and_restraints = self.chi_sq()
        return design, deltas, weights

    def shift_over_su(self, step: FloatArray | None = None) -> float:
        """Largest shift in s.u.s, of the solution or of a given step (P,)."""
        step = to_numpy(self.step()) if step is None else step
        variances = to_numpy(self.covariance_matrix().matrix_packed_u_diagonal())
        return float(np.max(np.abs(step) / np.sqrt(variances), initial=0.0))

    def step_forward(self, step: FloatArray | None = None) -> None:
        """Shift the structure by the solution, or by a given step (P,)."""
        self._before = self.observations.nuisance
        if step is not None:
            solution = self.step()  # by reference
            solution *= 0.0
            solution += from_numpy(step)
        super().step_forward()

    def step_backward(self) -> None:
        """Undo the last step, of nuisance parameters as well."""
        super().step_backward()
        self.observations.nuisance = self._before

    def covariance_matrix(self, jacobian_transpose: Any = None, normalised_by_goof: bool = True) -> flex.double:
        """Packed covariance matrix as in the stock class, of the undamped normal equations."""
        covariance = np.linalg.inv(self.normal_matrix) / self._sum_w_yo_sq
        packed = from_numpy(covariance).matrix_symmetric_as_packed_u()
        if jacobian_transpose is not None:
            packed = jacobian_transpose.self_transpose_times_symmetric_times_self(packed)
        return packed * self.restrained_goof() ** 2 if normalised_by_goof else packed

    @property
    def nuisance_su(self) -> Nuisance:
        """Standard uncertainties of the nuisance parameters, 0 where not refined."""
        covariance = np.linalg.inv(self.normal_matrix) * self.restrained_goof() ** 2 / self._sum_w_yo_sq
        shared, along, scales = self.data.reduced.variances(covariance)
        return self.observations.nuisance.uncertainties(np.diag(shared), along, scales)
