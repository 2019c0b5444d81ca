"""Who makes the tiles of a store: the caller, threads, processes, or a Dask cluster.

A tile is made and written by one worker from beginning to end; only its name and a short report
come back. What is done is in the journal of the store, so that any of them may die at any time.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from typing import Any, TypeVar

import dask
import xarray as xr

from deepfeatures import store
from deepfeatures.tiles import Tile

Result = TypeVar("Result")

Make = Callable[[Tile], tuple[xr.Dataset, str | Callable[[], str]]]
"""Makes a tile in memory, with a short report, or a function that gives it when all is written;
must be picklable for processes and clusters."""

CONNECT = 10.0
"""Seconds to wait for a Dask scheduler."""
AHEAD = 2
"""Tiles that wait for each worker: more would only wait longer when a run is cancelled."""


@contextmanager
def workers(
    count: int | None = None, *, processes: bool = False, scheduler: str | None = None
) -> Iterator[Executor | None]:
    """Give an executor, and end it when done.

    Parameters
    ----------
    count
        Workers; by default one per core, four at most. One is the caller itself.
    processes
        Processes instead of threads.
    scheduler
        Address of a Dask scheduler, ``tcp://host:port``; its workers need this package and access
        to the catalogue and the store.

    Raises
    ------
    ConnectionError
        If there is no scheduler at the address.
    ValueError
        If `count` is below one.
    """
    if scheduler is not None:
        yield from _cluster(scheduler)
        return
    count = min(os.cpu_count() or 1, 4) if count is None else count
    if count < 1:
        raise ValueError(f"{count} workers can do nothing; give one or more")
    if count == 1 and not processes:
        yield None
        return
    # forked processes would share the locks of threads that they do not have
    context = multiprocessing.get_context("spawn")
    pool: Executor = (
        ProcessPoolExecutor(count, mp_context=context) if processes else ThreadPoolExecutor(count)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _cluster(scheduler: str) -> Iterator[Executor]:
    import distributed  # only those who have a cluster need it

    try:
        client = distributed.Client(scheduler, timeout=CONNECT, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConnectionError(
            f"there is no Dask scheduler at {scheduler} ({str(error).splitlines()[0][:100]}); "
            "start one with `dask scheduler`, or leave --scheduler out"
        ) from None
    with client:
        # a tile is never made twice, so its result need not be known by its inputs
        yield client.get_executor(pure=False)


def each(
    function: Callable[..., Result], calls: Sequence[tuple[Any, ...]], executor: Executor | None
) -> Iterator[Result]:
    """Give what a function makes of each tuple of arguments, in their order.

    Parameters
    ----------
    function, calls
        What is called, and with what; both picklable for processes and clusters.
    executor
        Who calls; None for the caller, one after the other.
    """
    if executor is None or not calls:
        return itertools.starmap(function, calls)
    return executor.map(function, *zip(*calls, strict=True))


def fill(
    writer: store.Writer,
    make: Make,
    *,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Make and write all tiles of a store that are not there yet.

    Parameters
    ----------
    writer
        The store.
    make
        Makes one tile.
    executor
        Who works; None for the caller.
    progress
        Called with tiles done and tiles in all.
    cancelled
        Asked between tiles.

    Raises
    ------
    InterruptedError
        If `cancelled` said so; what is written stays.
    """
    pending = writer.pending()
    total = len(writer.tiles)
    done = total - len(pending)
    for _ in _made(writer, make, pending, executor):
        done += 1
        if progress is not None:
            progress(done, total)
        if cancelled is not None and cancelled():
            raise InterruptedError("cancelled")


def _made(
    writer: store.Writer, make: Make, pending: list[Tile], executor: Executor | None
) -> Iterator[str]:
    """Give the name of each tile when it is written."""
    if executor is None:
        for tile in pending:
            yield one(writer, make, tile)
        return
    limit = AHEAD * getattr(executor, "_max_workers", 32)
    waiting: set[Future[str]] = set()
    queue = iter(pending)
    try:
        while True:
            for tile in queue:
                waiting.add(executor.submit(_alone, writer, make, tile))
                if len(waiting) >= limit:
                    break
            if not waiting:
                return
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    finally:
        for future in waiting:
            future.cancel()
        wait(waiting)


def _alone(writer: store.Writer, make: Make, tile: Tile) -> str:
    """Make and write one tile beside others: what is lazy is computed by this worker."""
    with dask.config.set(scheduler="synchronous"):
        return one(writer, make, tile)


def one(writer: store.Writer, make: Make, tile: Tile) -> str:
    """Make and write one tile; runs in the worker."""
    block, report = make(tile)
    writer.write(tile, block, report)
    return tile.name
