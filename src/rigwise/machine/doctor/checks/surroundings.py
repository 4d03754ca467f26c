"""Containers, schedulers and several GPUs: what surrounds a process and what it may use."""

from __future__ import annotations

import re

from rigwise.facts.software import version
from rigwise.machine.doctor.conditions import in_container
from rigwise.machine.doctor.types import Answer, Facts, ok, problem, unknown
from rigwise.units import GIB, MIB

#: What DeepSpeed warns below; data loaders hand batches over in it. Source: DeepSpeed, ds_report.
SHM_LEAST_BYTES = 512 * MIB
#: Local disks fuller than this fail in the middle of a checkpoint; a stated choice.
FREE_LEAST_FRAC, FREE_LEAST_BYTES = 0.05, 20 * GIB
#: Interfaces that lead nowhere outside.
INSIDE = re.compile(r"(docker|veth|br-|virbr|cni|flannel|cali|podman|lo)")


def container_toolkit(facts: Facts) -> Answer:
    """Docker without the part that gives containers a GPU."""
    if facts.get("seen.snap_docker"):
        return problem("Docker is a snap, which cannot reach the driver's files")
    if "nvidia-ctk" not in (facts.get("container.engines") or []):
        return problem("docker is installed, nvidia-ctk is not")
    return ok("nvidia-ctk is installed")


def devices_lost(facts: Facts) -> Answer:
    """A running container that lost its GPU: the device is there and may not be opened."""
    said, devices = facts.text("seen.nvidia_smi"), facts.get("container.nvidia_devices") or []
    if "Unknown Error" in said and any(re.fullmatch(r"nvidia\d+", device) for device in devices):
        return problem(f"/dev/{devices[0]} is there, and {said}")
    return ok("nvidia-smi answers" if said == "ok" else "no such fault")


def shared_memory(facts: Facts) -> Answer:
    """/dev/shm too small for the batches of data loaders."""
    size = int(facts.get("memory.shm_bytes"))
    said = f"/dev/shm has {size / MIB:,.0f} MiB"
    return problem(said) if size < SHM_LEAST_BYTES else ok(said)


def apptainer_libraries(facts: Facts) -> Answer:
    """``--nv`` looks libraries up in the loader's cache, which does not know the driver's."""
    cache = facts.get("seen.ldconfig")
    if cache is None:
        return unknown("ldconfig -p gave nothing")
    if "libcuda.so.1" in cache:
        return ok(f"the loader knows {cache['libcuda.so.1']}")
    return problem("the loader's cache has no libcuda.so.1, where --nv looks for it")


def cpu_quota(facts: Facts) -> Answer:
    """Fewer CPUs than programs count, so that they start too many threads and workers."""
    usable, counted = float(facts.get("limits.usable_cpus")), int(facts.get("limits.cpu_count"))
    said = f"{usable:g} CPUs may be used, os.cpu_count() says {counted}"
    threads = facts.variables().get("OMP_NUM_THREADS", "")
    if usable >= 0.75 * counted:
        return ok(said)
    if threads.isdecimal() and int(threads) <= max(1.0, usable):
        return ok(f"{said}; OMP_NUM_THREADS is {threads}")
    return problem(said)


def slurm_cpus(facts: Facts) -> Answer:
    """A step that runs on fewer CPUs than its job was given."""
    given, allowed = facts.get("scheduler.given") or {}, facts.get("limits.affinity_cpus")
    asked = str(given.get("SLURM_CPUS_PER_TASK", ""))
    if not asked.isdecimal() or allowed is None:
        return unknown("the job does not state CPUs per task, or the affinity is unknown")
    said = f"the job has {asked} CPUs per task, this process may use {allowed}"
    if int(allowed) < int(asked):
        release = facts.text("scheduler.slurm")
        return problem(said + (f" (Slurm {release})" if (22, 5) <= version(release) < (23, 11) else ""))
    return ok(said)


def slurm_gres(facts: Facts) -> Answer:
    """Nodes out of use because they have fewer GPUs than configured."""
    found = [
        line for line in facts.get("seen.slurm_reasons") or [] if re.search(r"gres/gpu|count reported lower", line)
    ]
    return problem(f"{len(found)} node(s): {found[0]}") if found else ok("no node is out of use for its GPUs")


