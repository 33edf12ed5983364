"""abTEM's Bloch waves as a solver, ``abtem`` (extra ``[abtem]``).

abTEM is loaded only when it is asked for: loading it takes seconds, and it need not be installed.
"""

from __future__ import annotations

from collections.abc import Callable

from edtbx.solvers.block import Solver, SolverFactory
from edtbx.solvers.hookspecs import hookimpl

__all__ = ["edtbx_register_solvers"]


@hookimpl
def edtbx_register_solvers(register: Callable[[str, SolverFactory], None]) -> None:
    """Register ``abtem``."""
    register("abtem", _solver)


def _solver() -> Solver:
    try:
        from edtbx_abtem.solver import AbtemSolver
    except ImportError as error:
        raise ValueError(f"the solver 'abtem' cannot be had: {error}") from error
    return AbtemSolver()
