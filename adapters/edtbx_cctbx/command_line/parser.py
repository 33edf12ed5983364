"""cctbx's parser of the command line, with what the programs of edtbx heed and no more."""

from __future__ import annotations

from typing import Any

import iotbx.phil
from iotbx.cli_parser import CCTBXParser
from libtbx.program_template import ProgramTemplate

_UNHEEDED = (
    *("write_data", "write_defaults", "write_modified", "write_all", "diff_params", "json", "check_current_dir"),
    "profile",
)
"""Switches of cctbx's own programs that say nothing here: they are about its DataManager, which holds no file of these
programs, or repeat what `--show-defaults` and the output do."""


class PlainParser(CCTBXParser):
    """cctbx's parser; it knows no parameter and no option besides those that the program heeds."""

    description: str

    def __init__(self, program_class: type[ProgramTemplate], *args: Any, **kwargs: Any) -> None:
        # an abbreviated --quiet would be quiet only when all is said
        super().__init__(program_class, *args, allow_abbrev=False, **kwargs)
        self.master_phil = iotbx.phil.parse(program_class.master_phil_str, process_includes=True)
        said, heading, _ = self.description.partition("PHIL arguments:\n")
        parameters = self.master_phil.as_str(prefix="  ", expert_level=3, attributes_level=0)
        self.description = said + heading + parameters

    def add_default_options(self) -> None:
        """cctbx's options, but for those of which nothing would come."""
        self.set_defaults(**dict.fromkeys(_UNHEEDED, False), json_filename=None)
        self.add_argument(
            *("--show-defaults", "--show_defaults"),
            nargs="?",
            const=3,
            type=int,
            choices=range(4),
            help="show the parameters with their defaults, as a file of parameters has them, up to this expert level "
            "(default 3)",
        )
        self.add_argument(
            *("--attributes-level", "--attributes_level"),
            nargs="?",
            const=0,
            type=int,
            choices=range(4),
            help="show them with their help (1) and more (default 0)",
        )
        self.add_argument(
            "--overwrite",
            action="store_true",
            help="replace files that are there from before, as output.overwrite=True does; input is never replaced",
        )
        self.add_argument(
            *("--dry-run", "--dry_run"),
            action="store_true",
            help="read and check everything, say what would be done, and write nothing",
        )
        self.add_argument(
            "--citations",
            nargs="?",
            const="default",
            choices=["default", "cell", "iucr"],
            help="show what to cite, in one of these formats",
        )
        self.add_argument("--quiet", action="store_true", help="print nothing but errors")
        self.add_argument("--version", "-v", action="store_true", help="show the version")
