"""Full-matrix least squares: against dense algebra, stock smtbx, finite differences, its own drivers and drawn noise."""

import random
from dataclasses import replace

import numpy as np
import pytest
from cctbx import geometry_restraints
from cctbx.array_family import flex
from scitbx.lstbx import normal_eqns, normal_eqns_solving
from smtbx.refinement import least_squares, restraints
from test_target import MODELS, SAMPLING, experiment_for, model_in, nuisance_for, simulated, target_for

from edtbx.fitting.bounded_steps import bounded_step, curvature
from edtbx.fitting.joint_equations import JointEquations, PriorOfFrames
from edtbx.fitting.least_squares import FrameEquations, ReducedEquations
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.intensities.frame_waves import Rows
from edtbx.measurement.observations import Observations
from edtbx.solvers.block import Accuracy
from edtbx_cctbx.constraints.occupancies import OccupancyGroup
from edtbx_cctbx.refinement.model import reparametrisation_of
from edtbx_cctbx.refinement.settings import Refined
from edtbx_cctbx.structure.f_calc_derivatives import StructureSlopes
from edtbx_cctbx.targets.crystallographic_ls import crystallographic_ls
from edtbx_cctbx.targets.iterations import Iterations
from edtbx_cctbx.targets.theories import KinematicalTarget

FIXED = NuisanceBounds(refine_centres=False)
KNOWN = NuisanceBounds(refine_centres=False, thickness=430.0, sigma=0.001)


def frames_of(rng, *, noise, prior=2.0, frames=4, parameters=3, rows=9):
    """Equations with known derivatives, the scale of each frame 2 and the others 0 at the truth."""
    found = []
    for _ in range(frames):
        calculated, slopes = rng.uniform(1.0, 3.0, rows), rng.normal(size=(rows, 3 + parameters))
        along, by_structure = slopes[:, :3], slopes[:, 3:]
        observed = 2.0 * calculated + noise * rng.normal(size=rows)
        weights = rng.uniform(0.5, 2.0, rows)
        found.append(
            FrameEquations.of(observed, calculated, along, by_structure, weights=weights, centre=0.0, prior=prior)
        )
    return found


def dense(frames):
    """The design matrix with all parameters: scales, centres, σ and thickness, structure; priors below."""
    number, shared = len(frames), 2 + frames[0].parameters
    blocks = []
    for n, frame in enumerate(frames):
        rows = np.zeros((len(frame.root) + 1, 2 * number + shared))
        rows[:-1, n] = frame.calculated
        rows[:-1, number + n] = frame.scale * frame.along[:, 0]
        rows[:-1, 2 * number : 2 * number + 2] = frame.scale * frame.along[:, 1:]
        rows[:-1, 2 * number + 2 :] = frame.scale * frame.root[:, None] * frame.rows
        rows[-1, number + n] = frame.prior
        blocks.append(rows)
    return np.concatenate(blocks)


def test_elimination_is_the_inverse_of_the_whole_matrix():
    """With data that fit, where best scales and scales among the parameters are the same to all orders."""
    frames = frames_of(np.random.default_rng(1), noise=0.0)
    reduced = ReducedEquations(frames=frames, shared=np.array([True, True]))
    whole = np.linalg.inv(dense(frames).T @ dense(frames))
    covariance = np.linalg.inv(reduced.matrix)
    np.testing.assert_allclose(covariance, whole[10:, 10:], rtol=1e-10)
    shared, along, scales = reduced.variances(covariance)
    np.testing.assert_allclose(shared, whole[8:10, 8:10], rtol=1e-10)
    np.testing.assert_allclose(along[:, 0], np.diag(whole)[4:8], rtol=1e-10)
    np.testing.assert_allclose(along[:, 1:], np.tile(np.diag(whole)[8:10], (4, 1)), rtol=1e-10)
    np.testing.assert_allclose(scales, np.diag(whole)[:4], rtol=1e-10)


def test_what_is_not_refined_has_no_variance():
    frames = frames_of(np.random.default_rng(1), noise=0.0, prior=np.inf)
    reduced = ReducedEquations(frames=frames, shared=np.array([False, True]))
    shared, along, _ = reduced.variances(np.linalg.inv(reduced.matrix))
    np.testing.assert_array_equal(shared[0], 0.0)
    np.testing.assert_array_equal(along[:, :2], 0.0)
    keep = [0, 1, 2, 3, 9, 10, 11, 12]
    design = dense([replace(frame, prior=0.0) for frame in frames])[:, keep]
    np.testing.assert_allclose(np.linalg.inv(reduced.matrix), np.linalg.inv(design.T @ design)[5:, 5:], rtol=1e-10)


