"""Capture a model in a child process. Needs no PyTorch in this one."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rigwise import errors
from rigwise.errors import CaptureError, InvalidInputError, MissingExtraError
from rigwise.graph.capture.faults import is_authors
from rigwise.graph.graph import Model
from rigwise.graph.rwg import from_bytes

_SPEC = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")

#: Time for the child to say where it stood when its time was up.
_GRACE_S = 5.0

#: A frame as faulthandler writes it.
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+) in ')

#: No network, no device, no advice on the console.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "PYTHONIOENCODING": "utf-8",
    "PYTHONWARNINGS": "ignore",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a capture may use before it is stopped.

    Attributes:
        time_s: Wall time.
        memory_bytes: Memory it may write to, where the system can limit that; the largest model of the zoo
            needs 0.4 GB.
    """

    time_s: float = 600.0
    memory_bytes: int = 8 * 2**30


def capture_hf(config: Mapping[str, Any], where: str, *, limits: Limits | None = None) -> Model:
    """The model that a Hugging Face configuration describes.

    Args:
        config: Content of a ``config.json``.
        where: Its path, for messages and the model's name.
        limits: When to give up.

    Raises:
        MissingExtraError: PyTorch or transformers is not installed.
        InvalidInputError: A size is missing or impossible.
        CaptureError: The architecture is unknown, or could not be traced.
    """
    _need("torch", "transformers")
    path = Path(where)
    name = path.parent.name if path.name == "config.json" and path.parent.name else path.stem
    request = {"kind": "hf", "config": dict(config), "where": where, "name": name or "model"}
    return _in_child(request, limits or Limits())


def capture_factory(spec: str, *, limits: Limits | None = None) -> Model:
    """The model that ``package.module:factory`` returns. This runs the user's code.

    Raises:
        MissingExtraError: PyTorch is not installed.
        InvalidInputError: There is no such module or function.
        CaptureError: The code failed, crashed, took too long, or returned something else than a model.
    """
    if not _SPEC.fullmatch(spec):
        raise InvalidInputError(f"{spec!r} is not of the form package.module:factory")
    _need("torch")
    return _in_child({"kind": "factory", "spec": spec, "name": spec.partition(":")[2]}, limits or Limits())


def _need(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "torch")


def _in_child(request: dict[str, Any], limits: Limits) -> Model:
    what = request.get("spec") or request["where"]
    text = json.dumps(request | {"memory_bytes": limits.memory_bytes, "time_s": limits.time_s})
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "rigwise.graph.capture.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | _ENVIRONMENT,
            start_new_session=os.name == "posix",
        )
        try:
            reply, _ = child.communicate(text.encode(), timeout=limits.time_s + _GRACE_S)
        except subprocess.TimeoutExpired:
            reply = b""
        finally:
            _stop(child)
        if not reply:
            raise _died(what, child.returncode, _tail(log), limits)
        return _model(reply, what)


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started; nothing happens if all have ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _model(reply: bytes, what: str) -> Model:
    answer = json.loads(reply)
    if "missing" in answer:
        raise MissingExtraError(answer["missing"], "torch")
    if "model" in answer:
        return from_bytes(base64.b64decode(answer["model"]), what)
    fault = answer["error"]
    raise getattr(errors, fault["type"])(fault["message"], hint=fault["hint"])


def _died(what: str, status: int, log: str, limits: Limits) -> CaptureError:
    """No reply came: out of time, or the process ended on its own."""
    dump = log.rpartition("(most recent call first):")[2]
    frames = ((match["file"], int(match["line"])) for match in _FRAME.finditer(dump))
    place = next((f" at {Path(file).name}:{line}" for file, line in frames if is_authors(file)), "")
    if "Timeout (" in log or status == -signal.SIGKILL:
        hint = "does its forward pass end on its own?"
        return CaptureError(f"capturing {what} took over {limits.time_s:g} s and was stopped{place}", hint=hint)
    ended = _signal_name(-status) if status < 0 else f"exit status {status}"
    said = "" if place else next((f": {line.strip()[:200]}" for line in reversed(log.splitlines()) if line.strip()), "")
    return CaptureError(f"capturing {what} ended Python{place} with {ended}{said}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _tail(log: IO[bytes]) -> str:
    """The last words of the child."""
    end = log.seek(0, os.SEEK_END)
    log.seek(max(0, end - 16_000))
    return log.read().decode("utf-8", "replace")
