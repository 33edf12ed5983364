"""The drop-in target through the whole chain: parameters of atoms, cctbx's structure factors, waves, intensities."""

from dataclasses import replace

import numpy as np
import plain_reference
import pytest
from cctbx import adptbx, crystal, xray
from cctbx.array_family import flex
from cctbx.xray import minimization
from libtbx.utils import Sorry
from scipy.spatial.transform import Rotation
from scitbx import lbfgs as scitbx_lbfgs
from test_structure_factors import structure_in

from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.intensities.nuisance import Nuisance, intensity_weights
from edtbx.intensities.potential import indices_within
from edtbx.intensities.sampling import Sampling
from edtbx.measurement.experiment import Experiment, Frame, Reflections, ScanGeometry
from edtbx.measurement.geometry import excitation_error, frame_vectors, rotate
from edtbx.measurement.selection import SelectionRules
from edtbx.solvers.block import Accuracy
from edtbx_cctbx.arrays import to_numpy
from edtbx_cctbx.io.cif_pets import read_experiment
from edtbx_cctbx.model_files.structures import read_model
from edtbx_cctbx.structure.form_factors import set_electron_form_factors
from edtbx_cctbx.structure.structure_factors import miller_set
from edtbx_cctbx.targets.selected_rows import unique_numbers
from edtbx_cctbx.targets.theories import DynamicalTarget, KinematicalTarget

SAMPLING = Sampling(
    accuracy=Accuracy(s_max=0.03),
    tilts=5,
    spread_reach=np.radians(0.2),
    spread_spacing=np.radians(0.1),
    thickness_max=500.0,
    thickness_step=100.0,
)
RULES = SelectionRules(rsg_max=0.9, dsg_min=0.0, sg_max=0.1, min_reflections=1)
SITE_P41212 = [(0.11, 0.11, 0.0), (0.32, 0.14, 0.21)]  # 4a on the twofold axis, 8b
SITE_I42D = [(0.0, 0.0, 0.0), (0.21, 0.25, 0.125), (0.13, 0.07, 0.31)]  # 4a, 8d, 16e
SITE_R3C = [(0.0, 0.0, 0.0), (0.21, 0.08, 0.11)]  # 6a, 18b
SITE_FDD2 = [(0.0, 0.0, 0.02), (0.11, 0.06, 0.28)]  # 8a, 16b
MODELS = {
    "P 1": ((4.1, 4.6, 5.2, 85.0, 97.0, 104.0), [(0.1, 0.2, 0.3), (0.45, 0.6, 0.85), (0.7, 0.05, 0.6)]),
    "P 41 21 2": ((5.0, 5.0, 6.1, 90, 90, 90), SITE_P41212),
    "I -4 2 d": ((6.2, 6.2, 7.1, 90, 90, 90), SITE_I42D),
    "R 3 c :H": ((6.5, 6.5, 7.5, 90, 90, 120), SITE_R3C),
    "F d d 2": ((7.2, 8.1, 6.3, 90, 90, 90), SITE_FDD2),
}


def model_in(symbol):
    """A small non-centrosymmetric structure, atoms on special positions first, one of them anisotropic in any case."""
    cell, sites = MODELS[symbol]
    structure = xray.structure(crystal_symmetry=crystal.symmetry(cell, symbol))
    for n, site in enumerate(sites):
        atom = xray.scatterer(label=f"X{n}", scattering_type=("S", "O", "C")[n], site=site, u=0.012 + 0.004 * n)
        atom.occupancy = (0.95, 0.9, 0.8)[n]
        if n != 1:
            u_cart = (0.012, 0.017, 0.021, 0.002, -0.003, 0.001)
            atom.u_star = adptbx.u_cart_as_u_star(structure.unit_cell(), u_cart)
            atom.flags.set_use_u(iso=False, aniso=True)
        structure.add_scatterer(atom)  # this averages site and U over the site symmetry
    set_electron_form_factors(structure)
    return structure


