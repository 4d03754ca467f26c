"""Every package with its hashes, by uv: the one step that asks an index, and only when it is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rigwise.errors import InvalidInputError, RunError
from rigwise.sandbox.environment import Environment

#: Resolving reads a few hundred kB for each package; an index that takes longer does not answer.
LIMIT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """What uv resolved: the lines, how many packages they name, and by which uv."""

    text: str
    packages: int
    by: str


def lock(environment: Environment) -> Lock:
    """The requirements of an environment with everything that they need, each with its hashes.

    Resolved for the Python and the C library of the environment on x86-64, whatever this machine is.

    Raises:
        InvalidInputError: uv is not installed.
        RunError: An index cannot be reached, or nothing satisfies the requirements.
    """
    program = _uv()
    glibc = (environment.glibc or "2.28").replace(".", "_")
    words = [program, "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--python-version"]
    words += [environment.python, "--python-platform", f"x86_64-manylinux_{glibc}"]
    words += ["--default-index", environment.index] if environment.index else []
    text = _run([*words, "-"], "".join(f"{line}\n" for line in environment.requirements))
    packages = sum("==" in line and not line.startswith((" ", "#")) for line in text.splitlines())
    return Lock(text=text, packages=packages, by=_version(program))


def lock_project(pyproject: str) -> Lock:
    """``uv.lock`` of a uv project; same errors as ``lock``.

    uv needs the project's Python for it, and fetches one where there is none.
    """
    program = _uv()
    with tempfile.TemporaryDirectory(prefix="rigwise-lock-") as folder:
        (Path(folder) / "pyproject.toml").write_text(pyproject, encoding="utf-8")
        _run([program, "lock", "--quiet", "--project", folder], "")
        text = (Path(folder) / "uv.lock").read_text(encoding="utf-8")
    # the project itself is a package of its lock
    return Lock(text=text, packages=text.count("[[package]]") - 1, by=_version(program))


def _uv() -> str:
    places = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    program = shutil.which("uv", path=places)
    if program is None:
        raise InvalidInputError("--lock needs uv, which is not installed", hint="pip install uv")
    return program


def _version(program: str) -> str:
    """``uv 0.13.9``."""
    return _run([program, "--version"], "").split(" (")[0].strip()


def _run(words: Sequence[str], text: str) -> str:
    """What uv prints."""
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise RunError(f"uv did not answer within {LIMIT_S:.0f} s", hint="is the index reachable?") from None
    except OSError as error:
        raise RunError(f"uv cannot be started: {error.strerror or error}") from None
    if done.returncode:
        said = " ".join(done.stderr.split()).removeprefix("error: ")[:300] or f"exit code {done.returncode}"
        raise RunError(f"uv could not resolve: {said}", hint="without --lock nothing is asked of an index")
    return done.stdout
