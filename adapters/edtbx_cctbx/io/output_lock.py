"""A file that tells other runs of a program that the files behind a prefix are being written."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from libtbx.utils import Sorry

_HALF_WRITTEN = 1.0
"""Seconds that a lock may be empty: it is filled as soon as it is made."""


@contextmanager
def locked(base: Path, program: str) -> Iterator[None]:
    """Hold ``.NAME.lock`` beside the base; it is removed at the end. That of a process which is gone is taken over.

    Raises
    ------
    Sorry
        Another process holds it, or it cannot be made.
    """
    lock = base.with_name(f".{base.name}.lock")
    owner = {"program": program, "process": os.getpid(), "host": socket.gethostname(), "began": _began(os.getpid())}
    while not _made(lock, json.dumps(owner)):
        _take_over(lock)
    try:
        yield
    finally:
        if _held_by(lock) == owner:
            lock.unlink(missing_ok=True)


def is_running(process: int, began: str = "") -> bool:
    """Whether the process of this number runs on this machine, and is the one that began then, where that is known."""
    if sys.platform == "win32":  # os.kill would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return not began or _began(process) in ("", began)


def _began(process: int) -> str:
    """When a process began, in ticks of the kernel's clock; empty where that is not told."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _made(lock: Path, content: str) -> bool:
    """Whether the lock could be made; False where there is one."""
    try:
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    except OSError as error:
        raise _cannot_write(lock, error) from error
    try:
        os.write(handle, content.encode())
        os.fsync(handle)
    except OSError as error:
        lock.unlink()
        raise _cannot_write(lock, error) from error
    finally:
        os.close(handle)
    return True


def _cannot_write(lock: Path, error: OSError) -> Sorry:
    full = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
    return Sorry(f"cannot write to the folder {lock.parent} ({full}): make room, or choose another output prefix")


def _take_over(lock: Path) -> None:
    """Remove a lock whose process is gone."""
    holder = _held_by(lock)
    ended = time.monotonic() + _HALF_WRITTEN
    while holder == {} and time.monotonic() < ended:
        time.sleep(0.05)
        holder = _held_by(lock)
    if holder is None:  # removed meanwhile
        return
    process, host = holder.get("process"), holder.get("host")
    if (
        not isinstance(process, int)
        or host != socket.gethostname()
        or is_running(process, str(holder.get("began", "")))
    ):
        who = f"{holder.get('program')} (process {process} on {host})" if holder else f"a run that made {lock}"
        raise Sorry(
            f"{who} is writing files of this output prefix: wait for it, or choose another output prefix; "
            f"if it is gone, remove {lock}"
        )
    aside = lock.with_name(f"{lock.name}.{os.getpid()}")
    try:
        os.rename(lock, aside)
    except FileNotFoundError:  # another run was faster
        return
    if _held_by(aside) != holder:  # another run was faster, and this is its lock
        os.rename(aside, lock)
        return
    aside.unlink(missing_ok=True)


def _held_by(lock: Path) -> dict[str, Any] | None:
    """What a lock says; None where there is none, nothing where it says nothing that can be read."""
    try:
        said = json.loads(lock.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
