"""A job: how much of which work, within which limits, and what "best" means.

``job_file`` reads one from TOML or flags.
"""

from __future__ import annotations

from dataclasses import dataclass

from rigwise.errors import InvalidInputError, RigwiseError, UnsupportedError
from rigwise.facts.interruption import InterruptionOverride
from rigwise.units import DAY_S
from rigwise.workload.case import Case, check

OBJECTIVES = ("cost", "time", "energy", "carbon", "weights")
COMMAND_LINE = "command line"
MAX_AMOUNT = 1e18

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
        usd_per_h: What an hour of use costs its owner, beside electricity if ``usd_per_kwh`` is given.
        usd_per_kwh: Price of electricity, None: in ``usd_per_h``, or not counted.
        base_w: Power of one node beside its devices while it works, None: the assumed one.
        memory_bytes: Main memory of one node, None for not known.
        psu_w: What the power supply of one node is rated for, None for not known.
        free_slots: Slots of one node in which another device would fit.
    """

    name: str
    device: str
    count: int = 1
    nodes: int = 1
    link: str = ""
    inter_node_gbps: float | None = None
    usd_per_h: float = 0.0
    usd_per_kwh: float | None = None
    base_w: float | None = None
    memory_bytes: float | None = None
    psu_w: float | None = None
    free_slots: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """How long, and how much of the time, something that is bought would be used.

    Attributes:
        months: Until it is sold or given up.
        hours_per_week: Hours of a week in which it works, 168 for always.
    """

    months: float
    hours_per_week: float = 168.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What an hour, a kilowatt-hour and a tonne of carbon dioxide are worth, beside the dollars that a plan costs.

    Attributes:
        cost: Dollars for a dollar: 1, or 0 where money does not count.
        time_usd_per_h: Dollars for an hour of time.
        energy_usd_per_kwh: Dollars for a kilowatt-hour.
        carbon_usd_per_t: Dollars for a tonne (1000 kg) of carbon dioxide.
    """

    cost: float = 1.0
    time_usd_per_h: float = 0.0
    energy_usd_per_kwh: float = 0.0
    carbon_usd_per_t: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What the job reads.

    Attributes:
        size_bytes: All of it.
        format: ``jpeg``, ``tokens`` ...; a word for the reader, empty for none.
        at: Where it lies: ``local``, ``s3``, ``gcs``, a provider or ``provider/region``; empty for not said.
        download_bytes_per_s: Rate at which it reaches the machine, None for the assumed one.
    """

    size_bytes: float
    format: str = ""
    at: str = ""
    download_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """The most devices that a provider lets one use.

    Attributes:
        provider, region, device: What it is of; an empty one is any.
        max_count: Devices, 0 for none.
    """

    provider: str
    region: str = ""
    device: str = ""
    max_count: int


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
        interruption: What the user knows of spot capacity, None for what the facts say.
        max_price_age_s: Older prices do not count.
        owned: Machines that cost only their running.
        minimize: ``cost``, ``time``, ``energy``, ``carbon`` or ``weights``.
        gap_frac: A plan at most this much worse than the best will do.
        top: How many plans to show.
        max_usd_per_h: Most that all machines together may cost in an hour, None for no limit.
        countries: Only regions in these, as ISO 3166 codes in upper case; empty for any.
        max_nodes: Most nodes of one plan, None for the usual 8; more are looked at only if asked for.
        quota: The most devices by provider, region and device.
        buy: Whether machines may be bought; ``horizon``: for how long, None: for this job only.
        tax_frac: Tax on every price.
        setup_s: Time to start a machine and install what the job needs, None for the assumed one.
        data, checkpoint_bytes: What is read, and what is saved; None for not said.
        runs: Equal runs of a sweep; ``parallel_runs``: how many of them may run at once.
        value_of_time_usd_per_h: What an hour of waiting costs the person who waits.
        weights: What makes up the objective, where ``minimize`` is ``weights``.
        frontier_energy: Whether the frontier is of cost, time and energy, not of cost and time only.
        assumed: What was filled in while the job was read, in words.
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
    interruption: InterruptionOverride | None = None
    max_price_age_s: float = 365 * DAY_S
    owned: tuple[OwnedMachine, ...] = ()
    minimize: str = "cost"
    gap_frac: float = 0.0
    top: int = 5
    max_usd_per_h: float | None = None
    countries: tuple[str, ...] = ()
    max_nodes: int | None = None
    quota: tuple[Quota, ...] = ()
    buy: bool = False
    horizon: Horizon | None = None
    tax_frac: float = 0.0
    setup_s: float | None = None
    data: Data | None = None
    checkpoint_bytes: float | None = None
    runs: int = 1
    parallel_runs: int = 1
    value_of_time_usd_per_h: float = 0.0
    weights: Weights | None = None
    frontier_energy: bool = False
    assumed: tuple[str, ...] = ()

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One of several jobs that follow each other.

    Attributes:
        name: What it is called.
        job: What it does.
        stay: Whether it runs on the machines of the stage before.
    """

    name: str
    job: Job
    stay: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedJob:
    """Jobs that follow each other, with limits of the whole.

    Attributes:
        stages: In order.
        deadline_s, budget_usd: Limits of all stages together, None for none.
        minimize, confidence: Of the whole, as in ``Job``.
    """

    stages: tuple[Stage, ...]
    deadline_s: float | None = None
    budget_usd: float | None = None
    minimize: str = "cost"
    confidence: float = 0.9


