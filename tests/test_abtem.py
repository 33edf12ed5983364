"""Our waves against abTEM's: a program that was written by others, from the same structure factors and from the atoms.

α-Quartz at 200 kV, about 500 Å thick, along c, where even its projection has a hand, and slightly tilted. Errors are R of
√I over the reflections with d > 0.8 Å and I > 1e-4 of the incident beam; ``max`` is the largest error of an intensity.

| what | against | R | max |
|---|---|---|---|
| abTEM's Bloch waves, random orientations, with surface terms | eigen | | 6e-9 |
| the same at 5 kV, where M_g is 2 % off 1 | eigen | | 3e-7 |
| multislice, projected potential, along c | eigen | 1e-4 | 7e-6 |
| multislice, projected potential, 0.6° off | eigen | 4e-4 | 5e-5 |
| multislice, higher Laue zones, along c and 0.6° off | our matrix, paraxial, amplitudes of a rod added | 1e-3 | 3e-4 |
| the same | eigen, fluxes of a rod added | 0.009–0.023 | 2e-3 |
| multislice of the inverted structure | eigen | 0.26–0.60 | |

The last but one is no error of either: along a zone axis hk0, hk1, hk-1 … leave the crystal as one wave, and their
amplitudes add up, while our intensities are those of separate beams, as in any orientation without such coincidences.
"""

import edtbx_cctbx  # noqa: F401  # isort: skip  (before numpy, scipy, numba)

from dataclasses import replace

import numpy as np
import pytest
from cctbx import crystal, xray
from scipy.spatial.transform import Rotation

from edtbx.constants import wavelength_from_energy
from edtbx.intensities.potential import surface_term, u_per_f
from edtbx.measurement.geometry import excitation_error, orthogonalisation_matrix
from edtbx.solvers.block import Accuracy, Block
from edtbx.solvers.eigen import EigenSolver
from edtbx.solvers.registry import SolverRegistry
from edtbx.testing import check_solver, random_block
from edtbx_cctbx.structure.form_factors import set_electron_form_factors
from edtbx_cctbx.structure.structure_factors import Expansion, g_vectors

abtem = pytest.importorskip("abtem", reason="abTEM is not installed (extra [abtem])")

import ase.build  # noqa: E402
from abtem.parametrizations import PengParametrization  # noqa: E402
from abtem_bloch import bloch_intensities  # noqa: E402
from abtem_crystal import in_supercell, structure_factors  # noqa: E402
from abtem_multislice import multislice_intensities  # noqa: E402

import edtbx_abtem  # noqa: E402
from edtbx_abtem.solver import AbtemSolver  # noqa: E402

CELL = (4.913, 4.913, 5.405, 90.0, 90.0, 120.0)
SUPERCELL = np.array([[1, 0, 0], [1, 2, 0], [0, 0, 1]])
LENGTHS = np.array([4.913, 4.913 * 3**0.5, 5.405])
U_ISO = 0.02
WAVELENGTH = wavelength_from_energy(200e3)
REPEATS = 92
THICKNESS = REPEATS * 5.405
TILTS = [(0.0, 0.0), (0.010, 0.004)]


def quartz(u_iso=U_ISO):
    symmetry = crystal.symmetry(unit_cell=CELL, space_group_symbol="P3221")
    structure = xray.structure(crystal_symmetry=symmetry)
    for element, site in (("Si", (0.4697, 0.0, 2 / 3)), ("O", (0.4135, 0.2669, 0.7858))):
        structure.add_scatterer(xray.scatterer(element, scattering_type=element, site=site, u=u_iso))
    set_electron_form_factors(structure)
    return structure


def f_calc(g_max, u_iso=U_ISO):
    """The g vectors and F in Å."""
    structure = quartz(u_iso)
    vectors = g_vectors(structure, g_max)
    return vectors, Expansion.of(structure, vectors).structure_factors(structure)


