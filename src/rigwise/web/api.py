"""The JSON API: each address is a command, each key of a query a flag of it, each answer its ``--json`` document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from rigwise import __version__
from rigwise.errors import RigwiseError
from rigwise.web import worker
from rigwise.web.answers import Answers, RefusedError, refused
from rigwise.web.guard import error_json
from rigwise.web.questions import (
    CATALOGUES,
    COMPARE,
    HISTORY,
    JOB,
    MOST_JOBS,
    MOST_VALUES,
    PLAN,
    PREDICT,
    Field,
    asked_by,
    fields,
)

if TYPE_CHECKING:
    from fastapi import FastAPI

JSON = "application/json"
_SUMMARIES = {
    PREDICT: "Step time, memory, energy and throughput of a model on a device",
    COMPARE: "The same on several devices, the quickest first",
    PLAN: "What to rent or buy for a job, with the proof; `infeasible` where there is no plan",
    HISTORY: "What was measured on the machine that serves, the newest first",
    "devices": "The accelerators of the catalogue",
    "cpus": "The CPUs of the catalogue",
    "offers": "What can be rented, in dollars for an hour of the whole instance",
    "parts": "PC parts and their prices",
    "models": "The models that come captured",
}
_ERROR = {
    "type": "object",
    "required": ["schema", "status", "error"],
    "properties": {
        "schema": {"const": "rigwise.error/1"},
        "status": {"type": "integer"},
        "error": {
            "type": "object",
            "required": ["type", "message", "hint", "field"],
            "properties": {name: {"type": "string"} for name in ("type", "message", "hint", "field")},
        },
    },
}
_MEANINGS = {
    400: "The request cannot be read",
    404: "There is none of this name",
    408: "The request did not come whole in time",
    413: "The upload is too large",
    414: "The query is too long",
    415: "The upload is no model file that is read here",
    422: "The question cannot be answered as it stands; `field` is the key at fault, where that is known",
    503: "Too many are asking; `Retry-After` says when to ask again",
    504: "There was no answer in time",
}


def create_api(answers: Answers) -> FastAPI:
    """The API as an application of its own, to be mounted."""
    from fastapi import FastAPI

    api = FastAPI(
        title="rigwise",
        version=__version__,
        description="Every answer is the document that the command of the same name prints with `--json`.",
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
    )
    for kind in (PREDICT, COMPARE, PLAN, *CATALOGUES, HISTORY):
        _add(api, f"/{kind}", _asker(answers, kind), _SUMMARIES[kind], [_parameter(field) for field in fields(kind)])
    name = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 100}}]
    of = "One {} in full".format
    _add(api, "/devices/{name}", _one(answers, worker.DEVICE), of("accelerator or CPU"), name, (404,))
    _add(api, "/models/{name}", _one(answers, worker.MODEL), of("model of the zoo"), name, (404,))
    _add(api, "/machine", _one(answers, worker.MACHINE), "The machine that serves", [])
    _add(api, "/state", _state(answers), "Versions, limits and how busy the server is", [], ())
    _add_uploads(api, answers)
    api.add_exception_handler(RigwiseError, _on_error)
    api.add_exception_handler(HTTPException, on_http_error)
    return api


Handler = Callable[[Request], Awaitable[Response]]


def _add(
    api: FastAPI, path: str, handler: Handler, summary: str, parameters: list[Any], statuses: tuple[int, ...] = (422,)
) -> None:
    api.add_api_route(
        path,
        handler,
        methods=["GET"],
        summary=summary,
        operation_id=path.strip("/").replace("/{name}", "_one"),
        response_class=Response,
        openapi_extra={"parameters": parameters},
        responses=_responses(200, (400, *statuses, 414, 503, 504)),
    )


def _add_uploads(api: FastAPI, answers: Answers) -> None:
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "format": "binary", "description": "An .onnx, .rwg or config.json"}},
    }
    api.add_api_route(
        "/uploads",
        _uploader(answers),
        methods=["POST"],
        summary="Read a model file; its `upload` is a model of other questions",
        operation_id="upload",
        status_code=201,
        response_class=Response,
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}},
        responses=_responses(201, (400, 408, 413, 415, 422, 503, 504)),
    )


def _responses(good: int, bad: tuple[int, ...]) -> dict[int | str, dict[str, Any]]:
    document = {"type": "object", "required": ["schema"], "properties": {"schema": {"type": "string"}}}
    found: dict[int | str, dict[str, Any]] = {good: {"description": "Done", "content": {JSON: {"schema": document}}}}
    for status in bad:
        found[status] = {"description": _MEANINGS[status], "content": {JSON: {"schema": _ERROR}}}
    return found


def _parameter(field: Field) -> dict[str, Any]:
    """A key of a query as OpenAPI describes it."""
    one: dict[str, Any] = {"type": "string", "maxLength": field.longest}
    if field.choices:
        one = {"type": "string", "enum": list(field.choices)}
    words = f"{field.help} Default: {field.default}" if field.default else field.help
    most = MOST_JOBS if field.name == JOB else MOST_VALUES
    schema = {"type": "array", "items": one, "maxItems": most} if field.many else one
    return {"name": field.name, "in": "query", "required": field.needed, "description": words.strip(), "schema": schema}


def _asker(answers: Answers, kind: str) -> Handler:
    async def ask(request: Request) -> Response:
        asked = asked_by(kind, request.url.query)
        return Response(await answers.content(asked), media_type=JSON)

    return ask


def _one(answers: Answers, kind: str) -> Handler:
    async def one(request: Request) -> Response:
        return Response(await answers.single(kind, request.path_params.get("name", "")), media_type=JSON)

    return one


def _state(answers: Answers) -> Handler:
    async def state(request: Request) -> Response:
        from rigwise.cli.output import json_bytes

        del request
        return Response(json_bytes(answers.state()), media_type=JSON)

    return state


def _uploader(answers: Answers) -> Handler:
    async def upload(request: Request) -> Response:
        from rigwise.cli.output import json_bytes

        document = await answers.upload(*await received_file(request))
        return Response(json_bytes(document), status_code=201, media_type=JSON)

    return upload


async def received_file(request: Request) -> tuple[Any, str]:
    """The file of a form, for whoever reads it to close, and its name; a large one stands on disk, not in memory.

    Raises:
        HTTPException: There is no form, or no file in it.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(415, "an upload is a form (multipart/form-data) with a file")
    form = await request.form(max_files=1, max_fields=8)
    file = form.get("file")
    if not isinstance(file, UploadFile):
        await form.close()
        raise HTTPException(422, "the form has no file")
    return file.file, file.filename or ""


async def _on_error(request: Request, error: Exception) -> Response:
    del request
    known = refused(error) if isinstance(error, RigwiseError) else RefusedError({"type": "", "message": "", "hint": ""})
    headers = {"retry-after": "2"} if known.status == 503 else {}
    content = error_json(known.status, known.message, known.as_dict())
    return Response(content, status_code=known.status, media_type=JSON, headers=headers)


async def on_http_error(request: Request, error: Exception) -> Response:
    """What the framework refuses, as the API says it."""
    del request
    known = error if isinstance(error, HTTPException) else HTTPException(500, "the server failed")
    content = error_json(known.status_code, str(known.detail))
    return Response(content, status_code=known.status_code, media_type=JSON, headers=known.headers)
