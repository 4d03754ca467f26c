"""What every rule is made of: a finding with its figures, and what the rules are given beside the parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rigwise.facts.catalogue import cited
from rigwise.rig.types import OK, PROBLEM, UNKNOWN, WARNING, Demand, Finding

Evidence = Mapping[str, float | int | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the rules know beside the parts.

    Attributes:
        mains: Name of the circuit, empty where none was named.
        demand: What the user's job makes of the cards; None without a job.
    """

    mains: str = ""
    demand: Demand | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: it looks at parts of the kinds in ``scope`` and at no others."""

    name: str
    scope: frozenset[str]
    judge: Any


@dataclass(frozen=True, slots=True)
class Judge:
    """Makes the findings of one rule."""

    rule: str
    source: tuple[str, ...]

    def problem(self, found: str, fix: str, **evidence: float | int | str) -> Finding:
        """It does not work, or is not safe."""
        return self._finding(PROBLEM, found, fix, evidence)

    def warning(self, found: str, fix: str, **evidence: float | int | str) -> Finding:
        """It may work, with a loss or a risk."""
        return self._finding(WARNING, found, fix, evidence)

    def unknown(self, found: str, fix: str, **evidence: float | int | str) -> Finding:
        """A figure is missing that decides it."""
        return self._finding(UNKNOWN, found, fix, evidence)

    def ok(self, found: str, **evidence: float | int | str) -> Finding:
        """The rule is kept."""
        return self._finding(OK, found, "", evidence)

    def _finding(self, severity: str, found: str, fix: str, evidence: Evidence) -> Finding:
        rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in evidence.items()}
        return Finding(rule=self.rule, severity=severity, found=found, evidence=rounded, fix=fix, source=self.source)


def in_full(source: Iterable[str]) -> tuple[str, ...]:
    """Citations of a row of the figures in full."""
    return tuple(text for row in source for text in cited(row))


def known_sum(values: Iterable[float | None]) -> float | None:
    """Their sum, None if one of them is not known.

    >>> known_sum([1.0, 2.0]), known_sum([1.0, None])
    (3.0, None)
    """
    listed = list(values)
    return None if any(v is None for v in listed) else sum(v for v in listed if v is not None)


def joined(words: Iterable[str]) -> str:
    """Words with a comma and an ``and``.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    listed = list(words)
    return " and ".join(filter(None, [", ".join(listed[:-1]), listed[-1]])) if listed else ""
