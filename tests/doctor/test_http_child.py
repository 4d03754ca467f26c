"""What asks the ports of this machine disturbs nobody: it sends nothing to what speaks first."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from rigwise.machine.probe import http_child

#: How a socket of ZeroMQ greets whoever connects. Source: ZMTP 3.0, section 3, "signature".
ZEROMQ = b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f"


class Server(threading.Thread):
    """Greets, or does not, and keeps what it is sent."""

    def __init__(self, greeting: bytes) -> None:
        super().__init__(daemon=True)
        self.greeting, self.sent = greeting, b""
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])

    def run(self) -> None:
        stream, _ = self.socket.accept()
        with stream:
            stream.sendall(self.greeting)
            stream.settimeout(2)
            with contextlib.suppress(ConnectionResetError):  # closed without reading the greeting
                self.sent = stream.recv(4096)
            if self.sent:
                stream.sendall(b"HTTP/1.0 200 OK\r\n\r\n{}")


@pytest.fixture(params=[ZEROMQ, b"SSH-2.0-OpenSSH_9.2\r\n", b""])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server(request.param)
    made.start()
    yield made
    made.join(5)
    made.socket.close()


def test_only_what_waits_is_asked(server: Server) -> None:
    found = http_child.ask(server.port, "/api")
    server.join(5)
    assert found == (("none", "other") if server.greeting else ("200", "json"))
    assert server.sent[:9] == (b"" if server.greeting else b"GET /api ")
