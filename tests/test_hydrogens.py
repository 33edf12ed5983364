"""Hydrogen by geometry: which atoms get how many, where these sit, and that they ride there."""

import io
from pathlib import Path

import numpy as np
import pytest
from cctbx import crystal, xray
from cctbx.array_family import flex

from edtbx_cctbx import read_model, set_electron_form_factors
from edtbx_cctbx.hydrogens.placement import place_hydrogens
from edtbx_cctbx.hydrogens.riding import NUCLEAR, parents, riding_constraints
from edtbx_cctbx.refinement.model import RefinementModel, usual_shifts
from edtbx_cctbx.refinement.settings import Refined
from edtbx_cctbx.structure.connectivity import is_hydrogen, joined

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "example.cif"


def alanine():
    return read_model(EXAMPLE, log=io.StringIO())


def without_hydrogen(structure):
    bare = structure.select(~structure.element_selection("H"))
    set_electron_form_factors(bare)
    return bare


def in_a_box(*atoms):
    """A molecule in a large cell without symmetry, from elements and sites in Å."""
    symmetry = crystal.symmetry(unit_cell=(12, 12, 12, 90, 90, 90), space_group_symbol="P 1")
    scatterers = [
        xray.scatterer(f"{element}{n + 1}", tuple((np.array(site) + 4.0) / 12.0), u=0.02, scattering_type=element)
        for n, (element, *site) in enumerate(atoms)
    ]
    structure = xray.structure(crystal.special_position_settings(symmetry), flex.xray_scatterer(scatterers))
    set_electron_form_factors(structure)
    return structure


def urea():
    """With C and O in another asymmetric unit than the N that they are bonded to."""
    symmetry = crystal.symmetry(unit_cell=(5.578, 5.578, 4.686, 90, 90, 90), space_group_symbol="P -4 21 m")
    scatterers = [
        xray.scatterer("N1", (0.3551, 0.8551, 0.3220), u=0.02, scattering_type="N"),
        xray.scatterer("O1", (0.5, 0.0, -0.0960), u=0.02, scattering_type="O"),
        xray.scatterer("C1", (0.5, 0.0, 0.1710), u=0.02, scattering_type="C"),
    ]
    structure = xray.structure(crystal.special_position_settings(symmetry), flex.xray_scatterer(scatterers))
    set_electron_form_factors(structure)
    return structure


def distances_to_parents(structure):
    cell, scatterers = structure.unit_cell(), structure.scatterers()
    return {
        scatterers[h].label: (
            scatterers[p.place].element_symbol(),
            cell.distance(scatterers[p.place].site, scatterers[h].site),
        )
        for p in parents(structure)
        for h in p.hydrogen
    }


def test_riding_hydrogen_goes_to_nuclear_distances_and_stays_there():
    before = alanine()
    model = RefinementModel.of(alanine(), riding=True)
    rp = model.reparametrisation(Refined())
    assert all(d == pytest.approx(NUCLEAR[e], abs=1e-6) for e, d in distances_to_parents(model.structure).values())
    moved = (model.structure.sites_cart() - before.sites_cart()).norms().as_numpy_array()
    assert 0.0 < moved.max() < 0.03
    rng = np.random.default_rng(1)
    number = rp.jacobian_transpose_matching_grad_fc().n_rows
    assert number == 26  # 6 times 4, and the turns of two groups
    rp.apply_shifts(flex.double(0.01 * rng.normal(size=number)))
    rp.linearise()
    rp.store()
    assert all(d == pytest.approx(NUCLEAR[e], abs=1e-6) for e, d in distances_to_parents(model.structure).values())
    scatterers = model.structure.scatterers()
    for parent in parents(model.structure):
        u = scatterers[parent.place].u_iso
        for h in parent.hydrogen:
            assert scatterers[h].u_iso == pytest.approx((1.2 if len(parent.hydrogen) == 1 else 1.5) * u)