def block_of(vectors, f, g, beams, *, wavelength, thickness):
    """A block of one orientation, with g (G, 3) in the lab frame and the given places of its beams, 000 among them."""
    beams = beams[np.argsort(np.linalg.norm(g[beams], axis=1), kind="stable")]
    g, k = g[beams], 1.0 / wavelength
    s_g = excitation_error(g, k)[None]
    return beams, Block(
        u=vectors.coupling(vectors.hkl[beams], u_per_f(CELL, wavelength) * f),
        s_g=s_g,
        surface=surface_term(s_g, np.sum(g * g, axis=1), k),
        weights=np.ones((1, 1)),
        wanted=np.arange(len(beams)),
        thickness=np.atleast_1d(thickness),
        wavenumber=k,
        accuracy=Accuracy(s_max=10.0),
    )


def eigen(block):
    """Flux (N, T) of the beams."""
    return EigenSolver().intensities(block)[0]


# ---- the solver -----------------------------------------------------------------------------------------------------


def test_the_solver_conforms():
    registry = SolverRegistry()
    registry.collect(edtbx_abtem, "here")
    report = check_solver(registry.create("abtem"))
    assert report.failed == ()


def test_the_solver_leaves_out_the_same_beams_as_eigen():
    block = random_block(nearest=False)
    block = replace(block, accuracy=Accuracy(s_max=0.3))
    count = np.sum(np.abs(block.s_g) <= 0.3, axis=1)
    assert np.all(count > 2)
    assert np.all(count < len(block.u))
    np.testing.assert_allclose(AbtemSolver().intensities(block), EigenSolver().intensities(block), atol=1e-10)


# ---- Bloch waves from structure factors -----------------------------------------------------------------------------


@pytest.mark.parametrize(("energy_ev", "inclination", "tolerance"), [(200e3, 5e-4, 2e-8), (5e3, 1.5e-2, 5e-7)])
@pytest.mark.parametrize("seed", [0, 1])
def test_bloch_waves_agree(energy_ev, inclination, tolerance, seed):
    """Beams, excitation errors, structure matrix and surface terms are abTEM's own; its constants are off ours by 5e-9."""
    vectors, f = f_calc(1.6)
    wavelength = wavelength_from_energy(energy_ev)
    orientation = Rotation.from_quat(np.random.default_rng(seed).normal(size=4)).as_matrix()
    thickness = np.array([100.0, 300.0, 500.0])
    settings = {"wavelength": wavelength, "orientation": orientation, "thickness": thickness, "s_max": 0.02}
    hkl, flux = bloch_intensities(structure_factors(CELL, vectors, f), **settings)
    g = vectors.hkl @ (orientation @ orthogonalisation_matrix(CELL)).T
    near = (np.abs(excitation_error(g, 1.0 / wavelength)) <= 0.02) & (np.linalg.norm(g, axis=1) <= 1.6)
    assert {tuple(h) for h in hkl} == {tuple(h) for h in vectors.hkl[near]}
    beams, block = block_of(vectors, f, g, vectors.find(hkl), wavelength=wavelength, thickness=thickness)
    ours = np.empty_like(flux)
    ours[[int(np.nonzero((hkl == vectors.hkl[n]).all(axis=1))[0][0]) for n in beams]] = eigen(block)
    assert np.abs(block.surface - 1.0).max() > inclination
    assert np.sort(ours.max(axis=1))[-2] > 0.01  # there is something to compare
    np.testing.assert_allclose(flux, ours, atol=tolerance)
    _, other_hand = bloch_intensities(structure_factors(CELL, vectors, f.conj()), **settings)
    assert np.abs(other_hand - ours).max() > 1e-3


# ---- multislice -----------------------------------------------------------------------------------------------------


def turned(g, tilt):
    """Vectors (G, 3) of the supercell's frame in the lab frame, where the tilted beam travels along −z."""
    beam = np.array([np.tan(tilt[0]), np.tan(tilt[1]), 1.0])
    rotation, _ = Rotation.align_vectors([[0.0, 0.0, -1.0]], [beam])
    return g @ rotation.as_matrix().T


