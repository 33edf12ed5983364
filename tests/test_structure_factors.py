"""Structure factors of all g from those of the asymmetric unit, and the way back."""

import numpy as np
import plain_reference
import pytest
from cctbx import crystal, sgtbx
from cctbx.array_family import flex
from cctbx.development import random_structure

from edtbx.intensities.potential import GVectors
from edtbx_cctbx.structure.form_factors import set_electron_form_factors
from edtbx_cctbx.structure.structure_factors import Expansion, g_vectors, indices_of, miller_set

GROUPS = (
    "P 1",
    "P -1",
    "P 1 21 1",
    "C 1 2/c 1",
    "I 1 a 1",
    "P 1 1 21",
    "P 21 21 21",
    "F d d 2",
    "A b a 2",
    "P b c a",
    "I 41/a :1",
    "P 41 21 2",
    "P 43 21 2",
    "P -4 21 m",
    "I -4 2 d",
    "P 31",
    "P 32 2 1",
    "R 3 c :H",
    "R -3 :R",
    "P 61",
    "P 63/m m c",
    "P 21 3",
    "F d -3 m :2",
    "I a -3 d",
)


def structure_in(symbol, seed=0, elements=("C", "N", "O"), volume=30.0, **kwargs):
    """A random structure with anisotropic and isotropic atoms, some on special positions."""
    flex.set_random_seed(seed)
    random_structure.random.seed(seed)
    kwargs = {
        "general_positions_only": False,
        "use_u_iso": True,
        "random_u_iso": True,
        "random_occupancy": True,
        **kwargs,
    }
    structure = random_structure.xray_structure(
        space_group_info=sgtbx.space_group_info(symbol),
        elements=elements,
        volume_per_atom=volume,
        min_distance=1.2,
        random_u_iso_scale=0.02,
        random_u_iso_min=0.01,
        random_u_cart_scale=0.02,
        **kwargs,
    )
    first = structure.scatterers()[0]
    first.convert_to_anisotropic(structure.unit_cell())
    operations = structure.site_symmetry_table().get(0)
    stretched = [x * y for x, y in zip(first.u_star, (1.5, 0.7, 1.2, 1.0, 0.8, 1.1), strict=True)]
    first.u_star = operations.average_u_star(stretched)
    set_electron_form_factors(structure)
    return structure


def small_reach(symmetry, count=150):
    """g_max that gives some hundred g vectors whatever the size of the cell."""
    return 0.5 * (3 * count / (4 * np.pi * symmetry.unit_cell().volume())) ** (1 / 3)


@pytest.mark.parametrize("symbol", GROUPS)
def test_expansion_against_direct_summation(symbol):
    structure = structure_in(symbol)
    vectors = g_vectors(structure, small_reach(structure, 900))
    found = Expansion.of(structure, vectors).structure_factors(structure)
    chosen = np.random.default_rng(0).choice(len(vectors.hkl), 25, replace=False)
    chosen = np.concatenate([chosen, vectors.find(np.zeros((1, 3), dtype=np.int64))])
    expected = [plain_reference.structure_factor(structure, h) for h in vectors.hkl[chosen]]
    # cctbx sums in doubles: 1e-13 of F(000) leaves a wide margin
    np.testing.assert_allclose(found[chosen], expected, atol=1e-11 * np.abs(expected[-1]))


@pytest.mark.parametrize("symbol", GROUPS)
def test_collect_is_the_adjoint_of_expand(symbol):
    """Σ Re(conj(D) expand(f)) = Σ Re(conj(collect(D)) f)."""
    symmetry = structure_in(symbol)
    vectors = g_vectors(symmetry, small_reach(symmetry, 300))
    expansion = Expansion.of(symmetry, vectors)
    rng = np.random.default_rng(1)
    f = rng.normal(size=(expansion.unique.size(), 2)) @ [1, 1j]
    d = rng.normal(size=(len(vectors.hkl), 2)) @ [1, 1j]
    left = np.sum((d.conj() * expansion.expand(f)).real)
    right = np.sum((expansion.collect(d).conj() * f).real)
    assert right == pytest.approx(left, rel=1e-12, abs=1e-11)


