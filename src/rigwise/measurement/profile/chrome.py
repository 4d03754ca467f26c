"""Traces of the PyTorch profiler and of Chrome, event by event, so that a file of any length takes little memory.

An array that nobody closed is a trace too: a profiler that is killed leaves one.

Source: "Trace Event Format" (Chromium), sections JSON Array Format and JSON Object Format, for the frame; the output
of PyTorch 1.8 to 2.13 (Kineto) for the categories and arguments of events.
"""

from __future__ import annotations

import codecs
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from rigwise.errors import InvalidInputError
from rigwise.measurement.profile.source import Source
from rigwise.measurement.profile.spans import ON_DEVICE, Shapes, Span, Trace, What

#: Spans that are kept; a step of a large model on eight devices has some tens of thousands.
MOST_SPANS = 2_000_000
#: No event, and no other value beside the events, is longer.
_LONGEST = 16 * 2**20
_MOST_DIMS, _MOST_INPUTS, _LONGEST_NAME = 8, 24, 400
#: What of the frame is kept.
_OF_THE_FRAME = frozenset({"schemaVersion", "deviceProperties", "distributedInfo"})
_BLANK = re.compile(r"[ \t\r\n]*")
#: An operator that seems to end later than this after its start did not.
_LONGEST_S = 1e6

#: Categories, as versions of the profiler have spelled them.
_WHAT: Mapping[str, What] = {
    "cpu_op": What.OP,
    "operator": What.OP,
    "user_annotation": What.MARK,
    "cuda_runtime": What.CALL,
    "cuda_driver": What.CALL,
    "runtime": What.CALL,
    "hip_runtime": What.CALL,
    "privateuse1_runtime": What.CALL,
    "xpu_runtime": What.CALL,
    "kernel": What.KERNEL,
    "gpu_memcpy": What.COPY,
    "memcpy": What.COPY,
    "gpu_memset": What.FILL,
    "memset": What.FILL,
}
#: Marks that PyTorch 1 wrote among its operators.
_MARKS = ("ProfilerStep#", "Optimizer.", "enumerate(DataLoader)")
#: Events of these are no spans that say anything here.
_PASSED_OVER = frozenset(
    {"python_function", "gpu_user_annotation", "trace", "overhead", "ac2g", "fwdbwd", "async_cpu_to_gpu"}
)


def read_chrome(source: Source) -> Trace:
    """The spans of a trace.

    Raises:
        InvalidInputError: It is no such trace, or holds no span.
    """
    reader = _Reader(source)
    kept = _Kept()
    for event in reader.events():
        kept.add(event)
        if len(kept.spans) >= MOST_SPANS:
            kept.is_cut = True
            break
    return kept.trace(source, reader)


