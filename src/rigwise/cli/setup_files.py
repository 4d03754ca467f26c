"""Several files into a folder, all of them or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rigwise.errors import InvalidInputError

#: What is started and not read.
_PROGRAMS = (".sh",)


def write_files(folder: str, files: Mapping[str, str], *, force: bool) -> None:
    """Write every file of a target below a folder.

    They are written beside it first and then moved in; if that fails half-way, what was there is put back.

    Raises:
        InvalidInputError: A file is there already and ``force`` is not given, or the place cannot be written to.
    """
    place = Path(folder)
    try:
        there = [name for name in files if (place / name).exists() or (place / name).is_symlink()]
        if there and not force:
            more = f" and {len(there) - 3} more" if len(there) > 3 else ""
            raise InvalidInputError(
                f"{folder} has {', '.join(there[:3])}{more} already",
                hint="--force replaces them, or name another folder",
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".rigwise-setup-") as beside:
            new, old = Path(beside) / "new", Path(beside) / "old"
            for name, text in files.items():
                _write(new / name, text)
            _move_in(place, new, old, list(files))
    except OSError as error:
        raise InvalidInputError(f"{folder} cannot be written: {error.strerror or error}") from None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    if path.suffix in _PROGRAMS:
        path.chmod(path.stat().st_mode | 0o111)


def _move_in(place: Path, new: Path, old: Path, names: list[str]) -> None:
    """Move the new files to their places, the ones that were there aside."""
    if not place.exists():
        os.rename(new, place)
        return
    done: list[str] = []
    try:
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (old / name).parent.mkdir(parents=True, exist_ok=True)
            if (place / name).is_symlink() or (place / name).is_file():
                os.replace(place / name, old / name)
            done.append(name)
            os.replace(new / name, place / name)
    except BaseException:
        for name in done:
            if (old / name).exists() or (old / name).is_symlink():
                shutil.move(old / name, place / name)
            elif (place / name).is_file():
                (place / name).unlink()
        raise
