"""Rules that need other rows, and ``offers lint`` on the files of other projects as they are."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from rigwise.cli.main import main, root
from rigwise.facts.catalogue import devices
from rigwise.facts.imports.reading import blank_offer
from rigwise.facts.lint import SEVERITY, TABLE_RULES, Known, explanation, lint
from rigwise.units import GIB

DATA = Path(__file__).parent / "data" / "offers"
KNOWN = Known(
    devices={d.id: d for d in devices()},
    today=date(2026, 11, 21),
    usual_memory_bytes={("aws", "p5.48xlarge"): 2048 * GIB},
)
P5 = replace(
    blank_offer("aws"),
    instance="p5.48xlarge",
    region="us-east-1",
    device="h100-sxm5-80gb",
    accelerator="H100",
    accel_count=8,
    memory_bytes=2048 * GIB,
    price_usd_h=55.04,
    spot_price_usd_h=20.0,
    as_of="2026-11-20",
)
OTHERS = [
    replace(P5, region=f"r{i}", device=d, accelerator=d) for i, d in enumerate(["t4", "l4", "a10", "l40s", "a40"])
]


def cheaper(factor):
    return [replace(o, price_usd_h=4.0 * n, spot_price_usd_h=4.0 * n * factor(n)) for n, o in enumerate(OTHERS, 1)]


FIRES = {
    "duplicate": [P5, replace(P5, price_usd_h=50.0)],
    "estimated-spot": cheaper(lambda n: 0.5),
    "spot-spread": [replace(P5, spot_price_usd_h=11.39), replace(P5, region="us-west-1", spot_price_usd_h=35.76)],
    "host-gb-as-gib": [replace(P5, memory_bytes=2199 * GIB)],
}
SILENT = {
    "duplicate": [P5, replace(P5, zone="use1-az2"), replace(P5, term_s=3.15e7), replace(P5, region="us-west-1")],
    "estimated-spot": cheaper(lambda n: 0.5 + 0.01 * n),
    "spot-spread": [replace(P5, spot_price_usd_h=11.39), replace(P5, region="us-west-1", spot_price_usd_h=34.0)],
    "host-gb-as-gib": [replace(P5, memory_bytes=2000 * GIB), replace(P5, zone="b", memory_bytes=None)],
}


@pytest.mark.parametrize("name", TABLE_RULES)
def test_a_rule_for_all_rows_fires_alone(name):
    assert {fault.name for fault in lint(FIRES[name], KNOWN)} == {name}


@pytest.mark.parametrize("name", TABLE_RULES)
def test_and_is_silent_where_nothing_is_wrong(name):
    assert lint(SILENT[name], KNOWN) == ()


def test_a_few_equal_discounts_are_no_formula():
    assert lint(cheaper(lambda n: 0.5)[:4], KNOWN) == ()


def found_in(*arguments):
    result = CliRunner().invoke(root, ["offers", "lint", *map(str, arguments), "--json"], standalone_mode=False)
    assert result.exception is None, result.exception
    faults = json.loads(result.stdout)["faults"]
    assert result.return_value == int(any(fault["severity"] != "note" for fault in faults))
    return {(fault["fault"], fault["instance"]) for fault in faults}


@pytest.fixture(scope="module")
def clouds(tmp_path_factory):
    """Tables as old as this test, whenever the repository was checked out."""
    folder = tmp_path_factory.mktemp("catalogue") / "v8"
    shutil.copytree(DATA / "skypilot" / "v8", folder, copy_function=shutil.copyfile)
    return folder


@pytest.mark.parametrize(
    ("cloud", "instance", "names"),
    [
        ("azure", "Standard_ND96isr_H100_v5", {"impossible-count", "spot-repeats-on-demand"}),
        ("gcp", "tpu-v6e-256", {"placeholder-price", "spot-repeats-on-demand", "spot-spread"}),
        ("runpod", "1x_H100_SECURE", {"memory-mismatch", "spot-repeats-on-demand"}),
        ("mithril", "h100-80gb.sxm.8x", {"bid-floor", "spot-repeats-on-demand"}),
        ("aws", "p5.48xlarge", {"spot-spread"}),
        ("aws", "g5.xlarge", {"gb-as-gib"}),
        ("aws", "inf2.xlarge", set()),
        ("gcp", "a2-highgpu-1g", set()),
    ],
)
def test_the_real_faults_of_a_cloud_are_found_and_no_others(clouds, cloud, instance, names):
    found = found_in(clouds / cloud / "vms.csv")
    assert {name for name, where in found if where == instance} == names


def test_every_kind_of_missing_price_is_named(clouds):
    names = {name for name, _ in found_in(clouds / "vast" / "vms.csv")}
    assert {"no-price", "price-not-a-number", "negative-price", "zero-price", "bucketed-size"} <= names


def test_a_folder_is_checked_whole_and_a_clean_one_exits_0(clouds):
    assert {"impossible-count", "bid-floor"} <= {name for name, _ in found_in(clouds.parent)}
    assert found_in(clouds / "aws" / "vms.csv", "--severity", "warning") == set()


def test_the_text_explains_each_rule(capfdbinary, monkeypatch, clouds):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        main(["offers", "lint", str(clouds / "mithril" / "vms.csv")])
    out, err = (text.decode() for text in capfdbinary.readouterr())
    assert stop.value.code == 1
    assert "bid-floor (error, 1 row)\n  Where prices are bids" in out
    assert max(map(len, out.splitlines())) <= 80
    assert err == "1 error, 1 warning in 1 rows\n"


@pytest.mark.parametrize("severity", ["error", "warning", "note"])
def test_severity_keeps_what_is_at_least_as_bad(severity):
    order = ["error", "warning", "note"]
    result = CliRunner().invoke(root, ["offers", "lint", "--severity", severity, "--json"], standalone_mode=False)
    found = {fault["severity"] for fault in json.loads(result.stdout)["faults"]}
    assert found <= set(order[: order.index(severity) + 1])
    assert severity == "error" or severity in found


def test_the_page_explains_every_rule_as_the_command_does():
    page = (DATA.parents[2] / "docs" / "reference" / "offers.md").read_text("utf-8")
    for name, severity in SEVERITY.items():
        assert f"| `{name}` | {severity} | {explanation(name)} |" in page
