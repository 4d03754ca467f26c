"""``rigwise setup verify`` on a terminal: every check, then what the doctor finds where one has a problem."""

from __future__ import annotations

from textwrap import wrap

from rigwise.machine.doctor.types import Severity, Status, problems
from rigwise.machine.snapshot import printable
from rigwise.report.doctor_text import checkup_text, diagnoses_text
from rigwise.sandbox.verify import Check, Verification

_WIDTH = 80
_WORDS = {Status.PROBLEM: "PROBLEM", Status.UNKNOWN: "unknown", Status.OK: "ok"}


def verification_text(found: Verification, *, brief: bool = False) -> str:
    """One block for each check; with ``brief`` the problems only."""
    what = f"{found.framework} {found.version}".strip() or "no framework"
    python = f"Python {found.python_version}, " if found.python_version else ""
    lines = _wrapped(f"{found.python}: {python}{what}", rest="  ")
    for check in found.checks:
        if not brief or check.status is Status.PROBLEM:
            lines += ["", *_block(check)]
    rows = [row for check in found.checks for row in check.rows]
    counts = [
        f"{sum(row.status is status for row in rows)} {word}"
        for status, word in ((Status.OK, "ok"), (Status.UNKNOWN, "unknown"), (Status.PROBLEM, "wrong"))
    ]
    verdict = "works as far as it could be tried" if found.holds else "does not work as it is"
    lines += ["", *_wrapped(f"this environment {verdict}: {', '.join(counts)}", rest="  ")]
    return "\n".join(lines) + "\n" + (_doctor(found) if found.doctor else "")


def _block(check: Check) -> list[str]:
    lines = [f"{check.name}  ({check.time_s:.1f} s)" if check.time_s else check.name]
    width = max(len(row.what) for row in check.rows)
    for row in check.rows:
        head = f"  {_WORDS[row.status]:<8} {row.what:<{width}}  "
        lines += _wrapped(row.evidence, first=head, rest=" " * min(len(head), 24))
    return lines


def _doctor(found: Verification) -> str:
    """Causes of the errors, and what is wrong with the machine; nothing where the doctor finds nothing."""
    doctor = found.doctor
    if doctor is None:
        return ""
    causes = "\n" + diagnoses_text(doctor, brief=True) if doctor.diagnoses else ""
    wrong = list(problems(doctor.findings, Severity.ERROR, Severity.WARNING))
    if not wrong:
        return causes + ("" if causes else "\nrigwise doctor finds nothing wrong with the machine\n")
    return causes + "\nrigwise doctor: " + checkup_text(doctor, brief=True)


def _wrapped(text: str, *, first: str = "", rest: str = "") -> list[str]:
    return wrap(printable(text), _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
