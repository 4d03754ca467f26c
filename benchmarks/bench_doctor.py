"""Every rule of ``rigwise doctor`` on its faulty machine and on a near neighbour, and all rules on clean machines.

The machines are those of the tests (``tests/data/doctor``), written as captured trees; what a command costs is the CPU
time of whole processes on this machine:

    python benchmarks/bench_doctor.py [--runs 5] [--rows]

A fault is caught where its rule answers problem and no other rule does that the fixture does not name; a false alarm
is any rule that answers problem on a neighbour of its fault or on a clean machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from rigwise.machine.doctor.checkup import Checkup, check
from rigwise.machine.doctor.rules import rules
from rigwise.machine.doctor.script import read_script
from rigwise.machine.doctor.types import Status
from rigwise.machine.probe.source import open_root

TESTS = Path(__file__).parent.parent / "tests"


def trees() -> ModuleType:
    """The builder of captured trees that the tests use."""
    spec = importlib.util.spec_from_file_location("doctor_trees", TESTS / "doctor" / "trees.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError("tests/doctor/trees.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checkup_of(build: ModuleType, machine: dict[str, Any]) -> Checkup:
    """What the doctor says of a described machine."""
    with tempfile.TemporaryDirectory() as folder:
        script = None
        if "script" in machine:
            Path(folder, "train.py").write_text(machine["script"], "utf-8")
            script = read_script(str(Path(folder, "train.py")))
        return check(open_root(build.build(Path(folder, "tree"), machine)), script=script)


def fired(checkup: Checkup) -> set[str]:
    """Rules that found a problem."""
    return {finding.rule for finding in checkup.findings if finding.status is Status.PROBLEM}


def answer_of(checkup: Checkup, rule: str) -> Status:
    """What one rule says."""
    return next(finding.status for finding in checkup.findings if finding.rule == rule)


def faults(build: ModuleType, *, rows: bool) -> tuple[int, int, int]:
    """Faults caught alone, neighbours that are fine, rules."""
    described = build.described("faults")
    caught = quiet = 0
    for rule in rules():
        both = described[rule]
        machines = [
            build.merged(build.clean(one["base"]), {k: v for k, v in one.items() if k not in ("base", "also")})
            for one in (both["fires"], both["quiet"])
        ]
        faulty, neighbour = (checkup_of(build, machine) for machine in machines)
        alone = fired(faulty) == {rule, *both["fires"].get("also", ())}
        fine = answer_of(neighbour, rule) is Status.OK
        caught, quiet = caught + alone, quiet + fine
        if rows or not (alone and fine):
            print(f"{rule:26} {'caught' if alone else 'MISSED':8} {'quiet' if fine else 'ALARM':6}", end="")
            print(f" on {both['fires']['base']}, {both['quiet']['base']}")
    return caught, quiet, len(rules())


def clean(build: ModuleType) -> None:
    """Answers on machines with nothing wrong."""
    for name in build.CLEAN:
        checkup = checkup_of(build, build.clean(name))
        applied = sum(finding.applies for finding in checkup.findings)
        silent = sum(finding.status is Status.UNKNOWN for finding in checkup.findings)
        alarms = ", ".join(sorted(fired(checkup))) or "no alarm"
        print(f"{name:26} {applied:2} of {len(checkup.findings)} rules apply, {silent} unknown: {alarms}")


def cpu_s(*arguments: str) -> float:
    """CPU time of one command and of all that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "rigwise", *arguments], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="of each command")
    parser.add_argument("--rows", action="store_true", help="a line for each rule, not only for what fails")
    asked = parser.parse_args()
    build = trees()
    caught, quiet, total = faults(build, rows=asked.rows)
    print(
        f"faults caught by their rule and no other: {caught} of {total}; neighbours without alarm: {quiet} of {total}"
    )
    print()
    clean(build)
    print()
    for command in ("inspect", "doctor"):
        times_s = sorted(cpu_s(command) for _ in range(max(1, asked.runs)))
        print(
            f"rigwise {command:8} CPU {times_s[0]:.2f} / {statistics.median(times_s):.2f} / {times_s[-1]:.2f} s"
            f" (minimum, median, maximum of {len(times_s)})"
        )


if __name__ == "__main__":
    main()
