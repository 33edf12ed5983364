"""What the author of a solver runs: ``check_solver("mine")`` tells in words what the solver gets wrong."""

from edtbx.testing.conformance import ConformanceError, Report, check_solver
from edtbx.testing.crystal import random_block

__all__ = ["ConformanceError", "Report", "check_solver", "random_block"]