def experiment_for(structure, per_frame=12, seed=0, geometry=ScanGeometry.ROTATION, frames=2, reach=1.3, scan=()):
    """Fake intensities on reflections near the sphere; frames so wide that beams of several Laue zones come in."""
    scan = scan or tuple(Frame(id=3 * n + 1, alpha=0.1 * n - 0.2, beta=0.01, semi_angle=0.03) for n in range(frames))
    rng = np.random.default_rng(seed)
    nothing = np.zeros(0)
    experiment = Experiment(
        wavelength=0.0335,
        cell=tuple(structure.unit_cell().parameters()),
        orientation=Rotation.random(rng=rng).as_matrix(),
        geometry=geometry,
        frames=scan,
        reflections=Reflections(
            hkl=np.zeros((0, 3), dtype=np.int64), intensity=nothing, sigma=nothing, frame_id=np.zeros(0, dtype=np.int64)
        ),
    )
    hkl = indices_within(experiment.cell, reach)
    hkl = hkl[hkl.any(axis=1) & ~miller_set(structure, hkl).sys_absent_flags().data().as_numpy_array()]
    chosen, ids = [], []
    for frame in experiment.frames:
        g = frame_vectors(experiment, frame, hkl)
        lever = np.abs(g[:, 1]) if geometry is ScanGeometry.ROTATION else np.linalg.norm(g, axis=1)
        rsg = np.abs(excitation_error(g, 1 / experiment.wavelength)) / np.maximum(lever * frame.semi_angle, 1e-9)
        inside = rng.permutation(np.flatnonzero(rsg < 0.8))[:per_frame]
        chosen.append(hkl[inside])
        ids.append(np.full(len(inside), frame.id))
    m = sum(map(len, ids))
    assert m >= len(scan)
    rows = Reflections(
        hkl=np.concatenate(chosen),
        intensity=rng.gamma(1.0, 100.0, m) - 30.0,
        sigma=rng.uniform(5.0, 10.0, m),
        frame_id=np.concatenate(ids),
    )
    return replace(experiment, reflections=rows)


def nuisance_for(experiment, shape="wedge", thickness=430.0):
    n = len(experiment.frames)
    centres = np.radians(np.linspace(-0.06, 0.04, n))
    return Nuisance(shape=shape, thickness=thickness, sigma=np.radians(0.07), centres=centres, scales=np.ones(n))


def target_for(structure, experiment, kind=DynamicalTarget, **kwargs):
    kwargs = {"rules": RULES, "sampling": SAMPLING, "nuisance": nuisance_for(experiment), "nproc": 1, **kwargs}
    return kind(experiment, structure, **kwargs)


def simulated(structure, experiment, kind=DynamicalTarget, **kwargs):
    """The experiment with the target's own intensities in place of fake ones."""
    target = target_for(structure, experiment, kind, **kwargs)
    assert len(target.observations.rows) == len(experiment.reflections)
    calc = to_numpy(target.i_calc(structure).data())
    intensity = np.zeros(len(experiment.reflections))
    intensity[target.observations.rows] = 1e3 * calc / calc.mean()
    rows = replace(experiment.reflections, intensity=intensity, sigma=np.full(len(intensity), 10.0))
    return replace(experiment, reflections=rows)


def refining(structure, site=False, u_iso=False, u_aniso=False, occupancy=False):
    """Gradient flags as a user sets them."""
    scatterers = structure.scatterers()
    xray.set_scatterer_grad_flags(scatterers=scatterers, site=site, u_iso=u_iso, u_aniso=u_aniso, occupancy=occupancy)
    return structure


def value_at(target, structure, shifts):
    """The target for a structure shifted as ``xray.minimization`` shifts it."""
    shifted = minimization.ext.minimization_apply_shifts(
        unit_cell=structure.unit_cell(), scatterers=structure.scatterers(), shifts=flex.double(shifts)
    ).shifted_scatterers
    moved = structure.deep_copy_scatterers()
    moved.replace_scatterers(shifted)
    f_calc = target.f_obs().structure_factors_from_scatterers(
        xray_structure=moved, algorithm="direct", cos_sin_table=False
    )
    return target(f_calc.f_calc(), False).target()


def packed_gradient(target, structure):
    f_calc = target.f_obs().structure_factors_from_scatterers(
        xray_structure=structure, algorithm="direct", cos_sin_table=False
    )
    gradients = xray.structure_factors.gradients(miller_set=target.f_obs(), cos_sin_table=False)
    return (
        gradients(
            xray_structure=structure,
            u_iso_refinable_params=None,
            miller_set=target.f_obs(),
            d_target_d_f_calc=target(f_calc.f_calc(), True).derivatives(),
            n_parameters=structure.n_parameters(),
            algorithm="direct",
        )
        .packed()
        .as_numpy_array()
    )


