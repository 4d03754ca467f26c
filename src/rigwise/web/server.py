"""The server itself: its socket, its limits to slow clients, and how it starts and ends."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Callable
from dataclasses import replace

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from rigwise.errors import InvalidInputError, RunError
from rigwise.web.app import create_app
from rigwise.web.guard import error_json
from rigwise.web.settings import Settings

#: Time for the headers of a request, for a closed connection to be gone, and for a client to read what is ready.
_HEADERS_S, _SWEEP_S, _READ_S = 10.0, 10.0, 30.0
_HEADER_BYTES = 40 * 2**10


class PatientProtocol(H11Protocol):
    """HTTP as uvicorn speaks it, with an end to patience: a client that sends or reads nothing is left."""

    _timers: tuple[asyncio.TimerHandle, ...] = ()
    _headers_due: asyncio.TimerHandle | None = None
    _read_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """From now on the clock runs."""
        super().connection_made(transport)
        self._sweep = self.loop.call_later(_SWEEP_S, self._swept)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        for timer in (self._sweep, self._headers_due, self._read_due):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """As uvicorn; whoever has begun a request must end its headers soon."""
        super().handle_events()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or has too long an address or headers, is told so as the API tells everything."""
        del msg
        words = f"the request is no HTTP, or its address and headers have over {_HEADER_BYTES} bytes"
        kind = (b"content-type", b"application/json")
        parts = (
            h11.Response(status_code=400, headers=[kind, (b"connection", b"close")], reason=b"Bad Request"),
            h11.Data(data=error_json(400, words)),
            h11.EndOfMessage(),
        )
        for part in parts:
            self.transport.write(self.conn.send(part))
        self.transport.close()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._read_due = self._read_due or self.loop.call_later(_READ_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        if self._read_due is not None:
            self._read_due.cancel()
            self._read_due = None

    def _watch(self) -> None:
        waits = self.conn.their_state is h11.IDLE
        if waits and self._headers_due is None:
            self._headers_due = self.loop.call_later(_HEADERS_S, self.transport.abort)
        elif not waits and self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _swept(self) -> None:
        if self.transport.is_closing():
            self.transport.abort()
        self._sweep = self.loop.call_later(_SWEEP_S, self._swept)


def listening(settings: Settings) -> socket.socket:
    """A socket at the place of the settings; port 0 takes any that is free.

    Raises:
        InvalidInputError: The port is taken, or there is no such place here.
    """
    try:
        return _bound(settings.host, settings.port)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            with _bound(settings.host, 0) as free:
                hint = f"--port {free.getsockname()[1]} is free"
            taken = "is taken" if error.errno == errno.EADDRINUSE else "needs more rights"
            raise InvalidInputError(f"port {settings.port} of {settings.host} {taken}", hint=hint) from None
        why = error.strerror or str(error)
        raise InvalidInputError(f"nothing can listen at {settings.host}: {why}", hint="--host 127.0.0.1") from None


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except BaseException:
        found.close()
        raise
    return found


def serve(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Args:
        settings: Where, for whom and within which limits.
        ready: Called with the address once it can be asked.

    Raises:
        InvalidInputError: The place cannot be used, or others could ask without a token.
        RunError: Its processes do not start.
    """
    with listening(settings) as place:
        host, port = place.getsockname()[:2]
        settings = replace(settings, port=port, names=(*settings.names, socket.gethostname()))
        shown = socket.gethostname() if ipaddress.ip_address(host).is_unspecified else host
        shown = f"[{shown}]" if ":" in shown else shown
        server = _Server(_config(settings), lambda: ready(f"http://{shown}:{port}/"))
        server.run(sockets=[place])
        if not server.started:
            raise RunError("the server did not start", hint="is the installation whole?")


def _config(settings: Settings) -> uvicorn.Config:
    logging.getLogger("uvicorn.error").addHandler(logging.NullHandler())
    logging.getLogger("uvicorn.error").propagate = False
    return uvicorn.Config(
        create_app(settings),
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,  # addresses may hold a token, and are written nowhere
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.connections,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=_HEADER_BYTES,
    )


class _Server(uvicorn.Server):
    """A server that says when it can be asked."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()
