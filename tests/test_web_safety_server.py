"""The server goes on: answers that take too long, processes that die, clients that are slow or many; its command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from rigwise.errors import RunError
from rigwise.execute.warm import BusyError, OverdueError, Terms, WarmProcesses
from rigwise.web import server
from rigwise.web.app import create_app
from rigwise.web.settings import Settings

API = "/api/v1"
TOKEN = "correct-horse-battery-staple"


# Processes that answer

STUB = """
import os, sys, time
def send(text):
    sys.stdout.buffer.write(len(text).to_bytes(4, "big") + text); sys.stdout.buffer.flush()
send(b"")
while len(head := sys.stdin.buffer.read(4)) == 4:
    asked = sys.stdin.buffer.read(int.from_bytes(head, "big"))
    if asked == b"die": os._exit(1)
    if asked == b"long": time.sleep(600)
    if asked == b"wait": time.sleep(0.2)
    send(asked + b" of " + str(os.getpid()).encode())
"""


@pytest.fixture
def stub(tmp_path, monkeypatch) -> None:
    (tmp_path / "answering_stub.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def crew(**how: Any) -> WarmProcesses:
    return WarmProcesses(
        Terms(**{"module": "answering_stub", "count": 1, "waiting": 2, "limit_s": 5.0, "memory_bytes": 1e12, **how})
    )


@pytest.mark.usefixtures("stub")
def test_what_takes_too_long_or_dies_is_replaced() -> None:
    async def ask() -> None:
        processes = crew()
        await processes.start()
        first = await processes.ask(b"a")
        assert await processes.ask(b"a") == first
        with pytest.raises(OverdueError):
            await processes.ask(b"long", limit_s=0.2)
        second = await processes.ask(b"a")
        with pytest.raises(RunError, match="ended"):
            await processes.ask(b"die")
        third = await processes.ask(b"a")
        assert len({first, second, third}) == 3
        await processes.close()
        for answer in (first, second, third):
            with pytest.raises(ProcessLookupError):
                os.kill(int(answer.split()[-1]), 0)

    asyncio.run(ask())


@pytest.mark.usefixtures("stub")
def test_a_process_that_died_unasked_is_replaced() -> None:
    async def ask() -> None:
        processes = crew()
        await processes.start()
        process = int((await processes.ask(b"a")).split()[-1])
        os.kill(process, signal.SIGKILL)
        while any(one.returncode is None and one.pid == process for one in processes._all):
            await asyncio.sleep(0.01)
        assert int((await processes.ask(b"a")).split()[-1]) != process
        await processes.close()

    asyncio.run(ask())


@pytest.mark.usefixtures("stub")
def test_a_process_that_grew_is_replaced() -> None:
    async def ask() -> None:
        processes = crew(memory_bytes=1.0)
        await processes.start()
        assert await processes.ask(b"a") != await processes.ask(b"a")
        await processes.close()

    asyncio.run(ask())


@pytest.mark.usefixtures("stub")
def test_the_line_has_an_end() -> None:
    async def ask() -> None:
        processes = crew()
        await processes.start()
        asked = [asyncio.ensure_future(processes.ask(b"wait")) for _ in range(5)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(answer, BusyError) for answer in answers) == 2
        assert sum(isinstance(answer, bytes) for answer in answers) == 3
        await processes.close()

    asyncio.run(ask())


def test_processes_that_cannot_start_are_told() -> None:
    async def ask() -> None:
        processes = crew(module="no_such_module")
        with pytest.raises(RunError, match="do not start"):
            await processes.start()
        await processes.close()

    asyncio.run(ask())


@pytest.mark.usefixtures("stub")
def test_the_lower_rank_goes_first() -> None:
    async def ask() -> None:
        processes = crew(waiting=3)
        await processes.start()
        order: list[bytes] = []

        async def one(name: bytes, rank: int) -> None:
            order.append((await processes.ask(name, rank=rank)).split()[0])

        names = [(b"wait", 1), (b"long1", 1), (b"long2", 1), (b"short1", 0), (b"short2", 0)]
        await asyncio.gather(*(one(*each) for each in names))
        assert order == [b"wait", b"short1", b"short2", b"long1", b"long2"]
        await processes.close()

    asyncio.run(ask())


@pytest.mark.usefixtures("stub")
def test_who_goes_away_keeps_no_process() -> None:
    async def ask() -> None:
        processes = crew()
        await processes.start()
        first = asyncio.ensure_future(processes.ask(b"wait"))
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(processes.ask(b"a"))
        await asyncio.sleep(0)
        waiting.cancel()
        await first
        assert (await processes.ask(b"b")).startswith(b"b of")
        assert processes.waiting == 0
        await processes.close()

    asyncio.run(ask())


def test_too_many_and_too_long_are_told_apart() -> None:
    impatient = Settings(workers=1, waiting=0, limit_s=0.01, kept_bytes=0)
    with TestClient(create_app(impatient), base_url="http://127.0.0.1") as client:
        answer = client.get(f"{API}/plan?model=gpt2-xl&tokens=1e9")
        assert answer.status_code == 504
        assert answer.json()["error"]["type"] == "OverdueError"
        busy = client.get(f"{API}/plan?model=gpt2-xl&tokens=2e9")  # its process is being replaced
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "2")


# Slow and many clients


@pytest.fixture(scope="module")
def running() -> Iterator[int]:
    """The port of a server."""
    limits = Settings(port=0, workers=1, connections=2000, request_s=0.3)
    place = server.listening(limits)
    started = threading.Event()
    one = server._Server(server._config(limits), started.set)
    thread = threading.Thread(target=one.run, kwargs={"sockets": [place]})
    thread.start()
    started.wait(60)
    yield place.getsockname()[1]
    one.should_exit = True
    thread.join(30)
    place.close()


def status(port: int, path: str, **headers: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def answers(port: int) -> bool:
    return status(port, f"{API}/predict?model=resnet50&device=t4") == 200


BEGUN = [
    b"",
    b"GET / HT",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
    b"POST /api/v1/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 1000\r\n\r\n--b",
]


def test_who_sends_nothing_more_is_left(running, monkeypatch) -> None:
    for name in ("_HEADERS_S", "_SWEEP_S", "_READ_S"):
        monkeypatch.setattr(server, name, 0.3)
    for begun in BEGUN:
        with socket.create_connection(("127.0.0.1", running), timeout=60) as slow:
            slow.sendall(begun)
            said = b""
            while part := slow.recv(4096):
                said += part
            assert not said or b" 408 " in said.partition(b"\r\n")[0]
    assert answers(running)


def test_nonsense_is_no_request(running) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"A" * 40_000 + b"\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", running), timeout=60) as one:
            one.sendall(nonsense)
            assert b" 400 " in one.recv(4096).partition(b"\r\n")[0]
    assert answers(running)


def test_an_address_that_is_far_too_long_is_told_so_as_the_api_tells_it(running) -> None:
    with socket.create_connection(("127.0.0.1", running), timeout=60) as one:
        one.sendall(b"GET /?job=" + b"x" * (server._HEADER_BYTES + 1))
        said = b"".join(iter(lambda: one.recv(4096), b""))
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head.lower()
    assert json.loads(body)["schema"] == "rigwise.error/1"
    assert status(running, f"{API}/plan?job=" + "x" * 30_000) == 414


def test_a_thousand_at_once_leave_it_standing(running) -> None:
    async def ask() -> bytes:
        writer = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", running)
            writer.write(f"GET {API}/devices HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            status = (await reader.readline()).split()[1]
        except (OSError, IndexError):
            status = b"lost"
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return status

    async def all_at_once() -> list[bytes]:
        return await asyncio.gather(*(ask() for _ in range(1000)))

    statuses = asyncio.run(all_at_once())
    assert set(statuses) <= {b"200", b"503", b"lost"}
    assert b"200" in statuses
    assert answers(running)


# The command


def command(*arguments: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-m", "rigwise", "serve", *arguments],
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )


def test_the_command_serves_until_it_is_interrupted(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with command("--port", "0", "--workers", "1", "--host", "0.0.0.0", "--token", "new") as process:
        line = process.stdout.readline()
        port, token = re.match(r"rigwise serves at http://[^/:]+:(\d+)/\?token=(\S+)$", line).groups()
        assert status(int(port), f"{API}/state") == 401
        assert status(int(port), f"{API}/state", authorization=f"Bearer {token}") == 200
        taken = command("--port", port)
        assert taken.wait(60) == 2
        assert re.fullmatch(
            rf"rigwise: port {port} of 127\.0\.0\.1 is taken; --port \d+ is free\n", taken.stderr.read()
        )
        taken.stdout.close()
        taken.stderr.close()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
        rest = process.stdout.read() + process.stderr.read()
    assert token not in rest
    assert "Traceback" not in rest
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--token", "short"], "16"),
        (["--host", "no.such.host.invalid"], "token"),
        (["--host", "no.such.host.invalid", "--token", TOKEN], "nothing can listen"),
        (["--host", "192.0.2.1", "--token", TOKEN], "nothing can listen"),
        (["--port", "99999"], "99999"),
        (["--limit", "0"], "--limit"),
        (["--workers", "0"], "workers"),
    ],
)
def test_what_the_command_refuses(arguments: list[str], said: str) -> None:
    with command(*arguments) as process:
        assert process.wait(60) == 2
        error = process.stderr.read()
    assert said in error
    assert error.count("\n") == 1
    assert TOKEN not in error
