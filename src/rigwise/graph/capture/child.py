"""The process in which capture happens: ``python -P -m rigwise.graph.capture.child``.

PyTorch can abort the whole process on fake tensors, and a factory is the user's own code, which may
crash, loop or print. So capture runs apart: a request comes as JSON on standard input, the reply goes as
JSON to what was standard output; prints of the model's code go to standard error. If it crashes or its
time is up, the last thing there is where it was, line by line.
"""

from __future__ import annotations

import base64
import contextlib
import faulthandler
import json
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from rigwise.errors import CaptureError, RigwiseError
from rigwise.graph.capture.descendants import adopt_orphans, end_descendants
from rigwise.graph.capture.faults import missing_package
from rigwise.graph.capture.sources import FilesRead
from rigwise.graph.graph import Model

#: Kind of a request -> the module beside this one whose ``model(request)`` answers it.
FRONT_ENDS = {
    "factory": "factory",
    "hf": "from_torch.hf_config",
    "onnx": "from_onnx.model",
    "timm": "from_torch.timm_model",
    "exported": "from_torch.exported",
    "sharded": "from_torch.sharded_model",
}


def main() -> None:
    """Answer one request."""
    reply, process = os.dup(1), os.getpid()
    os.dup2(2, 1)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: os.close(reply))  # whoever reads it waits for all who hold it
    adopt_orphans()
    request = json.load(sys.stdin)
    _limit_memory(request["memory_bytes"])
    faulthandler.enable()
    faulthandler.dump_traceback_later(request["time_s"], exit=True)
    read = FilesRead() if request["kind"] == "factory" else None
    answer: dict[str, Any]
    try:
        answer = {"model": base64.b64encode(_captured(request)).decode()}
    except _MissingPackageError as error:
        answer = {"missing": str(error)}
    except RigwiseError as error:
        answer = {"error": error.as_dict()}
    except MemoryError:
        gib = request["memory_bytes"] / 2**30
        answer = {"error": CaptureError(f"{request['name']} needs over {gib:.0f} GiB to be captured").as_dict()}
    faulthandler.cancel_dump_traceback_later()
    if os.getpid() != process:
        os._exit(1)  # a copy that the model's code made with fork
    end_descendants(process)
    if read is not None:
        answer["read"] = read.paths()
    with os.fdopen(reply, "w", encoding="utf-8") as stream:
        json.dump(answer, stream)
    os._exit(0)  # not waiting for threads that the model's code may have started


class _MissingPackageError(Exception):
    """A package that an extra brings is not installed."""


def _captured(request: Mapping[str, Any]) -> bytes:
    """The content of the ``.rwg`` file."""
    from rigwise.graph.rwg import to_bytes

    try:
        return to_bytes(_model(request))
    except (RigwiseError, MemoryError):
        raise
    except ImportError as error:
        if missing_package(error):
            raise _MissingPackageError(missing_package(error)) from None
        raise CaptureError(f"{request['name']}: {error}", hint="the installation of PyTorch is incomplete") from error
    except (SystemExit, KeyboardInterrupt) as error:
        raise CaptureError(f"{request['name']}: the model's code stopped Python ({type(error).__name__})") from error
    except Exception as error:
        from rigwise.graph.capture.faults import as_capture_error

        raise as_capture_error(error, request["name"]) from error


def _model(request: Mapping[str, Any]) -> Model:
    front_end = import_module(f"rigwise.graph.capture.{FRONT_ENDS[request['kind']]}")
    captured: Model = front_end.model(request)
    return captured


def _limit_memory(limit_bytes: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows; not above a hard limit
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


if __name__ == "__main__":
    main()
