"""What every file is written from, and the few ways in which it is written."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rigwise.errors import InvalidInputError
from rigwise.sandbox.environment import Environment
from rigwise.sandbox.place import Place

#: Columns of the comments in a file.
_WIDTH = 100
#: A word of a command that names a variable: quoted so that the variable is still read where the job runs.
_WITH_VARIABLE = re.compile(r"[\w@%+=:,./-]*(\$(\w+|\{\w+\})[\w@%+=:,./-]*)+")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")
_MODULE = re.compile(r"[\w./+-]{1,100}")
_IMAGE = re.compile(r"[\w./:@-]{1,200}")
_WORD_LIMIT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A place, its environment, and what to start there.

    Attributes:
        place, environment: Where, and on which versions.
        command: Words of the job; empty for the check that comes with the files.
        name: Of the job.
        modules: To load first, as the cluster calls them.
        image: Of containers that are already built; empty for none.
        accelerator: What the scheduler or cloud calls the device; empty to look it up.
        level: How far this target has been verified, one sentence for the comment.
        locked: Every package with its hashes, in place of the requirements; empty if it was not locked.
    """

    place: Place
    environment: Environment
    command: tuple[str, ...] = ()
    name: str = "rigwise"
    modules: tuple[str, ...] = ()
    image: str = ""
    accelerator: str = ""
    level: str = ""
    locked: str = ""

    def __post_init__(self) -> None:
        """Refuse what could end a line, a comment or a quotation in a file.

        Raises:
            InvalidInputError: A name, module, image or word cannot stand in a file.
        """
        faults = [
            *([("--name", self.name)] if not _NAME.fullmatch(self.name) else []),
            *[("--module", module) for module in self.modules if not _MODULE.fullmatch(module)],
            *([("--image", self.image)] if self.image and not _IMAGE.fullmatch(self.image) else []),
            *([("--accelerator", self.accelerator)] if not re.fullmatch(r"[\w.-]{0,60}", self.accelerator) else []),
            *[("the command", word) for word in self.command if not _is_word(word)],
        ]
        if faults:
            what, text = faults[0]
            raise InvalidInputError(f"{what} is {text[:40]!r}", hint="plain words without line breaks are expected")

    @property
    def words(self) -> tuple[str, ...]:
        """The job's command; the check of this place where none was given."""
        return self.command or ("python", "check.py", *self.check_arguments)

    @property
    def check_arguments(self) -> tuple[str, ...]:
        """How the check is told what it has to find on one node."""
        framework = () if self.environment.framework == "torch" else ("--framework", self.environment.framework)
        return (*framework, "--devices", str(self.place.gpus_per_node))

    @property
    def is_python(self) -> bool:
        """Whether the command starts Python, so that a launcher can start it once for each GPU."""
        return self.words[0] in ("python", "python3")


def _is_word(word: str) -> bool:
    return 0 < len(word) <= _WORD_LIMIT and word.isprintable()


def quoted(words: Iterable[str]) -> str:
    r"""A command for a shell; ``$NAME`` is left for the shell that runs it.

    >>> quoted(["python", "a b.py", "--token=$HF_TOKEN"])
    'python \'a b.py\' "--token=$HF_TOKEN"'
    """
    return " ".join(f'"{word}"' if _WITH_VARIABLE.fullmatch(word) else shlex.quote(word) for word in words)


def comments(lines: Iterable[str], prefix: str = "# ") -> str:
    """Lines as comments, wrapped; each ends with a line break."""
    found = []
    for line in lines:
        rest = f"{prefix}  "
        found += textwrap.wrap(
            line, _WIDTH, initial_indent=prefix, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
        )
    return "".join(f"{line}\n" for line in found)


def explanation(setting: Setting, *what: str) -> str:
    """The reasons as comments."""
    return comments(reasons(setting, *what))


def reasons(setting: Setting, *what: str) -> list[str]:
    """Where a file is for, each choice with its reason and source, and how far the target was verified."""
    place, environment = setting.place, setting.environment
    nodes = f"{place.nodes} nodes, " if place.nodes > 1 else ""
    many = f"{place.count} x " if place.has_gpu else ""
    lines = [*what, f"For {nodes}{many}{place.device_name}, {place.of}."]
    for choice in environment.choices:
        lines.append(f"{choice.what} {choice.value}: {choice.why} [{choice.source}]")
    lines += [f"assumed: {text}" for text in environment.assumed]
    if setting.level:
        lines.append(setting.level)
    return lines


def requirements(setting: Setting) -> str:
    """``requirements.txt``: the framework from its own index, everything exact."""
    environment = setting.environment
    index = f"--index-url {environment.index}\n" if environment.index else ""
    note = comments(["The index holds the framework and all that it depends on; nothing else is asked elsewhere."])
    head = explanation(setting, "Install with: python -m pip install --requirement requirements.txt")
    head += comments(["Every package with its hashes: pip refuses a file that is another."]) if setting.locked else ""
    lines = setting.locked or "".join(f"{line}\n" for line in environment.requirements)
    return head + (note if index else "") + index + lines


def check_script() -> str:
    """The text of ``check.py``."""
    return Path(__file__).with_name("check.py").read_text(encoding="utf-8")


def minutes(time_s: float) -> int:
    """Whole minutes that are long enough, at least one.

    >>> minutes(61.0), minutes(1.0)
    (2, 1)
    """
    return max(1, -int(-time_s // 60))
