"""How a fleet did: the nodes that somebody should look at with what speaks against them, then every figure."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from rigwise.bench.fleet import ODD, FleetReport
from rigwise.bench.node_ledger import OK, STOPPED, NodeResult
from rigwise.bench.odd_nodes import GPU_MEMORY, GPUS, MEMORY, OVERALL, PROCESSORS, Evidence, hardware
from rigwise.bench.types import BYTES, FLOPS, ITEMS, TIME
from rigwise.measurement.compare import Key, better, key_of
from rigwise.units import format_bytes, format_count, format_seconds

SCHEMA = "rigwise.bench-fleet/1"
WIDTH = 79
#: Lines of evidence for one node, and nodes of one kind that are named.
_MOST_EVIDENCE, _MOST_NODES = 4, 40


def fleet_text(report: FleetReport, *, brief: bool = False, is_kept: bool = True) -> str:
    """Bad nodes first, then the figures over all nodes, and where the store has them if they are kept."""
    states = Counter(report.state(node) for node in report.nodes)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items(), key=lambda one: one[0] != OK))
    lines = [f"{report.place}, {_count(len(report.nodes), 'node')}: {counts}; {format_seconds(report.wall_s)}"]
    lines += _makes(report.nodes)
    lines += _bad(report)
    if not brief:
        lines += [*_figures(report), *_doubted(report), *(_ids(report.nodes) if is_kept else ())]
    if report.interrupted:
        lines += ["", "interrupted: what was measured until then"]
    return "\n".join(lines) + "\n"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def _makes(nodes: Sequence[NodeResult]) -> Iterator[str]:
    """What kinds of machine there are."""
    makes = Counter(hardware(node.snapshot).make for node in nodes if node.snapshot)
    for make, count in makes.most_common():
        few = "" if count > 3 or len(nodes) == 1 else ", too few to compare"
        yield from _item(f"{count} x {make}{few}", "  ")


def _bad(report: FleetReport) -> Iterator[str]:
    """Odd nodes with what speaks against them, then nodes that failed, those of one reason on one line."""
    odd = [node.name for node in report.nodes if report.state(node) == ODD]
    odd.sort(key=lambda name: -report.evidence[name][0].loss_frac)
    if odd:
        yield from ("", f"{'unlike the others':<30}{'the node':>13}{'the others':>13}{'loss':>8}{'deviations':>13}")
    for name in odd[:_MOST_NODES]:
        evidence = sorted(report.evidence[name], key=lambda one: one.figure != OVERALL)
        states = sorted({one.state for one in evidence if one.state not in ("", "ok")})
        yield f"{name}{': ' if states else ''}{' and '.join(states)}{' while it measured' if states else ''}"[:WIDTH]
        for one in evidence[:_MOST_EVIDENCE]:
            yield from evidence_lines(one)
        if len(evidence) > _MOST_EVIDENCE:
            yield f"  and {len(evidence) - _MOST_EVIDENCE} more"
    if len(odd) > _MOST_NODES:
        yield f"and {len(odd) - _MOST_NODES} more nodes"
    limits = {one.bound for name in odd for one in report.evidence[name] if one.bound}
    if limits:
        yield f"more than {min(limits):.1f} deviations are unusual among so many nodes"
    yield from _failed(report)


def _failed(report: FleetReport) -> Iterator[str]:
    failed: dict[tuple[str, str], list[str]] = {}
    for node in report.nodes:
        if node.state not in (OK, STOPPED):
            failed.setdefault((node.state, node.why), []).append(node.name)
    if failed:
        yield ""
    for (state, why), names in failed.items():
        more = f" and {len(names) - _MOST_NODES} more" if len(names) > _MOST_NODES else ""
        yield from _item(f"{', '.join(names[:_MOST_NODES])}{more}: {state}: {why}", "")


def evidence_lines(one: Evidence) -> list[str]:
    """One piece of evidence.

    >>> evidence_lines(Evidence(figure="stream.copy", words="too little memory", nodes=7))
    ['  stream.copy: not measured, which 7 others did: too little memory']
    """
    if one.value is None or one.p50 is None:
        return _item(f"{one.figure}: not measured, which {one.nodes} others did: {one.words}", "  ")
    shown = [_amount(value, one.unit if one.is_figure else one.figure) for value in (one.value, one.p50)]
    if one.figure == OVERALL:
        shown = ["", ""]
    deviations = f"{one.z:.1f}" if one.z else ""
    return [f"  {one.figure[:28]:<28}{shown[0]:>13}{shown[1]:>13}{_percent(one.loss_frac):>8}{deviations:>13}".rstrip()]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _amount(value: float, unit: str) -> str:
    if unit == TIME:
        return format_seconds(value)
    if unit in (MEMORY, GPU_MEMORY):
        return format_bytes(value)
    if unit in (PROCESSORS, GPUS):
        return f"{value:g}"
    return format_count(value, {FLOPS: "FLOP/s", BYTES: "B/s", ITEMS: "/s"}.get(unit, ""))


def _figures(report: FleetReport) -> Iterator[str]:
    """Median, slowest and quickest node of each figure."""
    rows = figures_of(report.nodes)
    if not rows:
        return
    yield ""
    yield f"{'':<26}{'nodes':>6}{'median':>13}{'slowest':>13}{'quickest':>13}"
    for (_, name, unit, _), values in rows.items():
        ordered = sorted(values.values(), reverse=better(unit, 2.0) != "better")
        shown = (_amount(value, unit) for value in (median(ordered), ordered[0], ordered[-1]))
        yield f"{name[:26]:<26}{len(values):>6}" + "".join(f"{text:>13}" for text in shown)


def figures_of(nodes: Sequence[NodeResult]) -> dict[Key, dict[str, float]]:
    """Values by node of what was measured alike."""
    found: dict[Key, dict[str, float]] = {}
    for node in nodes:
        for record in node.records:
            found.setdefault(key_of(record, frozenset({"device"})), {})[node.name] = record.value
    return found


def _doubted(report: FleetReport) -> Iterator[str]:
    if report.doubted:
        yield from ("", "slow at first, and like the others when measured again")
    for name, evidence in sorted(report.doubted.items())[:_MOST_NODES]:
        yield from _item(f"{name}: {', '.join(one.figure for one in evidence)}", "  ")


def _ids(nodes: Sequence[NodeResult]) -> Iterator[str]:
    """Under which name the store has a node."""
    known = [node for node in nodes if node.machine_id and node.records]
    if known:
        first = known[0]
        yield ""
        yield from _item(f"rigwise history --machine {first.machine_id} is {first.name}; --json has the others", "")


def _item(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_long_words=False)


def document(report: FleetReport) -> dict[str, Any]:
    """The answer as JSON."""
    return {
        "schema": SCHEMA,
        "fleet": str(report.place),
        "started": report.started,
        "run": report.run,
        "wall_s": report.wall_s,
        "interrupted": report.interrupted,
        "messages": report.messages,
        "message_bytes": report.message_bytes,
        "bad": [node.name for node in report.bad],
        "nodes": [_node(report, node) for node in report.nodes],
        "figures": [_figure(key, values) for key, values in figures_of(report.nodes).items()],
    }


def _node(report: FleetReport, node: NodeResult) -> dict[str, Any]:
    return {
        "name": node.name,
        "state": report.state(node),
        "why": node.why,
        "machine": node.machine_id,
        "make": hardware(node.snapshot).make if node.snapshot else None,
        "figures": len(node.records),
        "skipped": dict(node.skipped),
        "evidence": [_evidence(one) for one in report.evidence.get(node.name, ())],
        "doubted": [_evidence(one) for one in report.doubted.get(node.name, ())],
    }


def _evidence(one: Evidence) -> dict[str, Any]:
    return {
        "figure": one.figure,
        "value": one.value,
        "median": one.p50,
        "unit": one.unit,
        "loss_frac": one.loss_frac,
        "deviations": one.z,
        "threshold": one.bound,
        "nodes": one.nodes,
        "state": one.state,
        "words": one.words,
    }


def _figure(key: Key, values: Mapping[str, float]) -> dict[str, Any]:
    _, name, unit, tags = key
    return {"name": name, "unit": unit, "parameters": dict(tags), "median": median(values.values()), "values": values}