def allowed(structure, shifts, flags):
    """The shifts without what the site symmetry of each atom forbids."""
    shifts, at = shifts.copy(), 0
    cell, table = structure.unit_cell(), structure.site_symmetry_table()
    for n, atom in enumerate(structure.scatterers()):
        operations = table.get(n)
        if flags.get("site"):
            r = np.array(operations.special_op().r().as_double()).reshape(3, 3)
            fractional = r @ np.array(cell.fractionalize(tuple(shifts[at : at + 3])))
            shifts[at : at + 3] = cell.orthogonalize(tuple(fractional))
            at += 3
        if flags.get("u_iso") and atom.flags.use_u_iso():
            at += 1
        if flags.get("u_aniso") and atom.flags.use_u_aniso():
            u_star = operations.average_u_star(adptbx.u_cart_as_u_star(cell, tuple(shifts[at : at + 6])))
            shifts[at : at + 6] = adptbx.u_star_as_u_cart(cell, u_star)
            at += 6
        if flags.get("occupancy"):
            at += 1
    assert at == len(shifts)
    return shifts


# ---- derivatives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DynamicalTarget, KinematicalTarget])
@pytest.mark.parametrize("symbol", MODELS)
def test_derivatives_by_parameters_of_atoms(symbol, kind):
    structure = model_in(symbol)
    target = target_for(structure, experiment_for(structure), kind)
    rng = np.random.default_rng(2)
    for name, step in (("site", 3e-4), ("u_iso", 3e-5), ("u_aniso", 3e-5), ("occupancy", 3e-4)):
        flags = {name: True}
        refining(structure, **flags)
        gradient = packed_gradient(target, structure)
        direction = allowed(structure, rng.normal(size=len(gradient)), flags)

        def along(x, direction=direction):
            return value_at(target, structure, x * direction)

        numerical = plain_reference.derivative(along, step)
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert scale > 1e-4
        # error of the five-point formula at these steps, and rounding 1e-16/step
        assert gradient @ direction == pytest.approx(numerical, rel=1e-6, abs=1e-8 * scale), name


@pytest.mark.parametrize("geometry", ScanGeometry)
def test_derivatives_by_structure_factors(geometry):
    """∂T/∂A + i ∂T/∂B for each listed F, in either scan, with the best scale following."""
    structure = model_in("P 1")
    target = target_for(structure, experiment_for(structure, geometry=geometry))
    f = target.f_obs().structure_factors_from_scatterers(structure, algorithm="direct", cos_sin_table=False).f_calc()
    values = f.data().as_numpy_array()
    exact = target(f, True).derivatives().as_numpy_array()
    rng = np.random.default_rng(3)
    for n in range(4):
        # dense directions, and the one F that matters most; F(000) is real and couples nothing
        direction = rng.normal(size=len(values)) + 1j * rng.normal(size=len(values))
        if n == 3:
            direction = np.where(np.abs(exact) == np.abs(exact).max(), 0.6 + 0.8j, 0.0)

        def along(x, direction=direction):
            return target(f.customized_copy(data=flex.complex_double(values + x * direction)), False).target()

        assert np.sum((exact.conj() * direction).real) == pytest.approx(
            plain_reference.derivative(along, 1e-3), rel=1e-6
        )


def test_derivatives_with_offsets_from_a_finer_sampling():
    structure = model_in("P 1")
    target = target_for(structure, experiment_for(structure))
    rng = np.random.default_rng(4)
    plain = value_at(target, refining(structure, site=True), np.zeros(9))
    calc = target.forward.intensities(target.structure_factors(structure), target.nuisance)
    target.offsets = [0.2 * c.mean() * rng.normal(size=len(c)) for c in calc]
    gradient, direction = packed_gradient(target, structure), rng.normal(size=9)
    assert value_at(target, structure, np.zeros(9)) != pytest.approx(plain, rel=1e-3)
    numerical = plain_reference.derivative(lambda x: value_at(target, structure, x * direction), 3e-4)
    assert gradient @ direction == pytest.approx(numerical, rel=1e-6)


