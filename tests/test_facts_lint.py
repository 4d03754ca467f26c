"""Each rule finds its fault, and only its fault."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from rigwise.facts.catalogue import devices, offers
from rigwise.facts.lint import DUPLICATE, RULES, SEVERITY, Known, explanation, lint
from rigwise.facts.offer import Offer
from rigwise.units import GIB

KNOWN = Known(
    devices={d.id: d for d in devices()},
    today=date(2026, 11, 21),
    usual_usd_h={("aws", "p5.48xlarge"): 55.04},
)
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

HOST = {
    "provider": "gcp", "device": "", "accelerator": "", "accel_count": 0, "accel_memory_bytes": None,
    "price_usd_h": 0.94, "spot_price_usd_h": None,
}  # fmt: skip
FAULTS = [
    ("blank-count", {"accel_count": None}, "blank"),
    ("blank-count", {"accel_count": 0}, "zero"),
    ("fraction-of-device", {"accel_count": 0.125}, "0.125 of an accelerator"),
    ("impossible-count", {"accel_count": 12}, "12 accelerators on baseboards of 8"),
    ("unknown-device", {"device": "", "accelerator": "Radeon-Pro-V520"}, "Radeon-Pro-V520"),
    ("unknown-variant", {"device": "h100-pcie-80gb|h100-sxm5-80gb"}, "h100-pcie-80gb or h100-sxm5-80gb"),
    ("memory-mismatch", {"accel_memory_bytes": 80 * GIB / 1024}, "MiB for GiB"),
    ("memory-mismatch", {"accel_memory_bytes": 640 * GIB}, "all together"),
    ("memory-mismatch", {"accel_memory_bytes": 40 * GIB}, "40 GiB for a device of 80"),
    ("memory-mismatch", {"accel_memory_bytes": 5120 * GIB}, "multiplied by the count twice"),
    ("memory-mismatch", {"accel_memory_bytes": 0}, "blank written as zero"),
    ("gb-as-gib", {"accel_memory_bytes": 80e9}, "7 % too little"),
    ("gb-as-gib", {"device": "l4", "accel_memory_bytes": 22888 * 2**20}, "7 % too little"),
    ("gb-as-gib", {"accel_memory_bytes": 80 * GIB * GIB / 1e9}, "7 % too much"),
    ("host-without-accelerator", {**HOST, "instance": "a2-highgpu-1g"}, "a2-highgpu-1g without its accelerators"),
    ("accelerator-without-host", {"instance": "", "vcpus": None, "memory_bytes": None}, "H100-SXM without a host"),
    ("host-sold-apart", {"memory_bytes": 64 * GIB}, "64 GiB of memory for 640 of accelerators"),
    ("bucketed-size", {"provider": "vast", "instance": "8x-H100_SXM-64-1048576"}, "64 vCPUs and 1024 GiB or more"),
    ("price-not-a-number", {"price_usd_h": float("nan")}, "price is no number"),
    ("price-not-a-number", {"spot_price_usd_h": float("inf"), "price_usd_h": None}, "spot price is no number"),
    ("negative-price", {"price_usd_h": -1.0}, "price of -1"),
    ("negative-price", {"spot_price_usd_h": -0.5}, "spot price of -0.5"),
    ("bid-floor", {"provider": "mithril", "price_usd_h": 8.0, "spot_price_usd_h": None}, "1 a device is the least bid"),
    ("far-below-known-price", {"price_usd_h": 14.2, "spot_price_usd_h": None}, "14.2 for an instance known at 55.04"),
    ("future-date", {"as_of": "2026-11-23"}, "dated 2026-11-23, and today is 2026-11-21"),
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
        {"device": "l4", "accel_memory_bytes": 22.49 * GIB},  # as the driver reports 24
        {"price_usd_h": 691.2},  # 256 chips: near the placeholder of 700, and right
        {"price_usd_h": 699.99},
        {"provider": "mithril", "price_usd_h": 24.0},  # above the floor
        {"provider": "aws", "price_usd_h": 8.0 * 2.8, "spot_price_usd_h": 8.0},  # a floor elsewhere is none here
        {"price_usd_h": 25.0},  # cheap, and more than two fifths
        {"as_of": "2026-11-22"},  # tomorrow here is today elsewhere
        {"memory_bytes": 320 * GIB},  # half as much as the accelerators
        {"memory_bytes": None},
        {"provider": "gcp", "instance": "a3-highgpu-8g"},  # with its accelerators
        {
            "provider": "gcp",
            "instance": "",
            "device": "tpu-v6e",
            "accelerator": "tpu-v6e",
            "vcpus": None,
            "accel_memory_bytes": None,
        },  # its host comes with it
        {"price_usd_h": None},  # a spot price alone is an offer
        {"spot_price_usd_h": None},
        {"as_of": "2025-11-21"},  # 365 days
    ],
)
def test_what_looks_odd_and_is_right_is_no_fault(change):
    assert lint([replace(CLEAN, **change)], KNOWN) == ()


def test_every_rule_says_why_and_how_bad():
    assert set(SEVERITY.values()) == {"error", "warning", "note"}
    for name in SEVERITY:
        assert len(explanation(name)) > 15


def test_a_repeated_offer_is_a_duplicate_whatever_its_price():
    other_region = replace(CLEAN, region="us-west-2")
    faults = lint([CLEAN, other_region, replace(CLEAN, price_usd_h=50.0)], KNOWN)
    assert [(fault.row, fault.name, fault.found) for fault in faults] == [(2, DUPLICATE, "repeats row 1")]


def test_dirty_rows_of_the_catalogue_are_named_and_kept():
    names = {fault.name for fault in lint(offers(), KNOWN)}
    assert {DUPLICATE, "blank-count", "free-tier", "unknown-variant", "memory-mismatch", "old", "undated"} <= names
    assert len(offers()) == 938
