"""``rigwise offers``: what can be rented, where and for how much; ``lint`` names faults, ``import`` adds more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rigwise.cli import catalogue_table as columns
from rigwise.cli.actions import Actions
from rigwise.cli.offers_import import forget_command, import_command, imports_command, refresh_command
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
        columns.text("zone"),
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
  rigwise offers import skypilot ~/.sky/catalogs
"""
#: From worst to mildest.
SEVERITIES = ("error", "warning", "note")


class _Offers(Actions):
    otherwise = "filters are flags, as in --device h100"


@click.group("offers", cls=_Offers, invoke_without_command=True, epilog=EXAMPLES, subcommand_metavar="[ACTION]")
@columns.catalogue_options(TABLE)
@answer_options
@click.pass_context
def command(context: click.Context, /, **flags: Any) -> int:
    """What can be rented, in US dollars for an hour of the whole instance.

    OP is >=, <=, >, <, = or !=, and for text ~ (contains). Prices are as old as they say. Those in
    the package are listed first, imported ones after them.
    """
    if context.invoked_subcommand:
        given = next((name for name, value in flags.items() if value not in (None, (), False)), "")
        if given:
            flag = "json" if given == "as_json" else given.replace("_", "-")
            raise click.UsageError(f"--{flag} stands before {context.invoked_subcommand}; give it after")
        return 0
    from rigwise.facts.catalogue import offers

    named = flags["as_json"] or flags["flags"] or "flags" in (flags["sort"] or "")
    rows: Sequence[Offer] = offers_with_faults() if named else offers()
    columns.answer(TABLE, rows, flags)
    return 0


def offers_with_faults() -> list[Offer]:
    """Every offer, each with the names of its faults."""
    from rigwise.facts.catalogue import offers

    rows = offers()
    return _flagged(rows, _faults(rows))


def _flagged(rows: Sequence[Offer], faults: Sequence[Fault]) -> list[Offer]:
    """The rows with the names of their faults."""
    names: dict[int, tuple[str, ...]] = {}
    for fault in faults:
        names[fault.row] = (*names.get(fault.row, ()), fault.name)
    return [replace(row, flags=names[index]) if index in names else row for index, row in enumerate(rows)]


def _faults(rows: Sequence[Offer]) -> tuple[Fault, ...]:
    from datetime import UTC, datetime

    from rigwise.facts.catalogue import bundled_offers, devices
    from rigwise.facts.lint import Known, lint
    from rigwise.facts.lint_tables import usual

    bundled = bundled_offers()
    known = Known(
        devices={d.id: d for d in devices()},
        today=datetime.now(UTC).date(),
        usual_usd_h=usual(bundled, "price_usd_h"),
        usual_memory_bytes=usual(bundled, "memory_bytes"),
    )
    return lint(rows, known)


@command.command("lint")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--imported", is_flag=True, help="Check only the rows that were imported.")
@click.option(
    "--severity", type=click.Choice(SEVERITIES), default="note", help="Faults at least this bad; all unless given."
)
@columns.catalogue_options(TABLE)
@answer_options
def lint_command(*, file: Path | None, imported: bool, severity: str, **flags: Any) -> int:
    """Name what is wrong with rows; exits 1 if an error or a warning is found.

    FILE is a SkyPilot vms.csv, a gpuhunt table or archive, or a table of your own, which need not be
    imported. An error makes a row useless, a warning makes it other than it says, a note is worth
    knowing. docs/reference/offers.md explains every rule.
    """
    from rigwise.facts.catalogue import offers
    from rigwise.facts.offer_store import imported_offers

    if file and imported:
        raise click.UsageError("give a FILE or --imported, not both")
    excluded: Mapping[str, int] = {}
    if file:
        plain, excluded = _rows_of(file)
    else:
        plain = imported_offers() if imported else offers()
    faults = _faults(plain)
    rows = _flagged(plain, faults)
    kept = {id(offer) for offer in columns.chosen(TABLE, rows, flags)}
    bad = SEVERITIES[: SEVERITIES.index(severity) + 1]
    found = [fault for fault in faults if id(rows[fault.row]) in kept and fault.severity in bad]
    _print_faults(rows, found, excluded, flags)
    return 1 if any(fault.severity != "note" for fault in found) else 0


