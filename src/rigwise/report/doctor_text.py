"""What the doctor found, as text for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from textwrap import wrap

from rigwise.machine.doctor.checkup import Checkup
from rigwise.machine.doctor.errors import Diagnosis, Likely
from rigwise.machine.doctor.fix import Change
from rigwise.machine.doctor.install import Advice, Target
from rigwise.machine.doctor.types import Finding, Severity, Status
from rigwise.machine.snapshot import printable

_WIDTH = 80
_HEADINGS = {Severity.ERROR: "ERROR", Severity.WARNING: "warning", Severity.NOTE: "note"}
_INDENT = 9
NOT_EXECUTED = "rules about GPUs were tried on captured machines, never on a real one"


def checkup_text(checkup: Checkup, *, everything: bool = False, brief: bool = False) -> str:
    """Problems with evidence, reason and fix; what could not be said; with ``everything`` what is in order too."""
    by_status = {status: [f for f in checkup.findings if f.status is status] for status in Status}
    found, silent, fine = by_status[Status.PROBLEM], by_status[Status.UNKNOWN], by_status[Status.OK]
    applied = [finding for finding in fine if finding.applies]
    counts = [_count(sum(f.severity is severity for f in found), str(severity)) for severity in Severity]
    head = ", ".join(text for text in counts if text) or "nothing wrong"
    rest = [f"{len(applied)} ok", f"{len(silent)} unknown", f"{len(fine) - len(applied)} not about this machine"]
    lines = [*_wrapped(f"{checkup.of}: {head} ({', '.join(rest)})")]
    for finding in found:
        lines += ["", *_problem(finding, brief=brief)]
    if silent and not brief:
        lines += ["", "could not be told", *_silent(silent)]
    if not brief and any(finding.applies and "GPU" in finding.title for finding in checkup.findings):
        lines += ["", *_wrapped(NOT_EXECUTED)]
    if everything:
        lines += ["", "in order", *[line for f in applied for line in _item(f.rule, f.evidence)]]
    return "\n".join(lines) + "\n"


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' if number > 1 else ''}" if number else ""


def _problem(finding: Finding, *, brief: bool) -> list[str]:
    head = f"{_HEADINGS[finding.severity]:<{_INDENT - 1}} "
    lines = _wrapped(f"{finding.title}  [{finding.rule}]", first=head, rest=" " * _INDENT)
    lines += _labelled("found", finding.evidence)
    if not brief:
        lines += _labelled("why", finding.explanation)
    lines += _labelled("fix", finding.fix)
    if finding.repair:
        lines += _labelled("", "rigwise doctor --fix can do this and undo it")
    if not brief:
        lines += _labelled("source", finding.source)
    return lines


def _labelled(label: str, text: str) -> list[str]:
    return _wrapped(text, first=" " * _INDENT + f"{label:<7}", rest=" " * (_INDENT + 7))


def why_unknown(evidence: str) -> str:
    """Why something could not be told, without the key of the fact that was looked for.

    >>> why_unknown("seen.cuda_init is unknown: it did not answer in 5 s")
    'it did not answer in 5 s'
    """
    return evidence.rpartition(" is unknown: ")[2] or evidence


def _silent(findings: Sequence[Finding]) -> list[str]:
    """Rules without an answer, those with the same reason together."""
    reasons = [(why_unknown(finding.evidence), finding.rule) for finding in findings]
    lines = []
    for reason, group in groupby(sorted(reasons), key=lambda entry: entry[0]):
        lines += _item(", ".join(rule for _, rule in group), reason)
    return lines


def _item(what: str, text: str) -> list[str]:
    return _wrapped(f"{what}: {text}", first="  - ", rest="    ")


def diagnoses_text(checkup: Checkup, *, brief: bool = False) -> str:
    """Causes of each known error, likeliest on this machine first."""
    if not checkup.diagnoses:
        return "\n".join(_unknown_error(checkup)) + "\n"
    lines: list[str] = []
    for diagnosis in checkup.diagnoses:
        lines += [*_diagnosis(diagnosis, checkup.of, brief=brief), ""]
    return "\n".join(lines).rstrip() + "\n"


def _unknown_error(checkup: Checkup) -> list[str]:
    found = [finding for finding in checkup.findings if finding.status is Status.PROBLEM]
    lines = _wrapped("no error that is known stands in this text")
    if found:
        titles = ", ".join(finding.title for finding in found)
        lines += _wrapped(f"problems of {checkup.of} that may be behind it: {titles}; rigwise doctor tells more")
    return lines


def _diagnosis(diagnosis: Diagnosis, of: str, *, brief: bool) -> list[str]:
    lines = _wrapped(f"{diagnosis.error}: {diagnosis.line}")
    if diagnosis.elsewhere:
        lines += _wrapped(f"{of} has no NVIDIA GPU: ask rigwise doctor on the machine that printed this")
        lines += ["", "causes, likeliest first"]
    else:
        lines += ["", f"causes, likeliest on {of} first"]
    for number, cause in enumerate(diagnosis.causes, start=1):
        lines += _cause(number, cause)
    return lines if brief else [*lines, *_wrapped(f"source: {diagnosis.source}", first="  ", rest="    ")]


def _cause(number: int, cause: Likely) -> list[str]:
    share = f"{100 * cause.share_frac:.0f} %" if cause.share_frac >= 0.01 else "<1 %"
    lines = _wrapped(cause.text, first=f"  {number}. {share:>5}  ", rest=" " * 12)
    words = {Status.PROBLEM: "seen here", Status.OK: "not here", Status.UNKNOWN: "unknown"}
    for rule, evidence in cause.evidence[:2]:
        lines += _wrapped(
            f"{words[cause.speaks or Status.UNKNOWN]}: {evidence}  [{rule}]", first=" " * 12, rest=" " * 14
        )
    return lines + _wrapped(cause.fix, first=" " * 12 + "fix: ", rest=" " * 14)


def advice_text(advice: Advice, target: Target, *, brief: bool = False) -> str:
    """What to install, and the first reason against each newer build."""
    given = [f"driver {target.driver or 'none'}", f"compute capability {', '.join(target.capabilities) or 'none'}"]
    given += [f"Python {target.python}" if target.python else "", f"glibc {target.glibc}" if target.glibc else ""]
    lines = _wrapped(f"{advice.framework} for {', '.join(text for text in given if text)}")
    lines += [
        "",
        f"  {advice.command}" if advice.command else "  nothing to install",
        *_wrapped(advice.why, first="  ", rest="  "),
    ]
    lines += [line for text in advice.assumed for line in _wrapped(f"assumed: {text}", first="  ", rest="  ")]
    if advice.build and advice.build.note and not brief:
        lines += _wrapped(advice.build.note, first="  ", rest="  ")
    if brief or not advice.refused:
        return "\n".join(lines) + "\n"
    lines += ["", "newer builds, and what speaks against them"]
    for reason, group in groupby(advice.refused[:60], key=lambda entry: entry[1]):
        lines += _item(_few([name for name, _ in group]), reason)
    return "\n".join(lines) + "\n"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def changes_text(changes: Iterable[Change]) -> str:
    """What safe fixes would change, and what they cannot."""
    lines = []
    for change in changes:
        lines += _wrapped(
            f"{change}" + (f"  (not done: {change.refused})" if change.refused else ""), first="  ", rest="    "
        )
    return "\n".join(lines) + "\n" if lines else "nothing was found that a safe fix mends\n"


def _wrapped(text: str, first: str = "", rest: str = "  ") -> list[str]:
    return wrap(printable(text), _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
