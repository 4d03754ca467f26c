"""How good a number is: the basis of a fact, and the provenance of a prediction."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Basis(StrEnum):
    """Where a fact in the catalogue comes from, best first."""

    MEASURED = "measured"  # read off the device itself
    PUBLISHED = "published"  # stated by the maker, or by an aggregation that names the maker
    DERIVED = "derived"  # computed from published figures by a stated formula
    ASSUMED = "assumed"  # remembered or taken over from a relative; widens every interval


class Provenance(StrEnum):
    """What a prediction rests on, best first."""

    MEASURED_HERE = "measured-here"
    SAME_DEVICE = "same-device"
    SAME_ARCHITECTURE = "same-architecture"
    OTHER_ARCHITECTURE = "other-architecture"
    SPEC_ONLY = "spec-only"


def worst(grades: Iterable[Provenance]) -> Provenance:
    """A result is as good as its worst input.

    >>> worst([Provenance.SAME_DEVICE, Provenance.SPEC_ONLY])
    <Provenance.SPEC_ONLY: 'spec-only'>
    """
    order = list(Provenance)
    return max(grades, key=order.index)
