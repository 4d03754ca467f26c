"""What the doctor looks at on machines with GPUs: whether tools and CUDA answer, devices, firmware, slots, peers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rigwise.machine.probe.source import Root, Unreadable
from rigwise.machine.snapshot import Snapshot

PCI = "/sys/bus/pci/devices"
#: The first call of CUDA on a machine without persistence mode takes seconds; one that hangs never ends.
CUDA_LIMIT_S = 4.0


def readers(root: Root, snapshot: Snapshot) -> dict[str, Callable[[], Any]]:
    """Name -> what reads it; where there is no NVIDIA device nothing of NVIDIA is asked."""
    found: dict[str, Callable[[], Any]] = {"kfd": lambda: kfd(root)}
    if not has_nvidia(snapshot):
        return found
    return found | {
        "nvidia_smi": lambda: said(root, "nvidia-smi", "-L"),
        "cuda_init": lambda: cuda_init(root),
        "secure_boot": lambda: "enabled" in root.run("mokutil", "--sb-state"),
        "dkms": lambda: [line.strip()[:120] for line in root.run("dkms", "status").splitlines() if "nvidia" in line],
        "uvm": lambda: root.exists("/dev/nvidia-uvm"),
        "module": lambda: root.exists("/sys/module/nvidia"),
        "slots": lambda: slots(root, snapshot),
        "acs_redirects": lambda: acs_redirects(root, snapshot),
    }


def has_nvidia(snapshot: Snapshot) -> bool:
    """Whether anything of the machine is NVIDIA's: a card, its device files, its module."""
    cards = [entry["vendor"].value for entry in snapshot.pcie if entry["kind"].value in ("gpu", "accelerator")]
    gpus = [entry["vendor"].value for entry in snapshot.gpus if "vendor" in entry]
    devices = snapshot.value("container.nvidia_devices") or snapshot.value("driver.nvidia")
    return "NVIDIA" in [*cards, *gpus] or bool(devices)


def said(root: Root, *command: str) -> str:
    """``ok`` if a command ends well, else what it says or that it hangs or is not installed.

    Raises:
        Unreadable: It could not be asked, which says nothing of the driver.
    """
    try:
        root.run(*command, limit_s=CUDA_LIMIT_S)
    except Unreadable as error:
        return _answered(error)
    return "ok"


def _answered(error: Unreadable) -> str:
    """What a command answered that failed; an error of reading or starting it is none."""
    if not re.search(r"ended with \d|did not answer|is not installed", str(error)):
        raise error
    return str(error)


def cuda_init(root: Root) -> str:
    """``ok`` if CUDA starts, in a process of its own, else what it answers.

    Raises:
        Unreadable: It could not be asked.
    """
    from rigwise.machine.doctor.look import python_child
    from rigwise.machine.probe import cuda_child

    try:
        python_child(root, cuda_child.__file__, name="cuda-attributes", limit_s=CUDA_LIMIT_S)
    except Unreadable as error:
        text = re.sub(r"^\S+ ended with \d+: ", "", _answered(error))
        return re.sub(r"^\S+ (?=did not answer)", "CUDA ", text)
    return "ok"


def kfd(root: Root) -> dict[str, Any] | None:
    """Owner and mode of AMD's compute device, and the groups of this user."""
    if not root.exists("/dev/kfd"):
        return None
    mode, owner, group = root.run("stat", "-L", "-c", "%a %u %g", "/dev/kfd", name="stat-kfd").split()
    user = root.run("id", "-u").strip()
    groups = root.run("id", "-G").split()
    return {"mode": mode, "owner": owner, "group": group, "user": user, "groups": groups}


def slots(root: Root, snapshot: Snapshot) -> dict[str, int]:
    """Widest link of the port that each card is plugged into, by its address; virtual machines show none."""
    found = {}
    for entry in snapshot.pcie:
        address = str(entry["address"].value)
        try:
            width = int(root.text(f"{PCI}/{address}/../max_link_width"))
        except (Unreadable, ValueError):
            continue
        if 0 < width <= 32:
            found[address] = width
    return found


def acs_redirects(root: Root, snapshot: Snapshot) -> int | None:
    """Bridges that send traffic between cards up to the root; None where they cannot be seen, which needs root."""
    if len(snapshot.gpus) < 2:
        return None
    controls = re.findall(r"ACSCtl:[^\n]*", root.run("lspci", "-vvv", limit_s=2.5))
    if not controls:
        raise Unreadable("access control is shown to root only")
    return sum("ReqRedir+" in control for control in controls)
