"""A pasted error text: which known errors it holds, and what causes them on this machine.

Likelihoods are orders, not frequencies: each cause starts with a share from the threads that report it, and what the
rules find here multiplies it (a rule that fires by 20, one that holds by 1/10; stated choices). They sum to 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rigwise.edge import parse, parse_toml, read_text
from rigwise.errors import InvalidInputError
from rigwise.machine.doctor.types import Finding, Status

#: What a rule's finding does to the share of a cause.
WEIGHT = {Status.PROBLEM: 20.0, Status.UNKNOWN: 1.0, Status.OK: 0.1}
#: Of a pasted text that is looked at; a log of more is cut to its end, where the error stands.
TEXT_LIMIT = 200_000
LINE_LIMIT = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What can be behind an error.

    Attributes:
        share_frac: How often it is this one, before anything is known of the machine.
        rules: Rules whose finding speaks for or against it.
        text, fix: What it is, and what to do.
    """

    share_frac: float
    text: str
    fix: str
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownError:
    """An error that people paste: patterns of its text, and its causes."""

    patterns: tuple[str, ...]
    source: str
    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFile:
    """``errors.toml``: errors by id."""

    errors: Mapping[str, KnownError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Likely:
    """A cause on this machine.

    Attributes:
        share_frac: How likely, of all causes of the same error.
        text, fix: What it is, and what to do.
        evidence: What speaks for or against it here, by rule.
        speaks: The status of the rule that speaks loudest; None where none does.
    """

    share_frac: float
    text: str
    fix: str
    evidence: tuple[tuple[str, str], ...]
    speaks: Status | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A known error that was found in a text, with the line and its causes, likeliest first.

    Attributes:
        error, line, source: Its id, the line of the text, and where it was read about.
        causes: Likeliest first.
        elsewhere: Whether it is about a GPU and this machine has none, so that its rules said nothing.
    """

    error: str
    line: str
    source: str
    causes: tuple[Likely, ...]
    elsewhere: bool = False


@cache
def known_errors() -> Mapping[str, KnownError]:
    """Every known error by its id.

    Raises:
        InvalidInputError: The file cannot be used.
    """
    path = Path(__file__).parent / "errors.toml"
    return parse(parse_toml(read_text(path), path.name), ErrorFile, path.name).errors


def matches(text: str) -> list[tuple[str, str]]:
    """Known errors in a text with the line each stands in, in the order of their first line.

    Raises:
        InvalidInputError: The text is empty.

    >>> matches("RuntimeError: CUDA error: no kernel image is available for execution on the device")[0][0]
    'no-kernel-image'
    """
    lines = [" ".join(line.split())[:LINE_LIMIT] for line in text[-TEXT_LIMIT:].splitlines() if line.strip()]
    if not lines:
        raise InvalidInputError(
            "the error text is empty", hint='rigwise doctor --error "TEXT", or --error - with it on stdin'
        )
    found: list[tuple[int, str, str]] = []
    for identifier, error in known_errors().items():
        pattern = re.compile("|".join(f"(?:{one})" for one in error.patterns), re.IGNORECASE)
        place = next((place for place, line in enumerate(lines) if pattern.search(line)), None)
        if place is not None:
            found.append((place, identifier, lines[place][:200]))
    found.sort(key=lambda entry: entry[0])
    return [(identifier, line) for _, identifier, line in found]


def diagnose(text: str, findings: Sequence[Finding]) -> tuple[Diagnosis, ...]:
    """Causes of every known error in a text, likeliest on this machine first; none if no error is known.

    Raises:
        InvalidInputError: The text is empty.
    """
    by_rule = {finding.rule: finding for finding in findings}
    return tuple(
        Diagnosis(
            error=identifier, line=line, source=known_errors()[identifier].source, causes=_ranked(identifier, by_rule)
        )
        for identifier, line in matches(text)
    )


def _ranked(identifier: str, by_rule: Mapping[str, Finding]) -> tuple[Likely, ...]:
    weighed = []
    for cause in known_errors()[identifier].causes:
        heard = [by_rule[rule] for rule in cause.rules if rule in by_rule]
        speaks = max((finding.status for finding in heard), key=WEIGHT.__getitem__, default=None)
        telling = [finding for finding in heard if finding.status is speaks]
        weight = cause.share_frac * (WEIGHT[speaks] if speaks else 1.0)
        weighed.append((weight, cause, speaks, tuple((finding.rule, finding.evidence) for finding in telling)))
    total = sum(weight for weight, *_ in weighed)
    weighed.sort(key=lambda entry: -entry[0])
    return tuple(
        Likely(share_frac=weight / total, text=cause.text, fix=cause.fix, evidence=evidence, speaks=speaks)
        for weight, cause, speaks, evidence in weighed
    )
