"""Registry of solvers by name: built-in ones and those of installed plugins."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points

import pluggy

from edtbx.solvers import builtin, hookspecs
from edtbx.solvers.block import Solver, SolverFactory


class DuplicateSolverError(ValueError):
    """Two plugins registered a solver of the same name."""


class SolverRegistry:
    """Factories of all solvers by name, with the plugin that registered each."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._factories: dict[str, SolverFactory] = {}
        self._origins: dict[str, str] = {}

    @property
    def origins(self) -> Mapping[str, str]:
        """Name of the plugin that registered each solver."""
        return dict(self._origins)

    def collect(self, plugin: object, origin: str) -> None:
        """Register the solvers of one plugin, named ``origin`` in messages.

        Raises
        ------
        DuplicateSolverError
            A name is taken.
        pluggy.PluginValidationError
            A hook is unknown or has the wrong arguments.
        """
        # a distribution may bring several plugins, and pluggy takes a name once only
        name = self._manager.register(plugin, name=f"{origin} ({id(plugin)})")
        try:
            self._manager.check_pending()  # a misspelt hook
        except pluggy.PluginValidationError:
            self._manager.unregister(plugin)
            raise
        for hook in self._manager.hook.edtbx_register_solvers.get_hookimpls():
            if hook.plugin_name == name:
                hook.function(partial(self._add, origin))

    def _add(self, origin: str, name: str, factory: SolverFactory) -> None:
        if name in self._factories:
            raise DuplicateSolverError(f"the solver '{name}' is registered by both {self._origins[name]} and {origin}")
        self._factories[name], self._origins[name] = factory, origin

    def create(self, name: str) -> Solver:
        """New solver of the given name.

        Raises
        ------
        ValueError
            Nobody registered the name (the message lists the known ones), or what was registered makes no :class:`Solver`.
        """
        if name not in self._factories:
            raise ValueError(f"unknown solver '{name}'; the known ones are {', '.join(sorted(self._factories))}")
        solver = self._factories[name]()
        if not isinstance(solver, Solver):
            raise ValueError(
                f"the solver '{name}' of {self._origins[name]} is of type {type(solver).__name__}: derive its class from "
                "edtbx.Solver"
            )
        return solver


@lru_cache(maxsize=1)
def installed_solvers() -> SolverRegistry:
    """The registry of this environment; a plugin that cannot be loaded is named in a warning and left out.

    Raises
    ------
    DuplicateSolverError
        Two plugins register the same name.
    """
    registry = SolverRegistry()
    registry.collect(builtin, "edtbx")
    for entry in entry_points(group=hookspecs.PROJECT):
        origin = _origin(entry)
        try:
            registry.collect(entry.load(), origin)
        except DuplicateSolverError:
            raise
        except Exception as error:  # a broken plugin must not break edtbx
            warnings.warn(f"the solver plugin of {origin} could not be loaded: {error}", RuntimeWarning, stacklevel=2)
    return registry


def _origin(entry: EntryPoint) -> str:
    """Name of a plugin: its distribution; for the adapters that edtbx ships, their module."""
    if entry.dist is None:
        return entry.name
    return entry.module if entry.dist.name == hookspecs.PROJECT else entry.dist.name