def peer_to_peer(facts: Facts) -> Answer:
    """Access control or an IOMMU that sends traffic between GPUs the long way, where NCCL hangs or is slow."""
    redirects, options = facts.get("seen.acs_redirects"), facts.text("system.boot_options")
    if facts.get("cpu.virtual"):
        return ok("a virtual machine needs them")
    if redirects:
        return problem(f"{redirects} PCIe bridges redirect requests (ACSCtl ReqRedir+)")
    if re.search(r"(intel|amd)_iommu=on", options) and "iommu=pt" not in options:
        return problem(f"the kernel was started with {options}, without iommu=pt")
    if redirects is None:
        return unknown("access control of PCIe bridges is shown to root only (lspci -vvv)")
    return ok("no bridge redirects requests")


def p2p_switched_off(facts: Facts) -> Answer:
    """A variable that was set against a hang and stayed."""
    found = [
        f"{key}={value}"
        for key, value in facts.variables().items()
        if key in ("NCCL_P2P_DISABLE", "NCCL_IB_DISABLE") and value == "1"
    ]
    return problem(" ".join(found)) if found else ok("NCCL may use every way")


def network_interface(facts: Facts) -> Answer:
    """NCCL between nodes may choose an interface that leads nowhere, or is told one that does not exist."""
    names = [str(entry.get("name")) for entry in facts.rows("network")]
    chosen = facts.variables().get("NCCL_SOCKET_IFNAME", "")
    if chosen and not chosen.startswith("^"):
        exact = chosen.startswith("=")
        wanted = chosen.removeprefix("=").split(",")
        hits = [name for name in names if any(name == one if exact else name.startswith(one) for one in wanted)]
        return (
            ok(f"NCCL uses {', '.join(hits)}")
            if hits
            else problem(f"NCCL_SOCKET_IFNAME={chosen}, there are {', '.join(names)}")
        )
    nodes = str((facts.get("scheduler.given") or {}).get("SLURM_NNODES", "1"))
    up = [str(entry.get("name")) for entry in facts.rows("network") if entry.get("state") == "up"]
    inside = [name for name in up if INSIDE.match(name)]
    if nodes.isdecimal() and int(nodes) > 1 and inside and len(up) > len(inside):
        return problem(f"a job on {nodes} nodes, and {', '.join(inside)} beside {', '.join(set(up) - set(inside))}")
    return ok(f"up: {', '.join(up)}" if up else "no interface is up")


def rccl_iommu(facts: Facts) -> Answer:
    """Several AMD GPUs without pass-through of the IOMMU."""
    options = facts.text("system.boot_options")
    return ok(options) if "iommu=pt" in options else problem(f"the kernel was started with {options}")


def numa_distance(facts: Facts) -> Answer:
    """The process may run on one NUMA node only, and the GPU hangs on another."""
    from rigwise.machine.probe.cpu import cpu_list

    nodes, mine = facts.get("seen.numa") or {}, set(cpu_list(facts.text("seen.affinity")))
    here = {node for node, cpus in nodes.items() if mine & set(cpu_list(cpus))}
    cards = [
        card
        for card in facts.rows("pcie")
        if card.get("kind") in ("gpu", "accelerator") and card.get("numa_node", -1) >= 0
    ]
    far = [card for card in cards if str(card["numa_node"]) not in here]
    if len(nodes) > 1 and cards and len(far) == len(cards):
        return problem(f"this process runs on node {', '.join(sorted(here))}, the GPU is at node {far[0]['numa_node']}")
    return ok(f"{len(nodes) or 1} NUMA node(s)")


def disk_full(facts: Facts) -> Answer:
    """A file system with no room for a checkpoint."""
    for disk in facts.rows("disks"):
        size, free = disk.get("size_bytes"), disk.get("free_bytes")
        local = str(disk.get("mount", "")).startswith("/") and not str(disk.get("mount")).startswith(
            ("/boot", "/snap", "/efi")
        )
        if local and size and free is not None and free < min(FREE_LEAST_FRAC * size, FREE_LEAST_BYTES):
            return problem(f"{disk['mount']} has {free / GIB:.1f} GiB of {size / GIB:,.0f} GiB free")
    return ok("every file system that could be read has room")


def open_files(facts: Facts) -> Answer:
    """Too few open files for data loaders that share tensors by file handles."""
    limit = int(facts.get("seen.files_limit"))
    where = "in this container" if in_container(facts) else "here"
    return problem(f"{limit} files may be open {where}") if limit < 1024 else ok(f"{limit} files may be open")
