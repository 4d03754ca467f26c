"""Answers come from what is installed: no command that answers opens a socket."""

import socket

import pytest
from click.testing import CliRunner

from rigwise.cli.main import root as command_line

ANSWERS = {
    "predict": ["predict", "resnet50", "--device", "rtx-4090", "--batch", "64", "--json"],
    "compare": ["compare", "resnet50", "--device", "rtx-4090", "--device", "t4", "--json"],
    "plan": ["plan", "resnet50", "--task", "train", "--samples", "1e7", "--deadline", "24h", "--json"],
    "show": ["show", "resnet50", "--json"],
    "devices": ["devices", "--json"],
    "offers": ["offers", "--json"],
}


class SocketOpenedError(AssertionError):
    """Something tried to reach a network."""


@pytest.fixture
def no_sockets(monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise SocketOpenedError

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("arguments", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_opens_no_socket(arguments: list[str]) -> None:
    result = CliRunner().invoke(command_line, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 0
    assert result.stdout


@pytest.mark.usefixtures("no_sockets")
def test_the_check_sees_a_connection() -> None:
    from urllib.request import urlopen

    with pytest.raises(SocketOpenedError):
        urlopen("http://localhost:9/")
