"""A form as it was sent, the question in it, and which field is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rigwise.errors import RigwiseError
from rigwise.web.questions import JOB, PLAN, Question, fields, question

#: What the amount of work of a plan may be counted in.
UNITS = ("samples", "tokens", "steps", "epochs")

#: What a page asks when nobody asked anything yet, so that it opens with an answer.
EXAMPLES: Mapping[str, Mapping[str, str]] = {
    "plan": {"model": "resnet50", "task": "train", "samples": "128M", "deadline": "12h"},
    "compare": {
        "model": "resnet50",
        "device": "t4,l4,rtx-4090,a100-sxm4-80gb,h100-sxm5-80gb,mi300x",
        "task": "train",
        "batch": "64",
        "mode": "eager",
    },
    "predict": {"model": "resnet50", "device": "rtx-4090", "task": "train", "batch": "64", "mode": "eager"},
}
_FLAG = re.compile(r"--([a-z][a-z-]*)")
_QUOTED = re.compile(r"'([^']+)'")
_OPENING = re.compile(r"^(?:parallel\.)?([a-z_]+)(?: is |: )")
_LACKING = re.compile(r"has no ([a-z_]+) (?:in its|graph)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why there is no answer, in words for the person who asked."""

    message: str
    hint: str = ""
    status: int = 422


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What the fields hold, and what is wrong with them.

    Attributes:
        kind: Of question.
        values: Field and what stands in it, as it was written.
        jobs: The job files among them, each whole; None where the question is about none.
        asked: The question, if the fields make one.
        problem: Why there is no answer.
        wrong: Field and what is wrong with it.
    """

    kind: str
    values: Mapping[str, str]
    jobs: tuple[str, ...] | None = None
    asked: Question | None = None
    problem: Problem | None = None
    wrong: Mapping[str, str] = field(default_factory=dict)

    def refused(self, error: RigwiseError) -> Form:
        """The same form with an error of the program, at the field that it is about if that can be told."""
        name = getattr(error, "field", "") or field_of(error.message, self.values)
        name = "amount" if name in UNITS else JOB if name == "model" and self.jobs is not None else name
        told = plain(error.message)
        status = int(getattr(error, "status", 422))
        wrong = {name: told} if name in self.values or name in _names(self.kind) else {}
        return replace(self, problem=Problem(message=told, hint=error.hint, status=status), wrong=wrong)


def read(kind: str, pairs: Sequence[tuple[str, str]]) -> Form:
    """The form of a page from the query string of its address; the example if that is empty.

    Several values of one key stand in its field with commas between. ``amount`` and ``unit`` are the flag
    ``--samples``, ``--tokens``, ``--steps`` or ``--epochs``.

    >>> read("plan", [("model", "resnet50"), ("amount", "1M"), ("unit", "samples")]).asked.query
    'model=resnet50&samples=1M'
    """
    pairs = list(pairs) or list(EXAMPLES.get(kind, {}).items())
    pairs = [(name, _listed(value) if name == "device" else value) for name, value in pairs]
    jobs = [value for name, value in pairs if name == JOB] if kind == PLAN else []
    values: dict[str, str] = {}
    for name, value in pairs:
        if name != JOB:
            values[name] = f"{values[name]},{value}" if values.get(name) and value else values.get(name, "") or value
    if kind == PLAN:
        pairs, values = _amount(pairs, values)
    form = Form(kind=kind, values=values, jobs=tuple(filter(str.strip, jobs)) if jobs else None)
    try:
        return replace(form, asked=question(kind, pairs))
    except RigwiseError as error:
        return form.refused(error)


def _listed(value: str) -> str:
    """``a, b`` as ``a,b``."""
    return ",".join(part.strip() for part in value.split(",") if part.strip())


def _amount(
    pairs: Iterable[tuple[str, str]], values: Mapping[str, str]
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """The amount of work as a flag for the question, and as a number and its unit for the form."""
    unit = values.get("unit", "samples")
    flags = [(name, value) for name, value in pairs if name not in ("amount", "unit")]
    if unit in UNITS and values.get("amount"):
        flags.append((unit, values["amount"]))
    given = next(((name, value) for name, value in flags if name in UNITS and value), (unit, ""))
    shown = {name: value for name, value in values.items() if name not in UNITS}
    return flags, shown | {"unit": given[0], "amount": given[1]}


def field_of(message: str, values: Mapping[str, str]) -> str:
    """The field that an error message is about; empty if it does not say.

    >>> field_of("command line: --deadline: duration 'soon' is not a number with a unit", {})
    'deadline'
    >>> field_of("'h100' may be h100-pcie-80gb, h100-sxm5-80gb", {"device": "t4, h100"})
    'device'
    >>> field_of("resnet50 has no seq in its train graph", {"model": "resnet50", "seq": "12"})
    'seq'
    """
    flag = _FLAG.search(message)
    if flag:
        return flag[1]
    for quoted in _QUOTED.findall(message):
        for name, value in values.items():
            if quoted.lower() in (part.strip().lower() for part in value.split(",")):
                return name
    for pattern in (_OPENING, _LACKING):
        found = pattern.search(message)
        if found:
            return found[1].replace("_", "-")
    return ""


def plain(message: str) -> str:
    """A message without what only a terminal has.

    >>> plain("command line: --batch is 1.5; give a whole number")
    'batch is 1.5; give a whole number'
    """
    return message.removeprefix("command line: ").replace("--", "")


def _names(kind: str) -> set[str]:
    return {one.name for one in fields(kind)} | {"amount"}


def choices(kind: str) -> dict[str, tuple[str, ...]]:
    """The values of each field that has few of them."""
    found: dict[str, Any] = {one.name: one.choices for one in fields(kind) if one.choices}
    return {"task": ("train", "infer", "prefill", "decode")} | found  # serving has a form of its own
