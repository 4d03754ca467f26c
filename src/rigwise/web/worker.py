"""The process that answers: ``python -P -m rigwise.web.worker``; questions on its input, answers on its output.

It reads no file but the package's, the user's own calibration, imported offers and store, and uploads from the folder
that the server names.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO

from rigwise.errors import RigwiseError, UnknownNameError
from rigwise.execute.warm import LENGTH_BYTES
from rigwise.web.questions import (
    CATALOGUES,
    COMPARE,
    HISTORY,
    JOB,
    PLAN,
    PREDICT,
    FieldError,
    Question,
    cases,
    field_at_fault,
    flags,
    job,
    question,
)

if TYPE_CHECKING:
    from rigwise.graph.graph import Model

#: Requests that are no questions of ``questions.py``: what they ask for stands in ``of``.
DEVICE, MODEL, MACHINE, UPLOAD, VERSION = "device", "model", "machine", "upload", "version"
#: What pages show besides: the checks of the doctor, memory over a step, predictions beside what was measured.
DOCTOR, MEMORY, JUDGED = "doctor", "memory", "judged"
ANSWER, ERROR = b"A", b"E"
#: In place of a name of the error tree.
BUG = "InternalError"
#: Memory that this process may write to.
_MEMORY_BYTES = 4 * 2**30
_WARM = ("resnet50", "gpt2")


def main() -> None:
    """Answer until the input ends."""
    _limit_memory()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    _warm_up()
    _send(replies, b"")
    while len(head := sys.stdin.buffer.read(LENGTH_BYTES)) == LENGTH_BYTES:
        request = json.loads(sys.stdin.buffer.read(int.from_bytes(head, "big")))
        _send(replies, answer(request))


def _send(stream: BinaryIO, message: bytes) -> None:
    stream.write(len(message).to_bytes(LENGTH_BYTES, "big") + message)
    stream.flush()


def answer(request: Mapping[str, Any]) -> bytes:
    """A document, or why there is none; one byte says which.

    Args:
        request: ``kind``; ``pairs`` of a query; ``of`` names one thing; ``uploads``: what an upload is called, its file
            and its name.
    """
    from rigwise.cli.output import json_bytes

    try:
        return ANSWER + json_bytes(_document(request))
    except RigwiseError as error:
        return ERROR + json_bytes({**error.as_dict(), "field": _field(request, error)})
    except MemoryError:
        return ERROR + json_bytes(_fault("RunError", "this needs more memory than a question may take"))
    except Exception as error:  # a bug: told on the terminal of whoever serves, never to whoever asks
        print(f"rigwise: {request.get('kind')} failed: {_trace(error)}", file=sys.stderr)
        return ERROR + json_bytes(_fault(BUG, "the answer could not be computed"))


def _field(request: Mapping[str, Any], error: RigwiseError) -> str:
    """The key of the query that an error is about."""
    if "pairs" not in request or isinstance(error, FieldError):
        return getattr(error, "field", "")
    return field_at_fault(question(request["kind"], request["pairs"]), error)


def _fault(kind: str, message: str) -> dict[str, str]:
    return {"type": kind, "message": message, "hint": "", "field": ""}


def _trace(error: Exception) -> str:
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({os.path.basename(last.filename)}:{last.lineno})"


def _document(request: Mapping[str, Any]) -> Any:
    kind, of = request["kind"], request.get("of", "")
    if kind in _SINGLE:
        return _SINGLE[kind](of)
    if kind == UPLOAD:
        from rigwise.web.reading import read_upload

        return read_upload(of["path"], of["name"], of["written"])
    asked = question(kind, request["pairs"])
    uploads = {name: _uploaded(*where) for name, where in request.get("uploads", {}).items()}
    return _memory(asked, uploads) if request.get("explain") == MEMORY else _answered(asked, uploads)


def _memory(asked: Question, uploads: Mapping[str, Model]) -> Any:
    """The document of ``rigwise predict --explain memory --json``."""
    from rigwise.estimate.memory_course import memory_course, memory_document

    (case,) = cases(asked)
    return memory_document(memory_course(case, uploads.get(asked.text("model")) or _zoo(case.model)))


def _answered(asked: Question, uploads: Mapping[str, Model]) -> Any:
    """The document that the command of a question prints with ``--json``."""
    if asked.kind in CATALOGUES:
        return _listed(asked)
    if asked.kind == HISTORY:
        from rigwise.cli.history import history_document

        given = flags(asked)
        return history_document(given, limit=given["limit"])
    model = uploads.get(asked.text("model"))
    if asked.all(JOB):
        from rigwise.web.jobs import jobs_document

        return jobs_document(asked, lambda name: uploads.get(name) or _zoo(name))
    if asked.kind == PLAN:
        from rigwise.execute.plans import plan_document
        from rigwise.search.plan import catalogue_world

        return plan_document(job(asked), lambda name: catalogue_world(model or _zoo(name), date.today()))
    if asked.kind == COMPARE:
        from rigwise.estimate.compare import compare, compare_document

        return compare_document(compare(cases(asked), model or _zoo(asked.text("model"))))
    from rigwise.estimate.predict import predict, predict_document

    (case,) = cases(asked)
    return predict_document(predict(case, model or _zoo(case.model)))


def _listed(asked: Question) -> dict[str, Any]:
    from importlib import import_module

    from rigwise.cli.catalogue_table import document

    return document(import_module(f"rigwise.cli.{asked.kind}").TABLE, _rows(asked.kind), flags(asked))


@cache
def _rows(kind: str) -> Any:
    from rigwise.cli.offers import offers_with_faults
    from rigwise.facts import catalogue
    from rigwise.graph.listing import zoo_rows

    tables: Mapping[str, Callable[[], Any]] = {
        "devices": catalogue.devices,
        "cpus": catalogue.cpus,
        "offers": offers_with_faults,
        "parts": catalogue.parts,
        "models": zoo_rows,
    }
    return tables[kind]()


@lru_cache(maxsize=16)
def _zoo(name: str) -> Model:
    from rigwise.graph.load import read_zoo

    return read_zoo(name.lower())


@lru_cache(maxsize=4)
def _uploaded(path: str, name: str) -> Model:
    from rigwise.web.reading import written_model

    return written_model(path, name)


def _device(name: str) -> dict[str, Any]:
    from rigwise.facts import catalogue

    try:
        return {"schema": "rigwise.devices/1", "devices": [catalogue.device(name)]}
    except UnknownNameError:
        catalogue.resolve_device(name)  # a name of neither gets the near matches of both
        return {"schema": "rigwise.cpus/1", "cpus": [catalogue.cpu(name)]}


def _model(name: str) -> dict[str, Any]:
    from rigwise.graph.listing import row_of
    from rigwise.graph.load import zoo_path

    zoo_path(name.lower())  # says so if there is none
    return {"schema": "rigwise.models/1", "models": [row_of(_zoo(name))]}


def _machine(_: str) -> dict[str, Any]:
    from rigwise.machine.inspect import inspect
    from rigwise.machine.snapshot import document

    found: dict[str, Any] = document(inspect())
    return found


def _version(_: str) -> dict[str, Any]:
    """What answers rest on: a change of any of it is another catalogue."""
    import hashlib
    from importlib.resources import files

    from rigwise import __version__
    from rigwise.estimate.calibration import load_calibration
    from rigwise.facts.catalogue import offers

    digest = hashlib.sha256(files("rigwise.facts").joinpath("data", "catalogue.json").read_bytes())
    digest.update(repr(offers()).encode())
    digest.update(repr(load_calibration()).encode())
    return {"schema": "rigwise.serve/1", "version": __version__, "catalogue": digest.hexdigest()[:16]}


def _doctor(_: str) -> dict[str, Any]:
    from rigwise.machine.doctor.checkup import check, document

    return document(check())


def _judged(_: str) -> dict[str, Any]:
    from rigwise.web.judged import judged_document

    return judged_document()


_SINGLE: Mapping[str, Callable[[str], Any]] = {
    **{DEVICE: _device, MODEL: _model, MACHINE: _machine, VERSION: _version},
    **{DOCTOR: _doctor, JUDGED: _judged},
}


def _warm_up() -> None:
    """Answer a few questions, so that the first one finds catalogue, calibration and code read."""
    with contextlib.suppress(RigwiseError):
        for name in _WARM:
            _answered(question(PREDICT, [("model", name), ("device", "t4")]), {})
        _answered(question(PLAN, [("model", "resnet50"), ("samples", "1e6")]), {})
        _rows("offers")


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows; not above a hard limit
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))


if __name__ == "__main__":
    main()
