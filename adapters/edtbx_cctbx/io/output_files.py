"""The files that a program writes: their names, what they must not replace, and how they come to be there as a whole."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libtbx.utils import Sorry

from edtbx_cctbx.io.output_lock import is_running, locked
from edtbx_launch.signals import shielded

ENDINGS = {
    "edtbx.compare": (".cif", ".json", "_reflections.csv", ".png"),
    "edtbx.refine": (".cif", ".res", ".json", "_reflections.csv", ".png"),
    "edtbx.map": ("_hydrogens.cif", "_map.json", ".mtz", ".ccp4", "_map.png"),
    "edtbx.simulate": (".cif_pets",),
}
"""What stands behind the prefix in the names of the files of a program, in the order in which they are written: structure
and numbers first."""

_ONLY_WITH = {"_hydrogens.cif": "map.hydrogens=True"}
_MEANWHILE = {"edtbx.refine": (".checkpoint",)}
"""Files that are there only while a program works."""

_LOCKS = {"edtbx.compare": ("",), "edtbx.refine": ("",), "edtbx.map": ("_map",), "edtbx.simulate": (".cif_pets",)}
"""Programs that share names of files share a lock."""

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


def output_phil(program: str, prefix: str = "edtbx") -> str:
    """The parameters of a program that say where its files go, their names in the help."""
    names = [f"PREFIX{end}" for end in ENDINGS[program] if end not in _ONLY_WITH]
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    said = f"The files written are {listed}" if len(names) > 1 else f"The file written is {listed}"
    for end in ENDINGS[program]:
        said += f", with {_ONLY_WITH[end]} PREFIX{end}, too" if end in _ONLY_WITH else ""
    return f"""
