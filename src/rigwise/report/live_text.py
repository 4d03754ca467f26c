"""A sample of a machine at work: lines for a terminal of any width, a row of a log, a JSON document."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rigwise.machine.live.types import GpuProcess, GpuSample, HostProcess, HostState, Rates, Sample
from rigwise.units import format_bytes, format_count, format_fraction

SCHEMA = "rigwise.watch/1"
_LABEL, _APART, _CORES = 9, "   ", "cores %"
#: Disks, interfaces and processes that are shown; the rest is counted.
_SHOWN = 4
#: More of a memory in use than this is worth a look.
_FULL_FRAC = 0.95

#: A line, and whether it is worth a look.
Line = tuple[str, bool]
#: What stands to its left, what stands side by side, whether it is worth a look.
Part = tuple[str, list[str], bool]


def sample_lines(sample: Sample, width: int = 79, height: int | None = None) -> list[Line]:
    """What a machine does, nothing wider than ``width`` but single words.

    Args:
        sample: The machine at one moment.
        width: Columns.
        height: Where the whole takes more lines, each GPU gets one; None for the whole in any case.
    """
    title = f"{sample.when[:10]} {sample.when[11:19]} UTC, over {sample.since_s:.3g} s"[:width]
    host = [*_host(sample.rates, sample.host), *_processes(sample.processes)]
    notes = [("note", note.split(" "), False) for note in sample.notes]
    whole = _lines([*host, *(part for gpu in sample.gpus for part in _gpu(gpu))], width)
    told = _lines(notes, width, " ")
    if height is not None and 1 + len(whole) + len(told) > height:
        whole = _lines([*host, *(_brief_gpu(gpu) for gpu in sample.gpus)], width)
    return [(title, False), *whole, *told]


def _lines(parts: Iterable[Part], width: int, apart: str = _APART) -> list[Line]:
    found = []
    for label, cells, looks in parts:
        between = " " if label == _CORES else apart
        found += [(line, looks) for line in _filled(label, cells, width, between)]
    return found


def sample_text(sample: Sample, width: int = 79) -> str:
    """The lines as one text."""
    return "".join(f"{line}\n" for line, _ in sample_lines(sample, width))


def _filled(label: str, cells: Sequence[str], width: int, apart: str = _APART) -> list[str]:
    """Cells side by side as far as the width goes; one that is wider alone is broken at its spaces."""
    rest = " " * _LABEL
    lines, line = [], f"{label:<{_LABEL}}"
    for cell in cells:
        if cell and len(line) > _LABEL and len(line + apart + cell) > width:
            lines.append(line)
            line = rest
        line += apart + cell if cell and len(line) > _LABEL else cell
        if len(line) > width:
            kept = re.sub(r"(?<=\d) (?=[A-Za-z%])", "\u00a0", line)
            pieces = textwrap.wrap(kept, width, subsequent_indent=rest, break_long_words=False)
            *whole, line = (piece.replace("\u00a0", " ") for piece in pieces)
            lines += whole
    return [*lines, line]


def _host(rates: Rates, state: HostState) -> Iterator[Part]:
    cells = [
        "" if rates.load_frac is None else f"load {format_fraction(rates.load_frac)}",
        "" if not rates.steal_frac else f"stolen by the host {format_fraction(rates.steal_frac)}",
        _of(state.clock_hz, state.max_clock_hz, "Hz"),
        "" if state.temperature is None else f"{state.temperature} C",
        "" if rates.power_w is None else f"{rates.power_w:.1f} W",
    ]
    yield "cpu", cells if any(cells) else ["this system does not tell"], False
    if len(rates.loads) > 1:
        yield _CORES, [f"{100 * load:3.0f}" for load in rates.loads], False
    if state.memory_used_bytes is not None and state.memory_bytes:
        swap = "" if not state.swap_used_bytes else f"swap {format_bytes(state.swap_used_bytes)}"
        used_frac = state.memory_used_bytes / state.memory_bytes
        yield "memory", [_used(state.memory_used_bytes, state.memory_bytes), swap], used_frac > _FULL_FRAC
    if state.group_used_bytes is not None and state.group_bytes:
        used_frac = state.group_used_bytes / state.group_bytes
        cells = [_used(state.group_used_bytes, state.group_bytes), "limit of the control group"]
        yield "", cells, used_frac > _FULL_FRAC
    yield from _moved("disk", rates.disks, ("read", "written"))
    yield from _moved("network", rates.networks, ("in", "out"))


def _processes(processes: Sequence[HostProcess]) -> Iterator[Part]:
    for place, one in enumerate(processes):
        words = (f"{format_fraction(one.load_frac):>5}", "of a core", _process(one))
        yield "" if place else "busiest", [" ".join(words)], False


def _moved(label: str, rates: Mapping[str, tuple[float, float]], words: tuple[str, str]) -> Iterator[Part]:
    """The busiest first; what rests is left out where something moves."""
    ordered = sorted(rates, key=lambda name: -sum(rates[name]))
    moving = [name for name in ordered if sum(rates[name]) > 0] or ordered[:1]
    for place, name in enumerate(moving[:_SHOWN]):
        shown = [
            f"{word} {format_bytes(rate) if rate else '0 B'}/s" for word, rate in zip(words, rates[name], strict=True)
        ]
        yield "" if place else label, [name, *shown], False
    if len(moving) > _SHOWN:
        yield "", [f"and {len(moving) - _SHOWN} more"], False


def _gpu(gpu: GpuSample) -> Iterator[Part]:
    label = f"gpu {gpu.index}"
    if gpu.fault:
        yield label, [gpu.name, f"{gpu.fault}; see rigwise doctor"], True
        return
    load = "" if gpu.load_frac is None else f"load {format_fraction(gpu.load_frac)}"
    yield label, [gpu.name, load, "" if gpu.temperature is None else f"{gpu.temperature} C"], False
    if gpu.memory_used_bytes is not None and gpu.memory_bytes:
        busy = "" if gpu.memory_load_frac is None else f"busy {format_fraction(gpu.memory_load_frac)}"
        used_frac = gpu.memory_used_bytes / gpu.memory_bytes
        yield "", [f"memory {_used(gpu.memory_used_bytes, gpu.memory_bytes)}", busy], used_frac > _FULL_FRAC
    power, clock = _of(gpu.power_w, gpu.power_limit_w, "W"), _of(gpu.clock_hz, gpu.max_clock_hz, "Hz")
    memory_clock = _of(gpu.memory_clock_hz, gpu.max_memory_clock_hz, "Hz")
    cells = [
        power and f"power {power}",
        clock and f"clock {clock}",
        memory_clock and f"memory's clock {memory_clock}",
        _link(gpu),
    ]
    if any(cells):
        yield "", cells, gpu.pcie_width is not None and gpu.pcie_width < (gpu.pcie_width_max or 0)
    if gpu.throttle:
        yield "", ["held back by", *gpu.throttle], True
    for part in gpu.slices:
        if part.memory_used_bytes is not None and part.memory_bytes:
            yield "", [f"slice {part.index}", _used(part.memory_used_bytes, part.memory_bytes)], False
    yield from (("", [_process(one)], False) for one in gpu.processes[:_SHOWN])
    if len(gpu.processes) > _SHOWN:
        yield "", [f"and {len(gpu.processes) - _SHOWN} more processes"], False


def _brief_gpu(gpu: GpuSample) -> Part:
    """A GPU on one line, as far as the width goes."""
    label, parts = f"gpu {gpu.index}", list(_gpu(gpu))
    looks = any(one for _, _, one in parts)
    if gpu.fault:
        return label, parts[0][1], looks
    used = gpu.memory_used_bytes is not None and gpu.memory_bytes
    cells = [
        "" if gpu.load_frac is None else format_fraction(gpu.load_frac),
        _of(gpu.memory_used_bytes, gpu.memory_bytes, "B") if used else "",
        _of(gpu.power_w, gpu.power_limit_w, "W"),
        _of(gpu.clock_hz, gpu.max_clock_hz, "Hz"),
        "" if gpu.pcie_width is None or gpu.pcie_width == gpu.pcie_width_max else _link(gpu),
        "" if gpu.temperature is None else f"{gpu.temperature} C",
        *(gpu.throttle or ()),
    ]
    return label, cells, looks


def _process(process: GpuProcess | HostProcess) -> str:
    memory = "memory unknown" if process.memory_bytes is None else format_bytes(process.memory_bytes)
    words = (f"pid {process.pid}", process.user, memory, process.name[:40] or "(ended, or not shown here)")
    return " ".join(word for word in words if word)


def _used(used: float, whole: float) -> str:
    return f"{format_bytes(used)} of {format_bytes(whole)} ({format_fraction(used / whole)})"


def _of(value: float | None, best: float | None, unit: str) -> str:
    """A value and its highest, the unit once where it is the same.

    >>> _of(1.7e9, 2e9, "Hz"), _of(70.0, None, "W"), _of(None, 700.0, "W")
    ('1.70 of 2.00 GHz', '70.0 W', '')
    """
    if value is None:
        return ""
    shown, most = format_count(value, unit), "" if best is None else format_count(best, unit)
    number, _, of = shown.partition(" ")
    return f"{number if most.endswith(f' {of}') else shown} of {most}" if most else shown


def _link(gpu: GpuSample) -> str:
    if gpu.pcie_width is None:
        return ""

    def link(generation: int | None, width: int | None) -> str:
        return " ".join([*([str(generation)] if generation else []), f"x{width}"])

    now = link(gpu.pcie_generation, gpu.pcie_width)
    best = link(gpu.pcie_generation_max, gpu.pcie_width_max or gpu.pcie_width)
    return f"PCIe {now}" if now == best else f"PCIe {now} of {best}"


def _of_host(sample: Sample) -> dict[str, Any]:
    """Columns of a log that every machine has."""
    rates, host = sample.rates, sample.host
    (read, written), (received, sent) = _sums(rates.disks), _sums(rates.networks)
    return {
        "time": sample.when,
        "since_s": sample.since_s,
        "cpu_load_frac": rates.load_frac,
        "busiest_cpu_load_frac": max(rates.loads, default=None),
        "steal_frac": rates.steal_frac,
        "cpu_clock_hz": host.clock_hz,
        "cpu_temperature_c": host.temperature,
        "cpu_power_w": rates.power_w,
        "memory_used_bytes": host.memory_used_bytes,
        "memory_bytes": host.memory_bytes,
        "swap_used_bytes": host.swap_used_bytes,
        "group_used_bytes": host.group_used_bytes,
        "group_bytes": host.group_bytes,
        "disk_read_bytes_per_s": read,
        "disk_written_bytes_per_s": written,
        "network_in_bytes_per_s": received,
        "network_out_bytes_per_s": sent,
    }


#: Columns of each GPU that are its fields; those that are not follow them.
_FIELDS = (
    "load_frac",
    "memory_load_frac",
    "memory_used_bytes",
    "memory_bytes",
    "power_w",
    "power_limit_w",
    "energy_j",
    "clock_hz",
    "max_clock_hz",
    "memory_clock_hz",
    "pcie_width",
    "pcie_width_max",
    "pcie_generation",
)


def _of_gpu(gpu: GpuSample) -> dict[str, Any]:
    """Columns of a log for each GPU."""
    throttle = None if gpu.throttle is None else ";".join(gpu.throttle) or "none"
    return {
        **{name: getattr(gpu, name) for name in _FIELDS},
        "temperature_c": gpu.temperature,
        "throttle": throttle,
        "processes": None if gpu.fault else len(gpu.processes),
        "fault": gpu.fault or None,
    }


_NO_SAMPLE = Sample(when="", since_s=0.0, rates=Rates(), host=HostState())
_NO_GPU = _of_gpu(GpuSample(index=0, fault="it is not there any more"))


def columns(gpus: int) -> list[str]:
    """Names of the columns of a log, the same for every row.

    Args:
        gpus: GPUs of the first sample; one that comes later has no columns.
    """
    return [*_of_host(_NO_SAMPLE), *(f"gpu{index}_{name}" for index in range(gpus) for name in _NO_GPU)]


def row(sample: Sample, gpus: int) -> list[str]:
    """A sample as cells under ``columns``; what is unknown is empty."""
    of_gpus = [_of_gpu(gpu) for gpu in sample.gpus[:gpus]]
    of_gpus += [_NO_GPU] * (gpus - len(of_gpus))
    return [_cell(one) for cells in (_of_host(sample), *of_gpus) for one in cells.values()]


def csv_line(cells: Sequence[str]) -> str:
    """One line of a log."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _sums(rates: Mapping[str, tuple[float, float]]) -> tuple[float | None, float | None]:
    if not rates:
        return None, None
    return sum(rate for rate, _ in rates.values()), sum(rate for _, rate in rates.values())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def document(samples: Sequence[Sample], every_s: float) -> dict[str, Any]:
    """Samples for JSON."""
    return {"schema": SCHEMA, "every_s": every_s, "samples": [_sample(sample) for sample in samples]}


