"""What the programs share: reading the command line, and one `Sorry:` line for bad input."""

from __future__ import annotations

import getpass
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from iotbx.cli_parser import run_program
from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry, null_out

from edtbx_cctbx.command_line.arguments import holds_parameters, named_files, prepared
from edtbx_cctbx.command_line.nearest import nearest, or_else
from edtbx_cctbx.command_line.parameter_checks import check_values, flat, parameters_in
from edtbx_cctbx.command_line.parser import PlainParser
from edtbx_cctbx.command_line.streams import lasting_streams
from edtbx_cctbx.io.file_kinds import DATA_SUFFIX
from edtbx_launch.signals import exit_status, leaving_at_once

__all__ = [
    "DATA_SUFFIX",
    "check_values",
    "end_if_interrupted",
    "flat",
    "named_files",
    "run",
]

_LONGEST_LINE = 900
"""Characters of a message."""

ONLY_TELL = {"-h", "--help", "--version", "-v"}
"""Options that make a program say something of itself, whatever else is asked."""

_DRY_RUN = ("--dry-run", "--dry_run")


def run(program_class: type[ProgramTemplate], arguments: Sequence[str] | None = None) -> None:
    """Run a program; exit status 1 and one line on stderr where the input is at fault."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with lasting_streams():
        try:
            if not ONLY_TELL.intersection(arguments):
                program_class, arguments = _without_dry_run(program_class, arguments)
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


def _without_dry_run(
    program_class: type[ProgramTemplate], arguments: Sequence[str]
) -> tuple[type[ProgramTemplate], list[str]]:
    """The program and its arguments; where a dry run is asked for, the program that says what it would do.

    cctbx ends a dry run before the program reads its files, and says that all is well.
    """
    left = [argument for argument in arguments if argument not in _DRY_RUN]
    if len(left) == len(arguments):
        return program_class, left
    plan = {"run": program_class.plan, "get_results": lambda program: None}
    return type(program_class.__name__, (program_class,), plan), left


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
