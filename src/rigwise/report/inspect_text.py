"""A snapshot on one screen of 80 columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from rigwise.machine.match import catalogue_cpu, catalogue_gpu, number, value
from rigwise.machine.snapshot import Confidence, Field, Snapshot
from rigwise.units import GIB, MIB, format_bytes, format_count

WIDTH = 79
#: Lines of one kind before the rest is counted.
_SHOWN = 4
_LABEL = 10


def inspect_text(snapshot: Snapshot, *, brief: bool = False) -> str:
    """What the machine is, its peaks with their arithmetic, and what disagrees; ``brief`` leaves the peaks out."""
    lines = [*machine_rows(snapshot), *_listeners(snapshot)]
    text = [line for label, words in lines for line in _wrapped(label, words)]
    if snapshot.peaks and not brief:
        text += ["", "theoretical peaks (~ with something assumed)", *_peaks(snapshot)]
    if snapshot.findings:
        text += ["", f"{len(snapshot.findings)} finding{'s' if len(snapshot.findings) != 1 else ''}"]
        text += [line for finding in snapshot.findings for line in _item(f"{_place(finding.where)}{finding.text}")]
    if snapshot.failed:
        text += ["", "could not be read"]
        text += [line for name, why in snapshot.failed.items() for line in _item(f"{name}: {why}")]
    return "\n".join(text) + "\n"


def machine_rows(snapshot: Snapshot) -> list[tuple[str, str]]:
    """What the machine is: labels and words, without what it is open to; an empty label goes on with the one before."""
    rows = [*_system(snapshot), *_cpu(snapshot), *_memory(snapshot), *_gpus(snapshot), *_links(snapshot)]
    rows += [*_disks(snapshot), *_network(snapshot), *_software(snapshot)]
    return [(label, words) for label, words in rows if words]


def peak_rows(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """Theoretical peaks: of what, how much, and the arithmetic; ``~`` where something is assumed."""
    rows = []
    for peak in _peaks_told(snapshot):
        key, unit = ("flops_per_s", "FLOP/s") if "flops_per_s" in peak else ("bytes_per_s", "B/s")
        sign = "~" if peak[key].confidence is Confidence.ASSUMED else ""
        amount = format_count(number(peak, key) or 0.0, unit)
        rows.append((f"{value(peak, 'of')} {value(peak, 'what')}", f"{sign}{amount}", peak[key].source))
    return rows


def all_fields_text(snapshot: Snapshot) -> str:
    """Every field on a line of its own: name, value, confidence, source and, if it is unknown, why."""
    lines = []
    for name, field in snapshot.fields():
        shown = "?" if field.value is None else _plain(field.value)
        why = f" ({field.reason})" if field.reason else ""
        lines.append(f"{name} = {shown}  [{field.confidence}: {field.source}]{why}")
    return "\n".join(lines) + "\n"


def _plain(found: Any) -> str:
    if isinstance(found, list):
        return ", ".join(str(one) for one in found)
    if isinstance(found, float) and found == int(found) and abs(found) < 1e15:
        return str(int(found))
    return str(found)


def _wrapped(label: str, words: str) -> list[str]:
    return _filled(words, f"{label:<{_LABEL}}", " " * _LABEL) if words else []


def _filled(words: str, start: str, rest: str) -> list[str]:
    """Lines of the width, no number parted from its unit."""
    kept = re.sub(r"(?<=\d) (?=[A-Za-z])", "\u00a0", words)
    lines = textwrap.wrap(kept, WIDTH, initial_indent=start, subsequent_indent=rest)
    return [line.replace("\u00a0", " ") for line in lines]


def _item(words: str) -> list[str]:
    return _filled(words, "  - ", "    ")


def _place(where: str) -> str:
    section, _, rest = where.partition(".")
    return f"GPU {rest.partition('.')[0]}: " if section == "gpus" else ""


def _joined(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part)


def _short(name: object) -> str:
    """A name without the marks of makers."""
    return " ".join(str(name).replace("(R)", "").replace("(TM)", "").split())


def _sizes(size_bytes: float | None) -> str:
    """Memory in GiB, or in MiB where that is none: /dev/shm of a container has 64 MiB."""
    if not size_bytes:
        return ""
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB else f"{size_bytes / MIB:.0f} MiB"


def _system(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    get = snapshot.value
    kind, host = get("container.kind"), get("container.host")
    inside = f"in {kind}" if kind not in (None, "none") else ""
    virtual = f"virtual machine{f' ({host})' if host else ''}" if get("cpu.virtual") else host
    where = "WSL" if get("container.wsl") else virtual
    yield "system", _joined(get("system.os") or "unknown system", get("system.kernel"), inside, where)
    job = get("scheduler.job")
    installed = get("scheduler.installed")
    words = [name for name in installed or [] if name != job]
    yield "scheduler", _joined(*words, f"inside a job of {job}" if job not in (None, "none") else "")


def _cpu(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    get, cpu = snapshot.value, snapshot.cpu
    cores, logical, sockets = (number(cpu, key) for key in ("cores", "logical", "sockets"))
    known, is_itself = catalogue_cpu(snapshot)
    architecture = f"({known.architecture})" if known and not is_itself else ""
    counts = [f"{cores:.0f} cores" if cores else "", f"{logical:.0f} threads" if logical and logical != cores else ""]
    counts += [f"{sockets:.0f} sockets" if sockets and sockets > 1 else ""]
    nodes = number(cpu, "numa_nodes")
    counts += [f"{nodes:.0f} NUMA nodes" if nodes and nodes > 1 else ""]
    clock = number(cpu, "nominal_hz")
    counts += [f"{clock / 1e9:.2f} GHz" if clock else "", get("cpu.governor")]
    yield "CPU", _joined(f"{_short(get('cpu.name') or 'unknown')} {architecture}".strip(), *counts)
    caches = [f"L{level} {_cache(cpu, f'l{level}_bytes')}" for level in (2, 3) if number(cpu, f"l{level}_bytes")]
    isa = get("cpu.isa")
    vectors = [word for word in isa if word not in ("sse4.2", "avx", "fma")] if isinstance(isa, list) else []
    if caches or vectors:
        yield "", _joined(*caches, " ".join(vectors))
    limit, usable = number(snapshot.limits, "cpu_count"), number(snapshot.limits, "usable_cpus")
    if limit and usable and usable < limit:
        yield "", f"{usable:g} of {limit:.0f} CPUs may be used"


def _cache(cpu: Mapping[str, Field], key: str) -> str:
    size = number(cpu, key) or 0.0
    return f"{size / MIB:.0f} MiB" if size >= MIB else f"{size / 1024:.0f} KiB"


def _memory(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    memory = snapshot.memory
    total, free = number(memory, "total_bytes"), number(memory, "available_bytes")
    limit, shm = number(snapshot.limits, "cgroup_memory_bytes"), number(memory, "shm_bytes")
    modules, speed, kind = number(memory, "modules"), number(memory, "transfers_per_s"), value(memory, "kind")
    words = [_sizes(total) or "unknown", f"{_sizes(free)} available" if free else ""]
    words += [f"{_sizes(limit)} may be used" if limit and total and limit < total else ""]
    words += [f"{modules:.0f} modules" if modules else "", str(kind) if kind else ""]
    words += [f"{speed / 1e6:.0f} MT/s" if speed else "", f"/dev/shm {_sizes(shm)}" if shm else ""]
    yield "memory", _joined(*words)


def _gpus(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    if not snapshot.gpus:
        yield "GPU", "none that a driver shows"
    told = [_gpu_words(gpu) for gpu in snapshot.gpus]
    for words in dict.fromkeys(told):
        places = [place for place, other in enumerate(told) if other == words]
        label = f"GPU {places[0]}" if len(places) == 1 else f"GPU {places[0]}-{places[-1]}"
        yield label, f"{len(places)} x {words}" if len(places) > 1 else words
    if snapshot.gpus:
        gpu = snapshot.gpus[0]
        version, cuda = value(gpu, "driver"), value(gpu, "cuda_driver")
        yield "driver", _joined(version, f"up to CUDA {cuda}" if cuda else "")


def _gpu_words(gpu: Mapping[str, Field]) -> str:
    device = catalogue_gpu(gpu)
    units, clock, memory = (number(gpu, key) for key in ("sm_count", "max_clock_hz", "memory_bytes"))
    limit, width = number(gpu, "power_limit_w"), number(gpu, "pcie_width")
    generation, best = number(gpu, "pcie_generation"), number(gpu, "pcie_generation_max")
    link = f"PCIe {generation:.0f} x{width:.0f}" if width and generation else ""
    reaches = f" (up to {best:.0f})" if link and generation and best and best > generation else ""
    words = [_short(value(gpu, "name") or value(gpu, "device") or "unknown"), _sizes(memory)]
    words += [f"{units:.0f} units" if units else "", f"{clock / 1e9:.2f} GHz" if clock else ""]
    words += [f"{limit:.0f} W" if limit else "", link + reaches]
    words += ["MIG" if value(gpu, "mig") == "enabled" else "", f"catalogue: {device.id}" if device else ""]
    return _joined(*words)


def _links(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    ways = [str(value(link, "way")) for link in snapshot.links]
    counted = [f"{ways.count(way)} pair{'s' if ways.count(way) > 1 else ''} by {way}" for way in dict.fromkeys(ways)]
    if counted:
        yield "links", _joined(*counted)


def _disks(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for place, disk in enumerate(snapshot.disks[:_SHOWN]):
        size, free = number(disk, "size_bytes"), number(disk, "free_bytes")
        words = [f"{value(disk, 'name')} ({value(disk, 'kind') or 'unknown kind'})"]
        words += [format_bytes(size) if size else "", f"{format_bytes(free)} free" if free else ""]
        mount = value(disk, "mount")
        words += [f"{value(disk, 'file_system')} on {mount}" if mount else ""]
        yield "disks" if place == 0 else "", _joined(*words)
    if len(snapshot.disks) > _SHOWN:
        yield "", f"and {len(snapshot.disks) - _SHOWN} more"


def _network(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    up = [entry for entry in snapshot.network if value(entry, "kind") != "virtual" and value(entry, "state") != "down"]
    words = []
    for entry in up[:_SHOWN]:
        rate = number(entry, "bytes_per_s")
        shown = f"{8 * rate / 1e9:g} Gbit/s" if rate else "rate unknown"
        words.append(f"{value(entry, 'name')} ({value(entry, 'kind')}, {shown})")
    more = f"and {len(up) - _SHOWN} more" if len(up) > _SHOWN else ""
    if words:
        yield "network", _joined(*words, more)


def _software(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    get, software = snapshot.value, snapshot.software
    named = ("torch", "tensorflow", "jax", "transformers", "vllm", "onnxruntime", "numpy")
    found = [f"{name} {value(software, name)}" for name in named if value(software, name)]
    archs, cuda, python = get("software.torch_archs"), get("driver.cuda_toolkit"), get("system.python")
    listed = " ".join(str(arch) for arch in archs) if isinstance(archs, list) else "none"
    found = [f"Python {python}" if python else "", *found, f"CUDA toolkit {cuda}" if cuda else ""]
    libraries = [(name, _of_maker(snapshot, name.lower())) for name in ("cuDNN", "NCCL")]
    found += [f"{name} {version}" for name, version in libraries if version]
    yield "software", _joined(*found, f"torch for {listed}" if listed != "none" else "")


def _of_maker(snapshot: Snapshot, library: str) -> object:
    """The version of a library of NVIDIA: of its package, which frameworks load, else of the system's header."""
    packages = (name for name in sorted(snapshot.software) if re.fullmatch(rf"nvidia_{library}(_cu\d+)?", name))
    return next((value(snapshot.software, name) for name in packages), snapshot.value(f"driver.{library}"))


def _listeners(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """Only those that other machines can reach."""
    reached = [entry for entry in snapshot.listeners if value(entry, "reach") != "this machine"]
    words = []
    for entry in reached[:8]:
        name = value(entry, "program") or value(entry, "usual")
        words.append(f"{value(entry, 'port')}{f' ({name})' if name else ''}")
    if words:
        yield "open to", _joined(*words, f"and {len(reached) - 8} more" if len(reached) > 8 else "")


def _peaks(snapshot: Snapshot) -> Iterator[str]:
    """One line for each."""
    for label, amount, source in peak_rows(snapshot):
        sign = "~" if amount.startswith("~") else " "
        start = f"  {label:<17}{sign}{amount.removeprefix('~'):>13}  "
        yield from _filled(source, start, " " * len(start))


def _peaks_told(snapshot: Snapshot) -> list[Mapping[str, Field]]:
    """The peaks, without those of further equal GPUs."""
    told = [_gpu_words(gpu) for gpu in snapshot.gpus]
    later = {f"gpu {place}" for place, words in enumerate(told) if words in told[:place]}
    return [peak for peak in snapshot.peaks if str(value(peak, "of")) not in later]
