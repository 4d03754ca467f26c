"""The store of measurements: what goes in comes out, once, and what is no store is refused in one line."""

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError
from rigwise.measurement import schema
from rigwise.measurement.place import locate
from rigwise.measurement.records import Record, Selection, checked, identity, machine_id, now, utc
from rigwise.measurement.store import open_store

pytest.importorskip("sqlalchemy")

RECORD = Record(
    kind="bench",
    name="matmul.fp32",
    value=1.2e11,
    unit="FLOP/s",
    p10=1.1e11,
    p90=1.25e11,
    n=40,
    machine_id="amd-epyc-2-0123abcd",
    snapshot='{"cpu": {"cores": {"value": 2}}}',
    software='{"torch": "2.13.0"}',
    when="2026-11-21T10:00:00Z",
    tags={"side": 1024, "format": "fp32", "threads": 2},
)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "measurements.sqlite")


def test_what_goes_in_comes_out(path) -> None:
    with open_store(path) as store:
        assert store.add([RECORD]) == 1
    with open_store(path) as store:
        assert store.query(snapshots=True) == (checked(RECORD),)
        assert store.query()[0].snapshot == ""
        assert store.query()[0].software == RECORD.software


def test_the_same_measurement_is_kept_once(path) -> None:
    without = replace(RECORD, snapshot="", software="")
    with open_store(path) as store:
        assert store.add([RECORD, RECORD]) == 1
        assert store.add([RECORD, without, replace(RECORD, value=1.21e11)]) == 1
        assert store.count() == 2


def test_snapshots_are_kept_once(path) -> None:
    with open_store(path) as store:
        store.add([replace(RECORD, value=1.2e11 + number) for number in range(100)])
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT count(*) FROM rigwise_snapshot").fetchone() == (1,)
    raw.close()


def test_a_batch_is_kept_whole_or_not_at_all(path) -> None:
    with open_store(path) as store:
        with pytest.raises(InvalidInputError, match="not in order"):
            store.add([RECORD, replace(RECORD, value=2e11)])
        assert store.count() == 0


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        (Selection(), 4),
        (Selection(names=("matmul",)), 2),
        (Selection(names=("matm",)), 0),
        (Selection(names=("matmul.fp32", "stream")), 2),
        (Selection(names=("%",)), 0),
        (Selection(kinds=("run",)), 1),
        (Selection(machines=("amd",)), 3),
        (Selection(machines=("AMD",)), 0),
        (Selection(since="2026-11-21"), 3),
        (Selection(until="2026-11-21"), 1),
        (Selection(since="2026-11-21T12:00:00+02:00"), 3),
        (Selection(tags={"side": "1024"}), 3),
        (Selection(tags={"side": "1024"}, limit=1), 1),
        (Selection(limit=2), 2),
    ],
)
def test_selections(path, asked, count) -> None:
    rows = [
        RECORD,
        replace(RECORD, name="matmul.fp16", when="2026-11-20", tags={"side": 2048}),
        replace(RECORD, name="stream.copy", machine_id="other"),
        replace(RECORD, name="step.x", kind="run"),
    ]
    with open_store(path) as store:
        store.add(rows)
        assert len(store.query(asked)) == count
        assert list(store.query(asked)) == sorted(store.query(asked), key=lambda record: record.when)


def test_a_limit_keeps_the_newest(path) -> None:
    with open_store(path) as store:
        store.add([replace(RECORD, when=f"2026-11-{day:02d}") for day in (3, 1, 2)])
        assert [record.when[8:10] for record in store.query(Selection(limit=2))] == ["02", "03"]
        (machine,) = store.machines()
        assert (machine.records, machine.first[:10], machine.last[:10]) == (3, "2026-11-01", "2026-11-03")


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30)
figures = st.floats(allow_nan=False, allow_infinity=False)
tags = st.dictionaries(
    texts, st.one_of(texts, st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e300, 1e300)), max_size=4
)


