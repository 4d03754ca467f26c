"""What the doctor looks at beyond a snapshot: which libraries win, what the kernel logged, who can read which key.

Everything is read through ``Root``, so that a captured tree answers as the machine did. Nothing is changed, no secret
is kept: of a file with a key its mode, of a command line the name of the option.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from rigwise.machine.probe.source import Root, Unreadable
from rigwise.machine.snapshot import Snapshot

SYSTEM_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
#: Libraries whose first copy on the path decides whether a framework works.
WATCHED = r"lib(cuda|cudart|cudnn|cudnn_ops\w*|nvJitLink|cublas|cusparse|nccl|stdc\+\+)\.so"
PROCESSES_LIMIT = 400
#: All that is looked at together; a reader of a broken driver that has not ended by then is left behind.
LIMIT_S = 5.0
XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]{7,16})\): (\d{1,3})\b")
OFF_THE_BUS = re.compile(
    r"GPU (?:at )?(?:PCI:)?([0-9a-fA-F:.]{7,16})[^\n]{0,40}has fallen off the bus|fallen off the bus"
)
#: Options of a command line that carry a secret.
SECRET_OPTION = re.compile(
    r"^--?(?![\w.-]*hashed)[\w.-]*(token|password|passwd|api[-_]key|secret)(?:=|$)", re.IGNORECASE
)


def look(root: Root, snapshot: Snapshot) -> dict[str, Any]:
    """Everything that could be seen, by name; what could not has no entry."""
    from rigwise.machine.doctor import look_gpu, look_open

    found: dict[str, Any] = {}
    readers: dict[str, Callable[[], Any]] = {
        "libcuda": lambda: linked(root, "libcuda.so.1"),
        "libnvidia_ml": lambda: linked(root, "libnvidia-ml.so.1"),
        "wsl_libcuda": lambda: root.exists("/usr/lib/wsl/lib/libcuda.so.1"),
        "ldconfig": lambda: ldconfig(root),
        "path_libraries": lambda: path_libraries(root),
        "libstdcxx": lambda: libstdcxx(root),
        "conda_builds": lambda: conda_builds(root),
        "wheel_tags": lambda: wheel_tags(root, snapshot),
        "kernel_log": lambda: kernel_log(root),
        "numa": lambda: numa(root),
        "affinity": lambda: affinity(root),
        "files_limit": lambda: files_limit(root),
        "snap_docker": lambda: root.exists("/snap/bin/docker"),
        "persistenced": lambda: root.exists("/run/nvidia-persistenced"),
        "slurm_reasons": lambda: slurm_reasons(root, snapshot),
        **look_gpu.readers(root, snapshot),
        **look_open.readers(root, snapshot),
    }

    def one(name: str, read: Callable[[], Any]) -> None:
        with contextlib.suppress(Unreadable, ValueError, LookupError, TypeError, ArithmeticError):
            value = read()
            if value is not None:
                found[name] = value

    threads = [threading.Thread(target=one, args=item, daemon=True) for item in readers.items()]
    ends_s = time.monotonic() + LIMIT_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends_s - time.monotonic()))
    return dict(found)


def linked(root: Root, name: str) -> str | None:
    """The version in the name of the file that a library's link leads to, of the first folder that has it."""
    for folder in SYSTEM_FOLDERS:
        match = re.search(r"\.so\.(\d+(?:\.\d+)+)$", root.target(f"{folder}/{name}"))
        if match:
            return match[1]
    return None


def ldconfig(root: Root) -> dict[str, str]:
    """The file that the loader takes for each watched library where no variable interferes: the first of its cache."""
    try:
        text = root.run("ldconfig", "-p")
    except Unreadable:
        text = root.run("/sbin/ldconfig", "-p", name="ldconfig_-p")
    found: dict[str, str] = {}
    for name, path in re.findall(r"(?m)^\s*(\S+) \([^)\n]*\) => (\S+)\s*$", text):
        if re.match(WATCHED, name) and "x86-64" not in found.get(name, ""):
            found.setdefault(name, path)
    return found


def path_libraries(root: Root) -> list[str]:
    """Watched libraries in the folders of ``LD_LIBRARY_PATH`` and of the conda environment, in the loader's order."""
    variables = root.variables()
    folders = [folder for folder in variables.get("LD_LIBRARY_PATH", "").split(":") if folder.startswith("/")]
    if variables.get("CONDA_PREFIX", "").startswith("/"):
        folders.append(variables["CONDA_PREFIX"].rstrip("/") + "/lib")
    folders = list(dict.fromkeys(folder.rstrip("/") or "/" for folder in folders))[:64]
    return [f"{folder}/{name}" for folder in folders for name in root.names(folder, WATCHED)]


