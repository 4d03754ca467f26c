"""A question as a query string asks it: the flags of the command line, by the same names and in the same words.

``?model=resnet50&samples=128e6&deadline=12h`` is ``rigwise plan resnet50 --samples 128e6 --deadline 12h``. The flags,
their choices and their help come from the commands themselves, so that what one understands the other does. Flags that
name a file are left out: nothing that a browser sends is opened as a path. A job file stands in the key ``job`` itself.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

import click

from rigwise.errors import InvalidInputError, RigwiseError, UnknownNameError, near_matches

if TYPE_CHECKING:
    from rigwise.workload.case import Case
    from rigwise.workload.job import Job
    from rigwise.workload.serving_load import ServingJob

PREDICT, COMPARE, PLAN, HISTORY = "predict", "compare", "plan", "history"
#: Tables of the catalogue, each a command of this name.
CATALOGUES = ("devices", "cpus", "offers", "parts", "models")
KINDS = (PREDICT, COMPARE, PLAN, HISTORY, *CATALOGUES)

MOST_VALUES = 64
LONGEST_VALUE = 300
_MOST_PAIRS = 500
#: What a table or a history shows unless ``limit`` says more, and the most that it can say.
USUAL_ROWS, MOST_ROWS = 100, 10_000
#: What an upload is called; whoever knows it may use it.
UPLOAD = re.compile(r"upload-[A-Za-z0-9_-]{22}")

#: Flags of a case that a query may give; those that name files are none of them.
_CASE = (
    "device", "names", "count", "nodes", "task", "batch", "seq", "image_size", "context", "dtype", "layout", "mode",
    "method", "lora_rank", "optimizer", "recompute", "data", "tensor", "pipeline", "context_parallel", "expert",
    "zero", "micro_batch", "update", "staleness", "link", "inter_node_gbps", "host", "power_limit", "runtime",
    "torch", "attention", "threads",
)  # fmt: skip
_HISTORY = ("kinds", "names", "machines", "tags", "since", "until", "limit")
#: A job file of its own, whole; it may be repeated. It is only looked at as text here, and read in a worker.
JOB, SHARE = "job", "share"
MOST_JOBS, LONGEST_JOB = 16, 16_000
#: What may stand beside jobs that share machines; of other jobs nothing may.
_OF_SHARED = frozenset({SHARE, "deadline", "gap"})
#: Keys of a job that name files.
_FILES = frozenset({"quota", "loss_curve", "until_loss"})
_FLAG = re.compile(r"--([a-z][a-z-]*[a-z])")
#: This machine, or a part of it; a snapshot on the server's disk is none of the browser's business.
_THIS = re.compile(r"this(:cpu|:gpu\d{0,2})?")


class FieldError(InvalidInputError):
    """What is wrong, and with which key of the query."""

    def __init__(self, message: str, *, hint: str = "", field: str = "") -> None:
        super().__init__(message, hint=hint)
        self.field = field

    def as_dict(self) -> dict[str, str]:
        """As the error that it is; the key stands beside it."""
        return {**super().as_dict(), "type": InvalidInputError.__name__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One key of a query.

    Attributes:
        name: As in the query: a flag without its dashes.
        help: What it means, in a sentence.
        choices: All values, where there are few; ``("true", "false")`` for a switch.
        default: What stands if it is not given, in words; empty where nothing does.
        many: It may be repeated.
        needed: The question means nothing without it.
        longest: Characters of a value.
    """

    name: str
    help: str
    choices: tuple[str, ...] = ()
    default: str = ""
    many: bool = False
    needed: bool = False
    longest: int = LONGEST_VALUE


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that was checked: every key is known and every value is one of its key.

    Attributes:
        kind: One of ``KINDS``.
        values: Key and its values, in the order of the command's help; nothing that was left empty.
    """

    kind: str
    values: tuple[tuple[str, tuple[str, ...]], ...]

    def all(self, name: str) -> tuple[str, ...]:
        """The values of a key, none if it was not given."""
        return dict(self.values).get(name, ())

    def text(self, name: str, default: str = "") -> str:
        """The value of a key."""
        return (*self.all(name), default)[0]

    @property
    def query(self) -> str:
        """The query string that asks the same again, always the same for the same question."""
        return urlencode([(name, value) for name, values in self.values for value in values])

    @property
    def command(self) -> str:
        """What to type into a terminal for the same answer; an upload is called MODEL, a job file JOB.toml."""
        options = _options(self.kind)
        jobs = range(1, len(self.all(JOB)) + 1)
        words = ["MODEL" if UPLOAD.fullmatch(name) else name for name in self.all("model")]
        words += [f"JOB-{number}.toml" for number in jobs] if len(jobs) > 1 else ["JOB.toml" for _ in jobs]
        words = ["rigwise", self.kind, *words]
        for name, values in self.values:
            for word in _typed(options[name], values) if name in options else []:
                flag, equals, value = word.partition("=")
                words += [word] if value.startswith("-") or not equals else [flag, value]
        return shlex.join(words)


def _typed(option: click.Option, values: Iterable[str]) -> list[str]:
    """A key as words of a command line; a value never stands alone, where it could be taken for another flag."""
    flag = option.opts[-1]
    if not option.is_flag:
        return [f"{flag}={value}" for value in values]
    no = option.secondary_opts[-1:]
    return [word for value in values for word in ([flag] if click.BOOL.convert(value, option, None) else no)]


@cache
def fields(kind: str) -> tuple[Field, ...]:
    """The keys that a kind of question has, in the order of the command's help.

    Raises:
        UnknownNameError: There is no such kind.
    """
    found = [_field(kind, name, option) for name, option in _options(kind).items()]
    if kind in (PREDICT, COMPARE, PLAN):
        found.insert(0, Field(name="model", help="A name of the zoo, or of an upload.", needed=kind != PLAN))
    if kind == PLAN:
        words = "In place of a model: a job file, as text; several are planned side by side, or together with share."
        found.insert(1, Field(name=JOB, help=words, many=True, longest=LONGEST_JOB))
    return tuple(found)


def _field(kind: str, name: str, option: click.Option) -> Field:
    words, _, default = (option.help or "").partition("  [default: ")
    choices: tuple[str, ...] = ("true", "false") if option.is_flag else ()
    if isinstance(option.type, click.Choice):
        choices = tuple(str(choice) for choice in option.type.choices)
    usual = option.default if isinstance(option.default, str | int) else ""
    return Field(
        name=name,
        help=words,
        choices=choices,
        default=str(USUAL_ROWS) if name == "limit" else default.rstrip("]") or str(usual),
        many=option.multiple,
        needed=name == "device" and kind in (PREDICT, COMPARE),
    )


def _command(kind: str) -> click.Command:
    """The command that a kind of question is asked with.

    Raises:
        UnknownNameError: There is no such kind.
    """
    if kind not in KINDS:
        raise UnknownNameError(f"there is no question {kind!r}", hint=near_matches(kind, KINDS))
    command: click.Command = import_module(f"rigwise.cli.{kind}").command
    return command


@cache
def _options(kind: str) -> Mapping[str, click.Option]:
    """Key -> the option of the command that it stands for."""
    command = _command(kind)
    if kind == PLAN:
        from rigwise.cli.plan_options import PLACES

        allowed = {SHARE} | set(PLACES) - _FILES
    elif kind in CATALOGUES:
        table = import_module(f"rigwise.cli.{kind}").TABLE
        allowed = {"sort", "limit", *(field.name.replace("-", "_") for field in table.fields)}
    else:
        allowed = set(_HISTORY if kind == HISTORY else _CASE)
    options = [one for one in command.params if isinstance(one, click.Option) and one.name in allowed]
    return {one.opts[-1].removeprefix("--"): one for one in options}


def question(kind: str, pairs: Iterable[tuple[str, str]]) -> Question:
    """The question of a query string, checked key by key.

    Raises:
        FieldError: A key is unknown, given twice or needed, or its value is none of its; names the key.
        UnknownNameError: There is no such kind of question.

    >>> question("predict", [("model", "resnet50"), ("device", "t4"), ("batch", "")]).query
    'model=resnet50&device=t4'
    """
    known = {field.name: field for field in fields(kind)}
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in known:
            close = near_matches(name, known) or f"it has {', '.join(known)}"
            raise FieldError(f"{kind} has no key {name[:60]!r}", hint=close)
        if value.strip():
            given.setdefault(name, []).append(job_text(value) if name == JOB else _checked(name, value))
    for name, values in given.items():
        if len(values) > (MOST_JOBS if name == JOB else MOST_VALUES if known[name].many else 1):
            raise FieldError(f"{name} is given {len(values)} times", field=name)
    for field in known.values():
        if field.needed and field.name not in given:
            raise FieldError(f"{kind} needs a {field.name}", field=field.name)
    if kind == PLAN:
        _check_jobs(given)
    if "limit" in known:
        given.setdefault("limit", [str(USUAL_ROWS)])
    asked = Question(kind=kind, values=tuple((name, tuple(given[name])) for name in known if name in given))
    _check_names(asked)
    flags(asked)
    return asked


def _checked(name: str, value: str) -> str:
    if len(value) > LONGEST_VALUE or not value.isprintable():
        raise FieldError(f"{name} is no printable text of at most {LONGEST_VALUE} characters", field=name)
    return value.strip()


def named(text: str) -> list[str]:
    """The uploads that a text names, each once."""
    return list(dict.fromkeys(UPLOAD.findall(text)))


def job_text(value: str) -> str:
    """A job file as it was sent, its lines ended as everywhere.

    Raises:
        FieldError: It is longer than any that is read here, or no text.
    """
    text = value.replace("\r\n", "\n").replace("\r", "\n").strip()
    if len(text) > LONGEST_JOB or not text.replace("\n", " ").replace("\t", " ").isprintable():
        raise FieldError(f"job is no printable text of at most {LONGEST_JOB:,} characters", field=JOB)
    return text


def _check_jobs(given: Mapping[str, list[str]]) -> None:
    """A plan is of a model and flags, or of job files, which say everything themselves."""
    if JOB not in given:
        if SHARE in given:
            raise FieldError("share is for job files", hint="give them as job", field=SHARE)
        if "model" not in given:
            raise FieldError("plan needs a model, or a job", field="model")
        return
    try:
        shared = click.BOOL.convert(given.get(SHARE, ["false"])[0], None, None)
    except click.BadParameter as error:
        raise FieldError(f"{SHARE}: {error.message}", field=SHARE) from None
    for name in given.keys() - {JOB, SHARE} - (_OF_SHARED if shared else set()):
        hint = "write it into the job" + ("" if shared or name not in _OF_SHARED else ", or give share")
        raise FieldError(f"{name} cannot be combined with a job file", hint=hint, field=name)


def _check_names(asked: Question) -> None:
    """Models are of the zoo or uploaded, and devices of the catalogue or this machine; nothing is a path."""
    if asked.kind in CATALOGUES or asked.kind == HISTORY:
        return
    if len(devices(asked)) > MOST_VALUES:
        raise FieldError(f"at most {MOST_VALUES} devices are compared at once", field="device")
    check_names(asked.all("model"), devices(asked))


def check_names(models: Iterable[str], named: Iterable[str]) -> None:
    """Refuse a model or a device that is a file, or code.

    Raises:
        FieldError: A model is neither of the zoo nor uploaded, or a device a file.
    """
    from rigwise.graph.load import zoo_names
    from rigwise.machine.this import is_local

    for model in models:
        if model.lower() not in zoo_names() and not UPLOAD.fullmatch(model):
            close = near_matches(model, zoo_names()) or "choose one of the zoo, or upload a file"
            raise FieldError(f"there is no model {model!r} in the zoo", hint=close, field="model")
    for device in named:
        if is_local(device) and not _THIS.fullmatch(device):
            hint = "choose one of the catalogue, or this"
            raise FieldError(f"{device!r} is a file, which is not read from here", hint=hint, field="device")


def devices(asked: Question) -> list[str]:
    """The devices that a question names; to compare, ``a,b`` are two."""
    if asked.kind != COMPARE:
        return list(asked.all("device"))
    return [name.strip() for text in asked.all("device") for name in text.split(",") if name.strip()]


def flags(asked: Question) -> dict[str, Any]:
    """The values as the command reads them from a line that says the same.

    Raises:
        FieldError: A value is none of its key.
    """
    options = _options(asked.kind)
    try:
        words = [word for name, values in asked.values if name in options for word in _typed(options[name], values)]
        words += ["--", *asked.all("model")] if asked.all("model") else []
        found: dict[str, Any] = _command(asked.kind).make_context(asked.kind, words).params
    except click.BadParameter as error:
        name = error.param.opts[-1].removeprefix("--") if error.param else ""
        raise FieldError(f"{name}: {error.message}", field=name) from None
    except click.ClickException as error:
        raise FieldError(error.message) from None
    if not 1 <= found.get("limit", 1) <= MOST_ROWS:
        raise FieldError(f"limit is {found['limit']}", hint=f"give 1 to {MOST_ROWS}", field="limit")
    return found


def field_at_fault(asked: Question, error: RigwiseError) -> str:
    """The key that an error is about, empty where its words do not tell.

    They name the flag, quote the value, or begin with the key.
    """
    if isinstance(error, FieldError):
        return error.field
    names = [field.name for field in fields(asked.kind)]
    named: list[str] = [flag for flag in _FLAG.findall(error.message) if flag in names]
    quoted = [name for name, values in asked.values for value in values if repr(value.lower()) in error.message.lower()]
    words = error.message.replace("_", "-").replace("parallel.", "")
    first = [name for name in names if re.match(rf"{re.escape(name)}\b(?!-)", words)]
    return (*named, *quoted, *first, *(JOB for _ in asked.all(JOB)), "")[0]


def cases(asked: Question) -> list[Case]:
    """One case for each device that a question of ``predict`` or ``compare`` names.

    Raises:
        RigwiseError: A value takes one number and was given several.
    """
    from rigwise.cli.case_options import case_from

    given = {name: value for name, value in flags(asked).items() if name != "names"}
    return [case_from(asked.text("model"), device, given) for device in devices(asked)]


def job(asked: Question) -> Job | ServingJob:
    """The job that a question of ``plan`` describes; no other file is read.

    Raises:
        RigwiseError: It is none; a message names the flag.
    """
    from rigwise.cli.plan_job import money
    from rigwise.cli.plan_options import PLACES, tables_of
    from rigwise.workload.job import COMMAND_LINE
    from rigwise.workload.job_file import Outside, job_from_tables
    from rigwise.workload.serving_file import is_serving, serving_job_from_tables

    given = {name: value for name, value in flags(asked).items() if name in PLACES and value not in (None, ())}
    tables = tables_of(asked.text("model"), given)
    read = serving_job_from_tables if is_serving(tables) else job_from_tables
    return read(tables, COMMAND_LINE, Outside(money=money))


def asked_by(kind: str, query: str) -> Question:
    """The question of a query string as it stands in a URL; same errors as ``question``."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_PAIRS)
    except ValueError:
        raise FieldError(f"the query has over {_MOST_PAIRS} keys") from None
    return question(kind, pairs)
