"""The store under kill -9, several writers and a full disk: what was committed stays, all else leaves no trace."""

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import replace

import pytest

from rigwise.errors import InvalidInputError
from rigwise.measurement.records import Record
from rigwise.measurement.store import open_store

pytest.importorskip("sqlalchemy")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork, signals and limits of POSIX")

RECORD = Record(kind="bench", name="x", value=1.0, unit="s", machine_id="m", when="2026-11-21")

#: Children write batches of three until they are killed, and say after each commit which it was. The first ones are
#: killed while they still make the store.
KILLED = """
import json, os, random, signal, sys, time
from dataclasses import replace
import alembic.runtime.environment, alembic.script, sqlalchemy.dialects.sqlite
from rigwise.measurement.records import Record
from rigwise.measurement.store import open_store

path, seed = sys.argv[1], int(sys.argv[2])
base = Record(kind="bench", name="x", value=1.0, unit="s", machine_id="m", when="2026-11-21", snapshot='{"a": 1}')
chooser = random.Random(seed)
said, killed_at = [], []
for child in range(20):
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        store = open_store(path)
        number = 0
        while True:
            batch = [replace(base, name=f"c{child}.b{number}.{part}", value=1.0 + number) for part in range(3)]
            store.add(batch)
            os.write(writing, f"{number}\\n".encode())
            number += 1
    os.close(writing)
    wait_s = chooser.uniform(0.0, 0.05 if child < 8 else 0.4)
    time.sleep(wait_s)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    with os.fdopen(reading) as stream:
        said.append([int(line) for line in stream if line.endswith("\\n")])
with open_store(path) as store:
    present = sorted(record.name for record in store.query())
print(json.dumps({"said": said, "present": present}))
"""


def run(code: str, *arguments: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=120, **more
    )


def test_twenty_killed_writers_lose_nothing_that_was_committed(tmp_path) -> None:
    path = str(tmp_path / "s.sqlite")
    found = run(KILLED, path, "1")
    assert found.returncode == 0, found.stderr
    answer = json.loads(found.stdout)
    present = set(answer["present"])
    committed = {
        f"c{child}.b{number}.{part}"
        for child, numbers in enumerate(answer["said"])
        for number in numbers
        for part in range(3)
    }
    assert committed
    assert committed <= present
    batches = {name.rpartition(".")[0] for name in present}
    assert len(present) == 3 * len(batches)  # no batch is there in part
    unsaid = batches - {name.rpartition(".")[0] for name in committed}
    assert len(unsaid) <= 20  # each child may have committed one batch that it did not live to say
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()


WRITER = """
import sys
from dataclasses import replace
from rigwise.measurement.records import Record
from rigwise.measurement.store import open_store

path, name = sys.argv[1:]
base = Record(kind="bench", name=name, value=1.0, unit="s", machine_id="m", when="2026-11-21", snapshot='{"a": 1}')
sys.stdin.readline()
with open_store(path) as store:
    added = sum(store.add([replace(base, value=1.0 + i), replace(base, name="both", value=1.0 + i)]) for i in range(40))
print(added)
"""


def test_writers_that_start_a_new_store_together_all_finish(tmp_path) -> None:
    path = str(tmp_path / "s.sqlite")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, path, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("first", "second", "third")
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    answers = [writer.communicate(timeout=120) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], answers
    assert sum(int(out) for out, _ in answers) == 3 * 40 + 40  # what all of them wrote is counted once
    with open_store(path) as store:
        assert store.count() == 160


FILLING = """
import json, resource, sys
from dataclasses import replace
from rigwise.errors import InvalidInputError
from rigwise.measurement.records import Record
from rigwise.measurement.store import open_store

base = Record(kind="bench", name="x", value=1.0, unit="s", machine_id="m", when="2026-11-21")
store = open_store(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
kept = 0
try:
    for number in range(1000):
        long = '{"a": "%s"}' % (str(number) * 500)
        store.add([replace(base, name=f"{number}.{part}", snapshot=long) for part in range(3)])
        kept = number + 1
except InvalidInputError as error:
    print(json.dumps({"kept": kept, "said": str(error)}))
    sys.exit(2)
"""


