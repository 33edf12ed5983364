"""cctbx's minimiser with our targets: which structure factors it hands over, and what is said of wrong ones."""

import warnings

import pytest
from cctbx import xray
from cctbx.xray import minimization
from scitbx import lbfgs
from test_target import MODELS, experiment_for, model_in, refining, simulated, target_for

import edtbx_cctbx
from edtbx_cctbx import InexactStructureFactors, KinematicalTarget, minimise_with_lbfgs
from edtbx_cctbx.structure.form_factors import set_electron_form_factors

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
