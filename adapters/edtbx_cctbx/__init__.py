"""edtbx for cctbx: cctbx objects in, cctbx objects out. Import it before scipy, numba and matplotlib."""

from edtbx_cctbx import _import_order  # noqa: F401  # isort: skip  (first: it loads cctbx's C++ runtime)

from edtbx import __version__

__all__ = ["__version__"]
