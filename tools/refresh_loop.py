"""Run the commands of docs/tutorials/closing_the_loop.md in an empty folder and write what they print below them.

    python tools/refresh_loop.py             on all cores, on a machine that is idle
    python tools/refresh_loop.py --busy      one core, seconds of the processor: beside other work
    python tools/refresh_loop.py --check     write nothing; exit code 1 if a command fails

Python blocks that begin with the name of a file are written first; lines of ``export`` are set. Nothing is written to
the page unless every command succeeds. With --busy the clock that ``monitor`` reads in the training process is the
processor's, and the page says so.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/tutorials/closing_the_loop.md"
FILE = re.compile(r"```python\n# (\w+\.py)\n((?:(?!```).*\n)*)```")
SETTING = re.compile(r"^export (\w+)=\$PWD/(\S+)$", re.MULTILINE)
COMMAND = re.compile(r"```console\n\$ (rigwise .*)\n(?:(?!```).*\n)*```")

WRITTEN = re.compile(r"^Last written on .*$", re.MULTILINE)
#: Read by Python when it starts: the clock of processes that ``rigwise run`` starts.
CLOCK = 'import os, time\nif "RIGWISE_RUN" in os.environ:\n    time.perf_counter = time.process_time\n'
#: What a run says that is not to be learned from; as the page advises, it is repeated.
BUSY, TRIES = "others had the CPU", 12


def prepared(text: str, folder: Path) -> dict[str, str]:
    """Write the files of the page; the environment of its commands."""
    for name, content in FILE.findall(text):
        (folder / name).write_text(content, encoding="utf-8")
    settings = {name: str(folder / path) for name, path in SETTING.findall(text)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, **settings, "PATH": path, "COLUMNS": "80", "PYTHONUTF8": "1"}


def printed(command: str, folder: Path, environment: dict[str, str]) -> str:
    """What a command prints into a pipe, paths in the folder without it.

    Raises:
        SystemExit: It fails.
    """
    for left in reversed(range(TRIES)):
        done = subprocess.run(
            [sys.executable, "-m", *command.split()], cwd=folder, env=environment, capture_output=True, text=True,
            encoding="utf-8", check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"$ {command}\n{done.stdout}{done.stderr}exit code {done.returncode}: nothing was written")
        if not left or BUSY not in " ".join(done.stdout.split()):
            break
        print(f"$ {command}: the machine was busy, once more", file=sys.stderr)
        for path in folder.glob("store.sqlite*"):
            path.unlink()
    lines = done.stdout.replace(f"{folder}{os.sep}", "").splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def refreshed(text: str, *, busy: bool) -> str:
    """The page with every block as its command prints it now, one after the other in one folder."""
    day, words = datetime.datetime.now(datetime.UTC).date(), "all cores of a machine that was idle"
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as clock:
        folder = Path(scratch).resolve()
        environment = prepared(text, folder)
        if busy:
            words = "one core beside other work, in seconds of the processor"
            (Path(clock) / "sitecustomize.py").write_text(CLOCK, encoding="utf-8")
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [clock, environment.get("PYTHONPATH", "")]))

        def block(match: re.Match[str]) -> str:
            return f"```console\n$ {match[1]}\n{printed(match[1], folder, environment)}\n```"

        return WRITTEN.sub(f"Last written on {day}, on {words}.", COMMAND.sub(block, text))


def main() -> None:
    """Refresh the page, or only run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", action="store_true", help="one core, seconds of the processor")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    if options.busy:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        os.environ["OMP_NUM_THREADS"] = "1"
    fresh = refreshed(PAGE.read_text(encoding="utf-8"), busy=options.busy)
    if not options.check:
        PAGE.write_text(fresh, encoding="utf-8")


if __name__ == "__main__":
    main()
