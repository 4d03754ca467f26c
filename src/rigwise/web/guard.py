"""What a request must be before any page or answer sees it, and what every response says of itself.

Host      an IP address, localhost, this machine's name or one that was given: a name that a stranger's DNS server
          points here (DNS rebinding) is none of them
token     where one is set, as a bearer token or as the cookie that a first visit with ``?token=`` sets
origin    what changes something comes from a page of this server, or from no page at all; another site may link here,
          and neither ask the API nor load anything into its own pages
sizes     of the address, the headers and the body; and the time in which they must have come
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rigwise.web.settings import LOCALHOST, Settings

API = "/api/"
UPLOADS = ("/api/v1/uploads", "/upload")
#: A few job files, which stand whole in the address.
LONGEST_QUERY = 24 * 2**10
_BODY_BYTES = 64 * 2**10
_SEND_S = 30.0
_READING = ("GET", "HEAD")

#: Of every response. Nothing is fetched from elsewhere, framed, or run but the files of this server.
HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with no-referrer a browser says "Origin: null" of the pages' own forms
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class RefusedRequestError(Exception):
    """A request that goes no further: its status, a line, and further headers."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}


class Guard:
    """The application behind its checks."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._names = {LOCALHOST, *(name.lower() for name in settings.names)}
        self._cookie = f"rigwise-{settings.port}"
        self._pass = hmac.new(settings.token.encode(), b"cookie", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reply = _Reply(scope, send)
        try:
            self._check(scope)
            await self._app(scope, self._received(scope, receive), reply)
        except RefusedRequestError as error:
            await reply.end(error.status, str(error), error.headers)
        except Exception as error:  # a bug: one line for whoever serves, nothing of it for whoever asks
            print(
                f"rigwise: {scope['method']} {scope['path'][:80]!r}: {type(error).__name__}: {error}", file=sys.stderr
            )
            await reply.end(500, "the server failed; its terminal says why")

    def _check(self, scope: Scope) -> None:
        headers = _headers(scope)
        if len(scope["query_string"]) > LONGEST_QUERY:
            raise RefusedRequestError(414, f"the query has over {LONGEST_QUERY} bytes")
        self._check_host(headers.get("host", ""))
        self._check_site(scope, headers)
        self._check_token(scope, headers)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._most_bytes(scope):
            raise RefusedRequestError(413, f"the body has over {self._most_bytes(scope)} bytes")

    def _check_host(self, host: str) -> None:
        with suppress(ValueError):
            name = (urlsplit(f"//{host}").hostname or "").lower()
            if name in self._names:
                return
            ipaddress.ip_address(name)
            return
        raise RefusedRequestError(421, "this server has another name", {})

    def _check_site(self, scope: Scope, headers: Mapping[str, str]) -> None:
        if scope["method"] not in _READING and "origin" in headers:
            with suppress(ValueError):
                if urlsplit(headers["origin"]).netloc.lower() == headers["host"].lower():
                    return
            raise RefusedRequestError(403, "another site may not change anything here")
        if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return
        followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if scope["method"] not in _READING or scope["path"].startswith(API) or not followed:
            raise RefusedRequestError(403, "another site may link to this server and not ask it")

    def _check_token(self, scope: Scope, headers: Mapping[str, str]) -> None:
        if not self._settings.token:
            return
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(shown.strip(), self._settings.token):
            return
        cookies = [part.strip().partition("=") for part in headers.get("cookie", "").split(";")]
        if any(name == self._cookie and _same(value, self._pass) for name, _, value in cookies):
            return
        self._admit(scope)
        words = "a token is needed: open the address that rigwise serve printed, or add ?token= and the one you chose"
        raise RefusedRequestError(401, words, {"www-authenticate": "Bearer"})

    def _admit(self, scope: Scope) -> None:
        """Turn ``?token=`` of a page into a cookie, and send the browser to the address without it."""
        with suppress(ValueError):
            pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=500)
            if scope["method"] == "GET" and any(k == "token" and _same(v, self._settings.token) for k, v in pairs):
                rest = urlencode([(key, value) for key, value in pairs if key != "token"])
                place = "/" + scope["path"].lstrip("/\\") + (f"?{rest}" if rest else "")
                cookie = f"{self._cookie}={self._pass}; Path=/; HttpOnly; SameSite=Strict"
                location = place.encode("ascii", "replace").decode().replace("\r", "").replace("\n", "")
                raise RefusedRequestError(303, "", {"location": location, "set-cookie": cookie})

    def _most_bytes(self, scope: Scope) -> int:
        return self._settings.upload_bytes + _BODY_BYTES if scope["path"] in UPLOADS else _BODY_BYTES

    def _received(self, scope: Scope, receive: Receive) -> Receive:
        """The body, as long as it is small enough and comes soon enough."""
        most, got = self._most_bytes(scope), 0
        until_s = asyncio.get_running_loop().time() + self._settings.request_s
        whole = False

        async def received() -> Message:
            nonlocal got, whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(until_s):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the request did not come whole in time") from None
            got += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if got > most:
                raise HTTPException(413, f"the body has over {most} bytes")
            return message

        return received


class _Reply:
    """What is sent, with the headers that every response has, and a limit to how slowly it is read."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self._api = scope["path"].startswith(API)
        self._named_by_content = scope["path"].startswith("/static/") and bool(scope.get("query_string"))
        self._begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            own = {name.lower() for name, _ in message.get("headers", [])}
            kept = self._named_by_content and message["status"] == 200
            usual = {**HEADERS, "cache-control": "private, max-age=31536000, immutable" if kept else "no-store"}
            if message["status"] in (408, 413):
                usual["connection"] = "close"  # the rest of the body is not waited for
            more = [(n.encode(), v.encode()) for n, v in usual.items() if n.encode() not in own]
            message = {**message, "headers": [*message.get("headers", []), *more]}
        async with asyncio.timeout(_SEND_S):
            await self._send(message)

    async def end(self, status: int, line: str, headers: Mapping[str, str] | None = None) -> None:
        """A whole response of one line, if none has begun."""
        if self._begun:
            return
        body, kind = f"{line}\n".encode(), "text/plain; charset=utf-8"
        if self._api:
            body, kind = error_json(status, line), "application/json"
        plain: dict[str, str] = {"content-type": kind, "content-length": str(len(body)), **(headers or {})}
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in plain.items()]
        await self({"type": "http.response.start", "status": status, "headers": pairs})
        await self({"type": "http.response.body", "body": body})


def error_json(status: int, message: str, error: Mapping[str, Any] | None = None) -> bytes:
    """An error as the API says it: the same object as in documents of the command line."""
    plain = error or {"type": "RequestError", "message": message, "hint": "", "field": ""}
    return json.dumps({"schema": "rigwise.error/1", "status": status, "error": plain}, ensure_ascii=False).encode()


def _headers(scope: Scope) -> dict[str, str]:
    """The headers by name.

    Raises:
        RefusedRequestError: One that must stand once stands twice.
    """
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in found and key in ("host", "origin", "content-length", "authorization"):
            raise RefusedRequestError(400, f"the header {key} stands twice")
        found[key] = value.decode("latin-1")
    return found


def _same(shown: str, known: str) -> bool:
    """Whether two texts are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(shown.encode("utf-8", "replace"), known.encode())
