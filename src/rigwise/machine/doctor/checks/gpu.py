"""Whether the GPUs of a machine can be used: driver, device files, visibility, and builds that fit."""

from __future__ import annotations

import re

from rigwise.facts.software import driver_floor, newest_cuda, paired_driver, runs_on, version
from rigwise.machine.doctor.conditions import cards, in_container
from rigwise.machine.doctor.types import Answer, Facts, ok, problem, unknown


def driver_of(facts: Facts) -> str:
    """The NVIDIA driver: of the kernel module, else what its tools say."""
    stated = [str(gpu["driver"]) for gpu in facts.rows("gpus") if gpu.get("vendor") == "NVIDIA" and "driver" in gpu]
    return facts.text("driver.nvidia") or (stated[0] if stated else "")


def cuda_of(facts: Facts) -> str:
    """The newest CUDA that the driver takes: as it says, else by its version."""
    stated = [str(gpu["cuda_driver"]) for gpu in facts.rows("gpus") if "cuda_driver" in gpu]
    return stated[0] if stated else newest_cuda(driver_of(facts)) if driver_of(facts) else ""


def torch_without_cuda(facts: Facts) -> Answer:
    """A CPU build of PyTorch beside a GPU."""
    cuda, hip = facts.text("software.torch_cuda"), facts.text("software.torch_hip")
    name = f"PyTorch {facts.text('software.torch_local') or facts.text('software.torch')}"
    if cuda not in ("", "none"):
        return ok(f"{name} is built for CUDA {cuda}")
    if hip not in ("", "none"):
        return problem(f"{name} is built for ROCm {hip}, and the card is NVIDIA's")
    if not cuda:
        return unknown("torch/version.py could not be read")
    return problem(f"{name} is built without CUDA, and there are {cards(facts, 'NVIDIA') or 'NVIDIA'} GPUs")


def driver_missing(facts: Facts) -> Answer:
    """A card on the bus, and nothing of a driver; in a container, no device of it."""
    if driver_of(facts) or facts.get("seen.module"):
        return _devices_inside(facts) if in_container(facts) else ok(f"driver {driver_of(facts) or 'is loaded'}")
    if in_container(facts):
        return _devices_inside(facts)
    if _installed(facts):
        return ok("a driver is installed; whether its module is loaded is another rule's question")
    return problem(f"{cards(facts, 'NVIDIA')} NVIDIA card(s) on the bus, neither kernel module nor libcuda.so.1")


def _devices_inside(facts: Facts) -> Answer:
    """Whether a container was given the GPU, if something in it is there to use one."""
    if any(re.fullmatch(r"nvidia\d+", device) for device in facts.get("container.nvidia_devices") or []):
        return ok("the container has the device files")
    wants = facts.get("software.torch_cuda", "none") != "none" or any("_plugin" in name for name in facts.values)
    if not wants:
        return ok("the container has no device of the card, and nothing installed in it would use one")
    return problem("a card is on the bus, a build for CUDA is installed, the container has no /dev/nvidia0")


def _installed(facts: Facts) -> str:
    """A sign that a driver is installed, loaded or not."""
    return facts.text("seen.libcuda") or " ".join((facts.get("seen.dkms") or [])[:1])


def module_not_loaded(facts: Facts) -> Answer:
    """The driver is installed, its module is not loaded: other kernel, Secure Boot, nouveau."""
    if driver_of(facts) or facts.get("seen.module"):
        return ok("the kernel module is loaded")
    why = []
    if facts.get("driver.nouveau"):
        why.append("nouveau holds the card")
    if facts.get("seen.secure_boot"):
        why.append("Secure Boot is on, which takes signed modules only")
    states = facts.get("seen.dkms") or []
    if states and not any("installed" in line for line in states):
        why.append(f"DKMS has not built it ({states[0]})")
    if not _installed(facts):
        return ok("no NVIDIA driver is installed")
    return problem("; ".join([f"driver {_installed(facts)} is installed, no module is loaded", *why]))


