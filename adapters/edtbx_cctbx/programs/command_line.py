"""What the programs share: reading the command line, the input files, progress, and one `Sorry:` line for bad input."""

from __future__ import annotations

import math
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import iotbx.phil
from cctbx import xray
from iotbx.cli_parser import CCTBXParser, run_program
from libtbx import Auto
from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry, null_out
from tqdm import tqdm

from edtbx.experiment import Experiment
from edtbx_cctbx.model import read_model
from edtbx_cctbx.pets import read_experiment
from edtbx_cctbx.programs.parameters import frames_from, geometry_from
from edtbx_cctbx.text_file import read_text
from edtbx_launch.signals import exit_status

DATA_SUFFIX = ".cif_pets"
_PHIL_SUFFIXES = {".phil", ".eff", ".params"}


def run(program_class: type[ProgramTemplate], arguments: Sequence[str] | None = None) -> None:
    """Run a program; exit status 1 and one line on stderr where the input is at fault."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        arguments = named_files(arguments)
        check_values(program_class, arguments)
        run_program(program_class=program_class, parser_class=Parser, args=arguments)
    except Sorry as error:
        print("Sorry: " + re.sub(r"\s+", " ", str(error)).strip(), file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt as stop:
        print("Sorry: interrupted before there was a result; nothing was written", file=sys.stderr)
        raise SystemExit(exit_status(stop)) from None


def end_if_interrupted(interrupted: str | None) -> None:
    """Leave with the status of the signal that stopped the work, if one did."""
    if interrupted is not None:
        raise SystemExit(128 + getattr(signal, interrupted, signal.SIGINT))


class Parser(CCTBXParser):
    """cctbx's parser without its report on files: the programs read MODEL and DATA themselves, and say so.

    cctbx would give both to ``any_file`` as well, which lists them as not used, and kills Python where a CIF ends in the
    header of a loop.
    """

    logger: Any

    def process_files(self, file_list: Iterable[str], message: str = "") -> None:
        """Take in the files of parameters only."""
        with self._quiet():
            super().process_files([name for name in file_list if _holds_parameters(name)])

    def process_phil(self, phil_list: list[str]) -> None:
        """Take in parameters; those that differ from the defaults are shown afterwards."""
        with self._quiet():
            super().process_phil(phil_list)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        logger, self.logger = self.logger, null_out()
        try:
            yield
        finally:
            self.logger = logger


def check_values(program_class: type[ProgramTemplate], arguments: Sequence[str]) -> None:
    """Refuse parameters that PHIL or the programs would stumble over later.

    Raises
    ------
    Sorry
        A name is unknown, or a value is of the wrong type, out of range, not finite, or missing where it is needed.
    """
    own, known = (iotbx.phil.parse(program_class.master_phil_str) for _ in range(2))
    known.adopt_scope(iotbx.phil.parse(ProgramTemplate.output_phil_str))  # cctbx's parser adds these
    defaults = flat(own.extract())
    _check_files(program_class.program_name, "input.data" in defaults, arguments)
    interpreter = known.command_line_argument_interpreter(assume_when_ambiguous=False)
    sources = []
    for argument in arguments:
        if argument.startswith("-"):
            continue
        try:
            sources.append(interpreter.process(argument) if "=" in argument else _parameters_in(argument))
        except (Sorry, RuntimeError) as error:
            raise Sorry(_what_is_wrong(argument, str(error))) from error
    try:
        _, unknown = known.fetch(sources=sources, track_unused_definitions=True)
        values = flat(own.fetch(sources=sources).extract())
    except RuntimeError as error:
        raise Sorry(str(error)) from error
    if unknown:
        raise Sorry(f"parameter {unknown[0].path} is not recognized; --show-defaults lists those there are")
    words = {d.path: {w.value.lower().lstrip("*") for w in d.object.words} for d in own.all_definitions()}
    for name, value in values.items():
        if (value is None and "none" not in words[name]) or (value is Auto and "auto" not in words[name]):
            raise Sorry(f"{name} has no value: give one, or leave it out for the default, {defaults[name]}")
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise Sorry(f"{name} must be a finite number, got {number}")


def _check_files(program: str, takes_data: bool, arguments: Sequence[str]) -> None:
    """One model, one data file, and none where a program wants none."""
    for kind in ("model", "data"):
        named = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"input.{kind}=")]
        if len(named) > 1:
            raise Sorry(
                f"more than one file of the {kind} given, {' and '.join(named)}: name one "
                f"(*{DATA_SUFFIX} is taken for data, everything else for a model; input.data=FILE overrides)"
            )
        if named and kind == "data" and not takes_data:
            raise Sorry(f"{program} takes no data: leave out {named[0]}")


def _parameters_in(path: str) -> Any:
    return iotbx.phil.parse(read_text(path, "file of parameters (PHIL)"))


def _what_is_wrong(argument: str, said: str) -> str:
    name, _, value = argument.partition("=")
    if not value.strip():
        if "=" in argument:
            return f"{name} has no value: give one, or leave it out for the default"
        return said if argument in said else f"{argument}: {said}"
    if said.startswith("Unknown"):
        return f"parameter {name} is not recognized; --show-defaults lists those there are"
    return f"{argument}: {said}"


def _holds_parameters(name: str) -> bool:
    return Path(name).suffix in _PHIL_SUFFIXES


def named_files(arguments: Sequence[str]) -> list[str]:
    """The arguments with bare file names turned into ``input.data=`` (.cif_pets) and ``input.model=``."""
    renamed = []
    for argument in arguments:
        bare = "=" not in argument and not argument.startswith("-")
        if not bare or _holds_parameters(argument):
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
    structure = read_structure(params, logger)
    if params.model.invert:
        structure = structure.change_hand()
        print("  Inverted: the other hand is taken", file=logger)
    print(f"Data: {params.input.data}", file=logger)
    experiment = read_experiment(params.input.data, geometry_from(params))
    experiment = frames_from(params, experiment).show_summary(f=logger, prefix="  ")
    print(file=logger)
    return structure, experiment


def read_structure(params: Any, logger: Any) -> xray.structure:
    """The model, described on the log."""
    print(f"Model: {params.input.model}", file=logger)
    structure = read_model(
        params.input.model,
        params.input.data_block,
        log=logger,
        non_positive="mend" if params.model.mend_displacements else "refuse",
    )
    structure.show_summary(f=logger, prefix="  ")
    return structure


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
