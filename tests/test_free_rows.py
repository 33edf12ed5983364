"""R(free): frames or indices left out share no measurement with those refined, and judge a structure."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from libtbx.utils import Sorry

from edtbx.crystal.learning import learn_frames
from edtbx.crystal.left_out import fitted_nearby, foretold, parts_of
from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.measurement.selection import SelectionRules
from edtbx_cctbx import read_experiment, read_model
from edtbx_cctbx.maps.make_maps import MapSettings
from edtbx_cctbx.programs import compare as compare_program
from edtbx_cctbx.programs import refine as refine_program
from edtbx_cctbx.refinement.compare import compare
from edtbx_cctbx.refinement.free_rows import foretold_statistics, free_statistics, without_every, without_fraction
from edtbx_cctbx.refinement.refine import refine
from edtbx_cctbx.refinement.settings import RefinementSettings, Settings
from edtbx_cctbx.structure.structure_factors import miller_set
from edtbx_cctbx.targets.selected_rows import left_out_together

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SETTINGS = Settings(tolerance=0.5, nproc=2)


@pytest.fixture(scope="module")
def structure():
    return read_model(EXAMPLES / "example.cif", log=io.StringIO())


@pytest.fixture(scope="module")
def parts(structure):
    experiment = read_experiment(EXAMPLES / "example.cif_pets")
    return experiment, *without_every(experiment, structure, SETTINGS.rules, 3)


def measurements(rows):
    return {tuple(row) for row in np.column_stack([rows.hkl, rows.intensity, rows.sigma]).tolist()}


def test_frames_left_out_share_no_measurement_with_the_others(parts, structure):
    experiment, work, left_out = parts
    ids = [frame.id for frame in experiment.frames]
    assert [frame.id for frame in left_out.frames] == ids[1::3]
    assert sorted([frame.id for frame in work.frames] + ids[1::3]) == ids
    used = measurements(SETTINGS.scattering_model("kinematical", work, structure).observations.reflections)
    free = measurements(left_out.reflections)
    assert len(free) > 10
    assert not used & free


def test_what_overlapping_frames_measure_together_is_no_test(parts, structure):
    experiment, _, _ = parts
    rows, first = experiment.reflections, experiment.frames[0].id
    shared = np.flatnonzero(rows.frame_id == experiment.frames[1].id)[:20]
    more = rows.select(np.concatenate([np.arange(len(rows)), shared]))
    frame_id = more.frame_id.copy()
    frame_id[len(rows) :] = first
    all_rows = SelectionRules(rsg_max=np.inf, dsg_min=-np.inf, sg_max=np.inf)
    overlapping = replace(experiment, reflections=replace(more, frame_id=frame_id))
    alone, apart = (without_every(each, structure, all_rows, 3)[1] for each in (overlapping, experiment))
    assert measurements(apart.reflections) - measurements(alone.reflections) == measurements(rows.select(shared))


def test_they_tell_a_true_structure_from_a_displaced_one(parts, structure):
    _, work, left_out = parts
    fit = compare(work, structure, SETTINGS).dynamical
    free = free_statistics(left_out, fit, SETTINGS)
    assert free.n_all == len(left_out.reflections)
    assert free.r_obs < 2.0 * fit.statistics.r_obs
    moved = structure.deep_copy_scatterers()
    moved.shake_sites_in_place(rms_difference=0.1)
    assert free_statistics(left_out, replace(fit, structure=moved), SETTINGS).r_obs > 2.0 * free.r_obs


def test_indices_left_out_take_equivalents_and_mates_with_them(parts, structure):
    experiment, _, _ = parts
    work, left_out = without_fraction(experiment, structure, SETTINGS.rules, 0.2)
    one, other = (
        {tuple(h) for h in miller_set(structure, rows.hkl, anomalous_flag=False).map_to_asu().indices()}
        for rows in (work.reflections, left_out.reflections)
    )
    assert not one & other
    scattering = SETTINGS.scattering_model("kinematical", experiment, structure)
    assert len(left_out.reflections) == pytest.approx(0.2 * len(scattering.observations), rel=0.3)
    used = len(SETTINGS.scattering_model("kinematical", work, structure).observations)
    assert used + len(left_out.reflections) == len(scattering.observations)
    fit = compare(work, structure, SETTINGS).dynamical
    free = foretold_statistics(left_out, fit, SETTINGS)
    assert free.n_all == len(left_out.reflections)
    assert fit.statistics.r_obs < free.r_obs < 2.0 * fit.statistics.r_obs


def test_what_is_left_out_of_fits_is_foretold_worse(parts, structure):
    fits = compare(parts[0], structure, SETTINGS, cross_validate=4).fits
    for fit in fits.values():
        assert fit.free.statistics.n_all == fit.statistics.n_all
        assert fit.statistics.r_obs < fit.free.statistics.r_obs < 2.0 * fit.statistics.r_obs
    assert fits["dynamical"].free.statistics.r_obs < fits["kinematical"].free.statistics.r_obs


@pytest.mark.real_data
def test_half_of_the_indices_of_urea(data_dir):
    """R(obs) of 0.103 by another program, with scales free and centres held to 0.1 degrees; less with priors learnt."""
    model = read_model(data_dir / "urea" / "urea_jana.cif", log=io.StringIO())
    settings = Settings(tolerance=0.2)
    coarse = settings.scattering_model("auto", read_experiment(data_dir / "urea" / "urea.cif_pets"), model)
    start = coarse.fit_coarse(model)
    scattering, _ = coarse.at_level(coarse.choose_level(model, start).level, start)
    grid, bounds, observations = scattering.forward.grid, scattering.bounds, scattering.observations
    cubes = scattering.cubes(model)
    nuisance = fitted_nearby(cubes, grid, bounds, start)
    assert scattering.statistics(np.concatenate(nuisance.intensities(grid, cubes))).r_obs < 0.085
    parts = observations.split(parts_of(left_out_together(model, observations.reflections.hkl), 2))

    def by_hand(some, places, _):
        return fitted_nearby(some, grid, bounds, nuisance.at(places))

    def learnt(some, places, rows):
        start, scan = by_hand(some, places, rows), scattering.scan_rows.at(places, rows)
        return learn_frames(some, grid, bounds, start, scan).nuisance

    found = [
        scattering.statistics(np.concatenate(foretold(cubes, grid, parts, fit))).r_obs for fit in (by_hand, learnt)
    ]
    assert found[0] == pytest.approx(0.103, abs=0.004)
    assert found[1] < 0.97 * found[0]


def test_cross_validation_is_printed_and_written(tmp_path, capsys):
    files = [str(EXAMPLES / "example.cif"), str(EXAMPLES / "example.cif_pets")]
    few = ["frames.last=6", "nproc=2", "accuracy.tolerance=0.5", f"output.prefix={tmp_path / 'c'}"]
    compare_program.run([*files, "cross_validate=3", "learn=True", *few])
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["free"]["auto"]["r_obs"] < found["free"]["kinematical"]["r_obs"]
    assert "3 parts" in found["free"]["auto"]["of"]
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"R(free): of indices left out of the fits in 3 parts, one after the other, {found['dynamical']['n_all']}"
        in said
    )
    assert "Learnt: scales vary along the scan by" in said
    assert 0.0 < found["learnt"]["effective_parameters"] < 2 * len(found["frames"]) + 2
    assert all(frame["scale_su"] > 0.0 for frame in found["frames"])
    assert "On indices left out of the fits" in " ".join((tmp_path / "c.cif").read_text().split())


def test_what_does_not_learn_says_so_before_any_work(parts, structure):
    with pytest.raises(Sorry, match="learn=True needs least squares"):
        refine(parts[0], structure, RefinementSettings(learn=True, method="gradient"))
    with pytest.raises(ValueError, match="leave learn out"):
        MapSettings(learn=True)


def test_the_program_prints_and_writes_them(tmp_path, capsys):
    few = [
        "frames.last=6",
        "nproc=2",
        "refinement.cycles=1",
        "accuracy.tolerance=0.5",
        f"output.prefix={tmp_path / 'r'}",
    ]
    data = str(EXAMPLES / "example.cif_pets")
    refine_program.run([str(EXAMPLES / "example.cif"), data, "refinement.free_frames=3", *few])
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["free"]["auto"]["r_obs"] < found["free"]["kinematical"]["r_obs"]
    assert len(found["frames"]) <= 4
    assert "R(free), observed" in capsys.readouterr().out
    assert "On frames left out of the refinement" in " ".join((tmp_path / "r.cif").read_text().split())


def test_a_free_histogram_is_refused_before_any_work(structure):
    settings = RefinementSettings(bounds=NuisanceBounds(shapes=("free",)), free_frames=3)
    with pytest.raises(Sorry, match="free_frames needs a thickness law"):
        refine(read_experiment(EXAMPLES / "example.cif_pets"), structure, settings)


def test_nothing_to_leave_out_is_told(structure):
    experiment = read_experiment(EXAMPLES / "example.cif_pets").select_frames([3])
    with pytest.raises(Sorry, match="free_frames=2"):
        without_every(experiment, structure, SETTINGS.rules, 2)


def test_too_few_indices_and_two_kinds_are_refused(structure):
    experiment = read_experiment(EXAMPLES / "example.cif_pets").select_frames([3])
    few = replace(experiment, reflections=experiment.reflections.select(np.arange(1)))
    with pytest.raises(Sorry, match=r"free_fraction=0\.1"):
        without_fraction(few, structure, replace(SETTINGS.rules, rsg_max=9.0, dsg_min=-9.0, min_reflections=1), 0.1)
    with pytest.raises(ValueError, match="not both"):
        RefinementSettings(free_frames=3, free_fraction=0.1)
    with pytest.raises(ValueError, match="free_fraction"):
        RefinementSettings(free_fraction=0.9)
