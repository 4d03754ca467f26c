"""The pages: a form and its answer, both in the address; every page works without JavaScript."""

from __future__ import annotations

from asyncio import gather
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rigwise import __version__
from rigwise.errors import RigwiseError
from rigwise.report.html import Markup
from rigwise.web.form import Form, Problem, choices, plain, read
from rigwise.web.view.words import FILTERS

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

_HERE = Path(__file__).parent

PLACES = (
    ("/", "Plan"),
    ("/compare", "Compare"),
    ("/predict", "Predict"),
    ("/catalogue", "Catalogue"),
    ("/machine", "Machine"),
    ("/measured", "Measured"),
)
_KIND_OF = {"/": "plan", "/compare": "compare", "/predict": "predict"}

#: Fields that stand under "More conditions"; it is open where one of them is filled.
_SHOWN = frozenset(
    {"model", "device", "task", "batch", "dtype", "mode", "amount", "unit", "deadline", "budget", "sort"}
    | {"rate", "prompt", "output-tokens", "ttft", "tpot"}
)
_COLUMNS = (("time", "Step"), ("throughput", "Rate"), ("memory", "Memory"), ("energy", "Energy"), ("mfu", "MFU"))


def add_pages(app: FastAPI, answers: Any) -> None:
    """Give an application the pages; ``answers`` answers their questions."""
    pages = Pages(answers)
    for path, page in pages.routes().items():
        app.add_route(path, page, methods=["GET"], include_in_schema=False)
    app.add_route("/upload", pages.upload, methods=["POST"], include_in_schema=False)
    app.add_route("/upload-jobs", pages.upload_jobs, methods=["POST"], include_in_schema=False)


