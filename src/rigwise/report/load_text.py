"""How many machines to buy for a load that varies, as text for a terminal of 80 columns."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from rigwise.edge import as_plain
from rigwise.market.break_even import BuyOrRent, Split
from rigwise.market.load import LoadAnswer
from rigwise.units import format_count, format_fraction, format_seconds, format_usd

_WIDTH = 80
#: Weeks that are told one by one.
_TOLD = 12


def load_text(answer: LoadAnswer, against: BuyOrRent) -> str:
    """The number of machines that is cheapest, beside others."""
    told = ", ".join(f"{number:g}" for number in answer.jobs_by_week[:_TOLD])
    told += ", ..." if len(answer.jobs_by_week) > _TOLD else ""
    plural = "s" * (len(answer.jobs_by_week) > 1 or answer.jobs_by_week[0] != 1)
    again = f", again and again for {format_count(answer.weeks)} weeks" if answer.weeks > 1 else ""
    lines = _wrapped(
        f"a load of {told} job{plural} a week{again}: one takes {format_seconds(answer.own_job_s)} on"
        f" {against.name}, and costs {format_usd(answer.rent_job_usd)} rented at {against.rent.name}"
    )
    lines += ["", *_wrapped("  " + _verdict(answer)), "", "  machines  of the work  hours a week each  cost in all"]
    for split in sorted((answer.best, *answer.others), key=lambda one: one.machines):
        lines.append(_row(split, answer))
    return "\n".join(lines) + "\n"


def load_document(answer: LoadAnswer) -> dict[str, Any]:
    """The same for ``--json``."""
    plain: dict[str, Any] = as_plain(answer)
    return plain


def _verdict(answer: LoadAnswer) -> str:
    best = answer.best
    nothing = next((other for other in answer.others if other.machines == 0), best)
    if not best.machines:
        return f"rent all of it for {format_usd(best.cost_usd)}: a machine would not pay for itself"
    saved = f"{format_usd(nothing.cost_usd - best.cost_usd)} less than renting all of it"
    machines = f"{best.machines} machine" + "s" * (best.machines > 1)
    rest = " and rent the rest" if best.rented_s else ""
    return f"buy {machines}{rest}: {format_usd(best.cost_usd)} over the whole time, {saved}"


def _row(split: Split, answer: LoadAnswer) -> str:
    work_s = split.owned_s + split.rented_s
    share = format_fraction(split.owned_s / work_s) if work_s else "-"
    hours = f"{split.owned_s / 3600 / answer.weeks / split.machines:,.0f}" if split.machines else "-"
    mark = "  cheapest" if split is answer.best else ""
    return f"  {split.machines:>8,}  {share:>11}  {hours:>17}  {format_usd(split.cost_usd):>11}{mark}"


def _wrapped(text: str) -> list[str]:
    return wrap(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
