"""A serving fleet as text for a terminal of 80 columns: the answer first, then why it may be believed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap

from rigwise.search.serving_types import REASONS, ServingCertificate, ServingPlan, ServingResult
from rigwise.search.types import Quantiles
from rigwise.units import format_bytes, format_fraction, format_seconds, format_usd
from rigwise.workload.serving_load import MONTH_S, Serving

_WIDTH = 80
_HARD_SPACE = "\u00a0"
_CUT = {
    "memory": "cannot hold the weights",
    "ttft": "too slow at best to the first token",
    "tpot": "too slow at best from token to token",
    "limits": "not to be had in the number needed",
    "bound": "no cheaper at best",
}


def serving_plan_text(result: ServingResult, *, brief: bool = False) -> str:
    """The answer; unless ``brief``, the table of plans, the reasons, the certificate and what is left out."""
    best, load = result.plans[0], result.job.load
    lines = [*_wrapped(_question(result)), "", *_answer(best, load)]
    if not brief:
        lines += ["", *_table(result.plans)]
        lines += ["", "why the first", *_listed(best.why)]
        lines += ["", "certificate", *_listed(_proof(result.certificate))]
        lines += ["", "left out of the catalogue", *_listed([_left_out(result.excluded)])] if result.excluded else []
        lines += ["", "good to know", *_listed(result.advice)] if result.advice else []
    lines += ["", *_wrapped("assumed: " + "; ".join(result.assumed))]
    return "\n".join(lines) + "\n"


def _question(result: ServingResult) -> str:
    load, job = result.job.load, result.job.job
    limits = [f"the first token within {_whole(load.ttft_s)}"] if load.ttft_s is not None else []
    limits += [f"each next within {_whole(load.tpot_s)}"] if load.tpot_s is not None else []
    words = f"{job.model}: serve {load.rate_per_s:,.3g} requests/s of {load.prompt_tokens:,} + {load.output_tokens:,}"
    sure = f" ({format_fraction(job.confidence)} sure)".replace(" %", _HARD_SPACE + "%") if limits else ""
    return f"{words} tokens" + "".join(f", {limit}" for limit in limits) + sure


def _whole(seconds: float) -> str:
    """A time that is not broken between number and unit."""
    return format_seconds(seconds).replace(" ", _HARD_SPACE)


def _answer(plan: ServingPlan, load: Serving) -> list[str]:
    work = plan.serving
    verb = "use your own" if plan.kind == "own" else "rent"
    several = f"{plan.nodes:,} {'nodes of' if plan.kind == 'own' else 'x'} " if plan.nodes > 1 else ""
    dollars = {name: format_usd(value) for name, value in work.usd_per_million_tokens.items()}
    rows = [
        (verb, f"{several}{plan.instance}" if plan.kind == "own" else f"{several}{plan.place}, {plan.market}"),
        ("replicas", f"{work.replicas:,} of {plan.parallel.tensor} x {plan.device}, {plan.dtype}"),
        ("cost", f"{format_usd(plan.usd_per_h)}/h, {format_usd(plan.cost_usd.p50)} {_period(load)}"),
        ("a million", f"{dollars['all']} per million tokens: prompt {dollars['input']}, output {dollars['output']}"),
        ("first token", _interval(work.ttft_s)),
    ]
    chance = format_fraction(work.limits_probability)
    rows += [("each next", _interval(work.tpot_s))] if work.tpot_s else []
    rows += [
        ("a replica", f"{work.rate_per_s:.3g} requests/s, {format_fraction(work.load_frac)} of what it can take"),
        ("", f"{work.sequences:.3g} at one time, {work.most_sequences} fit; {_share(plan)}"),
        ("memory", f"{format_bytes(plan.memory_bytes)} of {format_bytes(plan.memory_capacity_bytes)} on each device"),
        ("limits kept" if load.ttft_s or load.tpot_s else "keeps up", f"with {chance} probability"),
    ]
    return [
        line
        for head, text in rows
        for line in wrap(
            text, _WIDTH, initial_indent=f"  {head:<13}", subsequent_indent=" " * 15, break_on_hyphens=False
        )
    ]


def _share(plan: ServingPlan) -> str:
    return f"prompts take {format_fraction(plan.serving.prefill_frac)} of the time"


def _period(load: Serving) -> str:
    return "for a month of 730 h" if load.duration_s == MONTH_S else f"for {format_seconds(load.duration_s)}"


def _interval(values: Quantiles) -> str:
    low, middle, high = (format_seconds(value) for value in (values.p10, values.p50, values.p90))
    return f"{middle}   (80 %: {low} to {high})"


def _table(plans: Sequence[ServingPlan]) -> list[str]:
    rows = [("#", "instances", "at", "replicas", "$/h", "$/M tok", "token", "best?")]
    for plan in plans:
        work = plan.serving
        token = format_seconds((work.tpot_s or work.ttft_s).p50)
        rows.append(
            (
                str(plan.rank),
                f"{plan.nodes} x {plan.count // plan.nodes} {plan.device}",
                plan.provider + (f", {plan.market}" if plan.market in ("spot", "reserved") else ""),
                f"{work.replicas} x {plan.parallel.tensor} {plan.dtype}",
                format_usd(plan.usd_per_h),
                format_usd(work.usd_per_million_tokens["all"]),
                token,
                format_fraction(plan.p_best),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    widths[1] = max(9, min(widths[1], _WIDTH - 2 * len(widths) - sum(widths) + widths[1]))
    left = {1, 2, 3}
    return [
        "  "
        + "  ".join(
            _cut(cell, width).ljust(width) if i in left else _cut(cell, width).rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _proof(certificate: ServingCertificate) -> list[str]:
    """What is proven, by how much looking, and how to check it."""
    cut = ", ".join(f"{certificate.pruned[r]:,} {_CUT[r]}" for r in REASONS if certificate.pruned.get(r))
    looked = f"{certificate.candidates:,} prices of {len(certificate.cover):,} ways to serve"
    looked += f": {certificate.estimated:,} estimated"
    return [
        f"no candidate costs less than {format_usd(certificate.lower_bound)} under this estimate: gap 0 %",
        f"{looked}, {cut}" if cut else looked,
        f"exhaustive search behind bounds, {format_seconds(certificate.wall_s)};"
        " rigwise plan verify PLAN.json proves it again",
    ]


def _left_out(excluded: Mapping[str, int]) -> str:
    return "; ".join(f"{number:,} {reason}" for reason, number in sorted(excluded.items(), key=lambda p: -p[1]))


def _listed(sentences: Iterable[str]) -> list[str]:
    return [line for sentence in sentences for line in _wrapped(sentence, first="  - ", rest="    ")]


def _wrapped(text: str, first: str = "", rest: str = "  ") -> list[str]:
    lines = wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
    return [line.replace(_HARD_SPACE, " ") for line in lines]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
