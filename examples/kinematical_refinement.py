"""A kinematical refinement as cctbx scripts do it, and the two lines that make it dynamical."""

from pathlib import Path

from edtbx_cctbx import read_experiment, read_model  # isort: skip  (before numpy, scipy and numba)
from edtbx_cctbx import KinematicalTarget  # isort: skip
# from edtbx_cctbx import DynamicalTarget  # 1: this line in place of the one above

import numpy as np
from cctbx import xray
from edtbx.forward import Sampling
from edtbx.selection import SelectionRules
from scitbx import lbfgs

HERE = Path(__file__).resolve().parent
experiment = read_experiment(HERE / "example.cif_pets")
structure = read_model(HERE / "start.cif")
truth = read_model(HERE / "example.cif")
# a coarse sampling and few rows, so that it is a matter of seconds either way
options = {"sampling": Sampling(s_max=0.01, tilts=25, thickness_max=1500.0), "rules": SelectionRules(d_min=0.9)}

xray.set_scatterer_grad_flags(structure.scatterers(), site=True, u_iso=True)
target = KinematicalTarget(experiment, structure, **options)
# target = DynamicalTarget(experiment, structure, **options)  # 2: this line in place of the one above
for _ in range(2):
    xray.minimization.lbfgs(target, structure, lbfgs_termination_params=lbfgs.termination_parameters(max_iterations=8))
    target.fit_nuisance(structure)  # scales, thickness and orientations, for the structure as it is now

heavy = truth.select(~truth.hd_selection())
shifts = structure.sites_cart().as_numpy_array() - heavy.sites_cart().as_numpy_array()
print(f"R(obs) = {target.statistics(target.i_calc(structure)).r_obs:.4f}")
print(f"rms distance from the true positions = {np.sqrt(np.mean(np.sum(shifts**2, axis=1))):.4f} A")
