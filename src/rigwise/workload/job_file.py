"""Read a job from a TOML file or from flags.

Both are the same nested tables before they are read, so the same job written either way gives
the same ``Job``. Other files that a job names (quotas, a loss curve) are read by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from rigwise.edge import parse, parse_toml
from rigwise.errors import InvalidInputError
from rigwise.facts.interruption import InterruptionOverride
from rigwise.units import (
    parse_bytes,
    parse_bytes_per_s,
    parse_count,
    parse_fraction,
    parse_months,
    parse_seconds,
    parse_usd,
    parse_watts,
)
from rigwise.workload.job import (
    MAX_AMOUNT,
    Data,
    Horizon,
    Job,
    OwnedMachine,
    Quota,
    Weights,
    check_job,
    check_owned,
    label,
)
from rigwise.workload.job_tables import (
    DataTable,
    JobFile,
    MarketTable,
    ObjectiveTable,
    OwnedFile,
    OwnedTable,
    Quantity,
    QuotaFile,
    QuotaTable,
    SpotTable,
    UntilTable,
    WorkloadTable,
)
from rigwise.workload.loss_curve import amount_needed, read_curve

T = TypeVar("T")
#: Dollars, and in words the rate at which they were changed; empty if they were not.
Money = Callable[[Quantity, Mapping[str, float]], tuple[float, str]]

AMOUNTS = ("samples", "tokens", "steps", "epochs")
_SPOT = ("mean_run", "mean_wait", "restart", "save")
_SERVING = ("rate", "prompt", "output_tokens", "ttft", "tpot", "utilisation", "duration")


def _no_file(path: str) -> str:
    raise InvalidInputError(f"the file {path} cannot be read from here", hint="write its content into the job")


def _dollars(value: Quantity, rates: Mapping[str, float]) -> tuple[float, str]:
    return parse_usd(value), ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What reading a job needs beside its text.

    Attributes:
        text_of: The text of another file that the job names.
        money: Dollars from an amount of money, given dollars for one unit of other currencies.
    """

    text_of: Callable[[str], str] = _no_file
    money: Money = _dollars


_ALONE = Outside()


def job_from_toml(text: str, where: str, outside: Outside = _ALONE) -> Job:
    """Read a job file.

    Raises:
        InvalidInputError: Not TOML, an unknown key or a value that means nothing; names file and key.
        UnsupportedError: Something that is not planned yet.
    """
    return job_from_tables(parse_toml(text, where), where, outside)


def job_from_tables(tables: Mapping[str, Any], where: str, outside: Outside = _ALONE) -> Job:
    """Read the tables of a job file, or flags arranged like them; same errors as ``job_from_toml``."""
    if "stage" in tables:
        raise InvalidInputError(f"{where}: a job of several stages, where one of a single stage is needed")
    return job_from_file(parse(dict(tables), JobFile, where), where, outside)