# ---- value ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("geometry", ScanGeometry)
def test_intensities_against_plain_sums(geometry):
    """Beams, tilts, spread and thicknesses summed by loops over the exponentials of whole matrices."""
    structure = model_in("R 3 c :H")
    experiment = experiment_for(structure, per_frame=5, geometry=geometry, reach=0.7, frames=3)
    sampling = replace(SAMPLING, accuracy=Accuracy(s_max=1.0), tilts=2, spread_reach=SAMPLING.spread_spacing)
    target = target_for(structure, experiment, sampling=sampling, g_max=0.71)
    assert len(target.observations.rows) >= 3
    f = dict(zip(map(tuple, target.forward.vectors.hkl.tolist()), target.structure_factors(structure), strict=True))
    f_000 = f[0, 0, 0].real
    gamma = 1 + (np.hypot(12398.419843 / experiment.wavelength, 510998.95) - 510998.95) / 510998.95
    to_u = gamma / np.pi / structure.unit_cell().volume()
    k = np.sqrt(experiment.wavelength**-2 + to_u * f_000)
    b = np.linalg.cholesky(np.linalg.inv(plain_reference.metric(experiment.cell))).T
    beams = [h for h in f if np.linalg.norm(b @ h) <= 0.71]
    beams.sort(key=lambda h: h != (0, 0, 0))
    place = {h: n for n, h in enumerate(beams)}
    factors = {"thickness_factors": np.array([0.9, 1.2, 1.0]), "sigma_factors": np.array([1.2, 0.8, 1.0])}
    grid, nuisance = target.forward.grid, replace(target.nuisance, **factors)
    found = target.forward.intensities(target.structure_factors(structure), nuisance)
    frames = {frame.id: frame for frame in experiment.frames}
    observations = target.observations
    indices = observations.split(observations.reflections.hkl)
    for n, frame_id in enumerate(observations.frame_ids):  # those with reflections
        frame = frames[frame_id]
        turned = (
            plain_reference.turn((1, 0, 0), frame.alpha)
            @ plain_reference.turn((0, 1, 0), frame.beta)
            @ experiment.orientation
            @ b
        )
        total = np.zeros(len(indices[n]))
        wanted = [place[tuple(h)] for h in indices[n].tolist()]
        orientations = target.forward.waves[n].orientations
        over_y = nuisance.over_spread(grid)[n] @ orientations.weights
        for w_y, x, y in zip(over_y, orientations.x, orientations.y, strict=True):
            if w_y:
                g = [
                    plain_reference.turn((1, 0, 0), x) @ plain_reference.turn((0, 1, 0), y) @ turned @ h for h in beams
                ]
                s_g = [plain_reference.excitation_error(v, k) for v in g]
                m = np.array([(1 - v[2] / k) ** -0.5 for v in g])
                a = plain_reference.coupling_matrix(np.array(beams), lambda h: to_u * f.get(h, 0.0), s_g, m, k)
                eigenvalues, c = np.linalg.eigh(a)  # exponentials of this matrix are checked with the solvers
                for w_t, t in zip(nuisance.over_thickness(grid)[n], grid.thickness, strict=True):
                    wave = (c * np.exp(1j * np.pi * t / k * eigenvalues)) @ c[0].conj()
                    total += w_y * w_t * np.abs(wave[wanted]) ** 2
            assert np.ptp(m) > 1e-3
        np.testing.assert_allclose(found[n], total, rtol=1e-6)  # weights below 1e-6 are left out


def test_the_value_is_the_formula():
    structure = model_in("P 41 21 2")
    experiment = experiment_for(structure)
    assert experiment.reflections.intensity.min() < 0.0
    target = target_for(structure, experiment)
    f = target.structure_factors(structure)
    above = below = 0.0
    reflections = target.observations.reflections
    by_frame = [target.observations.split(column) for column in (reflections.intensity, reflections.sigma)]
    for observed, sigma, calc in zip(*by_frame, target.forward.intensities(f, target.nuisance), strict=True):
        w = intensity_weights(observed, sigma)
        scale = np.sum(w * observed * calc) / np.sum(w * calc * calc)
        above += np.sum(w * (observed - scale * calc) ** 2)
        below += np.sum(w * observed**2)
    assert value_at(target, refining(structure), []) == pytest.approx(above / below, rel=1e-12)
    assert target.forward.target(f, target.nuisance) == pytest.approx(above / below, rel=1e-12)


def test_the_target_vanishes_at_the_structure_that_made_the_data():
    structure = model_in("F d d 2")
    experiment = simulated(structure, experiment_for(structure))
    target = target_for(structure, experiment)
    assert value_at(target, refining(structure), []) < 1e-20
    assert np.all(np.abs(packed_gradient(target, refining(structure, site=True))) < 1e-9)