#: Keys of a job file whose flag is not spelled like the last part of the key.
_FLAGS = {
    "constraints.countries": "country",
    "data.size": "data-size",
    "data.at": "data-at",
    "data.format": "data-format",
    "market.providers": "provider",
    "market.regions": "region",
    "market.devices": "device",
    "market.rates": "exchange",
    "workload.until.loss": "until-loss",
    "objective.weights": "weight",
}


def label(key: str, where: str) -> str:
    """``constraints.deadline`` in a file is ``--deadline`` on the command line."""
    if where != COMMAND_LINE or " " in key:
        return key
    if key.startswith("objective.weights."):
        return "--weight " + key.rpartition(".")[2]
    return "--" + _FLAGS.get(key, key.rpartition(".")[2].replace("_", "-"))


def check_job(job: Job, where: str) -> Job:
    """The same job, if its values can mean anything.

    Raises:
        InvalidInputError: A value out of range, or values that contradict each other; names the key.
        UnsupportedError: A task or objective that is not planned yet.
    """
    _not_planned_yet(job, where)
    if job.minimize not in OBJECTIVES:
        raise InvalidInputError(
            f"{where}: {label('objective.minimize', where)} is {job.minimize!r}",
            hint=f"choose one of: {', '.join(OBJECTIVES)}",
        )
    _check_ranges(job, where)
    _check_together(job, where)
    try:
        check(job.case())
    except RigwiseError as error:
        raise InvalidInputError(f"{where}: {error.message}", hint=error.hint) from None
    return job


def _not_planned_yet(job: Job, where: str) -> None:
    """What can be said and is not planned with yet."""
    if job.task == "serve":
        raise UnsupportedError(f"{where}: serving goes on and on, so it is no stage of a job", hint="plan it by itself")


