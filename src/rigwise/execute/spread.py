"""One function of many items, in a pool of processes or on a Ray cluster: the same answers in the same order.

The function and the items are sent to other processes, so the function must stand in a module.
A process that dies takes the answers that it owed with it; the others are kept.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rigwise.errors import InvalidInputError, MissingExtraError, RunError

A = TypeVar("A")
B = TypeVar("B")

PROCESS, RAY = "process", "ray"
_MAX_WORKERS = 1024
#: Ray would knock for ten minutes at an address where no cluster is, and report its use to its makers.
_RAY_SETTINGS = {
    "RAY_NUM_REDIS_GET_RETRIES": "1",
    "RAY_py_gcs_connect_timeout_s": "5",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Where work is done.

    Attributes:
        kind: ``process`` or ``ray``.
        workers: Processes at once, None for one for each processor.
        address: Of a Ray cluster; empty to start one on this machine and end it afterwards.
    """

    kind: str = PROCESS
    workers: int | None = None
    address: str = ""


def engine_of(text: str, workers: int | None = None) -> Engine:
    """An engine as the command line names it.

    Raises:
        InvalidInputError: There is no such engine, or no such number of workers.

    >>> engine_of("ray:10.0.0.1:6379").address
    '10.0.0.1:6379'
    """
    kind, _, address = text.partition(":")
    if kind not in (PROCESS, RAY) or (address and kind != RAY):
        raise InvalidInputError(f"there is no engine {text!r}", hint="use process, ray or ray:ADDRESS")
    if workers is not None and not 1 <= workers <= _MAX_WORKERS:
        raise InvalidInputError(f"{workers} workers", hint=f"use 1 to {_MAX_WORKERS}")
    return Engine(kind=kind, workers=workers, address=address)


def spread(function: Callable[[A], B], items: Sequence[A], engine: Engine) -> Iterator[B | RunError]:
    """The answers in the order of the items; in place of an answer that was lost, the error.

    Raises:
        MissingExtraError: Ray is not installed.
        RunError: The Ray cluster cannot be reached.
    """
    workers = min(len(items), engine.workers or _processors())
    if engine.kind == RAY:
        return _on_ray(function, items, workers, engine.address)
    if workers <= 1:
        return map(function, items)
    return _in_pool(function, items, workers)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_pool(function: Callable[[A], B], items: Sequence[A], workers: int) -> Iterator[B | RunError]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    earlier = set(multiprocessing.active_children())
    # spawned, not forked: the threads of arithmetic libraries do not survive a fork
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_leave_interrupts_to_the_parent
    )
    try:
        with _one_thread_each():
            waiting = [pool.submit(function, item) for item in items]
        for future in waiting:
            try:
                yield future.result()
            except BrokenProcessPool:
                yield RunError("a worker process ended before it answered", hint="was there too little memory?")
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - earlier:
            child.terminate()
        raise


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that are started inside have one thread of arithmetic each, unless the user said otherwise."""
    names = [name for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if name not in os.environ]
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def _ray() -> Any:
    for name, value in _RAY_SETTINGS.items():
        os.environ.setdefault(name, value)  # before the import, which reads them
    try:
        import ray  # type: ignore[import-not-found, unused-ignore]
    except ModuleNotFoundError:
        raise MissingExtraError("ray", "ray") from None
    return ray


def connected_ray(address: str, workers: int) -> Any:
    """The module ``ray``, connected to a cluster; whoever asks shuts it down.

    Args:
        address: Of a cluster; empty to start one on this computer.
        workers: Processors of a cluster that is started here.

    Raises:
        MissingExtraError: Ray is not installed.
        RunError: The Ray cluster cannot be reached.
    """
    ray = _ray()
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    here = {"address": address} if address else {"address": "local", "num_cpus": workers, "include_dashboard": False}
    try:
        with _hushed():
            ray.init(**here, **quiet)
    except Exception as error:  # a node that does not start in time is a bare Exception to Ray
        where = f"at {address} " if address else ""
        raise RunError(
            f"the Ray cluster {where}cannot be reached: {first_line(error)}",
            hint="if it asks for a token, set RAY_AUTH_MODE=token" if address else "",
        ) from None
    return ray


def _on_ray(function: Callable[[A], B], items: Sequence[A], workers: int, address: str) -> Iterator[B | RunError]:
    _ray()  # said at once if it is not installed
    return _asked_of_ray(function, items, workers, address)


def _asked_of_ray(function: Callable[[A], B], items: Sequence[A], workers: int, address: str) -> Iterator[B | RunError]:
    ray = connected_ray(address, workers)
    try:
        remote = ray.remote(function)
        for waiting in [remote.remote(item) for item in items]:
            try:
                yield ray.get(waiting)
            except ray.exceptions.RayError as error:
                yield RunError(f"a Ray worker did not answer: {first_line(error)}", hint="is rigwise installed there?")
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Nothing that is written to stderr inside is seen: Ray's core reports there on every attempt to connect."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def first_line(error: Exception) -> str:
    """What went wrong, without the traceback of another machine."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
