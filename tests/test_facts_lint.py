"""Each rule finds its fault, and only its fault."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from rigwise.facts.catalogue import devices, offers
from rigwise.facts.lint import DUPLICATE, RULES, Known, lint
from rigwise.facts.offer import Offer
from rigwise.units import GIB

KNOWN = Known(devices={d.id: d for d in devices()}, today=date(2026, 11, 21))
CLEAN = Offer(
    provider="aws",
    instance="p5.48xlarge",
    region="us-east-1",
    device="h100-sxm5-80gb",
    accelerator="H100-SXM",
    accel_count=8,
    accel_memory_bytes=80 * GIB,
    vcpus=192,
    memory_bytes=2048 * GIB,
    disk_bytes=None,
    link="nvlink",
    inter_node_bytes_per_s=4e11,
    price_usd_h=55.04,
    spot_price_usd_h=20.0,
    as_of="2026-07-20",
    source="karpenter-aws",
)

FAULTS = [
    ("blank-count", {"accel_count": None}, "blank"),
    ("fraction-of-device", {"accel_count": 0.125}, "0.125 of an accelerator"),
    ("impossible-count", {"accel_count": 12}, "12 accelerators on baseboards of 8"),
    ("unknown-device", {"device": "", "accelerator": "Radeon-Pro-V520"}, "Radeon-Pro-V520"),
    ("unknown-variant", {"device": "h100-pcie-80gb|h100-sxm5-80gb"}, "h100-pcie-80gb or h100-sxm5-80gb"),
    ("memory-mismatch", {"accel_memory_bytes": 80 * GIB / 1024}, "MiB for GiB"),
    ("memory-mismatch", {"accel_memory_bytes": 640 * GIB}, "all together"),
    ("memory-mismatch", {"accel_memory_bytes": 40 * GIB}, "40 GiB for a device of 80"),
    ("no-price", {"price_usd_h": None, "spot_price_usd_h": None}, "neither"),
    ("free-tier", {"price_usd_h": 0, "spot_price_usd_h": None, "session_cap_s": 43200.0}, "free"),
    ("zero-price", {"price_usd_h": 0, "spot_price_usd_h": None}, "without a limit"),
    ("zero-price", {"spot_price_usd_h": 0}, "spot price of zero"),
    ("placeholder-price", {"price_usd_h": 700}, "700"),
    ("spot-above-on-demand", {"spot_price_usd_h": 60.0}, "spot 60 above on-demand 55.04"),
    ("spot-repeats-on-demand", {"spot_price_usd_h": 55.04}, "repeats"),
    ("undated", {"as_of": ""}, "without a date"),
    ("old", {"as_of": "2023-10-30"}, "1118 days old"),
]


def test_a_clean_offer_has_no_fault():
    assert lint([CLEAN], KNOWN) == ()


@pytest.mark.parametrize(("name", "change", "found"), FAULTS)
def test_a_rule_fires_alone(name, change, found):
    faults = lint([replace(CLEAN, **change)], KNOWN)
    assert [fault.name for fault in faults] == [name]
    assert found in faults[0].found


def test_every_rule_is_fired_above():
    assert {name for name, *_ in FAULTS} == set(RULES)


@pytest.mark.parametrize(
    "change",
    [
        {"accel_count": 16},  # two whole baseboards in one computer
        {"device": "inferentia-2", "accelerator": "Inferentia2", "accel_count": 12, "accel_memory_bytes": None},
        {"accel_memory_bytes": None},
        {"accel_memory_bytes": 89 * GIB},  # within what labels leave out
        {"device": "l4", "accel_memory_bytes": 22.35 * GIB},  # as the driver reports 24
        {"price_usd_h": None},  # a spot price alone is an offer
        {"spot_price_usd_h": None},
        {"as_of": "2025-11-21"},  # 365 days
    ],
)
def test_what_looks_odd_and_is_right_is_no_fault(change):
    assert lint([replace(CLEAN, **change)], KNOWN) == ()


def test_a_repeated_offer_is_a_duplicate_whatever_its_price():
    other_region = replace(CLEAN, region="us-west-2")
    faults = lint([CLEAN, other_region, replace(CLEAN, price_usd_h=50.0)], KNOWN)
    assert [(fault.row, fault.name, fault.found) for fault in faults] == [(2, DUPLICATE, "repeats row 1")]


def test_dirty_rows_of_the_catalogue_are_named_and_kept():
    names = {fault.name for fault in lint(offers(), KNOWN)}
    assert {DUPLICATE, "blank-count", "free-tier", "unknown-variant", "memory-mismatch", "old", "undated"} <= names
    assert len(offers()) == 938
