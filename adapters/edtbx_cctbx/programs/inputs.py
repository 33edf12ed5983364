"""Reading the input files of the programs."""

from __future__ import annotations

from typing import Any

from cctbx import xray
from libtbx.utils import Sorry

from edtbx.measurement.experiment import Experiment, ScanGeometry
from edtbx_cctbx.indexing.diagnosis import check_indexing
from edtbx_cctbx.indexing.model_cell import with_model_cell
from edtbx_cctbx.io.cif_pets import read_experiment
from edtbx_cctbx.io.file_kinds import DATA_SUFFIX
from edtbx_cctbx.model_files.structures import read_model
from edtbx_cctbx.programs.parameters import word


def read_inputs(params: Any, logger: Any) -> tuple[xray.structure, Experiment]:
    """Structure and experiment, with the notes of the readers on the log."""
    if params.input.model is None:
        raise Sorry("no model given: name a CIF, PDB or SHELX file on the command line")
    if params.input.data is None:
        raise Sorry(f"no data given: name a *{DATA_SUFFIX} file on the command line")
    structure = read_structure(params, logger)
    if params.model.invert:
        structure = structure.change_hand()
        print("  Inverted: the other hand is taken", file=logger)
    print(f"Data: {params.input.data}", file=logger)
    tolerance = params.input.cell_tolerance
    experiment = read_experiment(
        params.input.data, _geometry(params), reindex=params.input.reindex, cell_tolerance=tolerance
    )
    experiment = _frames(params, with_model_cell(experiment, structure, tolerance))
    experiment = check_indexing(experiment, structure, tolerance).show_summary(f=logger, prefix="  ")
    print(file=logger)
    return structure, experiment


def read_structure(params: Any, logger: Any) -> xray.structure:
    """The model, described on the log."""
    print(f"Model: {params.input.model}", file=logger)
    structure = read_model(
        params.input.model,
        params.input.data_block,
        log=logger,
        cell_tolerance=params.input.cell_tolerance,
        non_positive="mend" if params.model.mend_displacements else "refuse",
    )
    structure.show_summary(f=logger, prefix="  ")
    return structure


def _geometry(params: Any) -> ScanGeometry | None:
    """The geometry that the user insists on; None leaves it to the data."""
    geometry = word(params.frames.geometry)
    return None if geometry == "auto" else ScanGeometry(geometry)


def _frames(params: Any, experiment: Experiment) -> Experiment:
    """The experiment with the frames asked for.

    Raises
    ------
    Sorry
        No frame is left, or a frame to exclude does not exist.
    """
    ids = [frame.id for frame in experiment.frames]
    chosen = params.frames
    excluded = set(chosen.exclude or [])
    if excluded - set(ids):
        raise Sorry(f"frames.exclude names frame {min(excluded - set(ids))}; the file has {min(ids)} to {max(ids)}")
    first = min(ids) if chosen.first is None else chosen.first
    last = max(ids) if chosen.last is None else chosen.last
    left = [i for i in ids if first <= i <= last and i not in excluded]
    if not left:
        raise Sorry(
            f"no frame is left: the file has {min(ids)} to {max(ids)}; look at frames.first, .last and .exclude"
        )
    return experiment.select_frames(left)