def _rows_of(file: Path) -> tuple[Sequence[Offer], Mapping[str, int]]:
    """The rows of a file that is not imported, dirt included, and what in it is no offer."""
    from rigwise.facts.imports import take

    rows: list[Offer] = []
    excluded: Counter[str] = Counter()
    kind = take.kind_of(file)
    for name, path in take.sources(kind, file).items():
        reading = take.read(kind, name, path, take.changed_on(path))
        rows.extend(reading.offers)
        excluded.update(reading.excluded)
    return rows, excluded


def _print_faults(
    rows: Sequence[Offer], faults: Sequence[Fault], excluded: Mapping[str, int], flags: Mapping[str, Any]
) -> None:
    limit = flags["limit"]
    left_out = {reason: number for reason, number in excluded.items() if number}
    if flags["as_json"]:
        listed = [
            {"row": f.row + 1, "fault": f.name, "severity": f.severity, "found": f.found, **_place(rows[f.row])}
            for f in faults[: limit or None]
        ]
        print_json({"schema": "rigwise.offers.lint/1", "faults": listed, "no_offers": left_out})
        return
    shown = _print_by_rule(rows, faults, columns.ROWS_ON_SCREEN if limit is None else limit or len(faults))
    if flags["quiet"]:
        return
    if shown < len(faults):
        click.echo(f"{len(faults) - shown:,} more of {len(faults):,}; --limit 0 prints all", err=True)
    counts = Counter(fault.severity for fault in faults)
    words = ", ".join(
        f"{counts[severity]:,} {severity}{'s' if counts[severity] > 1 else ''}"
        for severity in SEVERITIES
        if counts[severity]
    )
    click.echo(f"{words or 'no faults'} in {len(rows):,} rows", err=True)
    for reason, number in left_out.items():
        click.echo(f"{number:,} left out before: {reason}", err=True)


def _print_by_rule(rows: Sequence[Offer], faults: Sequence[Fault], limit: int) -> int:
    """Each rule that found something, worst first, why it is a fault, and rows; how many of these were printed."""
    from rigwise.facts.lint import explanation

    by_rule: dict[str, list[Fault]] = {}
    for fault in sorted(faults, key=lambda fault: SEVERITIES.index(fault.severity)):
        by_rule.setdefault(fault.name, []).append(fault)
    each = max(1, limit // len(by_rule)) if limit < len(faults) else limit
    printed = 0
    for name, found in by_rule.items():
        number = f"{len(found):,} row{'s' if len(found) > 1 else ''}"
        click.echo(click.style(f"{name} ({found[0].severity}, {number})", bold=True))
        _print_wrapped(explanation(name), 2)
        for fault in found[:each]:
            offer = rows[fault.row]
            place = " ".join(filter(None, (offer.provider, offer.instance, offer.zone or offer.region)))
            _print_wrapped(f"{fault.row + 1}  {place}: {fault.found}", 4)
        printed += len(found[:each])
    return printed


def _print_wrapped(words: str, indent: int) -> None:
    """A sentence in as many lines as the terminal needs."""
    import textwrap

    margin = " " * indent
    width = columns.terminal_width()
    lines = textwrap.wrap(words, max(width - indent, 30), break_long_words=False) if width else [words]
    for line in lines:
        click.echo(margin + line)


def _place(offer: Offer) -> dict[str, str]:
    return {name: getattr(offer, name) for name in ("provider", "instance", "region", "zone")}


for _action in (import_command, refresh_command, imports_command, forget_command):
    command.add_command(_action)