def _check_ranges(job: Job, where: str) -> None:
    horizon, data, weights = job.horizon, job.data, job.weights
    for key, value, least, most in (
        ("workload.dataset_size", job.dataset_size, 1, MAX_AMOUNT),
        ("workload.runs", job.runs, 1, 1e9),
        ("workload.parallel_runs", job.parallel_runs, 1, 1e9),
        ("data.size", data.size_bytes if data else None, 0, 1e21),
        ("data.download", data.download_bytes_per_s if data else None, 1, 1e15),
        ("data.checkpoint", job.checkpoint_bytes, 0, 1e21),
        ("constraints.deadline", job.deadline_s, 1e-3, 1e11),
        ("constraints.budget", job.budget_usd, 0, MAX_AMOUNT),
        ("constraints.hourly_cap", job.max_usd_per_h, 0, MAX_AMOUNT),
        ("constraints.confidence", job.confidence, 0.5, 0.999),
        ("constraints.max_nodes", job.max_nodes, 1, 1e6),
        ("market.max_price_age", job.max_price_age_s, 0, 1e11),
        ("market.horizon", horizon.months if horizon else None, 0.1, 1200),
        ("market.hours_per_week", horizon.hours_per_week if horizon else None, 0.1, 168),
        ("market.tax", job.tax_frac, 0, 1),
        ("market.setup", job.setup_s, 0, 1e9),
        ("objective.value_of_time", job.value_of_time_usd_per_h, 0, 1e9),
        ("objective.weights.cost", weights.cost if weights else None, 0, 1e9),
        ("objective.weights.time", weights.time_usd_per_h if weights else None, 0, 1e9),
        ("objective.weights.energy", weights.energy_usd_per_kwh if weights else None, 0, 1e9),
        ("objective.weights.carbon", weights.carbon_usd_per_t if weights else None, 0, 1e9),
        ("objective.gap", job.gap_frac, 0, 10),
        ("objective.top", job.top, 1, _MAX_TOP),
    ):
        if value is not None and not least <= value <= most:
            raise InvalidInputError(
                f"{where}: {label(key, where)} is {value:g}", hint=f"give a value from {least:g} to {most:g}"
            )


def _check_together(job: Job, where: str) -> None:
    """Values that are each in order and contradict each other."""

    def named(key: str) -> str:
        return label(key, where)

    weights = job.weights
    if job.parallel_runs > job.runs:
        fault = f"{named('workload.parallel_runs')} is {job.parallel_runs} of {job.runs} runs"
    elif (weights is None) == (job.minimize == "weights"):
        fault = f"{named('objective.weights')} and minimize weights go together"
    elif weights is not None and not any(
        (weights.cost, weights.time_usd_per_h, weights.energy_usd_per_kwh, weights.carbon_usd_per_t)
    ):
        fault = f"{named('objective.weights')} are all 0"
    elif job.value_of_time_usd_per_h and job.minimize != "cost":
        fault = f"{named('objective.value_of_time')} counts beside the cost, and {job.minimize} is minimized"
    elif job.horizon is not None and not job.buy:
        fault = f"{named('market.horizon')} is for buying, which is not allowed ({named('market.buy')})"
    elif bad := next((c for c in job.countries if len(c) != 2 or not c.isalpha()), ""):
        fault = f"{named('constraints.countries')}: {bad!r} is no country of two letters (ISO 3166), DE say"
    else:
        return
    raise InvalidInputError(f"{where}: {fault}")


def check_owned(machines: tuple[OwnedMachine, ...], where: str) -> tuple[OwnedMachine, ...]:
    """The same machines, if they can stand beside each other.

    Raises:
        InvalidInputError: Two of one name, or a figure that means nothing.
    """
    names = [machine.name for machine in machines]
    for machine in machines:
        if names.count(machine.name) > 1:
            raise InvalidInputError(f"{where}: two owned machines are called {machine.name!r}")
        if machine.count < 1 or machine.nodes < 1 or machine.count % machine.nodes:
            raise InvalidInputError(
                f"{where}: owned machine {machine.name!r} has {machine.count} devices in {machine.nodes} nodes",
                hint="count is all devices, a multiple of nodes",
            )
        for name in ("usd_per_h", "usd_per_kwh", "base_w", "memory_bytes", "psu_w", "free_slots"):
            value = getattr(machine, name)
            if value is not None and not 0 <= value < 1e15:
                key = {"memory_bytes": "memory", "psu_w": "psu"}.get(name, name)
                raise InvalidInputError(f"{where}: owned machine {machine.name!r}: {key} is {value:g}")
        if machine.link not in ("", "nvlink", "pcie"):
            raise InvalidInputError(
                f"{where}: owned machine {machine.name!r}: link is {machine.link!r}", hint="use nvlink or pcie"
            )
    return machines