class _Reader:
    """Values of a JSON text that is read as it is needed."""

    def __init__(self, source: Source) -> None:
        self.top: dict[str, Any] = {}
        self.is_torn = False
        self.events_read = 0
        self._source = source
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._value = json.JSONDecoder(strict=False).raw_decode
        self._text = ""
        self._at = 0
        self._is_over = False

    def events(self) -> Iterator[Any]:
        """The events of the trace; other values of its frame go to ``top``."""
        first = self._next_mark()
        if first == "\ufeff":
            self._at += 1
            first = self._next_mark()
        if first not in ("[", "{"):
            raise self._no_trace()
        self._at += 1
        yield from self._array() if first == "[" else self._frame()

    def _frame(self) -> Iterator[Any]:
        """Events of the frame's list."""
        found = False
        while (key := self._key()) is not None:
            mark = self._next_mark()
            if key == "traceEvents" and mark == "[":
                found = True
                self._at += 1
                yield from self._array()
            else:
                value = self._whole()
                if key in _OF_THE_FRAME:
                    self.top[key] = value
            if self.is_torn:
                break
        if not found:
            raise self._no_trace()

    def _key(self) -> str | None:
        """The next key of the frame, its colon passed; None at the end of the frame, whole or torn."""
        while (mark := self._next_mark()) == ",":
            self._at += 1
        if mark == "}":
            return None
        key = self._whole() if mark == '"' else None
        if not isinstance(key, str) or self._next_mark() != ":":
            self.is_torn = True
            return None
        self._at += 1
        return key

    def _array(self) -> Iterator[Any]:
        while True:
            mark = self._next_mark()
            if mark == ",":
                self._at += 1
            elif mark == "]":
                self._at += 1
                return
            elif mark == "":
                self.is_torn = True
                return
            else:
                event = self._whole()
                if self.is_torn:
                    return
                self.events_read += 1
                yield event

    def _next_mark(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            self._at = blank.end() if blank else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _whole(self) -> Any:
        """The value that begins here; marks the text as torn where it ends before the value does.

        Raises:
            InvalidInputError: It is no JSON, or too long or too deep.
        """
        while True:
            try:
                value, end = self._value(self._text, self._at)
            except RecursionError:
                raise InvalidInputError(f"{self._source.path} is nested too deeply for a trace") from None
            except ValueError:
                left = len(self._text) - self._at
                if left > _LONGEST:
                    raise InvalidInputError(
                        f"{self._source.path} is no trace: event {self.events_read + 1:,} is no JSON"
                    ) from None
                if not self._more():
                    self.is_torn = True
                    return None
                continue
            if end == len(self._text) and self._more():
                continue  # a number may go on
            self._at = end
            return value

    def _more(self) -> bool:
        if self._is_over:
            return False
        chunk = self._source.chunk()
        self._is_over = not chunk
        self._text = self._text[self._at :] + self._decode(chunk, self._is_over)
        self._at = 0
        return bool(chunk)

    def _no_trace(self) -> InvalidInputError:
        return InvalidInputError(
            f"{self._source.path} is JSON, but no trace: it has no list of traceEvents",
            hint="torch.profiler writes one by export_chrome_trace(FILE)",
        )


class _Kept:
    """Spans as they are found, and what was wrong with others."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.is_cut = False
        self._zero_us: float | None = None
        self._open: dict[str, list[tuple[Mapping[str, Any], float]]] = {}
        self._begun = 0
        self._alike: dict[Shapes, Shapes] = {}
        self._odd = 0
        self._negative = 0
        self._is_torch = False

    def add(self, event: Any) -> None:
        """Keep what an event says."""
        if not isinstance(event, dict):
            self._odd += 1
            return
        phase = event.get("ph")
        if phase == "X":
            self._complete(event, _number(event.get("dur")))
        elif phase == "B":
            start = _number(event.get("ts"))
            if start is not None and self._begun < MOST_SPANS:
                self._begun += 1
                self._open.setdefault(_lane(event), []).append((event, start))
        elif phase == "E":
            begun, end = self._open.get(_lane(event)), _number(event.get("ts"))
            if begun and end is not None:
                first, start = begun.pop()
                self._complete(first, end - start)

    def _complete(self, event: Mapping[str, Any], took_us: float | None) -> None:
        category = str(event.get("cat", "")).lower()
        if category in _PASSED_OVER:
            return
        start_us = _number(event.get("ts"))
        if start_us is None or took_us is None or took_us > _LONGEST_S * 1e6:
            self._odd += 1
            return
        if took_us < 0:
            self._negative += 1
            return
        self._is_torch = self._is_torch or category == "cpu_op"
        if self._zero_us is None:
            self._zero_us = start_us
        span = _span(event, category, (start_us - self._zero_us) * 1e-6, took_us * 1e-6)
        same = self._alike.setdefault(span.shapes, span.shapes)  # most sizes come again and again
        self.spans.append(span if same is span.shapes else replace(span, shapes=same))

    def trace(self, source: Source, reader: _Reader) -> Trace:
        """All that was kept."""
        notes = []
        if self.is_cut:
            notes.append(f"only the first {MOST_SPANS:,} spans were read")
        elif reader.is_torn or source.is_torn:
            notes.append(f"the file ends in the middle: {reader.events_read:,} events were whole and were read")
        if self._negative:
            notes.append(f"{self._negative:,} events with a negative duration were left out")
        if self._odd:
            notes.append(f"{self._odd:,} events without a usable time were left out")
        if not self.spans:
            raise InvalidInputError(
                f"{source.path} holds no span of time" + (f" ({notes[0]})" if notes else ""),
                hint="a schedule that starts again when it has ended throws away what it recorded: give it repeat=1",
            )
        first_s = min(span.start_s for span in self.spans)
        host, device = _sorted(self.spans, first_s)
        return Trace(
            source="torch" if self._is_torch or "schemaVersion" in reader.top else "chrome",
            host=host,
            on_device=device,
            devices=_devices(reader.top.get("deviceProperties")),
            ranks=_ranks(reader.top.get("distributedInfo")),
            events=reader.events_read,
            notes=tuple(notes),
        )


def _sorted(spans: list[Span], first_s: float) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    if first_s < 0:
        spans = [replace(span, start_s=span.start_s - first_s) for span in spans]
    key: Callable[[Span], tuple[float, float]] = lambda span: (span.start_s, -span.time_s)  # noqa: E731
    host = sorted((span for span in spans if span.what not in ON_DEVICE), key=key)
    return tuple(host), tuple(sorted((span for span in spans if span.what in ON_DEVICE), key=key))


def _span(event: Mapping[str, Any], category: str, start_s: float, time_s: float) -> Span:
    """A category that nobody knows is an operator of somebody's framework."""
    given = event.get("args")
    args: Mapping[str, Any] = given if isinstance(given, dict) else {}
    name = sys.intern(str(event.get("name", ""))[:_LONGEST_NAME])
    what = _WHAT.get(category, What.OP)
    what = What.MARK if what is What.OP and name.startswith(_MARKS) else what
    if what in ON_DEVICE:
        device, stream = _whole(args.get("device", event.get("pid"))), _whole(args.get("stream", event.get("tid")))
        return Span(
            what,
            name,
            start_s,
            time_s,
            f"{device}/{stream}",
            max(0, device),
            _whole(args.get("correlation")),
            _outer(args),
            (),
            max(0.0, _number(args.get("bytes", args.get("Bytes"))) or 0.0),
        )
    link = _whole(args.get("correlation")) if what is What.CALL else 0
    shapes = shapes_of(args.get("Input Dims", args.get("Input dims"))) if what is What.OP else ()
    return Span(what, name, start_s, time_s, sys.intern(_lane(event)), -1, link, _outer(args), shapes)


def _outer(args: Mapping[str, Any]) -> int:
    return _whole(args.get("External id", args.get("external id")))


def _lane(event: Mapping[str, Any]) -> str:
    return f"{str(event.get('pid', ''))[:40]}/{str(event.get('tid', ''))[:40]}"


def _number(value: Any) -> float | None:
    """A finite number; some writers put numbers into quotes."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(value: Any) -> int:
    number = _number(value)
    return int(number) if number is not None and abs(number) < 2**63 else 0


def shapes_of(value: Any) -> Shapes:
    """Sizes of all tensors among the inputs, lists of tensors laid out."""
    if not isinstance(value, list):
        return ()
    found: list[tuple[int, ...]] = []
    for one in value[:_MOST_INPUTS]:
        if not isinstance(one, list) or not one:
            continue
        inner = one if isinstance(one[0], list) else [one]
        found.extend(
            tuple(size for size in dims[:_MOST_DIMS] if isinstance(size, int))
            for dims in inner[:_MOST_INPUTS]
            if isinstance(dims, list) and dims
        )
    return tuple(found)


def _devices(value: Any) -> dict[int, str]:
    found = {}
    for one in value[:64] if isinstance(value, list) else ():
        if isinstance(one, dict) and isinstance(one.get("name"), str):
            found[_whole(one.get("id"))] = one["name"][:80]
    return found


def _ranks(value: Any) -> tuple[int, int] | None:
    if not isinstance(value, dict):
        return None
    rank, world = _whole(value.get("rank")), _whole(value.get("world_size"))
    return (rank, world) if world > 1 and 0 <= rank < world else None