@settings(max_examples=60, deadline=None)
@example(kind="0", name="0", unit="0", value=-0.0, tags={}, n=1)
@given(kind=texts, name=texts, unit=texts, value=figures, tags=tags, n=st.integers(1, 2**31 - 1))
def test_any_record_survives(tmp_path_factory, kind, name, unit, value, tags, n) -> None:
    record = Record(kind=kind, name=name, value=value, unit=unit, n=n, machine_id="m", when=now(), tags=tags)
    path = str(tmp_path_factory.mktemp("any") / "s.sqlite")
    with open_store(path) as store:
        store.add([record])
        (found,) = store.query()
    assert found == checked(record)
    assert identity(found) == identity(checked(record))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"value": float("nan")}, "value"),
        ({"value": float("inf")}, "value"),
        ({"value": 10**400}, "value"),
        ({"value": True}, "value"),
        ({"p10": float("-inf")}, "p10"),
        ({"p90": 1.0}, "order"),
        ({"n": 0}, "n of"),
        ({"n": -1}, "n of"),
        ({"n": 1.5}, "n of"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"unit": "\0"}, "unit"),
        ({"machine_id": ""}, "machine_id"),
        ({"when": "yesterday"}, "yesterday"),
        ({"when": ""}, "date"),
        ({"snapshot": "[1]"}, "snapshot"),
        ({"snapshot": "{"}, "snapshot"),
        ({"snapshot": '{"a": NaN}'}, "snapshot"),
        ({"software": "torch"}, "software"),
        ({"tags": {"x": float("nan")}}, "tag"),
        ({"tags": {"x": None}}, "tag"),
        ({"tags": {"x": "y" * 5000}}, "tag"),
        ({"tags": {str(number): 1 for number in range(100)}}, "100 tags"),
    ],
    ids=str,
)
def test_what_cannot_be_kept_is_refused(change, word) -> None:
    with pytest.raises(InvalidInputError, match=word):
        checked(replace(RECORD, **change))


@given(st.datetimes(timezones=st.just(None)))
def test_times_sort_as_text(moment) -> None:
    assert utc(moment.isoformat()) == utc(utc(moment.isoformat()))
    assert len(utc(moment.isoformat())) == 27


def test_a_machine_keeps_its_name_while_its_clock_and_its_free_memory_change() -> None:
    def snapshot(cores: int, memory: float, load: float) -> str:
        return (
            f'{{"cpu": {{"name": {{"value": "AMD EPYC"}}, "cores": {{"value": {cores}}}}},'
            f' "memory": {{"total_bytes": {{"value": {memory}}}}}, "system": {{"load": {{"value": {load}}}}}}}'
        )

    assert machine_id(snapshot(2, 25.3e9, 0.1)) == machine_id(snapshot(2, 25.2e9, 9.9))
    assert machine_id(snapshot(2, 25.3e9, 0.1)) != machine_id(snapshot(4, 25.3e9, 0.1))
    assert machine_id('{"gpus": [{"name": {"value": "NVIDIA H200"}}]}').startswith("1x-nvidia-h200-")
    with pytest.raises(InvalidInputError):
        machine_id("[]")


# --- what is no store ------------------------------------------------------------------------------------------------


