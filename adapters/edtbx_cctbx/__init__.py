"""edtbx for cctbx: cctbx objects in, cctbx objects out. Import it before scipy, numba and matplotlib."""

from edtbx_cctbx import _import_order  # noqa: F401  # isort: skip  (first: it loads cctbx's C++ runtime)

from typing import TYPE_CHECKING

from edtbx.public_names import on_demand
from edtbx.version import __version__

if TYPE_CHECKING:
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

__getattr__, __dir__ = on_demand(
    __name__,
    {
        "DynamicalMap": "edtbx_cctbx.maps.coefficients",
        "DynamicalTarget": "edtbx_cctbx.targets.theories",
        "InexactStructureFactors": "edtbx_cctbx.structure.structure_factors",
        "KinematicalTarget": "edtbx_cctbx.targets.theories",
        "MapSettings": "edtbx_cctbx.maps.make_maps",
        "RefinementSettings": "edtbx_cctbx.refinement.settings",
        "Settings": "edtbx_cctbx.refinement.settings",
        "SimulationSettings": "edtbx_cctbx.simulation",
        "compare": "edtbx_cctbx.refinement.compare",
        "crystallographic_ls": "edtbx_cctbx.targets.crystallographic_ls",
        "experiment_as_miller_array": "edtbx_cctbx.io.cif_pets",
        "make_maps": "edtbx_cctbx.maps.make_maps",
        "minimise_with_lbfgs": "edtbx_cctbx.targets.minimisation",
        "place_hydrogens": "edtbx_cctbx.hydrogens.placement",
        "read_experiment": "edtbx_cctbx.io.cif_pets",
        "read_model": "edtbx_cctbx.model_files.structures",
        "refine": "edtbx_cctbx.refinement.refine",
        "reindexed": "edtbx_cctbx.indexing.reindexing",
        "set_electron_form_factors": "edtbx_cctbx.structure.form_factors",
        "simulate": "edtbx_cctbx.simulation",
        "structure_factors": "edtbx_cctbx.structure.structure_factors",
        "with_model_cell": "edtbx_cctbx.indexing.model_cell",
        "write_experiment": "edtbx_cctbx.io.cif_pets",
    },
)