def libstdcxx(root: Root) -> dict[str, int]:
    """N of ``libstdc++.so.6.0.N`` by folder; it provides GLIBCXX_3.4.N and all before.

    Source: GCC, "ABI Policy and Guidelines", libstdc++ versioning.
    """
    variables = root.variables()
    folders = [*variables.get("LD_LIBRARY_PATH", "").split(":")[:64], *SYSTEM_FOLDERS]
    if variables.get("CONDA_PREFIX"):
        folders.append(variables["CONDA_PREFIX"] + "/lib")
    found: dict[str, int] = {}
    for folder in filter(lambda folder: folder.startswith("/"), folders):
        match = re.search(r"\.so\.6\.0\.(\d{1,3})$", root.target(f"{folder}/libstdc++.so.6"))
        if match:
            found.setdefault(folder, int(match[1]))
    return found


def conda_builds(root: Root) -> dict[str, str]:
    """Build string of each framework that conda installed."""
    prefix = root.variables().get("CONDA_PREFIX", "")
    names = root.names(f"{prefix}/conda-meta", r"(pytorch|libtorch|tensorflow|jaxlib)-\d[\w.]*-[\w.]+\.json$")
    parts = [name.removesuffix(".json").rsplit("-", 2) for name in names]
    return {part[0]: part[2] for part in parts if len(part) == 3}


def wheel_tags(root: Root, snapshot: Snapshot) -> dict[str, list[str]]:
    """Platforms that the wheels of installed frameworks were built for."""
    found = {}
    for package in ("torch", "tensorflow", "jaxlib"):
        field = snapshot.software.get(package)
        if field is None or not field.source.endswith(".dist-info"):
            continue
        text = root.text(_inside(root, field.source) + "/WHEEL")
        found[package] = re.findall(r"(?m)^Tag: \S+?-\S+?-(\S+)$", text)
    return found


def _inside(root: Root, path: str) -> str:
    return path if root.folder is None else path.removeprefix(str(root.folder))


def kernel_log(root: Root) -> list[dict[str, Any]]:
    """Faults of GPUs that the kernel logged since it started, oldest first: number and address."""
    text = ""
    for command in (("dmesg",), ("journalctl", "-k", "-b", "-q", "--no-pager", "-n", "5000")):
        try:
            text = root.run(*command)
            break
        except Unreadable:
            continue
    else:
        text = root.text("/var/log/kern.log")
    found: list[dict[str, Any]] = [{"xid": int(xid), "bus": bus} for bus, xid in XID.findall(text)]
    lost = [match for match in OFF_THE_BUS.finditer(text)]
    if lost and not any(entry["xid"] == 79 for entry in found):
        found.append({"xid": 79, "bus": lost[0][1] or ""})
    if re.search(r"\b(amdgpu|amdkfd)[^\n]{0,80}GPU reset", text):
        found.append({"xid": 0, "bus": "amdgpu reset"})
    return found[-200:]


def numa(root: Root) -> dict[str, str]:
    """CPUs of each NUMA node, in the kernel's form."""
    folder = "/sys/devices/system/node"
    return {name[4:]: root.text(f"{folder}/{name}/cpulist") for name in root.names(folder, r"node\d+$")}


def affinity(root: Root) -> str:
    """CPUs that this process may run on, in the kernel's form."""
    return str(re.findall(r"(?m)^Cpus_allowed_list:\s*(\S+)", root.text("/proc/self/status"))[0])


def files_limit(root: Root) -> int:
    """Files that a process may hold open at once."""
    return int(re.findall(r"(?m)^Max open files\s+(\d+)", root.text("/proc/self/limits"))[0])


def slurm_reasons(root: Root, snapshot: Snapshot) -> list[str] | None:
    """Why nodes of the cluster are out of use, as its scheduler says."""
    if "slurm" not in (snapshot.value("scheduler.installed") or []):
        return None
    lines = root.run("sinfo", "-R", "-h", "-o", "%E|%N", name="sinfo_-R").splitlines()
    return [line.strip()[:200] for line in lines if line.strip()][:100]


def python_child(root: Root, file: str, *arguments: str, name: str, limit_s: float) -> str:
    """What a small program of this package prints, run by itself with a time limit."""
    return root.run(sys.executable, "-I", file, *arguments, name=name, limit_s=limit_s)
