"""Workers of a Dask cluster in place of threads: the parameter ``cluster`` of the programs (extra ``[dask]``)."""

from __future__ import annotations

import asyncio
import logging
import re
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from itertools import islice
from pkgutil import resolve_name
from typing import Any

from libtbx.utils import Sorry

from edtbx import __version__

_ADDRESS = re.compile(r"((tcp|tls)://)?(\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]]+):[0-9]{1,5}")
_SECONDS = 5.0
"""How long a scheduler may take to answer, and how often a program that waits looks whether it waits in vain."""

_LEAST_TASKS, _TASKS_A_THREAD = 64, 4
"""Most tasks on their way at a time: so many for each thread, and no fewer than this. All frames of a large scan would be
gigabytes in the scheduler."""


class DaskExecutor(Executor):
    """Tasks on the workers of a Dask client.

    Dask gives the task of a worker that dies to another one, computes anew what was lost with it, and uses workers that
    join. ``say`` is told when no worker is left: the tasks wait for the next one.
    """

    def __init__(self, client: Any, say: Callable[[str], object]) -> None:
        self._client = client
        self._say = say

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """One task."""
        return self._client.get_executor(pure=False).submit(function, *args, **kwargs)

    def map(
        self,
        function: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Any]:
        """Results in the order of the tasks; the cluster forgets each once it is fetched, and the rest when nobody asks.

        The function goes there once, and so many tasks at a time that no thread waits for the next.
        """
        self._require_scheduler()
        # a task of its own, unlike scattered data, is computed anew when its worker dies
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it is large, which is why it goes there once
            there = self._client.submit(_same, function, pure=False)
        tasks = zip(*iterables, strict=False)
        most = max(_LEAST_TASKS, _TASKS_A_THREAD * sum(self._client.nthreads().values()))
        futures = deque(self._client.submit(_call, there, task, pure=False) for task in islice(tasks, most))

        def fetched() -> Iterator[Any]:
            try:
                while futures:
                    result = self._fetch(futures[0])
                    futures.popleft()
                    futures.extend(self._client.submit(_call, there, task, pure=False) for task in islice(tasks, 1))
                    yield result
            finally:
                if futures and self._client.status == "running":
                    self._client.cancel(list(futures))

        return fetched()

    def _fetch(self, future: Any) -> Any:
        told = False
        while True:
            try:
                return future.result(timeout=_SECONDS)
            except (TimeoutError, asyncio.TimeoutError):
                if future.done():  # the task's own error
                    raise
            self._require_scheduler()
            if not told and not self._client.nthreads():
                self._say("no worker is left: waiting for one to join")
                told = True

    def _require_scheduler(self) -> None:
        if self._client.status != "running":
            raise CancelledError("the connection to the scheduler is lost")


def _same(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)


@contextmanager
def workers_of(address: str | None, log: Any) -> Iterator[Executor | None]:
    """The workers of the cluster whose scheduler has this address; None where none is asked for.

    Raises
    ------
    Sorry
        Dask is not installed, nobody answers, there are no workers, they have another edtbx or none, or the cluster is lost.
    """
    if address is None:
        yield None
        return
    distributed = _distributed()
    try:
        with _quiet(), _client(distributed, address, log) as client:
            yield DaskExecutor(client, lambda line: print(f"  {line}", file=log, flush=True))
    except distributed.KilledWorker as error:
        raise Sorry(
            f"one frame has ended several workers of {address}, one after another, most often for want of memory: "
            "see what they say, and start them with fewer threads each"
        ) from error
    except (CancelledError, distributed.CancelledError, distributed.comm.CommClosedError) as error:
        raise Sorry(
            f"the scheduler at {address} is gone, and what was being computed with it: start it and the program again"
        ) from error
    except ImportError as error:
        raise Sorry(f"a worker of {address} lacks what is installed here: {error}") from error


def check_address(address: str) -> None:
    """Refuse what cannot be the address of a scheduler.

    Raises
    ------
    Sorry
        It is none.
    """
    if not _ADDRESS.fullmatch(address):
        raise Sorry(f"cluster must be the address of a Dask scheduler, such as tcp://host:8786, got {address}")


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise Sorry('cluster needs Dask, which is not installed here: python -m pip install "edtbx[dask]"') from error
    return distributed


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask's loggers say nothing: what goes wrong is told as an error."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _client(distributed: Any, address: str, log: Any) -> Iterator[Any]:
    """A client whose cluster has been seen to be fit for work."""
    check_address(address)
    try:
        # a client that cannot start hangs at exit: ask first
        asyncio.run(_answer(distributed, address))
    except Exception as error:  # whoever else listens there may answer anything
        raise Sorry(
            f"no Dask scheduler answers at {address} ({error}): start one with `dask scheduler`, which prints its address"
        ) from error
    with warnings.catch_warnings(record=True) as differences:
        warnings.simplefilter("always")
        client = distributed.Client(address, timeout=_SECONDS, set_as_default=False)
    with client:
        _require_workers(client, address, log)
        for difference in differences:
            if difference.category is distributed.versions.VersionMismatchWarning:
                print(f"  {difference.message}", file=log)
        yield client


async def _answer(distributed: Any, address: str) -> None:
    arguments = distributed.Security().get_connection_args("client")
    async with distributed.rpc(address, timeout=_SECONDS, connection_args=arguments) as scheduler:
        await asyncio.wait_for(scheduler.identity(), 2.0 * _SECONDS)


def _require_workers(client: Any, address: str, log: Any) -> None:
    """Workers there are, and edtbx is everywhere the same: the scheduler reads tasks as well."""
    threads = client.nthreads()
    if not threads:
        raise Sorry(f"the cluster {address} has no workers: start some with `dask worker {address}`")
    asked = "edtbx:__version__"  # this loads edtbx there before anything that it needs: see edtbx._import_order
    versions = client.run(resolve_name, asked, on_error="return")
    try:
        versions["the scheduler"] = client.run_on_scheduler(resolve_name, asked)
    except ImportError as error:
        versions["the scheduler"] = error
    for place, version in versions.items():
        if version != __version__:
            elsewhere = f"{version} there" if isinstance(version, str) else f"none there ({version})"
            raise Sorry(
                f"edtbx differs on {place} of the cluster {address}: {__version__} here, {elsewhere}; "
                "install the same in the environments of scheduler and workers"
            )
    print(f"Cluster: {address}, workers {len(threads)}, threads {sum(threads.values())}", file=log)
