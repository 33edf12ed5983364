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

from edtbx.arrays import FloatArray
from edtbx.cell import CELL_TOLERANCE, Cell, transformed_cell
from edtbx.checks import expect_kind, expect_number
from edtbx.measurement.experiment import Experiment, Frame, Reflections, ScanGeometry
from edtbx.measurement.geometry import frame_vectors, ub_matrix
from edtbx_cctbx.arrays import from_numpy, to_miller_index
from edtbx_cctbx.boundary import expect_experiment
from edtbx_cctbx.indexing.operators import index_matrix, transform_indices
from edtbx_cctbx.indexing.reindexing import reindexed
from edtbx_cctbx.indexing.scan_geometry import as_asked, with_geometry_of_data
from edtbx_cctbx.io import cif_pets_block as pets_block
from edtbx_cctbx.io.text_file import parse_cif, read_text

_EXPECTED = ".cif_pets file of PETS2"


def read_experiment(
    path: str | Path,
    geometry: ScanGeometry | None = None,
    *,
    reindex: str | None = None,
    cell_tolerance: float = CELL_TOLERANCE,
) -> Experiment:
    """The experiment in a ``.cif_pets`` file; its ``notes`` tell what was found, decided and dropped.

    Whether the frames are of a rotation or of a precession is decided by the intensities where they can tell
    (:mod:`edtbx.measurement.scan_geometry`), by the header where they cannot; ``geometry`` overrides both. ``reindex``
    ("-h,-k,-l") gives other indices (:func:`edtbx_cctbx.reindexed`); one that changes the hand turns a left-handed UB
    matrix right-handed, too.
    ``cell_tolerance`` is how far the UB matrix may be off the cell of the file (0.06: 6 % in length, 2.5° in angle).

    Raises
    ------
    Sorry
        The file is missing or damaged, lacks something needed, or contradicts itself.
    TypeError
        An argument is of the wrong kind.
    """
    text = read_text(path, _EXPECTED)
    if geometry is not None:
        expect_kind(geometry, ScanGeometry, "geometry")
    expect_number(cell_tolerance, "cell_tolerance")
    block = _data_block(parse_cif(text, path, _EXPECTED), path)
    notes: list[str] = []
    try:
        named = pets_block.named_geometry(block)
        warnings: list[str] = []
        wavelength = pets_block.wavelength(block, warnings)
        cell, ub = pets_block.cell_parameters(block), pets_block.ub_matrix(block)
        frames, rows = pets_block.frames(block, notes), pets_block.reflections(block, notes)
        if reindex is not None and np.linalg.det(ub) < 0.0 and np.linalg.det(index_matrix(reindex)) < 0.0:
            cell, ub, rows = _other_hand(cell, ub, rows, index_matrix(reindex))
            notes.append(f"reindexed by {reindex}: indices and the left-handed UB matrix together")
            reindex = None
        experiment = Experiment(
            wavelength=wavelength,
            cell=cell,
            orientation=pets_block.orientation(ub, cell, notes, cell_tolerance),
            geometry=geometry or named or ScanGeometry.ROTATION,
            frames=frames,
            reflections=rows,
            source=str(path),
            notes=tuple(notes),
            ub=ub,
            warnings=tuple(warnings),
        )
        if reindex is not None:
            experiment = reindexed(experiment, reindex)
        return with_geometry_of_data(experiment, named) if geometry is None else as_asked(experiment, geometry)
    except ValueError as error:
        raise Sorry(f"{path}: {error}") from error


def write_experiment(path: str | Path, experiment: Experiment) -> None:
    """Write a ``.cif_pets`` file that :func:`read_experiment` and Jana2020 read; all of it, or nothing.

    Raises
    ------
    Sorry
        The file cannot be written.
    """
    text = experiment_text(expect_experiment(experiment))
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="ascii")
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Sorry(f"cannot write {path} ({error.strerror}): choose a folder that exists and is yours") from error


def experiment_text(experiment: Experiment) -> str:
    """The text of a ``.cif_pets`` file that :func:`read_experiment` and Jana2020 read."""
    return "\n".join(_lines(experiment)) + "\n"


def experiment_as_miller_array(
    experiment: Experiment, crystal_symmetry: crystal.symmetry | None = None
) -> tuple[miller.array, flex.int]:
    """Intensities with their s.u.s, row by row as measured, and the id of the frame of every row.

    The same index occurs once for every frame that lists it. Without a symmetry, the cell of the experiment in P 1.
    """
    rows = expect_experiment(experiment).reflections
    if crystal_symmetry is None:
        crystal_symmetry = crystal.symmetry(experiment.cell, space_group_symbol="P 1")
    expect_kind(crystal_symmetry, crystal.symmetry, "crystal_symmetry")
    indices = to_miller_index(rows.hkl)
    array = miller.array(
        miller.set(crystal_symmetry, indices, anomalous_flag=True),
        data=from_numpy(rows.intensity),
        sigmas=from_numpy(rows.sigma),
    )
    array.set_observation_type_xray_intensity()
    return array, from_numpy(rows.frame_id)


def zone_axis(experiment: Experiment, frame: Frame) -> FloatArray:
    """u, v, w (3,) of the direct-lattice direction towards the electron source (+z), the largest of them ±1."""
    to_lab = frame_vectors(experiment, frame, np.eye(3, dtype=np.int64)).T
    uvw = to_lab[2]
    return np.asarray(uvw / np.max(np.abs(uvw)))


def _data_block(blocks: Any, path: str | Path) -> Any:
    """The first data block with an orientation matrix."""
    with_ub = [blocks[name] for name in blocks if pets_block.UB_TAGS[0] in blocks[name]]
    if with_ub and not pets_block.is_kinematical(with_ub[0]):
        return with_ub[0]
    if any(pets_block.is_kinematical(blocks[name]) for name in blocks):
        raise Sorry(
            f"{path} is the kinematical file of PETS2: one merged list of reflections, without frames "
            f"({pets_block.ZONE}id ...); give the one for dynamical refinement, usually *_dyn.cif_pets"
        )
    raise Sorry(
        f"{path} has no orientation matrix ({pets_block.UB_TAGS[0]} ...): give the {_EXPECTED} for dynamical refinement"
    )


def _other_hand(
    cell: Cell, ub: FloatArray, rows: Reflections, matrix: FloatArray
) -> tuple[Cell, FloatArray, Reflections]:
    """Cell, UB matrix and rows for axes of the other hand."""
    hkl = transform_indices(rows.hkl, matrix)
    return transformed_cell(cell, matrix), ub @ np.linalg.inv(matrix), replace(rows, hkl=hkl)


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
