"""Why more devices stop helping: one case at several counts, and what grows between them.

With the batch fixed (strong scaling) every device gets fewer samples; with the batch per device
fixed (weak scaling) only what devices owe each other grows. Each step is split into terms; the
device-seconds that a sample costs, term by term, say which of them eats the added devices.

Source: Amdahl, "Validity of the Single Processor Approach", 1967; Gustafson, "Reevaluating
Amdahl's Law", 1988.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

from rigwise.errors import InvalidInputError
from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.collective import crossover_bytes, network_of
from rigwise.estimate.predict import Prediction, machine_of, predict
from rigwise.graph.graph import Model
from rigwise.graph.load import load_model
from rigwise.workload.case import Case

#: Devices of one computer unless the case says otherwise.
USUAL_PER_NODE = 8
#: A doubling that gives less than this share of what it could is not worth its devices.
WORTHWHILE = 0.5
TERMS = ("compute", "memory", "launch", "update", "communication", "bubble", "straggling", "input")

#: What a growing term means, and what would change it.
REASONS = {
    "compute": ("smaller shares of the batch fill a device less well", "a bigger batch, or fewer and larger devices"),
    "memory": ("weights are read for fewer samples", "a bigger batch, or fewer and larger devices"),
    "launch": ("the host starts as many kernels for fewer samples", "a bigger batch, or compiled mode"),
    "update": ("every replica updates all its weights whatever its share", "a bigger batch, or ZeRO 1"),
    "communication": (
        "what devices send each other no longer hides behind computation",
        "a faster link, a bigger batch, or fewer and larger devices",
    ),
    "bubble": ("stages wait while the pipeline fills and drains", "more micro-batches, or interleaved stages"),
    "straggling": ("every step waits for the slowest of more devices", "fewer and larger devices, or stale updates"),
    "input": ("samples do not arrive as fast as they are used", "faster storage, or smaller samples"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPoint:
    """The case on one number of devices.

    Attributes:
        prediction: Its whole answer.
        efficiency_frac: Throughput of one device over that of one at the first count.
        terms_s: Seconds of the step by what they are spent on; they add up to the median.
        binds: The largest of them.
    """

    prediction: Prediction
    efficiency_frac: float
    terms_s: Mapping[str, float]
    binds: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """A case over several numbers of devices.

    Attributes:
        kind: strong (the batch is fixed) or weak (the batch of a device is).
        points: In the order asked for.
        stops_at: The last count that is still worth its devices.
        grows: The term whose device-seconds for each sample grow most; empty if none does.
        why: One sentence.
        change: What would change it.
        crossover_bytes: Message above which a ring beats a tree inside a node; 0: always.
    """

    kind: str
    points: tuple[ScalingPoint, ...]
    stops_at: int
    grows: str
    why: str
    change: str
    crossover_bytes: float


def scaling(
    case: Case, counts: Sequence[int], *, weak: bool = False, per_node: int | None = None, model: Model | None = None
) -> Scaling:
    """Predict the case on each number of devices and say what stops it.

    Args:
        case: The question; its batch is that of every count, or with ``weak`` of the first.
        counts: Rising numbers of devices.
        weak: Keep the batch of a device instead of the whole.
        per_node: Devices of one computer; None for at most eight.
        model: The captured model, if at hand.

    Raises:
        InvalidInputError: Counts do not rise, do not fill whole nodes, or the batch does not divide.
        RigwiseError: As ``predict``.
    """
    if len(counts) < 2 or any(b <= a for a, b in pairwise(counts)):
        raise InvalidInputError(
            f"scaling needs rising counts, not {','.join(map(str, counts))}", hint="for example --count 1,2,4,8"
        )
    model = model or load_model(case.model)
    predictions = [predict(_at(case, count, counts[0], per_node, weak=weak), model) for count in counts]
    first = predictions[0].throughput_per_s / counts[0]
    points = tuple(_point(p, p.throughput_per_s / p.case.count / first) for p in predictions)
    grows = _growing(points)
    why, change, stops_at = _words(points, grows)
    return Scaling(
        kind="weak" if weak else "strong",
        points=points,
        stops_at=stops_at,
        grows=grows,
        why=why,
        change=change,
        crossover_bytes=_crossover(predictions[-1]),
    )


def _at(case: Case, count: int, first: int, per_node: int | None, *, weak: bool) -> Case:
    """The case on ``count`` devices, in nodes as full as they get."""
    full = per_node or USUAL_PER_NODE
    nodes = ceil(count / full)
    if count % nodes:
        raise InvalidInputError(f"{count} devices do not divide over {nodes} nodes of up to {full}")
    batch = case.batch * count // first if weak else case.batch
    return replace(case, count=count, nodes=nodes, batch=batch, parallel=replace(case.parallel, data=None))


def _point(prediction: Prediction, efficiency_frac: float) -> ScalingPoint:
    terms = terms_of(prediction)
    return ScalingPoint(
        prediction=prediction, efficiency_frac=efficiency_frac, terms_s=terms, binds=max(terms, key=lambda t: terms[t])
    )


def terms_of(p: Prediction) -> dict[str, float]:
    """The seconds of a step by what they are spent on.

    Forward and backward, less the bubble, are shared out as their operators are bound.
    """
    whole = p.step_time_s["p50"]
    shares = {name: p.binds[name] * whole for name in ("compute", "memory", "launch")}
    update = min(p.optimizer_s, shares["memory"] + shares["launch"])
    from_memory = min(update, shares["memory"])
    shares["memory"] -= from_memory
    shares["launch"] -= update - from_memory
    busy = p.forward_s + p.backward_s - p.bubble_s
    held = sum(shares.values())
    parts = {name: seconds * busy / held if held else 0.0 for name, seconds in shares.items()}
    parts |= {"update": p.optimizer_s, "communication": p.exposed_comm_s - p.straggling_s}
    parts |= {"bubble": p.bubble_s, "straggling": p.straggling_s}
    return parts | {"input": max(0.0, whole - sum(parts.values()))}


def _growing(points: Sequence[ScalingPoint]) -> str:
    """The term whose device-seconds for each sample grow most from the first count to the last."""

    def cost(point: ScalingPoint, term: str) -> float:
        case = point.prediction.case
        return point.terms_s[term] * case.count / case.batch

    growth = {term: cost(points[-1], term) - cost(points[0], term) for term in TERMS}
    most = max(growth, key=lambda term: growth[term])
    return most if growth[most] > 0 else ""


def _words(points: Sequence[ScalingPoint], grows: str) -> tuple[str, str, int]:
    """Why, what would change it, and the last count that is worth its devices."""
    last, first = points[-1], points[0]
    stops_at = first.prediction.case.count
    for before, after in pairwise(points):
        gain = after.prediction.throughput_per_s / before.prediction.throughput_per_s - 1.0
        ideal = after.prediction.case.count / before.prediction.case.count - 1.0
        if gain < WORTHWHILE * ideal:
            break
        stops_at = after.prediction.case.count
    if not grows or last.efficiency_frac >= 1.0:
        return "Nothing stops it within these counts.", "", stops_at
    reason, change = REASONS[grows]
    share = last.terms_s[grows] / last.prediction.step_time_s["p50"]
    count, whole = last.prediction.case.count, last.prediction.case.count / first.prediction.case.count
    gained = last.prediction.throughput_per_s / first.prediction.throughput_per_s
    why = (
        f"{count} devices give {gained:.2g}x of {whole:.2g}x: {reason}"
        f" ({grows} is {share * 100:.0f} % of the step there)."
    )
    return why, change, stops_at


def _crossover(p: Prediction) -> float:
    """Where ring and tree meet between the devices of one node."""
    machine = machine_of(p.case, p.device)
    if machine.devices_per_node < 2 or machine.shares_cores:
        return 0.0
    network = network_of(machine, load_calibration().collective)
    return crossover_bytes(
        machine.devices_per_node,
        float(network.intra_bytes_per_s),
        network.intra_latency_s,
        network.tree_latency_s,
        network.ramp_frac,
    )