@pytest.mark.parametrize("symbol", GROUPS)
def test_friedel_mates_and_extinctions(symbol):
    structure = structure_in(symbol)
    vectors = g_vectors(structure, small_reach(structure, 300))
    expansion = Expansion.of(structure, vectors)
    f = expansion.structure_factors(structure)
    np.testing.assert_allclose(f[vectors.find(-vectors.hkl)], f.conj(), atol=1e-11 * np.abs(f).max())
    absent = miller_set(structure, vectors.hkl).sys_absent_flags().data().as_numpy_array()
    np.testing.assert_array_equal(expansion.parent < 0, absent)
    assert np.all(f[absent] == 0.0)
    assert f[vectors.find(np.zeros(3, dtype=np.int64))].imag == 0.0


@pytest.mark.parametrize(
    ("symbol", "rule"),
    [
        ("P 21 21 21", lambda h, k, l: True),
        ("C 1 2/c 1", lambda h, k, l: (h + k) % 2 == 0),
        ("I -4 2 d", lambda h, k, l: (h + k + l) % 2 == 0),
        ("F d d 2", lambda h, k, l: h % 2 == k % 2 == l % 2),
        ("R 3 c :H", lambda h, k, l: (-h + k + l) % 3 == 0),
    ],
)
def test_g_vectors_are_all_that_the_centring_allows(symbol, rule):
    """Beams extinguished by screw axes and glide planes stay: waves reach them by multiple scattering."""
    structure = structure_in(symbol)
    g_max = small_reach(structure, 300)
    vectors = g_vectors(structure, g_max)
    inverse = np.linalg.inv(plain_reference.metric(structure.unit_cell().parameters()))
    span = range(-12, 13)
    expected = {
        (h, k, l)
        for h in span
        for k in span
        for l in span
        if rule(h, k, l) and np.array([h, k, l]) @ inverse @ np.array([h, k, l]) <= (2 * g_max) ** 2
    }
    assert max(abs(x) for h in expected for x in h) < 12
    assert {tuple(h) for h in vectors.hkl.tolist()} == expected
    assert len(vectors.hkl) == len(expected)


def test_a_coupling_matrix_takes_differences_of_beams_and_its_adjoint_collects_them():
    structure = structure_in("C 1 2/c 1")
    vectors = g_vectors(structure, 0.6)
    lengths = np.sqrt([structure.unit_cell().d_star_sq(tuple(h)) for h in vectors.hkl.tolist()])
    beams = vectors.hkl[lengths <= 0.6]
    table = vectors.coupling(beams, np.arange(len(vectors.hkl)) + 0j).real.astype(int)
    for row in (0, 3, len(beams) - 1):
        for column in (0, 5, 9):
            assert vectors.hkl[table[row, column]].tolist() == (beams[column] - beams[row]).tolist()
    rng = np.random.default_rng(1)
    values, bar = (rng.normal(size=n) + 1j * rng.normal(size=n) for n in (len(vectors.hkl), table.size))
    forward = np.vdot(bar, vectors.coupling(beams, values).ravel())
    backward = np.vdot(vectors.collect(beams, bar.reshape(table.shape)), values)
    assert forward == pytest.approx(backward, rel=1e-12)
    assert vectors.find(np.array([[1, 0, 0], [99, 0, 0], [0, 0, 0]])).tolist()[:2] == [-1, -1]


def test_a_set_without_the_incident_beam_is_refused():
    with pytest.raises(ValueError, match="000"):
        GVectors.from_indices(np.array([[1, 0, 0], [-1, 0, 0]]), 1.0)


def test_indices_survive_the_way_through_flex():
    symmetry = crystal.symmetry((5, 6, 7, 90, 90, 90), "P 1")
    hkl = np.array([[0, 0, 0], [-3, 2, 11], [127, -128, 5]])
    np.testing.assert_array_equal(indices_of(miller_set(symmetry, hkl)), hkl)
    fortran = np.asfortranarray(hkl)[::-1]
    np.testing.assert_array_equal(indices_of(miller_set(symmetry, fortran)), hkl[::-1])
