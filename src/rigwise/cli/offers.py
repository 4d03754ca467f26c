"""``rigwise offers``: what can be rented, where and for how much; ``rigwise offers lint`` names its faults."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from rigwise.cli import catalogue_table as columns
from rigwise.cli.output import answer_options, print_json

if TYPE_CHECKING:
    from rigwise.facts.lint import Fault
    from rigwise.facts.offer import Offer


def _per_device(offer: Offer) -> float | None:
    if offer.price_usd_h is None or not offer.accel_count:
        return None
    return offer.price_usd_h / offer.accel_count


TABLE = columns.Table(
    name="offers",
    shown=("provider", "instance", "device", "count", "price", "spot", "as-of"),
    fields=(
        columns.text("provider"),
        columns.text("instance"),
        columns.text("region"),
        columns.text("device"),
        columns.text("accelerator"),
        columns.number("count", "accel_count"),
        columns.memory("memory", "accel_memory_bytes"),
        columns.number("vcpus"),
        columns.memory("ram", "memory_bytes"),
        columns.memory("disk", "disk_bytes"),
        columns.text("link"),
        columns.rate("network", "inter_node_bytes_per_s"),
        columns.usd("price", "price_usd_h"),
        columns.usd("spot", "spot_price_usd_h"),
        replace(columns.usd("per-device", "price_usd_h"), read=_per_device),
        replace(columns.text("as-of", "as_of"), show=lambda day: day[: len("2026-01")]),
        columns.Field(name="flags", read=lambda offer: " ".join(offer.flags) or None),
        columns.text("source"),
    ),
)

EXAMPLES = """\b
Examples:
  rigwise offers --device h100 --count 8 --sort price
  rigwise offers --flags impossible-count
"""


@click.command(epilog=EXAMPLES)
@click.argument("action", required=False, type=click.Choice(["lint"]))
@columns.catalogue_options(TABLE)
@answer_options
def command(*, action: str | None, **flags: Any) -> int:
    """What can be rented, in US dollars for an hour of the whole instance.

    OP is >=, <=, >, <, = or !=, and for text ~ (contains). Prices are as old as they say.
    `rigwise offers lint` names what is wrong with rows, and exits 1 if anything is.
    """
    from rigwise.facts.catalogue import offers

    faults = _faults()
    names: dict[int, list[str]] = {}
    for fault in faults:
        names.setdefault(fault.row, []).append(fault.name)
    rows = [replace(offer, flags=tuple(names.get(row, ()))) for row, offer in enumerate(offers())]
    if action is None:
        columns.answer(TABLE, rows, flags)
        return 0
    kept = {id(offer) for offer in columns.chosen(TABLE, rows, flags)}
    found = [fault for fault in faults if id(rows[fault.row]) in kept]
    _print_faults(rows, found, flags)
    return 1 if found else 0


def _faults() -> tuple[Fault, ...]:
    from datetime import UTC, datetime

    from rigwise.facts.catalogue import devices, offers
    from rigwise.facts.lint import Known, lint

    return lint(offers(), Known(devices={d.id: d for d in devices()}, today=datetime.now(UTC).date()))


def _print_faults(rows: list[Offer], faults: list[Fault], flags: dict[str, Any]) -> None:
    limit = flags["limit"]
    if flags["as_json"]:
        listed = [
            {"row": f.row + 1, "fault": f.name, "found": f.found, "provider": o.provider, "instance": o.instance}
            for f in faults[: limit or None]
            for o in [rows[f.row]]
        ]
        print_json({"schema": "rigwise.offers.lint/1", "faults": listed})
        return
    shown = faults[: (columns.ROWS_ON_SCREEN if limit is None else limit) or None]
    columns.print_words(
        ["row", "fault", "offer", "found"],
        [[str(f.row + 1), f.name, f"{rows[f.row].provider} {rows[f.row].instance}", f.found] for f in shown],
    )
    if not flags["quiet"]:
        counts = Counter(fault.name for fault in faults)
        click.echo(", ".join(f"{name} {count}" for name, count in counts.most_common()) or "no faults", err=True)
