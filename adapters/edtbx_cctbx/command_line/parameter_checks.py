"""Parameters and files that PHIL or a program would stumble over later, refused in one line that says what was meant."""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import iotbx.phil
from libtbx import Auto
from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry

from edtbx_cctbx.command_line.nearest import nearest, or_else
from edtbx_cctbx.io.file_kinds import DATA_SUFFIX, PARAMETERS, Role, kind_by_name, kind_of, told
from edtbx_cctbx.io.text_file import read_text

_LONGEST_PARAMETERS = 1 << 20
"""Characters in a file of parameters."""

_UNREADABLE = (
    RuntimeError,
    OSError,
    ValueError,
    ImportError,
    AttributeError,
    AssertionError,
    TypeError,
    KeyError,
    IndexError,
    ArithmeticError,
    SyntaxError,
    MemoryError,
)
"""What PHIL raises over a text that is none, or over values that are none."""


def check_values(program_class: type[ProgramTemplate], arguments: Sequence[str]) -> None:
    """Refuse parameters that PHIL or the programs would stumble over later, and files that are not what they are taken for.

    Raises
    ------
    Sorry
        A name is unknown, or a value is of the wrong type, out of range, not finite, or missing where it is needed.
    """
    known = iotbx.phil.parse(program_class.master_phil_str)
    takes_data = any(definition.path == "input.data" for definition in known.all_definitions())
    _check_numbers_of_files(program_class.program_name, takes_data, arguments)
    sources = _sources(known, arguments)
    try:
        fetched, unknown = known.fetch(sources=sources, track_unused_definitions=True)
        values, defaults = (flat(scope.extract()) for scope in (fetched, known))
    except (Sorry, *_UNREADABLE) as error:
        raise Sorry(_plain(str(error) or type(error).__name__)) from error
    if unknown:
        raise Sorry(_not_recognised(unknown[0].path, known))
    words = {d.path: {w.value.lower().lstrip("*") for w in d.object.words} for d in known.all_definitions()}
    for name, value in values.items():
        if (value is None and "none" not in words[name]) or (value is Auto and "auto" not in words[name]):
            raise Sorry(f"{name} has no value: give one, or leave it out for the default, {defaults[name]}")
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise Sorry(f"{name} must be a finite number, got {number}")
    for role in (Role.MODEL, Role.DATA):
        _check_role(values.get(f"input.{role.value}"), role)


def parameters_in(path: str) -> Any:
    """The PHIL scope that a file holds, with those it includes.

    Raises
    ------
    Sorry
        The file cannot be read, or is no PHIL.
    """
    text = read_text(path, PARAMETERS.name.removeprefix("a "))
    if len(text) > _LONGEST_PARAMETERS:
        raise Sorry(f"{path} is too long for a {PARAMETERS.name.removeprefix('a ')}: it has {len(text)} characters")
    try:
        return iotbx.phil.parse(input_string=text, file_name=str(path), process_includes=True)
    except RecursionError as error:
        raise Sorry(f"{path} has too many braces inside each other for a file of parameters") from error
    except (Sorry, *_UNREADABLE) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        said = re.sub(rf'\(?(at )?file "{re.escape(str(path))}", (line \d+)\)?', r"\1\2", said)
        raise Sorry(f"{path}: {said}") from error


def unquoted(value: str) -> str:
    """A value without the quotes that PHIL would take away."""
    whole = re.fullmatch(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", value)
    return re.sub(r"\\(.)", r"\1", whole.group(1) or whole.group(2) or "") if whole else value


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


def _check_numbers_of_files(program: str | None, takes_data: bool, arguments: Sequence[str]) -> None:
    """One model, one data file, and none where a program wants none."""
    for kind in ("model", "data"):
        given = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"input.{kind}=")]
        named = [_short(unquoted(value)) for value in given]
        lost = [name for name in named if not os.path.exists(name) and not Path(name).suffix and "/" not in name]
        if len(named) > 1 and lost:
            raise Sorry(
                f"there is no file {lost[0]}{or_else(lost[0], _near_files(lost[0]))}; parameters are given as NAME=VALUE"
            )
        if len(named) > 1:
            raise Sorry(
                f"more than one file of the {kind} given, {' and '.join(named)}: name one "
                f"(*{DATA_SUFFIX} is taken for data, everything else for a model; input.data=FILE overrides)"
            )
        if named and kind == "data" and not takes_data:
            raise Sorry(f"{program} takes no data: leave out {named[0]}")


def _check_role(path: str | None, role: Role) -> None:
    """Refuse a file that is missing, or clearly not what it is given for."""
    if path is None or path is Auto:
        return
    if os.path.isdir(path):
        inside = sorted(file.name for file in Path(path).iterdir() if kind_by_name(file).role is role)[:3]
        examples = f", such as {' or '.join(inside)}" if inside and role is Role.DATA else ""
        raise Sorry(f"{path} is a folder: name a file in it{examples}")
    if not os.path.exists(path):
        if glob.has_magic(path):
            raise Sorry(f"no file matches {_short(path)}: name a {role.value} file that is there")
        near = or_else(path, _near_files(path)) or f": give the path of a {role.value} file"
        raise Sorry(f"cannot read {_short(path)} (No such file or directory){near}")
    kind = kind_of(path)
    if kind.role is Role.OTHER:
        raise Sorry(told(path, kind))
    if kind.certain and kind.role is not role:
        article = "a " if kind.role is Role.MODEL else ""
        instead = f"input.{kind.role.value}={path}" if kind.role in (Role.MODEL, Role.DATA) else "name it by itself"
        wanted = "a model" if role is Role.MODEL else "data"
        name = kind.name if kind.role is Role.PARAMETERS else f"{article}{kind.role.value}"
        raise Sorry(f"{path} is {name}, not {wanted}: {instead}")


