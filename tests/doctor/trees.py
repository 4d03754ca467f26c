"""Captured trees of machines from short descriptions: a clean base, and what is different on this one."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "data" / "doctor"
CLEAN = ("laptop", "gaming", "dgx", "wsl2", "cloud")

SHARED: dict[str, Any] = {
    "files": {
        "/proc/self/limits": "Limit  Soft Limit  Hard Limit  Units\nMax open files   65536    65536    files\n",
        "/proc/cmdline": "BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro quiet\n",
        "/proc/mounts": "/dev/nvme0n1p2 / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n",
        "/sys/block/nvme0n1/size": "1953525168\n",
        "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "/sys/class/net/eth0/operstate": "up\n",
        "/proc/sys/kernel/osrelease": "6.8.0-45-generic\n",
        "/proc/1/cgroup": "0::/init.scope\n",
    },
    "commands": {
        "ldd_--version": "ldd (GNU libc) 2.35\n",
        "python_-V": "Python 3.12.3\n",
        "uname_-srm": "Linux 6.8.0 x86_64\n",
        "df_-P_-l_-k": "Filesystem 1024-blocks Used Available Capacity Mounted on\n"
        "/dev/nvme0n1p2 976000000 300000000 600000000 34% /\ntmpfs 16000000 0 16000000 0% /dev/shm\n",
        "dmesg": "[    0.000000] Linux version 6.8.0\n",
        "ldconfig_-p": "2 libs found in cache\n\tlibc.so.6 (libc6,x86-64) => /lib/x86_64-linux-gnu/libc.so.6\n",
        "id_-u": "1000\n",
        "id_-G": "1000 44\n",
    },
    "links": {"/usr/lib/x86_64-linux-gnu/libstdc++.so.6": "libstdc++.so.6.0.30"},
    "environment": {},
    "packages": {},
    "exits": {},
}


def described(name: str) -> dict[str, Any]:
    """A file of descriptions."""
    return tomllib.loads((DATA / f"{name}.toml").read_text("utf-8"))


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``change`` over ``base``: tables are merged, everything else is replaced; ``remove`` takes keys away."""
    result = copy.deepcopy(base)
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    for path in change.get("remove", ()):
        table, _, key = path.partition(":")
        if not key:
            result.pop(table, None)
        else:
            result.get(table, {}).pop(key, None)
    result.pop("remove", None)
    return result


def clean(name: str) -> dict[str, Any]:
    """A machine with nothing wrong."""
    return merged(SHARED, described(name))


def build(folder: Path, machine: dict[str, Any]) -> Path:
    """Write a machine as a captured tree."""
    (folder / "proc").mkdir(parents=True, exist_ok=True)
    files = {**_cpu(machine), **_gpu_files(machine), **machine.get("files", {})}
    for path in [*machine.get("exist", ()), *files]:
        file = folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(files.get(path, ""), "utf-8")
    commands = {**_gpu_commands(machine), **machine["commands"]}
    for name, text in commands.items():
        (folder / "commands").mkdir(exist_ok=True)
        (folder / "commands" / name).write_text(text, "utf-8")
    for name, code in machine["exits"].items():
        (folder / "commands" / f"{name}.exit").write_text(str(code), "utf-8")
    for path, target in machine["links"].items():
        file = folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(target)
    (folder / "environment").write_text("".join(f"{k}={v}\n" for k, v in machine["environment"].items()), "utf-8")
    _cards(folder, machine)
    _packages(folder, machine)
    _listeners(folder, machine)
    return folder


def _cpu(machine: dict[str, Any]) -> dict[str, str]:
    count = machine.get("cpus", 8)
    flags = machine.get("flags", "fpu sse4_2 avx avx2 fma")
    entry = "processor : {n}\nvendor_id : GenuineIntel\nmodel name : Test CPU\nphysical id : 0\n"
    entry += "core id : {n}\nflags : {flags}\n\n"
    allowed = machine.get("affinity", f"0-{count - 1}")
    return {
        "/proc/cpuinfo": "".join(entry.format(n=n, flags=flags) for n in range(count)),
        "/sys/devices/system/cpu/online": f"0-{count - 1}\n",
        "/proc/self/status": f"Name: python\nCpus_allowed_list:\t{allowed}\n",
        "/proc/meminfo": "MemTotal:       65536000 kB\nMemAvailable:   60000000 kB\nSwapTotal: 0 kB\n",
    }


def _gpu_files(machine: dict[str, Any]) -> dict[str, str]:
    driver = machine.get("driver", "")
    gpus = machine.get("gpus", [])
    found = {"/sys/module/nvidia/version": f"{driver}\n"} if driver and not machine.get("wsl") else {}
    if gpus and not machine.get("wsl") and not machine.get("no_devices"):
        names = [f"nvidia{n}" for n in range(len(gpus))] + ["nvidiactl", "nvidia-uvm"]
        found |= {f"/dev/{name}": "" for name in names if name not in machine.get("lost_devices", [])}
    return found


