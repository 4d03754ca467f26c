"""A worker process: ``python -P -m rigwise.execute.worker CONNECTION LIFELINE``.

It answers one request at a time over the connection. The lifeline is a pipe whose other end only the parent
holds: when it closes, the parent is gone, and the worker ends with everything that it started.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from rigwise.errors import InvalidInputError
from rigwise.execute.calls import Convention, answer, fault, items_of, prepared

#: Replies to a request for items or for the next of a source.
DONE, FAILED, ENDED = "done", "failed", "ended"


def main() -> None:
    """Answer until the parent closes the connection."""
    connection, lifeline = Connection(int(sys.argv[1])), int(sys.argv[2])
    threading.Thread(target=_die_with_parent, args=(lifeline,), daemon=True).start()
    sys.stdout.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]  # whole lines, as others print too
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        sys.path[:] = pickle.loads(connection.recv_bytes())
        how, source, call = pickle.loads(connection.recv_bytes())
        try:
            ready = items_of(_loaded(call)) if source else prepared(_loaded(call))
        except (Exception, SystemExit) as error:
            connection.send_bytes(pickle.dumps((FAILED, fault(error), isinstance(error, InvalidInputError))))
            return
        connection.send_bytes(pickle.dumps((DONE, None, 0)))
        _serve(connection, how, ready)


def _die_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)


def _loaded(call: str | bytes) -> Callable[..., Any] | str:
    if isinstance(call, str):
        return call
    function: Callable[..., Any] = pickle.loads(call)
    return function


def _serve(connection: Connection, how: Convention, ready: Any) -> None:
    while True:
        request = connection.recv_bytes()
        reply = _next(ready) if not request else _answers(ready, how, request)
        try:
            content = pickle.dumps(reply, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            text = f" gave something that a process cannot send back{fault(error)}"
            content = pickle.dumps((FAILED, text, 0))
        connection.send_bytes(content)


def _next(items: Iterator[Any]) -> tuple[Any, ...]:
    """The next item of a source with its times, or that there is none."""
    begin, cpu = time.perf_counter(), time.process_time()
    try:
        item = next(items)
    except StopIteration:
        return (ENDED, None, 0)
    except (Exception, SystemExit) as error:
        return (FAILED, f" failed{fault(error)}", 0)
    return (DONE, [(item, time.perf_counter() - begin)], time.process_time() - cpu)


def _answers(function: Callable[..., Any], how: Convention, request: bytes) -> tuple[Any, ...]:
    """What comes out of each call of a request with the call's time, and the CPU time of all."""
    results: list[tuple[Any, float]] = []
    cpu = time.process_time()
    for items in pickle.loads(request):
        begin = time.perf_counter()
        try:
            out = answer(function, how, items)
        except (Exception, SystemExit) as error:
            return (FAILED, f" failed{fault(error)}", len(results))
        results.append((out, time.perf_counter() - begin))
    return (DONE, results, time.process_time() - cpu)


if __name__ == "__main__":
    main()
