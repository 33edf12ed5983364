"""Standard output and error that never end a program: a pipe that closes, a full disk, letters that a terminal has not."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

BROKEN_PIPE = 141
"""Exit status of a program whose output nobody reads any more: 128 + SIGPIPE, what a shell reports of any such program."""


class LastingStream:
    """A text stream that drops what cannot be written, and remembers why.

    What a program computes is worth more than what it prints: results are written to their files all the same.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what can be written; letters that the encoding lacks become question marks."""
        if self.failure is None:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = getattr(self._stream, "encoding", None) or "ascii"
                return self.write(text.encode(encoding, errors="replace").decode(encoding))
            except (OSError, ValueError) as error:
                self._give_up(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write one after the other."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush what can be flushed."""
        if self.failure is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Send the rest nowhere, what Python flushes at its end included."""
        self.failure = error if isinstance(error, OSError) else OSError(errno.EBADF, "the stream is closed")
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Standard output and error as :class:`LastingStream`; the exit status tells when output was lost.

    Raises
    ------
    SystemExit
        At the end, where all went well but the output: 141 after a broken pipe, 1 with a line on a full disk and the like.
    """
    _open_missing_descriptors()
    before = sys.stdout, sys.stderr
    out, err = (LastingStream(_usable(stream)) for stream in before)
    sys.stdout, sys.stderr = out, err
    well: SystemExit | None = None
    try:
        try:
            yield
        except SystemExit as ended:
            if ended.code not in (None, 0):
                raise
            well = ended
        out.flush()
        err.flush()
        if out.failure is not None:
            raise SystemExit(_status(out.failure, err))
        if well is not None:
            raise well
    finally:
        sys.stdout, sys.stderr = before


def _status(failure: OSError, err: LastingStream) -> int:
    if failure.errno == errno.EPIPE:
        return BROKEN_PIPE
    err.write(
        f"Sorry: cannot write to standard output ({failure.strerror or failure}); results in files are not touched\n"
    )
    err.flush()
    return 1


def _usable(stream: Any) -> Any:
    """The stream, lines written as they come; nowhere for a closed one."""
    if stream is None or getattr(stream, "closed", False):
        return open(os.devnull, "w", encoding="utf-8")
    with suppress(AttributeError, ValueError, OSError):
        stream.reconfigure(errors="replace", line_buffering=True)
    return stream


def _open_missing_descriptors() -> None:
    """Fill 0, 1 and 2 where they are closed: the next file opened would take their place, and the text of C libraries."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