def _gpu_commands(machine: dict[str, Any]) -> dict[str, str]:
    gpus = machine.get("gpus", [])
    if not gpus or not machine.get("driver") or machine.get("mute"):
        return {}
    body = "".join(_xml(gpu) for gpu in gpus)
    lines = [f"bus={gpu['bus']} {gpu.get('units', '')} major={gpu['cc'][:-2]} minor={gpu['cc'][-1]}" for gpu in gpus]
    return {
        "nvidia-smi_-q_-x": f"<nvidia_smi_log><driver_version>{machine['driver']}</driver_version>"
        f"<cuda_version>{machine.get('cuda', '13.0')}</cuda_version>{body}</nvidia_smi_log>",
        "nvidia-smi_-L": "".join(f"GPU {n}: {gpu['name']}\n" for n, gpu in enumerate(gpus)),
        "cuda-attributes": "\n".join(lines) + "\n",
    }


#: Key of a described GPU -> where nvidia-smi prints it, its unit, and its usual value.
XML = {
    "name": ("product_name", "", "GPU"), "persistence": ("persistence_mode", "", "Enabled"),
    "mode": ("compute_mode", "", "Default"), "mig": ("mig_mode/current_mig", "", "N/A"),
    "fabric": ("fabric/state", "", "N/A"), "memory": ("fb_memory_usage/total", " MiB", 24564),
    "used": ("fb_memory_usage/used", " MiB", 300), "limit": ("gpu_power_readings/current_power_limit", " W", 400),
    "default": ("gpu_power_readings/default_power_limit", " W", 400),
    "ecc": ("ecc_errors/aggregate/dram_uncorrectable", "", "N/A"),
    "pending": ("remapped_rows/remapped_row_pending", "", "N/A"),
    "failed": ("remapped_rows/remapped_row_failure", "", "N/A"),
    "width": ("pci/pci_gpu_link_info/link_widths/current_link_width", "x", 16),
    "width_max": ("pci/pci_gpu_link_info/link_widths/max_link_width", "x", 16),
}  # fmt: skip


def _xml(gpu: dict[str, Any]) -> str:
    """What ``nvidia-smi -q -x`` prints of one GPU."""
    from xml.etree import ElementTree

    root = ElementTree.Element("gpu", id=gpu["bus"])

    def put(path: str, text: str) -> None:
        place = root
        for tag in path.split("/"):
            found = place.find(tag)
            place = ElementTree.SubElement(place, tag) if found is None else found
        place.text = text

    for key, (path, unit, usual) in XML.items():
        put(path, f"{gpu.get(key, usual)}{unit}")
    put("clocks_event_reasons", "")
    for reason in gpu.get("throttle", []):
        put(f"clocks_event_reasons/clocks_event_reason_{reason}", "Active")
    put("processes", "")
    for _ in range(gpu.get("processes", 0)):
        ElementTree.SubElement(root.find("processes"), "process_info")
    return ElementTree.tostring(root, encoding="unicode")


def _cards(folder: Path, machine: dict[str, Any]) -> None:
    cards = (
        []
        if machine.get("wsl")
        else [{"vendor": "0x10de", "class": "0x030200", **gpu} for gpu in machine.get("gpus", [])]
    )
    for place, card in enumerate([*cards, *machine.get("cards", [])]):
        port = folder / f"sys/devices/pci0000:00/0000:00:{place + 1:02x}.0"
        device = port / card["bus"]
        device.mkdir(parents=True)
        if card.get("port_width", 16):
            (port / "max_link_width").write_text(f"{card.get('port_width', 16)}\n")
        stated = {
            "class": card["class"], "vendor": card["vendor"], "device": "0x2684", "numa_node": card.get("numa", 0),
            "current_link_width": card.get("width", 16), "max_link_width": card.get("width_max", 16),
            "current_link_speed": "16.0 GT/s PCIe", "max_link_speed": "16.0 GT/s PCIe",
        }  # fmt: skip
        for name, value in stated.items():
            (device / name).write_text(f"{value}\n")
        link = folder / "sys/bus/pci/devices" / card["bus"]
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../../devices/{port.name and device.relative_to(folder / 'sys/devices')}")


def _packages(folder: Path, machine: dict[str, Any]) -> None:
    site = folder / "python/site-packages"
    for name, release in machine["packages"].items():
        place = site / f"{name}-{release}.dist-info"
        place.mkdir(parents=True)
        tag = machine.get("wheel_tag", "manylinux_2_28_x86_64")
        (place / "WHEEL").write_text(f"Wheel-Version: 1.0\nTag: cp312-cp312-{tag}\n")
    torch = machine.get("torch")
    if torch:
        (site / "torch/lib").mkdir(parents=True)
        cuda, hip = (repr(torch[key]) if torch.get(key) else "None" for key in ("cuda", "hip"))
        (site / "torch/version.py").write_text(
            f"__version__ = {torch['version']!r}\ncuda: Optional[str] = {cuda}\nhip = {hip}\n"
        )
        (site / "torch/lib/libtorch_python.so").write_bytes(b"\x7fELF\0" + torch.get("archs", "").encode() + b"\0")


def _listeners(folder: Path, machine: dict[str, Any]) -> None:
    lines = ["  sl  local_address rem_address   st"]
    for place, (port, address) in enumerate(machine.get("listen", [])):
        digits = {"all": "00000000", "loopback": "0100007F", "one": "0A01A8C0"}[address]
        lines.append(f"   {place}: {digits}:{port:04X} 00000000:0000 0A 0:0 0:0 0 1000 0 {4711 + place} 1")
    (folder / "proc/net").mkdir(parents=True, exist_ok=True)
    (folder / "proc/net/tcp").write_text("\n".join(lines) + "\n")
