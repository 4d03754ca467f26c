"""Where the nodes of a fleet come from, as the command line names it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rigwise.errors import InvalidInputError
from rigwise.execute.nodes import Call, LocalNodes, Nodes

LOCAL, RAY, SLURM = "local", "ray", "slurm"
_HINT = "use local:4, ray, ray:ADDRESS, slurm, slurm:8 or slurm:PARTITION:8"
_PARTITION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,-]*")
_MOST_LOCAL, _MOST = 256, 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlace:
    """Which nodes.

    Attributes:
        kind: ``local``, ``ray`` or ``slurm``.
        count: So many; None for all there are.
        address: Of a Ray cluster; empty for one that is started here.
        partition: Of Slurm; empty for the default.
        shared: A folder that Slurm's nodes and this computer share.
        only: Names of nodes; empty for whatever there is.
    """

    kind: str
    count: int | None = None
    address: str = ""
    partition: str = ""
    shared: str = "."
    only: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = (self.kind, self.address, self.partition, str(self.count or ""))
        return ":".join(part for part in parts if part)


def fleet_place(text: str, shared: str = ".") -> FleetPlace:
    """Nodes as ``--fleet`` names them.

    Raises:
        InvalidInputError: Nothing of that kind, or no such number.

    >>> fleet_place("slurm:gpu:8").partition, fleet_place("ray://10.0.0.1:10001").address
    ('gpu', 'ray://10.0.0.1:10001')
    """
    kind, _, rest = text.partition(":")
    if kind == RAY and rest and not rest.isdecimal():
        address = text if rest.startswith("//") else rest
        return FleetPlace(kind=RAY, address=address)
    words = rest.split(":") if rest else []
    count = _count(words.pop(), text, kind) if words and words[-1].lstrip("+-").isdecimal() else None
    if kind == LOCAL and not words:
        return FleetPlace(kind=LOCAL, count=count or 2)
    if kind == RAY and not words:
        return FleetPlace(kind=RAY, count=count)
    if kind == SLURM and len(words) <= 1 and all(_PARTITION.fullmatch(word) for word in words):
        return FleetPlace(kind=SLURM, count=count, partition="".join(words), shared=shared)
    raise InvalidInputError(f"there is no fleet {text[:60]!r}", hint=_HINT)


def _count(word: str, text: str, kind: str) -> int:
    most = _MOST if kind == SLURM else _MOST_LOCAL
    if len(word) > 9 or not 1 <= int(word) <= most:
        raise InvalidInputError(f"--fleet {text[:60]!r} asks for {word[:20]} nodes", hint=f"1 to {most}")
    return int(word)


def open_nodes(place: FleetPlace, call: Call, node_s: float) -> Nodes:
    """Ask the nodes.

    Args:
        place: Which.
        call: What each of them does.
        node_s: Slurm ends a job after so long.

    Raises:
        InvalidInputError: There are no such nodes.
        MissingExtraError: Ray is not installed.
        RunError: The cluster cannot be reached.
    """
    if place.kind == LOCAL:
        names = [f"local-{number}" for number in range(1, (place.count or 1) + 1)]
        return LocalNodes([name for name in names if not place.only or name in place.only], call)
    if place.kind == RAY:
        from rigwise.execute.ray_nodes import RayNodes

        return RayNodes(place.address, place.count, call, place.only)
    from rigwise.execute.slurm_nodes import SlurmNodes, SlurmPlace

    where = SlurmPlace(
        partition=place.partition, count=place.count, names=place.only, folder=place.shared, limit_s=node_s
    )
    return SlurmNodes(where, call)
