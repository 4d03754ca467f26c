"""A job: how much of which work, within which limits, and what "best" means.

A job comes from a TOML file or from flags. Both are the same nested tables before they are
read, so the same job written either way gives the same ``Job``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from rigwise.edge import parse, parse_toml
from rigwise.errors import InvalidInputError, RigwiseError, UnsupportedError
from rigwise.units import DAY_S, parse_count, parse_fraction, parse_seconds, parse_usd
from rigwise.workload.case import Case, check

T = TypeVar("T")

OBJECTIVES = ("cost", "time", "energy")
AMOUNTS = ("samples", "tokens", "steps", "epochs")
COMMAND_LINE = "command line"

_MAX_AMOUNT = 1e18
_MAX_TOP = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedMachine:
    """A machine that already stands there.

    Attributes:
        name: What its owner calls it.
        device: Catalogue id or common name.
        count, nodes: All devices, a multiple of ``nodes``; computers.
        link: ``nvlink``, ``pcie`` or empty for the device's usual one.
        inter_node_gbps: Network of one node in Gbit/s, None for the usual one.
        usd_per_h: What an hour of use costs its owner, electricity say.
    """

    name: str
    device: str
    count: int = 1
    nodes: int = 1
    link: str = ""
    inter_node_gbps: float | None = None
    usd_per_h: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to do and within which limits.

    Attributes:
        model, task, method, lora_rank, optimizer: As in ``Case``.
        amount, unit: How much: a number of samples, tokens, steps or epochs.
        dataset_size: Samples of one epoch, where the unit is epochs.
        batch: Global batch of one step; None: the model's reference batch.
        seq, context, image_size: As in ``Case``.
        deadline_s, budget_usd: Limits, None for none.
        confidence: Probability with which a plan must keep each limit and fit in memory.
        allow_quantised: Whether 8- and 4-bit weights may be planned for inference.
        providers, regions, devices: Only these; empty for any.
        spot: Whether capacity may be used that can be taken away.
        max_price_age_s: Older prices do not count.
        owned: Machines that cost only their running.
        minimize: ``cost``, ``time`` or ``energy``.
        gap_frac: A plan at most this much worse than the best will do.
        top: How many plans to show.
    """

    model: str
    amount: float
    unit: str
    task: str = "train"
    method: str = "full"
    lora_rank: int = 16
    optimizer: str | None = None
    dataset_size: float | None = None
    batch: int | None = None
    seq: int | None = None
    context: int | None = None
    image_size: int | None = None
    deadline_s: float | None = None
    budget_usd: float | None = None
    confidence: float = 0.9
    allow_quantised: bool = False
    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    spot: bool = False
    max_price_age_s: float = 365 * DAY_S
    owned: tuple[OwnedMachine, ...] = ()
    minimize: str = "cost"
    gap_frac: float = 0.0
    top: int = 5

    def case(self) -> Case:
        """The step of this job as a case without a device."""
        return Case(
            model=self.model,
            device="",
            task=self.task,
            batch=1 if self.batch is None else self.batch,
            seq=self.seq,
            context=self.context,
            image_size=self.image_size,
            method=self.method,
            lora_rank=self.lora_rank,
            optimizer=self.optimizer,
        )


# The tables of a job file. Quantities are text with a unit or bare numbers.

