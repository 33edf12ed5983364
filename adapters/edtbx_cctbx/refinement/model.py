"""A structure with its constraints and restraints, as smtbx takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from cctbx import xray
from cctbx.array_family import flex
from libtbx.utils import Sorry
from smtbx.refinement.constraints.adp import shared_u, u_iso_proportional_to_pivot_u_eq
from smtbx.refinement.constraints.site import shared_site

from edtbx.arrays import FloatArray
from edtbx.measurement.experiment import Experiment
from edtbx_cctbx.arrays import parameter_jacobian
from edtbx_cctbx.constraints.linear import SITE, LinearEquation, Reparametrisation
from edtbx_cctbx.constraints.shared_sites import atoms_on_one_site, described, make_alike, merged, parts_without
from edtbx_cctbx.hydrogens.riding import riding_constraints
from edtbx_cctbx.refinement.settings import Refined, RefinementSettings
from edtbx_cctbx.structure.connectivity import Parts, connectivity, is_hydrogen, joined

SITE_STEP = 0.05
"""Typical shift of a site in Å, the unit of the minimiser's coordinates."""

U_STEP = 0.005
"""Typical shift of a mean-square displacement in Å²."""

OCCUPANCY_STEP = 0.1
"""Typical shift of an occupancy."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RefinementModel:
    """A structure with constraints and restraints on its atoms, which are named by their indices.

    Attributes
    ----------
    structure : xray.structure
    constraints : sequence
        Constraints of smtbx.
    restraints : smtbx.refinement.restraints.manager, optional
    fixed : frozenset of int
        Atoms whose sites are not refined.
    equations : tuple of LinearEquation
        Hold among parameters besides the constraints.
    free_occupancies : frozenset of int
        Atoms whose occupancies are refined.
    coded_displacements : frozenset of int
        Atoms whose displacements stay isotropic or anisotropic as they are.
    parts : Parts, optional
        Which atoms are never bonded.
    notes : tuple of str
        Lines for the user.
    """

    structure: xray.structure
    constraints: Sequence[Any] = field(default_factory=list)
    restraints: Any = None
    fixed: frozenset[int] = frozenset()
    equations: tuple[LinearEquation, ...] = ()
    free_occupancies: frozenset[int] = frozenset()
    coded_displacements: frozenset[int] = frozenset()
    parts: Parts | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, structure: xray.structure, riding: bool) -> RefinementModel:
        """A model of a structure, its hydrogen free or, where the geometry of the parent is known, riding.

        For riding, atoms are brought next to those they are bonded to. Atoms on one site share position and displacement.
        """
        model = cls(structure=structure).with_shared(on_one_site=True)
        return model.with_riding() if riding else model

    def with_riding(self, movable: bool = True) -> RefinementModel:
        """A model with riding constraints on hydrogen that has none; ``movable`` atoms go next to those they bond to."""
        hydrogen = {place for place, scatterer in enumerate(self.structure.scatterers()) if is_hydrogen(scatterer)}
        held = set(self.fixed) | {place for e in self.equations for place, name, _ in e.terms if name in SITE}
        held |= {
            place for constraint in self.constraints for place in getattr(constraint, "constrained_site_indices", ())
        }
        held |= {place for group in groups_of(self.constraints, shared_site) for place in group}
        if hydrogen <= held:
            return self
        structure = joined(self.structure, self.parts) if movable else self.structure
        busy = set(self.coded_displacements) | set(_multiples(self.constraints))
        busy |= {place for group in groups_of(self.constraints, shared_u) for place in group}
        riding = [
            constraint
            for constraint in riding_constraints(structure, self.parts, without=frozenset(held & hydrogen))
            if busy.isdisjoint(_multiples([constraint]))
        ]
        return replace(self, structure=structure, constraints=[*self.constraints, *riding])

    def with_shared(
        self,
        sites: Sequence[Sequence[int]] = (),
        displacements: Sequence[Sequence[int]] = (),
        on_one_site: bool = False,
    ) -> RefinementModel:
        """A model in which atoms share their sites or displacements.

        Parameters
        ----------
        sites, displacements : sequences of sequences of int
            Groups of atoms that share a site, and a displacement.
        on_one_site : bool
            Whether atoms that are on one site already share it, too, unless the model constrains them otherwise.

        Raises
        ------
        Sorry
            An atom that is to share its site rides on a parent.
        """
        structure, notes = self.structure, list(self.notes)
        sites = [*groups_of(self.constraints, shared_site), *sites]
        displacements = [*groups_of(self.constraints, shared_u), *displacements]
        if on_one_site:
            structure, groups = atoms_on_one_site(structure)
            told = {place for group in sites for place in group} | set(self.fixed)
            groups = [group for group in groups if told.isdisjoint(group)]
            notes += described(structure, groups)
            sites = [*sites, *groups]
            displacements = [*displacements, *(g for g in groups if self.coded_displacements.isdisjoint(g))]
        sites, displacements = merged(sites), merged(displacements)
        if not sites and not displacements:
            return self
        label = [scatterer.label for scatterer in structure.scatterers()]
        for constraint in self.constraints:
            for place in set(getattr(constraint, "constrained_site_indices", ())) & {
                p for group in sites for p in group
            }:
                raise Sorry(
                    f"{label[place]} shares its site with another atom and rides on its parent: leave out one of them"
                )
        shared = {place for group in displacements for place in group}
        left_out = [place for place in _multiples(self.constraints) if place in shared]
        if left_out:
            notes.append(
                f"{', '.join(label[p] for p in left_out)}: shared displacements, no multiples of those of parents"
            )
        rest = [
            constraint
            for constraint in self.constraints
            if not isinstance(constraint, shared_site | shared_u) and shared.isdisjoint(_multiples([constraint]))
        ]
        structure = structure.deep_copy_scatterers()
        make_alike(structure, displacements)
        return replace(
            self,
            structure=structure,
            constraints=[*(shared_site(g) for g in sites), *(shared_u(g) for g in displacements), *rest],
            fixed=self.fixed.union(*(group for group in sites if not self.fixed.isdisjoint(group))),
            parts=self.parts or parts_without(structure, frozenset(p for group in sites for p in group[1:])),
            notes=tuple(notes),
        )

    def copy(self) -> RefinementModel:
        """A copy with its own atoms."""
        return replace(self, structure=self.structure.deep_copy_scatterers())

    def reparametrisation(self, refined: Refined) -> Any:
        """Reparametrisation of smtbx for the refined kinds of parameters; puts riding atoms in their places."""
        return reparametrisation_of(
            self.structure,
            refined,
            self.constraints,
            self.fixed,
            equations=self.equations,
            free_occupancies=self.free_occupancies,
            parts=self.parts,
        )


def groups_of(constraints: Sequence[Any], kind: Any) -> list[tuple[int, ...]]:
    """Indices of the atoms of each constraint of a kind, shared sites or shared displacements."""
    return [tuple(each.indices) for each in constraints if isinstance(each, kind)]


def _multiples(constraints: Sequence[Any]) -> list[int]:
    """Indices of the atoms whose displacements are multiples of those of others."""
    return [each.u_iso_scatterer_idx for each in constraints if isinstance(each, u_iso_proportional_to_pivot_u_eq)]


def reparametrisation_of(
    structure: xray.structure,
    refined: Refined,
    held: Sequence[Any] = (),
    fixed: frozenset[int] = frozenset(),
    *,
    equations: Sequence[LinearEquation] = (),
    free_occupancies: frozenset[int] = frozenset(),
    parts: Parts | None = None,
) -> Any:
    """Reparametrisation of smtbx with the constraints of site symmetry and those given; sets the flags of the atoms.

    Parameters
    ----------
    structure : xray.structure
    refined : Refined
        Kinds of parameters that are refined.
    held : sequence
        Constraints of smtbx.
    fixed, free_occupancies : frozensets of int
        Atoms whose sites are not refined, and those whose occupancies are.
    equations : sequence of LinearEquation
        Hold besides the constraints.
    parts : Parts, optional
        Which atoms are never bonded.
    """
    of_groups = {place for group in refined.occupancies for term in group.places(structure) for place in term}
    if not refined.sites:  # constraints such as those of riding hydrogen would move sites all the same
        held = [constraint for constraint in held if not getattr(constraint, "constrained_site_indices", ())]
    for place, scatterer in enumerate(structure.scatterers()):
        scatterer.flags.set_grads(False)
        scatterer.flags.set_grad_site(refined.sites and place not in fixed)
        scatterer.flags.set_grad_u_iso(refined.displacements and scatterer.flags.use_u_iso())
        scatterer.flags.set_grad_u_aniso(refined.displacements and scatterer.flags.use_u_aniso())
        scatterer.flags.set_grad_occupancy(place in of_groups or place in free_occupancies)
    rp = Reparametrisation(
        structure,
        held,
        [*equations, *(constraint for group in refined.occupancies for constraint in group.equations(structure))],
        connectivity_table=connectivity(structure, parts),
        temperature=20,
    )
    rp.linearise()
    rp.store()
    return rp


def usual_shifts(structure: xray.structure, reparametrisation: Any) -> FloatArray:
    """Typical shifts (P,) of the independent parameters: no atom moves by more than the steps above."""
    reparametrisation.linearise()
    jacobian = parameter_jacobian(reparametrisation)
    return np.asarray(1.0 / np.max(np.abs(jacobian) / _steps(structure), axis=1))


def _steps(structure: xray.structure) -> FloatArray:
    """Typical shifts of the atoms' parameters in fractional units, in the order of smtbx."""
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


