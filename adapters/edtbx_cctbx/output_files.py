"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from libtbx.utils import Sorry

from edtbx_launch.signals import shielded


def output_base(prefix: str | Path) -> Path:
    """The prefix as a path, whose name the endings of the output files are put behind.

    Raises
    ------
    Sorry
        It names no file, or its folder is missing or cannot be written.
    """
    base = Path(prefix)
    if base.name in ("", "..") or str(prefix).endswith("/"):
        raise Sorry(f"the output prefix {str(prefix)!r} names no file: give the start of a file name")
    if not base.parent.is_dir() or not os.access(base.parent, os.W_OK):
        raise Sorry(f"cannot write to the folder {base.parent}: choose another output prefix, in a folder that exists")
    return base


def write_whole(contents: Mapping[Path, bytes]) -> None:
    """Write all files under names of their own, then rename them."""
    with shielded():
        _write_whole(contents)


def _write_whole(contents: Mapping[Path, bytes]) -> None:
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in contents}
    try:
        for path, content in contents.items():
            parts[path].write_bytes(content)
        for path, part in parts.items():
            os.replace(part, path)
    except OSError as error:
        raise Sorry(
            f"cannot write {path} ({error.strerror or error}): choose another output prefix, in a folder that exists"
        ) from error
    finally:
        for part in parts.values():
            _remove(part)


def _remove(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError:  # a folder that is none: nothing was written there
        return