output {{
  prefix = {prefix}
    .type = str
    .help = "{said}. A leading ~ is the home folder."
  overwrite = False
    .type = bool
    .help = "Replace files of these names that are there from before, as --overwrite does. Input is never replaced."
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFiles:
    """The files that one run of a program writes, and those that it reads and must not replace, by their kinds."""

    program: str
    base: Path
    endings: Sequence[str]
    overwrite: bool = False
    inputs: Sequence[tuple[str, Path]] = field(default_factory=tuple)

    @classmethod
    def of(cls, program: str, params: Any, data_manager: Any = None, *, goes_on: bool = False) -> OutputFiles:
        """What the parameters of a program ask for, once it has been seen to be possible.

        A run that goes on with another replaces what that one has written.

        Raises
        ------
        Sorry
            As :func:`output_base` and :meth:`check`.
        """
        asked = params.input
        inputs = [(kind, path) for kind in ("model", "data") if (path := getattr(asked, kind, None)) is not None]
        if data_manager is not None and data_manager.has_phils():
            inputs += [("file of parameters", path) for path in data_manager.get_phil_names()]
        left_out = () if program != "edtbx.map" or params.map.hydrogens else ("_hydrogens.cif",)
        files = cls(
            program=program,
            base=output_base(params.output.prefix),
            endings=[end for end in ENDINGS[program] if end not in left_out],
            overwrite=bool(params.output.overwrite) or goes_on,
            inputs=[(kind, Path(path)) for kind, path in inputs],
        )
        files.check()
        return files

    @property
    def paths(self) -> list[Path]:
        """Where the files go, in the order in which they are written."""
        return [_behind(self.base, end) for end in self.endings]

    @property
    def there(self) -> list[Path]:
        """Output files that exist already."""
        return [path for path in self.paths if os.path.lexists(path)]

    def check(self) -> None:
        """Refuse names that cannot be written.

        Raises
        ------
        Sorry
            A file that is read would be replaced, or one that is there from before, unless that is asked for.
        """
        for path in [*self.paths, *(_behind(self.base, end) for end in _MEANWHILE.get(self.program, ()))]:
            _require_possible(path)
            for kind, source in self.inputs:
                if _is_same(path, source):
                    alternative = f"{self.base.name}_{self.program.partition('.')[2]}"
                    raise Sorry(
                        f"{path}, which {self.program} writes, would replace the {kind}, {source}: choose another "
                        f"output prefix, such as output.prefix={self.base.with_name(alternative)}"
                    )
        existing = self.there
        if existing and not self.overwrite:
            raise Sorry(
                f"{listed(existing)} {'is' if len(existing) == 1 else 'are'} there from before: choose another output "
                f"prefix, or replace {'it' if len(existing) == 1 else 'them'} with --overwrite (output.overwrite=True)"
            )

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """No other run writes these files meanwhile.

        Raises
        ------
        Sorry
            Another run does, or has written them since they were looked at.
        """
        with ExitStack() as locks:
            for end in _LOCKS[self.program]:
                locks.enter_context(locked(_behind(self.base, end), self.program))
            self.check()
            for path in self.paths:
                _remove_parts_of_the_dead(path)
            yield


def listed(paths: Sequence[Path]) -> str:
    """The names of files of one folder in a line, the folder with the first."""
    return ", ".join(str(path) if n == 0 else path.name for n, path in enumerate(paths))


def output_base(prefix: str | Path) -> Path:
    """The prefix as a path, whose name the endings of the output files are put behind; ``~`` is the home folder.

    Raises
    ------
    Sorry
        It names no file, or its folder is missing or cannot be written.
    """
    try:
        base = Path(prefix).expanduser()
    except RuntimeError:  # nobody has that name: a file may begin with ~ as well
        base = Path(prefix)
    if base.name in ("", "..") or str(prefix).endswith("/"):
        raise Sorry(f"the output prefix {str(prefix)!r} names no file: give the start of a file name")
    if not base.parent.is_dir() or not os.access(base.parent, os.W_OK):
        raise Sorry(f"cannot write to the folder {base.parent}: choose another output prefix, in a folder that exists")
    return base


def write_files(base: Path, contents: Mapping[str, Callable[[], bytes]]) -> list[Path]:
    """Make and write one file after the other, behind a base; their paths.

    Each takes its name only when it is complete and on the disk. What cannot be made or written does not keep the others
    from it, and is told at the end.

    Raises
    ------
    Sorry
        Not all could be made and written; it says which were.
    """
    written: list[Path] = []
    failures: dict[str, list[Path]] = {}
    for end, make in contents.items():
        path = _behind(base, end)
        try:
            write_whole(path, make())
        except OSError as error:
            failures.setdefault(why(error), []).append(path)
        except Exception as error:  # whatever a picture stumbles over: the numbers of a long run are not lost with it
            failures.setdefault(f"{type(error).__name__}: {error}", []).append(path)
        else:
            written.append(path)
    if failures:
        raise Sorry(_what_failed(failures, written))
    return written


def _what_failed(failures: Mapping[str, Sequence[Path]], written: Sequence[Path]) -> str:
    missing = "; ".join(f"{listed(paths)} could not be written ({reason})" for reason, paths in failures.items())
    older = [path for paths in failures.values() for path in paths if os.path.lexists(path)]
    kept = f"complete and kept: {listed(written)}" if written else "nothing was written"
    said = f"{missing}; {kept}"
    if older:
        said += f"; still of an earlier run: {listed(older)}"
    if any(reason in _FULL.values() for reason in failures):
        return f"{said}; make room and run again with --overwrite, or with another output prefix"
    return said


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that takes its name only when it is complete and on the disk; what was there before is replaced."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with shielded():
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # some disks tell only now that they are full
            os.replace(part, path)
        finally:
            _remove(part)


def why(error: OSError) -> str:
    """Reason why a file could not be written; a full disk is named as such."""
    return _FULL.get(error.errno or 0, f"{error.strerror or error}")


def _behind(base: Path, end: str) -> Path:
    return base.with_name(base.name + end)


def _is_same(path: Path, other: Path) -> bool:
    """Whether both are one file, by whatever names, links and case of letters."""
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):  # one of them is not there
        return os.path.realpath(path) == os.path.realpath(other)


def _require_possible(path: Path) -> None:
    try:
        if path.is_dir():
            raise Sorry(f"{path} is a folder: choose another output prefix")
        os.lstat(path.with_name(f".{path.name}.{os.getpid()}.part"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise Sorry(
            f"cannot write {path} ({getattr(error, 'strerror', None) or error}): choose another output prefix"
        ) from error


def _remove_parts_of_the_dead(path: Path) -> None:
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.part")
    for part in path.parent.iterdir():
        named = pattern.fullmatch(part.name)
        if named and not is_running(int(named.group(1))):
            _remove(part)


def _remove(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError:  # a folder that is none: nothing was written there
        return
