"""The files of rules, services and faults, and what every rule says of a machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from rigwise.edge import parse, parse_toml, read_text
from rigwise.machine.doctor.conditions import missing
from rigwise.machine.doctor.types import Answer, Facts, Finding, Rule, Severity, Status

FOLDER = Path(__file__).parent
_ORDER = {status: place for place, status in enumerate(Status)}
_WORST = {severity: place for place, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A program that people reach by a browser or an interface.

    Attributes:
        port: Where it listens if nothing else is said.
        name: What it is called.
        path: What to ask to tell whether it lets anybody in.
        json: Whether it answers that with JSON; another kind of answer is another program.
        source: Where port and path were read.
    """

    port: int
    name: str
    path: str
    source: str
    json: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What one number of a driver's log means: who is to blame, and what to do."""

    meaning: str
    severity: Severity
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFile:
    """``rules.toml``: rules by id."""

    rules: Mapping[str, Rule]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile:
    """``tables.toml``: services, faults by number, and versions that belong together."""

    services: tuple[Service, ...]
    xid_source: str
    xids: Mapping[str, Fault]
    cudnn_source: str
    cudnn_needs: Mapping[str, Mapping[str, int]]


@cache
def rules() -> Mapping[str, Rule]:
    """Every rule by its id.

    Raises:
        InvalidInputError: The file cannot be used.
    """
    path = FOLDER / "rules.toml"
    return parse(parse_toml(read_text(path), path.name), RuleFile, path.name).rules


@cache
def tables() -> TableFile:
    """What the tests look up.

    Raises:
        InvalidInputError: The file cannot be used.
    """
    path = FOLDER / "tables.toml"
    return parse(parse_toml(read_text(path), path.name), TableFile, path.name)


def services() -> tuple[Service, ...]:
    """Services that are open to everybody if nothing is done."""
    return tables().services


def function_of(rule: Rule) -> Callable[[Facts], Answer]:
    """The function that a rule names."""
    module, _, name = rule.test.partition(".")
    found: Callable[[Facts], Answer] = getattr(import_module(f"rigwise.machine.doctor.checks.{module}"), name)
    return found


def judge(identifier: str, rule: Rule, facts: Facts) -> Finding:
    """What one rule says of a machine."""
    without = ""
    try:
        without = missing(facts, rule.applies)
        beside = Answer(status=Status.OK, evidence=f"does not apply: {without}")
        answer = beside if without else _answer(rule, facts)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        answer = Answer(status=Status.UNKNOWN, evidence="what was read cannot be understood")
    return Finding(
        rule=identifier,
        status=answer.status,
        severity=rule.severity,
        applies=not without,
        title=rule.title,
        evidence=answer.evidence,
        explanation=rule.explanation,
        fix=rule.fix,
        source=rule.source,
        repair=rule.repair if answer.repair else "",
        changes=answer.repair,
    )


def _answer(rule: Rule, facts: Facts) -> Answer:
    for name in rule.needs:
        if name not in facts.values:
            reason = facts.reasons.get("seen", "") if name.startswith("seen.") else ""
            return Answer(status=Status.UNKNOWN, evidence=f"{name} is unknown: {reason or facts.reason(name)}")
    return function_of(rule)(facts)


def examine(facts: Facts) -> tuple[Finding, ...]:
    """What every rule says, problems first and the worst of them first."""
    found = [judge(identifier, rule, facts) for identifier, rule in rules().items()]
    return tuple(sorted(found, key=lambda finding: (_ORDER[finding.status], _WORST[finding.severity])))
