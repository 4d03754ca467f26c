"""Hardware that is worse than it should be, and settings of the host that slow it down."""

from __future__ import annotations

import re
from typing import Any

from rigwise.machine.doctor.conditions import in_container
from rigwise.machine.doctor.types import Answer, Facts, ok, problem, unknown
from rigwise.units import GIB

#: A driver keeps up to this much of a GPU for itself; more, with no process, is held by something unseen.
IDLE_FRAC = 0.03
HOT = ("hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake_slowdown", "hw_slowdown")


def link_width(facts: Facts) -> Answer:
    """A card that runs on fewer lanes than its slot and itself can."""
    slots, seen = facts.get("seen.slots") or {}, []
    cards = [card for card in facts.rows("pcie") if card.get("kind") in ("gpu", "accelerator")] or _as_cards(facts)
    for card in cards:
        width, best = card.get("width"), card.get("width_max")
        if not width or not best:
            continue
        slot = slots.get(card.get("address"))
        wanted = min(int(best), int(slot)) if slot else int(best)
        seen.append(f"x{width} of x{wanted}")
        if (slot and width < wanted) or 4 * width <= wanted:
            where = f"its slot and itself can x{wanted}" if slot else f"it can x{wanted}"
            return problem(f"{card.get('address', 'a GPU')} runs at x{width}, {where}")
    return ok(", ".join(seen)) if seen else unknown("no card tells its link")


def _as_cards(facts: Facts) -> list[dict[str, Any]]:
    return [
        {"address": gpu.get("bus"), "width": gpu.get("pcie_width"), "width_max": gpu.get("pcie_width_max")}
        for gpu in facts.rows("gpus")
    ]


def throttled(facts: Facts) -> Answer:
    """Clocks that are held down by heat or by the power supply at this moment."""
    known = [(place, gpu["throttle"]) for place, gpu in enumerate(facts.rows("gpus")) if "throttle" in gpu]
    for place, reasons in known:
        hot = [name for name in reasons if name in HOT]
        if hot:
            temperature = facts.get(f"gpus.{place}.temperature_c")
            return problem(f"GPU {place}: {', '.join(hot)}" + (f" at {temperature} C" if temperature else ""))
    return ok("no GPU is held down now") if known else unknown("no GPU tells why its clock is held down")


def power_cap(facts: Facts) -> Answer:
    """A power limit well below the card's own."""
    for place, gpu in enumerate(facts.rows("gpus")):
        limit, default = gpu.get("power_limit_w"), gpu.get("power_default_w")
        if limit and default and limit < 0.9 * default:
            return problem(f"GPU {place} is limited to {limit:.0f} W of {default:.0f} W")
    return ok("no power limit below the default")


def kernel_faults(facts: Facts) -> Answer:
    """A GPU that fell off the bus or reported a fault of hardware since the machine started."""
    from rigwise.machine.doctor.rules import tables

    table, grave = tables().xids, []
    for entry in facts.get("seen.kernel_log") or []:
        fault = table.get(str(entry["xid"]))
        if fault and fault.severity != "note" and entry["xid"] not in (48, 63, 64, 79, 92, 94, 95):
            grave.append(f"Xid {entry['xid']} at {entry['bus']}: {fault.meaning}; {fault.action}")
        elif entry["xid"] == 0:
            grave.append("the kernel had to reset an AMD GPU")
    return problem(_counted(grave)) if grave else ok("the kernel logged no such fault since it started")


def off_the_bus(facts: Facts) -> Answer:
    """A GPU that the machine lost."""
    lost = [str(entry["bus"]) for entry in facts.get("seen.kernel_log") or [] if entry["xid"] == 79]
    return (
        problem(f"Xid 79: {lost[0] or 'a GPU'} has fallen off the bus ({len(lost)} time(s))")
        if lost
        else ok("no GPU was lost")
    )


def _counted(lines: list[str]) -> str:
    return lines[-1] + (f" ({len(lines)} such lines)" if len(lines) > 1 else "")


def memory_errors(facts: Facts) -> Answer:
    """Memory of a GPU that reports errors it cannot correct, or rows that wait to be replaced.

    The count is of the card's whole life: where it replaces bad rows, only what is not replaced is a problem.
    """
    for place, gpu in enumerate(facts.rows("gpus")):
        if gpu.get("rows_failed") in ("yes", True):
            return problem(f"GPU {place}: a row of memory could not be put out of use")
        if gpu.get("rows_pending") in ("yes", True):
            return problem(f"GPU {place}: a row of memory is put out of use at the next reset")
        remaps = "rows_failed" in gpu
        if not remaps and int(gpu.get("ecc_uncorrected") or 0) > 0:
            return problem(f"GPU {place}: {gpu['ecc_uncorrected']} errors of memory that could not be corrected")
    logged = [entry["xid"] for entry in facts.get("seen.kernel_log") or [] if entry["xid"] in (48, 63, 64, 92, 94, 95)]
    if logged:
        return problem(f"the kernel logged Xid {', '.join(map(str, sorted(set(logged))))}")
    known = any("ecc_uncorrected" in gpu or "rows_failed" in gpu for gpu in facts.rows("gpus"))
    return (
        ok("no errors that could not be corrected")
        if known
        else ok("these GPUs count no errors, the kernel logged none")
    )


