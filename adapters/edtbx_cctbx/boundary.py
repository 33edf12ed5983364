"""Checks of the arguments of public functions, with errors of one line that name the remedy."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from cctbx import crystal, miller, xray
from cctbx.array_family import flex

from edtbx.arrays import ComplexArray, FloatArray
from edtbx.measurement.experiment import Experiment
from edtbx_cctbx.arrays import to_numpy

_SAME_LENGTH, _SAME_ANGLE = 1e-3, 0.1
"""Relative difference in a length, and degrees in an angle, that two files of one crystal may round to."""


def expect_any_structure(value: Any) -> xray.structure:
    """An ``xray.structure``, whatever is in it.

    Raises
    ------
    TypeError
        It is none.
    """
    if not isinstance(value, xray.structure):
        raise TypeError(f"expected an xray.structure, got {described(value)}")
    return value


def expect_structure(value: Any) -> xray.structure:
    """An ``xray.structure`` with atoms that scatter, all of its numbers finite.

    Raises
    ------
    TypeError, ValueError
        It is none.
    """
    scatterers = expect_any_structure(value).scatterers()
    if not scatterers.size():
        raise ValueError("expected an xray.structure with atoms, got one without")
    occupancies = to_numpy(scatterers.extract_occupancies())
    displacements = [to_numpy(scatterers.extract_u_iso())[:, None], to_numpy(scatterers.extract_u_star())]
    sites = to_numpy(scatterers.extract_sites())
    finite = np.isfinite(np.column_stack([sites, occupancies, *displacements])).all(axis=1)
    if not finite.all():
        label = scatterers[int(np.argmin(finite))].label
        raise ValueError(
            f"atom {label} has no finite coordinates, occupancy or displacement parameters: complete or remove it"
        )
    if not occupancies.any():
        raise ValueError("all occupancies are 0: no atom scatters")
    return value


def expect_same_crystal(value: Any, symmetry: crystal.symmetry) -> xray.structure:
    """A structure, as above, in the cell and the space group of a target; its atoms may be others.

    Raises
    ------
    TypeError, ValueError
        It is none, or one of another crystal.
    """
    structure = expect_structure(value)
    _expect_symmetry("structure", structure, symmetry)
    return structure


def expect_experiment(value: Any) -> Experiment:
    """An experiment with reflections.

    Raises
    ------
    TypeError, ValueError
        It is none.
    """
    if not isinstance(value, Experiment):
        raise TypeError(f"expected an Experiment, got {described(value)}")
    if not len(value.reflections):
        raise ValueError("expected an Experiment with reflections, got one without")
    return value


def expect_structure_factors(value: Any, wanted: miller.set) -> ComplexArray:
    """Complex, finite structure factors (U,) of the indices wanted, in their order.

    Raises
    ------
    TypeError, ValueError
        They are none, or of other indices.
    """
    how = "compute them as target.f_obs().structure_factors_from_scatterers(structure, ...).f_calc()"
    if not isinstance(value, miller.array):
        raise TypeError(f"expected a miller.array of structure factors, got {described(value)}: {how}")
    data = value.data()
    if not isinstance(data, flex.complex_double):
        raise TypeError(f"expected complex structure factors, got a miller.array of {type(data).__name__}: {how}")
    if data.size() != wanted.size():
        raise ValueError(
            f"expected {wanted.size()} structure factors, those of target.f_obs(), got {data.size()}: {how}"
        )
    if value.indices() is not wanted.indices():
        if not value.indices().all_eq(wanted.indices()):
            raise ValueError(f"expected structure factors of the indices of target.f_obs(), in their order: {how}")
        _expect_symmetry("structure factors", value, wanted)
    values = to_numpy(data)
    if not np.isfinite(values).all():
        raise ValueError(
            "structure factors are not finite: look at the displacement parameters, and refine u_iso with tan_u_iso=True"
        )
    return np.asarray(values)


def expect_intensities(value: Any, number: int) -> FloatArray:
    """Real, finite intensities (M,), as many as there are observations.

    Raises
    ------
    TypeError, ValueError
        They are none.
    """
    if isinstance(value, miller.array):
        value = value.data()
    intensities = np.asarray(to_numpy(value) if isinstance(value, flex.double) else value)
    if intensities.dtype.kind not in "fiu":
        raise TypeError(f"expected real intensities, got {described(value)}")
    if intensities.shape != (number,):
        raise ValueError(
            f"expected {number} intensities, those of target.i_obs() in their order, "
            f"got an array of shape {intensities.shape}"
        )
    if not np.isfinite(intensities).all():
        raise ValueError("intensities are not finite")
    return intensities


def expect_stream(value: Any, name: str) -> Any:
    """Something to write lines to.

    Raises
    ------
    TypeError
        It is none.
    """
    if not callable(getattr(value, "write", None)):
        raise TypeError(f"{name} must be a stream to write to, such as sys.stdout, got {value!r}")
    return value


def _expect_symmetry(what: str, given: crystal.symmetry, wanted: crystal.symmetry) -> None:
    cells = given.unit_cell(), wanted.unit_cell()
    if not cells[0].is_similar_to(cells[1], _SAME_LENGTH, _SAME_ANGLE):
        texts = (" ".join(f"{parameter:.6g}" for parameter in cell.parameters()) for cell in cells)
        raise ValueError(
            f"the {what} of a cell {' given to a target of a cell '.join(texts)}: make a target of its own"
        )
    if given.space_group() != wanted.space_group():
        raise ValueError(
            f"the {what} of space group {given.space_group_info()} given to a target of space group "
            f"{wanted.space_group_info()}: make a target of its own"
        )


def described(value: Any) -> str:
    """The type of what was given, and what to do about it where that is clear."""
    name = type(value).__name__
    if isinstance(value, str | os.PathLike):
        reader = "read_experiment" if str(value).endswith((".cif_pets", ".cif_pets.txt")) else "read_model"
        return f"{name}: call edtbx_cctbx.{reader}({str(value)!r})"
    if isinstance(value, Experiment | xray.structure):
        return f"{name}: have the arguments changed places?"
    if isinstance(getattr(value, "structure", None), xray.structure):
        return f"{name}: give its attribute structure"
    return name
