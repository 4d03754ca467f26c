"""Disks and file systems: kind, size, free, scheduler."""

from __future__ import annotations

import re

from rigwise.machine.probe.source import Root, Unreadable, attempt
from rigwise.machine.snapshot import Field, unknown

BLOCK = "/sys/block"
MOUNTS = "/proc/mounts"
#: Local file systems only: a network file system whose server is gone would not answer.
DF = ("df", "-P", "-l", "-k")
#: Devices that are no disks.
#: Volumes have entries of their own, as file systems.
NO_DISK = r"(?!loop|ram|zram|sr\d|fd\d|dm-|md\d)[\w.-]+$"


#: Single files that engines of containers mount from the disk of the host.
MOUNTED_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log")
#: Devices that lie on disks: of LVM, of encryption, of software RAID.
VOLUMES = ("/dev/mapper/", "/dev/dm-", "/dev/md")


def disks(root: Root) -> list[dict[str, Field]]:
    """One entry for every disk, and for every volume, network or overlay file system that programs see."""
    mounts = [cells for cells in (line.split() for line in _lines(root)) if cells[1] not in MOUNTED_FILES]
    sizes = mounted_sizes(root)
    found = []
    for name in root.names(BLOCK, NO_DISK):
        size = root.field(f"{BLOCK}/{name}/size", lambda text: 512 * int(text))
        if size.value:
            found.append({**_disk(root, name), "size_bytes": size, **_mounted(name, mounts, sizes)})
    return found + [_file_system(line, sizes) for line in _once(mounts) if _without_disk(line)]


def _once(mounts: list[list[str]]) -> list[list[str]]:
    """Each volume where it is mounted nearest to the top; other file systems as they are."""
    nearest: dict[str, list[str]] = {}
    for place, line in enumerate(mounts):
        key = line[0] if line[0].startswith(VOLUMES) else str(place)
        if key not in nearest or len(line[1]) < len(nearest[key][1]):
            nearest[key] = line
    return list(nearest.values())


def _lines(root: Root) -> list[str]:
    try:
        return [line for line in root.text(MOUNTS).splitlines() if len(line.split()) >= 4]
    except Unreadable:
        return []


def _disk(root: Root, name: str) -> dict[str, Field]:
    queue = f"{BLOCK}/{name}/queue"
    rotates = root.field(f"{queue}/rotational", lambda text: bool(int(text)))
    return {
        "name": Field(value=name, source=BLOCK),
        "kind": _kind(name, rotates),
        "model": root.field(f"{BLOCK}/{name}/device/model"),
        "scheduler": root.field(f"{queue}/scheduler", lambda text: re.findall(r"\[([\w-]+)\]|^(none)$", text)[0][0]),
        "read_ahead_bytes": root.field(f"{queue}/read_ahead_kb", lambda text: 1024 * int(text)),
    }


def _kind(name: str, rotates: Field) -> Field:
    """NVMe by name; a virtual disk does not tell what it lies on."""
    if name.startswith("nvme"):
        return Field(value="nvme", source=BLOCK)
    if name.startswith(("vd", "xvd")):
        return Field(value="virtual", source=BLOCK, reason="the host does not say what it lies on")
    if rotates.value is None:
        return unknown(rotates.source, rotates.reason)
    return Field(value="hdd" if rotates.value else "ssd", source=rotates.source)


def _mounted(name: str, mounts: list[list[str]], sizes: dict[str, tuple[int, int]]) -> dict[str, Field]:
    """The file system of the disk, or of its partition, that is mounted nearest to the top."""
    part = re.compile(rf"/dev/{re.escape(name)}p?\d*$")
    mine = sorted((len(line[1]), line[1], line[2], line[3]) for line in mounts if part.match(line[0]))
    if not mine:
        nothing = unknown(MOUNTS, "none of its partitions is mounted by its own name")
        return {"mount": nothing, "file_system": nothing, "free_bytes": nothing}
    _, mount, kind, _ = mine[0]
    return {
        "mount": Field(value=mount, source=MOUNTS),
        "file_system": Field(value=kind, source=MOUNTS),
        "free_bytes": attempt(" ".join(DF), lambda: sizes[mount][1]),
    }


#: File systems of other computers.
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "9p", "virtiofs", "glusterfs", "wekafs")


def _without_disk(line: list[str]) -> bool:
    is_volume = line[0].startswith(VOLUMES) or (line[2] == "zfs" and line[1] == "/")
    is_network = line[2] in NETWORK or line[2].startswith("fuse.")
    return is_volume or is_network or (line[1] == "/" and line[2] == "overlay")


def _file_system(line: list[str], sizes: dict[str, tuple[int, int]]) -> dict[str, Field]:
    is_volume = line[0].startswith(VOLUMES) or line[2] == "zfs"
    kind = "volume" if is_volume else "overlay" if line[2] == "overlay" else "network"
    return {
        "name": Field(value=line[0].rpartition("/")[2] if is_volume else line[2], source=MOUNTS),
        "kind": Field(value=kind, source=MOUNTS),
        "mount": Field(value=line[1], source=MOUNTS),
        "file_system": Field(value=line[2], source=MOUNTS),
        "size_bytes": attempt(" ".join(DF), lambda: sizes[line[1]][0]),
        "free_bytes": attempt(" ".join(DF), lambda: sizes[line[1]][1]),
    }


def mounted_sizes(root: Root) -> dict[str, tuple[int, int]]:
    """Size and free bytes by the place where a local file system is mounted."""
    try:
        return df_sizes(root.run(*DF))
    except Unreadable:
        return {}


def df_sizes(text: str) -> dict[str, tuple[int, int]]:
    r"""What ``df -P -k`` prints, in bytes.

    >>> df_sizes("Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 1000 400 600 40% /")
    {'/': (1024000, 614400)}
    """
    lines = re.findall(r"(?m)^\S+ +(\d{1,18}) +\d+ +(\d{1,18}) +[\d-]+%? +(/.*)$", text)
    return {mount: (1024 * int(size), 1024 * int(free)) for size, free, mount in lines}
