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
from rigwise.graph.capture.descendants import end_descendants
from rigwise.graph.capture.faults import EXTRAS, INSTALL_TIMM, is_authors
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
    "TORCHDYNAMO_DISABLE": "1",
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


def capture_sharded(
    config: Mapping[str, Any], where: str, *, layout: Mapping[str, Any], sizes: Mapping[str, int]
) -> Model:
    """The collectives that PyTorch issues in a training step of a sharded Hugging Face model, and nothing else.

    Args:
        config: Content of a ``config.json``.
        where: Its path.
        layout: Fields of ``sharded.Layout``: ``{"data": 8, "tensor": 2}``.
        sizes: Of one replica's micro-batch: ``{"b": 1, "s": 2048}``.

    Raises:
        MissingExtraError: PyTorch or transformers is not installed.
        UnsupportedError: This version of PyTorch was not tried.
        CaptureError: The model brings no plan for tensor parallelism, or cannot be sharded.
    """
    _need("torch", "transformers")
    request = {"kind": "sharded", "config": dict(config), "where": where, "name": Path(where).stem or "model"}
    return _in_child(request | {"layout": dict(layout), "sizes": dict(sizes)}, Limits())


def capture_factory(spec: str, *, limits: Limits | None = None) -> Model:
    """The model that ``package.module:factory`` returns. This runs the user's code.

    Raises:
        MissingExtraError: The code imports PyTorch or JAX, and it is not installed.
        InvalidInputError: There is no such module or function.
        CaptureError: The code failed, crashed, took too long, or returned something else than a model.
    """
    return capture_factory_with_sources(spec, limits=limits)[0]


def capture_factory_with_sources(spec: str, *, limits: Limits | None = None) -> tuple[Model, list[str]]:
    """The same, and the paths of the author's files that it came from."""
    if not _SPEC.fullmatch(spec):
        raise InvalidInputError(f"{spec!r} is not of the form package.module:factory")
    answer = _answer({"kind": "factory", "spec": spec, "name": spec.partition(":")[2]}, limits or Limits())
    return _captured(answer, spec), answer["read"]


def capture_onnx(path: str, *, limits: Limits | None = None) -> Model:
    """The model that an ONNX file holds; data of weights is not read.

    Raises:
        MissingExtraError: The onnx package is not installed.
        InvalidInputError: The file is damaged, or a node of it does not fit its operands.
        UnsupportedError: It holds an operator that neither rigwise nor the file itself knows the result of.
        CaptureError: A shape depends on data, or its sizes follow no rule.
    """
    _need("onnx", extra="onnx")
    request = {"kind": "onnx", "path": os.path.abspath(path), "where": path, "name": Path(path).stem or "model"}
    return _in_child(request, limits or Limits())


def capture_exported(path: str, *, limits: Limits | None = None) -> Model:
    """The program that ``torch.export.save`` wrote; its weights are not read, and no code of it runs.

    Raises:
        MissingExtraError: PyTorch is not installed.
        InvalidInputError: The file is damaged, or contradicts itself.
        UnsupportedError: It holds something else, or operators that PyTorch alone does not have.
        CaptureError: A shape depends on data, or its sizes follow no rule.
    """
    _need("torch")
    return _in_child({"kind": "exported", "where": path, "name": Path(path).stem or "model"}, limits or Limits())


def capture_timm(name: str, *, limits: Limits | None = None) -> Model:
    """The network that timm has under a name, without its weights.

    Raises:
        MissingExtraError: PyTorch is not installed.
        UnknownNameError: timm has no network of this name.
        CaptureError: timm is not installed, or the network could not be traced.
    """
    _need("torch")
    if importlib.util.find_spec("timm") is None:
        raise CaptureError(f"timm:{name} needs timm, which is not installed", hint=INSTALL_TIMM)
    return _in_child({"kind": "timm", "where": f"timm:{name}", "name": name}, limits or Limits())


def _need(*packages: str, extra: str = "torch") -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra)


def _in_child(request: dict[str, Any], limits: Limits) -> Model:
    return _captured(_answer(request, limits), request.get("spec") or request["where"])


def _answer(request: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """What the child replied, as one object."""
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
        answer: dict[str, Any] = json.loads(reply)
        return answer


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started; nothing happens if all have ended."""
    if child.poll() is None:
        end_descendants(child.pid)
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


def _captured(answer: Mapping[str, Any], what: str) -> Model:
    """The model in a reply, or the error that it tells of."""
    if "missing" in answer:
        raise MissingExtraError(answer["missing"], EXTRAS[answer["missing"]])
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