class Pages:
    """The handlers of the pages."""

    def __init__(self, answers: Any) -> None:
        self.answers = answers

    def routes(self) -> Mapping[str, Callable[[Request], Awaitable[Response]]]:
        """Path -> handler."""
        return {
            "/": self.plan,
            "/compare": self.compare,
            "/predict": self.predict,
            "/catalogue": self.catalogue,
            "/catalogue/{name}": self.device,
            "/machine": self.machine,
            "/measured": self.measured,
        }

    async def plan(self, request: Request) -> Response:
        """What to rent."""
        from rigwise.web.planning import answered, context

        async def found(form: Form) -> dict[str, Any]:
            return answered(await self.answers.plan(form.asked))

        lists = {"providers": _providers(), "devices": _devices()}
        return await self._asked(request, "plan.html", found, lambda form: {"title": "Plan", **context(form, lists)})

    async def compare(self, request: Request) -> Response:
        """Devices side by side."""
        from rigwise.web.view.predict import compare_view

        sort = request.query_params.get("sort", "")
        sorts = {key: str(request.url.include_query_params(sort=key).query) for key, _ in _COLUMNS}

        async def answered(form: Form) -> dict[str, Any]:
            return {"view": compare_view(await self.answers.compare(form.asked), sort)}

        more = {"columns": _COLUMNS, "sorts": {key: f"/compare?{query}" for key, query in sorts.items()}}
        return await self._asked(request, "compare.html", answered, lambda form: {"title": "Compare", **more})

    async def predict(self, request: Request) -> Response:
        """One model on one device."""
        from rigwise.web.view.catalogue import bandwidth_of
        from rigwise.web.view.predict import predict_view

        async def answered(form: Form) -> dict[str, Any]:
            document, memory = await gather(self.answers.predict(form.asked), self._memory(form))
            return {"view": predict_view(document, memory, bandwidth_of(document["device"]))}

        more = {"title": "Predict", "devices": _devices()}
        return await self._asked(request, "predict.html", answered, lambda form: more)

    async def _memory(self, form: Form) -> Any:
        """The course of memory, for those steps that have one."""
        try:
            return await self.answers.memory(form.asked)
        except RigwiseError:
            return None

    async def _asked(
        self,
        request: Request,
        template: str,
        answered: Callable[[Form], Awaitable[dict[str, Any]]],
        more: Callable[[Form], Mapping[str, Any]],
    ) -> Response:
        """A page with a form: read it, ask, and show the answer or what is wrong with the form."""
        path = request.url.path
        kind = _KIND_OF[path]
        pairs = [pair for pair in request.query_params.multi_items() if pair[0] != "sort"]
        form, found = read(kind, pairs), {}
        if form.asked is not None:
            try:
                found = await answered(form)
            except RigwiseError as error:
                form = form.refused(error)
        asked = form.asked
        values = dict(form.values) | ({"sort": request.query_params["sort"]} if "sort" in request.query_params else {})
        context = {
            "asked": values,
            "wrong": form.wrong,
            "problem": form.problem,
            "choices": choices(kind),
            "zoo": _zoo(),
            "more": any(value and name not in _SHOWN for name, value in form.values.items()),
            "query": request.url.query,
            "command": asked.command if asked else "",
            "api": f"/api/v1/{kind}?{asked.query}" if asked else "",
            "view": None,
        }
        return self._page(request, template, {**context, **more(form), **found}, form.problem)

    async def catalogue(self, request: Request) -> Response:
        """A table of the catalogue."""
        from rigwise.web.view.catalogue import FILTERS as KEYS
        from rigwise.web.view.catalogue import SORTS, TABLES, table_view

        given = request.query_params
        table = given.get("table", "devices")
        table = table if table in TABLES else "devices"
        form = read(table, [pair for pair in given.multi_items() if pair[0] != "table"])
        view = None
        if form.asked is not None:
            try:
                view = table_view(await self.answers.catalogue(form.asked), table)
                full = len(view["rows"]) >= 100 and "limit" not in given
                every = request.url.include_query_params(table=table, limit="10000").query
                view["more"] = f"/catalogue?{every}" if full else ""
            except RigwiseError as error:
                form = form.refused(error)
        context = {
            "table": table,
            "tables": [(key, words[0]) for key, words in TABLES.items()],
            "filters": KEYS[table],
            "sortable": SORTS[table],
            "asked": form.values,
            "wrong": form.wrong,
            "problem": form.problem,
            "view": view,
            "zoo": _zoo(),
            "command": form.asked.command if form.asked else "",
            "api": f"/api/v1/{table}?{form.asked.query}" if form.asked else "",
        }
        return self._page(request, "catalogue.html", {"title": "Catalogue", **context}, form.problem)

    async def device(self, request: Request) -> Response:
        """One device or CPU in full, and the offers with it."""
        from rigwise.web.view.catalogue import device_view, table_view

        name = request.path_params["name"]
        try:
            document = await self.answers.device(name)
            (row,) = document.get("devices") or document["cpus"]
            asked = read("offers", [("device", row["id"]), ("sort", "price"), ("limit", "20")]).asked
            offers = table_view(await self.answers.catalogue(asked), "offers", of_one=True) if asked else None
        except RigwiseError as error:
            return self._problem(request, error, "Not in the catalogue", "/catalogue")
        view = device_view(row)
        offers = offers if offers and offers["rows"] else None
        return self._page(request, "device.html", {"title": view["name"], "view": view, "offers": offers})

    async def machine(self, request: Request) -> Response:
        """The machine that serves the page."""
        from rigwise.web.view.machine import machine_view

        context: dict[str, Any] = {"title": "This machine", "view": None, "problem": None}
        try:
            context["view"] = machine_view(*await gather(self.answers.machine(), self.answers.doctor()))
        except RigwiseError as error:
            context["problem"] = Problem(message=plain(error.message), hint=error.hint, status=_status(error))
        return self._page(request, "machine.html", context, context["problem"])

    async def measured(self, request: Request) -> Response:
        """What the store holds."""
        from rigwise.web.view.measured import measured_view

        pairs = request.query_params.multi_items()
        form, view = read("history", pairs), None
        if form.asked is not None:
            try:
                view = measured_view(*await gather(self.answers.history(form.asked), self._judged()))
            except RigwiseError as error:
                form = form.refused(error)
        context = {
            "title": "Measured",
            "asked": form.values,
            "asked_anything": any(form.values.values()),
            "wrong": form.wrong,
            "problem": form.problem,
            "view": view,
            "command": form.asked.command if form.asked else "",
            "api": f"/api/v1/history?{form.asked.query}" if form.asked else "",
        }
        return self._page(request, "measured.html", context, form.problem)

    async def _judged(self) -> Any:
        """Predictions for what was measured; none where the store cannot be read for it."""
        try:
            return (await self.answers.judged())["points"]
        except RigwiseError:
            return ()

    async def upload(self, request: Request) -> Response:
        """Take a model file and go back to the page that it was sent from, with the model chosen."""
        from starlette.datastructures import QueryParams
        from starlette.exceptions import HTTPException
        from starlette.responses import RedirectResponse

        from rigwise.web.api import received_file

        back, query = "/", QueryParams("")
        try:
            stream, file = await received_file(request)
            sent = await request.form()
            back = str(sent.get("back", "/"))
            back = back if back in _KIND_OF else "/"
            query = QueryParams(str(sent.get("query", ""))[:4000])
            found = await self.answers.upload(stream, file)
        except HTTPException as error:
            found = RigwiseError(str(error.detail))
        except RigwiseError as error:
            found = error
        if isinstance(found, RigwiseError):
            return self._problem(request, found, "This file cannot be used", f"{back}?{query}" if query else back)
        kept = [pair for pair in query.multi_items() if pair[0] not in ("model", "batch", "seq", "image-size")]
        asked = QueryParams([("model", found["upload"]), *(kept or [("amount", "1M"), ("unit", "samples")])])
        return RedirectResponse(f"{back}?{asked}", status_code=303)

    async def upload_jobs(self, request: Request) -> Response:
        """Take job files and go to the page that plans them."""
        from starlette.exceptions import HTTPException
        from starlette.responses import RedirectResponse

        from rigwise.web.planning import received_jobs

        try:
            return RedirectResponse(await received_jobs(request), status_code=303)
        except HTTPException as error:
            return self._problem(request, RigwiseError(str(error.detail)), "These files cannot be used", "/")
        except RigwiseError as error:
            return self._problem(request, error, "These files cannot be used", "/")

    def _problem(self, request: Request, error: RigwiseError, title: str, back: str) -> Response:
        problem = Problem(message=plain(error.message), hint=error.hint, status=_status(error))
        return self._page(request, "problem.html", {"title": title, "problem": problem, "back": back}, problem)

    def _page(
        self, request: Request, template: str, context: Mapping[str, Any], problem: Problem | None = None
    ) -> Response:
        from starlette.responses import HTMLResponse

        path = request.url.path
        here = next((place for place, _ in PLACES if place == path), "/catalogue" if "/catalogue/" in path else "")
        shared = {"places": PLACES, "here": here, "version": __version__, "stamp": _stamp(), "problem": None}
        page = _environment().get_template(template).render({**shared, **context})
        headers = {"retry-after": "2"} if problem and problem.status == 503 else {}
        return HTMLResponse(page, status_code=problem.status if problem else 200, headers=headers)


def _status(error: RigwiseError) -> int:
    return int(getattr(error, "status", 422))


@cache
def _environment() -> Any:
    """The templates; every value is escaped unless it is markup that this program wrote."""
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: markupsafe.Markup(value) if isinstance(value, Markup) else value,
    )
    environment.filters.update(FILTERS)
    return environment


@cache
def _stamp() -> str:
    """Changes with the style sheet and the script, so that a browser may keep them."""
    return sha256(b"".join(file.read_bytes() for file in sorted((_HERE / "static").iterdir()))).hexdigest()[:10]


@cache
def _zoo() -> tuple[str, ...]:
    from rigwise.graph.load import zoo_names

    return tuple(sorted(zoo_names()))


@cache
def _devices() -> tuple[str, ...]:
    from rigwise.facts.catalogue import devices

    return tuple(sorted(device.id for device in devices()))


@cache
def _providers() -> tuple[str, ...]:
    from rigwise.facts.catalogue import offers

    return tuple(sorted({offer.provider for offer in offers()}))