def rods(index, values):
    """Sum of the values (N,) over all beams of a rod, by (h, k)."""
    total = {}
    for hk, value in zip(map(tuple, index[:, :2].tolist()), values, strict=True):
        total[hk] = total.get(hk, 0.0) + value
    return total


def compared(ours, theirs):
    """R of √I over what is strong enough, and the largest difference."""
    keys = [hk for hk in ours if hk != (0, 0) and np.hypot(*(np.array(hk) / LENGTHS[:2])) < 1.0 / 0.8]
    a, b = np.array([ours[hk] for hk in keys]), np.array([theirs[hk] for hk in keys])
    strong = b > 1e-4
    assert strong.sum() > 30
    assert b.max() > 0.02
    root_a, root_b = np.sqrt(a[strong]), np.sqrt(b[strong])
    return np.abs(root_a - root_b).sum() / root_b.sum(), np.abs(a - b).max()


def multislice(vectors, f, tilt):
    """Intensities [h, k] of both hands."""
    return [
        multislice_intensities(
            in_supercell(structure_factors(CELL, vectors, each), SUPERCELL),
            wavelength=WAVELENGTH,
            repeats=REPEATS,
            tilt=tilt,
            slice_thickness=0.3,
        )
        for each in (f, f.conj())
    ]


@pytest.mark.parametrize(("tilt", "r", "largest"), [(TILTS[0], 2e-4, 2e-5), (TILTS[1], 6e-4, 1e-4)])
def test_multislice_of_the_projected_potential_agrees(tilt, r, largest):
    vectors, f = f_calc(2.4)
    index = vectors.hkl @ SUPERCELL.T
    f = np.where(index[:, 2] == 0, f, 0.0)
    g = turned(index / LENGTHS, tilt)
    plane = np.nonzero((index[:, 2] == 0) & (np.linalg.norm(g, axis=1) <= 2.4))[0]
    beams, block = block_of(vectors, f, g, plane, wavelength=WAVELENGTH, thickness=THICKNESS)
    ours = rods(index[beams], eigen(block)[:, 0])
    theirs, other_hand = multislice(vectors, f, tilt)
    found = compared(ours, theirs)
    assert found[0] < r
    assert found[1] < largest
    assert compared(ours, other_hand)[0] > 0.3


@pytest.mark.parametrize("tilt", TILTS)
def test_multislice_with_higher_laue_zones_agrees(tilt):
    """The potential to 0.7 Å⁻¹, which a thousand beams exhaust."""
    vectors, f = f_calc(1.4)
    index = vectors.hkl @ SUPERCELL.T
    g, length = index / LENGTHS, np.linalg.norm(vectors.hkl @ orthogonalisation_matrix(CELL).T, axis=1)
    f = np.where(length <= 0.7, f, 0.0)
    s_g = excitation_error(turned(g, tilt), 1.0 / WAVELENGTH)
    near = np.nonzero((length <= 1.4) & (np.abs(s_g) <= 0.5))[0]
    beams, block = block_of(vectors, f, turned(g, tilt), near, wavelength=WAVELENGTH, thickness=THICKNESS)
    assert set(index[beams, 2]) >= {-2, -1, 0, 1, 2}
    theirs, other_hand = multislice(vectors, f, tilt)
    by_beam = rods(index[beams], eigen(block)[:, 0])
    assert compared(by_beam, theirs)[0] < 0.03
    assert compared(by_beam, other_hand)[0] > 0.2

    # what multislice solves: paraxial excitation errors, no surface terms, one wave a rod
    beam = np.array([np.tan(tilt[0]), np.tan(tilt[1]), 1.0])
    paraxial = -g[beams] @ beam - 0.5 * WAVELENGTH * np.sum(g[beams, :2] ** 2, axis=1)
    same = replace(block, s_g=paraxial[None], surface=np.ones_like(block.surface))
    a = same.u.copy()
    np.fill_diagonal(a, 2.0 * same.wavenumber * paraxial)
    x, c = np.linalg.eigh(a)
    waves = (c * np.exp(1j * np.pi * THICKNESS / same.wavenumber * x)) @ c[0].conj()
    found = compared({hk: abs(wave) ** 2 for hk, wave in rods(index[beams], waves).items()}, theirs)
    assert found[0] < 2e-3
    assert found[1] < 5e-4
    few = replace(same, wanted=np.arange(50))
    np.testing.assert_allclose(np.abs(waves[:50]) ** 2, eigen(few)[:, 0], atol=1e-9)


