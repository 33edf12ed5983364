"""What the programs share: reading the command line, the input files, and one `Sorry:` line for bad input."""

from __future__ import annotations

import getpass
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from cctbx import xray
from iotbx.cli_parser import run_program
from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry, null_out

from edtbx.measurement.experiment import Experiment, ScanGeometry
from edtbx_cctbx.command_line.arguments import holds_parameters, named_files, prepared
from edtbx_cctbx.command_line.nearest import nearest, or_else
from edtbx_cctbx.command_line.parameter_checks import check_values, flat, parameters_in
from edtbx_cctbx.command_line.parser import PlainParser
from edtbx_cctbx.command_line.streams import lasting_streams
from edtbx_cctbx.indexing.diagnosis import check_indexing
from edtbx_cctbx.indexing.model_cell import with_model_cell
from edtbx_cctbx.io.cif_pets import read_experiment
from edtbx_cctbx.io.file_kinds import DATA_SUFFIX
from edtbx_cctbx.model_files.structures import read_model
from edtbx_cctbx.programs.dry_run import without_dry_run
from edtbx_cctbx.programs.parameters import word
from edtbx_launch.signals import exit_status, leaving_at_once

__all__ = [
    "DATA_SUFFIX",
    "check_values",
    "end_if_interrupted",
    "flat",
    "named_files",
    "read_inputs",
    "read_structure",
    "run",
]

_LONGEST_LINE = 900
"""Characters of a message."""

_ONLY_TELL = {"-h", "--help", "--version", "-v"}
"""Options that make a program say something of itself, whatever else is asked."""


def run(program_class: type[ProgramTemplate], arguments: Sequence[str] | None = None) -> None:
    """Run a program; exit status 1 and one line on stderr where the input is at fault."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with lasting_streams():
        try:
            if not _ONLY_TELL.intersection(arguments):
                program_class, arguments = without_dry_run(program_class, arguments)
                arguments = prepared(program_class, arguments)
            run_program(program_class=program_class, parser_class=Parser, args=arguments)
        except Sorry as error:
            print("Sorry: " + _one_line(str(error)), file=sys.stderr)
            raise SystemExit(1) from None
        except MemoryError as error:  # TooLarge says what to change
            said = (
                str(error) or "the memory is used up: lower beams.g_max or beams.s_max, or take fewer threads (nproc)"
            )
            print(f"Sorry: {said}", file=sys.stderr)
            raise SystemExit(1) from None
        except KeyboardInterrupt as stop:
            writing = getattr(stop, "while_writing", False)
            done = (
                "while files were written; those there are whole"
                if writing
                else "before there was a result; nothing was written"
            )
            print(f"Sorry: interrupted {done}", file=sys.stderr)
            raise SystemExit(exit_status(stop)) from None


def _one_line(message: str) -> str:
    """A message on one line that can be read: its middle is left out where it quotes a file at length."""
    line = re.sub(r"\s+", " ", message).strip()
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE // 2]} … {line[3 - _LONGEST_LINE // 2 :]}"


def end_if_interrupted(interrupted: str | None) -> None:
    """Leave with the status of the signal that stopped the work, if one did."""
    if interrupted is not None:
        raise SystemExit(128 + getattr(signal, interrupted, signal.SIGINT))


class Parser(PlainParser):
    """cctbx's parser without its report on files: the programs read MODEL and DATA themselves, and say so.

    cctbx would give both to ``any_file`` as well, which lists them as not used, and kills Python where a CIF ends in the
    header of a loop.
    """

    logger: Any

    def parse_args(self, args: Sequence[str], skip_help: bool = False) -> Any:
        """As cctbx does, also for a user without a name, as in a container, and where only the version is asked for."""
        if {"--version", "-v"}.intersection(args) and not {"-h", "--help"}.intersection(args):
            print(self.program_class.get_version(), file=self.logger)
            raise SystemExit(0)
        try:
            getpass.getuser()
        except (KeyError, OSError, ImportError):
            os.environ["LOGNAME"] = "an unnamed user"
        with leaving_at_once():
            return super().parse_args(args, skip_help)

    def error(self, message: str) -> NoReturn:
        """Refuse an option, in one line, with the nearest one that there is.

        Raises
        ------
        Sorry
            Always.
        """
        unknown = message.partition("unrecognized arguments: ")[2].split()
        if not unknown:
            raise Sorry(f"{message}; --help lists the options")
        option = unknown[0].partition("=")[0]
        known = [name for name in self._option_string_actions if name.startswith("--") and "_" not in name]
        near = nearest(option, known)
        raise Sorry(
            f"there is no option {option}{or_else(option, near)}{'' if near else '; --help lists those there are'}"
        )

    def process_files(self, file_list: Iterable[str], message: str = "") -> None:
        """Take in the files of parameters only."""
        for name in file_list:
            if holds_parameters(name):
                self.data_manager.add_phil(name, parameters_in(name))

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
