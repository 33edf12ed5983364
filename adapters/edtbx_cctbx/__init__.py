"""edtbx for cctbx: cctbx objects in, cctbx objects out. Import it before scipy, numba and matplotlib."""

from edtbx_cctbx import _import_order  # noqa: F401  # isort: skip  (first: it loads cctbx's C++ runtime)

from edtbx.version import __version__
from edtbx_cctbx.hydrogens.placement import place_hydrogens
from edtbx_cctbx.indexing.model_cell import with_model_cell
from edtbx_cctbx.indexing.reindexing import reindexed
from edtbx_cctbx.io.cif_pets import experiment_as_miller_array, read_experiment, write_experiment
from edtbx_cctbx.maps.coefficients import DynamicalMap
from edtbx_cctbx.maps.make_maps import MapSettings, make_maps
from edtbx_cctbx.model_files.structures import read_model
from edtbx_cctbx.refinement.compare import compare
from edtbx_cctbx.refinement.refine import refine
from edtbx_cctbx.refinement.settings import RefinementSettings, Settings
from edtbx_cctbx.simulation import SimulationSettings, simulate
from edtbx_cctbx.structure.form_factors import set_electron_form_factors
from edtbx_cctbx.structure.structure_factors import InexactStructureFactors, structure_factors
from edtbx_cctbx.targets.crystallographic_ls import crystallographic_ls
from edtbx_cctbx.targets.minimisation import minimise_with_lbfgs
from edtbx_cctbx.targets.theories import DynamicalTarget, KinematicalTarget

__all__ = [
    "DynamicalMap",
    "DynamicalTarget",
    "InexactStructureFactors",
    "KinematicalTarget",
    "MapSettings",
    "RefinementSettings",
    "Settings",
    "SimulationSettings",
    "__version__",
    "compare",
    "crystallographic_ls",
    "experiment_as_miller_array",
    "make_maps",
    "minimise_with_lbfgs",
    "place_hydrogens",
    "read_experiment",
    "read_model",
    "refine",
    "reindexed",
    "set_electron_form_factors",
    "simulate",
    "structure_factors",
    "with_model_cell",
    "write_experiment",
]