def persistence(facts: Facts) -> Answer:
    """A data-centre GPU whose driver is unloaded after every program, so that the next one waits for seconds."""
    off = [
        place
        for place, gpu in enumerate(facts.rows("gpus"))
        if gpu.get("persistence") == "disabled" and gpu.get("segment") == "datacenter"
    ]
    if not off or facts.get("seen.persistenced") or in_container(facts):
        return ok("the driver stays loaded" if not off else "the persistence daemon runs")
    return problem(
        f"persistence mode of GPU {', '.join(map(str, off))} is off, and the daemon does not run", *map(str, off)
    )


def allocator(facts: Facts) -> Answer:
    """Settings of PyTorch's allocator that exclude each other or cannot be read."""
    variables = facts.variables()
    text = variables.get("PYTORCH_ALLOC_CONF") or variables.get("PYTORCH_CUDA_ALLOC_CONF", "")
    parts = [part.partition(":")[0].strip() for part in text.split(",") if part.strip()]
    if "expandable_segments" in parts and "max_split_size_mb" in parts and "expandable_segments:False" not in text:
        return problem(f"{text}: max_split_size_mb has no effect on expandable segments")
    if text and not all(re.match(r"\s*\w+:\S", part) for part in text.split(",") if part.strip()):
        return problem(f"{text!r} is no list of name:value")
    return ok(text or "the allocator is as PyTorch sets it")


def workers(facts: Facts) -> Answer:
    """A data loader without worker processes, so that the GPU waits for each batch."""
    loaders = facts.get("seen.script.loaders") or []
    idle = [entry for entry in loaders if entry["workers"] == 0]
    if idle:
        return problem(f"line {idle[0]['line']}: DataLoader without num_workers reads in the training process")
    brief = [entry for entry in loaders if entry["workers"] and not entry["persistent"]]
    if brief:
        return problem(f"line {brief[0]['line']}: workers start anew in every epoch (no persistent_workers)")
    return ok(f"{len(loaders)} data loader(s) with workers" if loaders else "no data loader is written there")


def governor(facts: Facts) -> Answer:
    """A clock governor that keeps the CPU slow; of drivers that choose clocks themselves powersave is the usual one."""
    name, driver = facts.text("cpu.governor"), facts.text("cpu.frequency_driver")
    if name == "powersave" and driver not in ("intel_pstate", "amd-pstate-epp", "amd_pstate_epp"):
        return problem(f"governor {name} of {driver or 'an unknown driver'}", "performance")
    return ok(f"governor {name}" + (f" of {driver}" if driver else ""))


def huge_pages(facts: Facts) -> Answer:
    """Transparent huge pages switched off."""
    chosen = facts.text("memory.transparent_huge_pages")
    return (
        problem(f"transparent huge pages: {chosen}", "madvise")
        if chosen == "never"
        else ok(f"transparent huge pages: {chosen}")
    )


def catalogue_differs(facts: Facts) -> Answer:
    """A GPU that is not as the catalogue has it: fewer units, another memory, MIG, or a name it does not know."""
    about = re.compile(r"gpus\.\d+\.(sm_count|l2_bytes|memory_bytes|name)$")
    found = [
        line
        for line in facts.get("findings") or []
        if about.match(str(line).partition(": ")[0]) and "catalogue" in line
    ]
    return problem("; ".join(found[:3])) if found else ok("what the driver says is what the catalogue has")


def memory_held(facts: Facts) -> Answer:
    """Memory of a GPU in use although no process is listed."""
    known = False
    for place, gpu in enumerate(facts.rows("gpus")):
        used, size = gpu.get("memory_used_bytes"), gpu.get("memory_bytes")
        if used is None or not size or "processes" not in gpu:
            continue
        known = True
        if gpu["processes"] == 0 and used > max(1.5 * GIB, IDLE_FRAC * size):
            where = "; its processes may be outside this container" if in_container(facts) else ""
            return problem(f"GPU {place}: {used / GIB:.1f} GiB in use, no process is listed{where}")
    return ok("what is used belongs to processes") if known else unknown("no GPU tells memory and processes")
