"""What would change a plan, and why it is what it is, as sentences for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

from rigwise.edge import as_plain
from rigwise.market.offers import ON_DEMAND, OWNED
from rigwise.report.plan_text import job_words
from rigwise.search.choice import NODE, NODES, ONE, Choice, Size
from rigwise.search.explain import compared, machine_words
from rigwise.search.sensitivity import BUDGET, DEADLINE, PRICE, TIME_WORTH, Change
from rigwise.search.types import Plan
from rigwise.units import format_bytes, format_fraction, format_seconds, format_usd
from rigwise.workload.job import Job

CHANGE_SCHEMA, CHOICE_SCHEMA = "rigwise.plan.change/1", "rigwise.plan.choice/1"
_WIDTH = 80
_HEADINGS = {PRICE: "prices", DEADLINE: "deadline", BUDGET: "budget", TIME_WORTH: "what waiting is worth"}


def change_text(job: Job, first: Plan, changes: Sequence[Change], *, brief: bool = False) -> str:
    """The first plan, and every threshold at which another one is the best."""
    lines = [*_wrapped(job_words(job)), "", *_wrapped(f"  first: {_plan_words(first)}", "    ")]
    for what, heading in _HEADINGS.items():
        found = [change for change in changes if change.what == what]
        if found:
            lines += ["", heading, *_listed(change_words(change) for change in found)]
    if not brief:
        lines += ["", *_wrapped(_RESTS_ON.format(confidence=job.confidence), "")]
    return "\n".join(lines) + "\n"


_RESTS_ON = (
    "One thing changes at a time, and the rest stays as it is. Each threshold is exact under this estimate: the job"
    " was planned again on both sides of it. Limits bind at what a plan keeps with probability {confidence:g}."
)


def change_words(change: Change) -> str:
    """One threshold in words."""
    there = "no plan keeps it" if change.plan is None else _plan_words(change.plan)
    if change.what == PRICE:
        return _price_words(change)
    if change.what == TIME_WORTH:
        return f"an hour worth more than {format_usd(change.at)} to whoever waits: {there}"
    show = format_seconds if change.what == DEADLINE else format_usd
    now = "none" if change.now is None else show(change.now)
    return f"{change.side} {show(change.at)} (now {now}): {there}"


def _price_words(change: Change) -> str:
    now = change.now or 0.0
    share = f"{100 * (change.at / now - 1):+.0f} %" if now else ""
    where = _place(change.whose) if change.whose else ""
    if change.side == "below":
        return f"{where}, now {_rate(now)}, would be first below {_rate(change.at)} ({share})"
    above = (
        "no plan keeps the budget" if change.plan is None else f"{machine_words(change.plan)} at {change.plan.place}"
    )
    return f"{where}, now {_rate(now)}, stays first up to {_rate(change.at)} ({share}); above, {above}"


def _rate(usd_per_h: float) -> str:
    """A price by the hour, to a tenth of a cent where that is told apart."""
    return f"${usd_per_h:.3f}/h" if usd_per_h < 10 else f"{format_usd(usd_per_h)}/h"


def _plan_words(plan: Plan) -> str:
    figures = f"{format_usd(plan.cost_usd.p50)} and {format_seconds(plan.time_s.p50)}"
    return f"{machine_words(plan)} at {_place(plan)}: {figures}"


def _place(plan: Plan) -> str:
    """Where it is, and on what market, unless that is the usual one."""
    return plan.place if plan.market in (ON_DEMAND, OWNED) else f"{plan.place}, {plan.market}"


def change_document(job: Job, first: Plan, changes: Sequence[Change]) -> dict[str, Any]:
    """The same for ``--json``."""
    return {
        "schema": CHANGE_SCHEMA,
        "job": as_plain(job),
        "first": as_plain(first),
        "changes": as_plain(tuple(changes)),
    }


def choice_text(job: Job, chosen: Choice, *, brief: bool = False) -> str:
    """Why the first plan, why not the next ones, and why so many devices and nodes."""
    lines = [*_wrapped(job_words(job)), "", *_wrapped(f"  first: {_plan_words(chosen.first)}", "    ")]
    lines += ["", "one device, several, several nodes", *_listed(size_sentences(job, chosen))]
    if not brief:
        lines += ["", "what it costs", *_listed([_cost_words(chosen.first)])]
        lines += ["", "why not the next ones", *_listed(_against(other, chosen.first) for other in chosen.others)]
    return "\n".join(lines) + "\n"


def choice_document(job: Job, chosen: Choice) -> dict[str, Any]:
    """The same for ``--json``, with the sentences."""
    plain = as_plain(chosen)
    plain["efficiency"] = chosen.efficiency
    return {"schema": CHOICE_SCHEMA, "job": as_plain(job), **plain, "why": size_sentences(job, chosen)}


def size_sentences(job: Job, chosen: Choice) -> list[str]:
    """Whether the job needs several devices or nodes, with the figures."""
    first, sizes = chosen.first, {size.name: size for size in chosen.sizes}
    mine = NODES if first.nodes > 1 else NODE if first.count > 1 else ONE
    told = [_size_words(job, sizes[name], first) for name in (ONE, NODE, NODES) if name != mine and sizes[name].offered]
    sharing = _sharing_words(chosen)
    return [*([sharing] if sharing else []), *told]


def _sharing_words(chosen: Choice) -> str:
    """What several devices lose by sharing the work."""
    first = chosen.first
    if first.count == 1:
        return "one device does the job within its limits, and sharing the work would lose some of it"
    if chosen.alone_s is None:
        return f"{first.count} x {first.device}: the job does not fit on one of them"
    return (
        f"{first.count} x {first.device} do {chosen.alone_s / chosen.undisturbed_s:.2f} times the work of one of them,"
        f" {format_fraction(chosen.efficiency or 0.0)} of what {first.count} apart would"
    )


def _size_words(job: Job, size: Size, first: Plan) -> str:
    """The best of another size against the first plan."""
    if size.anyhow is None:
        if size.least_bytes > size.largest_bytes:
            return (
                f"{size.name}: none holds the job; it needs {format_bytes(size.least_bytes)} on each device at least,"
                f" and the largest has {format_bytes(size.largest_bytes)}"
            )
        return f"{size.name}: none holds the job with probability {job.confidence:g}"
    if size.plan is None:
        limits = [f"{format_seconds(job.deadline_s)}"] if job.deadline_s is not None else []
        limits += [format_usd(job.budget_usd)] if job.budget_usd is not None else []
        why = " and ".join(limits) or "the longest session"
        return f"{size.name}: none keeps {why}; the best would be {_plan_words(size.anyhow)}"
    return f"{size.name}, at best: {_plan_words(size.plan)}; {compared(size.plan, first)}"


def _against(other: Plan, first: Plan) -> str:
    """Why a plan comes after the first: what an hour costs and how many it takes, of which cost is the product."""
    return f"{other.rank}. {machine_words(other)} at {other.place}: {compared(other, first)}"


def _cost_words(plan: Plan) -> str:
    terms = ", ".join(f"{format_usd(usd)} {name}" for name, usd in plan.cost_terms.items())
    hours = plan.time_s.p50 / 3600
    return f"{terms}: {format_usd(plan.usd_per_h)}/h for {hours:,.3g} h"


def _listed(sentences: Iterable[str]) -> list[str]:
    return [line for sentence in sentences for line in _wrapped(f"  - {sentence}", "    ")]


def _wrapped(text: str, rest: str = "  ") -> list[str]:
    return wrap(text, _WIDTH, subsequent_indent=rest, break_on_hyphens=False)