def driver_too_old(facts: Facts) -> Answer:
    """The driver is older than the floor of the CUDA major version of a framework."""
    driver = driver_of(facts)
    if not driver:
        return unknown("the driver's version is unknown")
    wanted = (
        {"PyTorch": facts.text("software.torch_cuda")} if facts.text("software.torch_cuda") not in ("", "none") else {}
    )
    for major in ("12", "13"):
        if f"software.jax_cuda{major}_plugin" in facts.values:
            wanted["JAX"] = f"{major}.0"
    for name, cuda in wanted.items():
        floor = driver_floor(cuda)
        if floor and version(driver) < version(floor):
            return problem(f"{name} is built for CUDA {cuda}, which needs driver {floor}; this is {driver}")
    said = ", ".join(f"{name} for CUDA {cuda}" for name, cuda in wanted.items())
    return ok(f"driver {driver} loads {said}")


def driver_below_toolkit(facts: Facts) -> Answer:
    """The driver loads the build, and is older than the one its CUDA came with: no PTX, some libraries refuse."""
    driver, cuda = driver_of(facts), facts.text("software.torch_cuda")
    paired, floor = paired_driver(cuda), driver_floor(cuda)
    if not driver or not paired:
        return unknown("the driver, or the one of this CUDA, is unknown")
    if version(floor) <= version(driver) < version(paired):
        return problem(f"driver {driver} runs CUDA {cuda} by minor-version compatibility; it came with {paired}")
    return ok(f"driver {driver}, CUDA {cuda} came with {paired}")


def compat_libraries(facts: Facts) -> Answer:
    """The compatibility libcuda of an image stands before the driver's, on a GPU that it does not support."""
    compat = [path for path in facts.get("driver.libraries") or [] if "/compat/libcuda." in path]
    first = str((facts.get("seen.ldconfig") or {}).get("libcuda.so.1", ""))
    on_path = [folder for folder in facts.variables().get("LD_LIBRARY_PATH", "").split(":") if "/compat" in folder]
    if not compat or not (on_path or "/compat/" in first):
        return ok("no compatibility libraries are in the way")
    where = on_path[0] if on_path else first
    consumer = [gpu for gpu in facts.rows("gpus") if gpu.get("segment") in ("consumer", "mobile")]
    if consumer:
        return problem(f"{where} is searched first, and {consumer[0].get('name')} is no data-centre GPU")
    answer = facts.text("seen.cuda_init")
    if re.search(r"\b80[34]\b", answer):
        return problem(f"{where} is searched first, and {answer}")
    return ok(f"{where} is searched first, and the GPUs support that")


def library_and_module(facts: Facts) -> Answer:
    """Libcuda of another version than the kernel module."""
    return _same_version(facts, "seen.libcuda", "libcuda.so.1", r"cuInit answers 803")


def nvml_and_module(facts: Facts) -> Answer:
    """libnvidia-ml of another version than the kernel module."""
    return _same_version(facts, "seen.libnvidia_ml", "libnvidia-ml.so.1", r"[Vv]ersion mismatch")


def _same_version(facts: Facts, name: str, library: str, saying: str) -> Answer:
    module, installed = driver_of(facts), facts.text(name)
    said = next(
        (text for text in (facts.text("seen.nvidia_smi"), facts.text("seen.cuda_init")) if re.search(saying, text)), ""
    )
    if said:
        return problem(f"{said}" + (f"; module {module}" if module else ""))
    if not module or not installed:
        return unknown(f"the version of {library if module else 'the module'} is unknown")
    if version(module) != version(installed):
        return problem(f"{library} is of {installed}, the kernel module of {module}")
    return ok(f"{library} and the kernel module are both {module}")


def fabric(facts: Facts) -> Answer:
    """GPUs on NVSwitch whose fabric has not been set up."""
    states = [str(gpu["fabric"]) for gpu in facts.rows("gpus") if "fabric" in gpu]
    said = facts.text("seen.cuda_init")
    if "answers 802" in said:
        return problem(f"CUDA says that the system is not initialised: {said}")
    waiting = [state for state in states if state in ("in progress", "not started")]
    if waiting:
        return problem(f"the fabric of {len(waiting)} of {len(states)} GPUs is {waiting[0]}")
    return ok(f"fabric: {states[0]}" if states else "no NVSwitch")


