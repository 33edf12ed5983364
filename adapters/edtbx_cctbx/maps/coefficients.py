"""Coefficients of difference-potential maps from dynamical intensities, for maps of cctbx.

References
----------
L. Palatinus et al., Science 355, 166 (2017), doi:10.1126/science.aak9652 (the kind ``fo_fc_dynamical``).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from cctbx import maptbx, miller, xray
from libtbx.utils import Sorry
from smtbx.refinement.least_squares import mainstream_shelx_weighting

from edtbx.arrays import ComplexArray, FloatArray
from edtbx.checks import expect_number, expect_word
from edtbx.constants import VOLTS_PER_U
from edtbx.execution.memory import expect_room
from edtbx.execution.progress import Progress, no_progress, one_step
from edtbx.fitting.least_squares import FrameEquations, frame_equations
from edtbx.fitting.loss import LOSSES
from edtbx.fitting.map_estimate import MapEstimate, map_estimate
from edtbx.fitting.reweighting import Reweighted, reweight
from edtbx.intensities.frame_waves import Rows
from edtbx.intensities.nuisance import FrameCube, Nuisance
from edtbx.intensities.propagation import Projection
from edtbx.levels.sampling_levels import COARSE
from edtbx.solvers.kinematical import KinematicalSolver
from edtbx_cctbx.arrays import from_numpy, to_numpy
from edtbx_cctbx.maps.components import Components, ComponentsAndAtoms
from edtbx_cctbx.maps.peaks import APART
from edtbx_cctbx.refinement.model import RefinementModel, usual_shifts
from edtbx_cctbx.refinement.settings import Refined
from edtbx_cctbx.structure.f_calc_derivatives import StructureSlopes
from edtbx_cctbx.structure.form_factors import ensure_electron_form_factors, form_factor
from edtbx_cctbx.targets.target import Target, expect_target
from edtbx_cctbx.targets.weighting import flat_weighting, weights_of

KINDS = {
    "newton": "the most likely change of the structure factors that the residuals of all frames ask for",
    "gradient": "minus the gradient of the sum of squares by every structure factor, measured or not",
    "fo_fc_dynamical": "(Fobs - Fcalc) exp(i phi_calc), Fobs = |Fcalc| sqrt(<Iobs>/<Icalc>) (Palatinus et al., 2017)",
    "two_fo_fc": "(2 Fobs - Fcalc) exp(i phi_calc) with the same Fobs",
    "fo_fc_kinematical": "as fo_fc_dynamical, with Icalc of single scattering",
}
"""Kinds of coefficients, with their definitions."""

_KINEMATICAL = replace(COARSE, thickness_max=1500.0, thickness_step=75.0)
"""Sampling for single scattering, with thin crystals: it cannot tell the thickness."""

_WEIGHT = 0.01
"""The a of the weights in the fit of the nuisance parameters."""

_BYTES_PER_ELEMENT = 12.0
"""Bytes for a derivative in single precision, which exists in three copies at once."""


class DynamicalMap:
    """Map calculator for a target and a structure, neither of which is changed.

    All coefficients are in V Å³, in the asymmetric unit of the target's structure factors: with the volume scaling of
    cctbx, maps are in volts. The kinds are those of :data:`KINDS`.

    Parameters
    ----------
    target : DynamicalTarget
        Its nuisance parameters are the start of a fit to the structure.
    xray_structure
        Known atoms; missing ones show up as peaks.
    rows_from : DynamicalTarget
        A coarser sampling of the same frames, for the derivatives of each intensity; the target itself by default.
    atoms_follow
        Whether the kind ``newton`` leaves out changes that shifts of the atoms explain: atoms are shifted together with the
        change, hydrogen riding, as in least squares. Otherwise errors of the atoms are in the map as well.
    weighting_scheme, loss
        As in :class:`edtbx_cctbx.crystallographic_ls`; by default weights with the flattest analysis of variance, because
        missing atoms make strong intensities err by more than their s.u.s.
    scattering_type, u_iso
        Type and displacement in Å² of the missing atoms: expected changes fall off with |g| as their form factor does.
    """

    def __init__(
        self,
        target: Target,
        xray_structure: xray.structure,
        *,
        rows_from: Target | None = None,
        atoms_follow: bool = True,
        weighting_scheme: Any = None,
        loss: str = "cauchy",
        scattering_type: str = "H",
        u_iso: float = 0.04,
        progress: Progress[Any] = no_progress,
    ) -> None:
        self.target = expect_target(target)
        self.xray_structure = target.accepted(xray_structure)
        self.scattering_type = scattering_type
        form_factor(scattering_type)  # refuses what is no element
        self.u_iso = expect_number(u_iso, "u_iso")
        if not 0.0 < u_iso < np.inf:
            raise ValueError(f"u_iso must be > 0 A^2, got {u_iso}")
        self._rows_from = target if rows_from is None else expect_target(rows_from)
        self._atoms_follow = atoms_follow
        self._weighting_scheme = weighting_scheme
        self._loss = expect_word(loss, LOSSES, "loss")
        self._progress = progress

    def __getstate__(self) -> dict[str, Any]:
        """Results computed so far, without the reparametrisation, which cannot be pickled."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("_model", "_reparametrisation")}
        return {**state, "_progress": no_progress}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        ensure_electron_form_factors(self.xray_structure)

    def __repr__(self) -> str:
        atoms = self.xray_structure.scatterers().size()
        return f"<DynamicalMap of {atoms} atoms, for {self.target!r}>"

    def coefficients(self, kind: str = "newton") -> miller.array:
        """Complex coefficients (U,) in V Å³; 0 where the kind has none, F(000) only in ``two_fo_fc``.

        Raises
        ------
        Sorry
            There is no such kind, or the solver gives no derivatives.
        """
        if kind not in KINDS:
            raise Sorry(f"there is no map of kind {kind!r}: choose from {', '.join(KINDS)}")
        if kind in ("newton", "gradient") and not self.target.forward.solver.gives_derivatives:
            raise Sorry(f"the solver {self.target.solver_name} gives no derivatives, which a map of kind {kind} needs")
        data = VOLTS_PER_U * getattr(self, f"_{kind}")
        return self.target.expansion.unique.array(data=from_numpy(data))

    def fft_map(self, kind: str = "newton", resolution_factor: float = 0.25, **kwds: Any) -> Any:
        """Map of a kind in volts, with the symmetry of the space group; keywords as in ``miller.array.fft_map``."""
        kwds.setdefault("symmetry_flags", maptbx.use_space_group_symmetry)
        return self.coefficients(kind).fft_map(resolution_factor=resolution_factor, **kwds).apply_volume_scaling()

    def peak_search(self, kind: str = "newton", parameters: Any = None, **kwds: Any) -> Any:
        """Peaks of a map in volts, highest first, clustered by cctbx."""
        parameters = parameters or maptbx.peak_search_parameters(interpolate=True, min_distance_sym_equiv=APART)
        return self.fft_map(kind, **kwds).peak_search(parameters=parameters, verify_symmetry=False)

    @cached_property
    def map_estimate(self) -> MapEstimate:
        """Most likely changes by components and shifts of the atoms, with their covariance, for the kind ``newton``."""
        shared = np.array([self.target.bounds.sigma is None, self.target.bounds.thickness is None])
        equations = self._linear[0]
        with one_step(self._progress):
            return map_estimate(equations, shared, len(self._usual_shifts))

    def standard_uncertainties(self, sites: FloatArray) -> FloatArray:
        """Standard uncertainties (K,) in volts of the map of kind ``newton`` at fractional sites (K, 3).

        They follow from residuals and prior, over the components of likely size. Model errors come on top (urea: half as
        much again).
        """
        volume = self.xray_structure.unit_cell().volume()
        waves = np.exp(2j * np.pi * np.asarray(sites).reshape(-1, 3) @ self.target.forward.vectors.hkl.T)
        by_parameter = self.components.likely()(np.arange(waves.shape[1]), waves / volume)
        return VOLTS_PER_U * np.sqrt(self.map_estimate.variances(by_parameter))

    @cached_property
    def followed(self) -> xray.structure:
        """The structure with the shifts of atoms that belong to the map estimate, as after one step of least squares."""
        if not self._atoms_follow:
            return self.xray_structure
        model = self._model.copy()
        rp = model.reparametrisation(Refined())
        rp.apply_shifts(from_numpy(self._usual_shifts * self.map_estimate.followed))
        rp.linearise()
        rp.store()
        return model.structure

    @property
    def distances_followed(self) -> FloatArray:
        """Shifts (A,) in Å of the atoms that belong to the map estimate; hydrogen is counted from where it rides."""
        if not self._atoms_follow:
            return np.zeros(self.xray_structure.scatterers().size())
        pairs = zip(self._reparametrisation.structure.sites_frac(), self.followed.sites_frac(), strict=True)
        return np.array([self.xray_structure.unit_cell().distance(riding, followed) for riding, followed in pairs])

    @cached_property
    def fitted(self) -> Reweighted:
        """Fit of nuisance parameters and weights to the structure, as in refinement; the target keeps its own."""
        cubes = self.target.forward.cubes(self._f, self._progress)
        scheme = self._weighting_scheme or mainstream_shelx_weighting(a=_WEIGHT, b=0)
        return self._reweighted(cubes, self.target.nuisance, scheme, polish=True)

    @cached_property
    def reweighted(self) -> Reweighted:
        """The same fit with the weights of the maps, and scales refitted."""
        if self._weighting_scheme is not None:
            return self.fitted
        # thickness and spread are best told by the strong reflections, which such weights count for less
        measured = self.target.observations.reflections
        scheme = flat_weighting(measured.intensity, measured.sigma, self.fitted.calculated)
        return self._reweighted(self.fitted.cubes, self.fitted.nuisance, scheme, polish=False)

    def _reweighted(self, cubes: list[FrameCube], nuisance: Nuisance, scheme: Any, polish: bool) -> Reweighted:
        return reweight(
            cubes,
            self.target.observations,
            nuisance,
            grid=self.target.forward.grid,
            bounds=self.target.bounds,
            weighting=partial(weights_of, scheme),
            loss=self._loss,
            shares=self.target.observations.multiplicity,
            polish=polish,
        )

    @cached_property
    def _f(self) -> ComplexArray:
        return self.target.expansion.expand(self._f_unique)

    @cached_property
    def _f_unique(self) -> ComplexArray:
        return self.target.expansion.unique_structure_factors(self.xray_structure)

    @cached_property
    def components(self) -> Components:
        """Real parameters of a change of the structure factors."""
        return Components.of(self.target.expansion, self.scattering_type, self.u_iso)

    @cached_property
    def _model(self) -> RefinementModel:
        return RefinementModel.of(self.xray_structure.deep_copy_scatterers(), riding=True)

    @cached_property
    def _reparametrisation(self) -> Any:
        return self._model.reparametrisation(Refined())

    @cached_property
    def _usual_shifts(self) -> FloatArray:
        """Typical shifts (Q,) of the parameters of the atoms."""
        return usual_shifts(self._model.structure, self._reparametrisation) if self._atoms_follow else np.zeros(0)

    @cached_property
    def _linear(self) -> tuple[list[FrameEquations], FloatArray]:
        """Equations of all frames, with ∂I/∂p (M, P + Q) by likely components and atoms, and Σ seed · ∂I/∂p by every
        component.
        """
        target, reweighted = self.target, self.reweighted
        forward, components = self._rows_from.forward, self.components
        project: Projection = components
        if self._atoms_follow:
            slopes = StructureSlopes.of(target.expansion, self._reparametrisation)
            project = ComponentsAndAtoms(components=components, slopes=slopes, usual=self._usual_shifts)
        columns = int(components.are_likely.sum()) + len(self._usual_shifts)
        expect_room(
            _BYTES_PER_ELEMENT * len(self.target.observations) * columns,
            f"derivatives of {len(self.target.observations)} intensities by {columns} components of structure factors",
            'take fewer frames, a smaller g_max, or a map of kind "gradient" or "fo_fc_dynamical"',
        )
        kept = np.concatenate([components.are_likely, np.ones(len(self._usual_shifts), dtype=bool)])
        by_frame, total = {}, np.zeros(len(components.place))
        rows = forward.jacobian(self._f, reweighted.nuisance, project, Rows.usual(forward.solver))
        shown = self._progress(rows, forward.scan.frames)
        frame_ids = forward.observations.frame_ids
        for frame_id, seed, derivatives in zip(frame_ids, self._seeds, shown, strict=True):
            by_frame[frame_id] = derivatives[:, kept]
            total += seed @ derivatives[:, : len(total)]
        equations = frame_equations(reweighted.cubes, target.forward.grid, reweighted.nuisance, target.bounds, by_frame)
        return equations, total

    @cached_property
    def _seeds(self) -> list[FloatArray]:
        """Derivatives of Σ w (I_obs − k I_calc)² by the unscaled I_calc of each frame."""
        reweighted = self.reweighted
        calculated = reweighted.nuisance.intensities(self.target.forward.grid, reweighted.cubes)
        frames = zip(reweighted.cubes, calculated, reweighted.nuisance.scales, strict=True)
        return [-2.0 * scale * cube.weights * (cube.observed - i_calc) for cube, i_calc, scale in frames]

    @cached_property
    def _newton(self) -> ComplexArray:
        return self.components.likely().change(self.map_estimate.parameters)

    @cached_property
    def gradient(self) -> ComplexArray:
        """∂/∂Re F + i ∂/∂Im F (U,) of Σ w (I_obs − k I_calc)², with fitted weights and nuisance parameters held.

        Exact for the sampling of the target, unless rows come from a coarser one: then theirs (urea: correlated to 0.97).
        """
        if self._rows_from is not self.target:
            return self.components.gradient(self._linear[1])
        by_g = self.target.forward.gradient(self._f, self.reweighted.nuisance, self._seeds, self._progress)
        return self.target.expansion.collect(by_g)

    @cached_property
    def _gradient(self) -> ComplexArray:
        """Step of steepest descent (U,), to the minimum of a parabola along its likely components."""
        multiplicities = to_numpy(self.target.expansion.unique.multiplicities().data())
        downhill = self.components.allowed(-self.gradient) / multiplicities
        along = self.components.likely().along(downhill)
        frames = self._linear[0]
        change = np.concatenate([frame.design[:, 3 : 3 + len(along)] @ along for frame in frames])
        residual = np.concatenate([frame.residual for frame in frames])
        return downhill * (float(residual @ change) / float(change @ change))

    @cached_property
    def _fo_fc_dynamical(self) -> ComplexArray:
        return self._by_ratio(self.fitted.calculated)

    @cached_property
    def _fo_fc_kinematical(self) -> ComplexArray:
        kinematical = self.target.scattering.with_solver("kinematical", KinematicalSolver(), _KINEMATICAL)
        kinematical = replace(kinematical, bounds=replace(kinematical.bounds, thickness=None, sigma=None))
        nuisance = kinematical.fit_nuisance(self.xray_structure, self._progress)
        return self._by_ratio(kinematical.i_calc(self.xray_structure, nuisance))

    @cached_property
    def _two_fo_fc(self) -> ComplexArray:
        return self._f_unique + 2.0 * self._fo_fc_dynamical

    def _by_ratio(self, calculated: FloatArray) -> ComplexArray:
        """F_calc (√(⟨I_obs⟩/⟨I_calc⟩) − 1) (U,) in Å, averages over frames and equivalents, rescaled to F_calc."""
        target, measured = self.target, self.target.observations.reflections
        places = target.expansion.parent[target.forward.vectors.find(measured.hkl)]
        number = len(self._f_unique)
        observed = np.bincount(places, np.maximum(measured.intensity, 0.0), number)
        summed = np.bincount(places, calculated, number)
        computed = summed > 0.0
        ratio = np.sqrt(observed[computed] / summed[computed])
        f = self._f_unique[computed]
        weights = np.abs(f) ** 2
        difference = np.zeros(number, dtype=complex)
        difference[computed] = (ratio / (float(weights @ ratio) / float(weights.sum())) - 1.0) * f
        return difference
