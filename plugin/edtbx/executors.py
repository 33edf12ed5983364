"""Where frames are computed: in this thread, in threads, in other processes, on other machines.

Frames are independent, and a task holds all that one of them needs, so that any ``concurrent.futures.Executor`` will do.
Threads do for one machine, as solvers release the interpreter's lock; a task that goes to another process is some
megabytes at most, and so is what comes back.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from threadpoolctl import threadpool_limits

from edtbx import __version__

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def frame_threads(number: int | None = None) -> ThreadPoolExecutor:
    """Threads to work on one frame each; as many as there are cores unless a number is given.

    More than cores would fight for the interpreter's lock and for the cache.
    """
    available = getattr(os, "sched_getaffinity", None)
    return ThreadPoolExecutor(number or (len(available(0)) if available else os.cpu_count()))


def frame_executor(executor: Executor | None = None, nproc: int | None = None) -> Executor:
    """The executor given, or threads (see `frame_threads`).

    Raises
    ------
    ValueError
        Both are given.
    """
    if executor is None:
        return frame_threads(nproc)
    if nproc is not None:
        raise ValueError(
            f"nproc = {nproc} counts threads, and an executor is given in their place: leave out one of them"
        )
    return executor


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
