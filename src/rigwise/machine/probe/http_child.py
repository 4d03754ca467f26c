"""Run as a process of its own: asks ports of this machine for one path each, without a password, one line for each.

Only the loopback address is asked, only with GET, and nothing of what is answered is kept but its status and kind.
Nothing is sent to what speaks first, as the sockets of a notebook's kernel do: it would take the request for a message.
"""

from __future__ import annotations

import re
import socket
import ssl
import sys
import threading

TIMEOUT_S = 1.0
#: How long a greeting is waited for; servers of HTTP and TLS never give one.
GREETING_S = 0.1
LIMIT_BYTES = 16_384


def ask(port: int, path: str, *, encrypted: bool = False) -> tuple[str, str]:
    """Status of the answer, ``none`` where it is no HTTP, and whether it is JSON."""
    request = f"GET {path} HTTP/1.0\r\nHost: localhost:{port}\r\nAccept: */*\r\n\r\n".encode()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as plain:
            if _speaks_first(plain):
                return "none", "other"
            plain.settimeout(TIMEOUT_S)
            stream: socket.socket = plain
            if encrypted:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                stream = context.wrap_socket(plain)
            stream.sendall(request)
            answer = _received(stream)
    except (OSError, ValueError):
        return "none", "other"
    match = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    body = answer.partition(b"\r\n\r\n")[2].lstrip()
    return (match[1].decode() if match else "none"), ("json" if body[:1] in (b"{", b"[") else "other")


def _speaks_first(stream: socket.socket) -> bool:
    """Whether the other side says something before it is asked."""
    stream.settimeout(GREETING_S)
    try:
        return bool(stream.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False


def _received(stream: socket.socket) -> bytes:
    """The head of an answer and the beginning of its body; what a server that says no more had said."""
    answer = b""
    while len(answer) < LIMIT_BYTES and not answer.partition(b"\r\n\r\n")[2].strip():
        try:
            part = stream.recv(4096)
        except TimeoutError:
            break
        if not part:
            break
        answer += part
    return answer


def main(arguments: list[str]) -> int:
    """Ask each ``PORT/PATH``; over TLS where the plain answer says nothing or asks for it."""
    lines: dict[str, str] = {}

    def one(argument: str) -> None:
        port, slash, path = argument.partition("/")
        status, kind = ask(int(port), slash + path)
        if status in ("none", "400"):
            status, kind = ask(int(port), slash + path, encrypted=True)
        lines[argument] = f"{argument} {status} {kind}"

    threads = [threading.Thread(target=one, args=(argument,), daemon=True) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * TIMEOUT_S)
    for argument in arguments:
        print(lines.get(argument, f"{argument} none other"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
