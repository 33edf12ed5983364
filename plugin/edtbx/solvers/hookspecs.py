"""Hook that registers solvers, built-in ones and those of plugins.

A third-party package names a module in its entry points, group ``edtbx``, and there writes::

    from edtbx import hookimpl

    @hookimpl
    def edtbx_register_solvers(register):
        register("mine", MySolver)

:func:`edtbx.testing.check_solver` then tells whether ``mine`` does what a solver should.
"""

from __future__ import annotations

from collections.abc import Callable

import pluggy

from edtbx.solvers.block import SolverFactory

PROJECT = "edtbx"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def edtbx_register_solvers(register: Callable[[str, SolverFactory], None]) -> None:
    """Call ``register(name, factory)`` for each solver; ``factory()`` returns a :class:`edtbx.Solver`."""
