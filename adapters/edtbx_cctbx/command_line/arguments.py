"""The command line: which argument is a file, an option or a parameter."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import iotbx.phil
from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry

from edtbx_cctbx.command_line.parameter_checks import check_values
from edtbx_cctbx.io.file_kinds import DIALS, UNKNOWN, FileKind, Role, kind_by_name, kind_of, told

_TAKES_NUMBER = ("--show-defaults", "--show_defaults", "--attributes-level", "--attributes_level")
_TAKES_VALUE = {
    "--citations": ("default", "cell", "iucr"),
    **dict.fromkeys(_TAKES_NUMBER, ("0", "1", "2", "3")),
}
"""Options whose value may be an argument of its own, and the values there are."""


def prepared(program_class: type[ProgramTemplate], arguments: Sequence[str]) -> list[str]:
    """The arguments as cctbx's parser takes them: files under their parameters, values quoted where PHIL would split them.

    Raises
    ------
    Sorry
        An argument is no file, option or parameter of the program, or a file is of no use to it.
    """
    for argument in arguments:
        _check_characters(argument)
    definitions = iotbx.phil.parse(program_class.master_phil_str).all_definitions()
    words = {d.path for d in definitions if d.object.type.phil_type in ("path", "str")}
    prepared_arguments = []
    for argument in named_files(arguments):
        name, equals, value = argument.partition("=")
        fitting = [path for path in words if equals and _fits(name.strip(), path)]
        prepared_arguments.append(f"{name}={quoted(value)}" if fitting else argument)
    check_values(program_class, prepared_arguments)
    return prepared_arguments


def named_files(arguments: Sequence[str]) -> list[str]:
    """The arguments with bare file names turned into ``input.data=`` and ``input.model=``, as their contents say.

    Raises
    ------
    Sorry
        A file holds neither.
    """
    renamed: list[str] = []
    kinds = {name: _kind_of_argument(name) for name in _bare(arguments)}
    for name, kind in kinds.items():
        if kind.role is Role.OTHER:
            raise Sorry(_told_in_company(name, kind, kinds))
    bare = _bare(arguments)
    for argument in arguments:
        if argument == "--":
            continue
        if argument not in bare or kinds[argument].role is Role.PARAMETERS:
            renamed.append(f"./{argument}" if argument in bare and argument.startswith("-") else argument)
        else:
            name = f"./{argument}" if argument.lower() in ("none", "auto") else argument
            renamed.append(f"input.{kinds[argument].role.value}={quoted(name)}")
    return renamed


def quoted(value: str) -> str:
    """A value as PHIL takes it for one word or text, quoted where it has to be."""
    value = value.strip()
    if re.fullmatch(r"[^\s\"'#;{}=\\!$&|]+", value) or not value:
        return value
    if re.fullmatch(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", value):
        return value
    # single quotes: PHIL puts variables ($x) into double ones
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def holds_parameters(path: str) -> bool:
    """Whether a bare argument is a file of parameters."""
    return _kind_of_argument(path).role is Role.PARAMETERS


def _bare(arguments: Sequence[str]) -> list[str]:
    """Those that name files: neither options nor their values, nor parameters."""
    names, options, before = [], True, ""
    for argument in arguments:
        allowed = _TAKES_VALUE.get(before, ()) if options else ()
        if options and argument == "--":
            options = False
        elif options and argument in allowed:
            pass
        elif argument.startswith("-") and options:
            if os.path.isfile(argument):
                names.append(argument)
        elif "=" not in argument or os.path.isfile(argument):
            names.append(argument)
        before = argument
    return names


def _kind_of_argument(name: str) -> FileKind:
    if not os.path.exists(name):
        promised = kind_by_name(name)
        return UNKNOWN if promised.role is Role.OTHER else promised
    return kind_of(name)


def _told_in_company(name: str, kind: FileKind, kinds: dict[str, FileKind]) -> str:
    """What to do with a file that no program reads, in terms of the files that are there."""
    said = told(name, kind)
    if kind is DIALS:
        for suffix in (".expt", ".refl"):
            given = [other for other in kinds if other.lower().endswith(suffix)]
            beside = Path(name).with_suffix(suffix)
            said = said.replace(
                f" integrated{suffix}",
                f" {given[0] if given else beside if beside.exists() else f'integrated{suffix}'}",
            )
    return said


def _check_characters(argument: str) -> None:
    shown = argument.encode("ascii", errors="backslashreplace").decode("ascii")[:80]
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in argument):
        raise Sorry(f"an argument holds a control character, {shown!r}: leave it out, or rename the file")
    if any(0xD800 <= ord(letter) < 0xE000 for letter in argument):
        raise Sorry(f"an argument is not in the encoding of this system (UTF-8), {shown!r}: rename the file")


def _fits(name: str, path: str) -> bool:
    """Whether PHIL takes this name for that parameter."""
    return path == name or path.endswith(f".{name}")
