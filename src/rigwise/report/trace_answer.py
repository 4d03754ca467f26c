"""A recorded step, and where a model is named, the predicted one beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rigwise.calibrate.trace_match import Comparison, calls_of, compare, is_asked_for, one_of, repeats
from rigwise.errors import InvalidInputError
from rigwise.graph.graph import Model
from rigwise.graph.tree import Row
from rigwise.measurement.profile.activity import Activity, activities
from rigwise.measurement.profile.spans import Trace
from rigwise.measurement.profile.steps import Linked, Step, linked, median_step, steps_of, window_of
from rigwise.measurement.profile.units import Unit, units_of
from rigwise.report.step_rows import Step as Predicted
from rigwise.workload.case import Case

#: Said beside every trace of a device.
UNTRIED = "work on devices is read as the formats are described; no GPU was at hand to try it on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One step of a trace.

    Attributes:
        tied: The trace.
        steps: As they are marked; the whole trace as one where none is.
        at: Which of them is shown.
        count: Steps in the trace, counted, told or inferred.
        step_s: Time of one, the median of the marked ones.
        activities: Of each device, or the host, during the step that is shown.
        units: Its operators.
        notes: On what was read and assumed.
    """

    tied: Linked
    steps: tuple[Step, ...]
    at: int
    count: int
    step_s: float
    activities: tuple[Activity, ...]
    units: tuple[Unit, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """The predicted step beside the recorded one.

    Attributes:
        case: The question.
        predicted: The step, operator by operator.
        comparison: What was matched.
    """

    case: Case
    predicted: Predicted
    comparison: Comparison


def recorded(trace: Trace, steps: int | None = None) -> Recorded:
    """One step of a trace.

    Args:
        trace: What a profiler wrote.
        steps: How many equal steps an unmarked trace holds; None where nobody says.

    Raises:
        InvalidInputError: The steps are marked, and their number is another.
    """
    tied = linked(trace)
    marked = steps_of(tied)
    if steps and marked[0].name and steps != len(marked):
        raise InvalidInputError(f"--steps {steps}, but the trace marks {len(marked)}", hint="leave it out")
    at = median_step(tied, marked)
    start_s, end_s = window_of(tied, marked, at)
    count = len(marked) if marked[0].name else steps or 1
    return Recorded(
        tied=tied,
        steps=marked,
        at=at,
        count=count,
        step_s=(end_s - start_s) / (1 if marked[0].name else count),
        activities=activities(tied, marked, at),
        units=tuple(units_of(tied, marked[at], lambda name: False)),
        notes=(*trace.notes, UNTRIED) if trace.on_device else trace.notes,
    )


def beside(found: Recorded, case: Case, model: Model, *, told: bool = False) -> tuple[Recorded, Beside]:
    """The same, with the operators of a model's graph; and the prediction beside it.

    Args:
        found: The recorded step.
        case: What ran.
        model: Its graph.
        told: Whether somebody said how many steps an unmarked trace holds.

    Raises:
        RigwiseError: As ``predict``.
    """
    from rigwise.report.step_times import timed_step

    step = timed_step(case, model)
    rows = step.counted
    units: Sequence[Unit] = units_of(found.tied, found.steps[found.at], is_asked_for(rows))
    parallel = step.case.parallel
    micro_steps = step.case.batch // ((parallel.data or 1) * (parallel.micro_batch or 1))
    calls = calls_of(rows, step.sizes, micro_steps)
    notes = found.notes
    if not found.steps[0].name:
        count = found.count if told else repeats(calls, units)
        if count > 1 and not told:
            notes = (*notes, f"no step is marked: by what it runs the trace holds {count} (--steps says it)")
        units = one_of(units, count)
        found = replace(found, count=count, step_s=found.step_s * found.count / count)
    comparison = compare(calls, units)
    notes = (*notes, *_doubts(comparison), *_unfused(found, rows))
    return (
        replace(found, units=tuple(units), notes=notes),
        Beside(case=step.case, predicted=step, comparison=comparison),
    )


def _unfused(found: Recorded, rows: Sequence[Row]) -> list[str]:
    """Attention in single products, where the graph has it as one kernel."""
    expected = any(row.op.name == "rigwise.attention" for row in rows)
    names = (found.tied.trace.host[index].name for index in found.steps[found.at].host)
    if expected and any(name.startswith("aten::_scaled_dot_product_attention_math") for name in names):
        return ["attention ran as single products, not as one kernel: --attention math predicts that"]
    return []


def _times(ratio: float) -> str:
    return f"{ratio:.3g} times" if ratio < 100 else f"{ratio:,.0f} times"


def _doubts(comparison: Comparison) -> list[str]:
    """Why the two may not be the same work."""
    doubts = []
    if not comparison.sizes_agree:
        off, ratio = comparison.off_sizes
        times = f"{_times(ratio)} as large" if ratio >= 1 else f"{_times(1 / ratio)} smaller"
        doubts.append(
            f"{off} of {comparison.with_sizes} matched operators ran on tensors of other sizes, the median {times}:"
            " see --batch, --seq and --image-size"
        )
    if not comparison.matched:
        doubts.append("no operator of the trace is one of the model: is it another model, or another task?")
    elif comparison.matched_frac < 0.5:
        doubts.append(
            f"only {comparison.matched_frac:.0%} of the time belongs to operators of the model: see --task, --mode,"
            " --attention"
        )
    return doubts
