"""Load cctbx's C++ runtime before anybody else's.

The cctbx wheel brings its own libstdc++ and loads it with global symbols. When scipy.linalg, numba, matplotlib or gemmi
have already loaded the system's copy, the first cctbx extension is a segmentation fault, whichever copy is the newer.
The other order is harmless, so both packages import this module before everything else. `edtbx` never needs cctbx.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import signal
import sys
import time
import warnings

_RUNTIME = "boost_adaptbx.boost.python"
_CARRIERS = (
    "gemmi",
    "matplotlib",
    "numba",
    "pandas",
    "scipy.linalg",
    "scipy.optimize",
    "scipy.spatial",
    "scipy.special",
    "torch",
)
_CHILD_SECONDS = 60.0


def require_cctbx() -> None:
    """Load cctbx's C++ runtime, unless it is loaded already.

    Raises
    ------
    ModuleNotFoundError
        cctbx is not installed.
    ImportError
        Another C++ runtime was loaded first, and cctbx crashes on top of it.
    """
    if _RUNTIME in sys.modules:
        return
    foreign = _foreign_runtime()
    if foreign is not None and _crashes_in_child():
        raise ImportError(_advice(foreign))
    try:
        _load()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "boost_adaptbx":
            raise
        raise ModuleNotFoundError(
            "edtbx_cctbx needs cctbx, which is not installed here: python -m pip install cctbx-base",
            name=error.name,
        ) from error


def _load() -> None:
    # cctbx loads with global symbols: numpy must have bound its own LAPACK before, or scipy's svd binds to numpy's
    # 64-bit one and fails
    import numpy  # noqa: F401, I001

    import boost_adaptbx.boost.python  # noqa: F401


def _foreign_runtime() -> str | None:
    """Path of a libstdc++ that this process has loaded; None where there is none or where it cannot be known."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            return next((line.split(maxsplit=5)[-1].strip() for line in maps if "/libstdc++" in line), None)
    except OSError:
        return None


@functools.cache
def _crashes_in_child() -> bool:
    """Whether loading cctbx kills a forked copy of this process (about 0.05 s)."""
    if not hasattr(os, "fork"):
        return False
    with warnings.catch_warnings():
        # Python >= 3.12 warns of a fork with threads: the child only imports, and it is given up after a while
        warnings.simplefilter("ignore")
        pid = os.fork()
    if pid == 0:
        _try_and_exit()
    deadline = time.monotonic() + _CHILD_SECONDS
    pause = 0.001
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.WIFSIGNALED(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return True
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _try_and_exit() -> None:
    """Load cctbx in the child process, without output or core file, and leave by os._exit."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        _load()
    finally:
        os._exit(0)  # an ordinary exception happens again in the parent, where it is reported


def _advice(foreign: str) -> str:
    """Message of the ImportError: which library was loaded first, and which import to move above it."""
    carriers = [name for name in _CARRIERS if name in sys.modules]
    offenders = ", ".join(carriers) if carriers else "another extension module"
    return (
        f"cctbx must be loaded before {offenders}: the C++ runtime {foreign} is already in this process, and loading cctbx "
        f"on top of it crashes Python. Move `import edtbx_cctbx` ({_importing_line()}) above the first import of "
        f"{carriers[0].partition('.')[0] if len(carriers) == 1 else offenders}, and start Python again."
    )


def _importing_line() -> str:
    """File and line of the import statement, outside these packages and the import machinery, that led here."""
    frame = sys._getframe()
    while frame.f_back is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in {
            "edtbx",
            "edtbx_cctbx",
            "importlib",
        } and not frame.f_code.co_filename.startswith("<frozen"):
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}, line {frame.f_lineno}"


with contextlib.suppress(ImportError):
    require_cctbx()
