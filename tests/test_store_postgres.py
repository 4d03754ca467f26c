"""The same store in a real PostgreSQL, started here on a socket of its own; skipped where its programs are missing."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rigwise.errors import InvalidInputError
from rigwise.measurement.place import locate
from rigwise.measurement.records import Record, Selection, checked
from rigwise.measurement.store import open_store

pytest.importorskip("sqlalchemy")
pytest.importorskip("psycopg")

RECORD = Record(
    kind="bench",
    name="matmul.fp32",
    value=1.2e11,
    unit="FLOP/s",
    p10=1.1e11,
    p90=1.25e11,
    n=40,
    machine_id="amd-epyc-2-0123abcd",
    snapshot='{"name": "a \\u0000 that JSON may hold"}',
    software='{"torch": "2.13.0"}',
    when="2026-11-21T10:00:00Z",
    tags={"side": 1024, "format": "fp32", "label": "größer ✓"},
)


def programs() -> Path | None:
    """The folder of initdb and postgres."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def owner() -> dict[str, str]:
    """PostgreSQL refuses to run as root."""
    import pwd

    if os.geteuid():
        return {}
    try:
        return {"user": pwd.getpwnam("postgres").pw_name}
    except KeyError:
        pytest.skip("no user to run PostgreSQL as")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server that listens on a socket in a folder of its own; the URL of an empty database."""
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL's programs are not installed")
    who = owner()
    place = Path(tempfile.mkdtemp(prefix="rigwise-pg-"))
    if who:
        shutil.chown(place, "postgres")
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(place)}
    make = [folder / "initdb", "-D", place / "data", "-U", "rigwise", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(make, check=True, capture_output=True, env=environment, cwd=place, **who)
    serve = [folder / "postgres", "-D", place / "data", "-k", place, "-c", "listen_addresses="]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(serve, stdout=log, stderr=log, env=environment, cwd=place, **who)
    try:
        wait_for(place, process)
        yield f"postgresql://rigwise@/postgres?host={place}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
        shutil.rmtree(place, ignore_errors=True)


def wait_for(place: Path, process: subprocess.Popen[bytes]) -> None:
    import psycopg

    for _ in range(300):
        try:
            psycopg.connect(host=str(place), user="rigwise", dbname="postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            assert process.poll() is None, (place / "log").read_text()
            time.sleep(0.1)
        else:
            return
    pytest.fail((place / "log").read_text())


@pytest.fixture
def url(server) -> str:
    """The server, with an empty schema."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return server


def test_what_goes_in_comes_out_once(url) -> None:
    with open_store(url) as store:
        assert store.add([RECORD, RECORD, replace(RECORD, value=1.21e11)]) == 2
        assert store.add([RECORD]) == 0
    with open_store(url) as store:
        assert store.query(Selection(limit=1, tags={"side": "1024"}), snapshots=True)[0].snapshot == RECORD.snapshot
        both = sorted(store.query(snapshots=True), key=lambda record: record.value)
        assert both == [checked(RECORD), checked(replace(RECORD, value=1.21e11))]
        assert store.query(Selection(names=("matmul",), machines=("amd",), since="2026-11-21"))[0].tags == RECORD.tags
        assert [machine.records for machine in store.machines()] == [2]


def test_a_batch_is_kept_whole_or_not_at_all(url) -> None:
    with open_store(url) as store:
        with pytest.raises(InvalidInputError):
            store.add([RECORD, replace(RECORD, n=0)])
        assert store.count() == 0


def test_other_tables_may_stand_beside(url) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE holidays (day text)")
    with open_store(url) as store:
        assert store.add([RECORD]) == 1


def test_a_newer_store_is_refused(url) -> None:
    import psycopg

    open_store(url).close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE rigwise_version SET version_num = '9999'")
    with pytest.raises(InvalidInputError, match="newer rigwise"):
        open_store(url)


def test_migrations_make_the_tables_that_the_code_uses(url) -> None:
    import sqlalchemy as sa

    from rigwise.measurement import schema

    open_store(url).close()
    engine = sa.create_engine(locate(url).url)
    for table in schema.tables().values():
        found = {column["name"]: column for column in sa.inspect(engine).get_columns(table.name)}
        assert {column.name: column.nullable for column in table.columns} == {
            name: column["nullable"] for name, column in found.items()
        }
        for column in table.columns:
            assert found[column.name]["type"].python_type is column.type.python_type
    engine.dispose()


WRITER = """
import sys
from dataclasses import replace
from rigwise.measurement.records import Record
from rigwise.measurement.store import open_store

url, name = sys.argv[1:]
base = Record(kind="bench", name=name, value=1.0, unit="s", machine_id="m", when="2026-11-21", snapshot='{"a": 1}')
with open_store(url) as store:
    for number in range(1000000 if name == "killed" else 20):
        store.add([replace(base, value=1.0 + number), replace(base, name="both", value=1.0 + number)])
        print(number, flush=True)
"""


def test_writers_that_make_the_tables_together_all_finish(url) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name in ("first", "second")
    ]
    answers = [writer.communicate(timeout=120) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], answers
    with open_store(url) as store:
        assert store.count() == 60


def test_a_killed_writer_loses_nothing_that_was_committed(url) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, url, "killed"], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) >= 25:
            break
    writer.kill()
    said = int(line) + len(writer.stdout.read().splitlines()) - 1
    writer.wait()
    writer.stdout.close()
    with open_store(url) as store:
        assert len(store.query(Selection(names=("killed",)))) >= said
        assert store.count() % 2 == 0


def test_the_command_line_reads_it(url) -> None:
    with open_store(url) as store:
        store.add([RECORD])
    command = [sys.executable, "-m", "rigwise", "history", "--store", url, "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert [record["value"] for record in json.loads(run.stdout)["records"]] == [1.2e11]


def test_a_server_that_is_not_there_is_one_line(server) -> None:
    with pytest.raises(InvalidInputError) as refused:
        open_store(server.replace("rigwise-pg-", "no-such-folder-"))
    assert "\n" not in str(refused.value)
    with pytest.raises(InvalidInputError, match="no_such_database"):
        open_store(server.replace("/postgres?", "/no_such_database?"))
