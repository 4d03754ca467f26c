"""The plan of several stages as text for a terminal of 80 columns."""

from __future__ import annotations

from textwrap import wrap

from rigwise.report.plan_text import MEASURE
from rigwise.search.bounds import format_value
from rigwise.search.staged_types import StagedCertificate, StagedResult
from rigwise.search.types import Plan, Quantiles
from rigwise.units import format_seconds, format_usd

_WIDTH = 80


def staged_text(result: StagedResult, *, brief: bool = False) -> str:
    """Where each stage runs and what all of them take; unless ``brief``, the certificate and what was assumed."""
    job = result.job
    limits = [f"within {format_seconds(job.deadline_s)}" if job.deadline_s is not None else ""]
    limits += [f"for at most {format_usd(job.budget_usd)}" if job.budget_usd is not None else ""]
    lines = wrap(", ".join(part for part in (f"{len(job.stages)} stages", *limits) if part), _WIDTH)
    lines += ["", f"  {'cost':<8} {_interval(result.cost_usd, format_usd)}"]
    lines += [f"  {'time':<8} {_interval(result.time_s, format_seconds)}"]
    if result.energy_j is not None:
        lines.append(f"  {'energy':<8} {result.energy_j / 3.6e6:,.3g} kWh")
    lines += ["", *_table(result)]
    if not brief:
        lines += ["", "certificate", *_listed(_sentences(result.certificate))]
        lines += ["", "good to know", *_listed(["assumed: " + "; ".join(result.assumed)])] if result.assumed else []
    return "\n".join(lines) + "\n"


def _interval(values: Quantiles, show: object) -> str:
    low, middle, high = (show(value) for value in (values.p10, values.p50, values.p90))  # type: ignore[operator]
    return f"{middle}   (80 %: {low} to {high})"


def _table(result: StagedResult) -> list[str]:
    rows = [("stage", "devices", "at", "cost", "time")]
    for stage, one in zip(result.job.stages, result.stages, strict=True):
        plan, place = one.plan, _place(one.plan)
        if one.stay:
            place = "stays"
        rows.append(
            (
                f"{one.name}: {stage.job.model}",
                f"{plan.count} x {plan.device}",
                place,
                format_usd(plan.cost_usd.p50 + one.move_usd),
                format_seconds(plan.time_s.p50 + one.move_s),
            )
        )
    widths = [min(most, max(len(row[i]) for row in rows)) for i, most in enumerate((24, 22, 40, 9, 9))]
    widths[2] = max(5, min(widths[2], _WIDTH - 2 - 4 * 2 - sum(widths) + widths[2]))
    return ["  " + _line(row, widths) for row in rows]


def _place(plan: Plan) -> str:
    return f"bought: {plan.instance}" if plan.kind == "buy" else f"{plan.place}, {plan.market}"


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [cell if len(cell) <= width else cell[: width - 1] + "…" for cell, width in zip(row, widths, strict=True)]
    aligned = [cell.rjust(w) if i > 2 else cell.ljust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))]
    return "  ".join(aligned).rstrip()


def _sentences(certificate: StagedCertificate) -> list[str]:
    counts = ", ".join(f"{number:,}" for number in certificate.listed)
    return [
        f"no choice of machines for the stages has {MEASURE.get(certificate.objective, f'a {certificate.objective}')}"
        f" below {format_value(certificate.objective, certificate.lower_bound)}"
        f" under this estimate: gap {100 * certificate.gap_frac:.3g} %"
        + (", stopped before it was closed" if certificate.stopped else ""),
        f"{counts} ways of doing the stages were told apart; every other is ruled out by what it takes at least",
        f"label setting, {certificate.labels:,} chains looked at, {format_seconds(certificate.wall_s)}",
    ]


def _listed(sentences: list[str]) -> list[str]:
    options = {"initial_indent": "  - ", "subsequent_indent": "    ", "break_on_hyphens": False}
    return [line for sentence in sentences for line in wrap(sentence, _WIDTH, **options)]  # type: ignore[arg-type]