def test_riding_hydrogen_stays_where_sites_are_held():
    model = RefinementModel.of(alanine(), riding=True)
    before = model.structure.sites_cart().as_double().as_numpy_array()
    rp = model.reparametrisation(Refined(sites=False))
    shifts = usual_shifts(model.structure, rp)
    assert len(shifts) == rp.n_independents == 6  # displacements of the others; those of hydrogen follow
    rp.apply_shifts(flex.double(shifts))
    rp.linearise()
    rp.store()
    assert np.array_equal(model.structure.sites_cart().as_double().as_numpy_array(), before)
    scatterers = model.structure.scatterers()
    for parent in parents(model.structure):
        ratio = {round(scatterers[h].u_iso / scatterers[parent.place].u_iso, 6) for h in parent.hydrogen}
        assert ratio <= {1.2, 1.5}


def test_the_order_of_hydrogen_does_not_matter():
    structure = alanine()
    turned = structure.select(flex.size_t([*range(6), 6, 8, 7, 9, 11, 10, 12]))
    set_electron_form_factors(turned)
    for each in (structure, turned):
        model = RefinementModel.of(each, riding=True).copy()
        model.reparametrisation(Refined())
        moved = (model.structure.sites_cart() - each.sites_cart()).norms().as_numpy_array()
        assert moved.max() < 0.03


def test_hydrogen_that_is_elsewhere_is_left_alone():
    structure = alanine()
    label, away = "H1", np.array([0.0, 0.0, 0.9])
    place = [s.label for s in structure.scatterers()].index(label)
    cell, scatterer = structure.unit_cell(), structure.scatterers()[place]
    scatterer.site = cell.fractionalize(tuple(np.array(cell.orthogonalize(scatterer.site)) + away))
    held = {h for each in riding_constraints(structure) for h in getattr(each, "constrained_site_indices", ())}
    assert place not in held
    assert len(held) == 6


@pytest.mark.parametrize("made", [alanine, urea])
def test_joined_atoms_are_the_same_crystal(made):
    structure = made()
    structure.scatterers()[0].convert_to_anisotropic(structure.unit_cell())
    u = np.array(structure.scatterers()[0].u_star)
    u[0] *= 1.3
    structure.scatterers()[0].u_star = structure.site_symmetry_table().get(0).average_u_star(tuple(u))
    together = joined(structure)
    pair = (each.structure_factors(d_min=0.7, algorithm="direct").f_calc() for each in (structure, together))
    f, g = (each.data().as_numpy_array() for each in pair)
    np.testing.assert_allclose(g, f, atol=1e-10)
    cell = together.unit_cell()
    first = together.scatterers()[0]
    assert min(cell.distance(first.site, other.site) for other in together.scatterers()[1:]) < 1.6


def test_missing_hydrogen_comes_back_where_it_was():
    truth = alanine()
    placed, unsure = place_hydrogens(without_hydrogen(truth))
    assert unsure == []
    assert len({s.label for s in placed.scatterers()}) == 13
    cell = truth.unit_cell()
    there = [s.site for s in truth.scatterers() if is_hydrogen(s)]
    for scatterer in placed.scatterers():
        if is_hydrogen(scatterer):
            assert min(cell.distance(scatterer.site, site) for site in there) < 0.03
    again, _ = place_hydrogens(placed)
    assert again.scatterers().size() == 13


def test_hydrogen_of_a_molecule_on_a_symmetry_element_lies_in_its_plane():
    placed, unsure = place_hydrogens(urea())
    assert unsure == []
    model = RefinementModel.of(placed, riding=True).copy()
    model.reparametrisation(Refined())
    nitrogen, oxygen, carbon, *hydrogen = (np.array(s.site) for s in model.structure.scatterers())
    assert len(hydrogen) == 2
    cell = model.structure.unit_cell()
    for site in hydrogen:
        assert cell.distance(tuple(nitrogen), tuple(site)) == pytest.approx(1.03)
        assert cell.angle(tuple(carbon), tuple(nitrogen), tuple(site)) == pytest.approx(120.0, abs=0.1)
        assert site[1] - site[0] == pytest.approx(0.5, abs=1e-6)  # the mirror
    # neutron diffraction: one of them 2.4 Å from the oxygen of its own molecule, the other one 3.1 Å
    apart = sorted(cell.distance(tuple(oxygen), tuple(site)) for site in hydrogen)
    assert apart == pytest.approx([2.42, 3.10], abs=0.15)