def job_from_file(file: JobFile, where: str, outside: Outside = _ALONE) -> Job:
    """The job that the tables of a file describe; same errors as ``job_from_toml``."""
    read = Reader(where=where, outside=outside, rates=_rates(file.market, where))
    unit, amount = _amount(file.workload, read)
    parts = {
        **_workload(file.workload, read),
        **_limits(file, read),
        **_market(file.market, read),
        **_objective(file.objective, read),
        **_data(file.data, read),
    }
    return check_job(Job(amount=amount, unit=unit, assumed=tuple(read.notes), **parts), where)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads quantities and names the key, or the flag, of one that cannot be read.

    Attributes:
        where: The file, or the command line.
        outside: Other files, and money.
        rates: Dollars for one unit of other currencies, as the job gives them.
        notes: What was filled in on the way, in words; grows.
    """

    where: str
    outside: Outside = _ALONE
    rates: Mapping[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def given(self, key: str, value: Quantity, parser: Callable[[Quantity], T]) -> T:
        """The value of a key that has one."""
        try:
            return parser(value)
        except InvalidInputError as error:
            raise InvalidInputError(
                f"{self.where}: {label(key, self.where)}: {error.message}", hint=error.hint
            ) from None

    def __call__(self, key: str, value: Quantity | None, parser: Callable[[Quantity], T]) -> T | None:
        """The value of a key, None if it has none."""
        return None if value is None else self.given(key, value, parser)

    def whole(self, key: str, value: Quantity | None) -> int | None:
        """A whole number."""
        number = self(key, value, parse_count)
        if number is not None and number != int(number):
            raise InvalidInputError(f"{self.where}: {label(key, self.where)} is {value}", hint="give a whole number")
        return None if number is None else int(number)

    def usd(self, key: str, value: Quantity | None, per: str = "") -> float | None:
        """Dollars, or dollars for one of something: "$30/h"."""
        if per and isinstance(value, str):
            value = value.strip().removesuffix(f"/{per}")
        return self(key, value, self._usd)

    def _usd(self, value: Quantity) -> float:
        usd, note = self.outside.money(value, self.rates)
        if note and note not in self.notes:
            self.notes.append(note)
        return usd

    def fault(self, key: str, fault: str, hint: str = "") -> InvalidInputError:
        """What is wrong with a key."""
        return InvalidInputError(f"{self.where}: {label(key, self.where)} {fault}", hint=hint)


def _amount(work: WorkloadTable, read: Reader) -> tuple[str, float]:
    given = [name for name in (*AMOUNTS, "until") if getattr(work, name) is not None]
    labels = ", ".join(label(f"workload.{name}", read.where) for name in (given or AMOUNTS))
    if len(given) != 1:
        fault = f"several amounts of work: {labels}" if given else "no amount of work"
        raise InvalidInputError(f"{read.where}: {fault}", hint=f"give one of: {labels}")
    (unit,) = given
    if work.until is not None:
        unit, amount = _until(work.until, read)
    else:
        amount = read.given(f"workload.{unit}", getattr(work, unit), parse_count)
    if not 0 < amount <= MAX_AMOUNT:
        raise InvalidInputError(
            f"{read.where}: {labels} is {amount:g}", hint=f"give a number above 0, up to {MAX_AMOUNT:g}"
        )
    if (unit == "epochs") != (work.dataset_size is not None):
        size = label("workload.dataset_size", read.where)
        raise InvalidInputError(f"{read.where}: epochs and {size} go together", hint="give both, or samples instead")
    return unit, amount


def _until(until: UntilTable, read: Reader) -> tuple[str, float]:
    """The amount at which a measured curve reaches a loss."""
    loss = read.given("workload.until.loss", until.loss, parse_count)
    needed = amount_needed(read_curve(read.outside.text_of(until.curve), until.curve), loss, until.curve)
    read.notes.append(needed.words)
    return needed.unit, needed.amount


def _workload(work: WorkloadTable, read: Reader) -> dict[str, Any]:
    if work.task != "serve" and (extra := [name for name in _SERVING if getattr(work, name) is not None]):
        raise read.fault(f"workload.{extra[0]}", "belongs to serving", 'write task = "serve", or leave it out')
    return {
        "model": work.model,
        "task": work.task,
        "method": work.method,
        "lora_rank": work.lora_rank,
        "optimizer": work.optimizer,
        "dataset_size": read("workload.dataset_size", work.dataset_size, parse_count),
        "batch": read.whole("workload.batch", work.batch),
        "seq": read.whole("workload.seq", work.seq),
        "context": read.whole("workload.context", work.context),
        "image_size": read.whole("workload.image_size", work.image_size),
        "runs": read.whole("workload.runs", work.runs),
        "parallel_runs": read.whole("workload.parallel_runs", work.parallel_runs),
    }


def _limits(file: JobFile, read: Reader) -> dict[str, Any]:
    limits = file.constraints
    return {
        "deadline_s": read("constraints.deadline", limits.deadline, parse_seconds),
        "budget_usd": read.usd("constraints.budget", limits.budget),
        "max_usd_per_h": read.usd("constraints.hourly_cap", limits.hourly_cap, "h"),
        "confidence": read.given("constraints.confidence", limits.confidence, parse_fraction),
        "allow_quantised": limits.allow_quantised,
        "countries": tuple(country.upper() for country in limits.countries),
        "max_nodes": read.whole("constraints.max_nodes", limits.max_nodes),
        "quota": _quota(limits.quota, read),
    }


def _market(market: MarketTable, read: Reader) -> dict[str, Any]:
    months = read("market.horizon", market.horizon, parse_months)
    hours = read("market.hours_per_week", market.hours_per_week, parse_count)
    if months is None and hours is not None:
        raise read.fault("market.hours_per_week", "means nothing without a horizon", "give both, 24mo say")
    return {
        "providers": tuple(p.lower() for p in market.providers),
        "regions": tuple(r.lower() for r in market.regions),
        "devices": market.devices,
        **_spot(market.spot, read),
        "max_price_age_s": read.given("market.max_price_age", market.max_price_age, parse_seconds),
        "owned": _owned(market.owned, read),
        "buy": market.buy,
        "horizon": None if months is None else Horizon(months=months, hours_per_week=168.0 if hours is None else hours),
        "tax_frac": read.given("market.tax", market.tax, parse_fraction),
        "setup_s": read("market.setup", market.setup, parse_seconds),
    }


def _spot(spot: bool | SpotTable, read: Reader) -> dict[str, Any]:
    if isinstance(spot, bool):
        return {"spot": spot}
    given = {name: read(f"market.spot.{name}", getattr(spot, name), parse_seconds) for name in _SPOT}
    least = {"mean_run": 1.0}
    for name, value in given.items():
        if value is not None and not least.get(name, 0.0) <= value <= 1e10:
            raise read.fault(f"market.spot.{name}", f"is {value:g}", "give a time of a second or more")
    known = InterruptionOverride(**{f"{name}_s": value for name, value in given.items()})
    return {"spot": spot.use, "interruption": known}


def _objective(goal: ObjectiveTable, read: Reader) -> dict[str, Any]:
    return {
        "minimize": goal.minimize,
        "weights": _weights(goal, read),
        "value_of_time_usd_per_h": read.usd("objective.value_of_time", goal.value_of_time, "h"),
        "gap_frac": read.given("objective.gap", goal.gap, parse_fraction),
        "top": goal.top,
        "frontier_energy": goal.frontier_energy,
    }


def _weights(goal: ObjectiveTable, read: Reader) -> Weights | None:
    given = goal.weights
    if (given is None) != (goal.minimize != "weights"):
        raise read.fault(
            "objective.weights",
            "are given, but it minimizes " + goal.minimize if given else "are missing",
            'weights and minimize = "weights" go together',
        )
    if given is None:
        return None
    return Weights(
        cost=read.given("objective.weights.cost", given.cost, parse_fraction),
        time_usd_per_h=read.usd("objective.weights.time", given.time, "h") or 0.0,
        energy_usd_per_kwh=read.usd("objective.weights.energy", given.energy, "kWh") or 0.0,
        carbon_usd_per_t=read.usd("objective.weights.carbon", given.carbon, "t") or 0.0,
    )


def _data(data: DataTable | None, read: Reader) -> dict[str, Any]:
    if data is None:
        return {}
    size = read("data.size", data.size, parse_bytes)
    if size is None and (data.at or data.format or data.download is not None):
        raise read.fault("data.size", "is missing", "say how large the data are, 100GB say")
    rate = read("data.download", data.download, parse_bytes_per_s)
    return {
        "data": None
        if size is None
        else Data(size_bytes=size, format=data.format.lower(), at=data.at.lower(), download_bytes_per_s=rate),
        "checkpoint_bytes": read("data.checkpoint", data.checkpoint, parse_bytes),
    }


def _rates(market: MarketTable, where: str) -> Mapping[str, float]:
    for currency, usd in market.rates.items():
        if not usd > 0:
            raise InvalidInputError(f"{where}: market.rates.{currency} is {usd:g}", hint="dollars for one, above 0")
    return market.rates


def _quota(given: str | tuple[QuotaTable, ...], read: Reader) -> tuple[Quota, ...]:
    if isinstance(given, str):
        return quota_from_toml(read.outside.text_of(given), given) if given else ()
    return tuple(_one_quota(quota, read.where) for quota in given)


def quota_from_toml(text: str, where: str) -> tuple[Quota, ...]:
    """Read a file of quotas, one ``[[quota]]`` table each.

    Raises:
        InvalidInputError: As ``job_from_toml``.
    """
    return tuple(_one_quota(quota, where) for quota in parse(parse_toml(text, where), QuotaFile, where).quota)


def _one_quota(quota: QuotaTable, where: str) -> Quota:
    if quota.max_count < 0:
        raise InvalidInputError(f"{where}: the quota of {quota.provider!r} is {quota.max_count}", hint="0 or more")
    return Quota(
        provider=quota.provider.lower(),
        region=quota.region.lower(),
        device=quota.device,
        max_count=quota.max_count,
    )


def owned_from_toml(text: str, where: str) -> tuple[OwnedMachine, ...]:
    """Read a file of machines that already stand there, one ``[[owned]]`` table each.

    Raises:
        InvalidInputError: As ``job_from_toml``.
    """
    return _owned(parse(parse_toml(text, where), OwnedFile, where).owned, Reader(where=where))


def with_owned(job: Job, owned: tuple[OwnedMachine, ...], where: str) -> Job:
    """The job with more machines that already stand there."""
    return replace(job, owned=check_owned(job.owned + owned, where))


def _owned(tables: tuple[OwnedTable, ...], read: Reader) -> tuple[OwnedMachine, ...]:
    return check_owned(tuple(_one_owned(table, read) for table in tables), read.where)


def _one_owned(table: OwnedTable, read: Reader) -> OwnedMachine:
    key = f"owned machine {table.name!r}:"
    return OwnedMachine(
        name=table.name,
        device=table.device,
        count=table.count,
        nodes=table.nodes,
        link=table.link,
        inter_node_gbps=table.inter_node_gbps,
        usd_per_h=read.usd(f"{key} usd_per_h", table.usd_per_h, "h") or 0.0,
        usd_per_kwh=read.usd(f"{key} usd_per_kwh", table.usd_per_kwh, "kWh"),
        base_w=read(f"{key} base_w", table.base_w, parse_watts),
        memory_bytes=read(f"{key} memory", table.memory, parse_bytes),
        psu_w=read(f"{key} psu", table.psu, parse_watts),
        free_slots=table.free_slots,
    )
