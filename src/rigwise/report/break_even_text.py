"""Buying against renting as text for a terminal of 80 columns: the costs, break-even, and how it hangs on use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from rigwise.edge import as_plain
from rigwise.market.break_even import BreakEven, BuyOrRent, Usage
from rigwise.market.ownership import hours_of
from rigwise.market.shelf import PricedPart
from rigwise.units import HOUR_S, format_fraction, format_usd

SCHEMA = "rigwise.plan.buying/1"
_WIDTH = 80
#: What a name of a part leaves out.
_KINDS = {"cpu_cooler": " cooler", "case": " case", "motherboard": " board", "psu": " supply"}


def break_even_text(answer: BuyOrRent, parts: Sequence[PricedPart] = (), *, brief: bool = False) -> str:
    """The comparison; the parts of the machine and, unless ``brief``, what is assumed.

    Args:
        answer: A machine against a rent.
        parts: What the machine consists of, empty for not said.
        brief: Only the answer.
    """
    lines = [*_question(answer), "", *_answer(answer), *_split(answer)]
    if not brief:
        lines += ["", *_costs(answer), "", *_even(answer.even, answer.horizon.hours_per_week)]
        lines += ["", *_usage(answer)]
        lines += ["", *_parts(parts)] if parts else []
        lines += ["", "assumed", *_listed(answer.assumed)] if answer.assumed else []
    return "\n".join(lines) + "\n"


def break_even_document(answer: BuyOrRent, parts: Sequence[PricedPart] = ()) -> dict[str, Any]:
    """The same for ``--json``; what is infinite is null."""
    plain = as_plain(answer)
    plain["own"]["total_usd"] = answer.own.total_usd
    for row, usage in zip(plain["usage"], answer.usage, strict=True):
        row["cheaper"] = usage.cheaper
    document = {"schema": SCHEMA, **plain, "parts": as_plain(tuple(parts))}
    return {key: _finite(value) for key, value in document.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _wrapped(text: str, indent: str = "") -> list[str]:
    return wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _listed(sentences: Sequence[str]) -> list[str]:
    lines = []
    for sentence in sentences:
        lines += wrap(sentence, _WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)
    return lines


def _question(answer: BuyOrRent) -> list[str]:
    rent = answer.rent
    against = f" against {rent.name}" if rent.name else ""
    text = f"buy or rent: {answer.name}{against} at {format_usd(rent.usd_per_h)} an hour"
    ratio = rent.work_ratio_frac
    times = "as long" if abs(ratio - 1) < 0.005 else f"{ratio:.3g} times as long"
    return _wrapped(f"{text}, which needs {times} for the same work")


def _answer(answer: BuyOrRent) -> list[str]:
    own, rent = answer.own.total_usd, answer.rent_usd
    horizon = answer.horizon
    use = f"{_span(horizon.months)} at {_number(horizon.hours_per_week)} h a week"
    verb = "buy" if own < rent else "rent"
    less = abs(rent - own)
    share = f" ({format_fraction(less / max(own, rent))} less)" if max(own, rent) > 0 else ""
    lines = [
        f"  {verb:<12} over {use} ({hours_of(horizon):,.0f} h of work)",
        f"  {'own':<12} {format_usd(own)}",
        f"  {'rent':<12} {format_usd(rent)}",
        f"  {'saved':<12} {format_usd(less)}{share}",
    ]
    present = answer.present
    rate = f"{100 * present.rate_frac:.3g} %"
    both = f"own {format_usd(present.own_usd)}, rent {format_usd(present.rent_usd)}"
    return [*lines, f"  {'today':<12} {both}: later money discounted at {rate} a year"]


def _split(answer: BuyOrRent) -> list[str]:
    """The job by its deadline: all of it rented, or an own machine that does what it can until then."""
    split = answer.split
    if split is None:
        return []
    if not split.machines:
        text = f"rent all of it: {format_usd(split.cost_usd)}"
    elif split.rented_s:
        text = (
            f"buy, and rent the rest: {_hours(split.owned_s)} on the own machine, and what would take it"
            f" {_hours(split.rented_s)} more is rented beside it; {format_usd(split.cost_usd)}"
        )
    else:
        text = f"buy: {_hours(split.owned_s)} on the own machine, nothing is left to rent; {format_usd(split.cost_usd)}"
    return ["", "this job by its deadline", *_wrapped(text, "  ")]


def _number(value: float) -> str:
    return f"{value:,.4g}"


def _span(months: float) -> str:
    return f"{_number(months)} month{'' if months == 1 else 's'}"


def _costs(answer: BuyOrRent) -> list[str]:
    own = answer.own
    rows = [
        ("purchase", own.purchase_usd, ""),
        ("tax", own.tax_usd, ""),
        ("interest", own.interest_usd, ""),
        ("electricity", own.electricity_usd, f"{format_usd(answer.running_usd_per_h)} an hour of work, care included"),
        ("idle", own.idle_usd, "electricity while it does not work"),
        ("operations", own.operations_usd, ""),
        ("resale", -own.resale_usd, f"after {_span(answer.horizon.months)}"),
    ]
    lines = [
        f"  {name:<12} {_signed(usd):>9}   {note}".rstrip()
        for name, usd, note in rows
        if usd or name in ("purchase", "electricity", "resale")
    ]
    return ["what owning costs", *lines, f"  {'in all':<12} {_signed(own.total_usd):>9}"]


def _signed(usd: float) -> str:
    return f"-{format_usd(-usd)}" if usd < 0 else format_usd(usd)


def _hours(time_s: float) -> str:
    hours = time_s / HOUR_S
    return "never" if math.isinf(hours) else f"{hours:,.0f} h" if hours < 1e6 else f"{hours:.3g} h"


def _months(months: float) -> str:
    return "never" if math.isinf(months) else f"{months:,.1f} months" if months < 100 else f"{months:,.0f} months"


def _even(even: BreakEven, hours_per_week: float) -> list[str]:
    lines = ["break-even"]
    if even.reason:
        lines += _wrapped(f"never: {even.reason}", "  ")
        return lines
    share = even.utilisation_frac
    busy = f"{format_fraction(share)} of" if share <= 1 else f"never: it would take {share:,.3g} times"
    return [
        *lines,
        f"  {'clock':<12} {_hours(even.clock_s)} if both were as quick",
        f"  {'work':<12} {_hours(even.work_s)} of one's own, {_hours(even.rented_s)} of the rented one",
        f"  {'calendar':<12} {_months(even.months)} at {_number(hours_per_week)} h a week, selling it then",
        f"  {'utilisation':<12} {busy} the hours of the horizon",
    ]


def _usage(answer: BuyOrRent) -> list[str]:
    rows = [("h/week", "work", "own", "rent", "cheaper", "paid for after"), *(_usage_row(u) for u in answer.usage)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"by hours a week, over {_span(answer.horizon.months)}"]
    for row in rows:
        lines.append("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return lines


def _usage_row(usage: Usage) -> tuple[str, ...]:
    return (
        _number(usage.hours_per_week),
        _hours(usage.work_s),
        format_usd(usage.own_usd),
        format_usd(usage.rent_usd),
        usage.cheaper,
        _months(usage.months),
    )


def _parts(parts: Sequence[PricedPart]) -> list[str]:
    rows = [
        (f"{part.count} x {part.name}{_KINDS.get(part.category, '')}", format_usd(part.price_usd * part.count))
        for part in parts
    ]
    width = max(len(name) for name, _ in rows)
    oldest = min(part.as_of for part in parts)
    lines = [f"  {name:<{width}}  {usd:>9}" for name, usd in rows]
    return [f"what is bought (low street prices, the oldest of {oldest})", *lines]
