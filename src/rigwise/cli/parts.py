"""``rigwise parts``: PC parts and their prices."""

from __future__ import annotations

from typing import Any

import click

from rigwise.cli import catalogue_table as columns
from rigwise.cli.output import answer_options

TABLE = columns.Table(
    name="parts",
    shown=("category", "name", "low", "median", "samples", "as-of"),
    fields=(
        columns.text("category"),
        columns.text("name"),
        columns.text("device"),
        columns.text("launch"),
        columns.usd("launch-price", "launch_price_usd"),
        columns.usd("low", "street_low_usd"),
        columns.usd("median", "street_median_usd"),
        columns.number("samples", "street_samples"),
        columns.text("as-of", "as_of"),
        columns.watts("tdp", "tdp_w"),
        columns.number("slots"),
        columns.number("length", "length_m"),
        columns.watts("psu", "recommended_psu_w"),
        columns.text("connectors", "power_connectors"),
        columns.memory("memory", "memory_bytes"),
        columns.rate("bandwidth", "memory_bytes_per_s"),
        columns.text("bus"),
        columns.Field(
            name="detail", read=lambda part: ", ".join(f"{key} {value}" for key, value in part.detail.items()) or None
        ),
        columns.text("source"),
    ),
)

EXAMPLES = """\b
Examples:
  rigwise parts --category gpu --memory '>=16GB' --sort low
"""


@click.command(epilog=EXAMPLES)
@columns.catalogue_options(TABLE)
@answer_options
def command(**flags: Any) -> None:
    """PC parts and price points: launch price, lowest and median asked price.

    OP is >=, <=, >, <, = or !=, and for text ~ (contains). Asked prices are as old as they say.
    """
    from rigwise.facts.catalogue import parts

    columns.answer(TABLE, parts(), flags)
