"""What Nsight Systems exported: ``nsys export --type sqlite``.

Tables are made as they are needed and columns come and go with versions, so that each is looked for first.

Source: NVIDIA, "Nsight Systems: SQLite Export Schema Reference" (2021.5), tables CUPTI_ACTIVITY_KIND_*, NVTX_EVENTS,
StringIds and TARGET_INFO_GPU, and its note on serialized identifiers of processes and threads; PyTorch,
``torch.autograd.profiler.emit_nvtx``, for the names of ranges.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rigwise.errors import InvalidInputError
from rigwise.measurement.profile.chrome import MOST_SPANS
from rigwise.measurement.profile.spans import Shapes, Span, Trace, What

_KERNELS, _COPIES, _FILLS = (f"CUPTI_ACTIVITY_KIND_{name}" for name in ("KERNEL", "MEMCPY", "MEMSET"))
_CALLS, _RANGES = "CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS"
#: Source: CUPTI, CUpti_ActivityMemcpyKind and CUpti_ActivityMemoryKind.
_COPY_KINDS = {1: "HtoD", 2: "DtoH", 8: "DtoD", 9: "HtoH", 10: "PtoP"}
_MEMORY = {1: "Pageable", 2: "Pinned", 3: "Device", 4: "Array", 5: "Managed"}
#: Steps of SQLite's machine; reading two million rows takes some tens of millions.
_MOST_STEPS, _EVERY = 2_000_000_000, 1_000_000
_NAMES, _LONGEST_NAME, _LONGEST_VALUE = 1_000_000, 400, 2**20
_SIZES = re.compile(r"sizes = (\[.*\])")


def read_nsight(path: Path) -> Trace:
    """The spans of an export.

    Raises:
        InvalidInputError: No such file, or no kernel and no range in it.
    """
    connection = None
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        return _Export(connection, path).trace()
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} cannot be read as an export of Nsight Systems: {error}") from None
    finally:
        if connection is not None:
            connection.close()


class _Export:
    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path
        self.notes: list[str] = []
        self.left = MOST_SPANS
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        steps = iter(range(_MOST_STEPS // _EVERY))
        connection.set_progress_handler(lambda: next(steps, None) is None, _EVERY)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA query_only = ON")
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' LIMIT 10000")
        self.tables = {str(name) for (name,) in tables}

    def trace(self) -> Trace:
        """All spans.

        Raises:
            InvalidInputError: None of the tables is there, or all are empty.
        """
        if not self.tables & {_KERNELS, _RANGES, _CALLS}:
            raise InvalidInputError(
                f"{self.path} is a SQLite file, but no export of Nsight Systems: it has no table {_KERNELS}",
                hint="nsys export --type sqlite REPORT.nsys-rep, of a run under nsys profile --trace cuda,nvtx",
            )
        names = self._names()
        spans = [*self._kernels(names), *self._copies(), *self._fills()]
        host = [*self._calls(names), *self._ranges(names)]
        negative = sum(span.time_s < 0 for span in (*spans, *host))
        if negative:
            self.notes.append(f"{negative:,} rows that end before they begin were left out")
        if self.left <= 0:
            self.notes.append(f"only the first {MOST_SPANS:,} spans were read")
        spans, host = ([one for one in some if one.time_s >= 0] for some in (spans, host))
        if not spans and not host:
            raise InvalidInputError(f"{self.path} holds no kernel and no range", hint="nsys profile --trace cuda,nvtx")
        if not spans:
            self.notes.append("no kernel of a GPU was recorded")
        zero_s = min(one.start_s for one in (*spans, *host))
        return Trace(
            source="nsight",
            host=_ordered(host, zero_s),
            on_device=_ordered(spans, zero_s),
            devices=self._devices(),
            events=len(spans) + len(host),
            notes=tuple(self.notes),
        )

    def _rows(self, table: str, needed: tuple[str, ...], more: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
        """Rows of a table as far as it has the columns; none where it lacks one that is needed."""
        if table not in self.tables or self.left <= 0:
            return
        there = {str(row[1]) for row in self.connection.execute(f'PRAGMA table_info("{table}")')}
        if not set(needed) <= there:
            missing = ", ".join(sorted(set(needed) - there))
            self.notes.append(f"table {table} was left out: it has no column {missing}")
            return
        columns = [name for name in (*needed, *more) if name in there]
        listed = ", ".join(f'"{name}"' for name in columns)
        for row in self.connection.execute(f'SELECT {listed} FROM "{table}" LIMIT {self.left}'):
            self.left -= 1
            yield dict(zip(columns, row, strict=True))

    def _names(self) -> dict[int, str]:
        if "StringIds" not in self.tables:
            return {}
        rows = self.connection.execute(f'SELECT "id", "value" FROM "StringIds" LIMIT {_NAMES}')
        return {key: str(value)[:_LONGEST_NAME] for key, value in rows if isinstance(key, int)}

    def _kernels(self, names: Mapping[int, str]) -> Iterator[Span]:
        more = ("demangledName", "shortName", "mangledName", "deviceId", "streamId", "correlationId", "globalPid")
        for row in self._rows(_KERNELS, ("start", "end"), more):
            found = (names.get(_int(row.get(key))) for key in ("demangledName", "shortName", "mangledName"))
            yield _device_span(What.KERNEL, next((name for name in found if name), "kernel"), row)

    def _copies(self) -> Iterator[Span]:
        more = ("copyKind", "srcKind", "dstKind", "bytes", "deviceId", "streamId", "correlationId", "globalPid")
        for row in self._rows(_COPIES, ("start", "end"), more):
            kind = _COPY_KINDS.get(_int(row.get("copyKind")), "other")
            ends = [_MEMORY.get(_int(row.get(key)), "?") for key in ("srcKind", "dstKind")]
            yield _device_span(What.COPY, f"Memcpy {kind} ({ends[0]} -> {ends[1]})", row)

    def _fills(self) -> Iterator[Span]:
        for row in self._rows(_FILLS, ("start", "end"), ("deviceId", "streamId", "correlationId", "globalPid")):
            yield _device_span(What.FILL, "Memset", row)

    def _calls(self, names: Mapping[int, str]) -> Iterator[Span]:
        for row in self._rows(_CALLS, ("start", "end"), ("nameId", "globalTid", "correlationId")):
            name = names.get(_int(row.get("nameId")), "call").partition("_v")[0]
            start_s, time_s = _times(row)
            yield Span(What.CALL, name, start_s, time_s, _thread(row), -1, _link(row, row.get("globalTid")))

    def _ranges(self, names: Mapping[int, str]) -> Iterator[Span]:
        for row in self._rows(_RANGES, ("start",), ("end", "text", "textId", "globalTid")):
            if row.get("end") is None:
                continue
            text = row.get("text") or names.get(_int(row.get("textId"))) or ""
            start_s, time_s = _times(row)
            what, name, shapes = _range(str(text)[:4000])
            yield Span(what, name, start_s, time_s, _thread(row), -1, 0, 0, shapes)

    def _devices(self) -> dict[int, str]:
        return {
            _int(row["id"]): str(row["name"])[:80]
            for row in self._rows("TARGET_INFO_GPU", ("id", "name"))
            if row["name"]
        }


def _ordered(spans: list[Span], zero_s: float) -> tuple[Span, ...]:
    from dataclasses import replace

    moved = (replace(span, start_s=span.start_s - zero_s) for span in spans)
    return tuple(sorted(moved, key=lambda span: (span.start_s, -span.time_s)))


def _device_span(what: What, name: str, row: Mapping[str, Any]) -> Span:
    device = max(0, _int(row.get("deviceId")))
    start_s, time_s = _times(row)
    lane = f"{device}/{_int(row.get('streamId'))}"
    copied = float(max(0, _int(row.get("bytes"))))
    return Span(what, name, start_s, time_s, lane, device, _link(row, row.get("globalPid")), 0, (), copied)


def _link(row: Mapping[str, Any], process: Any) -> int:
    """Numbers of calls are unique within a process; the process stands in bits 24 to 47 of both kinds of number."""
    number = _int(row.get("correlationId"))
    return (_int(process) >> 24 & 0xFFFFFF) << 40 | number & 0xFFFFFFFFFF if number else 0


def _thread(row: Mapping[str, Any]) -> str:
    number = _int(row.get("globalTid"))
    return f"{number >> 24 & 0xFFFFFF}/{number & 0xFFFFFF}"


def _times(row: Mapping[str, Any]) -> tuple[float, float]:
    """Start and duration; the difference is taken in nanoseconds, which are whole."""
    start, end = _int(row.get("start")), _int(row.get("end"))
    return start * 1e-9, (end - start) * 1e-9


def _int(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _range(text: str) -> tuple[What, str, Shapes]:
    """What a range stands for: ``emit_nvtx`` names operators ``aten::mm, seq = 5, sizes = [[8, 8], [8, 8]]``."""
    name = text.partition(",")[0].strip()[:_LONGEST_NAME]
    is_op = "::" in name or ", seq = " in text or ", op_id = " in text
    if not is_op:
        return What.MARK, text[:_LONGEST_NAME], ()
    shapes: Shapes = ()
    if found := _SIZES.search(text):
        from rigwise.measurement.profile.chrome import shapes_of

        with contextlib.suppress(ValueError, RecursionError):
            import json

            shapes = shapes_of(json.loads(found.group(1)))
    return What.OP, name, shapes
