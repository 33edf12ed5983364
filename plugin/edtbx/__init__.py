"""Dynamical (many-beam) electron diffraction: intensities, and their derivatives, as functions of structure factors."""

from edtbx import _import_order  # noqa: F401  # isort: skip  (first: it loads cctbx's C++ runtime, if there is one)

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("edtbx")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