def uvm(facts: Facts) -> Answer:
    """The unified-memory module is broken or has no device file."""
    said = facts.text("seen.cuda_init")
    if "answers 999" in said:
        return problem(f"{said}; /dev/nvidia-uvm is {'there' if facts.get('seen.uvm') else 'missing'}")
    devices = facts.get("container.nvidia_devices") or []
    if "nvidia-uvm" not in devices and any(re.fullmatch(r"nvidia\d+", device) for device in devices):
        return problem("/dev/nvidia0 is there, /dev/nvidia-uvm is not")
    return ok(
        "CUDA starts" if said == "ok" else "/dev/nvidia-uvm is there" if devices else "no device files to compare"
    )


def cuda_start(facts: Facts) -> Answer:
    """CUDA does not start, or not in time, for a reason that no other rule names."""
    said, tool = facts.text("seen.cuda_init"), facts.text("seen.nvidia_smi")
    if "did not answer" in tool:
        return problem(f"{tool}; CUDA: {said}")
    if said == "ok":
        return ok("cuInit answers 0")
    if not said or "is not installed" in said or re.search(r"answers (80[2-4]|999|100)\b", said):
        return ok("another rule answers this" if said else "CUDA was not asked")
    return problem(said)


def tool_answers(facts: Facts) -> Answer:
    """nvidia-smi and NVML hang or fail, for a reason that no other rule names."""
    why = facts.get("failed", {}).get("gpus nvidia", "") or _undescribed(facts)
    if not why:
        return ok("what the driver says of its GPUs could be read")
    if not re.search(r"did not (answer|end)|ended with \d|printed ", why):
        return unknown(why)
    hangs = "did not answer" in why or "did not end" in why
    asked_again = "did not answer" in facts.text("seen.nvidia_smi") and facts.text("driver.nvidia")
    is_here = cards(facts, "NVIDIA") or facts.get("container.nvidia_devices") or facts.get("driver.nvidia")
    if asked_again if hangs else is_here:
        return ok("another rule answers this")
    if re.search(r"couldn't communicate with the NVIDIA driver|No devices were found", why):
        return ok(f"no card is on the bus, and its tools find none: {why}")
    return problem(f"{why}; {'an' if is_here else 'no'} NVIDIA card is on the bus")


def _undescribed(facts: Facts) -> str:
    """Why the tools hang, where the kernel module alone names the GPUs: what stands at their memory; else empty."""
    places = [place for place, gpu in enumerate(facts.rows("gpus")) if gpu.get("vendor") == "NVIDIA"]
    reasons = [facts.reason(f"gpus.{place}.memory_bytes") for place in places]
    return next((why for why in reasons if re.search(r"did not (answer|end)", why)), "")


