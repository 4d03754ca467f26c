"""Which files a factory's model came from, so that its capture can be kept until one of them changes."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from pathlib import Path
from typing import Any

_PACKAGE = str(Path(__file__).parents[2])


class FilesRead:
    """Listens, from its making on, to every file that this process opens for reading.

    Imported modules are added by ``paths``, as Python reads their compiled form. Files of Python, of
    installed packages and of the system are left out: versions stand for them.
    """

    def __init__(self) -> None:
        self._opened: set[str] = set()
        self._elsewhere = tuple(
            os.path.realpath(place)
            for place in {
                *site.getsitepackages(),
                *sysconfig.get_paths().values(),
                sys.prefix,
                sys.base_prefix,
                _PACKAGE,
            }
        )
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str | bytes):
            return
        mode = arguments[1]
        if mode is None or "r" in mode:
            self._opened.add(os.fsdecode(arguments[0]))

    def paths(self) -> list[str]:
        """Absolute paths of the author's own files, sorted."""
        modules = [getattr(m, "__file__", None) for name, m in list(sys.modules.items()) if name != "__main__"]
        return sorted({os.path.realpath(p) for p in (*self._opened, *filter(None, modules)) if self._is_authors(p)})

    def _is_authors(self, path: str) -> bool:
        real = os.path.realpath(path)
        if real.endswith(".pyc") or real.startswith(("/proc/", "/sys/", "/dev/", "/etc/")) or not os.path.isfile(real):
            return False
        return not any(real.startswith(f"{place}{os.sep}") for place in self._elsewhere)
