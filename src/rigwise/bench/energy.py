"""Joules of a matrix product and of a training step, and watts while nothing runs.

The CPU's energy is of its packages and their memory, the GPU's of the whole board, whoever used it; what the machine
takes idle is part of it. Counters are read at both ends of windows of some hundred milliseconds and more, because they
move only every 20 to 100 ms on GPUs.

What is read here is what Zeus would read (RAPL, NVML's counter), but in a process that may hang without harm, and
without 400 MB of dependencies; where that gives nothing and Zeus is installed, Zeus is asked: it knows Apple's chips,
NVIDIA's Jetson, and AMD's counters.

Source: You et al., "Zeus: Understanding and Optimizing GPU Energy Consumption of DNN Training", NSDI 2023, for windows
that begin and end when the device has done its work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rigwise.bench.framework import formats, torch_or_none, waiting, why_not
from rigwise.bench.gpu_state import bus_of
from rigwise.bench.matmul import is_wanted, product, side_for
from rigwise.bench.networks import IMAGES, PIXELS, TOKENS, made, step
from rigwise.bench.timing import measure, quantile
from rigwise.bench.types import JOULES, WATTS, Context, Parameter, Raw
from rigwise.machine.live.energy import Part
from rigwise.machine.probe.live import Sampler
from rigwise.machine.probe.live_gpus import GpuFeed
from rigwise.machine.probe.live_host import Host

#: Windows of one figure.
_WINDOWS = 3
#: Shorter windows are of few steps of the counter: RAPL moves each millisecond, a GPU's each 100.
_LEAST_S = {"cpu": 0.2}
_LEAST_GPU_S = 0.5
#: Work that is queued before it is waited for.
_BURST_S = 0.05
#: Training a batch in fp32, at most: weights, gradients, activations.
_NEEDED_BYTES = {"gpt2": 1.5e9, "resnet50": 4e9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One stretch of time.

    Attributes:
        steps: Calls that ran in it.
        energy_j: Of the whole part of the machine.
        throttle: Why its clock was held back.
    """

    wall_s: float
    steps: int
    energy_j: float
    throttle: tuple[str, ...] = ()


#: Runs what it is given, which returns how many calls ran, and says what that took; None where it cannot tell.
Meter = Callable[[Callable[[], int]], Window | None]


def run(context: Context) -> Iterator[Raw]:
    """Watts at rest, joules of a product, joules of a training step; the reason where nothing can be read."""
    torch = torch_or_none()
    if torch is None:
        yield Raw(name="energy", unit=JOULES, skipped="pip install 'rigwise[bench]' for PyTorch")
        return
    with GpuFeed() as gpus:
        meter, how = meter_of(torch, context, gpus)
        if meter is None:
            yield Raw(name="energy", unit=JOULES, skipped=how)
            return
        for name, made_of in (("idle", _idle), ("matmul", _matmul), ("training", _training)):
            if not is_wanted(context, f"energy.{name}"):
                continue
            try:
                yield made_of(torch, context, (meter, how))
            except RuntimeError as error:
                yield Raw(name=f"energy.{name}", unit=JOULES, skipped=why_not(error))


def meter_of(torch: Any, context: Context, gpus: GpuFeed) -> tuple[Meter | None, str]:
    """What measures the target's energy and by what means; None and the reason where nothing does."""
    host, bus = Host(), bus_of(torch, context.target)

    def own(work: Callable[[], int]) -> Window | None:
        begun_s = time.monotonic()
        with Sampler(host=host, gpus=gpus) as sampler:
            steps = work()
        summary = sampler.summary()
        part = part_of(summary.parts, context.target, bus)
        if part is None or part.energy_j is None:
            return None
        wall_s = summary.wall_s or time.monotonic() - begun_s
        return Window(wall_s=wall_s, steps=steps, energy_j=part.energy_j, throttle=part.throttle)

    with Sampler(host=host, gpus=gpus) as sampler:
        time.sleep(_least_s(context))
    found = sampler.summary()
    part = part_of(found.parts, context.target, bus)
    if part is not None and part.energy_j is not None:
        return own, part.how
    other = zeus_meter(context.target)
    if other is not None:
        return other, "Zeus"
    reasons = [*found.notes, *([part.reason] if part else ["this GPU's energy is not read"])]
    return None, "; ".join(reasons)


def part_of(parts: tuple[Part, ...], target: str, bus: str) -> Part | None:
    """The part that the target is: drivers and frameworks count GPUs differently, so its address decides.

    >>> part_of((Part(part="cpu"), Part(part="gpu0", bus="0000:3b:00.0")), "cuda:5", "0000:3b:00.0").part
    'gpu0'
    """
    if target == "cpu":
        return next((part for part in parts if part.part == "cpu"), None)
    found = [part for part in parts if part.part != "cpu"]
    return next((part for part in found if bus and part.bus == bus), found[0] if len(found) == 1 and not bus else None)


def zeus_meter(target: str) -> Meter | None:
    """Zeus, where it is installed and measures the target; it has a process per counter and starts slowly."""
    try:
        from zeus.monitor import ZeusMonitor  # type: ignore[import-not-found,unused-ignore]

        monitor: Any = ZeusMonitor()
        monitor.begin_window("first")
        time.sleep(_BURST_S)
        if zeus_joules(monitor.end_window("first"), target) is None:
            return None
    except Exception:  # whatever it raises where it finds no hardware, or another version of itself
        return None

    def measured(work: Callable[[], int]) -> Window | None:
        monitor.begin_window("rigwise")
        steps = work()
        found = monitor.end_window("rigwise")
        energy_j = zeus_joules(found, target)
        return None if energy_j is None else Window(wall_s=float(found.time), steps=steps, energy_j=energy_j)

    return measured


