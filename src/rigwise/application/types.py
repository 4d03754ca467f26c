"""The nouns of an application: components with typed ports, places, links, and what a component costs on a place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rigwise.units import parse_seconds

#: Sorts of places. Several calls run side by side on a CPU, one after another on the others.
CPU, GPU, DISK = "cpu", "gpu", "disk"

#: How ``rigwise run`` calls a component.
RUNNERS = ("thread", "process", "inline")

#: What the best placement is best at: the highest throughput, the least latency, the fewest dollars per hour.
OBJECTIVES = ("throughput", "latency", "cost")

#: Longest stated duration; it keeps sums of a file's figures finite.
MAX_S = parse_seconds("365d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """An output port.

    Attributes:
        type: What comes out, one word: edges join equal types.
        item_bytes: Size of one item.
        ratio_frac: Items out for each item in (for a source: for each item of its rate).
    """

    type: str
    item_bytes: float
    ratio_frac: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a component costs on a place, as stated in the file.

    One call takes ``batch`` items and lasts
    ``time_per_batch_s + batch * (time_s + read_bytes / bytes_per_s of the place)``.

    Attributes:
        time_s: Of one item.
        time_per_batch_s: Of one call, whatever the number of its items.
        read_bytes: Read from the place (a disk) for each item.
        cores: Cores that one call keeps busy.
        memory_bytes: Held on the place by all workers together.
        source: Where the figures come from.
    """

    time_s: float = 0.0
    time_per_batch_s: float = 0.0
    read_bytes: float = 0.0
    cores: int = 1
    memory_bytes: float = 0.0
    source: str = "stated"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelWork:
    """A model that a component runs; its cost is the estimate on each place that has a device.

    One item is one sample, or one sequence. Keys as in a case of ``rigwise predict``.
    """

    name: str
    task: str = "infer"
    dtype: str | None = None
    seq: int | None = None
    context: int | None = None
    image_size: int | None = None
    layout: str = "nchw"
    mode: str = "eager"


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One box of the graph. Without inputs it is a source, without outputs a sink.

    Attributes:
        inputs: Port -> type.
        outputs: Port -> what comes out.
        rate_per_s: Items that a source is offered; None: as many as the rest can take.
        merge: Inputs are taken as they come, and their rates add up; else one item of each is joined.
        batch: Items of one call.
        max_wait_s: Longest wait for a batch to fill; None: until it is full.
        workers: Most calls side by side; a place may allow fewer.
        on: The place it is pinned to; empty: any that it has a cost on.
        places: Only these; empty for any.
        costs: Place -> stated cost.
        model: A model to estimate where no cost is stated.
        memory_bytes: Held wherever it is, beside that of the cost and the model.
        call, run, ordered, queue: For ``rigwise run``: ``module:function``, one of ``RUNNERS``, whether
            items leave in the order in which they came, items that may wait at each input.
    """

    name: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, Output]
    rate_per_s: float | None = None
    merge: bool = False
    batch: int = 1
    max_wait_s: float | None = None
    workers: int = 1
    on: str = ""
    places: tuple[str, ...] = ()
    costs: Mapping[str, Cost] = field(default_factory=dict)
    model: ModelWork | None = None
    memory_bytes: float = 0.0
    call: str = ""
    run: str = "thread"
    ordered: bool = False
    queue: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where components run.

    Attributes:
        kind: ``cpu``, ``gpu`` (any accelerator) or ``disk``.
        device: Catalogue id, empty for none: models cannot be estimated there.
        cores: Calls that run side by side; 1 for a GPU, shared in time, and for a disk.
        read_bytes_per_s: Of a disk.
        memory_bytes: None: no limit is known.
        host: The CPU place whose memory a GPU or disk is attached to; empty for none.
        usd_per_h: What an hour of it costs if anything runs there.
    """

    name: str
    kind: str
    device: str = ""
    cores: int = 1
    read_bytes_per_s: float | None = None
    memory_bytes: float | None = None
    host: str = ""
    usd_per_h: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What items cross between two places; each direction has the whole bandwidth.

    Attributes:
        between: Names of the places.
        bytes_per_s: Bandwidth each way; infinite where the place itself is the limit (a disk).
        latency_s: Of one item, beside its bytes.
    """

    between: tuple[str, str]
    bytes_per_s: float
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Items that one port hands to another: component and port at each end."""

    source: str
    output: str
    target: str
    input: str

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A graph of components and the places it may run on; read by ``reader.application_from_toml``.

    Attributes:
        name: Of the file, if it gives none.
        where: The file, for messages.
        components: In topological order, as in the file where that leaves a choice.
        edges: In the order of the file.
        optimize: One of ``OBJECTIVES``.
        top: Placements to show.
        assumed: What was filled in.
        tables: The file as it was read: the application can be read again from them.
    """

    name: str
    where: str
    components: Mapping[str, Component]
    edges: tuple[Edge, ...]
    places: Mapping[str, Place]
    links: tuple[Link, ...]
    optimize: str = "throughput"
    top: int = 3
    assumed: tuple[str, ...] = ()
    tables: Mapping[str, Any] = field(default_factory=dict)

    def into(self, name: str) -> tuple[Edge, ...]:
        """The edges that end at a component."""
        return tuple(edge for edge in self.edges if edge.target == name)

    def out_of(self, name: str) -> tuple[Edge, ...]:
        """The edges that begin at a component."""
        return tuple(edge for edge in self.edges if edge.source == name)

    def item_bytes(self, edge: Edge) -> float:
        """Size of one item on an edge."""
        return self.components[edge.source].outputs[edge.output].item_bytes
