"""The store of measurements: a SQLite file, or PostgreSQL by URL, through one code path.

What ``add`` returned from is there after the process, or the machine, ends at any instant: SQLite writes ahead
(WAL) and waits for the disk at each commit. A batch is kept whole or not at all. The same measurement added twice
is kept once, so that what was interrupted can be repeated.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rigwise.errors import InvalidInputError, MissingExtraError, RigwiseError
from rigwise.measurement.place import Place, locate
from rigwise.measurement.records import ALL, Record, Selection, checked, digest, identity, tags_text, utc
from rigwise.measurement.schema import HEAD, prepare, revision, sqlalchemy, tables

#: How long one program waits for another that writes.
_WAIT_S = 30.0
_ROWS_AT_ONCE = 500
_SQLITE_HEADER = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRow:
    """One machine in the store.

    Attributes:
        machine_id: Its name.
        records: How many figures it has.
        first, last: When the first and the last were measured.
    """

    machine_id: str
    records: int
    first: str
    last: str


def open_store(url: str | None = None) -> Store:
    """The store, made if there is none, brought to the present form if an older rigwise wrote it.

    Args:
        url: As ``locate`` takes it.

    Raises:
        InvalidInputError: The place cannot be used, is something else, or a newer rigwise wrote it.
        MissingExtraError: SQLAlchemy, Alembic or psycopg is not installed.
    """
    place = locate(url)
    if place.path is not None:
        _check_file(place.path, make_folder=not place.named)
    with _told(place):
        engine = _engine(place)
    store = Store(place, engine)
    try:
        with store.reading() as connection:
            found = revision(connection)
        if found != HEAD:
            with store.writing() as connection:
                prepare(connection, place.shown)
    except BaseException:
        store.close()
        raise
    return store


def _check_file(path: Path, *, make_folder: bool) -> None:
    """Refuse what is no SQLite file before anything is written to it."""
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise InvalidInputError(f"{path} is no file", hint="RIGWISE_STORE names the file of a store")
        if not path.exists() and not path.parent.is_dir():
            raise InvalidInputError(f"there is no folder {path.parent} for the store")
        if path.exists() and path.stat().st_size:
            with path.open("rb") as stream:
                if stream.read(len(_SQLITE_HEADER)) != _SQLITE_HEADER:
                    raise InvalidInputError(f"{path} is no store of measurements: not a SQLite file")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"the store {path} cannot be opened: {reason}") from None


def _engine(place: Place) -> Any:
    sa = sqlalchemy()
    if place.path is None:
        try:
            return sa.create_engine(place.url, connect_args={"connect_timeout": 10})
        except ImportError:
            raise MissingExtraError("psycopg", "postgres") from None
    if _is_still(place.path):
        address = f"{place.path.resolve().as_uri()}?mode=ro&immutable=1"
        return sa.create_engine(
            "sqlite+pysqlite://", creator=lambda: sqlite3.connect(address, uri=True), poolclass=sa.pool.NullPool
        )
    engine = sa.create_engine(place.url, connect_args={"timeout": _WAIT_S})
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _is_still(path: Path) -> bool:
    """Whether nothing can be written beside the file and nobody is writing: then it is read as it lies.

    Reading needs a shared index beside a file that is written ahead, which cannot be made in a folder of others.
    """
    beside = path.with_name(path.name + "-wal")
    return path.exists() and not os.access(path.parent, os.W_OK) and not beside.exists()


def _set_up_sqlite(connection: Any, _: Any) -> None:
    """Write ahead, wait for the disk at each commit, hold references; transactions begin where we say."""
    connection.isolation_level = None
    until = time.monotonic() + _WAIT_S
    while True:  # another program that turns the same new file over holds it for an instant, without a queue
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = wal")
            break
        except Exception as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous = full")
    connection.execute("PRAGMA foreign_keys = on")


def _begin_sqlite(connection: Any) -> None:
    """A writer takes its turn at once: a reader that turns writer would be refused instead of waiting."""
    writes = connection.get_execution_options().get("rigwise_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class Store:
    """Measurements that are kept; a context manager that closes it."""

    def __init__(self, place: Place, engine: Any) -> None:
        self.place = place
        self._engine = engine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Any]:
        """A connection in a transaction that is committed at the end, or undone whole."""
        with _told(self.place), self._engine.connect() as connection:
            changed = connection.execution_options(rigwise_writes=True)
            with changed.begin():
                yield changed

    @contextlib.contextmanager
    def reading(self) -> Iterator[Any]:
        """A connection that sees the store as it is at one moment."""
        with _told(self.place), self._engine.connect() as connection, connection.begin():
            yield connection

    def add(self, records: Sequence[Record]) -> int:
        """Keep these, all or none; how many were not there yet.

        Raises:
            InvalidInputError: A record cannot be kept, or the store cannot be written to.
        """
        rows = [checked(record) for record in records]
        if not rows:
            return 0
        with self.writing() as connection:
            for name in ("snapshot", "software"):
                texts = {digest(text): text for row in rows if (text := getattr(row, name))}
                _insert(connection, name, [{"sha256": key, "content": text} for key, text in texts.items()])
            return _insert(connection, "measurement", [_row(record) for record in rows])

    def query(self, selection: Selection = ALL, *, snapshots: bool = False) -> tuple[Record, ...]:
        """The records of a selection, the oldest first.

        Args:
            selection: Which.
            snapshots: Read the text of the machine snapshots too; they are long.

        Raises:
            InvalidInputError: A time of the selection is none, or the store cannot be read.
        """
        table = tables()["measurement"]
        newest = table.select().where(*_conditions(table, selection)).order_by(table.c.at.desc(), table.c.id.desc())
        if selection.limit is not None and not selection.tags:
            newest = newest.limit(selection.limit)
        found: list[Any] = []
        with self.reading() as connection:
            for row in connection.execute(newest):
                tags = _json(row.tags)
                if all(tag_words(tags.get(key)) == value for key, value in selection.tags.items()):
                    found.append((row, tags))
                if selection.limit is not None and len(found) >= selection.limit:
                    break
            software = _texts(connection, "software", {row.software_sha256 for row, _ in found})
            machine = _texts(connection, "snapshot", {row.snapshot_sha256 for row, _ in found} if snapshots else set())
        return tuple(_record(row, tags, machine, software) for row, tags in reversed(found))

    def snapshots(self, digests: Sequence[str]) -> dict[str, str]:
        """Texts of machine snapshots by their checksum."""
        with self.reading() as connection:
            return _texts(connection, "snapshot", set(digests))

    def machines(self) -> tuple[MachineRow, ...]:
        """Every machine, the one measured last first."""
        sa, table = sqlalchemy(), tables()["measurement"]
        count, first, last = sa.func.count(), sa.func.min(table.c.at), sa.func.max(table.c.at)
        asked = sa.select(table.c.machine_id, count, first, last).group_by(table.c.machine_id)
        with self.reading() as connection:
            rows = connection.execute(asked.order_by(last.desc(), table.c.machine_id)).all()
        return tuple(MachineRow(machine_id=m, records=n, first=a, last=b) for m, n, a, b in rows)

    def count(self) -> int:
        """How many records there are."""
        sa, table = sqlalchemy(), tables()["measurement"]
        with self.reading() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def _insert(connection: Any, name: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert what is not there and count it; both databases spell this the same way."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert
    table = tables()[name]
    key = table.c.identity if name == "measurement" else table.c.sha256
    statement = insert(table).on_conflict_do_nothing().returning(key)
    ordered = sorted(rows, key=lambda row: str(row[key.name]))  # two writers never cross
    parts = (ordered[start : start + _ROWS_AT_ONCE] for start in range(0, len(ordered), _ROWS_AT_ONCE))
    return sum(len(connection.execute(statement, part).all()) for part in parts)


def _row(record: Record) -> dict[str, Any]:
    same = {key: getattr(record, key) for key in ("kind", "name", "value", "unit", "p10", "p90", "n", "machine_id")}
    return {
        **same,
        "identity": identity(record),
        "at": record.when,
        "tags": tags_text(record.tags),
        "snapshot_sha256": digest(record.snapshot) if record.snapshot else None,
        "software_sha256": digest(record.software) if record.software else None,
    }


def _record(row: Any, tags: dict[str, Any], machine: Mapping[str, str], software: Mapping[str, str]) -> Record:
    return Record(
        kind=row.kind,
        name=row.name,
        value=row.value,
        unit=row.unit,
        p10=row.p10,
        p90=row.p90,
        n=row.n,
        machine_id=row.machine_id,
        snapshot=machine.get(row.snapshot_sha256, ""),
        software=software.get(row.software_sha256, ""),
        when=row.at,
        tags=tags,
    )


def _conditions(table: Any, selection: Selection) -> list[Any]:
    sa = sqlalchemy()
    c = table.c

    def begins(column: Any, word: str) -> Any:
        return sa.func.substr(column, 1, len(word)) == word

    found = []
    if selection.kinds:
        found.append(c.kind.in_(selection.kinds))
    if selection.names:
        found.append(sa.or_(*(sa.or_(c.name == name, begins(c.name, f"{name}.")) for name in selection.names)))
    if selection.machines:
        found.append(sa.or_(*(begins(c.machine_id, name) for name in selection.machines)))
    if selection.since:
        found.append(c["at"] >= utc(selection.since))
    if selection.until:
        found.append(c["at"] < utc(selection.until))
    return found


def _texts(connection: Any, name: str, wanted: set[str | None]) -> dict[str, str]:
    table = tables()[name]
    keys = sorted(key for key in wanted if key)
    found: dict[str, str] = {}
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        part = table.select().where(table.c.sha256.in_(keys[start : start + _ROWS_AT_ONCE]))
        found.update((row.sha256, row.content) for row in connection.execute(part))
    return found


def _json(text: str) -> dict[str, Any]:
    import json

    found = json.loads(text)
    return found if isinstance(found, dict) else {}


def tag_words(value: object) -> str | None:
    """A tag as the command line spells it; None where there is none.

    >>> tag_words(True), tag_words(1024), tag_words("fp32"), tag_words(None)
    ('true', '1024', 'fp32', None)
    """
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextlib.contextmanager
def _told(place: Place) -> Iterator[None]:
    """What the database says, in one line of ours."""
    sa = sqlalchemy()
    try:
        yield
    except RigwiseError:
        raise
    except (sa.exc.SQLAlchemyError, OSError, ValueError) as error:
        raise _explained(place, error) from None


def _explained(place: Place, error: Exception) -> InvalidInputError:
    said = " ".join(str(getattr(error, "orig", None) or error).split())
    low = said.lower()
    where = f"the store {place.shown}"
    if "disk is full" in low or "no space left" in low or "disk i/o error" in low or "disk full" in low:
        return InvalidInputError(
            f"{where} cannot be written: {said[:120]}", hint="free some space; what was stored before is still there"
        )
    if "locked" in low:
        return InvalidInputError(f"{where} is in use by another program", hint="try again when that has ended")
    if "readonly" in low or "read-only" in low or "permission denied" in low:
        return InvalidInputError(f"{where} cannot be written: {said[:120]}", hint="RIGWISE_STORE=FILE names another")
    if "malformed" in low or "not a database" in low or isinstance(error, ValueError):
        return InvalidInputError(
            f"{where} is damaged: {said[:120]}", hint="restore a copy, or RIGWISE_STORE names another"
        )
    return InvalidInputError(f"{where} cannot be used: {said[:160]}")
