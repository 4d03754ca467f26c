"""``rigwise devices``: the accelerators in the catalogue, or one of them in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rigwise.cli import catalogue_table as columns
from rigwise.cli.output import answer_options, print_json
from rigwise.units import parse_count

if TYPE_CHECKING:
    from rigwise.facts.device import Device


def _peak(number_format: str) -> columns.Field:
    def read(device: Device) -> float | None:
        return device.peak(number_format) if device.computes(number_format) else None

    return columns.peak(number_format, read)


def _capability(device: Device) -> float | None:
    return float(device.compute_capability) if device.compute_capability else None


TABLE = columns.Table(
    name="devices",
    shown=("id", "memory", "bandwidth", "fp32", "bf16", "tdp", "price"),
    fields=(
        columns.text("id"),
        columns.text("name"),
        columns.text("vendor"),
        columns.text("kind"),
        columns.text("architecture"),
        columns.Field(name="capability", read=_capability, parse=parse_count, show="{:.1f}".format),
        columns.text("segment"),
        columns.text("launch"),
        columns.number("units"),
        columns.clock("clock", "boost_hz"),
        columns.memory("memory", "memory_bytes"),
        columns.rate("bandwidth", "memory_bytes_per_s"),
        *(_peak(name) for name in ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4")),
        columns.cache("l2", "l2_bytes"),
        columns.watts("tdp", "tdp_w"),
        columns.text("host", "host_link"),
        columns.text("peer", "peer_link"),
        columns.rate("peer-rate", "peer_bytes_per_s_each_way"),
        columns.usd("price", "launch_price_usd"),
    ),
)

EXAMPLES = """\b
Examples:
  rigwise devices --vendor amd --memory '>=24GB' --sort price
  rigwise devices "NVIDIA H100 PCIe"
"""


@click.command(epilog=EXAMPLES)
@click.argument("device", required=False)
@columns.catalogue_options(TABLE)
@click.option("--incomplete", is_flag=True, help="Only devices that lack a figure a prediction needs, and which.")
@answer_options
def command(*, device: str | None, incomplete: bool, **flags: Any) -> None:
    """The accelerators in the catalogue, or with DEVICE one in full.

    OP is >=, <=, >, <, = or !=, and for text ~ (contains). Memory is written as it is
    marketed: 24GB is 24 GiB. Peaks are dense and accumulate in 32 bits.
    """
    from rigwise.facts import catalogue

    if device is not None:
        _print_one(catalogue.device(device), as_json=flags["as_json"])
    elif incomplete:
        _print_incomplete(columns.chosen(TABLE, catalogue.devices(), flags), as_json=flags["as_json"])
    else:
        columns.answer(TABLE, catalogue.devices(), flags)


def _print_incomplete(devices: list[Device], *, as_json: bool) -> None:
    lacking = [(device, device.missing()) for device in devices if device.missing()]
    if as_json:
        rows = [{"id": device.id, "missing": list(missing)} for device, missing in lacking]
        print_json({"schema": "rigwise.devices/1", "devices": rows})
        return
    columns.print_words(["id", "missing"], [[device.id, ", ".join(missing)] for device, missing in lacking])


def _print_one(device: Device, *, as_json: bool) -> None:
    if as_json:
        print_json({"schema": "rigwise.devices/1", "devices": [device]})
        return
    usual = device.basis.get("", "")
    peaks = [
        (
            f"peak {rate}",
            f"{columns.show_tera(value)} TFLOP/s",
            str(device.basis.get(f"peak_flops_per_s.{rate}", usual)),
        )
        for rate, value in device.peak_flops_per_s.items()
    ]
    columns.print_one(TABLE, device, peaks)
