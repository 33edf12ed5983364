"""Registration of the solvers that come with edtbx, by the hook that plugins use."""

from __future__ import annotations

from collections.abc import Callable

from edtbx.solvers.auto import AutoSolver
from edtbx.solvers.block import SolverFactory
from edtbx.solvers.eigen import EigenSolver
from edtbx.solvers.hookspecs import hookimpl
from edtbx.solvers.kinematical import KinematicalSolver
from edtbx.solvers.propagator import PropagatorSolver
from edtbx.solvers.two_beam import TwoBeamSolver


@hookimpl
def edtbx_register_solvers(register: Callable[[str, SolverFactory], None]) -> None:
    """Register ``auto``, ``eigen``, ``propagator``, ``two_beam`` and ``kinematical``."""
    register("auto", AutoSolver)
    register("eigen", EigenSolver)
    register("propagator", PropagatorSolver)
    register("two_beam", TwoBeamSolver)
    register("kinematical", KinematicalSolver)
