"""Look at a computer: every probe under a time limit, then what follows from what they found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from rigwise.errors import RigwiseError
from rigwise.machine.findings import findings
from rigwise.machine.peaks import peaks
from rigwise.machine.probe import gpu_nvidia
from rigwise.machine.probe.source import Root, Unreadable
from rigwise.machine.snapshot import SEVERAL, Snapshot

#: A probe that has not ended so long after its commands had to is left behind, and the snapshot says so.
GRACE_S = 1.0

Probe = Callable[[Root], Any]


def probes() -> dict[str, Probe]:
    """Section of the snapshot -> what reads it; several of one section are joined in this order."""
    from rigwise.machine.probe import (
        containers,
        cpu,
        disks,
        gpu_amd,
        gpu_apple,
        gpu_intel,
        gpu_nvidia,
        limits,
        links,
        listeners,
        memory,
        network,
        pcie,
        scheduler,
        software,
    )

    return {
        "system": software.system,
        "cpu": cpu.cpu,
        "limits": limits.limits,
        "memory": memory.memory,
        "driver": software.driver,
        "software": software.software,
        "container": containers.container,
        "scheduler": scheduler.scheduler,
        "gpus nvidia": gpu_nvidia.gpus,
        "attributes": gpu_nvidia.cuda_attributes,
        "module": gpu_nvidia.from_module,
        "gpus amd": gpu_amd.gpus,
        "gpus intel": gpu_intel.gpus,
        "gpus apple": gpu_apple.gpus,
        "links": links.links,
        "pcie": pcie.pcie,
        "disks": disks.disks,
        "network": network.network,
        "listeners": listeners.listeners,
    }


def inspect(root: Root | None = None) -> Snapshot:
    """What a computer is: this one, or the captured tree that ``root`` reads.

    A probe that fails or takes too long leaves its section empty, and ``failed`` says why; this never raises for what
    a machine does.

    Raises:
        RigwiseError: What is recorded cannot be written.
    """
    root = root or Root()
    found, failed = _run(probes(), root, root.limit_s + GRACE_S)
    by_address, of_module = found.pop("attributes", {}), found.pop("module", [])
    found.setdefault("gpus nvidia", of_module)
    found["gpus nvidia"] = [gpu_nvidia.with_attributes(gpu, by_address) for gpu in found["gpus nvidia"]]
    sections: dict[str, Any] = {}
    for name, result in found.items():
        section = name.partition(" ")[0]
        sections[section] = (*sections.get(section, ()), *result) if section in SEVERAL else result
    snapshot = Snapshot(
        taken=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if root.live else "",
        root=root.folder.name if root.folder else "",
        failed=failed,
        **sections,
    )
    return completed(snapshot)


def completed(snapshot: Snapshot) -> Snapshot:
    """The same with peaks and findings, which follow from the rest."""
    return replace(snapshot, peaks=peaks(snapshot), findings=findings(snapshot))


def _run(by_name: Mapping[str, Probe], root: Root, limit_s: float) -> tuple[dict[str, Any], dict[str, str]]:
    """Results of the probes that ended in time, in the order of the table, and why the others did not.

    Threads, because a file of a broken driver can hang where no signal reaches it: such a thread is left behind.
    """
    found: dict[str, Any] = {}
    failed: dict[str, str] = {}
    stopped: list[RigwiseError] = []

    def one(name: str, probe: Probe) -> None:
        try:
            found[name] = probe(root)
        except RigwiseError as error:
            stopped.append(error)
        except Exception as error:  # whatever a machine makes a probe do, the others go on
            failed[name] = str(error) if isinstance(error, Unreadable) else f"{type(error).__name__}: {error}"[:200]

    threads = {
        name: threading.Thread(target=one, args=(name, probe), name=f"probe {name}", daemon=True)
        for name, probe in by_name.items()
    }
    ends_s = _now_s() + limit_s
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(0.0, ends_s - _now_s()))
    if stopped:
        raise stopped[0]
    for name in threads:
        if name not in found and name not in failed:
            failed[name] = f"it did not end in {limit_s:g} s"
    return {name: found[name] for name in by_name if name in found and name not in failed}, failed


def _now_s() -> float:
    import time

    return time.monotonic()