Quantity = str | float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Workload:
    model: str
    task: str = "train"
    method: str = "full"
    lora_rank: int = 16
    optimizer: str | None = None
    samples: Quantity | None = None
    tokens: Quantity | None = None
    steps: Quantity | None = None
    epochs: Quantity | None = None
    dataset_size: Quantity | None = None
    batch: Quantity | None = None
    seq: Quantity | None = None
    context: Quantity | None = None
    image_size: Quantity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Constraints:
    deadline: Quantity | None = None
    budget: Quantity | None = None
    confidence: Quantity = 0.9
    allow_quantised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Market:
    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    spot: bool = False
    buy: bool = False
    max_price_age: Quantity = "365d"
    owned: tuple[OwnedMachine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Objective:
    minimize: str = "cost"
    gap: Quantity = 0.0
    top: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _JobFile:
    workload: _Workload
    constraints: _Constraints = field(default_factory=_Constraints)
    market: _Market = field(default_factory=_Market)
    objective: _Objective = field(default_factory=_Objective)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OwnedFile:
    owned: tuple[OwnedMachine, ...]


def job_from_toml(text: str, where: str) -> Job:
    """Read a job file.

    Raises:
        InvalidInputError: Not TOML, an unknown key or a value that means nothing; names file and key.
        UnsupportedError: Something that is not planned yet.
    """
    return job_from_tables(parse_toml(text, where), where)


def owned_from_toml(text: str, where: str) -> tuple[OwnedMachine, ...]:
    """Read a file of machines that already stand there, one ``[[owned]]`` table each.

    Raises:
        InvalidInputError: As ``job_from_toml``.
    """
    return _owned(parse(parse_toml(text, where), _OwnedFile, where).owned, where)


def job_from_tables(tables: Mapping[str, Any], where: str) -> Job:
    """Read the tables of a job file, or flags arranged like them; same errors as ``job_from_toml``."""
    if "stage" in tables:
        raise UnsupportedError(f"{where}: jobs of several stages are not planned yet", hint="write one [workload]")
    if "data" in tables:
        raise UnsupportedError(f"{where}: [data] is not planned with yet", hint="leave it out: loading is not counted")
    file = parse(dict(tables), _JobFile, where)
    if file.market.buy:
        raise UnsupportedError(f"{where}: buying is not planned yet", hint="leave market.buy out, or set it to false")
    unit, amount = _amount(file.workload, where)
    work, limits, market, goal = file.workload, file.constraints, file.market, file.objective
    read = _Reader(where)
    job = Job(
        model=work.model,
        task=work.task,
        method=work.method,
        lora_rank=work.lora_rank,
        optimizer=work.optimizer,
        amount=amount,
        unit=unit,
        dataset_size=read("workload.dataset_size", work.dataset_size, parse_count),
        batch=read.whole("workload.batch", work.batch),
        seq=read.whole("workload.seq", work.seq),
        context=read.whole("workload.context", work.context),
        image_size=read.whole("workload.image_size", work.image_size),
        deadline_s=read("constraints.deadline", limits.deadline, parse_seconds),
        budget_usd=read("constraints.budget", limits.budget, parse_usd),
        confidence=read.given("constraints.confidence", limits.confidence, parse_fraction),
        allow_quantised=limits.allow_quantised,
        providers=tuple(p.lower() for p in market.providers),
        regions=tuple(r.lower() for r in market.regions),
        devices=market.devices,
        spot=market.spot,
        max_price_age_s=read.given("market.max_price_age", market.max_price_age, parse_seconds),
        owned=_owned(market.owned, where),
        minimize=goal.minimize,
        gap_frac=read.given("objective.gap", goal.gap, parse_fraction),
        top=goal.top,
    )
    return check_job(job, where)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads quantities and names the key, or the flag, of one that cannot be read."""

    where: str

    def given(self, key: str, value: Quantity, parser: Callable[[Quantity], T]) -> T:
        try:
            return parser(value)
        except InvalidInputError as error:
            raise InvalidInputError(
                f"{self.where}: {_label(key, self.where)}: {error.message}", hint=error.hint
            ) from None

    def __call__(self, key: str, value: Quantity | None, parser: Callable[[Quantity], T]) -> T | None:
        return None if value is None else self.given(key, value, parser)

    def whole(self, key: str, value: Quantity | None) -> int | None:
        number = self(key, value, parse_count)
        if number is not None and number != int(number):
            raise InvalidInputError(f"{self.where}: {_label(key, self.where)} is {value}", hint="give a whole number")
        return None if number is None else int(number)


def _label(key: str, where: str) -> str:
    """``constraints.deadline`` in a file is ``--deadline`` on the command line."""
    return "--" + key.rpartition(".")[2].replace("_", "-") if where == COMMAND_LINE else key


def _amount(work: _Workload, where: str) -> tuple[str, float]:
    given = [name for name in AMOUNTS if getattr(work, name) is not None]
    labels = ", ".join(_label(f"workload.{name}", where) for name in (given or AMOUNTS))
    if len(given) != 1:
        fault = f"several amounts of work: {labels}" if given else "no amount of work"
        raise InvalidInputError(f"{where}: {fault}", hint=f"give one of: {labels}")
    (unit,) = given
    amount = _Reader(where).given(f"workload.{unit}", getattr(work, unit), parse_count)
    if not 0 < amount <= _MAX_AMOUNT:
        raise InvalidInputError(
            f"{where}: {labels} is {amount:g}", hint=f"give a number above 0, up to {_MAX_AMOUNT:g}"
        )
    if (unit == "epochs") != (work.dataset_size is not None):
        size = _label("workload.dataset_size", where)
        raise InvalidInputError(f"{where}: epochs and {size} go together", hint="give both, or samples instead")
    return unit, amount


def _owned(machines: tuple[OwnedMachine, ...], where: str) -> tuple[OwnedMachine, ...]:
    names = [machine.name for machine in machines]
    for machine in machines:
        if names.count(machine.name) > 1:
            raise InvalidInputError(f"{where}: two owned machines are called {machine.name!r}")
        if machine.count < 1 or machine.nodes < 1 or machine.count % machine.nodes:
            raise InvalidInputError(
                f"{where}: owned machine {machine.name!r} has {machine.count} devices in {machine.nodes} nodes",
                hint="count is all devices, a multiple of nodes",
            )
        if not machine.usd_per_h >= 0:
            raise InvalidInputError(f"{where}: owned machine {machine.name!r}: usd_per_h is {machine.usd_per_h}")
        if machine.link not in ("", "nvlink", "pcie"):
            raise InvalidInputError(
                f"{where}: owned machine {machine.name!r}: link is {machine.link!r}", hint="use nvlink or pcie"
            )
    return machines


def check_job(job: Job, where: str) -> Job:
    """The same job, if its values can mean anything.

    Raises:
        InvalidInputError: A value out of range; names the key.
        UnsupportedError: A task or objective that is not planned yet.
    """
    if job.task == "serve":
        raise UnsupportedError(f"{where}: serving is not planned yet", hint="plan --task prefill and --task decode")
    if job.minimize == "carbon":
        raise UnsupportedError(
            f"{where}: carbon needs the carbon intensity of each region, which the catalogue does not have",
            hint="minimize energy instead",
        )
    if job.minimize not in OBJECTIVES:
        raise InvalidInputError(
            f"{where}: {_label('objective.minimize', where)} is {job.minimize!r}",
            hint=f"choose one of: {', '.join(OBJECTIVES)}",
        )
    for key, value, least, most in (
        ("workload.dataset_size", job.dataset_size, 1, _MAX_AMOUNT),
        ("constraints.deadline", job.deadline_s, 1e-3, 1e11),
        ("constraints.budget", job.budget_usd, 0, _MAX_AMOUNT),
        ("constraints.confidence", job.confidence, 0.5, 0.999),
        ("market.max_price_age", job.max_price_age_s, 0, 1e11),
        ("objective.gap", job.gap_frac, 0, 10),
        ("objective.top", job.top, 1, _MAX_TOP),
    ):
        if value is not None and not least <= value <= most:
            raise InvalidInputError(
                f"{where}: {_label(key, where)} is {value:g}", hint=f"give a value from {least:g} to {most:g}"
            )
    try:
        check(job.case())
    except RigwiseError as error:
        raise InvalidInputError(f"{where}: {error.message}", hint=error.hint) from None
    return job


def with_owned(job: Job, owned: tuple[OwnedMachine, ...], where: str) -> Job:
    """The job with more machines that already stand there."""
    return replace(job, owned=_owned(job.owned + owned, where))
