"""A plan on spot capacity as text for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from rigwise.edge import as_plain
from rigwise.market.spot_distribution import REPLAYS, PolicyOutcome, Scenario, SpotAnswer
from rigwise.units import format_fraction, format_seconds, format_usd

SCHEMA = "rigwise.plan.spot/1"
_WIDTH = 80


def spot_document(answer: SpotAnswer) -> dict[str, Any]:
    """The answer as ``rigwise plan --explain spot --json`` prints it."""
    return {"schema": SCHEMA, **as_plain(answer)}


def spot_text(answer: SpotAnswer, *, brief: bool = False) -> str:
    """What the plan comes to; unless ``brief``, the policies, the beliefs and what they rest on."""
    lines = [*_head(answer), ""]
    lines += _policy_table(answer)
    if not brief:
        lines += ["", *_belief_table(answer), "", "good to know", *_listed(_notes(answer))]
    return "\n".join(lines) + "\n"


def _head(answer: SpotAnswer) -> list[str]:
    question, planned = answer.question, answer.planned
    price = f"{format_usd(question.spot_usd_per_h)}/h on spot"
    if question.on_demand_usd_per_h is not None:
        elsewhere = f" at {question.on_demand_place}" if question.on_demand_place else ""
        price += f", {format_usd(question.on_demand_usd_per_h)}/h on demand{elsewhere}"
    work = question.work_s
    between = f"{format_seconds(work['p10'])} to {format_seconds(work['p90'])}"
    limit = f", within {format_seconds(question.deadline_s)}" if question.deadline_s is not None else ""
    machines = f"{question.instances} machines run" if question.instances > 1 else "it runs"
    capacity = (
        f"{machines} {format_seconds(planned.run_s)} on average, then"
        f" {_wait(planned)} to wait;"
        f" there {format_fraction(planned.availability_frac)} of the time ({_belief_words(answer)})"
    )
    save = "never: it is done before a checkpoint is worth its time"
    if planned.interval_s < question.usual_work_s:
        save = (
            f"after every {format_seconds(planned.interval_s)} of work; {format_seconds(planned.interruption.save_s)}"
            f" to save, {format_seconds(planned.interruption.restart_s)} to be running again"
        )
    expected = (
        f"{format_usd(planned.cost_usd)} for {format_seconds(planned.paid_s)} paid, done after"
        f" {format_seconds(planned.wall_s)} with waiting"
    )
    rows = {
        "plan": f"{question.plan}; {price}",
        "work": f"{format_seconds(work['p50'])} without interruptions (80 %: {between}){limit}",
        "capacity": capacity,
        "save": save,
        "expected": expected,
        "follow": _advice(answer),
    }
    return [line for name, text in rows.items() for line in _wrapped(text, f"  {name:<10}", " " * 12)]


def _belief_words(answer: SpotAnswer) -> str:
    planned = answer.planned
    kind = planned.interruption.source_class
    return kind if kind in (planned.name, "given") else f"{kind}, {planned.name}"


def _advice(answer: SpotAnswer) -> str:
    planned = answer.planned
    chosen = next(outcome for outcome in planned.policies if outcome.policy == planned.best)
    words = f"{chosen.policy}: {_mean(chosen.cost_usd)} on average"
    if chosen.late_frac is not None:
        words += f", late with probability {_odds(chosen.late_frac)}"
        if chosen.late_frac > 1 - answer.question.confidence:
            words += ", and no policy is late less often"
    return words


def _policy_table(answer: SpotAnswer) -> list[str]:
    rows: list[tuple[str, ...]] = [("policy", "cost", "p10", "p50", "p90", "time p50", "p90", "late")]
    rows += [_policy_row(outcome) for outcome in answer.planned.policies]
    kind = "stretches of the trace" if answer.trace else f"drawn histories with {answer.planned.law} runs"
    return [f"over {REPLAYS} {kind}; cost: mean and quantiles", *_table(rows)]


def _policy_row(outcome: PolicyOutcome) -> tuple[str, ...]:
    cost, time = outcome.cost_usd, outcome.time_s
    return (
        outcome.policy,
        _mean(cost),
        *(_shown(cost[key], format_usd) for key in ("p10", "p50", "p90")),
        *(_shown(time[key], format_seconds) for key in ("p50", "p90")),
        _odds(outcome.late_frac),
    )


def _belief_table(answer: SpotAnswer) -> list[str]:
    rows: list[tuple[str, ...]] = [("if it is", "class", "runs", "waits", "cost", "time", "late", "then follow")]
    rows += [_belief_row(scenario) for scenario in answer.scenarios]
    low, high = answer.spread["cost_usd"]
    short, long = answer.spread["time_s"]
    spread = (
        f"between them: {format_usd(low)} to {format_usd(high)}, {format_seconds(short)} to {format_seconds(long)};"
        " cost and time expected, late and waiting on spot only"
    )
    return [*_table(rows, left=(0, 1, 7)), *_wrapped(spread, "  ", "  ")]


def _belief_row(scenario: Scenario) -> tuple[str, ...]:
    return (
        scenario.name,
        scenario.interruption.source_class,
        format_seconds(scenario.run_s),
        _wait(scenario),
        "" if scenario.policies[0].given_up_frac == 1 else format_usd(scenario.cost_usd),
        "never" if scenario.policies[0].given_up_frac == 1 else format_seconds(scenario.wall_s),
        _odds(scenario.policies[0].late_frac),
        scenario.best,
    )


def _wait(scenario: Scenario) -> str:
    return "none" if scenario.wait_s < 1 else format_seconds(scenario.wait_s)


def _notes(answer: SpotAnswer) -> list[str]:
    planned, intervals = answer.planned, answer.intervals_s
    notes = [f"capacity: {planned.interruption.source}", *answer.notes]
    if answer.question.instances > 1 and not planned.interruption.together:
        notes.append(
            "each machine is assumed to come and go on its own, which is the worst case: those of one zone tend to"
            " come and go together"
        )
    notes.append(
        f"interval: the least expected time is at {format_seconds(intervals['best'])};"
        f" Young's rule says {format_seconds(intervals['young'])}, Daly's {format_seconds(intervals['daly'])}"
    )
    if answer.memoryless is not None and planned.policies[0].late_frac is not None:
        notes.append(
            f"with exponential instead of {planned.law} runs, spot only is late in"
            f" {_odds(answer.memoryless.policies[0].late_frac)} of the replays, and {answer.memoryless.best} is best"
        )
    given_up = planned.policies[0].given_up_frac
    if given_up > 0:
        notes.append(f"{_odds(given_up)} of the replays on spot only were given up, and their cost is not in the mean")
    if answer.question.on_demand_usd_per_h is None:
        notes.append("no offer of these devices has an on-demand price: there is nothing to fall back on")
    elif answer.question.deadline_s is None:
        notes.append("without a deadline, waiting for spot is the cheapest; --deadline brings in the other policies")
    if answer.trace is not None:
        median = format_seconds(answer.trace.median_run_s or 0.0)
        notes.append(f"runs in the trace: {answer.trace.runs}, with a median of {median}")
    else:
        notes.append("--trace FILE replays your own record of the capacity instead")
    return notes


def _mean(values: Mapping[str, float | None]) -> str:
    return _shown(values["mean"], format_usd)


def _shown(value: float | None, show: Any) -> str:
    return "never" if value is None else str(show(value))


def _odds(late_frac: float | None) -> str:
    if late_frac is None:
        return ""
    return f"{100 * late_frac:.1f} %" if 0 < late_frac < 0.1 else format_fraction(late_frac)


def _table(rows: Sequence[tuple[str, ...]], left: tuple[int, ...] = (0,)) -> list[str]:
    used = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in used}
    gap = "  " if sum(widths.values()) + 2 * len(used) <= _WIDTH else " "
    return [
        gap + gap.join(row[i].ljust(widths[i]) if i in left else row[i].rjust(widths[i]) for i in used).rstrip()
        for row in rows
    ]


def _listed(sentences: Iterable[str]) -> list[str]:
    return [line for sentence in sentences for line in _wrapped(sentence, "  - ", "    ")]


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
