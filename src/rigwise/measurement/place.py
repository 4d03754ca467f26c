"""Where the store of measurements is: a file, or a database on a server."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigwise.errors import InvalidInputError
from rigwise.measurement.schema import sqlalchemy

#: Names the store: a file, a URL, or ``none``.
VARIABLE, NONE = "RIGWISE_STORE", "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a store is.

    Attributes:
        url: As SQLAlchemy takes it, with the password.
        path: Of the SQLite file; None for a server.
        shown: As messages name it, without the password.
        named: Whether the user chose it.
    """

    url: Any
    path: Path | None
    shown: str
    named: bool

    @property
    def exists(self) -> bool:
        """Whether there is anything to read; a server is only known when it is asked."""
        return self.path is None or self.path.exists()


def locate(url: str | None = None) -> Place:
    """Where the store is: ``url``, else ``RIGWISE_STORE``, else the platform's place for data.

    Args:
        url: A path, ``sqlite:///PATH`` or ``postgresql://USER@HOST/DATABASE``.

    Raises:
        InvalidInputError: It is no such thing, or there is no place for data.
        MissingExtraError: SQLAlchemy is not installed.
    """
    text = url if url is not None else os.environ.get(VARIABLE, "")
    if text == NONE:
        raise InvalidInputError("there is no store: it was said to be 'none'", hint=f"{VARIABLE}=FILE names one")
    if url is not None and not text.strip():
        raise InvalidInputError("--store is empty", hint="name a file or postgresql://USER@HOST/DATABASE")
    if "://" not in text:
        path = Path(text).expanduser() if text else data_folder() / "measurements.sqlite"
        return Place(url=_sqlite_url(path), path=path, shown=str(path), named=bool(text))
    try:
        parsed = sqlalchemy().engine.make_url(text)
    except (sqlalchemy().exc.ArgumentError, ValueError):
        raise InvalidInputError("the URL of the store cannot be read", hint="postgresql://USER@HOST/DATABASE") from None
    kind = parsed.drivername.partition("+")[0]
    if kind == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.query:
            raise InvalidInputError("the URL of the store names no file", hint="sqlite:///PATH, or the path alone")
        path = Path(parsed.database)
        return Place(url=_sqlite_url(path), path=path, shown=str(path), named=True)
    if kind not in ("postgresql", "postgres"):
        raise InvalidInputError(f"a store cannot be kept in {kind[:40]!r}", hint="sqlite:///PATH or postgresql://...")
    shown = parsed.set(drivername="postgresql", query={}).render_as_string(hide_password=True)
    return Place(url=parsed.set(drivername="postgresql+psycopg"), path=None, shown=shown, named=True)


def _sqlite_url(path: Path) -> Any:
    return sqlalchemy().engine.URL.create("sqlite+pysqlite", database=str(path))


def data_folder() -> Path:
    """The platform's place for what a user's programs keep.

    Raises:
        InvalidInputError: The user has no home.
    """
    try:
        home = Path.home()
    except RuntimeError:
        raise InvalidInputError(
            "there is no home folder to keep a store in", hint=f"{VARIABLE}=FILE names one"
        ) from None
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = home / "Library" / "Application Support"
    else:
        folder = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return folder / "rigwise"
