"""One file from a server to the disk: resumed where it broke off, checked, and renamed only when it is whole.

What is unfinished lies beside the target as ``NAME.part``, with a note of where it came from. The next
run asks for the rest, under the condition that the file has not changed since. Proxies of the
environment are honoured. Nothing is fetched but over https, from this machine, or from where the user says.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any

from rigwise.errors import RunError

_CHUNK_BYTES = 2**16
_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
_MD5 = re.compile(r'"([0-9a-f]{32})"')
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a download may take.

    Attributes:
        size_bytes: Of one file.
        silence_s: Without a byte from the server.
        whole_s: For one file.
        attempts: How often it goes on after the connection broke.
        pause_s: Before it does, doubled each time.
    """

    size_bytes: float = 64 * 2**20
    silence_s: float = 30.0
    whole_s: float = 600.0
    attempts: int = 3
    pause_s: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What a whole file must be: its SHA-256, where known, or the MD5 that the server gives as ETag."""

    sha256: str = ""
    etag_is_md5: bool = False


class RefusedError(RunError):
    """The server answered, and not with the file."""


class _BrokenError(RunError):
    """The connection broke; what has arrived is kept."""


class UnreachableError(_BrokenError):
    """No server was there to answer."""


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to what could have been asked for in the first place."""

    def redirect_request(self, req: Any, *arguments: Any) -> Any:
        target = arguments[-1]
        if urllib.parse.urlsplit(req.full_url).scheme == "https":
            check_address(target)
        return super().redirect_request(req, *arguments)


def check_address(url: str, *, asked_for: bool = False) -> None:
    """Refuse an address that is neither https, nor on this machine, nor http that the user asked for.

    Raises:
        RunError: It is none of these.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise RunError(f"{url!r} is no address") from None
    http_allowed = asked_for or host in _LOOPBACK
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and http_allowed)):
        raise RunError(f"{url!r} is no https address")


@contextlib.contextmanager
def _opened(url: str, headers: dict[str, str], limits: Limits) -> Iterator[Any]:
    """A server's answer, with every way of failing as one of ours."""
    headers = {"User-Agent": "rigwise", "Accept-Encoding": "identity", **headers}
    host = urllib.parse.urlsplit(url).netloc
    try:
        opener = urllib.request.build_opener(_SafeRedirects)
        request = urllib.request.Request(url, headers=headers)
        with opener.open(request, timeout=limits.silence_s) as response:
            yield response
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            raise RefusedError(f"{host} answered {error.code} {error.reason} for {url}") from None
    except urllib.error.URLError as error:
        raise UnreachableError(f"{host} cannot be reached: {_reason(error.reason)}") from None
    except (TimeoutError, http.client.HTTPException, ConnectionError) as error:
        raise _BrokenError(f"the connection to {host} broke: {_reason(error)}") from None


def _reason(error: Any) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def text_at(url: str, limits: Limits, *, limit_bytes: int = 4096) -> str:
    """A short text.

    Raises:
        RunError: The server does not give it, or it is long or not ASCII.
    """
    with _opened(url, {}, limits) as response:
        content = response.read(limit_bytes + 1)
    if len(content) > limit_bytes or not content.isascii():
        raise RunError(f"{url} does not hold a short text")
    return str(content.decode("ascii").strip())


def download(url: str, target: Path, checks: Checks, limits: Limits, progress: Callable[[int], None]) -> date | None:
    """Fetch a file whole; the server's day, where it says it.

    Args:
        url: Its address.
        target: Where it goes; untouched unless all of it has arrived and is right.
        checks: What it must be.
        limits: How much it may take.
        progress: Told how many bytes are there.

    Raises:
        RunError: The server refuses, the connection stays broken, the file is too large or not the right one. What
            has arrived is kept for the next time, unless it is wrong.
    """
    part = target.with_name(f"{target.name}.part")
    for attempt in range(limits.attempts):
        try:
            etag, day = _go_on(url, part, limits, progress)
            break
        except _BrokenError:
            if attempt + 1 == limits.attempts:
                raise
            time.sleep(limits.pause_s * 2**attempt)
    try:
        _check(url, part, etag, checks)
    except RunError:
        _forget(part)
        raise
    os.replace(part, target)
    _forget(part)
    return day


