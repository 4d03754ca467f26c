"""What a build may choose from: parts of the table with a price, and what the owner has already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rigwise.facts.catalogue import device
from rigwise.rig.fit import lanes_each, least_lanes
from rigwise.rig.names import from_row, rows
from rigwise.rig.speed import DESKTOP_LANES, Setup, setup_of
from rigwise.rig.types import KINDS, Card, Drive, Item, Rig

#: A build on a desktop board takes no more cards than this, unless the user asks for a number.
MOST_CARDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One choice for a kind of parts.

    Attributes:
        parts: What the computer then has of that kind; empty where an owned part is not described.
        price_usd: What has to be paid for it.
        action: ``buy``, ``keep``, ``add`` or ``replace``.
    """

    parts: tuple[Any, ...]
    price_usd: float
    action: str = "buy"

    @property
    def name(self) -> str:
        """The parts in words, equal ones counted; of an addition only what is added."""
        if self.action == "add":
            return f"+ {self.parts[-1].name}"
        names = [part.name + (" (used)" if part.condition == "used" else "") for part in self.parts]
        counted = [f"{names.count(n)} x {n}" if names.count(n) > 1 else n for n in dict.fromkeys(names)]
        return " + ".join(counted) or "as it is"

    @property
    def setup(self) -> Setup | None:
        """Equal cards as the estimator sees them; None for a mixture or none."""
        cards: tuple[Card, ...] = self.parts
        return setup_of(cards[0], len(cards)) if len({c.device for c in cards}) == 1 and cards[0].device else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user narrows the choice to.

    Attributes:
        devices: Only these accelerators, by catalogue id; empty for any.
        vendors: Only accelerators of these makers, in lower case; empty for any.
        count: Exactly this many cards; None for one to ``MOST_CARDS``.
        price: ``low`` or ``median`` of the asked prices.
        storage_bytes: Least capacity of the disk.
        extra: Parts that the user can get beside those of the table, with their prices.
    """

    devices: tuple[str, ...] = ()
    vendors: tuple[str, ...] = ()
    count: int | None = None
    price: str = "low"
    storage_bytes: float = 1e12
    extra: Rig = field(default_factory=Rig)

    @property
    def counts(self) -> Sequence[int]:
        """Numbers of cards to look at."""
        return (self.count,) if self.count else range(1, MOST_CARDS + 1)


def for_sale(kind: str, wish: Wish) -> tuple[Item, ...]:
    """Parts of a kind that have a price, the cheapest first."""
    listed = [from_row(part, wish.price) for part in rows(kind)]
    stated = [part for part in wish.extra.of(kind) if part.price_usd is not None]
    priced = [item for item in [*listed, *stated] if item.price_usd is not None and _wanted(item, wish)]
    return tuple(sorted(priced, key=lambda item: (item.price_usd or 0.0, item.name)))


def _wanted(item: Item, wish: Wish) -> bool:
    return not _unwanted(item, wish)


def _unwanted(item: Item, wish: Wish) -> str:
    """Why a part is not looked at, empty if it is."""
    if isinstance(item, Card):
        if not item.device or item.form != "card":
            return "no PCIe card that the estimator knows"
        named = not wish.devices or item.device in wish.devices
        if not named or (wish.vendors and device(item.device).vendor.lower() not in wish.vendors):
            return "not one of the devices asked for"
    if isinstance(item, Drive) and (item.capacity_bytes or 0) < wish.storage_bytes:
        return "a disk below the capacity asked for"
    return ""


def left_out(wish: Wish) -> Counter[str]:
    """Rows of the parts table that are no choice, by reason."""
    counts: Counter[str] = Counter()
    for kind in KINDS:
        for item in (from_row(part, wish.price) for part in rows(kind)):
            reason = _unwanted(item, wish) or ("without a price" if item.price_usd is None else "")
            if reason:
                counts[reason] += 1
    return counts


def new_options(wish: Wish) -> dict[str, tuple[Option, ...]]:
    """Every choice for a computer that is bought whole, by kind, the cheapest first."""
    options = {}
    for kind in KINDS:
        items = for_sale(kind, wish)
        counts = wish.counts if kind == "gpu" else (1,)
        options[kind] = ranked(
            Option(parts=(i,) * n, price_usd=(i.price_usd or 0.0) * n) for i in items for n in counts
        )
    return _that_meet(options)


def _that_meet(options: dict[str, tuple[Option, ...]]) -> dict[str, tuple[Option, ...]]:
    """The same without CPUs and boards that have no counterpart, and cards beyond any CPU's lanes.

    The rules ``cpu-socket`` and ``pcie-lanes`` would refuse them in every build.
    """
    cpus, boards = options["cpu"], options["motherboard"]
    sockets = {o.parts[0].socket for o in cpus} & {o.parts[0].socket for o in boards}
    cpus = tuple(o for o in cpus if o.parts[0].socket in sockets)
    most = max((o.parts[0].lanes or 0 for o in cpus), default=0)
    cards = tuple(o for o in options["gpu"] if lanes_each(most, len(o.parts)) >= least_lanes(o.parts))
    boards = tuple(o for o in boards if o.parts[0].socket in sockets)
    return options | {"cpu": cpus, "motherboard": boards, "gpu": cards}


def ranked(options: Iterable[Option]) -> tuple[Option, ...]:
    """The cheapest first; of equal prices by name."""
    return tuple(sorted(options, key=lambda option: (option.price_usd, option.name)))


def upgrade_options(rig: Rig, wish: Wish) -> dict[str, tuple[Option, ...]]:
    """Every choice for a computer that stands already: keep, add, replace.

    Cards beyond the room of a machine sold whole, or beyond any CPU's lanes, are left out: the
    rules would refuse them.
    """
    fixed = rig.limits.fixed if rig.limits else ()
    options = {}
    for kind in KINDS:
        own = rig.of(kind)
        listed = [Option(parts=own, price_usd=0.0, action="keep")] if own or kind != "gpu" else []
        if kind not in fixed:
            action = "replace" if own else "buy"
            sold = for_sale(kind, wish)
            counts = wish.counts if kind == "gpu" else (1,)
            listed += [
                Option(parts=(i,) * n, price_usd=(i.price_usd or 0.0) * n, action=action) for i in sold for n in counts
            ]
            if kind in ("gpu", "ram", "storage") and own:
                listed += _additions(kind, own, sold)
        options[kind] = ranked(listed)
    lanes = max((o.parts[0].lanes or DESKTOP_LANES for o in options["cpu"] if o.parts), default=DESKTOP_LANES)
    most = rig.limits.cards if rig.limits and rig.limits.cards is not None else MOST_CARDS
    options["gpu"] = tuple(
        o
        for o in options["gpu"]
        if o.action not in ("replace", "buy")
        or (len(o.parts) <= most and lanes_each(lanes, len(o.parts)) >= least_lanes(o.parts))
    )
    return options


def _additions(kind: str, own: tuple[Any, ...], sold: Sequence[Item]) -> list[Option]:
    """Something more of the same: the same card, another kit, another disk."""
    if kind == "gpu":
        same = [item for item in sold if item.name == own[0].name]
        return [Option(parts=(*own, item), price_usd=item.price_usd or 0.0, action="add") for item in same[:1]]
    return [Option(parts=(*own, item), price_usd=item.price_usd or 0.0, action="add") for item in sold]


def setups_of(options: Mapping[str, Sequence[Option]]) -> tuple[Setup, ...]:
    """The setups whose speed has to be known."""
    return tuple(dict.fromkeys(option.setup for option in options["gpu"] if option.setup))