def test_a_supercell_with_oblique_or_left_handed_axes_is_refused():
    crystal_ = structure_factors(CELL, *f_calc(0.5))
    with pytest.raises(ValueError, match="must be orthogonal and right-handed"):
        in_supercell(crystal_, np.eye(3, dtype=int))
    with pytest.raises(ValueError, match="must be orthogonal and right-handed"):
        in_supercell(crystal_, SUPERCELL * [[1], [-1], [1]])


# ---- from the atoms -------------------------------------------------------------------------------------------------


def atoms(structure):
    """The unit cell for abTEM."""
    scatterers = structure.expand_to_p1().scatterers()
    return ase.Atoms(
        [atom.scattering_type for atom in scatterers],
        scaled_positions=[atom.site for atom in scatterers],
        cell=np.linalg.inv(orthogonalisation_matrix(CELL)),
    )


@pytest.mark.parametrize(
    ("form_factors", "least", "most"),
    [("peng_low.json", 0.0, 1e-12), ("lobato", 2e-3, 4e-3), ("kirkland", 1e-3, 3e-3)],
)
def test_structure_factors_from_the_atoms(form_factors, least, most):
    """With the Gaussians that cctbx has, too, they are the same to rounding; others differ by some 0.3 % of Σ|F|."""
    vectors, f = f_calc(2.0)
    chosen = PengParametrization(form_factors) if form_factors.endswith(".json") else form_factors
    with abtem.config.set({"precision": "float64"}):
        theirs = abtem.StructureFactor(
            atoms(quartz()), g_max=4.0, parametrization=chosen, thermal_sigma=U_ISO**0.5, cutoff="hard"
        ).build(lazy=False)
    order = vectors.find(np.asarray(theirs.hkl))
    ours = np.asarray(structure_factors(CELL, vectors, f).array)[order]
    assert sorted(order) == list(range(len(f)))
    difference = np.abs(np.asarray(theirs.array) - ours).sum() / np.abs(ours).sum()
    assert least <= difference <= most


def test_the_potential_stands_where_the_atoms_are():
    """abTEM's own projection of atoms in real space knows no sign of a phase: it fixes the hand."""
    vectors, f = f_calc(2.0, u_iso=0.0)
    cell = ase.build.make_supercell(atoms(quartz(u_iso=0.0)), SUPERCELL)
    cell = ase.Atoms(cell.numbers, scaled_positions=cell.get_scaled_positions(), cell=np.diag(LENGTHS))
    with abtem.config.set({"precision": "float64"}):
        peng = PengParametrization("peng_low.json")
        known = abtem.Potential(cell, parametrization=peng, gpts=(96, 160), slice_thickness=1.0, projection="finite")
        known = np.fft.fft2(known.build(lazy=False).array.sum(axis=0))
    k = np.hypot(np.fft.fftfreq(96, LENGTHS[0] / 96)[:, None], np.fft.fftfreq(160, LENGTHS[1] / 160))
    inside = (k > 0.0) & (k < 1.5)
    differences = []
    for each in (f, f.conj()):
        potential = in_supercell(structure_factors(CELL, vectors, each), SUPERCELL)
        slices = potential.get_projected_potential(slice_thickness=1.0, gpts=(96, 160)).array
        projected = np.fft.fft2(slices.sum(axis=0))
        differences.append(np.abs(projected - known)[inside].sum() / np.abs(known)[inside].sum())
    assert differences[0] < 0.003
    assert differences[1] > 0.5
