"""Dynamical (many-beam) electron diffraction: intensities, and their derivatives, as functions of structure factors.

The public names are the data of an experiment, the interface of solvers, and the geometry and units that both use.
"""

from edtbx import _import_order  # noqa: F401  # isort: skip  (first: it loads cctbx's C++ runtime, if there is one)

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
from edtbx.version import __version__

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
