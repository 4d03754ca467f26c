"""The same suite on many nodes: one coordinator hears them all, keeps what they measured, and names the odd ones.

A node may die, hang, refuse, or talk nonsense: that is a finding about the node, and the others go on. What a
node says is checked line by line; one line that is not understood ends it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rigwise.bench.fleet_place import FleetPlace, open_nodes
from rigwise.bench.node_ledger import DIED, HUNG, LATE, MISSING, OK, STOPPED, Limits, NodeLedger, NodeResult, shown
from rigwise.bench.odd_nodes import OVERALL, Evidence, Measured, odd_nodes
from rigwise.bench.suite import Request, chosen
from rigwise.execute.nodes import Call, Nodes, Said
from rigwise.measurement.records import Record

#: A node that measured and is unlike the others.
ODD = "odd"
#: How long one look for news lasts; limits are checked after each.
_LOOK_S = 0.5

#: Given the records of the nodes that have ended since.
Keep = Callable[[Sequence[Record]], None]
#: Told how many nodes have ended, how many there are, and what was heard last.
FleetProgress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRequest:
    """What is asked of a fleet.

    Attributes:
        place: Which nodes.
        suite: What each of them measures.
        limits: How long is waited for them.
        confirm: Whether odd nodes measure the figures that are evidence once more.
    """

    place: FleetPlace
    suite: Request
    limits: Limits
    confirm: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetReport:
    """What came of it.

    Attributes:
        started: Date and time, UTC, ISO 8601.
        run: Tag of all of its records.
        place: Which nodes were asked.
        nodes: In the order of the cluster.
        evidence: Of each odd node, the strongest first.
        doubted: Evidence that was not there any more when it was measured again.
        wall_s: From the first to the last.
        messages, message_bytes: What the coordinator heard.
        interrupted: Whether Ctrl-C ended it early.
    """

    started: str
    run: str
    place: FleetPlace
    nodes: tuple[NodeResult, ...]
    evidence: Mapping[str, tuple[Evidence, ...]] = field(default_factory=dict)
    doubted: Mapping[str, tuple[Evidence, ...]] = field(default_factory=dict)
    wall_s: float = 0.0
    messages: int = 0
    message_bytes: int = 0
    interrupted: bool = False

    def state(self, node: NodeResult) -> str:
        """How a node did: ``ok``, ``odd``, or how it failed."""
        return ODD if node.state == OK and node.name in self.evidence else node.state

    @property
    def bad(self) -> tuple[NodeResult, ...]:
        """Nodes that somebody should look at."""
        return tuple(node for node in self.nodes if self.state(node) not in (OK, STOPPED))


def run_fleet(
    request: FleetRequest,
    keep: Keep = lambda records: None,
    progress: FleetProgress = lambda ended, of, words: None,
) -> FleetReport:
    """Measure every node.

    Args:
        request: Which nodes measure what.
        keep: Given the records of each node as it ends.
        progress: Told how far it is.

    Raises:
        UnknownNameError: There is no such benchmark.
        InvalidInputError: There are no such nodes.
        MissingExtraError: Ray is not installed.
        RunError: The cluster cannot be reached.
    """
    chosen(request.suite.names)
    started_s, run = time.monotonic(), uuid.uuid4().hex[:12]
    started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    first = _round(request, run, keep, progress)
    evidence = evidence_of(first.results)
    doubted: dict[str, tuple[Evidence, ...]] = {}
    heard, interrupted = first.heard, first.interrupted
    if request.confirm and evidence and not interrupted:
        again = _round(asked_again(request, evidence), run, keep, progress)
        evidence, doubted = confirmed(first.results, again.results, evidence)
        heard, interrupted = (heard[0] + again.heard[0], heard[1] + again.heard[1]), again.interrupted
    return FleetReport(
        started=started,
        run=run,
        place=request.place,
        nodes=first.results,
        evidence=evidence,
        doubted=doubted,
        wall_s=time.monotonic() - started_s,
        messages=heard[0],
        message_bytes=heard[1],
        interrupted=interrupted,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """Nodes that were all asked the same."""

    results: tuple[NodeResult, ...]
    heard: tuple[int, int]
    interrupted: bool


def _round(request: FleetRequest, run: str, keep: Keep, progress: FleetProgress) -> _Round:
    with closing(open_nodes(request.place, _call(request), request.limits.node_s)) as nodes:
        ledgers = ledgers_of(nodes, run)
        interrupted = collect(nodes, ledgers, request.limits, keep, progress)
    accounts = ledgers.values()
    return _Round(
        results=tuple(ledger.result() for ledger in accounts),
        heard=(sum(one.messages for one in accounts), sum(one.message_bytes for one in accounts)),
        interrupted=interrupted,
    )


def asked_again(request: FleetRequest, evidence: Mapping[str, Sequence[Evidence]]) -> FleetRequest:
    """The request that the odd nodes get once more: the figures that speak against them, or all where all do."""
    figures = {one.figure for of in evidence.values() for one in of if one.is_figure}
    place = dataclasses.replace(request.place, only=tuple(sorted(evidence)))
    if OVERALL in figures or not figures:
        return dataclasses.replace(request, place=place)
    suite = dataclasses.replace(request.suite, names=tuple(sorted(figures)))
    return dataclasses.replace(request, place=place, suite=suite)


def confirmed(
    first: Sequence[NodeResult], again: Sequence[NodeResult], evidence: Mapping[str, tuple[Evidence, ...]]
) -> tuple[dict[str, tuple[Evidence, ...]], dict[str, tuple[Evidence, ...]]]:
    """Evidence that is there the second time too, and evidence that is not.

    The new figures of the odd nodes stand among the first ones of the others. What a node could not say the second
    time leaves the evidence as it is.
    """
    second = {node.name: node for node in again if node.state == OK}
    still = evidence_of([_renewed(node, second[node.name]) if node.name in second else node for node in first])
    sure: dict[str, tuple[Evidence, ...]] = {}
    doubted: dict[str, tuple[Evidence, ...]] = {}
    for name, of in evidence.items():
        figures = {one.figure for one in still.get(name, ())}
        kept = tuple(one for one in of if one.figure in figures)
        gone = tuple(one for one in of if one.figure not in figures)
        sure |= {name: kept} if kept else {}
        doubted |= {name: gone} if gone else {}
    return sure, doubted


def _renewed(first: NodeResult, second: NodeResult) -> NodeResult:
    """A node with the figures that it measured again in the place of the first ones."""
    new = {record.name: record for record in second.records}
    old = {record.name: record for record in first.records}
    skipped = {name: why for name, why in first.skipped.items() if name not in new}
    return dataclasses.replace(first, records=tuple({**old, **new}.values()), skipped=skipped)


def ledgers_of(nodes: Nodes, run: str) -> dict[str, NodeLedger]:
    """An empty account of each node."""
    now_s = time.monotonic()
    ledgers = {name: NodeLedger(name, run, now_s) for name in nodes.names}
    for name, why in nodes.refused.items():
        ledgers[name].end(MISSING, why)
    return ledgers


def collect(
    nodes: Nodes, ledgers: Mapping[str, NodeLedger], limits: Limits, keep: Keep, progress: FleetProgress
) -> bool:
    """Hear the nodes until all have ended or are given up; whether Ctrl-C came before."""
    left = {name: ledger for name, ledger in ledgers.items() if not ledger.state}
    try:
        while left:
            for said in nodes.poll(_LOOK_S):
                if words := _heard(nodes, left[said.node], said) if said.node in left else "":
                    progress(len(ledgers) - len(left), len(ledgers), f"{said.node}: {words}")
            _give_up(nodes, left, limits)
            _keep_ended(left, keep)
    except KeyboardInterrupt:
        for ledger in left.values():
            if not ledger.state:
                ledger.end(STOPPED, "Ctrl-C")
        _keep_ended(left, keep)
        return True
    return False


def _keep_ended(left: dict[str, NodeLedger], keep: Keep) -> None:
    """Keep what the nodes measured that have ended, and take them out; the others do not pay for the time it takes."""
    ended = [name for name, ledger in left.items() if ledger.state]
    if not ended:
        return
    begun_s = time.monotonic()
    keep([record for name in ended for record in left.pop(name).kept_records()])
    for ledger in left.values():
        ledger.excuse(time.monotonic() - begun_s)


def _heard(nodes: Nodes, ledger: NodeLedger, said: Said) -> str:
    """Take what a node said into its account; what of it is worth showing."""
    if ledger.state:
        return ""
    if said.ended is not None:
        ledger.end(DIED, shown(said.ended) or "it ended before it was done")
        return ledger.state
    ledger.hear(said.line, time.monotonic())
    if ledger.state and not ledger.is_done:
        nodes.end(said.node)
    return ledger.said


def _give_up(nodes: Nodes, left: Mapping[str, NodeLedger], limits: Limits) -> None:
    """End the nodes that are over a limit."""
    now_s = time.monotonic()
    for name, ledger in left.items():
        if over := None if ledger.state else ledger.over(limits, now_s):
            state, why = over
            waits = nodes.waiting(name) if state == MISSING else ""
            ledger.end(state, f"{why}; {waits}" if waits else why)
            nodes.end(name)


def evidence_of(results: Sequence[NodeResult]) -> dict[str, tuple[Evidence, ...]]:
    """What speaks against which node; a node that did not come to its end is compared by what it has."""
    fleet = {
        node.name: Measured(
            snapshot=node.snapshot, records=node.records, skipped=node.skipped, complete=node.state == OK
        )
        for node in results
        if node.snapshot
    }
    return odd_nodes(fleet)


def _call(request: FleetRequest) -> Call:
    """The request as every node gets it."""
    suite = request.suite
    if request.place.kind == "local" and suite.threads is None:
        shared = (os.cpu_count() or 1) // (request.place.count or 1)
        suite = dataclasses.replace(suite, threads=max(1, shared))
    return Call(module="rigwise.bench.node", request=json.dumps(dataclasses.asdict(suite)))


__all__ = ["DIED", "HUNG", "LATE", "MISSING", "ODD", "OK", "STOPPED", "FleetReport", "FleetRequest", "run_fleet"]
