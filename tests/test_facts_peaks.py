"""Every published peak again, from units x FLOP of a unit in a clock x clock."""

from __future__ import annotations

import dataclasses

import pytest

from rigwise.facts.catalogue import DATA, device, devices
from rigwise.facts.compile import derived_peaks
from rigwise.facts.data_files import read_device_files
from rigwise.provenance import Basis

TOLERANCE_FRAC = 0.03

#: Devices whose published figures imply a matrix clock that nobody published: the figure is the roof.
EXPLAINED = {
    "h100-nvl-94gb": "835 TFLOP/s implies 1545 MHz; only the boost clock of 1785 is published",
    "h800-sxm5-80gb": "989 TFLOP/s needs the 1830 MHz of the H100; the listed boost clock is 1755",
    "b200": "2250 TFLOP/s implies 1856 MHz; the device reports at most 1965",
}


def _published_and_derived():
    for file in read_device_files(DATA).values():
        for name, row in file.devices.items():
            clocked = row if row.tensor_mhz else dataclasses.replace(row, tensor_mhz=row.boost_mhz)
            derived = derived_peaks(clocked, file.families[row.family])
            for rate, tflops in row.published_tflops.items():
                if rate in derived and row.basis.get(rate, Basis.PUBLISHED) == Basis.PUBLISHED:
                    yield name, rate, tflops * 1e12, derived[rate]


CELLS = list(_published_and_derived())
OFF = {(name, rate) for name, rate, published, derived in CELLS if abs(published / derived - 1) > TOLERANCE_FRAC}


def test_published_peaks_agree_with_the_arithmetic():
    assert {cell for cell in OFF if cell[0] not in EXPLAINED} == set()


def test_the_check_covers_the_catalogue():
    assert len(CELLS) > 250
    assert len({name for name, *_ in CELLS}) > 60


def test_no_exception_outlives_its_reason():
    assert {name for name, _ in OFF} == set(EXPLAINED)


@pytest.mark.parametrize(
    ("name", "rate", "flops_per_s"),
    [
        # units x FLOP of a unit in a clock x clock, from the architecture whitepapers
        ("a100-sxm4-80gb", "fp16_acc32", 312e12),  # 108 x 2048 x 1410 MHz = 311.9
        ("h100-sxm5-80gb", "bf16_acc32", 989.4e12),  # 132 x 4096 x 1830 MHz, dense: half of 1978.9
        ("h100-sxm5-80gb", "fp32", 66.9e12),  # 132 x 256 x 1980 MHz: vector work at the higher clock
        ("rtx-4090", "fp16_acc32", 165.2e12),  # GeForce: half of the fp16 accumulator's 330.3
        ("rtx-4090", "fp16_acc16", 330.3e12),
        ("rtx-6000-ada", "fp16_acc32", 142 * 1024 * 2505e6),  # professional: not halved
        ("l40", "fp16_acc32", 181.05e12),  # half of the L40S on the same die
        ("v100-sxm2-16gb", "fp16_acc32", 125e12),
        ("t4", "int8_acc32", 130e12),
        ("mi300x", "bf16_acc32", 1307.4e12),
        ("gtx-1080-ti", "fp16", 28 * 4 * 1582e6),  # 1/64 of fp32
        ("geforce-gtx-580", "fp32", 16 * 64 * 2 * 772e6),  # shader clock twice the core clock
    ],
)
def test_peaks_that_a_textbook_would_confirm(name, rate, flops_per_s):
    assert device(name).peak_flops_per_s[rate] == pytest.approx(flops_per_s, rel=0.002)


def test_a_derived_peak_says_so():
    assert device("rtx-3060-12gb").basis["peak_flops_per_s.fp16_acc32"] == Basis.DERIVED
    assert "peak_flops_per_s.fp16_acc32" not in device("rtx-3090").basis


def test_a_derived_peak_is_no_better_than_its_worst_factor():
    assert device("rtx-a4000").basis["peak_flops_per_s.fp16_acc32"] == Basis.ASSUMED
    assert device("rtx-a4000").basis["peak_flops_per_s.fp32"] == Basis.DERIVED
    assert device("jetson-agx-orin-32gb").basis["peak_flops_per_s.bf16_acc32"] == Basis.ASSUMED


def test_fp16_is_never_slower_than_fp32():
    """Libraries convert where the fp16 lanes are slow."""
    gtx_1080_ti = device("gtx-1080-ti")
    assert gtx_1080_ti.peak("fp16") == gtx_1080_ti.peak("fp32") == 28 * 256 * 1582e6
    assert all(d.peak("fp16") >= d.peak("fp32") for d in devices() if d.computes("fp16") and d.computes("fp32"))


def test_halving_the_format_doubles_the_rate():
    """A sparse figure among dense ones, the usual mistake, breaks the ladder by a factor of two."""
    for d in devices():
        peaks = d.peak_flops_per_s
        if d.vendor == "NVIDIA" and "bf16_acc32" in peaks and d.compute_capability != "10.3":
            assert peaks["fp16_acc32"] == pytest.approx(peaks["bf16_acc32"], rel=0.02), d.id
            assert peaks["tf32_acc32"] * 2 == pytest.approx(peaks["bf16_acc32"], rel=0.02), d.id
            assert peaks["int8_acc32"] in (
                pytest.approx(peaks["bf16_acc32"] * 2, rel=0.02),
                pytest.approx(peaks["bf16_acc32"] * 4, rel=0.02),  # GeForce halves the fp32 accumulator only
            ), d.id
