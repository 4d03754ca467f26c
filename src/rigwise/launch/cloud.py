"""A run on machines that are rented for it, by SkyPilot or dstack: their files, and what starts them.

The files lie in a folder of their own below the current one, which is what is sent to the machines. Nothing is
rented unless the user says so. Steps are measured there and shown in the output; they are not brought home.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigwise.edge import write_atomically
from rigwise.errors import InvalidInputError, RunError
from rigwise.launch.secrets import hidden, secrets_of
from rigwise.sandbox.environment import Wish
from rigwise.sandbox.place import place_of_plan
from rigwise.sandbox.targets import Extra, render, setting_of, verified

PROGRAMS = {"skypilot": "sky", "dstack": "dstack"}
_FOLDER = ".rigwise"
_INSTALL = "--requirement requirements.txt"
_DRY_RUN_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rented:
    """What would be rented.

    Attributes:
        folder: Of the files, below the current one.
        files: Their names.
        command: What starts it.
        secrets: Variables that the job needs there.
        level: How far such files have been verified.
        name: Of the cluster or task.
    """

    folder: Path
    files: tuple[str, ...]
    command: tuple[str, ...]
    secrets: tuple[str, ...]
    level: str
    name: str


def prepare(on: str, document: Any, path: str, rank: int, command: Sequence[str]) -> Rented:
    """Write the files of a plan's entry.

    Args:
        on: ``skypilot`` or ``dstack``.
        document: The plan.
        path: Where it was read.
        rank: Which entry.
        command: What runs there.

    Raises:
        InvalidInputError: The plan or the command cannot stand in such files.
    """
    words, secrets = hidden(command, secrets_of(os.environ))
    place = place_of_plan(document, path, rank)
    setting = setting_of(on, place, Wish(), Extra(command=words))
    rendered = render(on, setting)
    folder = Path(_FOLDER) / f"{setting.name}-{on}"
    main = next(name for name in rendered if name.endswith((".yaml", ".yml")))
    if _INSTALL not in rendered[main]:
        raise RunError(f"the file for {on} installs nothing", hint="please report it")
    rendered[main] = rendered[main].replace(_INSTALL, f"--requirement {(folder / 'requirements.txt').as_posix()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"{folder} cannot be made: {error.strerror or error}") from None
    for name, text in rendered.items():
        write_atomically(folder / name, text)
    file = (folder / main).as_posix()
    starts = {
        "skypilot": ("sky", "launch", "--yes", "--down", "--cluster", setting.name, *_flags("--env", secrets), file),
        "dstack": ("dstack", "apply", "--yes", *_flags("--env", secrets), "--file", file),
    }
    return Rented(
        folder=folder,
        files=tuple(rendered),
        command=starts[on],
        secrets=secrets,
        level=verified(on).level,
        name=setting.name,
    )


def _flags(flag: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (flag, value)]


def check(on: str, rented: Rented) -> str:
    """What the program itself says of the files, as a sentence; it spends nothing.

    Raises:
        RunError: It refuses them.
    """
    program = PROGRAMS[on]
    if shutil.which(program) is None:
        return f"{program} is not installed here, so the files were not checked by it."
    if on != "skypilot":
        return f"{program} shows its plan when it is started."
    words = [word for word in rented.command if word not in ("--yes", "--down")]
    try:
        done = subprocess.run(
            [*words[:2], "--dryrun", *words[2:]],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_DRY_RUN_S, errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"{program} does not answer: {type(error).__name__}") from None
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()] or ["no reason given"]
        raise RunError(f"{program} refuses the files: {lines[-1].strip()[:160]}", hint=f"{program} check tells more")
    return f"{program} accepts them (a dry run)."


def require(on: str) -> None:
    """Whether the program that rents is here.

    Raises:
        InvalidInputError: It is not.
    """
    if shutil.which(PROGRAMS[on]) is None:
        raise InvalidInputError(
            f"{PROGRAMS[on]} is not installed here", hint=f"pip install {on}, in an environment of its own"
        )
