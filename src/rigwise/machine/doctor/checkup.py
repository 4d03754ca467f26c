"""A checkup: look at a machine, ask every rule, say what to install, and what a pasted error comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rigwise.edge import as_plain
from rigwise.machine.doctor.errors import Diagnosis, diagnose, known_errors
from rigwise.machine.doctor.facts import facts_of
from rigwise.machine.doctor.fix import Change
from rigwise.machine.doctor.install import Advice, Target, advise, target_of
from rigwise.machine.doctor.rules import examine, rules
from rigwise.machine.doctor.types import Facts, Finding, Severity, Status, problems
from rigwise.machine.probe.source import Root
from rigwise.machine.snapshot import Snapshot
from rigwise.shown import Shown

SCHEMA = "rigwise.doctor/1"
#: Conditions of ``conditions.py`` that fail without an NVIDIA GPU.
GPU_CONDITIONS = frozenset({"nvidia", "nvidia-bare", "nvidia-card", "nvidia-driver", "gpus", "torch-cuda", "jax-cuda"})
#: What to install for a GPU that is in another machine.
ELSEWHERE = "what rigwise doctor --install torch names on the machine with the GPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup(Shown):
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
    silent = _of_no_gpu(checkup)
    found = diagnose(text, [finding for finding in checkup.findings if finding.rule not in silent])
    install = install_text(checkup.target)
    return replace(checkup, diagnoses=tuple(_installed(diagnosis, install, silent) for diagnosis in found))


def _of_no_gpu(checkup: Checkup) -> frozenset[str]:
    """Rules about NVIDIA GPUs where there is none: an error of one comes from another machine, and they say nothing."""
    if checkup.target.cards or checkup.target.capabilities:
        return frozenset()
    return frozenset(f.rule for f in checkup.findings if not f.applies and GPU_CONDITIONS & {*rules()[f.rule].applies})


def _installed(diagnosis: Diagnosis, install: str, silent: frozenset[str]) -> Diagnosis:
    """The diagnosis with what to install in place of ``{install}``."""
    elsewhere = {cause.fix for cause in known_errors()[diagnosis.error].causes if silent & {*cause.rules}}
    causes = tuple(
        replace(cause, fix=cause.fix.replace("{install}", ELSEWHERE if cause.fix in elsewhere else install))
        for cause in diagnosis.causes
    )
    return replace(diagnosis, causes=causes, elsewhere=bool(elsewhere))


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
