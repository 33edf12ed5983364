"""SIGINT and SIGTERM as exceptions that name themselves; nothing here takes time to load."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal that asks a program to stop; its text is the name of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_status(stop: KeyboardInterrupt) -> int:
    """128 and the number of the signal, as a shell reports it."""
    return 128 + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT)


def catch_signals() -> list[int]:
    """Raise `Interrupted` in the main thread on each signal from now on; the list that they are put down in.

    A line on stderr answers at once. Signals that the caller has set to be ignored (``nohup``) stay ignored.
    """
    caught: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        again = "leaving at once" if caught else "stopping, what is done is kept; once more leaves at once"
        caught.append(number)
        with suppress(OSError):  # standard error may be closed
            os.write(2, f"{signal.Signals(number).name}: {again}\n".encode())
        raise Interrupted(number)

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    return caught


@contextmanager
def shielded() -> Iterator[None]:
    """No interruption within: a signal takes effect at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    handled = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in handled:
        signal.signal(number, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])
