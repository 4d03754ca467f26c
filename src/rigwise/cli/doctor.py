"""``rigwise doctor``: what is wrong with a machine, and how to mend it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from rigwise.cli.output import answer_options, console, print_json
from rigwise.errors import InvalidInputError

if TYPE_CHECKING:
    from rigwise.machine.doctor.checkup import Checkup
    from rigwise.machine.doctor.fix import Change
    from rigwise.machine.doctor.install import Target

EXAMPLES = """\b
Examples:
  rigwise doctor
  rigwise doctor --error "no kernel image is available for execution"
  python train.py 2>&1 | rigwise doctor --error -
  rigwise doctor --install torch
  rigwise doctor --install torch --device V100 --driver 580.65.06
"""
#: Of a text on stdin the end is kept, where the error stands; all is read, so that what writes it goes on.
STDIN_KEPT_BYTES = 2**20
FRAMEWORKS = ("torch", "jax", "tensorflow")


@click.command("doctor", epilog=EXAMPLES)
@click.option("--snapshot", metavar="FILE", help="Judge what rigwise inspect --save wrote.")
@click.option("--root", "tree", metavar="DIR", help="Judge a captured tree.")
@click.option("--error", "text", metavar="TEXT", help="Causes of an error text on this machine; - reads stdin.")
@click.option("--script", metavar="FILE", help="Look at a training script as well; it is not run.")
@click.option(
    "--install", "framework", type=click.Choice(FRAMEWORKS), help="What to install here, and why nothing newer."
)
@click.option("--device", metavar="DEVICE", help="With --install: for this GPU instead.")
@click.option("--driver", metavar="VERSION", help="With --install: for this NVIDIA driver instead.")
@click.option("--python", metavar="VERSION", help="With --install: for this Python instead.")
@click.option("--glibc", metavar="VERSION", help="With --install: for this C library instead.")
@click.option("--fix", is_flag=True, help="Show the safe fixes, and apply those that you agree to.")
@click.option("--yes", is_flag=True, help="With --fix: agree to all of them.")
@click.option("--undo", is_flag=True, help="Put back what --fix changed.")
@click.option("--all", "everything", is_flag=True, help="List what is in order as well.")
@answer_options
def command(*, as_json: bool, quiet: bool, **flags: Any) -> int:
    """What is wrong with this machine for deep learning, and how to mend it.

    Nothing is changed without --fix, and nothing leaves the machine. Exit code 1 if there is an error or a warning;
    with --error if no known error is found in the text, with --install if nothing fits.
    """
    _check(flags)
    if flags["undo"]:
        return _undo(as_json=as_json)
    given = _error_text(flags["text"]) if flags["text"] is not None else None
    checkup = _checkup(flags, given)
    if flags["framework"]:
        return _install(checkup, flags, as_json=as_json, quiet=quiet)
    if flags["fix"]:
        return _fix(checkup, yes=flags["yes"], as_json=as_json)
    from rigwise.machine.doctor.checkup import document
    from rigwise.report.doctor_text import checkup_text, diagnoses_text

    if as_json:
        print_json(document(checkup))
    elif given is not None:
        _print(diagnoses_text(checkup, brief=quiet))
    else:
        _print(checkup_text(checkup, everything=flags["everything"], brief=quiet))
    return 0 if checkup.diagnoses else 1 if given is not None else int(checkup.has_problems)


def _check(flags: dict[str, Any]) -> None:
    """Refuse flags that exclude each other."""
    modes = [name for name in ("text", "framework", "fix", "undo") if flags[name] not in (None, False)]
    names = {"text": "--error", "framework": "--install", "fix": "--fix", "undo": "--undo"}
    if len(modes) > 1:
        raise InvalidInputError(f"{' and '.join(names[name] for name in modes)} cannot be combined")
    if flags["snapshot"] and flags["tree"]:
        raise InvalidInputError("--snapshot and --root cannot be combined")
    elsewhere = "--snapshot" if flags["snapshot"] else "--root" if flags["tree"] else ""
    if elsewhere and (flags["fix"] or flags["undo"]):
        raise InvalidInputError(f"{elsewhere} is not this machine", hint="--fix and --undo change this machine only")
    if flags["script"] and flags["snapshot"]:
        raise InvalidInputError("--script cannot be combined with --snapshot")
    if flags["yes"] and not flags["fix"]:
        raise InvalidInputError("--yes says nothing without --fix")
    for name in ("device", "driver", "python", "glibc"):
        if flags[name] and not flags["framework"]:
            raise InvalidInputError(f"--{name} needs --install")


def _error_text(text: str) -> str:
    """The pasted text, of the flag or of stdin."""
    if text != "-":
        found = text
    else:
        if sys.stdin.isatty():
            print("paste the error text, then Ctrl-D", file=sys.stderr)
        kept = b""
        while chunk := sys.stdin.buffer.read(STDIN_KEPT_BYTES):
            kept = (kept + chunk)[-STDIN_KEPT_BYTES:]
        found = kept.decode("utf-8", "replace")
    if not found.strip():
        raise InvalidInputError("the error text is empty", hint='give --error "TEXT", or --error - with it on stdin')
    return found


def _checkup(flags: dict[str, Any], text: str | None) -> Checkup:
    from rigwise.machine.doctor.checkup import check, check_snapshot, with_diagnoses
    from rigwise.machine.doctor.script import read_script
    from rigwise.machine.probe.source import Root, open_root
    from rigwise.machine.snapshot import read_snapshot

    if flags["snapshot"]:
        found = check_snapshot(read_snapshot(flags["snapshot"]), flags["snapshot"])
    else:
        script = read_script(flags["script"]) if flags["script"] else None
        found = check(open_root(flags["tree"]) if flags["tree"] else Root(), script=script)
    return found if text is None else with_diagnoses(found, text)


def _install(checkup: Checkup, flags: dict[str, Any], *, as_json: bool, quiet: bool) -> int:
    from dataclasses import replace

    from rigwise.machine.doctor.checkup import document
    from rigwise.machine.doctor.install import advise
    from rigwise.report.doctor_text import advice_text

    target = _target(checkup.target, flags)
    advice = advise(flags["framework"], target)
    if as_json:
        print_json(document(replace(checkup, target=target, advice=advice)))
    else:
        _print(advice_text(advice, target, brief=quiet))
    return 0 if advice.spec else 1


def _target(here: Target, flags: dict[str, Any]) -> Target:
    """What a build must fit: this machine, but for what the flags say."""
    from dataclasses import replace

    from rigwise.facts.software import version
    from rigwise.machine.doctor.install import capability_of

    given = {name: flags[name] for name in ("driver", "python", "glibc") if flags[name]}
    for name, value in given.items():
        if not version(value) or len(value) > 40:
            raise InvalidInputError(f"--{name} is {value[:40]!r}", hint="give a version, 3.12 say")
    target = replace(here, **given)
    if "python" in given:
        target = replace(target, python=".".join(given["python"].split(".")[:2]))
    if flags["device"]:
        target = replace(target, capabilities=(capability_of(flags["device"]),))
    return target


def _fix(checkup: Checkup, *, yes: bool, as_json: bool) -> int:
    """Show each safe fix, apply those agreed to, write them down first."""
    from rigwise.machine.doctor.checkup import document
    from rigwise.machine.doctor.fix import planned
    from rigwise.report.doctor_text import changes_text

    changes = planned(checkup.findings)
    if not as_json:
        _print(changes_text(changes))
    possible = [change for change in changes if not change.refused]
    ask = not yes and not as_json and sys.stdin.isatty()
    agreed = [change for change in possible if yes or (ask and click.confirm(f"{change}?", default=False, err=True))]
    done = [change for change in agreed if _applied(change)]
    if as_json:
        print_json(document(checkup, changes=changes, done=done))
    elif possible and not yes and not ask:
        _print("nothing was changed: --yes agrees to all of them\n")
    elif possible:
        _print(
            f"{len(done)} of {len(possible)} done; rigwise doctor --undo puts them back\n"
            if done
            else "nothing was changed\n"
        )
    return 1 if (checkup.has_problems and len(done) < len(changes)) or _left(checkup) else 0


def _left(checkup: Checkup) -> bool:
    """Whether problems remain that no safe fix mends."""
    from rigwise.machine.doctor.types import Severity, problems

    return any(not finding.repair for finding in problems(checkup.findings, Severity.ERROR, Severity.WARNING))


def _applied(change: Change) -> bool:
    """Write a change down, then make it; what fails is said and taken out again."""
    from rigwise.machine.doctor.fix import apply, read_journal, write_journal

    before = read_journal()
    write_journal([*before, change])
    try:
        apply(change)
    except InvalidInputError as error:
        write_journal(before)
        print(f"rigwise: {error}", file=sys.stderr)
        return False
    return True


def _undo(*, as_json: bool) -> int:
    from rigwise.edge import as_plain
    from rigwise.machine.doctor.fix import is_moot, read_journal, undo, write_journal

    left, done = list(read_journal()), []
    failed = []
    for change in reversed(list(left)):
        try:
            undo(change)
        except InvalidInputError as error:
            failed.append(change)
            print(f"rigwise: {error}", file=sys.stderr)
            if not is_moot(change):
                continue
        else:
            done.append(change)
        left.remove(change)
        write_journal(left)
    if as_json:
        print_json(
            {"schema": "rigwise.doctor.undo/1", "done": as_plain(tuple(done)), "failed": as_plain(tuple(failed))}
        )
    else:
        _print(
            "".join(f"put back: {change.place}: {change.after} -> {change.before}\n" for change in done)
            or ("" if failed else "nothing to undo\n")
        )
    return 1 if failed else 0


def _print(text: str) -> None:
    console().print(text, end="", markup=False, soft_wrap=True)
