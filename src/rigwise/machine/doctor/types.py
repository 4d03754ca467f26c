"""Facts about a machine, rules about facts, and what a rule finds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """What a rule answers."""

    PROBLEM = "problem"
    UNKNOWN = "unknown"
    OK = "ok"


class Severity(StrEnum):
    """What a problem costs, worst first."""

    ERROR = "error"  # something does not work, gives wrong results or is open to others
    WARNING = "warning"  # it works, slower or until something else happens
    NOTE = "note"  # worth knowing; does not change the exit code


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about a machine, by dotted name.

    Attributes:
        values: ``cpu.cores`` -> 8, ``gpus.0.name`` -> ...; what is unknown has no entry.
        reasons: Why something is unknown.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """A value, ``default`` where it is unknown."""
        return self.values.get(name, default)

    def text(self, name: str) -> str:
        """A value as text, empty where it is unknown."""
        return str(self.values.get(name, ""))

    def rows(self, section: str) -> list[dict[str, Any]]:
        """The entries of a section that has several, each with its known fields.

        >>> Facts(values={"gpus.0.name": "A", "gpus.1.name": "B"}).rows("gpus")
        [{'name': 'A'}, {'name': 'B'}]
        """
        found: dict[int, dict[str, Any]] = {}
        for name, value in self.values.items():
            match = re.fullmatch(rf"{section}\.(\d+)\.(\w+)", name)
            if match:
                found.setdefault(int(match[1]), {})[match[2]] = value
        return [found[place] for place in sorted(found)]

    def section(self, section: str) -> dict[str, Any]:
        """The fields of a section that there is one of."""
        start = f"{section}."
        return {name[len(start) :]: value for name, value in self.values.items() if name.startswith(start)}

    def reason(self, name: str) -> str:
        """Why a fact is unknown."""
        return self.reasons.get(name, "it is not in what was read")

    def variables(self) -> dict[str, str]:
        """Variables of the environment that change what a framework sees."""
        found = self.values.get("container.variables")
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a test says of facts.

    Attributes:
        status: Ok, problem or unknown.
        evidence: What it saw, in one sentence with the figures.
        repair: Names of what a safe fix would change; empty where there is none.
    """

    status: Status
    evidence: str
    repair: tuple[str, ...] = ()


def ok(evidence: str) -> Answer:
    """Nothing wrong."""
    return Answer(status=Status.OK, evidence=evidence)


def problem(evidence: str, *repair: str) -> Answer:
    """Something wrong."""
    return Answer(status=Status.PROBLEM, evidence=evidence, repair=repair)


def unknown(evidence: str) -> Answer:
    """It cannot be said."""
    return Answer(status=Status.UNKNOWN, evidence=evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that can be wrong.

    Attributes:
        title: What is wrong, in a few words.
        applies: Conditions of ``conditions.py`` that must all hold, else the rule has nothing to say.
        needs: Facts without which the answer is unknown.
        test: Function of ``checks``, ``file.function``.
        severity: What the problem costs.
        explanation: Why it is one.
        fix: How to mend it; ``{install}`` stands for what the resolver of ``install.py`` advises here.
        repair: The safe fix of ``fix.py``, empty where a person has to do it.
        source: Where symptom, cause and fix were read.
    """

    title: str
    test: str
    severity: Severity
    explanation: str
    fix: str
    source: str
    applies: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    repair: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one rule says of one machine.

    Attributes:
        rule: Its id.
        status: Ok, problem or unknown.
        severity: Of the problem, were it one.
        applies: Whether the rule is about such a machine at all; if not the status is ok.
        title, explanation, fix, source: As in the rule, the fix with what to install here.
        evidence: What was seen.
        repair: The safe fix, with ``changes`` what it would change; empty where there is none.
    """

    rule: str
    status: Status
    severity: Severity
    applies: bool
    title: str
    evidence: str
    explanation: str
    fix: str
    source: str
    repair: str = ""
    changes: tuple[str, ...] = ()


def problems(findings: tuple[Finding, ...], *worst: Severity) -> Iterator[Finding]:
    """The problems, of these severities if any are given."""
    for finding in findings:
        if finding.status is Status.PROBLEM and (not worst or finding.severity in worst):
            yield finding
