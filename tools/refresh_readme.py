"""Run the commands of README.md and docs/personas.md and write what they print below them.

    python tools/refresh_readme.py [--check]

A command stands in a ``console`` block after ``$``. With --check nothing is written, and the exit
code is 1 if a block is out of date; ``plan`` and ``rig build`` are left out then, because their answers depend on
the day.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/personas.md")
#: Commands whose answer depends on the day, because old prices do not count.
OF_THE_DAY = ("plan", "rig build")
BLOCK = re.compile(r"```console\n\$ rigwise (.*)\n(?:(?!```).*\n)*```")


def answer(arguments: str) -> str:
    """What the command prints into a pipe of 80 columns."""
    settings = {**os.environ, "COLUMNS": "80", "PYTHONUTF8": "1", "RIGWISE_OFFERS": "none"}
    command = [sys.executable, "-m", "rigwise", *shlex.split(arguments)]
    printed = subprocess.run(command, env=settings, capture_output=True, text=True, encoding="utf-8", check=True).stdout
    return "\n".join(line.rstrip() for line in printed.splitlines()).strip("\n")


def refreshed(text: str, *, skip: tuple[str, ...] = ()) -> str:
    """The page with every block as the commands print it now, but for commands that start with ``skip``."""

    def block(match: re.Match[str]) -> str:
        arguments = match.group(1)
        if arguments.startswith(skip):
            return match.group()
        return f"```console\n$ rigwise {arguments}\n{answer(arguments)}\n```"

    return BLOCK.sub(block, text)


def main(check: bool) -> int:
    """Write the pages, or say whether they are current."""
    stale = []
    for page in (ROOT / name for name in PAGES):
        text = page.read_text(encoding="utf-8")
        fresh = refreshed(text, skip=OF_THE_DAY if check else ())
        if fresh != text:
            stale.append(page)
        if not check:
            page.write_text(fresh, encoding="utf-8")
    for page in stale if check else ():
        print(f"{page.relative_to(ROOT)} is out of date", file=sys.stderr)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
