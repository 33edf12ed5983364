"""Full-matrix least squares as smtbx scripts do it, on dynamical intensities: the observations and one import differ."""

from pathlib import Path

from edtbx_cctbx import DynamicalTarget, read_experiment, read_model  # isort: skip  (before numpy, scipy and numba)

# in place of: from smtbx.refinement.least_squares import crystallographic_ls
from edtbx_cctbx import crystallographic_ls  # isort: skip

import smtbx.utils
from cctbx.array_family import flex
from scitbx.lstbx import normal_eqns_solving
from smtbx.refinement import constraints

from edtbx import SelectionRules

HERE = Path(__file__).resolve().parent
experiment = read_experiment(HERE / "example.cif_pets")
truth = read_model(HERE / "example.cif")
structure = truth.deep_copy_scatterers()
flex.set_random_seed(1)
structure.shake_sites_in_place(rms_difference=0.05)
for scatterer in structure.scatterers():
    scatterer.flags.set_grad_site(True)
    scatterer.flags.set_grad_u_iso(scatterer.flags.use_u_iso())
    scatterer.flags.set_grad_u_aniso(scatterer.flags.use_u_aniso())
# errors of a third of a s.u., and few rows, so that it is done in seconds
observations = DynamicalTarget(experiment, structure, tolerance=0.3, rules=SelectionRules(d_min=0.9))

reparametrisation = constraints.reparametrisation(
    structure, [], smtbx.utils.connectivity_table(structure), temperature=20
)
ls = crystallographic_ls(observations, reparametrisation)
normal_eqns_solving.naive_iterations(ls, n_max_iterations=4)
ls.build_up()

r_factor, number = ls.r1_factor(cutoff_factor=3.0)
heavy = ~truth.hd_selection()
print(f"R(obs) = {r_factor:.4f} of {number} intensities, wR2 = {ls.wR2():.4f}, goodness of fit = {ls.goof():.2f}")
print(
    f"rms distance of C, N, O from the true positions = {truth.select(heavy).rms_difference(structure.select(heavy)):.4f} A"
)
covariance = ls.covariance_matrix_and_annotations()
for name, variance in list(zip(covariance.annotations, covariance.diagonal(), strict=True))[:3]:
    print(f"s.u. of {name} = {variance**0.5:.5f}")
print(f"thickness = {observations.nuisance.thickness:.0f} A, s.u. {ls.nuisance_su.thickness:.0f} A")
