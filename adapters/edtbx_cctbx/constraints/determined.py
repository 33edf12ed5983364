"""Names of the parameters that a singular normal matrix leaves undetermined."""

from __future__ import annotations

from typing import Any

import numpy as np
from cctbx import xray

from edtbx.arrays import FloatArray
from edtbx_cctbx.arrays import parameter_jacobian
from edtbx_cctbx.constraints.linear import refined_parameters

_SINGULAR = 1e-13
"""Least eigenvalue of a normal matrix with unit diagonal that is above rounding errors."""

_LARGE = 0.3
"""Least component of an eigenvector, relative to its largest, whose parameter is named."""

_MOST = 8


def is_singular(matrix: FloatArray) -> bool:
    """Whether a normal matrix (P, P) is singular within rounding errors."""
    if not np.all(np.isfinite(matrix)) or not np.all(np.diag(matrix) > 0.0):
        return True
    return bool(len(matrix)) and float(np.linalg.eigvalsh(_scaled(matrix))[0]) < _SINGULAR


def undetermined(matrix: FloatArray, reparametrisation: Any) -> list[str]:
    """Names, such as ``x of C9``, of the parameters in the null space of a singular normal matrix (P, P)."""
    if not np.all(np.isfinite(matrix)):
        return []
    structure: xray.structure = reparametrisation.structure
    values, vectors = np.linalg.eigh(_scaled(matrix))
    root = np.sqrt(np.diag(matrix).clip(min=0.0))
    jacobian = parameter_jacobian(reparametrisation)
    names = [f"{name} of {structure.scatterers()[place].label}" for place, name in refined_parameters(structure)]
    places: set[int] = set()
    for vector in vectors[:, values < max(_SINGULAR, float(values[0])) * 10.0].T if len(values) else []:
        shift = vector / np.where(root > 0.0, root, 1.0)
        moved = np.abs(shift @ jacobian)
        places.update(np.flatnonzero((moved > _LARGE * moved.max(initial=0.0)) & (moved > 0.0)).tolist())
    named = [names[place] for place in sorted(places)]
    return named if len(named) <= _MOST else [*named[:_MOST], f"{len(named) - _MOST} more"]


def _scaled(matrix: FloatArray) -> FloatArray:
    """The matrix scaled to ones on its diagonal; zeros stay."""
    root = np.sqrt(np.diag(matrix).clip(min=0.0))
    inverse = np.where(root > 0.0, 1.0 / np.where(root > 0.0, root, 1.0), 0.0)
    return np.asarray(matrix * np.outer(inverse, inverse))
