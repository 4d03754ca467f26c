"""What the server is told when it starts."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

from rigwise.errors import InvalidInputError

LOCALHOST = "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where it listens, whom it answers and what one request may cost.

    Attributes:
        host, port: Where it listens.
        token: What a request must show; empty: nothing, which is for loopback alone.
        names: Host names that a browser may use for it, beside those of loopback and IP addresses.
        workers: Processes that answer.
        waiting: Long questions that may wait for one of them, and as many short ones.
        limit_s: Time for an answer.
        kept_bytes: Answers that are kept for when they are asked for again.
        upload_bytes: Largest upload.
        uploads: Uploads that are kept; the oldest goes first.
        request_s: Time in which a request must have arrived whole.
        connections: Open at once.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str = ""
    names: tuple[str, ...] = ()
    workers: int = 2
    waiting: int = 64
    limit_s: float = 20.0
    kept_bytes: float = 64 * 2**20
    upload_bytes: int = 256 * 2**20
    uploads: int = 100
    request_s: float = 60.0
    connections: int = 900


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host.lower() == LOCALHOST:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check(settings: Settings) -> Settings:
    """The same settings, if nobody but this machine can ask without a token.

    Raises:
        InvalidInputError: The place needs a token, or the token could be guessed.
    """
    if not settings.token and not is_loopback(settings.host):
        raise InvalidInputError(
            f"{settings.host} can be reached from other machines", hint="give a --token, or --token new for a new one"
        )
    if settings.token and (
        len(settings.token) < 16 or not settings.token.isascii() or not settings.token.isprintable()
    ):
        raise InvalidInputError("the token is no text of 16 or more letters and digits", hint="--token new makes one")
    return settings
