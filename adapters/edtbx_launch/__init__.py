"""The programs as the shell starts them: signals are caught before cctbx is loaded, which takes seconds."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from edtbx_launch.signals import catch_signals, exit_status, ignore_signals, leave_on_signals

__all__ = ["compare", "make_maps", "refine", "simulate"]


def compare() -> None:
    """edtbx.compare."""
    _run("compare")


def refine() -> None:
    """edtbx.refine."""
    _run("refine")


def make_maps() -> None:
    """edtbx.map."""
    _run("map")


def simulate() -> None:
    """edtbx.simulate."""
    _run("simulate")


def _run(program: str) -> None:
    leave_on_signals()
    start = _start(program)
    caught = catch_signals()
    status: Any = 0
    try:
        start()
    except KeyboardInterrupt as stop:  # for the second time
        status = exit_status(stop)
    except SystemExit as end:
        status = end.code
    ignore_signals()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # closed, or nobody reads it any more
            stream.flush()
    # frames that are being computed cannot be stopped, and Python would wait for them
    if caught and threading.active_count() > 1:
        os._exit(status if isinstance(status, int) else 1)
    raise SystemExit(status)


def _start(program: str) -> Callable[[], None]:
    """What runs a program; one that only tells of itself loads nothing to compute with."""
    running = importlib.import_module("edtbx_cctbx.programs.running")
    if running.ONLY_TELL.intersection(sys.argv[1:]):
        faces = importlib.import_module("edtbx_cctbx.programs.faces")
        return partial(running.run, getattr(faces, program.capitalize()))
    start: Callable[[], None] = importlib.import_module(f"edtbx_cctbx.programs.{program}").run
    return start
