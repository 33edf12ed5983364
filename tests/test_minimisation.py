"""cctbx's minimiser with our targets: which structure factors it hands over, and what is said of wrong ones."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from cctbx import xray
from cctbx.xray import minimization
from plain_reference import derivative
from scitbx import lbfgs
from test_target import MODELS, experiment_for, model_in, refining, simulated, target_for

import edtbx_cctbx
from edtbx.execution.progress import Reporter
from edtbx_cctbx import InexactStructureFactors, KinematicalTarget, minimise_with_lbfgs
from edtbx_cctbx.arrays import from_numpy
from edtbx_cctbx.structure.form_factors import set_electron_form_factors
from edtbx_cctbx.targets.parabola import TargetParabola, independent_parameters

REACH = {"g_max": 1.0}


def f_calc(target, structure, algorithm, table=False):
    factors = xray.structure_factors.from_scatterers(miller_set=target.f_obs(), cos_sin_table=table)
    return factors(structure, target.f_obs(), algorithm).f_calc()


def kinematical(structure):
    return target_for(structure, experiment_for(structure, reach=0.9), KinematicalTarget, **REACH)


@pytest.mark.parametrize("symbol", MODELS)
def test_the_fft_is_noticed_once(symbol):
    structure = model_in(symbol)
    target = kinematical(structure)
    by_fft = f_calc(target, structure, "fft")
    with pytest.warns(InexactStructureFactors, match='algorithm="direct", cos_sin_table=False'):
        target(by_fft, False)
    target(by_fft, False)  # warnings are errors here


@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize("symbol", MODELS)
def test_direct_summation_passes(symbol, table):
    structure = model_in(symbol)
    target = kinematical(structure)
    target(f_calc(target, structure, "direct", table), False)


def test_changed_occupancies_are_no_fft():
    """Of the structure in hand before the first call, and of any structure after it."""
    structure = model_in("I -4 2 d")
    target = kinematical(structure)
    structure.scatterers()[2].occupancy = 0.3
    set_electron_form_factors(structure)
    target(f_calc(target, structure, "direct"), False)
    other = structure.deep_copy_scatterers()
    other.scatterers()[0].occupancy = 0.1
    target(f_calc(target, other, "direct"), False)


def test_the_default_of_lbfgs_is_noticed():
    structure = model_in("P 1")
    target = kinematical(structure)
    few = lbfgs.termination_parameters(max_iterations=1)
    with pytest.warns(InexactStructureFactors):
        minimization.lbfgs(
            target, refining(structure, site=True), structure_factor_algorithm="fft", lbfgs_termination_params=few
        )


def test_the_helper_refines_with_exact_structure_factors(monkeypatch):
    true = model_in("P 1")
    experiment = simulated(true, experiment_for(true, per_frame=25, frames=6, reach=0.8), KinematicalTarget, **REACH)
    structure = true.deep_copy_scatterers()
    for n, atom in enumerate(structure.scatterers()):
        atom.site = tuple(x + (n + 1) * d for x, d in zip(atom.site, (0.004, -0.003, 0.002), strict=True))
    set_electron_form_factors(structure)
    target = target_for(structure, experiment, KinematicalTarget, **REACH)
    asked = []
    made = xray.structure_factors.from_scatterers

    def watched(*args, **kwargs):
        asked.append(kwargs.get("cos_sin_table"))
        return made(*args, **kwargs)

    monkeypatch.setattr(xray.structure_factors, "from_scatterers", watched)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refined = minimise_with_lbfgs(
            target,
            refining(structure, site=True),
            lbfgs_termination_params=lbfgs.termination_parameters(max_iterations=12),
        )
    assert asked[0] is False
    assert refined.structure_factor_algorithm == "direct"
    assert refined.final_target_value < 0.2 * refined.first_target_value
    assert "minimise_with_lbfgs" in edtbx_cctbx.__all__


# ---- parabolas, and passes between them ---------------------------------------------------------------------------


def displaced(true, size=0.004):
    structure = true.deep_copy_scatterers()
    for n, atom in enumerate(structure.scatterers()):
        atom.site = tuple(x + (n + 1) * d for x, d in zip(atom.site, (size, -0.75 * size, 0.5 * size), strict=True))
    set_electron_form_factors(structure)
    return structure


@pytest.fixture(scope="module")
def dynamical():
    """A target of simulated dynamical data, and the structure that it was simulated with."""
    true = model_in("P 1")
    experiment = simulated(true, experiment_for(true, per_frame=60, frames=6, reach=1.0), **REACH)
    return target_for(true, experiment, **REACH), true


def moved(structure, shifts):
    parameters = independent_parameters(refining(structure.deep_copy_scatterers(), site=True))
    parameters.apply_shifts(from_numpy(shifts))
    parameters.linearise()
    parameters.store()
    return parameters.structure


def test_a_parabola_is_exact_to_first_order(dynamical):
    target, true = dynamical
    structure = refining(displaced(true, 0.001), site=True)
    parabola = TargetParabola.at(target, independent_parameters(structure))

    def value(shifts):
        return target(f_calc(target, moved(structure, shifts), "direct"), False).target()

    assert parabola.value == pytest.approx(value(0.0 * parabola.gradient), rel=1e-9)
    towards = -1e-3 * parabola.gradient / np.abs(parabola.gradient).max()
    assert parabola.gradient @ towards == pytest.approx(derivative(lambda d: value(d * towards), 0.05), rel=1e-4)


def test_a_step_from_nearby_goes_to_the_structure_that_the_data_come_from(dynamical):
    target, true = dynamical
    structure = true.deep_copy_scatterers()
    set_electron_form_factors(structure)
    shifts = 2e-4 * np.random.default_rng(3).standard_normal(3 * structure.scatterers().size())
    parabola = TargetParabola.at(target, independent_parameters(refining(moved(structure, shifts), site=True)))
    step, lowest = parabola.step(0.03)
    after = target(f_calc(target, moved(moved(structure, shifts), step), "direct"), False).target()
    assert after < 0.25 * parabola.value  # rows of so few beams are off by more than usual
    assert lowest < 0.1 * parabola.value


def test_secants_make_up_for_rows_that_are_off(dynamical):
    target, true = dynamical
    structure = refining(displaced(true, 0.001), site=True)
    parabola = TargetParabola.at(target, independent_parameters(structure))
    wrong = replace(parabola, rows=[0.5 * row for row in parabola.rows])
    shifts, _ = parabola.step(0.03)
    there = TargetParabola.at(target, independent_parameters(refining(moved(structure, shifts), site=True)), wrong)
    with_secant = wrong.with_secant(shifts, there)
    assert wrong.step(0.0)[0] @ parabola.gradient < 1.5 * (with_secant.step(0.0)[0] @ parabola.gradient)
    assert parabola.with_new_rows().value == parabola.value


class Lines(Reporter):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def test_passes_end_in_the_minimum_of_the_target(dynamical):
    target, true = dynamical
    structure, by_itself = (refining(displaced(true), site=True) for _ in range(2))
    report = Lines()
    refined = minimise_with_lbfgs(target, structure, report=report)
    assert report.lines[-1].startswith(f"pass {refined.passes} over the observations: target")
    assert refined.passes < 30  # it has come to an end by itself
    plain = minimise_with_lbfgs(target, by_itself, lbfgs_termination_params=lbfgs.termination_parameters())
    assert refined.first_target_value == pytest.approx(plain.first_target_value, rel=1e-9)
    assert refined.final_target_value == pytest.approx(
        target(f_calc(target, structure, "direct"), False).target(), rel=1e-9
    )
    assert refined.final_target_value < 1e-3 * refined.first_target_value
    found, expected = (np.array(each.sites_cart()) for each in (structure, true))  # in P 1 the origin is free
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-3)


def test_a_step_too_long_is_taken_back(dynamical, monkeypatch):
    """Nothing is lost where the target is no parabola over the whole way: the target never ends above where it began."""
    target, true = dynamical
    structure = refining(displaced(true, 0.03), site=True)
    values = []
    made = TargetParabola.at.__func__

    def watched(cls, *args, **kwargs):
        values.append(made(cls, *args, **kwargs))
        return values[-1]

    monkeypatch.setattr(TargetParabola, "at", classmethod(watched))
    refined = minimise_with_lbfgs(target, structure)
    assert refined.final_target_value <= min(parabola.value for parabola in values) * (1.0 + 1e-9)
    assert refined.final_target_value < refined.first_target_value
