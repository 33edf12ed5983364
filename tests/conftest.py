"""Shared fixtures. cctbx comes first: see edtbx._import_order."""

import os

# before numpy: the threads of BLAS take three times as long over small matrices, two test processes side by side
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import edtbx_cctbx  # noqa: F401  # isort: skip  (before numpy, scipy, numba)

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the measured data sets; skips where there is none."""
    path = Path(os.environ.get("EDTBX_DATA") or REPOSITORY.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"real data absent: set EDTBX_DATA to their folder (looked in {path})")
    return path
