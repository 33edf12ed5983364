"""The level of sampling that is chosen: what is finer than what, and what its error does to a refinement."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from edtbx.fitting.nuisance_bounds import NuisanceBounds
from edtbx.intensities.nuisance import Nuisance
from edtbx.levels.sampling_levels import BEAMS, FIRST, ORIENTATIONS, USUAL, Level, coarser, level
from edtbx.solvers.block import Accuracy
from edtbx_cctbx import crystallographic_ls, read_experiment, read_model
from edtbx_cctbx.arrays import to_numpy
from edtbx_cctbx.refinement.model import RefinementModel
from edtbx_cctbx.refinement.settings import Refined, RefinementSettings
from edtbx_cctbx.targets.target import Target


def test_every_step_of_the_levels_is_finer():
    for coarse, fine in pairwise(BEAMS):
        assert (fine.s_max, fine.s_strong) > (coarse.s_max, coarse.s_strong)
    for coarse, fine in pairwise(ORIENTATIONS):
        assert fine[0] > coarse[0]
        assert fine[1] <= coarse[1]


def test_a_coarser_level_is_no_coarser_than_usual_and_no_finer_than_the_level():
    assert coarser(level(4, 5), 2) == level(2, 3)
    assert coarser(level(2, 6), 2) == replace(USUAL, tilts=level(0, 4).tilts, spacing=level(0, 4).spacing)
    assert coarser(level(0, 6), 2) == level(0, 4)
    assert coarser(replace(level(4, 5), settled=True), 2) == replace(level(2, 3), settled=True)
    assert coarser(USUAL, 2) is None
    assert coarser(FIRST, 2) is None
    assert coarser(Level(accuracy=Accuracy(s_max=0.2, s_strong=0.03), tilts=2.0, spacing=0.4), 2) is None


def crystal(sigma):
    return Nuisance(shape="slab", thickness=1000.0, sigma=np.radians(sigma), centres=np.zeros(1), scales=np.ones(1))


def test_nodes_are_closer_where_no_spread_smooths_what_lies_between():
    spacings = [USUAL.sampling(crystal(sigma), NuisanceBounds(), 1.0).spread_spacing for sigma in (0.0, 0.08, 0.2)]
    width = 1.0 / 1000.0
    np.testing.assert_allclose(spacings, [0.5 * width, np.radians(0.08), 2.0 * width])


def test_settled_centres_have_fewer_nodes_and_may_still_move():
    wide, settled = (
        chosen.sampling(crystal(0.0), NuisanceBounds(), 1.0) for chosen in (USUAL, replace(USUAL, settled=True))
    )
    assert settled.spread_reach < 0.8 * wide.spread_reach
    assert settled.spread_spacing == wide.spread_spacing == settled.centre_reach
    assert settled.between  # a centre at a node would be at a kink
    assert not USUAL.sampling(crystal(0.0), NuisanceBounds(refine_centres=False), 1.0).between


def normal_equations(scattering, chosen, nuisance, structure, places):
    some, start = scattering.at_level(chosen, nuisance, places)
    model = RefinementModel.of(structure.deep_copy_scatterers(), riding=True)
    ls = crystallographic_ls(Target.of(some, start), model.reparametrisation(Refined()), loss="cauchy")
    ls.build_up()
    return ls


@pytest.mark.real_data
def test_the_error_of_the_level_chosen_hardly_shifts_parameters(data_dir):
    """Against a much finer level: what least squares asks for differs by a small part of s.u.s, and R by as little."""
    experiment = read_experiment(data_dir / "quartz" / "quartz.cif_pets")
    structure = read_model(data_dir / "quartz" / "quartz_start.cif")
    settings = RefinementSettings(bounds=NuisanceBounds(shapes=("wedge",)))
    scattering = settings.scattering_model("auto", experiment, structure)
    nuisance = scattering.fit_coarse(structure)
    chosen = scattering.choose_level(structure, nuisance)
    assert chosen.kept
    places = range(0, scattering.forward.scan.frames, 2)
    fine, used = (normal_equations(scattering, one, nuisance, structure, places) for one in (level(5, 6), chosen.level))
    shifts = [np.linalg.solve(ls.normal_matrix, ls.right_hand_side) for ls in (fine, used)]
    su = np.sqrt(to_numpy(fine.covariance_matrix().matrix_packed_u_diagonal()))
    difference = (shifts[1] - shifts[0]) / su
    assert np.sqrt(np.mean(difference**2)) < 0.15
    assert np.abs(difference).max() < 0.3
    assert np.abs(shifts[0] / su).max() > 3.0  # such shifts are there to be found
    r_fine, r_used = (ls.r1_factor(cutoff_factor=3.0)[0] for ls in (fine, used))
    assert abs(r_used - r_fine) < 0.002