def zeus_joules(found: Any, target: str) -> float | None:
    """The target's energy in what Zeus measured; None where it is not in it."""
    kind, _, index = target.partition(":")
    soc = getattr(found, "soc_energy", None)
    if kind == "cpu":
        parts = [*(found.cpu_energy or {}).values(), *(found.dram_energy or {}).values()]
        names = ("cpu_total_mj", "cpu_energy_mj")
    else:
        parts = [joules for place, joules in found.gpu_energy.items() if place == int(index or 0)]
        names = ("gpu_mj", "gpu_energy_mj")
    of_chip = [number / 1000 for name in names if (number := getattr(soc, name, None)) is not None]
    return float(sum(parts)) if parts else (float(of_chip[0]) if of_chip else None)


def _idle(torch: Any, context: Context, by: tuple[Meter, str]) -> Raw:
    """Watts while this process waits; other processes may work."""

    def wait() -> int:
        time.sleep(_span_s(context))
        return 1

    return _raw("energy.idle", by, [by[0](wait) for _ in range(_WINDOWS)], {})


def _matmul(torch: Any, context: Context, by: tuple[Meter, str]) -> Raw:
    """A product in the format that trains quickest there."""
    able = formats(torch, context.target)
    number_format = "fp32" if context.target == "cpu" else next(name for name in ("bf16", "fp16") if name in able)
    wait = waiting(torch, context.target)
    first_s = min(measure(product(torch, context, number_format, 256), context.each_s / 8, wait).samples_s)
    side = side_for(first_s, context.each_s / 8, context.memory_bytes / 16)
    call = product(torch, context, number_format, side)
    shown: dict[str, Parameter] = {"side": side, "format": number_format, "threads": context.threads}
    return _raw("energy.matmul", by, _windows(call, wait, context, by[0]), shown, flops=2.0 * side**3)


def _training(torch: Any, context: Context, by: tuple[Meter, str]) -> Raw:
    """Forward and backward of a network that keeps the target busy for some milliseconds."""
    model = "gpt2" if context.target == "cpu" else "resnet50"
    name = f"energy.training.{model}"
    if context.memory_bytes < _NEEDED_BYTES[model]:
        return Raw(name=name, unit=JOULES, skipped="too little memory")
    sizes: dict[str, Parameter] = (
        {"batch": 1, "seq": TOKENS} if model == "gpt2" else {"batch": IMAGES, "image_size": PIXELS}
    )
    wait = waiting(torch, context.target)
    call = step(torch, *made(torch, context, model), training=True)
    shown = {**sizes, "format": "fp32", "threads": context.threads}
    work: dict[str, Parameter] = {"law": "step energy", "model": model, "task": "train", **sizes}
    return _raw(name, by, _windows(call, wait, context, by[0]), shown, work=work)


def _windows(
    call: Callable[[], object], wait: Callable[[], object], context: Context, meter: Meter
) -> list[Window | None]:
    """Windows of the same calls, after they have warmed up; each ends when the work of its calls is done."""
    one_s = min(measure(call, context.each_s / 8, wait).samples_s)
    burst, span_s = max(1, round(_BURST_S / one_s)), _span_s(context)

    def work() -> int:
        steps, begun_s = 0, time.monotonic()
        while not steps or time.monotonic() - begun_s < span_s:
            for _ in range(burst):
                call()
            wait()
            steps += burst
        return steps

    return [meter(work) for _ in range(_WINDOWS)]


def _raw(
    name: str,
    by: tuple[Meter, str],
    windows: list[Window | None],
    shown: dict[str, Parameter],
    *,
    work: dict[str, Parameter] | None = None,
    flops: float = 0.0,
) -> Raw:
    """The median of the windows; what else they say is a note, because it is no parameter that others could repeat."""
    unit = WATTS if name == "energy.idle" else JOULES
    known = [window for window in windows if window is not None]
    if len(known) < len(windows):
        return Raw(name=name, unit=unit, skipped="its energy could not be read all the time")
    powers = [window.energy_j / window.wall_s for window in known]
    each = powers if unit == WATTS else [window.energy_j / window.steps for window in known]
    value = quantile(each, 0.5)
    words = (
        f"{len(known)} windows of {min(window.wall_s for window in known):.2g} s: {min(each):.4g} to {max(each):.4g}"
    )
    words += "" if unit == WATTS else f" {unit}, {quantile(powers, 0.5):.4g} W"
    words += f", {flops / value:.3g} FLOP/J" if flops and value > 0 else ""
    reasons = dict.fromkeys(reason for window in known for reason in window.throttle)
    words += f"; held back by {', '.join(reasons)}" if reasons else ""
    parameters = {**shown, "windows": _WINDOWS, "how": by[1]}
    return Raw(name=name, unit=unit, value=value, parameters=parameters, work=work or {}, note=words)


def _least_s(context: Context) -> float:
    return _LEAST_S.get(context.target, _LEAST_GPU_S)


def _span_s(context: Context) -> float:
    return max(_least_s(context), context.each_s / _WINDOWS)
