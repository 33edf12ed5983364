"""Independent parameters of a structure: sites, displacements and occupancies under the symmetry of their sites.

The constraints are those of smtbx; this module orders gradients of a target and shifts of a minimiser as smtbx does.
"""

from __future__ import annotations

import numpy as np
from cctbx import xray
from cctbx.array_family import flex
from smtbx.structure_factors import direct

from edtbx.arrays import FloatArray, IntArray
from edtbx.intensities.nuisance import at_best_scale, intensity_weights
from edtbx_cctbx.arrays import from_numpy, parameter_jacobian, to_numpy
from edtbx_cctbx.refinement.model import RefinementModel, usual_shifts
from edtbx_cctbx.refinement.settings import Refined
from edtbx_cctbx.targets.target import Target

_WEAK = 0.02
"""|F|², relative to its mean, below which many-beam intensities no longer follow |F|²."""


class StructureParameters:
    """The P independent parameters of a structure, in units of their typical shifts; ``move`` changes the structure."""

    def __init__(self, model: RefinementModel, refined: Refined) -> None:
        self.structure = model.structure
        self._model, self._refined = model, refined
        self._start = model.structure.scatterers().deep_copy()
        self._rp = model.reparametrisation(refined)
        self.scale = usual_shifts(model.structure, self._rp)
        self._position = np.zeros(len(self.scale))

    def __len__(self) -> int:
        return len(self.scale)

    def move(self, position: FloatArray) -> None:
        """Set the structure to a position (P,), relative to the start."""
        if self._rp.clipped:
            self._restart()
        shift = (position - self._position) * self.scale
        self._rp.apply_shifts(from_numpy(shift))
        self._rp.linearise()
        self._rp.store()
        self._position = np.array(position, dtype=float)

    def _restart(self) -> None:
        """Set the structure back to the start, since shortened shifts do not add up to its position."""
        for atom, start in zip(self.structure.scatterers(), self._start, strict=True):
            atom.site, atom.u_iso, atom.u_star, atom.occupancy = start.site, start.u_iso, start.u_star, start.occupancy
        self._rp = self._model.reparametrisation(self._refined)
        self._position = np.zeros(len(self.scale))

    def value_and_gradient(self, target: Target) -> tuple[float, FloatArray]:
        """Value and gradient (P,) of the target at the current structure."""
        f_calc = target.f_obs().structure_factors_from_scatterers(
            xray_structure=self.structure, algorithm="direct", cos_sin_table=False
        )
        result = target(f_calc.f_calc(), True)
        by_atom = self._by_atom(target, result.derivatives())
        jacobian = parameter_jacobian(self._rp)
        return result.target(), self.scale * (jacobian @ by_atom)

    def curvature(self, target: Target) -> FloatArray:
        """Estimate (P, P) of the second derivatives of the target, by Gauss-Newton with kinematical derivatives.

        ∂I_calc/∂p ≈ I_calc ∂ln|F|²/∂p, damped for weak F, with the scale of each frame projected out. It only scales
        steps; the gradient is exact.
        """
        observations = target.observations
        measured = observations.reflections
        hkl, number = np.unique(measured.hkl, axis=0, return_inverse=True)
        slopes = self._logarithmic_slopes(hkl)[number.ravel()]
        calculated = target.scattering.i_calc(self.structure, target.nuisance)
        weights = intensity_weights(measured.intensity, measured.sigma)
        total = np.zeros((len(self), len(self)))
        columns = (observations.split(column) for column in (calculated, slopes, weights))
        for calc, frame_slopes, own in zip(*columns, strict=True):
            total += at_best_scale(calc, calc[:, None] * frame_slopes, own)
        return np.asarray(2.0 * total / float(weights @ measured.intensity**2))

    def _logarithmic_slopes(self, hkl: IntArray) -> FloatArray:
        """∂ln|F|²/∂p (M, P) of the given indices."""
        self.structure.scattering_type_registry()
        linear = direct.f_calc_modulus_squared(self.structure)
        jacobian = parameter_jacobian(self._rp)
        squares, slopes = np.empty(len(hkl)), np.empty((len(hkl), len(self)))
        for n, h in enumerate(hkl.tolist()):
            linear.linearise(tuple(h))
            squares[n] = linear.observable
            slopes[n] = self.scale * (jacobian @ to_numpy(linear.grad_observable))
        return np.asarray(slopes / (squares + _WEAK * squares.mean())[:, None])

    def _by_atom(self, target: Target, derivatives: flex.complex_double) -> FloatArray:
        """Derivatives of the target by site, displacement and occupancy of every atom, in the order of smtbx."""
        gradients = xray.structure_factors.gradients(miller_set=target.f_obs(), cos_sin_table=False)(
            xray_structure=self.structure,
            u_iso_refinable_params=None,
            miller_set=target.f_obs(),
            d_target_d_f_calc=derivatives,
            n_parameters=0,
            algorithm="direct",
        )
        # cctbx leaves the arrays of kinds that nothing asks for empty
        kinds = (
            (lambda s: s.flags.grad_site(), gradients.d_target_d_site_frac),
            (lambda s: s.flags.grad_u_iso(), gradients.d_target_d_u_iso),
            (lambda s: s.flags.grad_u_aniso(), gradients.d_target_d_u_star),
            (lambda s: s.flags.grad_occupancy(), gradients.d_target_d_occupancy),
        )
        scatterers = self.structure.scatterers()
        wanted = [(asked, values()) for asked, values in kinds if any(asked(s) for s in scatterers)]
        return np.concatenate(
            [np.atleast_1d(values[i]) for i, s in enumerate(scatterers) for asked, values in wanted if asked(s)]
        )