def test_a_disk_that_fills_up_is_one_line_and_loses_nothing(tmp_path) -> None:
    path = str(tmp_path / "s.sqlite")
    found = run(FILLING, path)
    assert found.returncode == 2, found.stderr
    answer = json.loads(found.stdout)
    assert answer["kept"] > 3
    assert "cannot be written" in answer["said"]
    assert "\n" not in answer["said"]
    with open_store(path) as store:  # with space again
        assert store.count() == 3 * answer["kept"]
        assert store.add([RECORD]) == 1


def test_a_really_full_file_system(tmp_path) -> None:
    """The same on a file system of 600 kB, where one can be mounted."""
    script = f'mount -t tmpfs -o size=600k none {tmp_path} && exec {sys.executable} -c "$0" {tmp_path}/s.sqlite'
    code = FILLING.replace("resource.setrlimit", "(lambda *_: None)")
    try:
        tried = subprocess.run(
            ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs -o size=600k none {tmp_path}"],
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if tried.returncode:
        pytest.skip("no file system can be mounted here")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2, done.stderr
    answer = json.loads(done.stdout)
    assert answer["kept"] > 3
    assert "full" in answer["said"]


def test_a_store_in_use_is_one_line(tmp_path, monkeypatch) -> None:
    path = str(tmp_path / "s.sqlite")
    open_store(path).close()
    monkeypatch.setattr("rigwise.measurement.store._WAIT_S", 0.1)
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    with pytest.raises(InvalidInputError, match="in use by another program"), open_store(path) as store:
        store.add([RECORD])
    raw.execute("ROLLBACK")
    raw.close()
    open_store(path).close()


#: Somebody else, who may read: prints what the store says to reading, to writing, and to a new store there.
READER = """
import os, sys
from dataclasses import replace
import alembic.runtime.environment, alembic.script, sqlalchemy.dialects.sqlite
from rigwise.errors import InvalidInputError
from rigwise.measurement.records import Record
from rigwise.measurement.store import open_store

folder = sys.argv[1]
if os.geteuid() == 0:
    os.setuid(65534)
base = Record(kind="bench", name="x", value=1.0, unit="s", machine_id="m", when="2026-11-21")
with open_store(f"{folder}/s.sqlite") as store:
    print(store.count())
    try:
        store.add([replace(base, value=5.0)])
    except InvalidInputError as error:
        print(error)
try:
    open_store(f"{folder}/new.sqlite")
except InvalidInputError as error:
    print(error)
"""


def test_a_store_of_others_can_be_read_and_not_written() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        with open_store(f"{folder}/s.sqlite") as store:
            store.add([RECORD])
        os.chmod(folder, 0o555)
        found = run(READER, folder)
        os.chmod(folder, 0o755)
    assert found.returncode == 0, found.stderr
    count, added, new = found.stdout.splitlines()
    assert count == "1"
    assert "cannot be written" in added
    assert "cannot be" in new


def test_reading_does_not_wait_for_a_writer(tmp_path) -> None:
    path = str(tmp_path / "s.sqlite")
    with open_store(path) as writer:
        writer.add([RECORD])
        with writer.writing() as connection:
            connection.exec_driver_sql("DELETE FROM rigwise_measurement")
            with open_store(path) as reader:
                assert reader.count() == 1


def test_an_interrupted_import_can_be_repeated(tmp_path) -> None:
    path = str(tmp_path / "s.sqlite")
    rows = [replace(RECORD, value=1.0 + number) for number in range(10)]
    with open_store(path) as store:
        store.add(rows[:4])
        assert store.add(rows) == 6
