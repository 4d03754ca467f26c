"""A run beside its prediction: the figures, why they differ, and one document of it all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rigwise.edge import as_plain
from rigwise.launch.ending import NOT_STARTED, PLACE_LOST
from rigwise.launch.folder import State
from rigwise.launch.measured import Measured, measured
from rigwise.launch.steps import sessions
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds

SCHEMA = "rigwise.run.command/1"
#: Below these shares a cause is not worth a sentence.
_WAIT_FRAC, _SPREAD_FRAC, _STARTUP_FRAC, _SAVING_FRAC = 0.05, 0.1, 0.2, 0.02
#: Two figures of memory or of batch differ from here on.
_MEMORY_FACTOR = 1.5
#: A process that has less than this of its threads' time did not have the CPU to itself.
_CORES_FRAC = 0.7
_BATCH_FRAC = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a run.

    Attributes:
        state: As it stands.
        measured: Its figures.
        predicted: The document of ``predict``; empty without a model.
        wall_s: Of all attempts together, without what lies between them; None while one runs.
        energy: What a sampler of power found; empty where nothing is readable.
        kept: How many records went into the store.
    """

    state: State
    measured: Measured
    predicted: Mapping[str, Any]
    wall_s: float | None
    energy: Mapping[str, Any] = field(default_factory=dict)
    kept: int = 0

    @property
    def ratio(self) -> float | None:
        """Measured over predicted time: of a step, or of a sample where the batch is another one."""
        step_s, predicted_s = self.measured.step_time_s.get("p50"), self.predicted.get("step_time_s", {}).get("p50")
        if not step_s or not predicted_s:
            return None
        rate, predicted_rate = self.measured.throughput_per_s, self.predicted.get("throughput_per_s")
        if self.other_batch and rate and predicted_rate:
            return float(predicted_rate / rate)
        return float(step_s / predicted_s)

    @property
    def other_batch(self) -> bool:
        """Whether the steps have another number of samples than was predicted."""
        batch, samples = self.predicted.get("case", {}).get("batch"), self.measured.samples_per_step
        return bool(batch and samples and abs(samples / batch - 1) > _BATCH_FRAC)

    @property
    def crowded(self) -> bool:
        """Whether a run on a CPU did not have its threads' time: others had it, it waited, or ran on one thread."""
        threads, cores = self.measured.facts.get("threads"), self.measured.cores
        on_cpu = isinstance(threads, int) and "device" not in self.measured.facts
        return on_cpu and cores is not None and cores < _CORES_FRAC * float(threads or 1)

    @property
    def idle_cores(self) -> int:
        """Cores that a run on a CPU had no thread for, all ranks of a computer together."""
        facts, found = self.measured.facts, self.measured
        threads, cores = facts.get("threads"), facts.get("cores")
        if not (isinstance(threads, int) and isinstance(cores, int)) or "device" in facts:
            return 0
        return max(0, cores - threads * max(1, found.ranks // self.state.nodes))

    @property
    def input_bound(self) -> bool:
        """Whether waiting for input is a part of the step that matters."""
        return (self.measured.wait_frac or 0.0) > _WAIT_FRAC

    @property
    def throttled(self) -> tuple[str, ...]:
        """Why a device held its clock back; empty where it did not, or nobody can tell."""
        return tuple(str(one) for one in self.energy.get("throttled", ()))


def result_of(folder: Path, state: State, energy: Mapping[str, Any] | None = None) -> Result:
    """Read what the processes of a run said, and put it beside the prediction."""
    attempts = state.attempts
    started_s = attempts[0].started_s if attempts else None
    times_s = [one.ended_s - one.started_s for one in attempts if one.ended_s is not None]
    return Result(
        state=state,
        measured=measured(sessions(folder), started_s),
        predicted=state.predicted,
        wall_s=sum(times_s) if attempts and len(times_s) == len(attempts) else None,
        energy=energy or {},
    )


def differences(result: Result) -> tuple[str, ...]:
    """Why a run and its prediction differ, and what else cost time, as sentences."""
    if not result.measured.steps:
        ran = result.state.attempts and result.state.attempts[-1].exit_code not in (None, NOT_STARTED, PLACE_LOST)
        words = "The command reported no step: with rigwise.monitor in its loop, its steps are measured."
        return (words,) if ran else ()
    return (*_of_step(result), *_of_run(result))


def _of_step(result: Result) -> Iterator[str]:
    found, ratio = result.measured, result.ratio
    interval = result.predicted.get("step_time_s", {})
    step_s = found.step_time_s["p50"]
    if ratio is not None and result.other_batch:
        batch, rate = result.predicted["case"]["batch"], found.throughput_per_s
        yield (
            f"Another batch: {format_count(found.samples_per_step or 0)} samples a step, {batch} predicted;"
            f" {format_count(rate or 0)} samples/s, {format_count(result.predicted['throughput_per_s'])} predicted."
        )
    elif ratio is not None and interval["p10"] <= step_s <= interval["p90"]:
        yield f"The step lies within the predicted interval, at {ratio:.2f} of the median."
    elif ratio is not None:
        word = "slower than the 90 % quantile" if ratio > 1 else "quicker than the 10 % quantile"
        yield f"The step is {word}: {ratio:.2f} of the predicted median."
    if result.input_bound and found.wait_frac is not None:
        without_s = step_s * (1 - found.wait_frac)
        yield (
            f"Input-bound: {format_fraction(found.wait_frac)} of the step is waiting for the loader; without it a step"
            f" would take {format_seconds(without_s)}. More workers, or cheaper decoding."
        )
    if result.throttled:
        yield f"Throttled: the device held its clock back ({', '.join(result.throttled)})."
    yield from _of_software(result)
    if found.ranks > 1:
        yield from _of_ranks(result)


def _of_software(result: Result) -> Iterator[str]:
    found = result.measured
    mode, compiled = result.predicted.get("case", {}).get("mode"), found.facts.get("compiled")
    if mode == "compiled" and compiled is False:
        yield "Unfused: the prediction is for a compiled model, and nothing was compiled (torch.compile)."
    if mode == "eager" and compiled:
        yield "Compiled: the prediction is for the eager mode (--mode compiled)."
    if result.crowded:
        yield (
            f"Of {found.facts['threads']} thread{'' if found.facts['threads'] == 1 else 's'},"
            f" {found.cores or 0.0:.1f} cores' worth was used: others had the CPU,"
            " the step waited, or parts of it have one thread."
        )
    predicted, threads = result.predicted.get("case", {}).get("threads"), found.facts.get("threads")
    if predicted and threads and threads != predicted:
        yield f"Threads of each rank: {threads}, {predicted} predicted."
    if result.idle_cores:
        yield f"{result.idle_cores} of {found.facts['cores']} cores had no thread of it (OMP_NUM_THREADS)."
    predicted_bytes = result.predicted.get("peak_memory_bytes", {}).get("p50")
    if predicted_bytes and found.gpu_bytes and found.gpu_bytes > _MEMORY_FACTOR * predicted_bytes:
        yield f"Memory: {format_bytes(found.gpu_bytes)} held, {format_bytes(predicted_bytes)} predicted."


def _of_ranks(result: Result) -> Iterator[str]:
    found = result.measured
    exposed_s = result.predicted.get("exposed_comm_s")
    if exposed_s and result.ratio and result.ratio > 1:
        share = exposed_s / result.predicted["step_time_s"]["p50"]
        if share > _WAIT_FRAC:
            on_cores = result.predicted.get("case", {}).get("threads")
            words = "the cores that compute carry it" if on_cores else "a slower link shows there first"
            yield f"Communication: {format_fraction(share)} of the predicted step; {words}."
    if found.spread_frac > _SPREAD_FRAC:
        yield f"The slowest rank takes {format_fraction(found.spread_frac)} longer than the quickest."


def _of_run(result: Result) -> Iterator[str]:
    found, state, wall_s = result.measured, result.state, result.wall_s
    if found.startup_s and wall_s and found.startup_s > _STARTUP_FRAC * wall_s:
        share = format_fraction(found.startup_s / wall_s)
        yield f"Start: {format_seconds(found.startup_s)} before the first step, {share} of the whole time."
    if found.saves and found.save_s and wall_s and found.saves * found.save_s > _SAVING_FRAC * wall_s:
        yield f"Checkpoints: {found.saves} of {format_seconds(found.save_s)}, which no step contains."
    lost = [one.lost_s for one in state.attempts if one.lost_s is not None]
    if len(state.attempts) > 1:
        words = f"{len(state.attempts) - 1} interruptions" if len(state.attempts) > 2 else "One interruption"
        most = f"; at most {format_seconds(max(lost))} of work was lost by one" if lost else ""
        yield f"{words}{most}."


def run_document(result: Result) -> dict[str, Any]:
    """The JSON object of ``rigwise.run.command/1``; see docs/reference/json.md."""
    state = as_plain(result.state)
    kept = ("id", "phase", "message", "command", "on", "ranks", "nodes", "restarts", "checkpoint_s", "plan")
    return {
        "schema": SCHEMA,
        **{key: state[key] for key in kept},
        "attempts": [{key: one[key] for key in one if key != "handle"} for one in state["attempts"]],
        "wall_s": result.wall_s,
        "measured": as_plain(result.measured),
        "energy": dict(result.energy) or None,
        "predicted": as_plain(result.predicted) or None,
        "ratio": result.ratio,
        "differences": list(differences(result)),
        "notes": list(result.state.notes),
        "kept": result.kept,
    }