def _near_files(path: str) -> list[str]:
    """Existing files with a name like that."""
    folder = Path(path).parent
    try:
        names = [file.name for file in folder.iterdir() if file.is_file()][:5000]
    except (OSError, ValueError):
        return []
    near = {name: (name if folder == Path() else str(folder / name)) for name in names}
    return [near[name] for name in nearest(Path(path).name, list(near))]


def _sources(known: Any, arguments: Sequence[str]) -> list[Any]:
    """PHIL scopes of the arguments that hold parameters."""
    interpreter = known.command_line_argument_interpreter(assume_when_ambiguous=False)
    sources = []
    for argument in arguments:
        if argument.startswith("-"):
            continue
        if "=" not in argument or os.path.isfile(argument):
            if kind_by_name(argument).role is Role.PARAMETERS or kind_of(argument).role is Role.PARAMETERS:
                sources.append(parameters_in(argument))
            continue  # else the value of an option
        if "**" in argument or "<<" in argument:
            raise Sorry(f"{_short(argument)}: give a plain number")
        try:
            sources.append(interpreter.process(argument))
        except RecursionError as error:
            raise Sorry(f"{_short(argument)}: too many braces inside each other") from error
        except (Sorry, *_UNREADABLE) as error:
            raise Sorry(_what_is_wrong(argument, str(error), known)) from error
    return sources


def _what_is_wrong(argument: str, said: str, known: Any) -> str:
    name, _, value = argument.partition("=")
    if not name.strip():
        return f"{_short(argument)} names no parameter: give NAME=VALUE"
    if not value.strip():
        return f"{name} has no value: give one, or leave it out for the default"
    if said.startswith("Unknown"):
        return _not_recognised(name.strip(), known)
    several = re.search(r"Ambiguous parameter definition: .*?Best matches:\s*(.*)", said, flags=re.DOTALL)
    if several:
        return f"{name} fits several parameters, {', '.join(several.group(1).split())}: give the whole name of one"
    reason = re.search(r"(?:Syntax error: .*|Unexpected end of input.*|has no effect.*)", said)
    return f"{_short(argument)}: {reason.group(0) if reason else _plain(said)}"


def _not_recognised(name: str, known: Any) -> str:
    paths = [definition.path for definition in known.all_definitions()]
    near = or_else(name, nearest_parameters(name, paths))
    return f"parameter {_short(name)} is not recognized{near or '; --show-defaults lists those there are'}"


def nearest_parameters(name: str, paths: Sequence[str]) -> list[str]:
    """Parameters whose whole names, or last parts of them, are like the one given."""
    last = name.rpartition(".")[2]
    same = [path for path in paths if path.rpartition(".")[2] == last]
    if same:
        return nearest(name, same, cutoff=0.0) if "." in name else same[:3]
    whole = nearest(name, paths)
    if whole:
        return whole
    scopes = nearest(name, sorted({path.rpartition(".")[0] for path in paths}), cutoff=0.75)
    if scopes:
        return [path for path in paths if path.startswith(f"{scopes[0]}.")][:3]
    parts = nearest(last, sorted({path.rpartition(".")[2] for path in paths}))
    return [path for path in paths if path.rpartition(".")[2] in parts[:1]][:3]


def _plain(said: str) -> str:
    """What PHIL says of a value, with the value that was probably meant."""
    said = re.sub(r"\s*\(command line argument, line 1\)", "", " ".join(said.split()))
    said = re.sub(r"(\S{60})\S{60,}", r"\1...", said)
    choice = re.match(r"Not a possible choice for (\S+): (.*?) (?:\(.*?\) )?Possible choices are: (.*)", said)
    if choice:
        words = [word.lstrip("*") for word in choice.group(3).split()]
        wrong = choice.group(2)
        return f"{choice.group(1)}={wrong} is none of {' '.join(words)}{or_else(wrong, nearest(wrong, words))}"
    variable = re.match(r"(?:Not a definition|Undefined variable): \$(\S+)(.*)", said)
    if variable:
        return f"${variable.group(1)} stands for no parameter{variable.group(2)}"
    number = re.match(
        r'Error interpreting (\S+?)="(.*?)"? as an? (integer|floating-point|numeric) expression(.*)', said
    )
    if number:
        name, value, sort, rest = number.groups()
        where = re.search(r'\(file "[^"]*", line \d+\)', rest)
        wanted = "a whole number" if sort == "integer" else "a number"
        return f"{name}={value} is not {wanted}{_hint(value)}{f' {where.group(0)}' if where else ''}"
    return said


def _hint(value: str) -> str:
    if re.fullmatch(r"[-+]?\d+,\d+", value.strip()):
        return f": did you mean {value.strip().replace(',', '.')}?"
    unit = re.fullmatch(r"([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*([A-Za-zÅ°µ%][\wÅ°µ%/^-]*)", value.strip())
    return f": leave out the unit, {unit.group(2)}" if unit else ""


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)"
