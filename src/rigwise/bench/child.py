"""The process that measures: a hang, a crash or a lack of memory ends it and not the command.

The folder of the test, which it makes, is its argument, and the request one line of JSON on stdin, which stays open
as long as somebody waits for answers. Answers are lines of JSON on stdout, one for each benchmark that starts, each
figure, each benchmark that ends; whatever else a library prints goes to stderr.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TextIO

from rigwise.bench import state
from rigwise.bench.framework import torch_or_none, why_not
from rigwise.bench.gpu_state import GpuState, gpu_state
from rigwise.bench.types import Context, Raw

#: What may have been compared, by the name of its module.
_LIBRARIES = ("cudf", "cugraph", "cuml", "networkx", "onnxruntime", "openvino", "pandas", "polars", "pyarrow", "scipy")
_MORE_LIBRARIES = ("sklearn", "tensorrt", "webdataset")
#: Less than this says nothing, however little time is left.
_LEAST_EACH_S = 0.02
#: So often is the folder removed, should something be written there meanwhile.
_REMOVALS = 100


def main() -> None:
    """Read the request, run its benchmarks one after the other, write what they find."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    asked = sys.stdin.readline()
    if not asked.endswith("\n"):
        _leave(sys.argv[1])
    request = json.loads(asked)
    context = Context(**{**request["context"], "wanted": tuple(request["context"]["wanted"])})
    context = dataclasses.replace(context, folder=_made(context.folder))
    threading.Thread(target=_end_with_parent, args=(sys.argv[1],), daemon=True).start()
    torch = torch_or_none()
    if fault := cannot(torch, context):
        _say(answers, {"fault": fault})
        return
    if torch is not None:
        torch.set_num_threads(context.threads)
    with gpu_state(torch, context.target) as gpu:
        _run_all(answers, request, context, gpu)
    _say(answers, {"done": True, "software": software(torch)})


def _run_all(answers: TextIO, request: Mapping[str, Any], context: Context, gpu: GpuState | None) -> None:
    """One benchmark after the other, until the time is up."""
    left = sum(figures for _, _, figures in request["benchmarks"])
    for name, module, figures in request["benchmarks"]:
        _say(answers, {"start": name})
        context = dataclasses.replace(
            context, each_s=each_s(context.each_s, request["ends_s"] - time.monotonic(), left)
        )
        left -= figures
        if time.monotonic() > request["ends_s"]:
            _say(answers, _figure(Raw(name=name, unit="", skipped="the time was up")))
        else:
            _run(answers, name, import_module(module).run, context, gpu)
        _say(answers, {"end": name, "software": software(torch_or_none())})  # should the next one end this process


def each_s(now_s: float, left_s: float, figures: int) -> float:
    """Time for one figure, less where the time that is left would not do for the figures that are left.

    Half of it goes into making what is measured; on a busy machine everything takes longer.

    >>> each_s(0.4, 1000.0, 40), each_s(0.4, 8.0, 20)
    (0.4, 0.2)
    """
    return min(now_s, max(_LEAST_EACH_S, 0.5 * left_s / max(1, figures)))


def _run(answers: TextIO, name: str, run: Callable[[Context], Any], context: Context, gpu: GpuState | None) -> None:
    """One benchmark; a fault that it does not know is its result."""
    begun = state.mark()
    if gpu:
        gpu.since()
    try:
        for raw in run(context):
            ended = state.mark()
            found = dataclasses.replace(
                state.between(begun, ended, ticks_per_s=state.clock_ticks()), **(gpu.since() if gpu else {})
            )
            _say(answers, _figure(dataclasses.replace(raw, state=found)))
            begun = state.mark()
    except MemoryError:
        _say(answers, _figure(Raw(name=name, unit="", skipped="too little memory")))
    except Exception as error:  # whatever a library raises, the other benchmarks go on
        _say(answers, _figure(Raw(name=name, unit="", skipped=f"{type(error).__name__}: {why_not(error)}")))


def _end_with_parent(folder: str) -> None:
    """Wait until nobody holds the other end of stdin, then leave nothing behind: no file, no process."""
    while os.read(0, 65536):  # not through sys.stdin: its lock would pass into the workers of a loader
        pass
    _leave(folder)


def _made(folder: str) -> str:
    """The folder of the test, which is there now; empty where none can be written."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError:
        return ""
    return folder


def _leave(folder: str) -> None:
    """End this process and all that it started, and remove the folder of the test."""
    for _ in range(_REMOVALS):  # the benchmark goes on until the end
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            break
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def cannot(torch: Any, context: Context) -> str:
    """Why nothing can run on the target; empty where it can."""
    kind = context.target.partition(":")[0]
    if kind == "cpu":
        return ""
    if torch is None:
        return "no torch"
    backend = torch.backends.mps if kind == "mps" else getattr(torch, kind, None)
    try:
        able = bool(backend is not None and backend.is_available())
    except RuntimeError as error:
        return why_not(error)
    return "" if able else f"PyTorch {torch.__version__} cannot use it"


def software(torch: Any) -> dict[str, str]:
    """Versions of what computed."""
    import platform

    import numpy as np

    found = {"python": platform.python_version(), "numpy": np.__version__}
    if torch is not None:
        found["torch"] = str(torch.__version__)
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in (*_LIBRARIES, *_MORE_LIBRARIES)}
    return found | {name: str(version).partition("-")[0] for name, version in loaded.items() if version}


def _figure(raw: Raw) -> dict[str, Any]:
    """A figure as its line; one that is no finite number is none."""
    numbers = [raw.amount, *(() if raw.value is None else (raw.value,)), *(raw.timing.samples_s if raw.timing else ())]
    if not all(math.isfinite(one) for one in numbers):
        raw = Raw(name=raw.name, unit=raw.unit, parameters=raw.parameters, skipped="the result is no finite number")
    return {"figure": dataclasses.asdict(raw)}


def _say(answers: TextIO, line: Mapping[str, Any]) -> None:
    """One line; where nobody reads any more, this process ends."""
    try:
        answers.write(json.dumps(line, allow_nan=False) + "\n")
        answers.flush()
    except BrokenPipeError:
        _leave(sys.argv[1])


if __name__ == "__main__":
    main()
