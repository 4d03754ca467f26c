"""The suite on one node of a fleet: a request in, lines of JSON out.

The request is one line on stdin, which stays open as long as somebody waits, or a file that the first argument names.
Lines: ``hello`` with the machine, ``start`` of a benchmark, ``record`` of a figure, ``skipped``, ``alive`` while
nothing else is said, and at the end ``done``, or ``fault`` where nothing can be measured. Samples stay here: a
record holds their median, quantiles and number.
"""

from __future__ import annotations

import _thread
import dataclasses
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from rigwise import __version__
from rigwise.bench import keep
from rigwise.bench.suite import Report, Request, run_suite
from rigwise.edge import parse, parse_json
from rigwise.errors import RigwiseError
from rigwise.machine.inspect import inspect
from rigwise.machine.snapshot import snapshot_text

#: Version of what node and coordinator say to each other.
PROTOCOL = 1
#: A node that has nothing to say says so this often.
ALIVE_EVERY_S = 15.0
_REQUEST_BYTES = 2**20
_INTERRUPTED = 130


class Speaker:
    """Says lines of JSON, one at a time, from whatever thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._said: set[str] = set()

    def say(self, line: Mapping[str, Any]) -> None:
        """One line; where nobody reads any more, this process is interrupted."""
        with self._lock:
            try:
                self._stream.write(json.dumps(line, allow_nan=False) + "\n")
                self._stream.flush()
            except (BrokenPipeError, OSError):
                _interrupt()

    def figures(self, report: Report, snapshot: str) -> None:
        """What was measured and was not said yet."""
        for record in keep.records(report, snapshot):
            if record.name not in self._said:
                self._said.add(record.name)
                said = dataclasses.asdict(record)
                for known in ("machine_id", "snapshot", "software"):  # said once for all
                    del said[known]
                self.say({"record": said})
        for figure in report.figures:
            if figure.value is None and figure.raw.name not in self._said:
                self._said.add(figure.raw.name)
                self.say({"skipped": figure.raw.name, "why": figure.raw.skipped})


def main() -> None:
    """Read the request, measure, say what is found; whatever libraries print goes to stderr."""
    speaker = Speaker(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if len(sys.argv) > 1:
        with Path(sys.argv[1]).open("rb") as stream:
            asked = stream.read(_REQUEST_BYTES)
    else:
        asked = sys.stdin.buffer.readline(_REQUEST_BYTES)
        threading.Thread(target=_end_with_asker, daemon=True).start()
    try:
        _answer(speaker, parse(parse_json(asked, "the request"), Request, "the request"))
    except RigwiseError as error:
        speaker.say({"fault": str(error)})
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _answer(speaker: Speaker, request: Request) -> None:
    snapshot = snapshot_text(inspect())
    speaker.say({"hello": PROTOCOL, "rigwise": __version__, "snapshot": snapshot})
    stop = threading.Event()
    threading.Thread(target=_stay_alive, args=(speaker, stop), daemon=True).start()
    report = run_suite(
        dataclasses.replace(request, folder=request.folder or tempfile.gettempdir()),
        lambda name, done, total: speaker.say({"start": name, "ended": done, "of": total}),
        lambda report: speaker.figures(report, snapshot),
    )
    speaker.figures(report, snapshot)
    stop.set()
    if report.interrupted:  # whoever interrupted it knows why
        sys.exit(_INTERRUPTED)
    speaker.say({"done": True, "software": dict(report.software)})


def _stay_alive(speaker: Speaker, stop: threading.Event) -> None:
    while not stop.wait(ALIVE_EVERY_S):
        speaker.say({"alive": True})


def _end_with_asker() -> None:
    while os.read(0, 65536):  # as the child of a benchmark does
        pass
    _interrupt()


def _interrupt() -> None:
    """As Ctrl-C would: what was started is ended, the folder of the test removed."""
    if hasattr(signal, "pthread_kill"):  # which wakes a thread that waits
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


if __name__ == "__main__":
    main()
