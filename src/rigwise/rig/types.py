"""Parts of one computer, and what is found about them. A figure that is None is not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Kinds of parts, by the category of the parts table, in the order in which a build chooses them.
KINDS = ("gpu", "cpu", "motherboard", "ram", "psu", "case", "cpu_cooler", "storage")

PROBLEM, WARNING, UNKNOWN, OK = "problem", "warning", "unknown", "ok"
SEVERITIES = (PROBLEM, WARNING, UNKNOWN, OK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What every part has.

    Attributes:
        name: As the list or the catalogue calls it.
        price_usd: Of one; None where nobody gave it.
        condition: ``new``, ``used`` or ``owned``.
        as_of: Day of the price, empty where the user gave it.
        source: Where its figures come from.
    """

    name: str
    price_usd: float | None = None
    condition: str = "new"
    as_of: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card(Item):
    """A graphics card.

    Attributes:
        device: Catalogue id of the accelerator on it; ``per_board`` of them.
        tdp_w, memory_bytes: Of the whole card.
        slots, length_m: Room that it takes.
        connectors: ``("8-pin", "8-pin")``; empty if the slot feeds it.
        generation, lanes: PCIe generation and lanes that it can use.
        form: ``card``, ``mxm`` or ``sxm``.
        exhaust: ``blower`` or ``liquid`` where its heat leaves the case at once; empty if it stays.
    """

    device: str = ""
    per_board: int = 1
    tdp_w: float | None = None
    memory_bytes: float | None = None
    slots: float | None = None
    length_m: float | None = None
    connectors: tuple[str, ...] | None = None
    generation: int | None = None
    lanes: int | None = None
    form: str = "card"
    exhaust: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor(Item):
    """A CPU. ``power_w`` is the most that it draws for long; ``lanes`` those for cards."""

    device: str = ""
    socket: str = ""
    memory: tuple[str, ...] = ()
    power_w: float | None = None
    cores: int | None = None
    lanes: int | None = None
    isa: tuple[str, ...] | None = None
    ipc_frac: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Board(Item):
    """A motherboard. ``card_lanes``: lanes of each x16-sized slot with all of them in use, from the top."""

    socket: str = ""
    form: str = ""
    memory: str = ""
    dimms: int | None = None
    max_memory_bytes: float | None = None
    slots: int | None = None
    card_lanes: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit(Item):
    """Memory modules sold together."""

    memory: str = ""
    modules: int | None = None
    total_bytes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply(Item):
    """A power supply. ``atx`` is the version of the standard, ``3.1`` say; ``connectors`` counts cables by kind."""

    rated_w: float | None = None
    efficiency: str = ""
    atx: str = ""
    connectors: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclosure(Item):
    """A case. ``heat_w``: the most that its maker sold it with; ``boards``: forms that go in."""

    form: str = ""
    boards: tuple[str, ...] | None = None
    slots: int | None = None
    max_length_m: float | None = None
    fans: int | None = None
    volume_m3: float | None = None
    heat_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooler(Item):
    """A CPU cooler and what it carries away."""

    form: str = ""
    capacity_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive(Item):
    """A disk. ``is_ceiling``: the rate is that of its link, which it may not reach."""

    form: str = ""
    capacity_bytes: float | None = None
    read_bytes_per_s: float | None = None
    random_reads_per_s: float | None = None
    is_ceiling: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far a machine that was sold whole can be changed.

    Attributes:
        fixed: Kinds of parts that cannot be replaced.
        supply_options_w: Supplies that were sold for it; empty for any.
        cards: Cards that go in; ``card_form``: of which form.
        cpu_w: The most power of a CPU.
        other_w: What everything but cards and CPU draws; None for the usual desktop.
    """

    name: str
    fixed: tuple[str, ...] = ()
    supply_options_w: tuple[float, ...] = ()
    cards: int | None = None
    card_form: str = "card"
    cpu_w: float | None = None
    other_w: float | None = None
    note: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """How samples come from the disk to the card.

    Attributes:
        bytes_per_sample: As stored.
        decode: ``jpeg``, or empty where nothing is decoded.
        decode_per_core_per_s: Samples that one core prepares in a second, where the user measured it.
        dataset_bytes: All of them.
        access: ``files``, one for each sample and read at random, or ``records``, read in sequence.
    """

    bytes_per_sample: float | None = None
    decode: str = ""
    decode_per_core_per_s: float | None = None
    dataset_bytes: float | None = None
    access: str = "records"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """The parts of one computer; a kind that is not listed is empty."""

    name: str = ""
    gpu: tuple[Card, ...] = ()
    cpu: tuple[Processor, ...] = ()
    motherboard: tuple[Board, ...] = ()
    ram: tuple[Kit, ...] = ()
    psu: tuple[Supply, ...] = ()
    case: tuple[Enclosure, ...] = ()
    cpu_cooler: tuple[Cooler, ...] = ()
    storage: tuple[Drive, ...] = ()
    feed: Feed = field(default_factory=Feed)
    limits: Limits | None = None
    mains: str = ""
    ignored: tuple[str, ...] = ()

    def of(self, kind: str) -> tuple[Any, ...]:
        """The parts of a kind."""
        parts: tuple[Any, ...] = getattr(self, kind)
        return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the user's job makes of the cards of a rig.

    Attributes:
        model: Its name.
        samples_per_s: Predicted throughput of all cards together, if nothing else is slower.
        slow_per_s: What it stays above in nine of ten outcomes; None: the same.
        fit_probability: Probability that the model fits in their memory.
    """

    model: str
    samples_per_s: float | None
    slow_per_s: float | None = None
    fit_probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one rule says of a rig.

    Attributes:
        rule: Its name.
        severity: One of ``SEVERITIES``.
        found: One sentence with the figures.
        evidence: The figures by name, each with its unit in the name.
        fix: What to do; empty where nothing is to be done.
        source: Where the rule and its figures come from.
    """

    rule: str
    severity: str
    found: str
    evidence: Mapping[str, float | int | str] = field(default_factory=dict)
    fix: str = ""
    source: tuple[str, ...] = ()
