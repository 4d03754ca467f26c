"""The tables of the store, and how an older store becomes a newer one.

SQLAlchemy and Alembic are an extra, so nothing here is imported until a store is opened. Every change of the
tables is a file in ``migrations/versions``; ``HEAD`` names the last one.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from rigwise.errors import InvalidInputError, MissingExtraError

#: The last migration; a test holds it against the folder.
HEAD = "0001"

#: All tables begin with it, so that a PostgreSQL database may hold others.
PREFIX = "rigwise_"
VERSION_TABLE = f"{PREFIX}version"

#: Held while tables are made or changed, so that two programs that open a new store wait for each other.
_LOCK = 0x72696777697365


def sqlalchemy() -> Any:
    """The package.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import sqlalchemy as found
    except ImportError:
        raise MissingExtraError("SQLAlchemy", "store") from None
    return found


@cache
def tables() -> dict[str, Any]:
    """The tables by their short names: snapshot, software, measurement."""
    sa = sqlalchemy()
    metadata = sa.MetaData()
    text = {name: sa.Table(f"{PREFIX}{name}", metadata, *_text_columns(sa)) for name in ("snapshot", "software")}
    measurement = sa.Table(
        f"{PREFIX}measurement",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("identity", sa.String(64), nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("p10", sa.Double),
        sa.Column("p90", sa.Double),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("machine_id", sa.Text, nullable=False),
        sa.Column("at", sa.String(27), nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("snapshot_sha256", sa.String(64), sa.ForeignKey(f"{PREFIX}snapshot.sha256")),
        sa.Column("software_sha256", sa.String(64), sa.ForeignKey(f"{PREFIX}software.sha256")),
    )
    sa.Index(f"{PREFIX}measurement_series", measurement.c.machine_id, measurement.c.name, measurement.c.at)
    sa.Index(f"{PREFIX}measurement_at", measurement.c.at)
    return {**text, "measurement": measurement}


def _text_columns(sa: Any) -> tuple[Any, ...]:
    return sa.Column("sha256", sa.String(64), primary_key=True), sa.Column("content", sa.Text, nullable=False)


def prepare(connection: Any, shown: str) -> None:
    """Make the tables, or bring them to the present form, inside the transaction of this connection.

    Args:
        connection: In a transaction that no other writer can enter.
        shown: The store as messages name it.

    Raises:
        InvalidInputError: A newer rigwise wrote the store, or the file is another program's database.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sqlalchemy().text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    found = revision(connection)
    if found == HEAD:
        return
    present = set(sqlalchemy().inspect(connection).get_table_names())
    if found is None:
        ours = {name for name in present if name.startswith(PREFIX)}
        if ours or (present and connection.dialect.name == "sqlite"):
            raise InvalidInputError(
                f"{shown} is the database of another program", hint="RIGWISE_STORE names another file"
            )
    elif found not in known_revisions():
        raise newer(shown, found)
    _upgrade(connection)


def newer(shown: str, found: str) -> InvalidInputError:
    """The error for a store that this version does not know."""
    return InvalidInputError(
        f"{shown} was written by a newer rigwise (form {found}, this one knows {HEAD})",
        hint="upgrade rigwise, or name another store with RIGWISE_STORE",
    )


def revision(connection: Any) -> str | None:
    """The form of the tables that are there; None where there are none."""
    sa = sqlalchemy()
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return None if found is None else str(found)


def known_revisions() -> tuple[str, ...]:
    """All forms that a store can have had, the newest first."""
    return tuple(script.revision for script in _scripts(_config()).walk_revisions())


def _config() -> Any:
    try:
        from alembic.config import Config
    except ImportError:
        raise MissingExtraError("Alembic", "store") from None
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _scripts(config: Any) -> Any:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(config)


def _upgrade(connection: Any) -> None:
    """Run the migrations that are missing, in the transaction that is open."""
    config = _config()
    scripts = _scripts(config)
    from alembic.runtime.environment import EnvironmentContext

    def steps(present: Any, context: Any) -> Any:
        del context
        return scripts._upgrade_revs("head", present)

    with EnvironmentContext(config, scripts, fn=steps) as environment:
        environment.configure(connection=connection, version_table=VERSION_TABLE, transactional_ddl=True)
        environment.run_migrations()
