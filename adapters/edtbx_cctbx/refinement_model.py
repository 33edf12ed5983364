"""A structure with what holds its atoms: constraints and restraints, which belong to smtbx."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import smtbx.utils
from cctbx import xray
from cctbx.array_family import flex
from smtbx.refinement import constraints

from edtbx.experiment import Experiment, FloatArray
from edtbx_cctbx.hydrogens import is_hydrogen, joined, riding_constraints

SITE_STEP = 0.05
"""A usual shift of a site in Å, by which a minimiser measures."""

U_STEP = 0.005
"""A usual shift of a mean-square displacement in Å²."""

OCCUPANCY_STEP = 0.1
"""A usual shift of an occupancy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined:
    """Which kinds of parameters move."""

    sites: bool = True
    displacements: bool = True
    occupancies: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What moves, how, and for how long.

    ``method`` is "least_squares", "gradient", or "auto": least squares up to ``most_parameters``. ``anisotropic`` is "auto"
    (atoms other than H where there are at least ``rows_per_parameter`` rows a parameter), "all" or "none". ``cycles``
    bounds the cycles at the fine level; least squares ends where no shift exceeds ``shift_over_su`` s.u.s, the gradient
    minimiser where no site moves by more than ``site_tolerance`` in Å. ``weighting`` is the a of SHELX's weights; None
    chooses it by a flat analysis of variance; ``loss`` is one of :data:`edtbx.loss.LOSSES`.
    ``place_hydrogens`` adds hydrogen that is missing, ``riding`` lets it, and what is there, ride on its parents.
    ``instructions`` are restraints as SHELX writes them, for a model that is no :class:`RefinementModel` yet.
    Every ``free_frames``-th frame is left out, and serves R(free).
    """

    refined: Refined = field(default_factory=Refined)
    method: str = "auto"
    most_parameters: int = 600
    anisotropic: str = "auto"
    rows_per_parameter: float = 10.0
    cycles: int = 10
    shift_over_su: float = 0.01
    site_tolerance: float = 0.002
    weighting: float | None = 0.01
    loss: str = "cauchy"
    place_hydrogens: bool = False
    riding: bool = True
    instructions: Sequence[str] = ()
    free_frames: int | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RefinementModel:
    """A structure, constraints on it and restraints (``smtbx.refinement.restraints.manager``), of the same atoms.

    ``fixed`` are the places of atoms that stay where they are.
    """

    structure: xray.structure
    constraints: Sequence[Any] = field(default_factory=list)
    restraints: Any = None
    fixed: frozenset[int] = frozenset()

    @classmethod
    def of(cls, structure: xray.structure, riding: bool) -> RefinementModel:
        """A structure with free hydrogen, or with hydrogen that rides where the geometry says how.

        For riding, atoms are brought next to those they are bonded to.
        """
        if not riding or not any(is_hydrogen(scatterer) for scatterer in structure.scatterers()):
            return cls(structure=structure)
        structure = joined(structure)
        return cls(structure=structure, constraints=riding_constraints(structure))

    def copy(self) -> RefinementModel:
        """The same with atoms of its own."""
        return replace(self, structure=self.structure.deep_copy_scatterers())

    def reparametrisation(self, refined: Refined) -> Any:
        """smtbx's, which puts riding atoms in their places."""
        return reparametrisation_of(self.structure, refined, self.constraints, self.fixed)


def reparametrisation_of(
    structure: xray.structure, refined: Refined, held: Sequence[Any] = (), fixed: frozenset[int] = frozenset()
) -> Any:
    """smtbx's, with the constraints of site symmetry and those given; what moves is set in the flags of the atoms."""
    for place, scatterer in enumerate(structure.scatterers()):
        scatterer.flags.set_grads(False)
        scatterer.flags.set_grad_site(refined.sites and place not in fixed)
        scatterer.flags.set_grad_u_iso(refined.displacements and scatterer.flags.use_u_iso())
        scatterer.flags.set_grad_u_aniso(refined.displacements and scatterer.flags.use_u_aniso())
        scatterer.flags.set_grad_occupancy(refined.occupancies)
    rp = constraints.reparametrisation(
        structure=structure,
        constraints=list(held),
        connectivity_table=smtbx.utils.connectivity_table(structure),
        temperature=20,
    )
    rp.linearise()
    rp.store()
    return rp


def usual_shifts(structure: xray.structure, reparametrisation: Any) -> FloatArray:
    """Usual shifts (P,) of the independent parameters: those that move one atom by the steps above, others less."""
    reparametrisation.linearise()
    jacobian = reparametrisation.jacobian_transpose_matching_grad_fc().as_dense_matrix().as_numpy_array()
    return np.asarray(1.0 / np.max(np.abs(jacobian) / _steps(structure), axis=1))


def _steps(structure: xray.structure) -> FloatArray:
    """Usual shifts of the atoms' parameters in fractional units."""
    cell = structure.unit_cell()
    site = [SITE_STEP / length for length in cell.parameters()[:3]]
    recip = cell.reciprocal_parameters()[:3]
    u_star = [U_STEP * recip[i] * recip[j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
    steps: list[float] = []
    for scatterer in structure.scatterers():
        steps.extend(site if scatterer.flags.grad_site() else ())
        steps.extend([U_STEP] if scatterer.flags.grad_u_iso() else ())
        steps.extend(u_star if scatterer.flags.grad_u_aniso() else ())
        steps.extend([OCCUPANCY_STEP] if scatterer.flags.grad_occupancy() else ())
    return np.array(steps)


def make_anisotropic(structure: xray.structure, hydrogen: bool = False) -> int:
    """Give anisotropic displacements to the atoms (hydrogen atoms only on request); how many were turned."""
    chosen = flex.bool(
        [
            scatterer.flags.use_u_iso() and (hydrogen or not is_hydrogen(scatterer))
            for scatterer in structure.scatterers()
        ]
    )
    structure.convert_to_anisotropic(selection=chosen)
    return chosen.count(True)


def allows_anisotropic(structure: xray.structure, experiment: Experiment, schedule: Schedule) -> bool:
    """Whether atoms are to become anisotropic, and there are rows enough for it."""
    if schedule.anisotropic == "none" or not schedule.refined.displacements:
        return False
    heavy = sum(not is_hydrogen(s) for s in structure.scatterers())
    enough = len(experiment.reflections) / 3 > schedule.rows_per_parameter * (
        9 * heavy + 4 * len(structure.scatterers())
    )
    return schedule.anisotropic == "all" or enough
