"""Jobs that share machines, as text for a terminal of 80 columns: each machine with its queue, then what is rented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from rigwise.search.bounds import format_value
from rigwise.search.shared import shared_document
from rigwise.search.shared_types import RENT, SharedCertificate, SharedPlan, SharedResult
from rigwise.search.types import Quantiles
from rigwise.units import format_count, format_seconds, format_usd

_WIDTH = 80
_MOST = (28, 26, 9, 9, 9)


def shared_text(result: SharedResult, *, brief: bool = False) -> str:
    """Which job runs where and when; unless ``brief``, the certificate and what was assumed."""
    question = result.question
    limit = f", all within {format_seconds(question.deadline_s)}" if question.deadline_s is not None else ""
    jobs = f"{len(question.jobs)} job" + "s" * (len(question.jobs) != 1)
    own = f"{len(result.machines)} machine" + "s" * (len(result.machines) != 1)
    lines = [f"{jobs} on {own} of one's own, or rented{limit}", ""]
    lines += [f"  {'cost':<8} {_interval(result.cost_usd, format_usd)}"]
    lines += [f"  {'the last':<8} {_interval(result.end_s, format_seconds)}"]
    if result.energy_j is not None:
        lines.append(f"  {'energy':<8} {result.energy_j / 3.6e6:,.3g} kWh")
    lines += ["", *_table(result)]
    if not brief:
        lines += ["", "certificate", *_listed(_sentences(result.certificate))]
        lines += ["", "good to know", *_listed(advice(shared_document(result)))]
    return "\n".join(lines) + "\n"


def _interval(values: Quantiles, show: object) -> str:
    low, middle, high = (show(value) for value in (values.p10, values.p50, values.p90))  # type: ignore[operator]
    return f"{middle}   (80 %: {low} to {high})"


def _table(result: SharedResult) -> list[str]:
    rows = [("job", "devices", "starts", "ends", "cost")]
    blocks: list[tuple[str, list[tuple[str, ...]]]] = []
    for machine in result.machines:
        queue = sorted((one for one in result.plans if one.machine == machine), key=lambda one: one.place)
        blocks.append((machine if queue else f"{machine}: nothing", [_row(one) for one in queue]))
    for one in (one for one in result.plans if not one.machine):
        rented = f"rented: {one.plan.place}, {one.plan.market}"
        place = f"bought: {one.plan.instance}" if one.plan.kind == "buy" else rented
        if blocks and blocks[-1][0] == place:
            blocks[-1][1].append(_row(one))
        else:
            blocks.append((place, [_row(one)]))
    every = [*rows, *(row for _, inside in blocks for row in inside)]
    widths = [min(most, max(len(row[i]) for row in every)) for i, most in enumerate(_MOST)]
    lines = [_line(rows[0], widths)]
    for title, inside in blocks:
        lines += [_cut(f"  {title}", _WIDTH), *(_line(row, widths) for row in inside)]
    return lines


def _row(one: SharedPlan) -> tuple[str, ...]:
    name = one.name if len(one.name) <= _MOST[0] else "…" + one.name[1 - _MOST[0] :]
    starts = format_seconds(one.start_s.p50) if one.start_s.p50 else "at once"
    ends, cost = format_seconds(one.end_s.p50), format_usd(one.plan.cost_usd.p50)
    return name, f"{one.plan.count} x {one.plan.device}", starts, ends, cost


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [_cut(cell, width) for cell, width in zip(row, widths, strict=True)]
    aligned = [cell.rjust(w) if i > 1 else cell.ljust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))]
    return "    " + "  ".join(aligned).rstrip()


def _sentences(certificate: SharedCertificate) -> list[str]:
    shown = {"weights": "weighted sum"}.get(certificate.objective, certificate.objective)
    bound = format_value(certificate.objective, certificate.lower_bound)
    proof = (
        f"no other way to share the machines has a {shown} below {bound}, added up over the jobs, under this estimate"
    )
    proof += f": gap {100 * certificate.gap_frac:.3g} %"
    proof += ", stopped before it was closed" if certificate.stopped else ""
    ways = 1.0
    for work in certificate.works:
        ways *= len(work.options)
    choices = f"{ways:,.0f}" if ways < 1e6 else format_count(ways)
    return [
        proof,
        f"{choices} choices, {len(certificate.cover):,} parts that are ruled out or were looked at",
        f"A*, {certificate.expanded:,} states expanded, {format_seconds(certificate.wall_s)};"
        " rigwise plan verify PLAN.json proves it again",
    ]


def advice(document: Mapping[str, Any]) -> list[str]:
    """What else to know of a ``rigwise.plan.shared/1`` document, and what was assumed."""
    certificate = document["certificate"]
    objective, works = certificate["objective"], certificate["works"]
    rents = [[option["number"] for option in work["options"] if option["machine"] == RENT] for work in works]
    told = []
    if all(rents) and any(one["machine"] for one in document["plans"]):
        all_rented = sum(numbers[0] for numbers in rents)
        told.append(
            f"everything rented has a {objective} of {format_value(objective, all_rented)}"
            f" together, this {format_value(objective, certificate['best'])}"
        )
    if all(work["deadline_s"] is None and not work["wait_per_s"] for work in works):
        told.append("no job has a deadline and waiting costs nothing, so a queue may grow as long as it likes")
    told.append("a machine does one job after the other; jobs before one are taken to be late together with it")
    told.append("quotas and hourly caps are kept by each job alone; free sessions and subscriptions are left out")
    return told + (["assumed: " + "; ".join(document["assumed"])] if document["assumed"] else [])


def _listed(sentences: Sequence[str]) -> list[str]:
    options = {"initial_indent": "  - ", "subsequent_indent": "    ", "break_on_hyphens": False}
    return [line for sentence in sentences for line in wrap(sentence, _WIDTH, **options)]  # type: ignore[arg-type]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
