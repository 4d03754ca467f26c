"""What is wrong with an offer: rules with names, one function each, computed and never stored.

Dirty rows stay in the table. A rule returns what it found, in words, or nothing; its docstring says
why that is a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from rigwise.facts import lint_prices as prices
from rigwise.facts import lint_sizes as sizes
from rigwise.facts import lint_tables as tables
from rigwise.facts.device import Device
from rigwise.facts.offer import Offer
from rigwise.units import DAY_S

#: How bad: the row means nothing | what it says is not what one gets | worth knowing.
ERROR, WARNING, NOTE = "error", "warning", "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault of one row.

    Attributes:
        row: Index of the offer in the list that was checked.
        name: Name of the rule.
        found: What it found.
    """

    row: int
    name: str
    found: str

    @property
    def severity(self) -> str:
        """``error``, ``warning`` or ``note``."""
        return SEVERITY[self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the rules compare a row with.

    Attributes:
        devices: By id.
        today: The day by which prices are old, or of the future.
        max_age_s: Older prices are old.
        usual_usd_h, usual_memory_bytes: Of an instance by provider and name, where it is known.
    """

    devices: Mapping[str, Device]
    today: date
    max_age_s: float = 365 * DAY_S
    usual_usd_h: Mapping[tuple[str, str], float] = field(default_factory=dict)
    usual_memory_bytes: Mapping[tuple[str, str], float] = field(default_factory=dict)


#: Name -> rule for one row.
RULES: Mapping[str, Callable[[Offer, Known], str]] = {
    "blank-count": sizes.blank_count,
    "fraction-of-device": sizes.fraction,
    "impossible-count": sizes.impossible_count,
    "unknown-device": sizes.unknown_device,
    "unknown-variant": sizes.unknown_variant,
    "memory-mismatch": sizes.memory,
    "gb-as-gib": sizes.gb_as_gib,
    "host-without-accelerator": sizes.host_alone,
    "accelerator-without-host": sizes.accelerator_alone,
    "host-sold-apart": sizes.host_apart,
    "bucketed-size": sizes.bucketed,
    "price-not-a-number": prices.not_a_number,
    "negative-price": prices.negative,
    "no-price": prices.none_at_all,
    "free-tier": prices.free_tier,
    "zero-price": prices.zero,
    "placeholder-price": prices.placeholder,
    "bid-floor": prices.bid_floor,
    "far-below-known-price": prices.far_below,
    "spot-above-on-demand": prices.spot_above,
    "spot-repeats-on-demand": prices.spot_repeats,
    "undated": prices.undated,
    "future-date": prices.future,
    "old": prices.old,
}
DUPLICATE = "duplicate"
#: Name -> rule for all rows together.
TABLE_RULES: Mapping[str, Callable[[Sequence[Offer], Known], Iterator[tuple[int, str]]]] = {
    DUPLICATE: tables.duplicate,
    "estimated-spot": tables.estimated_spot,
    "spot-spread": tables.spot_spread,
    "host-gb-as-gib": tables.host_gb_as_gib,
}
_NOTES = {"fraction-of-device", "unknown-variant", "gb-as-gib", "host-gb-as-gib", "free-tier", "old", "spot-spread"}
_WARNINGS = {"blank-count", "unknown-device", "memory-mismatch", "host-sold-apart", "bucketed-size", "undated"}
_WARNINGS |= {"spot-above-on-demand", "spot-repeats-on-demand", "estimated-spot", DUPLICATE}
SEVERITY: Mapping[str, str] = {
    name: NOTE if name in _NOTES else WARNING if name in _WARNINGS else ERROR for name in (*TABLE_RULES, *RULES)
}


def explanation(name: str) -> str:
    """Why what a rule finds is a fault.

    >>> explanation("bid-floor")
    'Where prices are bids, the least bid is what nobody gets a machine for.'
    """
    rule = TABLE_RULES.get(name) or RULES[name]
    return " ".join((rule.__doc__ or "").split())


def lint(offers: Iterable[Offer], known: Known) -> tuple[Fault, ...]:
    """Every fault of every row, by row; those that other rows show come first, then the order of the rules."""
    rows = tuple(offers)
    found: list[list[Fault]] = [[] for _ in rows]
    for name, table_rule in TABLE_RULES.items():
        for row, words in table_rule(rows, known):
            found[row].append(Fault(row=row, name=name, found=words))
    for name, rule in RULES.items():
        for row, offer in enumerate(rows):
            if words := rule(offer, known):
                found[row].append(Fault(row=row, name=name, found=words))
    return tuple(fault for faults in found for fault in faults)
