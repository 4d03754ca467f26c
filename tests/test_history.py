"""``rigwise history``: what a user sees, what a script reads, and what bad input gets."""

import json
import re
from dataclasses import replace

import click
import pytest
from click.testing import CliRunner

from rigwise.cli.main import root
from rigwise.errors import RigwiseError
from rigwise.measurement.records import Record
from rigwise.measurement.store import open_store

pytest.importorskip("sqlalchemy")

BASE = Record(kind="bench", name="matmul.fp32", value=1e11, unit="FLOP/s", machine_id="amd-01", when="2026-10-01")


@pytest.fixture
def path(tmp_path, monkeypatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    return str(tmp_path / "s.sqlite")


@pytest.fixture
def filled(path) -> str:
    """A machine that became slower in November, and another machine."""
    rows = []
    for month, values in (("10", (1.0, 1.01, 0.99, 1.02, 0.98)), ("11", (0.8, 0.81, 0.79, 0.82, 0.78))):
        for day, value in enumerate(values, start=1):
            when, software = f"2026-{month}-{day:02d}", f'{{"torch": "2.{month}"}}'
            figure = replace(BASE, when=when, software=software, tags={"side": 1024, "threads": 2}, snapshot='{"a": 1}')
            rows.append(replace(figure, value=1e11 * value, p10=0.9e11 * value, p90=1.1e11 * value))
            rows.append(replace(figure, name="launch.empty", value=1e-5 * value, unit="s", tags={}))
    rows += [
        replace(BASE, machine_id="1x-h200-02", value=6e13 + day, when=f"2026-11-{day:02d}", tags={"side": 8192})
        for day in range(1, 6)
    ]
    step = {"model": "resnet50", "task": "train", "precision": "fp32", "device": "t4", "batch": 8}
    rows.append(replace(BASE, kind="step", name="step.resnet50.train", value=0.3, unit="s", tags=step))
    with open_store(path) as store:
        store.add(rows)
    return path


def ask(*arguments: str, store: str | None = None):
    more = ("--store", store) if store else ()
    return CliRunner().invoke(root, ["history", *arguments, *more], standalone_mode=False)


def asked(*arguments: str, store: str) -> dict:
    result = ask(*arguments, "--json", store=store)
    return json.loads(result.stdout)


def refused(*arguments: str, store: str | None = None) -> str:
    result = ask(*arguments, store=store)
    if isinstance(result.exception, click.ClickException):
        return result.exception.format_message()
    assert isinstance(result.exception, RigwiseError)
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_a_list_fits_the_terminal_and_names_machines_where_there_are_several(filled) -> None:
    result = ask("--name", "matmul", store=filled)
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 80
    assert "1x-h200-02" in result.output
    assert "machine" not in ask("--machine", "amd", store=filled).output
    assert len(asked("--limit", "3", store=filled)["records"]) == 3
    newest = asked("--machine", "amd", store=filled)["records"]
    assert newest[0]["when"] >= newest[-1]["when"]
    assert newest[0]["software"] == {"torch": "2.11"}


def test_nothing_measured_is_no_fault_unless_a_store_was_named(path, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("RIGWISE_STORE", path)
    result = ask()
    assert result.exit_code == 0
    assert "nothing has been measured yet" in result.output
    assert not (tmp_path / "s.sqlite").exists()
    assert "nothing has been measured yet" in ask("--kind", "bench").output
    typo = str(tmp_path / "a typo.sqlite")
    assert refused(store=typo) == f"there is no store {typo}; RIGWISE_STORE='{typo}' rigwise bench writes one"
    assert "nothing" in refused("compare", "2026-10", "2026-11")


@pytest.mark.parametrize("width", ["0", "1", "40"])
def test_a_narrow_terminal_keeps_every_column(filled, monkeypatch, width) -> None:
    monkeypatch.setenv("COLUMNS", width)
    result = ask("--name", "matmul", "--machine", "amd", store=filled)
    assert all(word in result.output for word in ("when", "figure", "value", "2026-11", "matmul"))


def test_a_selection_of_nothing_says_how_to_see_what_there_is(filled) -> None:
    assert "was selected" in ask("--kind", "benhc", store=filled).output


def test_two_times(filled) -> None:
    found = asked("compare", "2026-10", "2026-11", "--machine", "amd", "--kind", "bench", store=filled)
    verdicts = {one["name"]: one["verdict"] for one in found["comparisons"]}
    assert verdicts == {"matmul.fp32": "worse", "launch.empty": "better"}
    assert found["software"] == [{"package": "torch", "first": "2.10", "second": "2.11"}]
    text = ask("compare", "2026-10", "2026-11", "--machine", "amd", store=filled)
    assert text.exit_code == 0
    assert max(map(len, text.output.splitlines())) <= 80
    assert "torch 2.10 -> 2.11" in text.output
    assert "2 machines" in refused("compare", "2026-10", "2026-11", "--name", "matmul", store=filled)


def test_two_machines_that_measured_other_sizes_are_refused(filled) -> None:
    result = ask("compare", "amd", "1x", store=filled)
    assert result.return_value == 1
    assert "side is 1024 and 8192" in result.output
    assert result.stderr.startswith("rigwise: amd and 1x are not comparable")
    assert result.stderr.count("\n") == 1


def test_a_regression_is_exit_1(filled) -> None:
    result = ask("check", "--machine", "amd", store=filled)
    assert result.return_value == 1
    assert "regression: matmul.fp32 on amd-01: since 2026-11-01" in result.output
    assert "improvement: launch.empty" in result.output
    found = asked("check", "--machine", "amd", store=filled)
    assert {one["what"] for one in found["findings"]} == {"regression", "improvement"}
    assert ask("check", "--name", "launch", store=filled).return_value == 0


def test_a_plot_draws_each_series_by_itself(filled, tmp_path) -> None:
    pytest.importorskip("vl_convert")
    result = ask("plot", "--name", "matmul", store=filled)
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 80
    assert result.output.count(" on ") == 2
    assert len(re.findall(r"^2026-1\d-\d\d .* -*o-*$", result.output, re.MULTILINE)) == 15
    picture = tmp_path / "p.svg"
    assert ask("plot", "--name", "matmul", "--output", str(picture), store=filled).exit_code == 0
    assert picture.read_text("utf-8").startswith("<svg")
    assert ".svg" in refused("plot", "--output", "p.png", store=filled)


def test_a_plot_as_json_has_every_point_of_every_series(filled, tmp_path) -> None:
    pytest.importorskip("vl_convert")
    found = json.loads(ask("plot", "matmul", "--json", store=filled).output)
    assert (found["schema"], found["store"]) == ("rigwise.history.plot/1", str(filled))
    assert len(found["series"]) == 2
    assert {one["name"].partition(".")[0] for one in found["series"]} == {"matmul"}
    points = [point for one in found["series"] for point in one["points"]]
    assert len(points) == 15
    assert all(set(point) == {"when", "value", "p10", "p90", "n"} for point in points)
    assert all(one["points"] == sorted(one["points"], key=lambda p: p["when"]) for one in found["series"])
    both = ask("plot", "matmul", "--json", "-o", str(tmp_path / "p.svg"), store=filled)
    assert json.loads(both.output) == found
    assert (tmp_path / "p.svg").exists()


def test_a_plot_of_too_much_names_what_to_choose(path) -> None:
    with open_store(path) as store:
        store.add([replace(BASE, name=f"figure.{number}") for number in range(20)])
    assert "20 series" in refused("plot", store=path)
    assert len(json.loads(ask("plot", "--json", store=path).output)["series"]) == 20


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_export_and_import(filled, tmp_path, suffix) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    file, other = str(tmp_path / f"out{suffix}"), str(tmp_path / "other.sqlite")
    assert asked("export", file, store=filled)["records"] == 26
    assert ask("import", file, store=other).output == "added 26, already there 0, left out 0\n"
    assert ask("import", file, store=other).output == "added 0, already there 26, left out 0\n"
    with open_store(filled) as a, open_store(other) as b:
        assert sorted(map(repr, a.query(snapshots=True))) == sorted(map(repr, b.query(snapshots=True)))
    assert asked("export", file, "--steps", store=filled)["steps"] == 1


def test_bad_rows_are_named_and_nothing_usable_is_exit_1(path, tmp_path) -> None:
    file = tmp_path / "in.csv"
    file.write_text("kind,name,value,unit,machine_id,when,tags\nbench,x,fast,s,m,2026-11-21,{}\n", encoding="utf-8")
    result = ask("import", str(file), store=path)
    assert result.return_value == 1
    assert "left out in.csv row 1: value is 'fast'" in result.stderr
    assert not (tmp_path / "s.sqlite").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["compair"], "compare"),
        (["compare", "2026-10"], "second"),
        (["compare", "amd", "nobody"], "nobody"),
        (["compare", "amd", "2026-10"], "a machine and a time"),
        (["compare", "2026-01", "2026-02"], "nothing was measured for 2026-01"),
        (["--since", "soon"], "soon"),
        (["--tag", "side"], "side"),
        (["--limit", "0"], "0"),
        (["plot", "--name", "nothing"], "nothing in"),
        (["export", "x.txt"], ".txt"),
        (["export", "missing/x.csv"], "missing"),
        (["import", "missing.csv"], "missing.csv"),
        (["import"], "FILES"),
    ],
    ids=" ".join,
)
def test_bad_input_is_named(filled, arguments, word, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RIGWISE_STORE", filled)
    assert word.lower() in refused(*arguments).lower()


def test_flags_before_an_action_are_refused(filled) -> None:
    with pytest.raises(click.UsageError, match="give it after"):
        CliRunner().invoke(root, ["history", "--store", filled, "check"], standalone_mode=False, catch_exceptions=False)
