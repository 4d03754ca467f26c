"""What joins the GPUs of a machine: NVLink or the way over PCIe, and the rate of each NVLink."""

from __future__ import annotations

import re

from rigwise.machine.probe.source import Root, Unreadable, attempt
from rigwise.machine.snapshot import Confidence, Field, unknown

TOPOLOGY = ("nvidia-smi", "topo", "-m")
NVLINK = ("nvidia-smi", "nvlink", "-s")
#: How nvidia-smi abbreviates a path, and the path in words. Source: the legend that ``nvidia-smi topo -m`` prints.
PATHS = {
    "PIX": "one PCIe switch",
    "PXB": "several PCIe switches",
    "PHB": "the host bridge of a CPU",
    "NODE": "host bridges of one NUMA node",
    "SYS": "the link between CPUs",
    "SOC": "the link between CPUs",
}


def links(root: Root) -> list[dict[str, Field]]:
    """One entry for every pair of NVIDIA GPUs; none where there are fewer than two."""
    try:
        pairs = topology(root.run(*TOPOLOGY))
    except Unreadable:
        return []
    rates = _rates(root) if any(kind.startswith("NV") for _, _, kind in pairs) else {}
    return [_link(first, second, kind, rates.get(first, [])) for first, second, kind in pairs]


def _rates(root: Root) -> dict[int, list[float]]:
    try:
        return nvlink_rates(root.run(*NVLINK))
    except Unreadable:
        return {}


def topology(text: str) -> list[tuple[int, int, str]]:
    r"""The pairs of GPUs and what joins them, from the matrix of ``nvidia-smi topo -m``.

    >>> topology("\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tNV4\t0-7\nGPU1\tNV4\t X \t0-7")
    [(0, 1, 'NV4')]
    """
    rows = [re.split(r"\s+", line.strip()) for line in text.splitlines() if re.match(r"\s*GPU\d+\s", line)]
    header, *lines = rows or [[]]
    columns = [name for name in header if re.fullmatch(r"GPU\d+", name)]
    pairs = []
    for line in lines:
        cells = dict(zip(columns, line[1:], strict=False))
        for name, kind in cells.items():
            first, second = int(line[0][3:]), int(name[3:])
            if first < second and (kind in PATHS or re.fullmatch(r"NV\d{1,2}", kind)):
                pairs.append((first, second, kind))
    return pairs


def nvlink_rates(text: str) -> dict[int, list[float]]:
    r"""Bytes per second each way of every active NVLink of every GPU, as ``nvidia-smi nvlink -s`` prints them.

    >>> nvlink_rates("GPU 0: NVIDIA H100\n\t Link 0: 26.562 GB/s\n\t Link 1: <inactive>")
    {0: [26562000000.0]}
    """
    found: dict[int, list[float]] = {}
    gpu = None
    for line in text.splitlines():
        if head := re.match(r"GPU (\d{1,3}):", line):
            gpu = found.setdefault(int(head[1]), [])
        elif gpu is not None and (rate := re.match(r"\s+Link \d+: (\d{1,4}(?:\.\d{1,3})?) GB/s", line)):
            gpu.append(float(rate[1]) * 1e9)
    return found


def _link(first: int, second: int, kind: str, rates: list[float]) -> dict[str, Field]:
    source = " ".join(TOPOLOGY)
    number = int(kind[2:]) if kind.startswith("NV") else 0
    way = f"{number} NVLinks" if number else PATHS[kind]
    return {
        "between": Field(value=[first, second], source=source),
        "kind": Field(value="nvlink" if number else "pcie", source=source),
        "way": Field(value=way, source=source),
        "bytes_per_s_each_way": attempt(
            "links x rate of one", lambda: number * max(rates) if number else None, Confidence.DERIVED
        )
        if rates
        else unknown(" ".join(NVLINK), "no rate is stated"),
    }
