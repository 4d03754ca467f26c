"""What the coordinator of a fleet knows of one node: its lines, checked; its state; how long it may still take."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rigwise.bench.node import PROTOCOL
from rigwise.edge import parse, parse_json
from rigwise.errors import InvalidInputError
from rigwise.measurement.records import Record, checked, digest, machine_id

#: How a node ended.
OK, DIED, HUNG, LATE, GARBLED, FAILED, MISSING, STOPPED = (
    "ok",
    "died",
    "hung",
    "late",
    "garbled",
    "failed",
    "missing",
    "stopped",
)
#: More figures than any suite has.
_MOST_RECORDS = 10_000
_UNSEEN = re.compile(r"[^\x20-\x7e\xa0-\U0010ffff]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long is waited for a node.

    Attributes:
        start_s: From the beginning to its first word.
        silent_s: Between two words; a node that lives says so every quarter of a minute.
        benchmark_s: For one benchmark.
        node_s: From its first word to its last.
    """

    start_s: float = 600.0
    silent_s: float = 60.0
    benchmark_s: float = 900.0
    node_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeResult:
    """One node at the end.

    Attributes:
        name: As the cluster calls it.
        state: ``ok``, ``died``, ``hung``, ``late``, ``garbled``, ``failed``, ``missing`` or ``stopped``.
        why: How it came to that; empty for ``ok``.
        machine_id: Of its records; empty for a node that never spoke.
        snapshot: JSON text of its machine.
        records: Its figures, without snapshot and software.
        skipped: Figures it could not take, and why.
    """

    name: str
    state: str
    why: str = ""
    machine_id: str = ""
    snapshot: str = ""
    records: tuple[Record, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)


class NodeLedger:
    """The account of one node."""

    def __init__(self, name: str, run: str, now_s: float) -> None:
        self.name = name
        self.state = ""
        self.said = ""
        self.is_done = False
        self.messages = 0
        self.message_bytes = 0
        self._run = run
        self._why = ""
        self._begun_s = self._heard_s = self._benchmark_s = now_s
        self._benchmark = ""
        self._machine_id = self._snapshot = self._software = ""
        self._records: list[Record] = []
        self._skipped: dict[str, str] = {}

    def hear(self, line: bytes, now_s: float) -> None:
        """Take one line; one that is not understood makes the node ``garbled``."""
        self.messages += 1
        self.message_bytes += len(line)
        if not self._machine_id:
            self._begun_s = now_s
        self._heard_s = now_s
        self.said = ""
        try:
            self._take(parse_json(line, "a line of a node"), now_s)
        except InvalidInputError:
            self.end(GARBLED, f"it said {shown(line[:60].decode(errors='replace'))!r}")

    def _take(self, said: Any, now_s: float) -> None:
        """One checked line.

        Raises:
            InvalidInputError: It is none that a node says, or not now.
        """
        if not isinstance(said, dict):
            raise InvalidInputError("no JSON object")
        if "fault" in said:
            self.end(FAILED, shown(said["fault"]))
        elif "hello" in said:
            self._greet(said)
        elif not self._machine_id:
            raise InvalidInputError("it did not say hello")
        elif "start" in said:
            self._benchmark, self._benchmark_s = shown(said["start"]), now_s
            self.said = self._benchmark
        elif "record" in said:
            self._keep(said["record"])
        elif "skipped" in said:
            self._skipped[shown(said["skipped"])] = shown(said.get("why", ""))
        elif "done" in said:
            self._software = _versions(said.get("software"))
            self.is_done = True
            self.said = "done"
            self.end(OK, "")
        elif "alive" not in said:
            raise InvalidInputError("no such line")

    def _greet(self, said: dict[str, Any]) -> None:
        if said["hello"] != PROTOCOL:
            self.end(FAILED, f"it has rigwise {shown(said.get('rigwise', 'of another form'))}")
            return
        snapshot = said.get("snapshot")
        if not isinstance(snapshot, str):
            raise InvalidInputError("a greeting without the machine")
        self._machine_id = f"{machine_id(snapshot)}-{digest(self.name)[:6]}"
        self._snapshot = snapshot
        self.said = "started"

    def _keep(self, found: Any) -> None:
        if not isinstance(found, dict) or len(self._records) >= _MOST_RECORDS:
            raise InvalidInputError("no record")
        record = parse({**found, "machine_id": self._machine_id}, Record, f"node {self.name}")
        if record.snapshot or record.software:
            raise InvalidInputError("a record with a machine of its own")
        self._records.append(checked(dataclasses.replace(record, tags={**record.tags, "run": self._run})))

    def end(self, state: str, why: str) -> None:
        """The node is not heard any more."""
        self.state = state
        during = f" during {self._benchmark}" if self._benchmark and state not in (OK, STOPPED) else ""
        self._why = f"{why}{during}"

    def excuse(self, took_s: float) -> None:
        """Nobody listened for so long: that is not the node's fault."""
        self._begun_s += took_s
        self._heard_s += took_s
        self._benchmark_s += took_s

    def over(self, limits: Limits, now_s: float) -> tuple[str, str] | None:
        """The state and the reason of a node that takes too long; None while it may go on."""
        if not self._machine_id:
            late = now_s - self._begun_s > limits.start_s
            return (MISSING, f"it did not start within {limits.start_s:g} s") if late else None
        if now_s - self._heard_s > limits.silent_s:
            return HUNG, f"it said nothing for {limits.silent_s:g} s"
        if self._benchmark and now_s - self._benchmark_s > limits.benchmark_s:
            return LATE, f"no end within {limits.benchmark_s:g} s"
        if now_s - self._begun_s > limits.node_s:
            return LATE, f"the {limits.node_s:g} s of a node were over"
        return None

    def kept_records(self) -> tuple[Record, ...]:
        """Its records with the machine and the software, as the store takes them."""
        return tuple(
            dataclasses.replace(record, snapshot=self._snapshot, software=self._software) for record in self._records
        )

    def result(self) -> NodeResult:
        """What is known at the end."""
        return NodeResult(
            name=self.name,
            state=self.state,
            why=self._why,
            machine_id=self._machine_id,
            snapshot=self._snapshot,
            records=tuple(self._records),
            skipped=dict(self._skipped),
        )


def shown(text: object) -> str:
    r"""Words of another computer as they may stand on a terminal: one short line, without codes that steer it.

    >>> shown("bad\n\x1b[31mred")
    'bad [31mred'
    """
    return _UNSEEN.sub(" ", str(text))[:300].strip()


def _versions(found: Any) -> str:
    if not isinstance(found, dict) or len(found) > 1000:
        raise InvalidInputError("no versions")
    return json.dumps({shown(name): shown(version) for name, version in sorted(found.items())})


def limits_of(seconds: Mapping[str, float | None], *, quick: bool) -> Limits:
    """The limits that were given, and the usual ones for the rest.

    Raises:
        InvalidInputError: One is no time.
    """
    usual = Limits(benchmark_s=180.0, node_s=300.0) if quick else Limits()
    for name, value in seconds.items():
        if value is not None and not (math.isfinite(value) and 1 <= value <= 7 * 86400):
            raise InvalidInputError(f"{value:g} s as {name.removesuffix('_s')} limit", hint="between 1 s and 7 days")
    return dataclasses.replace(usual, **{name: value for name, value in seconds.items() if value is not None})