def test_threads_change_nothing():
    structure = model_in("P 1")
    experiment = experiment_for(structure, frames=4)
    one, four = (target_for(structure, experiment, nproc=n) for n in (1, 4))
    refining(structure, site=True)
    np.testing.assert_array_equal(packed_gradient(one, structure), packed_gradient(four, structure))


def test_symmetry_equivalent_frames_have_equal_intensities():
    """The crystal turned by an operation of its point group, the indices with it."""
    structure = model_in("P 41 21 2")
    experiment = experiment_for(structure)
    fourfold = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    rows = replace(experiment.reflections, hkl=experiment.reflections.hkl @ fourfold)
    turned = replace(experiment, orientation=experiment.orientation @ fourfold, reflections=rows)
    first, second = target_for(structure, experiment), target_for(structure, turned)
    np.testing.assert_allclose(second.i_calc(structure).data(), first.i_calc(structure).data(), rtol=1e-10)
    # a turn that is none of its operations does change them
    other = replace(turned, orientation=experiment.orientation, reflections=rows)
    third = target_for(structure, other, rules=replace(RULES, rsg_max=np.inf, dsg_min=-np.inf, sg_max=np.inf))
    assert not np.allclose(third.i_calc(structure).data(), first.i_calc(structure).data(), rtol=0.1)


def test_the_other_hand_is_the_conjugate():
    """Inverting the structure and the data alike, h to −h and the sphere's side with it, is no change of waves."""
    structure = model_in("P 1")
    experiment = experiment_for(structure)
    target = target_for(structure, experiment)
    inverse = structure.change_hand()
    set_electron_form_factors(inverse)
    f = target.structure_factors(structure)
    np.testing.assert_allclose(target.structure_factors(inverse), f.conj(), atol=1e-10 * np.abs(f).max())
    mine, other = (to_numpy(target.i_calc(each).data()) for each in (structure, inverse))
    assert np.sum(np.abs(mine - other)) > 0.01 * np.sum(mine)
    kinematical = target_for(structure, experiment, KinematicalTarget)
    np.testing.assert_allclose(kinematical.i_calc(inverse).data(), kinematical.i_calc(structure).data(), rtol=1e-9)


def test_thin_crystals_are_kinematical():
    structure = model_in("P 1")
    experiment = experiment_for(structure)
    sampling = replace(SAMPLING, thickness_step=0.5, thickness_max=2.0)
    thin = nuisance_for(experiment, thickness=1.0)
    dynamical, kinematical = (
        target_for(structure, experiment, kind, sampling=sampling, nuisance=thin).i_calc(structure).data()
        for kind in (DynamicalTarget, KinematicalTarget)
    )
    # second Born term: π t U/K summed over beams, some per cent at 1 Å
    assert np.sum(np.abs(dynamical - kinematical)) < 0.05 * np.sum(kinematical)


# ---- refinement -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DynamicalTarget, KinematicalTarget])
@pytest.mark.parametrize(
    ("symbol", "flags"),
    [
        ("P 1", {"site": True}),
        ("P 41 21 2", {"u_iso": True, "u_aniso": True}),
        ("R 3 c :H", {"occupancy": True}),
        ("I -4 2 d", {"site": True, "u_iso": True, "u_aniso": True, "occupancy": True}),
    ],
)
def test_unmodified_lbfgs_lowers_the_target(symbol, flags, kind):
    true = model_in(symbol)
    # no farther out: the first step of lbfgs is 1 Å² long where it moves displacements, and cctbx gives up at
    # 2π² U/d² > 50 (that is why the package's own refinement scales its parameters)
    experiment = simulated(true, experiment_for(true, per_frame=25, frames=6, reach=0.8), kind, g_max=0.8)
    structure = true.deep_copy_scatterers()
    table = structure.site_symmetry_table()
    for n, atom in enumerate(structure.scatterers()):
        if flags.get("site"):
            shift = (n + 1) * np.array([0.004, -0.003, 0.002])  # not the same for all: that would be another origin
            atom.site = table.get(n).special_op() * tuple(np.add(atom.site, shift))
        if flags.get("u_iso") and atom.flags.use_u_iso():
            atom.u_iso *= 1.2
        if flags.get("u_aniso") and atom.flags.use_u_aniso():
            atom.u_star = tuple(0.8 * x for x in atom.u_star)
        if flags.get("occupancy"):
            atom.occupancy *= (0.85, 1.05, 0.9)[n]
    target = target_for(structure, experiment, kind, g_max=0.8)
    refined = minimization.lbfgs(
        target_functor=target,
        xray_structure=refining(structure, **flags),
        structure_factor_algorithm="direct",
        cos_sin_table=False,
        lbfgs_termination_params=scitbx_lbfgs.termination_parameters(max_iterations=12),
    )
    assert refined.first_target_value > 1e-4
    assert refined.final_target_value < 0.2 * refined.first_target_value
    for n, atom in enumerate(structure.scatterers()):  # and nothing has left its special position
        np.testing.assert_allclose(table.get(n).special_op() * atom.site, atom.site, atol=1e-9)


