"""A plan as text for a terminal of 80 columns: the answer first, then why it may be believed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap

from rigwise.search.bounds import format_value
from rigwise.search.robust import is_tied
from rigwise.search.types import Certificate, Plan, PlanResult, Quantiles
from rigwise.units import format_count, format_fraction, format_seconds, format_usd
from rigwise.workload.job import Job

_WIDTH = 80
#: What an objective is called with its article, where that is not "a" and its own name.
MEASURE = {"weights": "a weighted sum", "energy": "an energy"}
#: Reasons for leaving prices out that are told on the terminal.
_REASONS_TOLD = 2
_REASONS = {
    "memory": "cannot hold the weights",
    "deadline": "too slow at best",
    "budget": "too dear at best",
    "bound": "no better at best",
}


def plan_text(result: PlanResult, *, brief: bool = False) -> str:
    """The answer; unless ``brief``, the table of plans, the reasons, the certificate, what was left out, advice."""
    best = result.plans[0]
    lines = [*_wrapped(job_words(result.job)), "", *_answer(best)]
    if not brief:
        lines += ["", *_table(result.plans)]
        lines += ["", "why the first (--explain choice or change tells more)", *_listed(best.why)]
        lines += ["", "if it is not to be had", *_listed(map(_fallback, result.fallbacks))] if result.fallbacks else []
        lines += ["", "certificate", *_listed(certificate_sentences(result.certificate))]
        lines += ["", "left out of the catalogue", *_listed([_left_out(result.excluded)])] if result.excluded else []
        lines += ["", "good to know", *_listed(result.advice)] if result.advice else []
    return "\n".join(lines) + "\n"


def job_words(job: Job) -> str:
    """The job in one sentence: model, amount and limits."""
    limits = [f"within {format_seconds(job.deadline_s)}" if job.deadline_s is not None else ""]
    limits += [f"for at most {format_usd(job.budget_usd)}" if job.budget_usd is not None else ""]
    method = f" with {job.method}" if job.task == "train" and job.method != "full" else ""
    runs = f"{job.runs} runs, {job.parallel_runs} at once" if job.runs > 1 else ""
    parts = [f"{job.model}: {job.task} {format_count(job.amount)} {job.unit}{method}", runs, *limits]
    return ", ".join(part for part in parts if part)


def _interval(values: Quantiles, show: object) -> str:
    low, middle, high = (show(value) for value in (values.p10, values.p50, values.p90))  # type: ignore[operator]
    return f"{middle}   (80 %: {low} to {high})"


def _answer(plan: Plan) -> list[str]:
    verb = {"own": "use your own", "buy": "buy"}.get(plan.kind, "rent")
    where = plan.instance if plan.kind == "buy" else f"{plan.place}, {plan.market}"
    lines = [f"  {verb:<12} {_devices(plan)}", f"  {'as' if plan.kind == 'buy' else 'at':<12} {where}"]
    lines += [f"  {'price':<12} {_price(plan)}"] if plan.kind == "buy" else []
    lines.append(f"  {'cost':<12} {_interval(plan.cost_usd, format_usd)}")
    lines.append(f"  {'time':<12} {_interval(plan.time_s, format_seconds)}")
    if plan.energy_j is not None:
        carbon = "" if plan.carbon_g is None else f", {format_value('carbon', plan.carbon_g)} where it stands"
        lines.append(f"  {'energy':<12} {plan.energy_j / 3.6e6:,.3g} kWh{carbon}")
    return [_cut(line, _WIDTH) for line in lines]


def _price(plan: Plan) -> str:
    """What the machine is sold for, with tax."""
    price_usd = plan.capital_usd + plan.cost_terms.get("ownership", 0.0)
    return f"{format_usd(price_usd)} on {plan.price_date}; the cost is the job's share, and power"


def _devices(plan: Plan) -> str:
    nodes = f" on {plan.nodes} nodes" if plan.nodes > 1 else ""
    return f"{plan.count} x {plan.device}{nodes}"


def _table(plans: Sequence[Plan]) -> list[str]:
    rows = [("# ", "devices", "at", "layout", "cost", "time", "best?")]
    for plan in plans:
        layout = f"{plan.dtype} {plan.micro_batch}x{plan.accumulation}"
        layout += f" Z{plan.parallel.zero}" if plan.parallel.zero else ""
        layout += f" {plan.recompute[:3]}" if plan.recompute != "none" else ""
        cost, time = format_usd(plan.cost_usd.p50), format_seconds(plan.time_s.p50)
        devices = f"{plan.count} x {plan.device}"
        odds = format_fraction(plan.p_best)
        rank = f"{plan.rank}=" if is_tied(plan) else f"{plan.rank} "
        rows.append((rank, devices, f"{plan.provider} {plan.instance}", layout, cost, time, odds))
    limits = (3, 26, _WIDTH, 21, 10, 9, 6)
    widths = [min(limit, max(len(row[i]) for row in rows)) for i, limit in enumerate(limits)]
    widths[2] = max(2, min(widths[2], _WIDTH - 2 * (len(widths)) - sum(widths) + widths[2]))
    right = {0, 4, 5, 6}
    return [
        "  "
        + "  ".join(
            _cut(cell, width).rjust(width) if i in right else _cut(cell, width).ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def certificate_sentences(certificate: Certificate) -> list[str]:
    """What is proven, by how much looking, and how to check it."""
    proof = (
        f"no candidate has {MEASURE.get(certificate.objective, f'a {certificate.objective}')} below"
        f" {format_value(certificate.objective, certificate.lower_bound)}"
        f" under this estimate: gap {100 * certificate.gap_frac:.3g} %"
        + (", stopped before it was closed" if certificate.stopped else "")
    )
    cut = ", ".join(f"{certificate.pruned[r]:,} {words}" for r, words in _REASONS.items() if certificate.pruned.get(r))
    looked = f"{certificate.candidates:,} candidates: {certificate.estimated:,} estimated"
    method = "A*" if certificate.method == "astar" else "exhaustive search"
    how = f"{method}, {format_seconds(certificate.wall_s)}; rigwise plan verify PLAN.json proves it again"
    return [proof, f"{looked}, {cut}" if cut else looked, how]


def _fallback(plan: Plan) -> str:
    """A fallback, and how it stands to the first plan; its place says what else is different."""
    against = plan.why[0].partition(": ")[2] if plan.why else ""
    return f"{_devices(plan)} at {plan.place}" + (f": {against}" if against else "")


def _left_out(excluded: Mapping[str, int]) -> str:
    """How many prices, and the reasons of most of them."""
    ranked = sorted(excluded.items(), key=lambda pair: -pair[1])
    told = [f"{number:,} {reason}" for reason, number in ranked[:_REASONS_TOLD]]
    others = ranked[_REASONS_TOLD:]
    told += [f"{sum(n for _, n in others):,} for {len(others)} other reasons, see --json"] if others else []
    return f"{sum(excluded.values()):,} prices: {'; '.join(told)}"


def _listed(sentences: Iterable[str]) -> list[str]:
    return [line for sentence in sentences for line in _wrapped(sentence, first="  - ", rest="    ")]


def _wrapped(text: str, first: str = "", rest: str = "  ") -> list[str]:
    return wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
