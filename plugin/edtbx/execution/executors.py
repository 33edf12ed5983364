"""Executors of frames: this thread, threads, other processes or other machines.

Frames are independent, and a task holds all that one of them needs, so that any ``concurrent.futures.Executor`` will do.
Threads do for one machine, as solvers release the interpreter's lock; a task that goes to another process is some
megabytes at most, and so is what comes back.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from numbers import Integral
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from edtbx.version import __version__

_Result = TypeVar("_Result")


class FrameThreads(ThreadPoolExecutor):
    """A thread pool that copies, pickles and forked processes start anew.

    A fork copies the object but not its threads: without new ones, a task would wait for ever.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._process = os.getpid()

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:
        """As in the base class; in a forked process the threads are started first."""
        if self._process != os.getpid():
            FrameThreads.__init__(self, self._max_workers)
        return super().submit(fn, *args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return FrameThreads, (self._max_workers,)


def frame_threads(number: int | None = None) -> FrameThreads:
    """Thread pool for frames, of as many threads as there are cores unless a number is given.

    More than cores would fight for the interpreter's lock and for the cache.
    """
    available = getattr(os, "sched_getaffinity", None)
    return FrameThreads(number or (len(available(0)) if available else os.cpu_count() or 1))


def frame_executor(executor: Executor | None = None, nproc: int | None = None) -> Executor:
    """The executor given, or ``nproc`` threads (see :func:`frame_threads`).

    Raises
    ------
    TypeError, ValueError
        Both are given, ``nproc`` is no whole number from 1 on, or ``executor`` is no executor.
    """
    if nproc is not None and (isinstance(nproc, bool) or not isinstance(nproc, Integral)):
        raise TypeError(f"nproc must be a whole number of threads, or None for all cores, got {nproc!r}")
    if nproc is not None and nproc < 1:
        raise ValueError(f"nproc must be at least 1, got {nproc}")
    if executor is None:
        return frame_threads(None if nproc is None else int(nproc))
    if not isinstance(executor, Executor):
        raise TypeError(
            f"executor must be a concurrent.futures.Executor, got {type(executor).__name__}: "
            "of a Dask client, give client.get_executor(pure=False)"
        )
    if nproc is not None:
        raise ValueError(
            f"nproc = {nproc} counts threads, and an executor is given in their place: leave out one of them"
        )
    return executor


def portable(executor: Executor | None) -> Executor | None:
    """Executor for a copy or a pickle: new threads in place of an executor that belongs to somebody else."""
    return executor if executor is None or isinstance(executor, FrameThreads) else frame_threads()


def results(
    executor: Executor | None, function: Callable[..., _Result], *arguments: Sequence[Any]
) -> Iterator[_Result]:
    """Results of a function, as ``map`` gives them; BLAS takes one thread a call, as frames run in parallel.

    Raises
    ------
    ImportError
        A worker in another process has another version of edtbx.
    """
    if executor is None or isinstance(executor, ThreadPoolExecutor):
        with threadpool_limits(1, user_api="blas"):
            yield from map(function, *arguments) if executor is None else executor.map(function, *arguments)
    else:
        yield from executor.map(partial(_alone, __version__, function), *arguments)


def _alone(version: str, function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Result of a call in another process, after a check of its version of edtbx, with one thread for its BLAS."""
    if version != __version__:
        raise ImportError(f"edtbx {version} is asked for, and {platform.node()} has {__version__}")
    with threadpool_limits(1, user_api="blas"):
        return function(*arguments)
