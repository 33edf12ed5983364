"""Whether numba's cache holds the compiled kernels; compiling them delays their first calls."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from numba.core.dispatcher import Dispatcher

from edtbx.intensities import local_jacobian as local_jacobian
from edtbx.intensities import potential
from edtbx.solvers import kinematical

SECONDS = 30
"""Seconds, about, that the kernels of a refinement take to compile on one core."""

INTENSITIES = (kinematical, potential)
"""Modules with kernels that run first, whatever the solver."""

ROWS = (local_jacobian,)
"""Modules with kernels for the derivatives of single intensities."""


def is_compiled(modules: Sequence[ModuleType] = INTENSITIES) -> bool:
    """Whether a kernel of the modules is in the cache, for its present source and this version of numba.

    True also where numba does not tell: a message that is wrong is worse than none.
    """
    return any(_is_cached(kernel) for module in modules for kernel in _kernels(module))


def _kernels(module: ModuleType) -> list[Any]:
    kernels = [value for value in vars(module).values() if isinstance(value, Dispatcher)]
    return [kernel for kernel in kernels if kernel.__module__ == module.__name__]


def _is_cached(kernel: Any) -> bool:
    """Whether a kernel has been compiled in this process, or its index of compiled signatures is not empty."""
    if kernel.signatures:
        return True
    try:
        return bool(kernel._cache._cache_file._load_index())
    except (AttributeError, OSError, ValueError, EOFError):
        return True
