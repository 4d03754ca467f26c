"""The catalogue as rigwise loads it: complete, sourced, current, one device for one thing a framework sees."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from rigwise.edge import read_text
from rigwise.errors import UnsupportedError
from rigwise.facts import catalogue
from rigwise.facts.data_files import compile_catalogue, read_sources
from rigwise.provenance import Basis
from rigwise.units import GIB


def test_nothing_was_lost():
    assert len(catalogue.devices()) == 299
    assert len(catalogue.cpus()) == 70
    assert len(catalogue.offers()) == 938
    assert len(catalogue.parts()) == 281


def test_the_compiled_file_is_current():
    assert compile_catalogue(catalogue.DATA) == read_text(catalogue.DATA / "catalogue.json")


@pytest.mark.parametrize("rows", [catalogue.devices, catalogue.cpus, catalogue.offers, catalogue.parts])
def test_every_fact_has_a_source_that_we_list(rows):
    known = read_sources(catalogue.DATA)
    for row in rows():
        cited = [text.partition(" ")[0] for text in row.source.split("; ")]
        assert cited, row
        assert set(cited) <= set(known), row


def test_every_source_has_a_licence_file_and_nothing_else_is_there():
    folder = catalogue.DATA.parents[3] / "licenses"
    assert {file.stem for file in folder.glob("*.txt")} == set(read_sources(catalogue.DATA))


def test_every_remembered_figure_is_assumed():
    remembered = {name for name, row in read_sources(catalogue.DATA).items() if "remembered" in row.title}
    citing = [d for d in catalogue.devices() if remembered & {t.partition(" ")[0] for t in d.source.split("; ")}]
    assert len(citing) > 15
    assert [d.id for d in citing if Basis.ASSUMED not in d.basis.values()] == []


@pytest.mark.parametrize(
    ("name", "units", "memory_gib", "tdp_w", "per_board"),
    [
        # half, half, half, a quarter, half of what is printed on the board
        ("mi250x", 220 / 2, 128 / 2, 500 / 2, 2),
        ("mi250", 208 / 2, 128 / 2, 500 / 2, 2),
        ("tesla-k80-per-gpu", 26 / 2, 24 / 2, 300 / 2, 2),
        ("a16-per-gpu", 40 / 4, 64 / 4, 250 / 4, 4),
        ("max-1550", 128 / 2, 128 / 2, 600 / 2, 2),
    ],
)
def test_a_device_is_what_the_framework_sees(name, units, memory_gib, tdp_w, per_board):
    device = catalogue.device(name)
    assert (device.units, device.memory_bytes, device.tdp_w) == (units, memory_gib * GIB, tdp_w)
    assert device.per_board == per_board


def test_half_a_module_has_half_its_rate_and_bandwidth():
    gcd = catalogue.device("mi250x")
    assert gcd.peak("fp16") == 383e12 / 2
    assert gcd.memory_bytes_per_s == 3276.8e9 / 2


def test_memory_is_binary_and_bandwidth_decimal():
    rtx_3090 = catalogue.device("rtx-3090")
    assert rtx_3090.memory_bytes == 24 * 2**30
    assert rtx_3090.memory_bytes_per_s == 936.19e9


def test_usable_memory_is_measured_and_below_the_label():
    measured = [d for d in catalogue.devices() if d.usable_bytes is not None]
    assert len(measured) == 22
    for device in measured:
        assert 0.8 * device.memory_bytes < device.usable_bytes < device.memory_bytes, device.id
        assert device.basis["usable_bytes"] == Basis.MEASURED


def test_figures_lie_where_physics_puts_them():
    for device in catalogue.devices():
        if device.memory_bytes_per_s:
            assert 1e9 < device.memory_bytes_per_s < 1e14, device.id
        if device.tdp_w:
            assert 0.5 < device.tdp_w <= 2000, device.id
        assert not device.boost_hz or 0.1e9 < device.boost_hz < 6e9, device.id
        assert not device.base_hz or device.base_hz <= device.boost_hz, device.id
        assert all(1e9 < peak < 1e17 for peak in device.peak_flops_per_s.values()), device.id


def test_a_dtype_that_a_device_lacks_is_an_error():
    with pytest.raises(UnsupportedError, match="t4 has no sourced peak for bf16"):
        catalogue.device("t4").peak("bf16")


def test_incomplete_devices_say_what_is_missing():
    assert catalogue.device("gaudi-hl-205").missing() == ("memory_bytes_per_s", "peak_flops_per_s")
    assert sum(1 for d in catalogue.devices() if d.missing()) < 20


def test_cpu_bandwidth_is_channels_times_transfers_times_eight():
    epyc = catalogue.cpu("xeon-platinum-8380")
    assert epyc.memory_bytes_per_s == 8 * 3200e6 * 8
    assert epyc.basis["memory_bytes_per_s"] == Basis.DERIVED


def test_a_cpu_is_a_device():
    device = catalogue.resolve_device("core-i9-10940x")
    assert (device.kind, device.units) == ("cpu", 14)
    assert device.peak("fp32") == 14 * 3.3e9 * 64


def test_counts_of_boards_with_two_gpus_count_gpus():
    """p2.16xlarge has eight K80 boards, sixteen GPUs."""
    by_instance = {offer.instance: offer for offer in catalogue.offers() if offer.accelerator == "K80"}
    assert by_instance["p2.16xlarge"].device == "tesla-k80-per-gpu"
    assert by_instance["p2.16xlarge"].accel_count == 16
    assert by_instance["p2.xlarge"].accel_count == 1


def test_offers_name_devices_of_the_catalogue():
    known = {device.id for device in catalogue.devices()}
    for offer in catalogue.offers():
        assert set(offer.devices) <= known, offer
    unknown = {offer.accelerator for offer in catalogue.offers() if not offer.device}
    assert unknown == {"Quadro-M4000", "Radeon-Pro-V520", "RTX-4080-32GBmod", "RTX-4090-48GBmod"}


def test_a_span_of_dates_counts_at_its_latest():
    dates = {offer.as_of for offer in catalogue.offers()}
    assert "2026-08-31" in dates  # 2025-11/2026-08 in the source
    assert all(len(day) == 10 for day in dates - {""})


def test_free_tiers_carry_their_limits():
    free = [offer for offer in catalogue.offers() if offer.price_usd_h == 0]
    assert {offer.provider for offer in free} == {"colab", "kaggle", "paperspace"}
    assert all(offer.session_cap_s for offer in free)
    kaggle = next(offer for offer in free if offer.provider == "kaggle")
    assert kaggle.weekly_quota_s == 30 * 3600


def test_parts_know_their_device():
    part = next(part for part in catalogue.parts() if part.name == "GeForce RTX 4090")
    assert (part.device, part.length_m) == ("rtx-4090", pytest.approx(0.304))
    psu = next(part for part in catalogue.parts() if part.category == "psu")
    assert psu.detail["wattage"] == "550"


def test_reading_the_catalogue_needs_no_pydantic_and_no_toml():
    code = (
        "import sys; from rigwise.facts.catalogue import resolve_device; resolve_device('t4');"
        "print(sorted({'pydantic', 'tomllib', 'numpy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_compiled_file_is_strict_json():
    json.loads(
        (catalogue.DATA / "catalogue.json").read_bytes(), parse_constant=lambda name: pytest.fail(f"{name} in the file")
    )
