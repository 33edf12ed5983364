"""Arrays in single precision, and complex phases in the precision of their angles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def in_single(array: NDArray[Any]) -> NDArray[Any]:
    """Real or complex array in single precision."""
    return array.astype(np.complex64 if np.iscomplexobj(array) else np.float32)


def unit_phases(angle: NDArray[Any]) -> NDArray[Any]:
    """Phases e^{i angle} for angles in radians, in their precision; several times faster than an exponential."""
    phases = np.empty(angle.shape, dtype=np.result_type(angle.dtype, np.complex64))
    np.cos(angle, out=phases.real)
    np.sin(angle, out=phases.imag)
    return phases
