"""Programs of this machine that wait for connections, and from where they can be reached."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from rigwise.machine.probe.source import Root, Unreadable
from rigwise.machine.snapshot import Confidence, Field, unknown

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
LISTENING = "0A"
#: Ports that tools of this field take where none is given. Source: the documentation of each, from memory.
USUAL = {
    22: "ssh", 1234: "LM Studio", 2375: "Docker without TLS", 2376: "Docker", 4040: "Spark", 5000: "MLflow",
    6006: "TensorBoard", 6379: "Redis or Ray", 7860: "Gradio", 8000: "vLLM or FastAPI", 8080: "web",
    8265: "Ray dashboard", 8501: "Streamlit", 8787: "Dask dashboard", 8888: "Jupyter", 8889: "Jupyter",
    9090: "Prometheus", 9400: "DCGM exporter", 11434: "Ollama",
}  # fmt: skip
#: Processes looked at to name the owner of a port; those of others cannot be read anyway.
PROCESSES_LIMIT = 400


def listeners(root: Root) -> list[dict[str, Field]]:
    """One entry for every port that is listened on."""
    found: dict[tuple[int, str], str] = {}
    for table in TABLES:
        try:
            text = root.text(table, kept=_only_listening)
        except Unreadable:
            continue
        for reach, port, inode in listening(text):
            found.setdefault((port, reach), inode)
    names = _owners(root, set(found.values())) if found else {}
    return [_listener(port, reach, names.get(inode, "")) for (port, reach), inode in sorted(found.items())]


def _listener(port: int, reach: str, program: str) -> dict[str, Field]:
    guess = USUAL.get(port)
    usual = Field(value=guess, source="usual ports", confidence=Confidence.ASSUMED)
    return {
        "port": Field(value=port, source=TABLES[0]),
        "reach": Field(value=reach, source=TABLES[0]),
        "program": Field(value=program, source="/proc/*/comm")
        if program
        else unknown("/proc/*/fd", "it is another user's"),
        "usual": usual if guess else unknown("usual ports", "no tool of this field takes it by default"),
    }


def listening(text: str) -> Iterator[tuple[str, int, str]]:
    """From where a port can be reached, the port, and the number of its socket.

    >>> list(listening("  0: 0100007F:22B8 00000000:0000 0A 0:0 0:0 0 1000 0 4711 1"))
    [('this machine', 8888, '4711')]
    """
    for line in text.splitlines():
        parts = line.split()
        match = re.fullmatch(r"([0-9A-Fa-f]{8}|[0-9A-Fa-f]{32}):([0-9A-Fa-f]{4})", parts[1]) if len(parts) > 9 else None
        if match and parts[3] == LISTENING:
            yield reach_of(match[1]), int(match[2], 16), parts[9]


def _only_listening(text: str) -> str:
    """The table without its connections, which name other machines."""
    return "\n".join(line for line in text.splitlines() if line.split()[3:4] == [LISTENING])


def reach_of(digits: str) -> str:
    """Who can reach an address: this machine, all networks, or one network.

    The kernel prints words of 32 bits in the order of this machine's bytes.

    >>> reach_of("00000000"), reach_of("0100007F"), reach_of("0" * 24 + "01000000"), reach_of("0A01A8C0")
    ('all networks', 'this machine', 'this machine', 'one network')
    """
    raw = b"".join(bytes.fromhex(digits[i : i + 8])[::-1] for i in range(0, len(digits), 8))
    address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(raw)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_unspecified:
        return "all networks"
    return "this machine" if address.is_loopback else "one network"


def _owners(root: Root, inodes: set[str]) -> dict[str, str]:
    """Name of the program behind a socket, where its process may be looked at; none while a machine is captured."""
    if root.record is not None:
        return {}
    found: dict[str, str] = {}
    for process in root.names("/proc", r"\d+$")[-PROCESSES_LIMIT:]:
        for handle in root.names(f"/proc/{process}/fd"):
            link = root.target(f"/proc/{process}/fd/{handle}")
            inode = link[8:-1] if link.startswith("socket:[") else ""
            if inode in inodes and inode not in found:
                name = root.field(f"/proc/{process}/comm")
                found[inode] = str(name.value or "")
    return found
