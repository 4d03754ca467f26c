"""``rigwise cpus``: the CPUs in the catalogue, or one of them in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rigwise.cli import catalogue_table as columns
from rigwise.cli.output import answer_options, print_json

if TYPE_CHECKING:
    from rigwise.facts.cpu import Cpu


def _peak(rate: str) -> columns.Field:
    def read(cpu: Cpu) -> float | None:
        from rigwise.facts.cpu import peak_rates

        return peak_rates(cpu).get(rate)

    return columns.peak(rate.removesuffix("_acc32"), read)


TABLE = columns.Table(
    name="cpus",
    shown=("id", "architecture", "cores", "base", "fp32", "bandwidth", "tdp", "price"),
    fields=(
        columns.text("id"),
        columns.text("name"),
        columns.text("vendor"),
        columns.text("architecture"),
        columns.text("segment"),
        columns.text("launch"),
        columns.number("cores"),
        columns.number("threads"),
        columns.clock("base", "base_hz"),
        columns.clock("all-cores", "allcore_hz"),
        columns.clock("max", "max_hz"),
        columns.Field(name="isa", read=lambda cpu: " ".join(cpu.isa), attribute="isa"),
        _peak("fp32"),
        _peak("bf16_acc32"),
        columns.text("memory", "memory_kind"),
        columns.number("channels", "memory_channels"),
        columns.rate("bandwidth", "memory_bytes_per_s"),
        columns.cache("l3", "l3_bytes"),
        columns.number("pcie", "pcie_generation"),
        columns.number("lanes", "pcie_lanes"),
        columns.watts("tdp", "tdp_w"),
        columns.usd("price", "price_usd"),
    ),
)

EXAMPLES = """\b
Examples:
  rigwise cpus --vendor amd --cores '>=64' --sort -bandwidth
"""


@click.command(epilog=EXAMPLES)
@click.argument("cpu", required=False)
@columns.catalogue_options(TABLE)
@answer_options
def command(*, cpu: str | None, **flags: Any) -> None:
    """The CPUs in the catalogue, or with CPU one in full.

    OP is >=, <=, >, <, = or !=, and for text ~ (contains). Peaks are at the clock that all
    cores hold, or the base clock.
    """
    from rigwise.facts import catalogue

    if cpu is None:
        columns.answer(TABLE, catalogue.cpus(), flags)
        return
    found = catalogue.cpu(cpu)
    if flags["as_json"]:
        print_json({"schema": "rigwise.cpus/1", "cpus": [found]})
        return
    peaks = [
        (f"peak {field.name}", f"{columns.show_tera(value)} TFLOP/s", "derived")
        for field in TABLE.fields
        if field.unit == "TFLOP/s" and (value := field.read(found)) is not None
    ]
    columns.print_one(TABLE, found, peaks)