def test_the_functor_protocol():
    structure = model_in("I -4 2 d")
    target = target_for(structure, experiment_for(structure))
    assert target.f_obs().unit_cell().is_similar_to(structure.unit_cell())
    assert target.f_obs().space_group() == structure.space_group()
    assert target.f_obs().d_min() == pytest.approx(1 / (2 * target.scattering.g_max), rel=0.1)
    f = target.f_obs().structure_factors_from_scatterers(structure, algorithm="direct", cos_sin_table=False).f_calc()
    without, with_them = target(f, False), target(f, True)
    assert without.derivatives() is None
    assert without.target() == pytest.approx(with_them.target(), rel=1e-12)
    assert with_them.derivatives().size() == target.f_obs().size()
    assert with_them.scale_factor() == pytest.approx(np.mean(target.nuisance.scales))


# ---- bounds and mistakes -------------------------------------------------------------------------------------------


def test_the_nuisance_parameters_are_fitted_at_the_start():
    structure = model_in("P 1")
    fine = replace(SAMPLING, thickness_step=25.0, thickness_max=800.0)
    experiment = simulated(structure, experiment_for(structure, per_frame=60, reach=2.0), sampling=fine)
    bounds = NuisanceBounds(shapes=("wedge",))
    target = target_for(structure, experiment, nuisance=None, sampling=fine, bounds=bounds)
    assert target.nuisance.thickness == pytest.approx(430.0, abs=10.0)
    assert target.nuisance.sigma == pytest.approx(np.radians(0.07), abs=np.radians(0.01))
    assert target.statistics(target.i_calc(structure)).r_obs < 0.01


def test_fixed_thickness_and_spread_and_a_named_solver():
    structure = model_in("P 1")
    experiment = experiment_for(structure)
    bounds = NuisanceBounds(thickness=333.0, sigma=0.001)
    target = target_for(structure, experiment, nuisance=None, solver="two_beam", bounds=bounds)
    assert (target.nuisance.thickness, target.nuisance.sigma) == (333.0, 0.001)
    assert target.solver_name == "two_beam"
    assert KinematicalTarget.default_solver == "kinematical"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"solver": "eigne"}, "unknown solver 'eigne'.*eigen"),
        ({"rules": SelectionRules(rsg_max=0.0)}, "no reflection is left.*rsg_max"),
    ],
)
def test_mistakes_are_named(kwargs, message):
    structure = model_in("P 1")
    with pytest.raises(Sorry, match=message):
        target_for(structure, experiment_for(structure), **kwargs)


def test_extinguished_rows_are_left_out():
    structure = model_in("P 41 21 2")
    experiment = experiment_for(structure, per_frame=60)
    odd = np.sum(experiment.reflections.hkl != 0, axis=1) == 1
    rows = experiment.reflections
    more = Reflections(
        hkl=np.concatenate([rows.hkl, [[0, 0, 1], [3, 0, 0]]]),
        intensity=np.append(rows.intensity, [5.0, 5.0]),
        sigma=np.append(rows.sigma, [1.0, 1.0]),
        frame_id=np.append(rows.frame_id, [1, 1]),
    )
    loose = replace(RULES, rsg_max=np.inf, dsg_min=-np.inf, sg_max=np.inf)
    target = target_for(structure, replace(experiment, reflections=more), rules=loose)
    assert target.scattering.selection.left_out["systematically absent"] >= 2
    assert len(rows) not in target.observations.rows
    assert len(rows) + 1 not in target.observations.rows
    assert len(target.observations.rows) >= len(rows) - odd.sum()


