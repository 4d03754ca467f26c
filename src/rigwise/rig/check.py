"""``rigwise rig check``: every rule on a parts list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rigwise.edge import as_plain
from rigwise.rig import feeding, fit, power
from rigwise.rig.figures import mains
from rigwise.rig.judged import Given, Rule
from rigwise.rig.types import KINDS, PROBLEM, SEVERITIES, UNKNOWN, Finding, Item, Rig

SCHEMA = "rigwise.rig.check/1"

RULES: tuple[Rule, ...] = (*fit.RULES, *power.RULES, *feeding.RULES)

#: Kinds of parts that make a computer; a list without one of them can only be judged in part.
_NEEDED = ("gpu", "cpu", "motherboard", "ram", "psu", "case", "storage")

#: Rules that have something to say of a part that is not listed.
_SPEAK_WITHOUT = {"supply-load": frozenset({"psu"}), "supply-connectors": frozenset({"psu"})}
_SPEAK_WITHOUT |= {"pcie-lanes": frozenset({"motherboard"}), "circuit": frozenset({"psu"})}
_SPEAK_WITHOUT |= {"card-slots": frozenset({"motherboard"})}
_SPEAK_WITHOUT |= {"sold-whole": frozenset({"psu", "cpu", "gpu"})}


def judged(rule: Rule, rig: Rig, given: Given) -> Finding | None:
    """What a rule says, None where a part that it judges is not listed or where it does not apply."""
    absent = {kind for kind in rule.scope if not rig.of(kind)}
    if absent - _SPEAK_WITHOUT.get(rule.name, frozenset()):
        return None
    finding: Finding | None = rule.judge(rig, given)
    return finding


def check(rig: Rig, given: Given) -> tuple[Finding, ...]:
    """What every rule says of a rig, problems first.

    Raises:
        UnknownNameError: There is no such mains.
    """
    if given.mains:
        mains(given.mains)
    found = [finding for rule in RULES if (finding := judged(rule, rig, given)) is not None]
    return tuple(sorted([*_absent(rig), *found], key=lambda f: SEVERITIES.index(f.severity)))


def _absent(rig: Rig) -> list[Finding]:
    """The parts that the list lacks, in one finding."""
    lacking = [kind for kind in _NEEDED if not rig.of(kind)]
    if not lacking:
        return []
    found = f"not in the list: {', '.join(lacking)}; rules that need them are not judged"
    return [Finding(rule="parts", severity=UNKNOWN, found=found, fix="add a [[part]] for each")]


def has_problems(findings: Iterable[Finding]) -> bool:
    """Whether one of them is a problem."""
    return any(finding.severity == PROBLEM for finding in findings)


def parts_of(rig: Rig) -> list[dict[str, Any]]:
    """The parts as ``--json`` prints them: equal ones once, with their number."""
    listed: list[dict[str, Any]] = []
    for kind in KINDS:
        parts: tuple[Item, ...] = rig.of(kind)
        for item in dict.fromkeys(map(_hashable, parts)):
            same = [part for part in parts if _hashable(part) == item]
            listed.append({"kind": kind, "count": len(same), **as_plain(same[0])})
    return listed


def _hashable(item: Item) -> str:
    return repr(item)


def document(rig: Rig, given: Given, findings: Iterable[Finding]) -> dict[str, Any]:
    """The answer as ``rigwise rig check --json`` prints it."""
    return {
        "schema": SCHEMA,
        "name": rig.name,
        "mains": given.mains,
        "job": as_plain(given.demand),
        "parts": parts_of(rig),
        "ignored": list(rig.ignored),
        "findings": as_plain(tuple(findings)),
    }
