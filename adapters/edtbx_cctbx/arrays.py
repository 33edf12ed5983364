"""Conversion between arrays of cctbx and of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from cctbx.array_family import flex
from numpy.typing import ArrayLike, NDArray

from edtbx.arrays import IntArray

_ROWS = {
    flex.vec2_double: 2,
    flex.vec3_double: 3,
    flex.mat3_double: 9,
    flex.sym_mat3_double: 6,
}
"""Arrays of vectors and matrices, and how many numbers an element has."""

_INTEGERS = (flex.int, flex.long, flex.size_t)
_LARGEST = np.iinfo(np.int32)


def to_numpy(array: Any) -> NDArray[Any]:
    """A copy of a flex array: float64, complex128, bool or int64, one row (n, k) for each vector or matrix.

    Raises
    ------
    TypeError
        It is no array of numbers.
    """
    if isinstance(array, flex.double | flex.complex_double | flex.bool):
        return array.as_numpy_array()
    if isinstance(array, flex.miller_index):
        return np.rint(to_numpy(array.as_vec3_double())).astype(np.int64)
    for kind, width in _ROWS.items():
        if isinstance(array, kind):
            return array.as_double().as_numpy_array().reshape(array.size(), width)
    if isinstance(array, _INTEGERS):
        return array.as_numpy_array().astype(np.int64)
    raise TypeError(f"expected a flex array of numbers, got {type(array).__name__}")


def from_numpy(values: ArrayLike) -> Any:
    """A flex array of the same shape: ``double``, ``complex_double``, ``bool``, or ``int``.

    Raises
    ------
    TypeError, ValueError
        They are no numbers, or integers that ``flex.int`` does not hold.
    """
    values = np.ascontiguousarray(values)
    kind = values.dtype.kind
    if kind in "iu":
        if values.size and not (_LARGEST.min <= values.min() and values.max() <= _LARGEST.max):
            raise ValueError(f"integers from {values.min()} to {values.max()} do not fit into 32 bits")
        return flex.int(values.astype(np.int32))
    if kind not in "bfc":
        raise TypeError(f"expected an array of numbers, got one of {values.dtype}")
    if kind == "b":
        return flex.bool(values)
    return flex.double(values.astype(np.float64)) if kind == "f" else flex.complex_double(values.astype(np.complex128))


def parameter_jacobian(reparametrisation: Any) -> NDArray[np.float64]:
    """Derivatives (P, A) of the parameters of all atoms that are refined by the independent ones of smtbx."""
    return to_numpy(reparametrisation.jacobian_transpose_matching_grad_fc().as_dense_matrix())


def to_miller_index(hkl: IntArray) -> Any:
    """Indices (n, 3) as ``flex.miller_index``."""
    return flex.miller_index(*(from_numpy(np.asarray(column)) for column in np.asarray(hkl).reshape(-1, 3).T))


def rotation_matrix(operation: Any) -> NDArray[np.float64]:
    """W (3, 3) of a symmetry operation x' = W x + w of cctbx, for fractional coordinates."""
    return np.array(operation.r().as_double()).reshape(3, 3)


def translation_vector(operation: Any) -> NDArray[np.float64]:
    """Translation w (3,) of a symmetry operation x' = W x + w of cctbx, in fractions of the cell."""
    return np.array(operation.t().as_double())
