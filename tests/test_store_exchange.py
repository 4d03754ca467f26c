"""CSV and Parquet: out of one store and into another without loss, and readable by judge."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError
from rigwise.measurement.exchange import (
    COLUMNS,
    csv_text,
    is_step,
    parquet_bytes,
    read_records,
    snapshots_file,
    snapshots_text,
)
from rigwise.measurement.records import Record, checked
from rigwise.measurement.tables import OPTIONAL, REQUIRED, read_tables

BENCH = checked(
    Record(
        kind="bench",
        name="matmul.fp32",
        value=0.1 + 0.2,
        unit="FLOP/s",
        p10=0.1,
        p90=1e300,
        n=40,
        machine_id="amd-epyc-2-0123abcd",
        snapshot=json.dumps({"cpu": "x" * 200_000}),
        software='{"torch": "2.13.0"}',
        when="2026-11-21T10:00:00Z",
        tags={"side": 1024, "format": "fp32", "quick": True, "note": 'a, "b"\nc', "device": "this"},
    )
)
STEP = checked(
    Record(
        kind="step",
        name="step.resnet50.train",
        value=0.0123,
        unit="s",
        machine_id="1x-h200-0123abcd",
        when="2026-11-21",
        tags={
            "device": "h200",
            "model": "resnet50",
            "task": "train",
            "precision": "amp_fp16",
            "batch": 64,
            "framework": "PyTorch 2.4.0 cu124 eager",
            "notes": "optimizer=sgd",
        },
    )
)


def written(folder: Path, suffix: str, records) -> Path:
    path = folder / f"out{suffix}"
    if suffix == ".csv":
        path.write_text(csv_text(records), encoding="utf-8")
        snapshots_file(path).write_text(snapshots_text(records), encoding="utf-8")
    else:
        path.write_bytes(parquet_bytes(records))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_nothing_is_lost(tmp_path, suffix) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    records = (BENCH, STEP, replace(BENCH, value=0.2, unit=""))
    assert read_records(written(tmp_path, suffix, records)) == (records, ())


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(
    value=st.floats(allow_nan=False, allow_infinity=False),
    name=words,
    tags=st.dictionaries(words, st.one_of(words, st.booleans(), st.integers(-(2**60), 2**60)), max_size=4),
)
def test_any_record_survives_csv(tmp_path_factory, value, name, tags) -> None:
    record = checked(replace(BENCH, value=value, p10=None, p90=None, name=name, tags=tags, snapshot=""))
    path = tmp_path_factory.mktemp("csv") / "out.csv"
    path.write_text(csv_text([record]), encoding="utf-8")
    assert read_records(path) == ((record,), ())


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_judge_reads_the_steps_of_an_export(tmp_path, suffix) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    rate = replace(STEP, unit="token/s", value=1500.0, name="step.gpt2.train", tags={**STEP.tags, "model": "gpt2"})
    written(tmp_path, suffix, (BENCH, STEP, rate))
    read, left_out = read_tables([tmp_path])
    assert [(row.model, row.metric, row.value, row.batch, row.framework) for row in read] == [
        ("resnet50", "s_per_step", 0.0123, 64, "PyTorch 2.4.0 cu124 eager"),
        ("gpt2", "tokens_per_s", 1500.0, 64, "PyTorch 2.4.0 cu124 eager"),
    ]
    assert read[0].notes == "optimizer=sgd"
    assert len(left_out) == 1  # the figure that is no step
    assert {*REQUIRED, *OPTIONAL} <= set(COLUMNS)
    assert [is_step(record) for record in (BENCH, STEP, rate)] == [False, True, True]


def test_a_table_of_judge_becomes_steps() -> None:
    table = Path(__file__).parent / "data" / "measured" / "steps.csv"
    with pytest.raises(InvalidInputError, match="--when"):
        read_records(table)
    records, _ = read_records(table, when="2026-11-21")
    with table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert 0 < len(records) <= len(rows)
    assert all(is_step(record) for record in records)
    measured, _ = read_tables([table])
    for record, row in zip(records, measured, strict=True):
        scale = {"ms_per_step": 1e-3, "us_per_step": 1e-6}.get(row.metric, 1.0)
        assert record.value == pytest.approx(row.value * scale)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "empty"),
        ("kind,name\n", "no row"),
        ("a,b\n1,2\n", "no column"),
        ("a,a\n1,2\n", "twice"),
        ("kind,name,value,unit,machine_id,when,tags\nbench,x\n", "2 cells"),
        ('kind,name,value,unit,machine_id,when,tags\n"bench,x', "CSV"),
        ("\ufeffk\0,b\n1,2\n", "no column|NUL|CSV"),
    ],
)
def test_a_file_that_is_no_table(tmp_path, content, word) -> None:
    path = tmp_path / "in.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=word) as refused:
        read_records(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("column", "cell", "word"),
    [
        ("value", "fast", "no number"),
        ("value", "nan", "finite"),
        ("value", "", "no number"),
        ("p10", "x", "no number"),
        ("n", "many", "no whole"),
        ("n", "0", "n of"),
        ("when", "soon", "soon"),
        ("tags", "[]", "object"),
        ("tags", "{", "JSON"),
        ("kind", "", "kind"),
        ("software", "torch", "software"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_others_count(tmp_path, column, cell, word) -> None:
    pytest.importorskip("numpy")
    path = tmp_path / "in.csv"
    rows = list(csv.reader(csv_text([BENCH, STEP]).splitlines(keepends=True)))
    rows[1][COLUMNS.index(column)] = cell
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    records, (left_out,) = read_records(path)
    assert [record.name for record in records] == [STEP.name]
    assert left_out.where == "in.csv row 1"
    assert word in left_out.reason


def test_a_changed_snapshot_is_refused(tmp_path) -> None:
    path = written(tmp_path, ".csv", (BENCH,))
    beside = snapshots_file(path)
    beside.write_text(beside.read_text("utf-8").replace("xxxx", "yyyy", 1), encoding="utf-8")
    with pytest.raises(InvalidInputError, match="checksum"):
        read_records(path)
    beside.unlink()
    assert read_records(path)[0][0].snapshot == ""


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1" + b"\xff" * 500 + b"PAR1", b"a,b\n"])
def test_a_file_that_is_no_parquet(tmp_path, content) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "in.parquet"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match="Parquet"):
        read_records(path)