def _go_on(url: str, part: Path, limits: Limits, progress: Callable[[int], None]) -> tuple[str, date | None]:
    """Add to ``part`` what is missing; the file's ETag and the server's day."""
    have, headers = _resume(url, part)
    try:
        with _opened(url, headers, limits) as response:
            start, whole = _extent(response, have)
            if whole is not None and whole > limits.size_bytes:
                raise RunError(f"{url} has {whole:,} bytes", hint=f"at most {limits.size_bytes:,.0f} are read")
            _note(part, url, response.headers)
            with part.open("ab") as stream:
                stream.truncate(start)
                arrived = _copy(response, stream, start, limits, progress)
            if whole is not None and arrived < whole:
                raise _BrokenError(f"{url} broke off after {arrived:,} of {whole:,} bytes")
            return response.headers.get("ETag", ""), _day(response.headers)
    except RefusedError:
        if have:
            _forget(part)
            return _go_on(url, part, limits, progress)
        raise


def _resume(url: str, part: Path) -> tuple[int, dict[str, str]]:
    """Bytes that are there, and how to ask for the others if the file is still the same."""
    try:
        note = json.loads(_note_of(part).read_bytes())
        have = part.stat().st_size
        if have and note["url"] == url and note["validator"]:
            return have, {"Range": f"bytes={have}-", "If-Range": str(note["validator"])}
    except (OSError, ValueError, TypeError, KeyError):
        pass
    return 0, {}


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _note(part: Path, url: str, headers: Any) -> None:
    """Write down what the bytes are of; a weak ETag says nothing about bytes."""
    etag = headers.get("ETag", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified", "")
    _note_of(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _forget(part: Path) -> None:
    for path in (part, _note_of(part)):
        path.unlink(missing_ok=True)


def _extent(response: Any, have: int) -> tuple[int, int | None]:
    """Where the answer begins in the file, and how long the file is."""
    length = response.headers.get("Content-Length", "")
    if response.status != 206:
        return 0, int(length) if length.isdigit() else None
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or int(match.group(1)) != have:
        raise RefusedError(f"{response.url} answered with another part than was asked for")
    return have, int(match.group(2)) if match.group(2).isdigit() else None


def _copy(response: Any, stream: IO[bytes], start: int, limits: Limits, progress: Callable[[int], None]) -> int:
    arrived, until_s = start, time.monotonic() + limits.whole_s
    while chunk := response.read1(_CHUNK_BYTES):
        arrived += len(chunk)
        if arrived > limits.size_bytes:
            raise RunError(f"{response.url} has over {limits.size_bytes:,.0f} bytes", hint="that is more than is read")
        if time.monotonic() > until_s:
            raise _BrokenError(f"{response.url} took over {limits.whole_s:g} s")
        stream.write(chunk)
        progress(arrived)
    return arrived


def _day(headers: Any) -> date | None:
    with contextlib.suppress(TypeError, ValueError):
        return parsedate_to_datetime(headers.get("Date", "")).date()
    return None


def _check(url: str, part: Path, etag: str, checks: Checks) -> None:
    content = part.read_bytes()
    if not content:
        raise RunError(f"{url} is empty")
    if checks.sha256 and hashlib.sha256(content).hexdigest() != checks.sha256.lower():
        raise RunError(f"{url} is damaged: its SHA-256 is another than the one published")
    match = _MD5.fullmatch(etag) if checks.etag_is_md5 else None
    if match and hashlib.md5(content, usedforsecurity=False).hexdigest() != match.group(1):
        raise RunError(f"{url} is damaged: its MD5 is another than the server's")