def test_a_newer_store_is_refused_with_the_remedy(path) -> None:
    open_store(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE rigwise_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(InvalidInputError, match=r"newer rigwise \(form 9999.*upgrade rigwise"):
        open_store(path)


def test_another_programs_database_is_left_alone(path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE holidays (day TEXT)")
    raw.close()
    with pytest.raises(InvalidInputError, match="another program"):
        open_store(path)
    with sqlite3.connect(path) as raw:
        assert [name for (name,) in raw.execute("SELECT name FROM sqlite_master")] == ["holidays"]
    raw.close()


@pytest.mark.parametrize("content", [b"\0" * 4096, b"SQLite format 3\0" + b"\xff" * 5000, b"name,value\n1,2\n"])
def test_a_file_that_is_no_store_is_one_line_and_stays(tmp_path, content) -> None:
    file = tmp_path / "s.sqlite"
    file.write_bytes(content)
    with pytest.raises(InvalidInputError) as refused:
        open_store(str(file))
    assert "\n" not in str(refused.value)
    assert str(file) in str(refused.value)
    assert file.read_bytes() == content


def test_a_store_with_a_damaged_page_is_one_line(path, tmp_path) -> None:
    with open_store(path) as store:
        store.add([replace(RECORD, value=1.2e11 + number) for number in range(2000)])
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA wal_checkpoint(truncate)")
    raw.close()
    content = bytearray((tmp_path / "measurements.sqlite").read_bytes())
    content[4096 * 6 :] = b"\xa5" * (len(content) - 4096 * 6)
    (tmp_path / "measurements.sqlite").write_bytes(content)
    with pytest.raises(InvalidInputError, match="damaged") as refused, open_store(path) as store:
        store.query(snapshots=True)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "empty"),
        ("mysql://host/db", "mysql"),
        ("sqlite://", "no file"),
        ("sqlite:///:memory:", "no file"),
        ("://", "cannot be read"),
        ("postgresql://user:secret@127.0.0.1:1/db", "127.0.0.1"),
        ("none", "no store"),
    ],
)
def test_urls_that_name_no_store(url, word) -> None:
    with pytest.raises(InvalidInputError, match=word) as refused:
        open_store(url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_places(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RIGWISE_STORE", str(tmp_path / "here.sqlite"))
    assert locate().path == tmp_path / "here.sqlite"
    monkeypatch.delenv("RIGWISE_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    if sys.platform == "linux":
        open_store().close()
        assert (tmp_path / "data" / "rigwise" / "measurements.sqlite").is_file()
    with pytest.raises(InvalidInputError, match="no folder"):
        open_store(str(tmp_path / "missing" / "s.sqlite"))
    with pytest.raises(InvalidInputError, match="no file"):
        open_store(str(tmp_path))


# --- migrations ------------------------------------------------------------------------------------------------------


def test_head_is_the_last_migration() -> None:
    assert schema.known_revisions()[0] == schema.HEAD


def test_migrations_make_the_tables_that_the_code_uses(path) -> None:
    import sqlalchemy as sa

    open_store(path).close()
    engine = sa.create_engine(f"sqlite:///{path}")
    found = sa.inspect(engine)
    for table in schema.tables().values():
        columns = {column["name"]: column for column in found.get_columns(table.name)}
        assert {column.name for column in table.columns} == set(columns)
        for column in table.columns:
            assert column.nullable == columns[column.name]["nullable"] or column.primary_key
        assert {i.name for i in table.indexes} == {i["name"] for i in found.get_indexes(table.name) if not i["unique"]}
    engine.dispose()


def test_migrations_go_back_and_forth(path) -> None:
    import sqlalchemy as sa
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    from rigwise.measurement.migrations.versions import v0001_first as first

    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        first.upgrade()
        first.downgrade()
        assert sa.inspect(connection).get_table_names() == []
    engine.dispose()


# --- without the extra -----------------------------------------------------------------------------------------------


TABLE = "kind,name,value,unit,machine_id,when,tags\nbench,x,1,s,m,2026-11-21,{}\n"
POSTGRES = "['history', '--store', 'postgresql://127.0.0.1:1/db']"


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("sqlalchemy", "['history']", "store"),
        ("alembic", "['history', 'import', 'x.csv']", "store"),
        ("psycopg", POSTGRES, "postgres"),
        ("pyarrow", "['history', 'import', 'x.parquet']", "parquet"),
    ],
)
def test_a_missing_extra_is_one_line_with_the_install_line(package, arguments, extra, tmp_path) -> None:
    (tmp_path / "x.csv").write_text(TABLE, encoding="utf-8")
    code = f"import sys; sys.modules[{package!r}] = None\nfrom rigwise.cli.main import main\nmain({arguments})"
    # Alembic is needed where there is no store yet.
    place = {**os.environ, "RIGWISE_STORE": str(tmp_path / "new.sqlite")}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=place
    )
    assert run.returncode == 2, run.stderr
    assert f"pip install 'rigwise[{extra}]'" in run.stderr
    assert run.stderr.count("\n") == 1
