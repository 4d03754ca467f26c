"""Tables of measurements: what is read, and how every slip is named and left out."""

from pathlib import Path

import pytest

from rigwise.edge import TEXT_LIMIT_BYTES
from rigwise.errors import InvalidInputError
from rigwise.measurement.measurement import METRICS
from rigwise.measurement.tables import OPTIONAL, REQUIRED, read_tables

HEAD = "device,model,task,precision,batch,metric,value"
GOOD = "RTX 3090,resnet50,infer,amp_fp16,256,samples_per_s,2000"


def table(folder: Path, *lines: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_only_the_required_columns_are_needed(tmp_path) -> None:
    rows, rejected = read_tables([table(tmp_path, HEAD, GOOD)])
    (row,) = rows
    assert rejected == ()
    assert (row.device, row.batch, row.value, row.count, row.source) == ("RTX 3090", 256, 2000.0, 1, "t")
    assert row.where == "t.csv line 2"


def test_columns_may_come_in_any_order_with_others_between(tmp_path) -> None:
    names, cells = HEAD.split(","), GOOD.split(",")
    path = table(tmp_path, ",".join(["colour", *reversed(names)]), ",".join(["red", *reversed(cells)]))
    assert read_tables([path])[0][0].model == "resnet50"


def test_a_folder_stands_for_its_tables_in_order(tmp_path) -> None:
    for name in ("b.csv", "a.CSV", "c.txt"):
        table(tmp_path, HEAD, GOOD, name=name)
    assert [row.source for row in read_tables([tmp_path])[0]] == ["a", "b"]


@pytest.mark.parametrize(
    ("column", "cell", "word"),
    [
        ("metric", "minutes", "ms_per_step"),
        ("metric", "", "metric is empty"),
        ("device", " ", "device is empty"),
        ("value", "0", "above 0"),
        ("value", "-3", "above 0"),
        ("value", "nan", "above 0"),
        ("value", "inf", "above 0"),
        ("value", "fast", "'fast'"),
        ("value", "1e300", "no device"),
        ("value", "", "value is empty"),
        ("batch", "8k", "'8k'"),
        ("batch", "0", "at least 1"),
        ("batch", "2.5", "at least 1"),
        ("batch", "nan", "at least 1"),
    ],
)
def test_an_impossible_row_is_named_and_left_out(column: str, cell: str, word: str, tmp_path) -> None:
    cells = dict(zip(HEAD.split(","), GOOD.split(","), strict=True)) | {column: cell}
    rows, (rejected,) = read_tables([table(tmp_path, HEAD, GOOD, ",".join(cells.values()), GOOD)])
    assert len(rows) == 2
    assert rejected.where == "t.csv line 3"
    assert word in rejected.reason


def test_a_long_cell_is_cut_in_the_message(tmp_path) -> None:
    _, (rejected,) = read_tables([table(tmp_path, HEAD, GOOD.replace("2000", "x" * 5000))])
    assert len(rejected.reason) < 200


def test_rows_of_another_length_are_left_out(tmp_path) -> None:
    rows, rejected = read_tables([table(tmp_path, HEAD, GOOD + ",more", GOOD.rpartition(",")[0], "", GOOD)])
    assert len(rows) == 1
    assert [one.reason for one in rejected] == ["8 cells under 7 columns", "6 cells under 7 columns"]


@pytest.mark.parametrize("column", REQUIRED)
def test_a_missing_column_leaves_the_table_out(column: str, tmp_path) -> None:
    names = [name if name != column else name.capitalize() + "s" for name in HEAD.split(",")]
    rows, (rejected,) = read_tables([table(tmp_path, ",".join(names), GOOD)])
    assert rows == ()
    assert f"no column {column}" in rejected.reason


def test_a_column_that_stands_twice_leaves_the_table_out(tmp_path) -> None:
    _, (rejected,) = read_tables([table(tmp_path, HEAD + ",count,count", GOOD + ",1,2")])
    assert "count stands twice" in rejected.reason


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"\n\n", "no column"),
        (HEAD.encode() + b"\n", "no row"),
        ("\n".join((HEAD, GOOD)).encode("utf-16"), "UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "UTF-8"),
        (b'{"device": "t4"}', "no column"),
        (HEAD.encode() + b'\n"RTX', "no CSV"),
        (HEAD.encode() + b"\n" + b"x" * 200_000, "no CSV"),
    ],
    ids=["empty", "blank", "header", "utf-16", "png", "json", "quote", "huge cell"],
)
def test_a_file_that_is_no_table_is_named_and_left_out(content: bytes, word: str, tmp_path) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    table(tmp_path, HEAD, GOOD)
    rows, rejected = read_tables([tmp_path])
    assert len(rows) == 1
    assert any(one.where.startswith("bad.csv") and word in one.reason for one in rejected)


def test_a_huge_file_is_not_read(tmp_path) -> None:
    path = tmp_path / "huge.csv"
    with path.open("wb") as stream:
        stream.truncate(TEXT_LIMIT_BYTES + 1)
    rows, (rejected,) = read_tables([path])
    assert rows == ()
    assert "bytes" in rejected.reason


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join((HEAD, GOOD, "")).encode())
    assert len(read_tables([path])[0]) == 1


def test_what_is_not_there_is_an_error(tmp_path) -> None:
    with pytest.raises(InvalidInputError, match=r"nowhere\.csv"):
        read_tables([tmp_path / "nowhere.csv"])
    with pytest.raises(InvalidInputError, match=r"no \.csv"):
        read_tables([tmp_path])


def test_the_reference_lists_every_column_and_metric() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference" / "measurements.md").read_text(encoding="utf-8")
    assert [word for word in (*REQUIRED, *OPTIONAL, *METRICS) if f"`{word}`" not in page] == []