@pytest.mark.parametrize("prior", [2.0, np.inf])
def test_seeds_make_the_right_hand_side(prior):
    frames = frames_of(np.random.default_rng(2), noise=0.3, prior=prior)
    reduced = ReducedEquations(frames=frames, shared=np.array([True, False]))
    sums = sum(seed @ frame.rows for seed, frame in zip(reduced.seeds, frames, strict=True))
    np.testing.assert_allclose(sums, reduced.right_hand_side, rtol=1e-10)


def test_the_step_is_that_of_all_parameters():
    """Of Gauss and Newton, the scales being the best ones: to first order in the residual."""
    for noise, allowed in ((1e-3, 3e-3), (1e-5, 3e-5)):
        frames = frames_of(np.random.default_rng(3), noise=noise)
        reduced = ReducedEquations(frames=frames, shared=np.array([True, True]))
        residual = np.concatenate([np.append(frame.residual, 0.0) for frame in frames])
        expected = np.linalg.lstsq(dense(frames), residual, rcond=None)[0][10:]
        step = np.linalg.solve(reduced.matrix, reduced.right_hand_side)
        assert np.abs(step - expected).max() < allowed * np.abs(expected).max()


@pytest.mark.parametrize("centres", [True, False])
@pytest.mark.parametrize("held", [(), (-1,), (-2, -1, 1)], ids=["free", "one trend held", "trends held"])
def test_frames_with_one_prior_are_eliminated_together(centres, held):
    """Against the dense equations of ln scales, centres, trends, σ, thickness and structure, with the prior in them."""
    rng = np.random.default_rng(4)
    frames = [replace(frame, held_scale=1.9) for frame in frames_of(rng, noise=0.3)]
    own = 8 if centres else 4
    size, line = own + 2, np.array([-1.5, -0.5, 0.5, 1.5])
    root = rng.normal(size=(size, size))
    precision, point = root @ root.T + np.eye(size), 0.1 * rng.normal(size=size)
    levers = np.zeros((4, 3, 3))
    levers[:, 0, 0], levers[:, 1, 2], levers[:, 2, 1] = 1.0, 3.0 * line, 0.2 * line
    prior = PriorOfFrames(
        places=np.hstack([np.arange(own).reshape(-1, 4).T, np.tile([own, own + 1], (4, 1))]),
        levers=levers if centres else levers[:, 1:],
        precision=precision,
        point=point,
        held=np.isin(np.arange(size), np.array(held, dtype=int) % size),
    )
    joint = JointEquations(frames=frames, shared=np.array([True, True]), prior=prior)
    design = dense([replace(frame, prior=0.0) for frame in frames])
    design[:, :4] *= 1.9  # by ln scale
    of_row = np.repeat(line, [len(frame.root) + 1 for frame in frames])
    trends = np.column_stack([3.0 * of_row * design[:, 9], 0.2 * of_row * design[:, 8]])
    design = np.hstack([design[:, :own], trends, design[:, 8:]])
    residual = np.concatenate([np.append(frame.residual, 0.0) for frame in frames])
    matrix, right = design.T @ design, design.T @ residual
    matrix[:size, :size] += precision
    right[:size] -= precision @ point
    free = np.flatnonzero(np.append(~prior.held, np.ones(5, dtype=bool)))
    whole, step = np.zeros_like(matrix), np.zeros(len(matrix))
    whole[np.ix_(free, free)] = np.linalg.inv(matrix[np.ix_(free, free)])
    step[free] = np.linalg.solve(matrix[np.ix_(free, free)], right[free])
    np.testing.assert_allclose(np.linalg.inv(joint.matrix), whole[size + 2 :, size + 2 :], rtol=1e-9)
    np.testing.assert_allclose(np.linalg.solve(joint.matrix, joint.right_hand_side), step[size + 2 :], rtol=1e-9)
    sums = sum(seed @ frame.rows for seed, frame in zip(joint.seeds, frames, strict=True))
    np.testing.assert_allclose(sums, joint.right_hand_side, rtol=1e-9)
    shared, along, scales = joint.variances(np.linalg.inv(joint.matrix))
    np.testing.assert_allclose(shared, whole[size : size + 2, size : size + 2], rtol=1e-9)
    np.testing.assert_allclose(scales, 1.9**2 * np.diag(whole)[:4], rtol=1e-9)
    np.testing.assert_allclose(along[:, 0], np.diag(whole)[4:8] if centres else 0.0, rtol=1e-9)
    for column, lever, trend, common in ((1, 0.2 * line, own + 1, size), (2, 3.0 * line, own, size + 1)):
        together = np.ix_([trend, common], [trend, common])
        expected = [np.array([one, 1.0]) @ whole[together] @ np.array([one, 1.0]) for one in lever]
        np.testing.assert_allclose(along[:, column], expected, rtol=1e-9)
    some = free[free < size + 2]
    shifts = np.zeros(size + 2)
    shifts[some] = np.linalg.solve(matrix[np.ix_(some, some)], right[some])
    shared, own_shifts = joint.nuisance_shifts
    np.testing.assert_allclose(shared, shifts[size:], rtol=1e-9)
    np.testing.assert_allclose(own_shifts, shifts[:size], rtol=1e-9, atol=1e-12)


