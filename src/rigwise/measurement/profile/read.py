"""A file that some profiler wrote, whichever it was."""

from __future__ import annotations

from pathlib import Path

from rigwise.errors import InvalidInputError
from rigwise.measurement.profile.chrome import read_chrome
from rigwise.measurement.profile.nsight import read_nsight
from rigwise.measurement.profile.perf import read_perf
from rigwise.measurement.profile.source import KNOWN, SQLITE, Progress, Source
from rigwise.measurement.profile.spans import Counters, Trace

_PERF_LIMIT_BYTES = 4 * 2**20
#: What looks like a trace, and how it becomes one.
_OTHERS = {
    ".nsys-rep": "nsys export --type sqlite {path}",
    ".qdrep": "nsys export --type sqlite {path}",
    ".qdstrm": "import it with Nsight Systems, then nsys export --type sqlite",
    ".ncu-rep": "rigwise reads whole steps, not single kernels: profile with torch.profiler or nsys",
    ".data": "perf stat -o FILE counts; perf record's samples are not read",
}


def read_trace(path: Path, progress: Progress = lambda done, total: None) -> Trace | Counters:
    """What a file recorded.

    Args:
        path: The file.
        progress: Called with the bytes of a text that were read, and all.

    Raises:
        InvalidInputError: Missing, empty, too large, or of no kind that is known.
    """
    if path.is_file() and (hint := _OTHERS.get(path.suffix.lower())):
        raise InvalidInputError(f"{path.name} is not read directly", hint=hint.format(path=path.name))
    source = Source(path, progress)
    try:
        if source.head == SQLITE:
            return read_nsight(path)
        if source.head.startswith(b"PK\x03\x04"):
            raise InvalidInputError(f"{path} is a zip archive", hint="unpack it; .json.gz is read as it is")
        if source.is_packed or _begins_json(source.head):
            return _json_or_counters(source)
        return read_perf(source.text(_PERF_LIMIT_BYTES), path)
    finally:
        source.close()


def _begins_json(head: bytes) -> bool:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")


def _json_or_counters(source: Source) -> Trace | Counters:
    """``perf stat -j`` writes JSON too, an object on each line."""
    try:
        return read_chrome(source)
    except InvalidInputError as error:
        if "no list of traceEvents" not in error.message or source.is_packed:
            raise
    again = Source(source.path)
    try:
        found = read_perf(again.text(_PERF_LIMIT_BYTES), source.path)
    except InvalidInputError:
        raise InvalidInputError(
            f"{source.path} is JSON, but no trace: it has no list of traceEvents", hint=KNOWN
        ) from None
    finally:
        again.close()
    return found
