"""Types of NumPy arrays by dtype; docstrings give the shapes by letters.

N beams, B tilts, J nodes of the spread, T thicknesses, F frames, M reflections, P parameters, G vectors g, U of them unique.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
ComplexArray: TypeAlias = NDArray[np.complex128]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