def test_beams_reach_all_reflections():
    structure = model_in("P 1")
    target = target_for(structure, experiment_for(structure), g_max=0.1)
    g = frame_vectors(
        target.experiment, target.experiment.frames[0], target.experiment.reflections.hkl[target.observations.rows]
    )
    assert target.scattering.g_max == pytest.approx(np.linalg.norm(g, axis=1).max())
    assert min(target.i_calc(structure).data()) > 0.0


def test_equivalents_share_a_number_and_friedel_mates_only_with_a_centre():
    hkl = np.array([[1, 2, 3], [-1, -2, 3], [-1, -2, -3], [1, 2, -3], [2, 1, 3]])
    chiral = crystal.symmetry((5, 6, 7, 90, 90, 90), "P 2 2 2")
    centric = crystal.symmetry((5, 6, 7, 90, 90, 90), "P m m m")
    first = unique_numbers(structure_in("P 2 2 2").customized_copy(crystal_symmetry=chiral), hkl)
    assert first[0] == first[1]
    assert first[2] == first[3] != first[0]
    assert first[4] not in first[:4]
    second = unique_numbers(structure_in("P m m m").customized_copy(crystal_symmetry=centric), hkl)
    assert len(set(second[:4].tolist())) == 1


def test_a_block_holds_the_excitation_errors_of_its_orientations():
    structure = model_in("P 1")
    target = target_for(structure, experiment_for(structure))
    waves = target.forward.waves[0]
    block = waves.block(target.structure_factors(structure), np.array([100.0]))
    o = waves.orientations
    expected = excitation_error(rotate(waves.g, o.x, o.y), target.forward.wavenumber)
    np.testing.assert_allclose(block.s_g, expected, atol=1e-15)
    np.testing.assert_allclose(block.weights.sum(axis=1), 1.0)
    np.testing.assert_allclose(block.u, block.u.conj().T, atol=1e-15)


# ---- the hand, on real crystals ---------------------------------------------------------------------------------------


def fits(structure, experiment):
    """R(obs) of a structure with its best nuisance parameters, coarsely sampled."""
    sampling = Sampling(
        accuracy=Accuracy(s_max=0.01),
        tilts=40,
        spread_reach=np.radians(0.2),
        spread_spacing=np.radians(0.1),
        thickness_max=2500.0,
    )
    target = DynamicalTarget(experiment, structure, sampling=sampling, rules=SelectionRules(dsg_min=0.0), nproc=2)
    return target.statistics(target.i_calc(structure)).r_obs


def every(experiment, count):
    ids = [frame.id for frame in experiment.frames]
    return experiment.select_frames(ids[len(ids) // 10 :: len(ids) // count][:count])


@pytest.mark.real_data
def test_the_hand_of_quartz(data_dir):
    experiment = every(read_experiment(data_dir / "quartz" / "quartz.cif_pets"), 6)
    right = xray.structure(crystal_symmetry=crystal.symmetry(experiment.cell, "P 32 2 1"))
    right.add_scatterer(xray.scatterer(label="Si", scattering_type="Si", site=(1, 0.47121, 5 / 6), u=0.006))
    right.add_scatterer(xray.scatterer(label="O", scattering_type="O", site=(0.85436, 0.58561, 0.61939), u=0.012))
    wrong = right.change_hand()
    assert str(wrong.space_group_info()) == "P 31 2 1"
    assert fits(right, experiment) < 0.97 * fits(wrong, experiment)


@pytest.mark.real_data
def test_the_hand_of_urea(data_dir):
    experiment = every(read_experiment(data_dir / "urea" / "urea.cif_pets"), 6)
    right = read_model(data_dir / "urea" / "urea_jana_model.cif")
    wrong = right.change_hand()
    assert wrong.space_group() == right.space_group()
    assert fits(right, experiment) < 0.97 * fits(wrong, experiment)


def test_a_frame_cube_has_the_weights_of_its_frame():
    structure = model_in("P 1")
    target = target_for(structure, experiment_for(structure))
    reflections = target.observations.reflections
    by_frame = [target.observations.split(column) for column in (reflections.intensity, reflections.sigma)]
    for cube, observed, sigma in zip(target.scattering.cubes(structure), *by_frame, strict=True):
        np.testing.assert_array_equal(cube.weights, intensity_weights(observed, sigma))
