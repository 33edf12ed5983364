"""Import orders, each in a fresh interpreter: it works, or an ImportError says what to move; never a signal."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba import njit

OURS = ("edtbx", "edtbx_cctbx")
CARRIERS = ("numpy", "scipy.linalg", "scipy.optimize", "numba", "matplotlib.pyplot")
HIDE_CCTBX = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('boost_adaptbx', 'cctbx'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Hidden())
"""


def run(*lines: str) -> subprocess.CompletedProcess[str]:
    """Run the lines in a fresh interpreter."""
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def imports(*modules: str) -> list[str]:
    return [f"import {module}" for module in modules]


def last_line(process: subprocess.CompletedProcess[str]) -> str:
    return process.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("first", [*OURS, "cctbx.xray"])
def test_these_first_always_works(first: str) -> None:
    process = run(*imports(first, *CARRIERS, "edtbx", "edtbx_cctbx", "cctbx.xray"))
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("loaded", [("scipy.linalg",), ("scipy.optimize", "edtbx"), ("numba",), ("matplotlib.pyplot",)])
def test_ours_last_works_where_cctbx_does_and_says_what_to_move_where_not(loaded: tuple[str, ...]) -> None:
    """Whether it can work depends on the C++ libraries of the machine: cctbx alone tells."""
    no_core = ["import resource", "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))"]
    alone = run(*no_core, *imports(loaded[0], "numpy", "boost_adaptbx.boost.python"))
    lines = imports(*loaded, "edtbx_cctbx", "cctbx.xray")
    process = run(*lines)
    if alone.returncode == 0:
        assert process.returncode == 0, process.stderr
        return
    assert process.returncode == 1, f"died of {process.returncode}"
    assert last_line(process).startswith("ImportError: cctbx must be loaded before ")
    assert loaded[0].partition(".")[0] in last_line(process)
    assert f"Move `import edtbx_cctbx` (<string>, line {len(lines) - 1})" in last_line(process)


def test_the_plugin_alone_imports_after_anything() -> None:
    process = run(*imports(*CARRIERS, "edtbx"))
    assert (process.returncode, process.stderr) == (0, "")


def test_without_cctbx_the_plugin_imports_and_the_adapter_says_what_is_missing() -> None:
    process = run(
        HIDE_CCTBX, *imports("edtbx", "scipy.linalg", "numba"), "print('edtbx is there')", *imports("edtbx_cctbx")
    )
    assert process.stdout == "edtbx is there\n"
    assert process.returncode == 1
    assert "edtbx_cctbx needs cctbx" in last_line(process)
    assert "pip install cctbx-base" in last_line(process)


def test_the_child_is_reaped_and_asked_once() -> None:
    process = run(
        *imports("scipy.linalg", "edtbx._import_order as guard", "os"),
        "forks = guard._crashes_in_child.cache_info().misses",
        "for _ in range(2):",
        "    try: guard.require_cctbx()",
        "    except ImportError: pass",
        "assert guard._crashes_in_child.cache_info().misses == forks <= 1",
        "try: os.waitpid(-1, os.WNOHANG)",
        "except ChildProcessError: pass",
        "else: raise SystemExit('a child was left behind')",
    )
    assert process.returncode == 0, process.stderr


def test_thread_pool_kernels_are_right_beside_cctbx() -> None:
    """numba's prange is silently wrong after cctbx (OpenMP stubs); nogil kernels in a thread pool are what we use."""
    assert "boost_adaptbx.boost.python" in sys.modules
    out = np.zeros(1000)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: add(out, 100 * k, 100 * k + 100), range(10)))
    assert np.array_equal(out, np.arange(1000.0))


@njit(nogil=True)
def add(out, start, stop):
    for i in range(start, stop):
        out[i] += i
