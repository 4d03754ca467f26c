"""The tables of a job file, as people write them: quantities with units, in the words of the field.

``job_file`` turns them into a ``Job``, and ``job_schema`` into the schema that editors complete and check by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rigwise.workload.case import METHODS, OPTIMIZERS

#: Text with a unit, or a bare number in the base unit.
Quantity = str | float

TASKS = ("train", "infer", "prefill", "decode", "serve")
OBJECTIVES = ("cost", "time", "energy", "carbon", "weights")
LINKS = ("", "nvlink", "pcie")


@dataclass(frozen=True, slots=True, kw_only=True)
class UntilTable:
    """The amount of work that a measured loss curve asks for.

    Attributes:
        curve: CSV file with a column samples, tokens, steps or epochs and a column loss; beside the job file.
        loss: The loss to reach.
    """

    curve: str
    loss: Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadTable:
    """What is run, and how much of it. One of samples, tokens, steps, epochs and until.

    Attributes:
        model: A zoo name, a config.json or its folder, an .onnx, .pt2 or .rwg file, timm:NAME.
        task: Training, one forward pass, filling the cache, one token more, or serving requests.
        method: All weights, or adapters on the weights, or on weights held in 4 bits.
        lora_rank: Rank of the adapters.
        optimizer: The optimizer; adamw if left out.
        samples: How much work: samples, "128e6" or "128M".
        tokens: How much work: tokens.
        steps: How much work: optimizer steps, or forward passes.
        epochs: How much work: passes over dataset_size samples.
        until: How much work: what a measured loss curve asks for.
        dataset_size: Samples of one epoch.
        batch: Global batch of one step; the model's reference batch if left out.
        seq: New tokens in each sequence.
        context: Tokens in the cache when one more is decoded.
        image_size: Height and width of images.
        runs: Equal runs, those of a sweep.
        parallel_runs: How many of them may run at once, each on machines of its own.
        rate: Serving: requests in a second, "20/s".
        prompt: Serving: tokens of a prompt.
        output_tokens: Serving: tokens of an answer.
        ttft: Serving: longest time to the first token, "500ms".
        tpot: Serving: longest time for each token after it.
        utilisation: Serving: part of what a replica could take that it is planned for, "70%".
        duration: Serving: how long; what costs are told for, a month of 730 h if left out.
    """

    model: str
    task: str = field(default="train", metadata={"choices": TASKS})
    method: str = field(default="full", metadata={"choices": METHODS})
    lora_rank: int = 16
    optimizer: str | None = field(default=None, metadata={"choices": OPTIMIZERS})
    samples: Quantity | None = None
    tokens: Quantity | None = None
    steps: Quantity | None = None
    epochs: Quantity | None = None
    until: UntilTable | None = None
    dataset_size: Quantity | None = None
    batch: Quantity | None = None
    seq: Quantity | None = None
    context: Quantity | None = None
    image_size: Quantity | None = None
    runs: Quantity = 1
    parallel_runs: Quantity = 1
    rate: Quantity | None = None
    prompt: Quantity | None = None
    output_tokens: Quantity | None = None
    ttft: Quantity | None = None
    tpot: Quantity | None = None
    utilisation: Quantity | None = None
    duration: Quantity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTable:
    """What the job reads and saves.

    Attributes:
        size: Size of all that is read, "1.2TB".
        format: What it is: jpeg, tokens, parquet ...
        at: Where it lies: local, s3, gcs, a provider or provider/region.
        download: Rate at which it reaches the machine, "1Gbit/s".
        checkpoint: Size of what is saved, "16GB".
    """

    size: Quantity | None = None
    format: str = ""
    at: str = ""
    download: Quantity | None = None
    checkpoint: Quantity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaTable:
    """The most devices that a provider lets one use.

    Attributes:
        provider: Its name.
        region: One of its regions; any if left out.
        device: One device; any if left out.
        max_count: Devices at once, 0 for none.
    """

    provider: str
    region: str = ""
    device: str = ""
    max_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstraintsTable:
    """What a plan must keep.

    Attributes:
        deadline: Longest time, "24h".
        budget: Most money in all, "$100".
        hourly_cap: Most that all machines together may cost in an hour, "$8".
        confidence: Probability with which each limit is kept and memory is enough.
        allow_quantised: Whether 8- and 4-bit weights may be planned for inference.
        countries: Only regions in these countries, as ISO 3166 codes: ["DE", "FR"].
        max_nodes: Most nodes of one plan; 8 if left out, and more only if asked for.
        quota: A file of [[quota]] tables, or the tables themselves.
    """

    deadline: Quantity | None = None
    budget: Quantity | None = None
    hourly_cap: Quantity | None = None
    confidence: Quantity = 0.9
    allow_quantised: bool = False
    countries: tuple[str, ...] = ()
    max_nodes: Quantity | None = None
    quota: str | tuple[QuotaTable, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedTable:
    """A machine that already stands there.

    Attributes:
        name: What its owner calls it.
        device: Catalogue id or common name.
        count: All devices, a multiple of nodes.
        nodes: Computers.
        link: How its devices are joined; their usual link if left out.
        inter_node_gbps: Network of one node in Gbit/s.
        usd_per_h: What an hour of use costs, beside electricity if that is given.
        usd_per_kwh: Price of electricity, "$0.30".
        base_w: Power of one node beside its devices, "120W".
        memory: Main memory of one node, "64GB".
        psu: What the power supply of one node is rated for, "850W".
        free_slots: Slots of one node in which another device would fit.
    """

    name: str
    device: str
    count: int = 1
    nodes: int = 1
    link: str = field(default="", metadata={"choices": LINKS})
    inter_node_gbps: float | None = None
    usd_per_h: Quantity = 0.0
    usd_per_kwh: Quantity | None = None
    base_w: Quantity | None = None
    memory: Quantity | None = None
    psu: Quantity | None = None
    free_slots: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotTable:
    """What is known of capacity that can be taken away; of what is left out the facts speak.

    Attributes:
        use: Whether it may be used.
        mean_run: Mean time that one instance lasts, "6h".
        mean_wait: Mean time until there is capacity for it again.
        restart: From capacity being there to the job running again.
        save: Time to write one checkpoint.
    """

    use: bool = True
    mean_run: Quantity | None = None
    mean_wait: Quantity | None = None
    restart: Quantity | None = None
    save: Quantity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketTable:
    """What may be rented, used or bought.

    Attributes:
        providers: Only these; any if left out.
        regions: Only these; any if left out.
        devices: Only these; any if left out.
        spot: Whether capacity may be used that can be taken away; or what is known of it.
        max_price_age: Older prices do not count.
        owned: Machines that already stand there.
        buy: Whether machines may be bought.
        horizon: How long something that is bought would be used, "24mo".
        hours_per_week: Hours of a week in which it would work.
        tax: Tax on every price, "19%".
        setup: Time to start a rented machine and install what the job needs.
        rates: Dollars for one unit of another currency: {EUR = 1.08}.
    """

    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    spot: bool | SpotTable = False
    max_price_age: Quantity = "365d"
    owned: tuple[OwnedTable, ...] = ()
    buy: bool = False
    horizon: Quantity | None = None
    hours_per_week: Quantity | None = None
    tax: Quantity = 0.0
    setup: Quantity | None = None
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsTable:
    """What is minimised if minimize is weights: the sum of these.

    Attributes:
        cost: Dollars for a dollar: 1, or 0 where money does not count.
        time: What an hour is worth, "$30/h".
        energy: What a kilowatt-hour is worth, "$0.30/kWh".
        carbon: What a tonne of carbon dioxide is worth, "$100/t".
    """

    cost: Quantity = 1.0
    time: Quantity = 0.0
    energy: Quantity = 0.0
    carbon: Quantity = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveTable:
    """What "best" means.

    Attributes:
        minimize: What is least at the best plan.
        weights: The weights of the sum, where minimize is weights.
        value_of_time: What an hour of waiting costs, "$30/h"; counted beside the cost.
        gap: A plan at most this much worse than the best will do, "2%".
        top: Plans to show.
        frontier_energy: Whether the frontier is of cost, time and energy, not of cost and time only.
    """

    minimize: str = field(default="cost", metadata={"choices": OBJECTIVES})
    weights: WeightsTable | None = None
    value_of_time: Quantity = 0.0
    gap: Quantity = 0.0
    top: int = 5
    frontier_energy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTable(WorkloadTable):
    """One of several stages that follow each other: a workload, and limits of its own.

    Attributes:
        name: What it is called.
        stay: Whether it runs on the machines of the stage before, instead of wherever is best.
        data: What this stage reads and saves.
        constraints: Limits of this stage, beside those of the whole job.
    """

    name: str = ""
    stay: bool = False
    data: DataTable | None = None
    constraints: ConstraintsTable | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """A job for rigwise plan.

    Attributes:
        workload: What is run, and how much of it.
        data: What the job reads and saves.
        constraints: What a plan must keep.
        market: What may be rented, used or bought.
        objective: What "best" means.
    """

    workload: WorkloadTable
    data: DataTable | None = None
    constraints: ConstraintsTable = field(default_factory=ConstraintsTable)
    market: MarketTable = field(default_factory=MarketTable)
    objective: ObjectiveTable = field(default_factory=ObjectiveTable)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A job of several stages for rigwise plan.

    Attributes:
        stage: The stages, in order.
        constraints: Limits of the whole job: deadline and budget of all stages together, the others of each.
        market: What may be rented, used or bought.
        objective: What "best" means.
    """

    stage: tuple[StageTable, ...]
    constraints: ConstraintsTable = field(default_factory=ConstraintsTable)
    market: MarketTable = field(default_factory=MarketTable)
    objective: ObjectiveTable = field(default_factory=ObjectiveTable)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedFile:
    """Machines that already stand there.

    Attributes:
        owned: One table each.
    """

    owned: tuple[OwnedTable, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaFile:
    """Quotas.

    Attributes:
        quota: One table each.
    """

    quota: tuple[QuotaTable, ...]
