"""A checkup: look at a machine, ask every rule, say what to install, and what a pasted error comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rigwise.edge import as_plain
from rigwise.machine.doctor.errors import Diagnosis, diagnose
from rigwise.machine.doctor.facts import facts_of
from rigwise.machine.doctor.fix import Change
from rigwise.machine.doctor.install import Advice, Target, advise, target_of
from rigwise.machine.doctor.rules import examine
from rigwise.machine.doctor.types import Facts, Finding, Severity, Status, problems
from rigwise.machine.probe.source import Root
from rigwise.machine.snapshot import Snapshot

SCHEMA = "rigwise.doctor/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """What was found on one machine.

    Attributes:
        of: ``this machine``, or the name of the snapshot or tree.
        taken: When it was looked at, UTC; empty if unknown.
        findings: One for each rule, problems first.
        target: What a build of a framework must fit there.
        advice: What to install of the framework that was asked for; None if none was.
        diagnoses: Causes of the errors in a pasted text.
    """

    of: str
    taken: str
    findings: tuple[Finding, ...]
    target: Target
    advice: Advice | None = None
    diagnoses: tuple[Diagnosis, ...] = ()

    @property
    def has_problems(self) -> bool:
        """Whether an error or a warning was found; notes do not count."""
        return any(problems(self.findings, Severity.ERROR, Severity.WARNING))


def check(root: Root | None = None, *, script: Mapping[str, Any] | None = None) -> Checkup:
    """Look at this machine, or at a captured tree, and ask every rule.

    Raises:
        RigwiseError: What is recorded cannot be written.
    """
    from rigwise.machine.doctor.look import look
    from rigwise.machine.inspect import inspect

    root = root or Root()
    snapshot = inspect(root)
    of = root.folder.name if root.folder else "this machine"
    return _checked(facts_of(snapshot, {**look(root, snapshot), **(script or {})}), of, snapshot.taken)


def check_snapshot(snapshot: Snapshot, name: str) -> Checkup:
    """Ask every rule of a snapshot; what a snapshot does not hold is unknown."""
    return _checked(facts_of(snapshot), name, snapshot.taken)


def _checked(facts: Facts, of: str, taken: str) -> Checkup:
    target = target_of(facts)
    findings = tuple(_with_install(finding, target) for finding in examine(facts))
    return Checkup(of=of, taken=taken, findings=findings, target=target)


def _with_install(finding: Finding, target: Target) -> Finding:
    """The finding with what to install here in place of ``{install}``."""
    if "{install}" not in finding.fix:
        return finding
    return replace(finding, fix=finding.fix.replace("{install}", install_text(target)))


def install_text(target: Target) -> str:
    """The command that installs what fits, or why there is none."""
    advice = advise("torch", target)
    return advice.command or advice.why


def with_diagnoses(checkup: Checkup, text: str) -> Checkup:
    """The checkup with the causes of a pasted error, likeliest here first.

    Raises:
        InvalidInputError: The text is empty.
    """
    found = diagnose(text, checkup.findings)
    install = install_text(checkup.target)
    return replace(checkup, diagnoses=tuple(_installed(diagnosis, install) for diagnosis in found))


def _installed(diagnosis: Diagnosis, install: str) -> Diagnosis:
    causes = tuple(replace(cause, fix=cause.fix.replace("{install}", install)) for cause in diagnosis.causes)
    return replace(diagnosis, causes=causes)


def document(checkup: Checkup, *, changes: Sequence[Change] = (), done: Sequence[Change] = ()) -> dict[str, Any]:
    """The answer as ``rigwise doctor --json`` prints it."""
    counts = {str(status): sum(finding.status is status for finding in checkup.findings) for status in Status}
    advice = checkup.advice
    return {
        "schema": SCHEMA,
        "of": checkup.of,
        "taken": checkup.taken,
        "counts": counts,
        "findings": as_plain(checkup.findings),
        "target": as_plain(checkup.target),
        "install": {**as_plain(advice), "command": advice.command} if advice else None,
        "errors": as_plain(checkup.diagnoses),
        "changes": as_plain(tuple(changes)),
        "done": as_plain(tuple(done)),
    }
