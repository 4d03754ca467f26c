"""What the pages and the API ask: each answer is the document that the command prints with ``--json``.

A question goes to one of a few warm processes, which can be ended if it takes too long. Answers are kept by the whole
question, the day and the version of the catalogue, which is all that an answer depends on. Whoever asks what is being
computed already waits for that answer instead of having it computed twice.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Mapping
from datetime import date
from typing import Any, BinaryIO

from rigwise.errors import InvalidInputError, RigwiseError, RunError, UnknownNameError
from rigwise.execute.warm import BusyError, OverdueError, Terms, WarmProcesses
from rigwise.web import worker
from rigwise.web.questions import HISTORY, JOB, PLAN, FieldError, Question, named
from rigwise.web.settings import Settings
from rigwise.web.uploads import Uploads, plain_name, remove

_WORKER_BYTES = 1.5 * 2**30
_UPLOAD_S = 60.0
#: What takes long waits behind what does not.
_LONG = (PLAN, worker.UPLOAD)
_BUSY, _OVERDUE, _REFUSED, _FAULT = 503, 504, 422, 500
#: What is another thing a moment later, and for how long it is kept all the same.
_OF_NOW, _NOW_S = (worker.MACHINE, worker.DOCTOR, worker.JUDGED), 10.0


class RefusedError(RigwiseError):
    """There is no answer: what the program says of the question, or why the server did not ask.

    Attributes:
        kind: The name of the program's own error.
        status: Of the HTTP response: 404, 413, 415, 422, 503 or 504.
        field: The key of the query that is at fault, empty where that is not known.
    """

    def __init__(self, error: Mapping[str, str], *, status: int = _REFUSED) -> None:
        super().__init__(error["message"].removeprefix("command line: "), hint=error["hint"])
        self.kind, self.status, self.field = error["type"], status, error.get("field", "")

    def as_dict(self) -> dict[str, str]:
        """The error as documents carry it, with the key that is at fault."""
        return {"type": self.kind, "message": self.message, "hint": self.hint, "field": self.field}


def refused(error: RigwiseError, *, status: int = _REFUSED) -> RefusedError:
    """An error of the program, as whoever asked is told."""
    if isinstance(error, RefusedError):
        return error
    return RefusedError({**error.as_dict(), "field": getattr(error, "field", "")}, status=status)


class Answers:
    """The processes, the answers that are kept, and the uploads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.uploads = Uploads(settings.uploads)
        self._processes = WarmProcesses(
            Terms(
                module=worker.__name__,
                count=settings.workers,
                waiting=settings.waiting,
                limit_s=settings.limit_s,
                memory_bytes=_WORKER_BYTES,
            )
        )
        self._kept = _Kept(settings.kept_bytes)
        self._asked: dict[Any, asyncio.Task[bytes]] = {}
        self._reading = asyncio.Semaphore(max(1, settings.workers // 2))  # the others go on answering
        self.version: Mapping[str, Any] = {}

    async def start(self) -> None:
        """Start the processes."""
        await self._processes.start()
        self.version = json.loads(await self._ask({"kind": worker.VERSION}, limit_s=_UPLOAD_S))

    async def close(self) -> None:
        """End the processes and remove the uploads."""
        await self._processes.close()
        self.uploads.close()

    async def predict(self, asked: Question) -> dict[str, Any]:
        """The document of ``rigwise predict --json``; same errors as ``document``."""
        return await self.document(asked)

    async def compare(self, asked: Question) -> dict[str, Any]:
        """The document of ``rigwise compare --json``; same errors as ``document``."""
        return await self.document(asked)

    async def plan(self, asked: Question) -> dict[str, Any]:
        """The document of ``rigwise plan --json``, with ``infeasible`` if there is no plan; errors of ``document``."""
        return await self.document(asked)

    async def catalogue(self, asked: Question) -> dict[str, Any]:
        """The document of ``devices``, ``cpus``, ``offers``, ``parts`` or ``models``; same errors as ``document``."""
        return await self.document(asked)

    async def history(self, asked: Question) -> dict[str, Any]:
        """The document of ``rigwise history --json``; same errors as ``document``."""
        return await self.document(asked)

    async def device(self, name: str) -> dict[str, Any]:
        """The document of ``rigwise devices NAME --json``, or of ``cpus``; 404 if there is none."""
        return _plain(await self.single(worker.DEVICE, name))

    async def model(self, name: str) -> dict[str, Any]:
        """The document of ``rigwise models NAME --json``; 404 if there is none."""
        return _plain(await self.single(worker.MODEL, name))

    async def machine(self) -> dict[str, Any]:
        """The document of ``rigwise inspect --json``: the machine that serves."""
        return _plain(await self.single(worker.MACHINE))

    async def doctor(self) -> dict[str, Any]:
        """The document of ``rigwise doctor --json``: what is wrong with the machine that serves."""
        return _plain(await self.single(worker.DOCTOR))

    async def memory(self, asked: Question) -> dict[str, Any]:
        """The document of ``rigwise predict --explain memory --json``; same errors as ``document``."""
        return _plain(await self.content(asked, explain=worker.MEMORY))

    async def judged(self) -> dict[str, Any]:
        """Predicted and measured times of what the store holds."""
        return _plain(await self.single(worker.JUDGED))

    async def document(self, asked: Question) -> dict[str, Any]:
        """The document that answers a question.

        Raises:
            RefusedError: There is none; says why, with which key, and the HTTP status.
        """
        return _plain(await self.content(asked))

    async def content(self, asked: Question, *, explain: str = "") -> bytes:
        """The document that answers a question, as JSON; same errors as ``document``."""
        request: dict[str, Any] = {"kind": asked.kind, "pairs": [(n, v) for n, values in asked.values for v in values]}
        request |= {"explain": explain} if explain else {}
        request["uploads"] = {
            name: self._upload(name, key) for key in ("model", JOB) for text in asked.all(key) for name in named(text)
        }
        if asked.kind == HISTORY:
            return await self._ask(request)
        return await self._once((asked, explain, date.today(), self.version.get("catalogue")), request)

    def _upload(self, name: str, key: str) -> tuple[str, str]:
        """Where an upload lies and what it is called."""
        if name not in self.uploads:
            raise refused(FieldError("this upload is gone", hint="upload the file again", field=key))
        return str(self.uploads[name].path), self.uploads[name].name

    async def single(self, kind: str, of: str = "") -> bytes:
        """The document of one thing: a device, a model, the machine.

        Raises:
            RefusedError: There is none of this name.
        """
        moment = asyncio.get_running_loop().time() // _NOW_S if kind in _OF_NOW else 0
        try:
            return await self._once((kind, of, moment), {"kind": kind, "of": of})
        except RefusedError as error:
            if error.kind == UnknownNameError.__name__:
                error.status = 404
            raise

    async def upload(self, stream: BinaryIO, name: str) -> dict[str, Any]:
        """Read an uploaded file: a row of ``rigwise models`` and what to call it from now on.

        Args:
            stream: Its content; closed in the end.
            name: What whoever uploads it calls it.

        Raises:
            RefusedError: It is no model, or too many are being read.
        """
        with stream:
            name = plain_name(name)
            if self._reading.locked():
                busy = BusyError("other uploads are being read", hint="upload it again in a moment")
                raise refused(busy, status=_BUSY)
            async with self._reading:
                return await self._read(stream, name)

    async def _read(self, stream: BinaryIO, name: str) -> dict[str, Any]:
        try:
            path = await asyncio.to_thread(self.uploads.received, stream, name)
        except InvalidInputError as error:
            raise refused(error, status=415) from None
        graph = path.with_name("model.rwg" if path.suffix != ".rwg" else "model.read.rwg")
        of = {"path": str(path), "name": name, "written": str(graph)}
        try:
            row = json.loads(await self._ask({"kind": worker.UPLOAD, "of": of}, limit_s=_UPLOAD_S))["models"][0]
        except BaseException:
            self.uploads.forget(path.parent)
            raise
        remove(path)
        return {"schema": "rigwise.upload/1", "upload": self.uploads.keep(graph, name), "file": name, "model": row}

    def state(self) -> dict[str, Any]:
        """What the server is at: its version, the catalogue's, and how busy it is."""
        work = {"workers": self.settings.workers, "waiting": self._processes.waiting}
        return {**self.version, **work, "limit_s": self.settings.limit_s, "upload_bytes": self.settings.upload_bytes}

    def resident_bytes(self) -> float:
        """Memory of the processes that answer."""
        return self._processes.resident_bytes()

    async def _once(self, key: Any, request: Mapping[str, Any]) -> bytes:
        """The answer that is kept, that is being computed, or a new one."""
        if (kept := self._kept.get(key)) is not None:
            return kept
        if (task := self._asked.get(key)) is None:
            task = self._asked[key] = asyncio.get_running_loop().create_task(self._ask(request))
            task.add_done_callback(lambda done: self._answered(key, done))
        return await asyncio.shield(task)  # others may wait for it even if this one goes away

    def _answered(self, key: Any, task: asyncio.Task[bytes]) -> None:
        self._asked.pop(key, None)
        if not task.cancelled() and task.exception() is None:
            self._kept.put(key, task.result())

    async def _ask(self, request: Mapping[str, Any], *, limit_s: float | None = None) -> bytes:
        try:
            rank = int(request["kind"] in _LONG)
            reply = await self._processes.ask(json.dumps(request).encode(), rank=rank, limit_s=limit_s)
        except BusyError as error:
            raise refused(error, status=_BUSY) from None
        except OverdueError as error:
            raise refused(error, status=_OVERDUE) from None
        except RunError as error:
            raise refused(error, status=_BUSY) from None
        if reply[:1] == worker.ANSWER:
            return reply[1:]
        fault = json.loads(reply[1:])
        raise RefusedError(fault, status=_FAULT if fault["type"] == worker.BUG else _REFUSED)


class _Kept:
    """Answers by question, the one that was not asked for longest going first."""

    def __init__(self, most_bytes: float) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._answers: OrderedDict[Any, bytes] = OrderedDict()

    def get(self, key: Any) -> bytes | None:
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: Any, answer: bytes) -> None:
        if key in self._answers or len(answer) > self._most_bytes:
            return
        self._answers[key] = answer
        self._bytes += len(answer)
        while self._bytes > self._most_bytes:
            self._bytes -= len(self._answers.popitem(last=False)[1])


def _plain(content: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(content)
    return document
