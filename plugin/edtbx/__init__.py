"""Dynamical (many-beam) electron diffraction: intensities, and their derivatives, as functions of structure factors.

The public names are the data of an experiment, the interface of solvers, and the geometry and units that both use.
"""

from edtbx import _import_order  # noqa: F401  # isort: skip  (first: it loads cctbx's C++ runtime, if there is one)

from typing import TYPE_CHECKING

from edtbx.public_names import on_demand
from edtbx.version import __version__

if TYPE_CHECKING:
    from edtbx.fitting.nuisance_bounds import NuisanceBounds
    from edtbx.intensities.nuisance import Nuisance
    from edtbx.intensities.potential import surface_term, u_per_f, wave_number
    from edtbx.intensities.sampling import Sampling
    from edtbx.measurement.experiment import Experiment, Frame, Reflections, ScanGeometry
    from edtbx.measurement.geometry import excitation_error, orthogonalisation_matrix, rotate
    from edtbx.measurement.selection import SelectionRules
    from edtbx.solvers.block import Accuracy, Adjoint, Block, Solver
    from edtbx.solvers.hookspecs import hookimpl
    from edtbx.solvers.registry import installed_solvers

__all__ = [
    "Accuracy",
    "Adjoint",
    "Block",
    "Experiment",
    "Frame",
    "Nuisance",
    "NuisanceBounds",
    "Reflections",
    "Sampling",
    "ScanGeometry",
    "SelectionRules",
    "Solver",
    "__version__",
    "excitation_error",
    "hookimpl",
    "installed_solvers",
    "orthogonalisation_matrix",
    "rotate",
    "surface_term",
    "u_per_f",
    "wave_number",
]

__getattr__, __dir__ = on_demand(
    __name__,
    {
        "Accuracy": "edtbx.solvers.block",
        "Adjoint": "edtbx.solvers.block",
        "Block": "edtbx.solvers.block",
        "Experiment": "edtbx.measurement.experiment",
        "Frame": "edtbx.measurement.experiment",
        "Nuisance": "edtbx.intensities.nuisance",
        "NuisanceBounds": "edtbx.fitting.nuisance_bounds",
        "Reflections": "edtbx.measurement.experiment",
        "Sampling": "edtbx.intensities.sampling",
        "ScanGeometry": "edtbx.measurement.experiment",
        "SelectionRules": "edtbx.measurement.selection",
        "Solver": "edtbx.solvers.block",
        "excitation_error": "edtbx.measurement.geometry",
        "hookimpl": "edtbx.solvers.hookspecs",
        "installed_solvers": "edtbx.solvers.registry",
        "orthogonalisation_matrix": "edtbx.measurement.geometry",
        "rotate": "edtbx.measurement.geometry",
        "surface_term": "edtbx.intensities.potential",
        "u_per_f": "edtbx.intensities.potential",
        "wave_number": "edtbx.intensities.potential",
    },
)
