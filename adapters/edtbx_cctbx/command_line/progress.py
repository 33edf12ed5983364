"""How far a program has come: bars on a terminal, lines in a log."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from edtbx.execution.progress import Reporter
from edtbx.intensities.compilation import ROWS, SECONDS, is_compiled

EVERY = 30.0
"""Seconds after which a stage gets another line in a log."""

_TICK = 0.5
"""Seconds between looks at the clock while a stage has nothing to tell."""


class ProgramReporter(Reporter):
    """What the stages of a program tell while they work; to be used in a ``with`` block.

    Parameters
    ----------
    log
        The program's log: gets what is said, and the lines where ``lines`` is true.
    bars
        A terminal for bars, or None for none.
    lines
        Whether stages get lines on the log: one for each label, and another every :data:`EVERY` seconds.
    clock
        Tells seconds.
    """

    def __init__(
        self,
        log: Any,
        *,
        bars: Any = None,
        lines: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._bars = bars
        self._lines = lines
        self._clock = clock
        self._lock = threading.RLock()
        self._named: set[str] = set()
        self._stages: list[_Stage] = []
        self._before = "reading"
        self._last = clock()
        self._ended = threading.Event()

    @classmethod
    def of(cls, log: Any) -> ProgramReporter:
        """Bars where standard error is a terminal, lines where a log goes elsewhere; neither with ``--quiet``.

        cctbx takes standard output out of the log of a quiet program.
        """
        quiet = sys.stdout not in getattr(log, "file_objects", [sys.stdout])
        bars = sys.stderr if sys.stderr.isatty() and not quiet else None
        return cls(log, bars=bars, lines=bars is None or not sys.stdout.isatty())

    def __enter__(self) -> ProgramReporter:
        self._ended.clear()
        threading.Thread(target=self._watch, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def say(self, line: str) -> None:
        """A line of results on the log, bars or not."""
        self._write(f"  {line}")

    def announce_compilation(self, rows: bool = False) -> None:
        """Say that the kernels will be compiled, if they will be; with ``rows`` those of derivatives as well."""
        if not (is_compiled() and (not rows or is_compiled(ROWS))):
            self.say(f"compiling kernels, once after installation: takes about {SECONDS} s in all")

    def progress(self, label: str) -> Callable[[Iterable[Any], int], Iterable[Any]]:
        """Wraps an iterable of known length (frames, unless it has one item only), shown under the label."""

        def wrap(items: Iterable[Any], total: int) -> Iterator[Any]:
            with self._open(label, total) as stage:
                for item in items:
                    stage.advance()
                    yield item

        return wrap

    @contextmanager
    def stage(self, label: str) -> Iterator[None]:
        """A stage that cannot tell how far it has come."""
        with self._open(label, 1):
            yield

    def tick(self) -> None:
        """A line if the last one is long ago, and the bar up to date."""
        with self._lock:
            now = self._clock()
            stage = self._stages[-1] if self._stages else None
            if stage is not None:
                stage.refresh()
            if self._lines and now - self._last >= EVERY:
                self._write(
                    f"  {stage.described(now) if stage else f'{self._before} is done; at work on what follows'}"
                )

    @contextmanager
    def _open(self, label: str, total: int) -> Iterator[_Stage]:
        with self._lock:
            stage = _Stage(label, total, self._clock(), self._bars, self.tick)
            self._stages.append(stage)
            if self._lines and label not in self._named:
                self._named.add(label)
                self._write(f"  {label}{f': {total} frames' if total > 1 else ''}")
        try:
            yield stage
        finally:
            with self._lock:
                self._stages.remove(stage)
                self._before = label
                stage.close()

    def _write(self, line: str) -> None:
        with self._lock:
            if self._bars is not None:
                with tqdm.external_write_mode(file=self._bars):
                    print(line, file=self._log, flush=True)
            else:
                print(line, file=self._log, flush=True)
            self._last = self._clock()

    def _watch(self) -> None:
        while not self._ended.wait(_TICK):
            self.tick()


class _Stage:
    """A stage at work: its bar, and how far it is."""

    def __init__(self, label: str, total: int, began: float, terminal: Any, tick: Callable[[], None]) -> None:
        self.label, self.total, self.began, self.done = label, total, began, 0
        self._tick = tick
        self._bar = None
        if terminal is not None:
            self._bar = tqdm(
                total=total,
                desc=label,
                unit="frame",
                file=terminal,
                leave=False,
                **_size(terminal),
                bar_format=None if total > 1 else "{desc}: {elapsed}",
            )

    def advance(self) -> None:
        """One item is done."""
        self.done += 1
        if self._bar is not None and self.total > 1:
            self._bar.update()
        self._tick()

    def refresh(self) -> None:
        """Show the time that has passed."""
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def described(self, now: float) -> str:
        """``kinematical, fine: 12 of 67 frames, 40 s, about 190 s left``."""
        taken = now - self.began
        if self.total < 2:
            return f"{self.label}: {taken:.0f} s"
        left = (
            f", about {taken / self.done * (self.total - self.done):.0f} s left" if 0 < self.done < self.total else ""
        )
        return f"{self.label}: {self.done} of {self.total} frames, {taken:.0f} s{left}"


def _size(terminal: Any) -> dict[str, int]:
    """A size for a terminal that calls itself 0 wide, as those of some containers do: tqdm would show nothing there."""
    try:
        known = os.get_terminal_size(terminal.fileno()).columns > 0
    except (OSError, ValueError, AttributeError):
        known = True
    return {} if known else {"ncols": 80, "nrows": 24}
