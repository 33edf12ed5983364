"""Preparation of a model for refinement: occupancies at their sums, atoms isotropic on request, empty atoms held."""

from __future__ import annotations

from dataclasses import replace

from cctbx.array_family import flex
from libtbx.utils import Sorry
from smtbx.refinement.constraints.adp import shared_u
from smtbx.refinement.constraints.site import shared_site

from edtbx.execution.progress import Reporter
from edtbx_cctbx.constraints.linear import U_ISO, U_STAR, LinearEquation
from edtbx_cctbx.constraints.occupancies import OccupancyGroup, check_overlap, check_scales, occupancy_notes
from edtbx_cctbx.refinement.model import RefinementModel, groups_of
from edtbx_cctbx.refinement.settings import RefinementSettings


def prepared(model: RefinementModel, settings: RefinementSettings, report: Reporter) -> RefinementModel:
    """A copy with occupancies that fulfil the refined groups, made isotropic if the settings ask for it.

    Atoms of occupancy 0 that is not refined are held: the data do not depend on them.

    Raises
    ------
    Sorry
        The occupancies asked for cannot be refined, or the gradient minimiser is given restraints.
    """
    model = model.copy()
    structure, groups = model.structure, settings.refined.occupancies
    for note in model.notes:
        report.say(note)
    if model.restraints is not None and settings.uses_gradients(structure):
        raise Sorry(
            "the gradient minimiser takes no restraints, and the model has some: take refinement.method=least_squares, or "
            "leave them out"
        )
    check_overlap(structure, groups, model.free_occupancies)
    for group in groups:
        if group.fulfil(structure):
            said = ", ".join(
                f"{structure.scatterers()[p].label} {structure.scatterers()[p].occupancy:.4f}"
                for p in _places(model, group)
            )
            report.say(f"occupancies at the start, as refinement.occupancies={group} needs them: {said}")
    equations = [*model.equations, *(each for group in groups for each in group.equations(structure))]
    check_scales(structure, _free(model, settings), equations)
    if settings.anisotropic == "none" and settings.refined.displacements:
        _make_isotropic(model, report)
    return _without_empty(model, settings, report)


def odd_occupancies(model: RefinementModel, settings: RefinementSettings) -> list[str]:
    """A line for each occupancy that was refined out of its range."""
    return occupancy_notes(model.structure, sorted(_free(model, settings)))


def _free(model: RefinementModel, settings: RefinementSettings) -> frozenset[int]:
    """Indices of the atoms whose occupancies are refined."""
    return model.free_occupancies.union(*(_places(model, group) for group in settings.refined.occupancies))


def _places(model: RefinementModel, group: OccupancyGroup) -> list[int]:
    return [place for term in group.places(model.structure) for place in term]


def _make_isotropic(model: RefinementModel, report: Reporter) -> None:
    scatterers = model.structure.scatterers()
    chosen = flex.bool(
        [s.flags.use_u_aniso() and place not in model.coded_displacements for place, s in enumerate(scatterers)]
    )
    if chosen.count(True):
        model.structure.convert_to_isotropic(selection=chosen.iselection())
        report.say(f"refinement.anisotropic=none: {chosen.count(True)} anisotropic atoms are made isotropic")


def _without_empty(model: RefinementModel, settings: RefinementSettings, report: Reporter) -> RefinementModel:
    scatterers = model.structure.scatterers()
    busy = set(_free(model, settings))
    for kind in (shared_site, shared_u):
        busy.update(place for group in groups_of(model.constraints, kind) for place in group)
    empty = [place for place, s in enumerate(scatterers) if s.occupancy == 0.0 and place not in busy]
    if not empty:
        return model
    report.say(f"atoms of occupancy 0 stay where they are: {', '.join(scatterers[place].label for place in empty)}")
    still = [LinearEquation(terms=((place, name, 1.0),)) for place in empty for name in (U_ISO, *U_STAR)]
    return replace(model, fixed=model.fixed.union(empty), equations=(*model.equations, *still))