def _sample(sample: Sample) -> dict[str, Any]:
    rates, host = sample.rates, dataclasses.asdict(sample.host)
    cpu = {"load_frac": rates.load_frac, "loads": list(rates.loads), "steal_frac": rates.steal_frac}
    cpu |= {"clock_hz": host.pop("clock_hz"), "max_clock_hz": host.pop("max_clock_hz"), "power_w": rates.power_w}
    cpu |= {"temperature_c": host.pop("temperature"), "no_energy": host.pop("no_energy") or None}
    gpus = [dataclasses.asdict(gpu) for gpu in sample.gpus]
    for gpu in gpus:
        gpu["temperature_c"] = gpu.pop("temperature")
    return {
        "when": sample.when,
        "since_s": sample.since_s,
        "cpu": cpu,
        "memory": host,
        "disks": _named(rates.disks, ("read_bytes_per_s", "written_bytes_per_s")),
        "networks": _named(rates.networks, ("in_bytes_per_s", "out_bytes_per_s")),
        "gpus": gpus,
        "processes": [dataclasses.asdict(process) for process in sample.processes],
        "notes": list(sample.notes),
    }


def _named(rates: Mapping[str, tuple[float, float]], words: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, **dict(zip(words, pair, strict=True))} for name, pair in rates.items()]
