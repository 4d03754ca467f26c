"""Opens a recorded file of unknown kind and size, packed or not, and reads no more than is allowed."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from rigwise.errors import InvalidInputError

Progress = Callable[[int, int], None]

#: No profiler's file of a few steps is larger, unpacked.
LIMIT_BYTES = 4 * 2**30
#: Text packs ten- to thirtyfold. What packs better than this, past the first megabytes, is no trace.
_MOST_RATIO, _FREE_BYTES = 250, 64 * 2**20
CHUNK_BYTES = 1 << 20

GZIP, SQLITE = b"\x1f\x8b", b"SQLite format 3\x00"


class Source:
    """Chunks of a file, unpacked.

    Attributes:
        path: The file.
        is_torn: A packed file that ends before its end.
    """

    def __init__(self, path: Path, progress: Progress = lambda done, total: None) -> None:
        """Open it.

        Args:
            path: The file.
            progress: Called with the bytes of it that were read, and all.

        Raises:
            InvalidInputError: Missing, a folder, unreadable or empty.
        """
        self.path = path
        self.is_torn = False
        self._progress = progress
        self._read_bytes = 0
        try:
            if path.is_dir():
                raise InvalidInputError(f"{path} is a folder, not a file")
            if not path.is_file():
                known = path.exists()
                raise InvalidInputError(f"{path} is no regular file" if known else f"there is no file {path}")
            self._size = os.stat(path).st_size
            self._file: BinaryIO = path.open("rb")
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
        if not self._size:
            self._file.close()
            raise InvalidInputError(f"{path} is empty")
        self.head = self._file.read(len(SQLITE))
        self._file.seek(0)
        self.is_packed = self.head.startswith(GZIP)
        self._unpack = _unpacker()
        self._packed = b""
        self._is_between = True

    def chunk(self) -> bytes:
        """The next bytes; none at the end.

        Raises:
            InvalidInputError: More than is read, or packed in no usable way.
        """
        try:
            found = self._unpacked() if self.is_packed else self._file.read(CHUNK_BYTES)
        except (OSError, zlib.error) as error:
            if not self._read_bytes:
                raise InvalidInputError(f"{self.path} cannot be unpacked: {error}") from None
            self.is_torn = True
            return b""
        self._read_bytes += len(found)
        self._progress(self._file.tell(), self._size)
        if self.is_packed and self._read_bytes > _FREE_BYTES and self._read_bytes > _MOST_RATIO * self._size:
            raise InvalidInputError(f"{self.path} unpacks to over {_MOST_RATIO} times its size", hint="no trace does")
        if self._read_bytes > LIMIT_BYTES:
            raise InvalidInputError(
                f"{self.path} holds over {LIMIT_BYTES // 2**30} GiB", hint="record fewer steps, without Python stacks"
            )
        return found

    def _unpacked(self) -> bytes:
        """The next bytes of an archive of one part or several; what is left of one that ends too early."""
        while True:
            if not self._packed:
                self._packed = self._file.read(CHUNK_BYTES)
            if not self._packed:
                self.is_torn = not self._is_between
                if self.is_torn and not self._read_bytes:
                    raise zlib.error("it ends before anything is unpacked")
                return b""
            self._is_between = False
            found: bytes = self._unpack.decompress(self._packed, CHUNK_BYTES)
            self._packed = self._unpack.unconsumed_tail
            if self._unpack.eof:
                self._packed = self._unpack.unused_data.lstrip(b"\0")  # some writers pad
                self._unpack, self._is_between = _unpacker(), True
            if found:
                return found

    def text(self, limit_bytes: int) -> str:
        """All of it as text, of a short file.

        Raises:
            InvalidInputError: Too long, or no text in UTF-8.
        """
        held = io.BytesIO()
        while chunk := self.chunk():
            held.write(chunk)
            if held.tell() > limit_bytes:
                raise InvalidInputError(f"{self.path} is no output of a profiler that rigwise knows", hint=KNOWN)
        try:
            return held.getvalue().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise InvalidInputError(f"{self.path} is no output of a profiler that rigwise knows", hint=KNOWN) from None

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def _unpacker() -> Any:
    """Reads gzip: the window of deflate, with the frame of gzip around it."""
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


KNOWN = "a PyTorch or Chrome trace (.json, .json.gz), nsys export --type sqlite, or perf stat -o FILE"
