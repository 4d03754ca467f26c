"""The one place that reads files and runs commands of a machine: this one, or a captured tree.

A captured tree is a folder with the same paths below it (``proc/cpuinfo``, ``sys/...``), the outputs of commands as
``commands/nvidia-smi_-q_-x`` (with ``.exit`` beside it for an exit code other than 0, or the word ``hang``), the
environment as lines of ``environment`` and installed Python packages below ``python/site-packages``. It is untrusted:
nothing is read through a link that leaves it, nothing but regular files, and never more than a limit.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rigwise.errors import InvalidInputError, RigwiseError
from rigwise.machine.snapshot import Confidence, Field, Value, printable, unknown

#: No file of the kernel that is read here is larger; /proc/cpuinfo of 256 CPUs has 400 kB.
TEXT_LIMIT_BYTES = 4 * 2**20
#: Read at once: for some of its files the kernel sets aside as much memory as is asked for.
READ_BYTES = 64 * 2**10
#: Names of one folder that are looked at.
NAMES_LIMIT = 20_000
#: A driver that works answers in less, unless it has to wake many GPUs first; one that hangs is left alone.
COMMAND_LIMIT_S = 5.0

#: Where the packages of a captured tree lie.
SITE = "/python/site-packages"
#: Variables that change what a framework sees of a machine; no others are looked at.
VARIABLES = re.compile(
    r"(CUDA_VISIBLE_DEVICES|CUDA_DEVICE_ORDER|NVIDIA_(VISIBLE_DEVICES|DRIVER_CAPABILITIES)|(HIP|ROCR)_VISIBLE_DEVICES"
    r"|ZE_AFFINITY_MASK|LD_LIBRARY_PATH|OMP_NUM_THREADS|MKL_NUM_THREADS|CONDA_PREFIX|VIRTUAL_ENV|PYTORCH_(CUDA_)?ALLOC_CONF"
    r"|NCCL_(P2P_DISABLE|IB_DISABLE|SOCKET_IFNAME|DEBUG)|KUBERNETES_SERVICE_HOST|(APPTAINER|SINGULARITY)_CONTAINER|container"
    r"|SLURM_(JOB_ID|JOB_PARTITION|CPUS_PER_TASK|CPUS_ON_NODE|JOB_GPUS|GPUS_ON_NODE|NNODES|NTASKS|MEM_PER_NODE)"
    r"|PBS_(JOBID|NODEFILE|NCPUS)|NCPUS|LSB_JOBID|COLAB_(GPU|RELEASE_TAG)|KAGGLE_KERNEL_RUN_TYPE|WSL_DISTRO_NAME)"
)

#: What tells one machine from all others of its kind, in what tools print; a captured tree does without.
IDENTITIES = re.compile(
    r"(?<=<uuid>)[^<]+|(?<=<serial>)[^<]+|(?<=<process_name>)[^<]+|(?<=<pid>)\d+|(?<=<clusterUuid>)[^<]+"
    r"|(?:GPU|MIG)-[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|(?<=Serial Number: )\S.*|(?<=Asset Tag: )\S.*"
)

T = TypeVar("T")


class Unreadable(Exception):  # noqa: N818  # an answer of a probe, not a fault of the program
    """A file or command gave nothing that can be used; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """Where a machine is read from.

    Attributes:
        folder: A captured tree, None for this computer.
        record: Write what is read of this computer to this folder, as a captured tree.
        limit_s: A command that has not answered by then is ended.
    """

    folder: Path | None = None
    record: Path | None = None
    limit_s: float = COMMAND_LIMIT_S

    @property
    def live(self) -> bool:
        """Whether this computer is read."""
        return self.folder is None

    @property
    def foreign(self) -> bool:
        """Whether this computer keeps nothing where Linux does, nor where a Mac does."""
        return self.live and not self.exists("/proc/self") and not self.has_program("sw_vers")

    def text(self, path: str, *, kept: Callable[[str], str] = str, limit_bytes: int = TEXT_LIMIT_BYTES) -> str:
        """The content of a file of the machine, without the white space at its ends.

        Args:
            path: On the machine.
            kept: What of it a captured tree gets.
            limit_bytes: A larger file is not read.

        Raises:
            Unreadable: There is none, it is no regular file, or it may not be read.
        """
        content = printable(self.content(path, limit_bytes=limit_bytes).decode("utf-8", "replace")).strip()
        self.keep(path, kept(content) + "\n")
        return content

    def content(self, path: str, *, limit_bytes: int) -> bytes:
        """The first bytes of a file of the machine; same errors as ``text``."""
        file = self.place(path)
        handle = -1
        try:
            handle = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise Unreadable("it is no regular file")
            content = b""
            while len(content) <= limit_bytes and (part := os.read(handle, READ_BYTES)):
                content += part
        except FileNotFoundError:
            raise Unreadable("there is no such file") from None
        except (OSError, ValueError) as error:
            raise Unreadable(_why(error)) from None
        finally:
            if handle >= 0:
                os.close(handle)
        if len(content) > limit_bytes:
            raise Unreadable(f"it has over {limit_bytes:,} bytes")
        return content

    def place(self, path: str) -> Path:
        """Where a path of the machine lies; inside the tree, if it is captured.

        Raises:
            Unreadable: A link of the tree leads out of it.
        """
        if self.folder is None:
            return Path(path)
        try:
            found = (self.folder / path.lstrip("/")).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise Unreadable(_why(error)) from None
        if not found.is_relative_to(self.folder):
            raise Unreadable("a link leads out of the tree")
        return found

    def exists(self, path: str) -> bool:
        """Whether the machine has this path, of whatever kind."""
        try:
            found = os.path.lexists(self.place(path))
        except Unreadable:
            return False
        if found and self.record is not None:
            self._touch(path)
        return found

    def names(self, path: str, matching: str = "") -> list[str]:
        """The sorted names in a folder of the machine that match a pattern, none if it cannot be listed."""
        pattern = re.compile(matching)
        try:
            with os.scandir(self.place(path)) as entries:
                found = [entry.name for entry, _ in zip(entries, range(NAMES_LIMIT), strict=False)]
        except (OSError, ValueError, Unreadable):
            return []
        found = sorted(name for name in found if pattern.match(name))
        if self.record is not None:
            for name in found:
                self._touch(f"{path}/{name}")
        return found

    def target(self, path: str) -> str:
        """The last part of what a link of the machine points to; empty if it is none."""
        try:
            link = os.readlink(path if self.folder is None else self.folder / path.lstrip("/"))
        except (OSError, ValueError):
            return ""
        if self.record is not None:
            self.keep(path, None, link=f"../{Path(link).name}")
        return link.rstrip("/").rpartition("/")[2]

    def run(self, *command: str, name: str = "", limit_s: float | None = None) -> str:
        """What a command of the machine prints.

        Args:
            command: The program and its arguments.
            name: What its output is called in a captured tree; else the words of the command.
            limit_s: It is ended after this time; None for the root's own limit.

        Raises:
            Unreadable: It is not installed, fails or takes too long; the reason holds what it said.
        """
        called = name or "_".join(command).replace("/", "-")
        if self.folder is not None:
            return self._recorded(called)
        limit_s = limit_s or self.limit_s
        program = shutil.which(command[0])
        if program is None:
            raise Unreadable(f"{command[0]} is not installed")
        try:
            done = subprocess.run(
                [program, *command[1:]], capture_output=True, stdin=subprocess.DEVNULL, timeout=limit_s, check=False,
                env={**os.environ, "LC_ALL": "C"},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Unreadable(f"{command[0]} did not answer in {limit_s:g} s") from None
        except (OSError, ValueError) as error:
            raise Unreadable(_why(error)) from None
        text = done.stdout[:TEXT_LIMIT_BYTES] + (done.stderr[:2000] if done.returncode else b"")
        said = printable(text.decode("utf-8", "replace"))
        self.keep(f"commands/{called}", said)
        if done.returncode:
            self.keep(f"commands/{called}.exit", f"{done.returncode}\n")
        return _checked(command[0], str(done.returncode), said)

    def _recorded(self, called: str) -> str:
        try:
            said = self.text(f"/commands/{called}")
        except Unreadable as error:
            no_file = "there is no such file" in str(error)
            raise Unreadable(f"{called.partition('_')[0]} is not installed" if no_file else str(error)) from None
        try:
            code = self.text(f"/commands/{called}.exit")
        except Unreadable:
            code = "0"
        return _checked(called.partition("_")[0], code, said)

    def variables(self) -> dict[str, str]:
        """Variables of the environment that change what a framework sees; no others, and no secrets."""
        found: Mapping[str, str] = os.environ
        if self.folder is not None:
            try:
                lines = self.text("/environment").splitlines()
            except Unreadable:
                return {}
            found = {key: value for key, _, value in (line.partition("=") for line in lines)}
        named = {key: value[:4096] for key, value in found.items() if VARIABLES.fullmatch(key)}
        self.keep("environment", "".join(f"{key}={value}\n" for key, value in named.items()))
        return named

    def packages(self) -> list[str]:
        """Folders in which Python packages are installed."""
        if self.folder is not None:
            return [SITE]
        found = [os.path.abspath(folder) for folder in sys.path if folder.endswith(("site-packages", "dist-packages"))]
        return list(dict.fromkeys(found))

    def has_program(self, name: str) -> bool:
        """Whether a program can be started by its name."""
        if self.folder is None:
            found = shutil.which(name) is not None
            if found and self.record is not None:
                self.keep(f"usr/bin/{name}", "")
            return found
        return any(self.exists(f"/{folder}/{name}") for folder in ("usr/bin", "bin", "usr/local/bin", "usr/sbin"))

    def field(self, path: str, convert: Callable[[str], Value] = str, *, kept: Callable[[str], str] = str) -> Field:
        """A field that is one file; unknown with the reason if it cannot be read or understood."""
        return attempt(path, lambda: convert(self.text(path, kept=kept)))

    def _touch(self, path: str) -> None:
        """Add that a path is there to the tree that is being recorded."""
        if self.record is None or os.path.lexists(self.record / self._logical(path)):
            return
        if os.path.isdir(path):
            (self.record / self._logical(path)).mkdir(parents=True, exist_ok=True)
        else:
            self.keep(path, "")

    def _logical(self, path: str) -> str:
        for folder in self.packages():
            path = path.replace(folder, SITE)
        return path.lstrip("/")

    def keep(self, path: str, content: str | None, *, link: str = "") -> None:
        """Add to the tree that is being recorded."""
        if self.record is None or not self.live:
            return
        file = self.record / self._logical(path)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if link:
                file.unlink(missing_ok=True)
                file.symlink_to(link)
            else:
                file.write_text(IDENTITIES.sub("hidden", content or ""), encoding="utf-8")
        except OSError as error:
            raise InvalidInputError(f"{file} cannot be written: {error.strerror or error}") from None


def attempt(source: str, read: Callable[[], Value], confidence: Confidence = Confidence.READ) -> Field:
    """A field from a function that may fail in any way; what fails is unknown, with the reason.

    >>> attempt("a file", lambda: int("many")).reason
    'it cannot be understood'
    """
    try:
        value = read()
    except Unreadable as error:
        return unknown(source, str(error))
    except RigwiseError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, StopIteration):
        return unknown(source, "it cannot be understood")
    if value is None or value == "":
        return unknown(source, "there is none")
    return Field(value=value, source=source, confidence=confidence)


def open_root(folder: str | Path) -> Root:
    """A captured tree.

    Raises:
        InvalidInputError: It is no folder, or has neither ``proc``, ``sys`` nor ``commands``.
    """
    place = Path(folder)
    try:
        if not place.is_dir():
            raise InvalidInputError(f"{place} is {'no folder' if place.exists() else 'not there'}")
        if not any((place / name).is_dir() for name in ("proc", "sys", "commands")):
            raise InvalidInputError(
                f"{place} is no captured tree: it has neither proc, sys nor commands",
                hint="rigwise inspect --capture DIR writes one",
            )
        return Root(folder=place.resolve())
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{place} cannot be read: {_why(error)}") from None


def _why(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def _checked(program: str, code: str, said: str) -> str:
    if code == "hang":
        raise Unreadable(f"{program} did not answer in {COMMAND_LIMIT_S:g} s")
    if code != "0":
        raise Unreadable(f"{program} ended with {code}: {' '.join(said.split())[:200]}".rstrip(": "))
    return said
