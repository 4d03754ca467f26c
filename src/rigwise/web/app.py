"""The application: the API, the pages, their files, and what guards them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from rigwise.web.answers import Answers
from rigwise.web.api import create_api, on_http_error
from rigwise.web.guard import Guard
from rigwise.web.settings import Settings, check

if TYPE_CHECKING:
    from fastapi import FastAPI

PAGES = "rigwise.web.pages"
STATIC = Path(__file__).with_name("static")


def create_app(settings: Settings) -> FastAPI:
    """The application; its processes start and end with it.

    Raises:
        InvalidInputError: The settings would let others in.
    """
    from fastapi import FastAPI
    from starlette.staticfiles import StaticFiles

    answers = Answers(check(settings))

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        del app
        try:
            await answers.start()
            yield
        finally:
            await answers.close()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=living)
    app.state.answers = answers
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_middleware(Guard, settings=settings)
    app.mount("/api/v1", create_api(answers))
    if STATIC.is_dir():
        app.mount("/static", StaticFiles(directory=STATIC))
    if find_spec(PAGES):
        import_module(PAGES).add_pages(app, answers)
    return app
