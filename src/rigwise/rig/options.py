"""What a build may choose from: parts of the table with a price, and what the owner has already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rigwise.errors import RigwiseError
from rigwise.rig.names import from_row, rows
from rigwise.rig.speed import Setup, setup_of
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
        """The parts in words, equal ones counted."""
        names = [part.name for part in self.parts]
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
        count: Exactly this many cards; None for one to ``MOST_CARDS``.
        price: ``low`` or ``median`` of the asked prices.
        storage_bytes: Least capacity of the disk.
        extra: Parts that the user can get beside those of the table, with their prices.
    """

    devices: tuple[str, ...] = ()
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
    if isinstance(item, Card):
        return bool(item.device) and item.form == "card" and (not wish.devices or item.device in wish.devices)
    if isinstance(item, Drive):
        return (item.capacity_bytes or 0) >= wish.storage_bytes
    return True


def new_options(wish: Wish) -> dict[str, tuple[Option, ...]]:
    """Every choice for a computer that is bought whole, by kind, the cheapest first."""
    options = {}
    for kind in KINDS:
        items = for_sale(kind, wish)
        counts = wish.counts if kind == "gpu" else (1,)
        options[kind] = ranked(Option(parts=(i,) * n, price_usd=(i.price_usd or 0.0) * n) for i in items for n in counts)
    return options


def ranked(options: Iterable[Option]) -> tuple[Option, ...]:
    """The cheapest first; of equal prices by name."""
    return tuple(sorted(options, key=lambda option: (option.price_usd, option.name)))


def upgrade_options(rig: Rig, wish: Wish) -> dict[str, tuple[Option, ...]]:
    """Every choice for a computer that stands already: keep, add, replace."""
    fixed = rig.limits.fixed if rig.limits else ()
    options = {}
    for kind in KINDS:
        own = rig.of(kind)
        listed = [Option(parts=own, price_usd=0.0, action="keep")]
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


def stated_prices(rig: Rig, price: str) -> Rig:
    """A rig whose new parts without a price have that of the table, for a sum.

    A part that the table does not have stays without.
    """
    changes = {}
    for kind in KINDS:
        changes[kind] = tuple(part if part.price_usd is not None else _priced(part, kind, price) for part in rig.of(kind))
    return replace(rig, **changes)


def _priced(part: Item, kind: str, price: str) -> Item:
    if part.condition == "owned":
        return part
    row = next((row for row in rows(kind) if row.name == part.name), None)
    try:
        found = from_row(row, price) if row else None
    except RigwiseError:
        found = None
    return replace(part, price_usd=found.price_usd, as_of=found.as_of) if found else part
