"""A kinematical refinement as cctbx scripts do it, and the two lines that make it dynamical."""

from pathlib import Path

from edtbx_cctbx import read_experiment, read_model  # isort: skip  (before numpy, scipy and numba)
from edtbx_cctbx import KinematicalTarget  # isort: skip
# from edtbx_cctbx import DynamicalTarget  # 1: this line in place of the one above

from cctbx import xray
from cctbx.array_family import flex
from scitbx import lbfgs

from edtbx import SelectionRules

HERE = Path(__file__).resolve().parent
experiment = read_experiment(HERE / "example.cif_pets")
truth = read_model(HERE / "example.cif")
structure = truth.deep_copy_scatterers()
flex.set_random_seed(1)
structure.shake_sites_in_place(rms_difference=0.05)
# errors of half a s.u., and few rows, so that it is done in seconds
options = {"tolerance": 0.5, "rules": SelectionRules(d_min=0.9)}

# U as a tangent, with 0 < B < 15 Å²: without bounds the first step of lbfgs takes it farther than cctbx can follow
xray.set_scatterer_grad_flags(structure.scatterers(), site=True, u_iso=True, tan_u_iso=True, param=15)
target = KinematicalTarget(experiment, structure, **options)
# target = DynamicalTarget(experiment, structure, **options)  # 2: this line in place of the one above
few = {"lbfgs_termination_params": lbfgs.termination_parameters(max_iterations=8)}
for _ in range(2):
    xray.minimization.lbfgs(target, structure, structure_factor_algorithm="direct", cos_sin_table=False, **few)
    target.fit_nuisance(structure)  # scales, thickness and orientations, for the structure as it is now

print(f"R(obs) = {target.statistics(target.i_calc(structure)).r_obs:.4f}")
heavy = ~truth.hd_selection()
rms = truth.select(heavy).rms_difference(structure.select(heavy))
print(f"rms distance of C, N, O from the true positions = {rms:.4f} A")