ACID = [("C", 0, 0, 0), ("C", 1.50, 0, 0), ("O", 2.13, 1.04, 0), ("O", 2.13, -1.15, 0)]
CARBOXYLATE = [("C", 0, 0, 0), ("C", 1.52, 0, 0), ("O", 2.15, 1.09, 0), ("O", 2.14, -1.10, 0)]
METHYLAMINE = [("C", 0, 0, 0), ("N", 1.47, 0, 0)]
AMMONIUM = [*CARBOXYLATE, ("C", 0, 4, 3), ("N", 1.47, 4, 3)]
RING = [("C", 1.39 * np.cos(t), 1.39 * np.sin(t), 0) for t in np.arange(6) * np.pi / 3]
PYRIDINE = [("N", 1.43, 0, 0), *RING[1:]]  # 117° at N
NITRILE = [("C", 0, 0, 0), ("C", 1.46, 0, 0), ("N", 2.61, 0, 0)]
AMIDE = [("C", 0, 0, 0), ("C", 1.51, 0, 0), ("O", 2.13, 1.06, 0), ("N", 2.19, -1.15, 0), ("C", 3.64, -1.2, 0)]

UREA_STRETCHED = [("C", 0, 0, 0), ("O", 1.29, 0, 0), ("N", -0.675, 1.169, 0), ("N", -0.675, -1.169, 0)]
PHENOL = [*RING, ("O", 2.75, 0, 0)]


@pytest.mark.parametrize(
    ("atoms", "expected"),
    [
        (UREA_STRETCHED, {"N3": 2, "N4": 2}),  # C=O as long as a model without hydrogen makes it
        (PHENOL, {**{f"C{n}": 1 for n in range(2, 7)}, "O7": 1}),
        (ACID, {"C1": 3, "O4": 1}),
        (CARBOXYLATE, {"C1": 3}),
        (METHYLAMINE, {"C1": 3, "N2": 2}),
        (AMMONIUM, {"C1": 3, "C5": 3, "N6": 3}),
        (RING, {f"C{n}": 1 for n in range(1, 7)}),
        (PYRIDINE, {f"C{n}": 1 for n in range(2, 7)}),
        (NITRILE, {"C1": 3}),
        (AMIDE, {"C1": 3, "N4": 1, "C5": 3}),
    ],
)
def test_geometry_tells_how_many(atoms, expected):
    placed, unsure = place_hydrogens(in_a_box(*atoms))
    labels = [s.label for s in placed.scatterers()]
    assert {labels[p.place]: len(p.hydrogen) for p in parents(placed)} == expected
    assert unsure == []


def test_water_is_named_not_guessed():
    placed, unsure = place_hydrogens(in_a_box(*ACID, ("O", 5, 5, 5)))
    assert unsure == ["O5"]
    assert sum(is_hydrogen(s) for s in placed.scatterers()) == 4


def test_a_hydroxyl_points_to_an_acceptor():
    phenol = [*RING, ("O", 2.75, 0, 0)]
    acceptor = np.array([3.6, 0.0, 2.6])
    placed, _ = place_hydrogens(in_a_box(*phenol, ("N", *acceptor)))
    cell = placed.unit_cell()
    hydrogen = next(s for s in placed.scatterers() if s.label == "H7")
    oxygen = placed.scatterers()[6]
    acceptor_site = placed.scatterers()[7].site
    assert cell.angle(oxygen.site, hydrogen.site, acceptor_site) > 140.0
