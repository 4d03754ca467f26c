"""The page of plans: three forms (a job, serving, job files), and an answer for each kind of document."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from rigwise.errors import InvalidInputError
from rigwise.web.form import UNITS, Form
from rigwise.web.guard import LONGEST_QUERY
from rigwise.web.questions import JOB, LONGEST_JOB, MOST_JOBS
from rigwise.web.uploads import plain_name

if TYPE_CHECKING:
    from starlette.requests import Request

#: Steps of the sliders; the last of a limit is no limit.
STEPS = {
    "deadline": ("30min", "1h", "2h", "3h", "6h", "12h", "1d", "2d", "3d", "7d", "14d", "30d", "60d", "90d", ""),
    "budget": (
        *("$1", "$2", "$5", "$10", "$20", "$50", "$100", "$200", "$500", "$1k", "$2k", "$5k", "$10k", "$20k", "$50k"),
        *("$100k", ""),
    ),
    "rate": ("0.1/s", "0.2/s", "0.5/s", "1/s", "2/s", "5/s", "10/s", "20/s", "50/s", "100/s", "200/s", "500/s"),
    "ttft": ("100ms", "200ms", "300ms", "500ms", "700ms", "1s", "2s", "5s", "10s", ""),
    "tpot": ("5ms", "10ms", "15ms", "20ms", "30ms", "40ms", "50ms", "70ms", "100ms", "200ms", ""),
}  # fmt: skip

_SERVED = {"model": "llama-3.1-8b", "task": "serve", "rate": "20/s", "prompt": "2k", "output-tokens": "300"}
#: What the tab of serving opens with.
SERVING = {**_SERVED, "ttft": "500ms", "tpot": "40ms"}
#: What the tab of job files opens with.
STAGES = """\
# Try it on little data first, then run it on all of it.

[[stage]]
name = "prototype"
model = "resnet50"
samples = "1.28M"

[stage.constraints]
hourly_cap = "$1"

[[stage]]
name = "scale"
model = "resnet50"
epochs = 90
dataset_size = "1.28M"

[constraints]
deadline = "24h"
"""
_NAMED = re.compile(r"[\w.-]{1,60}\.toml")


def context(form: Form, lists: Mapping[str, Any]) -> dict[str, Any]:
    """What the template of the plan page needs beside what all forms do."""
    kind = "files" if form.jobs is not None else "serve" if form.values.get("task") == "serve" else "job"
    tabs = [
        ("job", "A job", "/"),
        ("serve", "Serving", f"/?{urlencode(SERVING)}"),
        ("files", "Job files", f"/?{urlencode({JOB: STAGES})}"),
    ]
    jobs = [*(form.jobs or ()), *([""] if len(form.jobs or ()) < MOST_JOBS else [])]
    start = next(place for name, _, place in tabs if name == kind)
    return {"form": kind, "tabs": tabs, "start": start, "jobs": jobs, "units": UNITS, "steps": STEPS, **lists}


def answered(document: Mapping[str, Any]) -> dict[str, Any]:
    """The template that answers a document, and what it shows of it."""
    template, view = _SHOWN[document["schema"]]
    return {"answer": f"{template}.html", "view": view(document), "document": document}


def _job(document: Any) -> Any:
    from rigwise.web.view.plan import plan_view

    return plan_view(document)


def _serving(document: Any) -> Any:
    from rigwise.web.view.serving import serving_view

    return serving_view(document)


def _jobs(name: str) -> Callable[[Any], Any]:
    def view(document: Any) -> Any:
        from rigwise.web.view import jobs

        return getattr(jobs, name)(document)

    return view


_SHOWN: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "rigwise.plan/1": ("plan_job", _job),
    "rigwise.plan.serving/1": ("plan_serving", _serving),
    "rigwise.plan.staged/1": ("plan_staged", _jobs("staged_view")),
    "rigwise.plan.shared/1": ("plan_shared", _jobs("shared_view")),
    "rigwise.plans/1": ("plan_many", _jobs("many_view")),
}


async def received_jobs(request: Request) -> str:
    """The address that asks what uploaded job files ask: they stand whole in it, and nothing is kept here.

    What was asked of all jobs before (a deadline, and to share machines) is asked of these.

    Raises:
        InvalidInputError: A file is no job file, or they are too long for an address.
        HTTPException: There is no form.
    """
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException

    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(415, "an upload is a form (multipart/form-data) with files")
    async with request.form(max_files=MOST_JOBS, max_fields=8) as sent:
        files = [file for file in sent.getlist("file") if isinstance(file, UploadFile) and file.filename]
        texts = [_text(await file.read(4 * LONGEST_JOB + 1), plain_name(file.filename or "")) for file in files]
        before = parse_qsl(str(sent.get("query", "")))
    if not texts:
        raise InvalidInputError("no file was chosen")
    kept = [(name, value) for name, value in before if name in ("share", "deadline")]
    for jobs in (texts, [_brief(text) for text in texts]):
        query = urlencode([*((JOB, text) for text in jobs), *kept])
        if len(query) <= LONGEST_QUERY and max(map(len, jobs)) <= LONGEST_JOB:
            return f"/?{query}"
    hint = "upload fewer of them, or plan them in a terminal: rigwise plan JOB.toml ..."
    raise InvalidInputError("these job files are too long for the address of a page", hint=hint)


def _text(content: bytes, name: str) -> str:
    """A job file, which begins with its name."""
    if Path(name).suffix.lower() != ".toml":
        raise InvalidInputError(f"{name} is no job file", hint="upload .toml files")
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise InvalidInputError(f"{name} is not text in UTF-8") from None
    if not text:
        raise InvalidInputError(f"{name} is empty")
    return f"# {name}\n{text}" if _NAMED.fullmatch(name) and not text.startswith(f"# {name}\n") else text


def _brief(text: str) -> str:
    """The same job without the lines that are comments, but its name; as it is where a text may go over lines."""
    if '"""' in text or "'''" in text:
        return text
    first, *others = text.split("\n")
    return "\n".join([first, *(line for line in others if line.strip() and not line.lstrip().startswith("#"))])