def noisy(structure, experiment, seed=0, nuisance=None):
    """What the structure gives, and noise of the s.u.s."""
    clean = simulated(structure, experiment, nuisance=nuisance or centred(experiment))
    rows = clean.reflections
    noise = rows.sigma * np.random.default_rng(seed).standard_normal(len(rows))
    return replace(clean, reflections=replace(rows, intensity=rows.intensity + noise))


def centred(experiment, **kwargs):
    return replace(nuisance_for(experiment, **kwargs), centres=np.zeros(len(experiment.frames)))


@pytest.mark.parametrize("by_rows", [False, True])
def test_drafts_lead_to_the_minimum_of_the_observations(by_rows):
    """A draft with fewer beams, and with the gradient of its rows; noise, so that residuals stay."""
    truth = model_in("P 41 21 2")
    experiment = noisy(truth, experiment_for(truth, per_frame=60))
    structure = truth.deep_copy_scatterers()
    random.seed(2)
    structure.shake_sites_in_place(rms_difference=0.02)

    def equations(**kwargs):
        return crystallographic_ls(target(), reparametrisation_of(structure, Refined(displacements=False)), **kwargs)

    def target(**kwargs):
        return target_for(structure, experiment, bounds=KNOWN, nuisance=centred(experiment), **kwargs)

    coarse = replace(SAMPLING, accuracy=Accuracy(s_max=0.02))
    ls = equations(draft=target(sampling=coarse), draft_by_rows=by_rows)
    iterations = Iterations(ls=ls, usual=np.full(ls.n_parameters, 0.05), correction=None, least=0.01)
    for _ in range(20):
        ls.restore(iterations.build_up())
        ls.solve()
        iterations.take()
        if iterations.is_at_end:
            break
        iterations.step_forward()
    assert iterations.is_at_end
    assert not ls.is_draft
    assert iterations.passes <= 6
    assert iterations.drafts >= 1
    exact = equations()
    exact.build_up()
    exact.solve()
    assert exact.shift_over_su() < 0.02


def test_a_structure_comes_to_rest_beside_learnt_frames():
    """Scales fall by a fifth over the scan; the gradient is that of misfit and prior together; a state brings all back."""
    truth = model_in("P 41 21 2")
    frames = experiment_for(truth, per_frame=60)
    scales = np.linspace(1.1, 0.9, len(frames.frames))
    experiment = noisy(truth, frames, nuisance=replace(centred(frames), scales=scales))
    structure = truth.deep_copy_scatterers()
    random.seed(3)
    structure.shake_sites_in_place(rms_difference=0.01)

    def equations():
        target = target_for(structure, experiment, bounds=KNOWN, nuisance=centred(experiment))
        return crystallographic_ls(target, reparametrisation_of(structure, Refined(displacements=False)), learn=True)

    ls = equations()
    for cycle in range(10):
        ls.renew_sizes = cycle < 4
        ls.build_up()
        ls.solve()
        if cycle > 4 and ls.shift_over_su() < 0.02:
            break
        ls.step_forward()
    assert ls.shift_over_su() < 0.02
    sites = np.array([site for scatterer in structure.scatterers() for site in scatterer.site])
    exact = np.array([site for scatterer in truth.scatterers() for site in scatterer.site])
    assert np.abs(sites - exact).max() < 0.002
    found = ls.observations.nuisance.scales
    np.testing.assert_allclose(found / found.mean(), scales, atol=0.02)
    learnt = ls.data.learnt
    assert learnt.effective < len(scales) + 1e-6
    assert ls.n_refined == ls.n_parameters + round(learnt.effective)
    assert np.all(ls.nuisance_su.scales > 0.0)
    state = ls.state()
    other = equations()
    other.restore(state)
    other.complete()
    assert other.data.learnt is not None
    np.testing.assert_allclose(other.data.reduced.matrix, ls.data.reduced.matrix, rtol=1e-6)
    np.testing.assert_allclose(other.nuisance_su.scales, ls.nuisance_su.scales, rtol=1e-6)