def visible_devices(facts: Facts) -> Answer:
    """``CUDA_VISIBLE_DEVICES`` hides GPUs: empty, -1, or an index that is not there, after which nothing is seen."""
    variables = facts.variables()
    name = next(
        (key for key in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES") if key in variables), ""
    )
    count = len(facts.rows("gpus")) or cards(facts, "NVIDIA")
    if not name:
        return ok(f"no variable hides any of {count} GPUs")
    if not count:
        return unknown(f"{name}={variables[name]}, and how many GPUs there are is not known")
    seen, rest = _visible(variables[name], count)
    if rest is None:
        return ok(f"{name}={variables[name]} shows {len(seen)} of {count} GPUs")
    shown = f"only {', '.join(seen)}" if seen else "no GPU"
    return problem(f"{name}={variables[name]!r} shows {shown}: {rest}")


def _visible(text: str, count: int) -> tuple[list[str], str | None]:
    """Devices that a list shows, and why it ends early; as CUDA reads it, which stops at the first it does not know.

    >>> _visible("0,9,1", 2)
    (['0'], "there is no device '9', and what follows it is not read")
    """
    seen: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        if part in seen:
            return [], f"{part!r} stands twice"
        if part.startswith(("GPU-", "MIG-")) or (part.isdecimal() and int(part) < count):
            seen.append(part)
        else:
            rest = f"there is no device {part!r}" if part else "it is empty"
            return seen, rest + (", and what follows it is not read" if seen else "")
    return seen, None


def set_too_late(facts: Facts) -> Answer:
    """A script sets ``CUDA_VISIBLE_DEVICES`` after it has used CUDA."""
    line, before = facts.get("seen.script.visible_line"), facts.get("seen.script.cuda_line")
    if line is None or before is None or line < before:
        return ok("it is set before CUDA is used, or not at all")
    return problem(f"line {line} sets CUDA_VISIBLE_DEVICES, line {before} has used CUDA by then")


def mig_slices(facts: Facts) -> Answer:
    """A MIG GPU of which a process is to see several slices, or a whole index."""
    shown = facts.variables().get("CUDA_VISIBLE_DEVICES", "")
    slices = [part for part in shown.split(",") if part.strip()]
    if len(slices) > 1 or any(part.strip().isdecimal() for part in slices):
        return problem(f"MIG is on and CUDA_VISIBLE_DEVICES is {shown}: a process sees one slice")
    if not slices:
        return problem("MIG is on and no slice is chosen: a process sees the first one only")
    return ok(f"one slice is chosen: {slices[0][:16]}...")


def compute_mode(facts: Facts) -> Answer:
    """A compute mode that refuses a second process, or all of them."""
    modes = [(gpu.get("compute_mode"), gpu.get("processes", 0), place) for place, gpu in enumerate(facts.rows("gpus"))]
    for mode, processes, place in modes:
        if mode == "prohibited":
            return problem(f"GPU {place} takes no compute process (mode prohibited)")
        if mode in ("exclusive_process", "exclusive_thread"):
            return problem(f"GPU {place} takes one process ({mode}) and has {processes}")
    known = [str(mode) for mode, _, _ in modes if mode]
    return ok(f"compute mode: {known[0]}") if known else unknown("the driver does not tell the compute mode")


def wheel_architectures(facts: Facts) -> Answer:
    """The build of PyTorch holds no code for a GPU of this machine."""
    archs = [str(arch) for arch in facts.get("software.torch_archs") or [] if arch != "none"]
    gpus = [gpu for gpu in facts.rows("gpus") if "compute_capability" in gpu]
    if not archs:
        return unknown("the architectures inside PyTorch could not be read")
    if not gpus:
        return unknown("the compute capability of the GPUs is unknown")
    for gpu in gpus:
        capability = str(gpu["compute_capability"])
        if not runs_on(archs, capability):
            return problem(
                f"{gpu.get('name', 'the GPU')} has compute capability {capability}; PyTorch has {' '.join(archs)}"
            )
    shown = ", ".join(sorted({str(gpu["compute_capability"]) for gpu in gpus}))
    return ok(f"compute capability {shown}; PyTorch has {' '.join(archs)}")


def wsl_driver(facts: Facts) -> Answer:
    """A Linux driver inside WSL2, which hides the one that Windows brings."""
    first = str((facts.get("seen.ldconfig") or {}).get("libcuda.so.1", ""))
    if "dxg" not in (facts.get("container.other_devices") or []):
        return problem("there is no /dev/dxg: Windows gives this WSL2 no GPU")
    if facts.get("seen.libcuda") or (first and "/wsl/" not in first):
        where = first or f"libcuda {facts.text('seen.libcuda')} in the system's folder"
        return problem(f"{where} stands before /usr/lib/wsl/lib/libcuda.so.1")
    return ok("libcuda is the one that Windows brings")


def kfd_access(facts: Facts) -> Answer:
    """AMD's compute device that this user may not open."""
    seen = facts.get("seen.kfd")
    mode = int(str(seen["mode"]), 8)
    member = str(seen["group"]) in [str(group) for group in seen["groups"]]
    allowed = str(seen["user"]) == "0" or mode & 0o006 == 0o006 or (mode & 0o060 == 0o060 and member)
    allowed = allowed or (str(seen["user"]) == str(seen["owner"]) and mode & 0o600 == 0o600)
    where = f"/dev/kfd is of group {seen['group']} with mode {seen['mode']}"
    if allowed:
        return ok(f"{where}, and open to this user")
    return problem(f"{where}; this user is in groups {', '.join(map(str, seen['groups']))}")
