"""Where frames are computed: in this thread, in threads, in other processes, on other machines.

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

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


class FrameThreads(ThreadPoolExecutor):
    """Threads that a copy, a pickle and a forked process have anew.

    A fork copies the object but not its threads: without new ones, a task would wait for ever.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._process = os.getpid()

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:
        """As that of the base class."""
        if self._process != os.getpid():
            FrameThreads.__init__(self, self._max_workers)
        return super().submit(fn, *args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return FrameThreads, (self._max_workers,)


def frame_threads(number: int | None = None) -> FrameThreads:
    """Threads to work on one frame each; as many as there are cores unless a number is given.

    More than cores would fight for the interpreter's lock and for the cache.
    """
    available = getattr(os, "sched_getaffinity", None)
    return FrameThreads(number or (len(available(0)) if available else os.cpu_count() or 1))


def frame_executor(executor: Executor | None = None, nproc: int | None = None) -> Executor:
    """The executor given, or threads (see `frame_threads`).

    Raises
    ------
    TypeError, ValueError
        Both are given, or one of them is none.
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
    """What stands in for an executor in a copy or a pickle: threads of its own in place of other people's workers."""
    return executor if executor is None or isinstance(executor, FrameThreads) else frame_threads()


def results(
    executor: Executor | None, function: Callable[[_Task], _Result], tasks: Sequence[_Task]
) -> Iterator[_Result]:
    """The function of every task, in their order, BLAS on one thread each: frames are what runs in parallel."""
    if executor is None or isinstance(executor, ThreadPoolExecutor):
        with threadpool_limits(1, user_api="blas"):
            yield from map(function, tasks) if executor is None else executor.map(function, tasks)
    else:
        yield from executor.map(partial(_alone, __version__, function), tasks)


def _alone(version: str, function: Callable[[_Task], _Result], task: _Task) -> _Result:
    """For another process, which has to see to the threads of BLAS itself, and may be none of this version of edtbx."""
    if version != __version__:
        raise ImportError(f"edtbx {version} is asked for, and {platform.node()} has {__version__}")
    with threadpool_limits(1, user_api="blas"):
        return function(task)