def test_a_correction_puts_the_exact_equations_in_place():
    truth = model_in("P 41 21 2")
    experiment = noisy(truth, experiment_for(truth, per_frame=60))
    coarse = replace(SAMPLING, accuracy=Accuracy(s_max=0.015), tilts=SAMPLING.tilts // 2)

    def equations(**kwargs):
        target = target_for(truth, experiment, bounds=KNOWN, nuisance=centred(experiment))
        ls = crystallographic_ls(target, reparametrisation_of(truth, Refined()), **kwargs)
        ls.build_up()
        return ls

    exact = equations()
    drafted = equations(draft=target_for(truth, experiment, bounds=KNOWN, sampling=coarse))
    assert drafted.is_draft
    length = np.linalg.norm(exact.right_hand_side)
    assert np.linalg.norm(drafted.right_hand_side - exact.right_hand_side) > 1e-2 * length
    drafted.correct()
    assert not drafted.is_draft
    np.testing.assert_allclose(drafted.right_hand_side, exact.right_hand_side, atol=1e-6 * length)
    np.testing.assert_allclose(drafted.fc_sq.data(), exact.fc_sq.data(), rtol=1e-5)
    drafted.build_up()  # no draft again
    assert not drafted.is_draft
    np.testing.assert_allclose(drafted.right_hand_side, exact.right_hand_side, atol=1e-6 * length)
    np.testing.assert_allclose(drafted.fc_sq.data(), exact.fc_sq.data(), rtol=1e-5)


@pytest.mark.parametrize("solver", ["kinematical", "two_beam"])
def test_single_reflections_depend_on_their_own_structure_factors_alone(solver):
    structure = model_in("P 1")
    target = target_for(structure, experiment_for(structure), solver=solver)
    rp = reparametrisation_of(structure, Refined())
    rp.linearise()
    rp.store()
    every, few = (StructureSlopes.of(target.expansion, rp, where) for where in (None, target.forward.sufficient))
    assert np.count_nonzero(few.slopes) < 0.5 * np.count_nonzero(every.slopes)
    seeds = [np.linspace(1.0, 2.0, len(waves.wanted)) for waves in target.forward.waves]
    gradient = target.forward.gradient(target.structure_factors(structure), target.nuisance, seeds)
    everywhere = np.arange(len(gradient))
    np.testing.assert_array_equal(few(everywhere, gradient[None]), every(everywhere, gradient[None]))


@pytest.mark.parametrize("symbol", MODELS)
def test_rows_by_every_kind_of_parameter_against_finite_differences(symbol):
    structure = model_in(symbol)
    target = target_for(structure, experiment_for(structure))
    every = tuple(OccupancyGroup.parse(scatterer.label) for scatterer in structure.scatterers())
    rp = reparametrisation_of(structure, Refined(occupancies=every))
    rp.linearise()
    rp.store()
    f = target.structure_factors(structure)
    slopes = StructureSlopes.of(target.expansion, rp)
    exact = np.concatenate(list(target.forward.jacobian(f, target.nuisance, slopes, Rows.EXACT)))

    def intensities(shift):
        rp.apply_shifts(flex.double(shift))
        rp.linearise()
        rp.store()
        found = np.concatenate(target.forward.intensities(target.structure_factors(structure), target.nuisance))
        rp.apply_shifts(flex.double(-shift))
        rp.linearise()
        rp.store()
        return found

    assert exact.shape[1] == rp.n_independents > 3
    for number in range(rp.n_independents):
        shift = np.zeros(rp.n_independents)
        shift[number] = 1e-6
        numerical = (intensities(shift) - intensities(-shift)) / 2e-6
        np.testing.assert_allclose(exact[:, number], numerical, rtol=0, atol=1e-5 * np.abs(numerical).max())


def matrix_of(ls):
    return ls.normal_matrix_packed_u().matrix_packed_u_as_symmetric().as_numpy_array()


@pytest.mark.parametrize("symbol", MODELS)
def test_one_kinematical_frame_is_stock_smtbx(symbol):
    """I is |F|² times a constant of each reflection; divided by it, data and s.u.s are those that smtbx refines against."""
    structure = model_in(symbol)
    experiment = noisy(structure, experiment_for(structure, per_frame=60, frames=1, reach=1.6))
    target = target_for(
        structure,
        experiment,
        KinematicalTarget,
        nuisance=centred(experiment),
        bounds=KNOWN,
    )
    rp = reparametrisation_of(structure, Refined())
    mine = crystallographic_ls(target, rp, rows="exact", weighting_scheme=least_squares.sigma_weighting())
    mine.build_up()
    fo_sq = target.i_obs()
    (unscaled,) = target.forward.intensities(target.structure_factors(structure), target.nuisance)
    factor = flex.double(unscaled) / flex.norm(mine.f_calc.data())
    divided = fo_sq.customized_copy(data=fo_sq.data() / factor, sigmas=fo_sq.sigmas() / factor)
    stock = least_squares.crystallographic_ls(
        divided.set_observation_type_xray_intensity().as_xray_observations(),
        rp,
        weighting_scheme=least_squares.sigma_weighting(),
    )
    stock.build_up()
    assert len(mine.observations.observations) > rp.n_independents
    assert mine.objective() == pytest.approx(stock.objective(), rel=1e-12)
    for name in ("normal_matrix_packed_u", "opposite_of_gradient"):
        found, expected = (getattr(ls, name)().as_numpy_array() for ls in (mine, stock))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    matrix, right = matrix_of(stock), stock.opposite_of_gradient().as_numpy_array()
    mine.solve()
    np.testing.assert_allclose(matrix @ mine.step().as_numpy_array(), right, rtol=0, atol=1e-9 * np.abs(right).max())
    assert mine.wR2() == pytest.approx(stock.wR2(), rel=1e-12)


@pytest.mark.parametrize("rows", list(Rows))
@pytest.mark.parametrize("symbol", ["P 1", "P 41 21 2"])
def test_the_gradient_is_that_of_the_objective(symbol, rows):
    """With rows of either kind."""
    structure = model_in(symbol)
    experiment = noisy(structure, experiment_for(structure, per_frame=60))
    target = target_for(structure, experiment, nuisance=centred(experiment), bounds=KNOWN)
    ls = crystallographic_ls(
        target, reparametrisation_of(structure, Refined()), rows=rows, weighting_scheme=least_squares.sigma_weighting()
    )
    ls.build_up()
    exact = -ls.opposite_of_gradient().as_numpy_array()
    direction = np.random.default_rng(0).normal(size=len(exact)) * 1e-7

    def objective(sign):
        rp = ls.reparametrisation
        rp.apply_shifts(flex.double(sign * direction))
        rp.linearise()
        rp.store()
        ls.build_up(objective_only=True)
        return ls.objective()

    numerical = (objective(1.0) - objective(-2.0)) / 2.0
    # what fixes a free origin adds nothing to the gradient
    assert exact @ direction == pytest.approx(numerical, rel=1e-5)


def twice(experiment):
    """Every frame listed a second time, as overlapping virtual frames list a measurement."""
    rows = experiment.reflections
    both = {name: np.concatenate([getattr(rows, name)] * 2) for name in ("hkl", "intensity", "sigma")}
    more = [replace(frame, id=frame.id + 1) for frame in experiment.frames]
    return replace(
        experiment,
        frames=(*experiment.frames, *more),
        reflections=replace(rows, **both, frame_id=np.concatenate([rows.frame_id, rows.frame_id + 1])),
    )


def refinement_of(structure, experiment, **kwds):
    """Sites and displacements, spread and centres; the thickness is known."""
    target = target_for(structure, experiment, nuisance=centred(experiment), bounds=NuisanceBounds(thickness=430.0))
    kwds = {"weighting_scheme": least_squares.sigma_weighting(), **kwds}
    return crystallographic_ls(target, reparametrisation_of(structure, Refined()), **kwds)


def test_a_repeated_measurement_counts_once():
    structure = model_in("P 41 21 2")
    experiment = noisy(structure, experiment_for(structure, per_frame=60))
    doubled = twice(experiment)
    np.testing.assert_array_equal(
        Observations.of(doubled, np.ones(len(doubled.reflections), dtype=bool)).multiplicity, 2.0
    )
    once = refinement_of(structure, experiment)
    shared = refinement_of(structure, twice(experiment))
    counted_twice = refinement_of(structure, twice(experiment), repeats=False)
    for ls in (once, shared, counted_twice):
        ls.build_up()

    def uncertainties(ls):
        return np.sqrt(ls.covariance_matrix(normalised_by_goof=False).matrix_packed_u_diagonal().as_numpy_array())

    np.testing.assert_allclose(uncertainties(shared), uncertainties(once), rtol=1e-6)
    np.testing.assert_allclose(uncertainties(counted_twice), uncertainties(once) / np.sqrt(2.0), rtol=1e-6)


def gauss_newton(ls, cycles):
    normal_eqns_solving.naive_iterations(ls, n_max_iterations=cycles, step_threshold=1e-7)


def levenberg_marquardt(ls, cycles):
    normal_eqns_solving.levenberg_marquardt_iterations(ls, n_max_iterations=cycles, step_threshold=1e-7)


@pytest.mark.parametrize("drive", [gauss_newton, levenberg_marquardt])
@pytest.mark.parametrize(("rows", "cycles", "off"), [(Rows.EXACT, 6, 2e-5), (Rows.LOCAL, 20, 2e-4)])
def test_stock_drivers_find_the_structure_again(drive, rows, cycles, off):
    """Displaced by 0.1 Å; the data have no noise. Local rows converge, too, if more slowly: by 0.8 a cycle here."""
    truth = model_in("P 41 21 2")
    experiment = experiment_for(truth, per_frame=60)
    experiment = simulated(truth, experiment, nuisance=centred(experiment))
    start = truth.deep_copy_scatterers()
    random.seed(2)
    flex.set_random_seed(2)
    start.shake_sites_in_place(rms_difference=0.1)
    ls = refinement_of(start, experiment, rows=rows)
    drive(ls, cycles)
    np.testing.assert_allclose(start.sites_frac().as_double(), truth.sites_frac().as_double(), rtol=0, atol=off)
    assert ls.r1_factor()[0] < 1e-3


def test_restraints_act_as_in_stock_smtbx():
    """Their share of objective, matrix and right-hand side, on the scale of the data."""
    structure = model_in("P 41 21 2")
    experiment = noisy(structure, experiment_for(structure, per_frame=60, frames=1, reach=1.6))
    manager = restraints.manager(
        bond_proxies=geometry_restraints.shared_bond_simple_proxy(
            [geometry_restraints.bond_simple_proxy((0, 1), distance_ideal=1.9, weight=2500.0)]
        )
    )
    with_it, without = (refinement_of(structure, experiment, **kwds) for kwds in ({"restraints_manager": manager}, {}))
    for ls in (with_it, without):
        ls.build_up()
    rp = with_it.reparametrisation
    linearised = manager.build_linearised_eqns(structure, rp.parameter_map())
    jacobian = rp.jacobian_transpose_matching(rp.mapping_to_grad_fc_all).transpose()
    expected = normal_eqns.ext.non_linear_ls(rp.n_independents)  # to which the stock class adds them
    weights = linearised.weights * (with_it.chi_sq_data_only / with_it.sum_w_yo_sq())
    expected.add_equations(linearised.deltas, linearised.design_matrix * jacobian, weights)
    equations = expected.step_equations()
    wanted = equations.normal_matrix_packed_u().matrix_packed_u_as_symmetric().as_numpy_array()
    more = matrix_of(with_it) - matrix_of(without)
    np.testing.assert_allclose(more, wanted, rtol=0, atol=1e-9 * np.abs(wanted).max())
    wanted = equations.right_hand_side().as_numpy_array()
    more = (with_it.opposite_of_gradient() - without.opposite_of_gradient()).as_numpy_array()
    np.testing.assert_allclose(more, wanted, rtol=0, atol=1e-9 * np.abs(wanted).max())
    assert with_it.objective() - without.objective() == pytest.approx(expected.objective(), rel=1e-9)
    assert with_it.objective() > without.objective()
    assert with_it.n_restraints == 1


def test_damping_leaves_the_uncertainties_alone():
    structure = model_in("P 41 21 2")
    ls = refinement_of(structure, noisy(structure, experiment_for(structure, per_frame=60)))
    ls.build_up()
    expected = ls.covariance_matrix().as_numpy_array()
    ls.normal_matrix_packed_u().matrix_packed_u_diagonal_add_in_place(100.0)
    ls.solve()
    np.testing.assert_array_equal(ls.covariance_matrix().as_numpy_array(), expected)


@pytest.mark.parametrize("case", ["centres drawn from their prior", "measurements listed twice"])
def test_uncertainties_are_the_spread_of_results(case):
    """(refined − true)/s.u. over 30 draws of the noise has spread 1."""
    truth = model_in("P 41 21 2")
    experiment = experiment_for(truth, per_frame=60)
    refines_centres = case.startswith("centres")
    deviations = []
    for seed in range(30):
        nuisance = centred(experiment)
        if refines_centres:
            drawn = np.random.default_rng(1000 + seed).normal(size=len(experiment.frames))
            nuisance = replace(nuisance, centres=NuisanceBounds().centre_prior * drawn)
        measured = noisy(truth, experiment, seed, nuisance)
        measured = measured if refines_centres else twice(measured)
        target = target_for(
            truth,
            measured,
            nuisance=centred(measured),
            bounds=NuisanceBounds(thickness=430.0, refine_centres=refines_centres, centre_max=np.radians(0.4)),
        )
        ls = crystallographic_ls(
            target,
            reparametrisation_of(truth, Refined(displacements=False)),
            weighting_scheme=least_squares.sigma_weighting(),
        )
        ls.build_up()
        ls.solve()
        moved = ls.step().as_numpy_array()
        variances = ls.covariance_matrix(normalised_by_goof=False).matrix_packed_u_diagonal().as_numpy_array()
        deviations.append(moved / np.sqrt(variances))
    # a standard deviation from 100 draws of some parameters is good to 7 % at most, one from 30 to 13 %
    assert np.std(deviations) == pytest.approx(1.0, abs=0.1 * np.sqrt(100 / 30))
    assert abs(np.mean(deviations)) < 0.3


def test_bounded_steps_hold_what_is_far_off_and_what_turns_back():
    """Of coupled equations, the others take what is best for them beside those that are held."""
    matrix = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]])
    right, usual = np.array([1.0, 0.2, 0.3]), np.ones(3)
    free = np.linalg.solve(matrix, right)
    np.testing.assert_allclose(bounded_step(matrix, right, usual, np.zeros(0)), free)
    small = np.array([0.05, 1.0, 1.0])
    held = bounded_step(matrix, right, small, np.zeros(0))
    assert held[0] == pytest.approx(4.0 * small[0])
    np.testing.assert_allclose(held[1:], np.linalg.solve(matrix[1:, 1:], right[1:] - matrix[1:, 0] * held[0]))
    back = bounded_step(matrix, right, 0.2 * usual, np.array([-0.4, 0.0, 0.0]))
    assert back[0] == pytest.approx(0.2)
    np.testing.assert_allclose(back[1:], np.linalg.solve(matrix[1:, 1:], right[1:] - matrix[1:, 0] * back[0]))
    onward = bounded_step(matrix, right, usual, np.array([0.4, 0.0, 0.0]))
    np.testing.assert_allclose(onward, free)


def test_secants_correct_the_curvature_along_the_steps_taken():
    """Of a quadratic function whose curvature the normal matrix gets wrong: exact along every step, still positive."""
    rng = np.random.default_rng(4)
    root = rng.normal(size=(6, 6))
    true = root @ root.T + np.eye(6)
    taken_for = np.diag(np.diag(true)) * 2.0
    steps = rng.normal(size=(2, 6))
    secants = [(step, true @ step) for step in steps]
    corrected = curvature(taken_for, secants)
    np.testing.assert_allclose(corrected @ steps[-1], true @ steps[-1], rtol=1e-10)
    assert np.linalg.eigvalsh(corrected).min() > 0.0
    np.testing.assert_allclose(curvature(taken_for, [(steps[0], -steps[0])]), taken_for)
