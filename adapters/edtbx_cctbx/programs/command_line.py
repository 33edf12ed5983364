"""What the programs share: reading the command line, the input files, progress, and one `Sorry:` line for bad input."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import iotbx.phil
from cctbx import xray
from iotbx.cli_parser import run_program
from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry
from tqdm import tqdm

from edtbx.experiment import Experiment
from edtbx_cctbx.model import read_model
from edtbx_cctbx.pets import read_experiment
from edtbx_cctbx.programs.parameters import frames_from, geometry_from

DATA_SUFFIX = ".cif_pets"
_PHIL_SUFFIXES = {".phil", ".eff", ".params"}


def run(program_class: type[ProgramTemplate], arguments: Sequence[str] | None = None) -> None:
    """Run a program; exit status 1 and one line on stderr where the input is at fault."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        arguments = named_files(arguments)
        check_values(program_class, arguments)
        run_program(program_class=program_class, args=arguments)
    except Sorry as error:
        print("Sorry: " + re.sub(r"\s+", " ", str(error)).strip(), file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("Sorry: interrupted before the first result; nothing was written", file=sys.stderr)
        raise SystemExit(130) from None


def check_values(program_class: type[ProgramTemplate], arguments: Sequence[str]) -> None:
    """Refuse values of the wrong type or out of range, which PHIL reports as programming errors.

    Raises
    ------
    Sorry
        With PHIL's own words.
    """
    master = iotbx.phil.parse(program_class.master_phil_str)
    interpreter = master.command_line_argument_interpreter()
    given = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    sources = []
    for argument in given:
        try:
            sources.append(interpreter.process(argument))
        except Sorry as error:
            name = argument.partition("=")[0]
            raise Sorry(f"parameter {name} is not recognized; --show-defaults lists those there are") from error
    try:
        master.fetch(sources=sources).extract()
    except RuntimeError as error:
        raise Sorry(str(error)) from error


def named_files(arguments: Sequence[str]) -> list[str]:
    """The arguments with bare file names turned into ``input.data=`` (.cif_pets) and ``input.model=``."""
    renamed = []
    for argument in arguments:
        bare = "=" not in argument and not argument.startswith("-")
        if not bare or Path(argument).suffix in _PHIL_SUFFIXES:
            renamed.append(argument)
        else:
            kind = "data" if argument.lower().endswith((DATA_SUFFIX, ".cif_pets.txt")) else "model"
            renamed.append(f"input.{kind}={argument}")
    return renamed


def read_inputs(params: Any, logger: Any) -> tuple[xray.structure, Experiment]:
    """Structure and experiment, with the notes of the readers on the log."""
    if params.input.model is None:
        raise Sorry("no model given: name a CIF, PDB or SHELX file on the command line")
    if params.input.data is None:
        raise Sorry(f"no data given: name a *{DATA_SUFFIX} file on the command line")
    structure = read_model(params.input.model, params.input.data_block, log=logger)
    if params.model.invert:
        structure = structure.change_hand()
    experiment = read_experiment(params.input.data, geometry_from(params))
    for note in experiment.notes:
        print(f"  {note}", file=logger)
    return structure, frames_from(params, experiment)


def progress_bar(label: str) -> Callable[[Iterable[Any], int], Iterable[Any]]:
    """A progress bar over the frames, on stderr; none where that is not a terminal."""

    def wrap(items: Iterable[Any], total: int) -> Iterable[Any]:
        return tqdm(items, total=total, desc=label, unit="frame", disable=not sys.stderr.isatty(), leave=False)

    return wrap


def flat(params: Any, prefix: str = "") -> dict[str, Any]:
    """PHIL parameters as one dictionary of dotted names."""
    values: dict[str, Any] = {}
    for name, value in vars(params).items():
        if name.startswith("_"):
            continue
        if hasattr(value, "__phil_path__"):
            values.update(flat(value, f"{prefix}{name}."))
        else:
            values[prefix + name] = value
    return values