def make_anisotropic(model: RefinementModel, hydrogen: bool = False) -> int:
    """Make atoms anisotropic, hydrogen only on request, in place; the number of atoms changed.

    Atoms of ``coded_displacements`` stay isotropic, and with them those that share their displacements.
    """
    scatterers = model.structure.scatterers()
    kept = {
        place
        for place, scatterer in enumerate(scatterers)
        if scatterer.flags.use_u_iso()
        and (place in model.coded_displacements or (not hydrogen and is_hydrogen(scatterer)))
    }
    for group in groups_of(model.constraints, shared_u):
        if not kept.isdisjoint(group):
            kept |= set(group)
    chosen = flex.bool(
        [scatterer.flags.use_u_iso() and place not in kept for place, scatterer in enumerate(scatterers)]
    )
    model.structure.convert_to_anisotropic(selection=chosen)
    return chosen.count(True)


def allows_anisotropic(structure: xray.structure, experiment: Experiment, settings: RefinementSettings) -> bool:
    """Whether anisotropic displacements are asked for, and there are enough rows for them."""
    if settings.anisotropic == "none" or not settings.refined.displacements:
        return False
    heavy = sum(not is_hydrogen(s) for s in structure.scatterers())
    enough = len(experiment.reflections) / 3 > settings.rows_per_parameter * (
        9 * heavy + 4 * len(structure.scatterers())
    )
    return settings.anisotropic == "all" or enough
