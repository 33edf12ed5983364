"""Experiments from and to ``.cif_pets`` files, the output of PETS2 for dynamical refinement."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cctbx import crystal, miller
from cctbx.array_family import flex
from libtbx.utils import Sorry

from edtbx.experiment import Experiment, FloatArray, Frame, Reflections, ScanGeometry
from edtbx.geometry import frame_vectors, ub_matrix
from edtbx.scan import geometry_evidence
from edtbx_cctbx import pets_block
from edtbx_cctbx.text_file import parse_cif, read_text

_EXPECTED = ".cif_pets file of PETS2"


def read_experiment(path: str | Path, geometry: ScanGeometry | None = None) -> Experiment:
    """The experiment in a ``.cif_pets`` file; its ``notes`` tell what was found, decided and dropped.

    Whether the frames are of a rotation or of a precession is decided by the intensities where they can tell
    (:mod:`edtbx.scan`), by the header where they cannot; ``geometry`` overrides both.

    Raises
    ------
    Sorry
        The file is missing or damaged, lacks something needed, or contradicts itself.
    """
    block = _data_block(parse_cif(read_text(path, _EXPECTED), path, _EXPECTED), path)
    notes: list[str] = []
    try:
        named = pets_block.named_geometry(block)
        experiment = Experiment(
            wavelength=pets_block.number(block, "_diffrn_radiation_wavelength"),
            cell=pets_block.cell_parameters(block),
            orientation=pets_block.orientation(block, notes),
            geometry=geometry or named or ScanGeometry.ROTATION,
            frames=pets_block.frames(block, notes),
            reflections=pets_block.reflections(block, notes),
            source=str(path),
        )
        if geometry is None:
            experiment = _with_geometry_of_data(experiment, named, notes)
        else:
            notes.append(f"geometry: {geometry.value}, as asked for")
    except ValueError as error:
        raise Sorry(f"{path}: {error}") from error
    return replace(experiment, notes=tuple(notes))


def write_experiment(path: str | Path, experiment: Experiment) -> None:
    """Write a ``.cif_pets`` file that :func:`read_experiment` and Jana2020 read; all of it, or nothing.

    Raises
    ------
    Sorry
        The file cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text("\n".join(_lines(experiment)) + "\n", encoding="ascii")
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Sorry(f"cannot write {path} ({error.strerror}): choose a folder that exists and is yours") from error


def experiment_as_miller_array(
    experiment: Experiment, crystal_symmetry: crystal.symmetry | None = None
) -> tuple[miller.array, flex.int]:
    """Intensities with their s.u.s, row by row as measured, and the id of the frame of every row.

    The same index occurs once for every frame that lists it. Without a symmetry, the cell of the experiment in P 1.
    """
    if crystal_symmetry is None:
        crystal_symmetry = crystal.symmetry(experiment.cell, space_group_symbol="P 1")
    rows = experiment.reflections
    indices = flex.miller_index(*(flex.int(np.ascontiguousarray(column, dtype=np.int32)) for column in rows.hkl.T))
    array = miller.array(
        miller.set(crystal_symmetry, indices, anomalous_flag=True),
        data=flex.double(np.ascontiguousarray(rows.intensity)),
        sigmas=flex.double(np.ascontiguousarray(rows.sigma)),
    )
    array.set_observation_type_xray_intensity()
    return array, flex.int(np.ascontiguousarray(rows.frame_id, dtype=np.int32))


def zone_axis(experiment: Experiment, frame: Frame) -> FloatArray:
    """u, v, w (3,) of the direct-lattice direction towards the electron source (+z), the largest of them ±1."""
    to_lab = frame_vectors(experiment, frame, np.eye(3, dtype=np.int64)).T
    uvw = to_lab[2]
    return np.asarray(uvw / np.max(np.abs(uvw)))


def _data_block(blocks: Any, path: str | Path) -> Any:
    """The first data block with an orientation matrix."""
    for name in blocks:
        if pets_block.UB_TAGS[0] in blocks[name]:
            return blocks[name]
    raise Sorry(
        f"{path} has no orientation matrix ({pets_block.UB_TAGS[0]} ...): give the {_EXPECTED} for dynamical refinement"
    )


def _with_geometry_of_data(experiment: Experiment, named: ScanGeometry | None, notes: list[str]) -> Experiment:
    """The experiment with the geometry that its intensities show, else the one named in the header."""
    found, evidence = geometry_evidence(experiment)
    if found is None and named is None:
        raise ValueError(f"the header names no scan geometry, and {evidence}: choose rotation or precession yourself")
    if found is None or named is found:
        notes.append(f"geometry: {experiment.geometry.value}, by the header; {evidence}")
        return experiment
    header = "no known geometry" if named is None else named.value
    notes.append(f"geometry: {found.value}; the header says {header}, but the data decide: {evidence}")
    return replace(experiment, geometry=found)


def _lines(experiment: Experiment) -> list[str]:
    """The lines of the file. Twelve digits, so that nothing measured is lost."""
    geometry = "continuous rotation" if experiment.geometry is ScanGeometry.ROTATION else "precession"
    ub = ub_matrix(experiment).ravel().tolist()
    lines = ["data_pets", "_audit_creation_method 'edtbx'"]
    lines += [f"{tag} {value:.12g}" for tag, value in zip(pets_block.CELL_TAGS, experiment.cell, strict=True)]
    lines += [f"_diffrn_radiation_wavelength {experiment.wavelength:.12g}"]
    lines += [f"{tag} {value:.12g}" for tag, value in zip(pets_block.UB_TAGS, ub, strict=True)]
    lines += ["_diffrn_pets_omega 0", "_diffrn_measurement_details", ";", f"data collection geometry: {geometry}", ";"]
    return [*lines, "", *_frame_lines(experiment), "", *_reflection_lines(experiment.reflections)]


def _frame_lines(experiment: Experiment) -> list[str]:
    columns = ("id", "u", "v", "w", "precession_angle", "alpha", "beta", "omega", "scale")
    lines = ["loop_", *(pets_block.ZONE + name for name in columns)]
    for frame in experiment.frames:
        angles = np.degrees([frame.semi_angle, frame.alpha, frame.beta, frame.omega])
        u, v, w = zone_axis(experiment, frame)
        numbers = " ".join(f"{x:.12g}" for x in (*angles, frame.scale))
        lines.append(f"{frame.id:4d} {u:.5f} {v:.5f} {w:.5f} {numbers}")
    return lines


def _reflection_lines(rows: Reflections) -> list[str]:
    columns = ("index_h", "index_k", "index_l", "intensity_meas", "intensity_sigma", "zone_axis_id")
    lines = ["loop_", *(f"_refln_{name}" for name in columns)]
    for hkl, intensity, sigma, frame_id in zip(rows.hkl, rows.intensity, rows.sigma, rows.frame_id, strict=True):
        indices = " ".join(f"{index:3d}" for index in hkl)
        lines.append(f"{indices} {intensity:.12g} {sigma:.12g} {frame_id}")
    return lines
