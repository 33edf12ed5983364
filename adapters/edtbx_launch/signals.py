"""SIGINT and SIGTERM as exceptions that name themselves; nothing here takes time to load."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal that asks a program to stop; its text is the name of the signal."""

    def __init__(self, number: int, while_writing: bool = False) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.while_writing = while_writing


def exit_status(stop: KeyboardInterrupt) -> int:
    """128 and the number of the signal, as a shell reports it."""
    return 128 + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT)


def leave_on_signals() -> None:
    """Leave at once on a signal, as nothing is done yet: an exception in the midst of an import may become another one."""
    _handle(_leave)


def catch_signals() -> list[int]:
    """Raise `Interrupted` in the main thread on each signal from now on; the list that they are put down in.

    A line on stderr answers at once. Signals that the caller has set to be ignored (``nohup``) stay ignored.
    """
    caught: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        _tell(number, "leaving at once" if caught else "stopping, what is done is kept; once more leaves at once")
        caught.append(number)
        raise Interrupted(number)

    _handle(stop)
    return caught


def ignore_signals() -> None:
    """Signals have no effect any more: what is left takes a moment, and Python would let them kill it."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """The same within: argparse turns an exception in its midst into another one, too."""
    with _handled(_leave):
        yield


@contextmanager
def shielded() -> Iterator[None]:
    """No interruption within: a signal takes effect at the end."""
    waiting: list[int] = []
    with _handled(lambda number, frame: waiting.append(number)):
        yield
    if waiting:
        signal.raise_signal(waiting[0])


@contextmanager
def finishing() -> Iterator[None]:
    """What comes when all is computed, and takes seconds: a signal ends the program after it, a second one at once."""
    came: list[int] = []

    def answer(number: int, frame: FrameType | None) -> None:
        _tell(number, "leaving at once" if came else "all is computed and being written; once more leaves at once")
        came.append(number)
        if len(came) > 1:
            raise Interrupted(number, while_writing=True)

    with _handled(answer):
        yield
    if came:
        raise SystemExit(128 + came[0])


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Another handler of signals within; none for those that are ignored, and in other threads than the main one."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _SIGNALS}
    replaced = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in replaced:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in replaced.items():
            signal.signal(number, old)


def _leave(number: int, frame: FrameType | None) -> None:
    _tell(number, "stopping before anything was done")
    os._exit(128 + number)


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _tell(number: int, said: str) -> None:
    with suppress(OSError):  # standard error may be closed
        os.write(2, f"{signal.Signals(number).name}: {said}\n".encode())
