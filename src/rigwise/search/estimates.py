"""Estimates of recipes on machines, each computed once.

Machines of one shape, as many devices in as many nodes, can use the same recipes: a range of
rows. One call to the estimator serves all recipes that a block holds, on many machines, so a
machine that is asked for brings along those that the search is likely to ask for next.
Figures hold nan until then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.facts.device import Device
from rigwise.machine.machine import Machine
from rigwise.search.space import Space
from rigwise.search.types import Array, Physics
from rigwise.workload.choices import Family
from rigwise.workload.recipes import Recipes

#: Recompute is worth a look where a recipe fits with less than this probability without it.
_TIGHT = 0.9
#: Most machines that come along with one that is asked for, and how many do so at first: twice as many each time.
_COMPANY, _FIRST_COMPANY = 48, 8

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

_COLUMNS = (
    "step_p10_s",
    "step_p50_s",
    "step_p90_s",
    "memory_p50_bytes",
    "memory_capacity_bytes",
    "fit_probability",
    "energy_p50_j",
)
_KNOWN = len(_COLUMNS)
#: Devices in all, and nodes.
_Shape = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Figures:
    """One figure of all recipes on all machines, of which only what was asked for takes any memory.

    Attributes:
        held: By machine, the figures of the recipes it can use ``[figures, recipes]``.
        first: Row of the first of those ``[machines]``.
        figure: Which of the figures.
        absent: What stands for all others.
    """

    held: Mapping[int, Array]
    first: Indices
    figure: int
    absent: Any

    def __getitem__(self, at: tuple[Any, Any]) -> Any:
        """Of rows on a machine, or of a row on machines."""
        rows, machines = at
        if np.ndim(machines) == 0:
            return self._on(rows, int(machines))
        return np.array([self._on(rows, machine) for machine in machines.tolist()])

    def _on(self, rows: Any, machine: int) -> Any:
        here = rows - self.first[machine]
        if machine not in self.held:
            return np.full(np.shape(here), self.absent)
        row = self.held[machine][self.figure]
        inside = (here >= 0) & (here < len(row))
        return np.where(inside, row[np.where(inside, here, 0)], self.absent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All recipes of a family.

    Attributes:
        recipes: One for each row; those of one shape stand together.
        plain: Row of the same recipe without recompute ``[recipes]``.
        of_shape: Rows that machines of a shape can use: without recompute, and with it.
        held: By machine, what was estimated of its rows ``[figures and whether they are known, recipes]``.
        known: What has been estimated ``[recipes, machines]``.
        columns: Estimates by the names of ``FleetEstimate`` ``[recipes, machines]``.
        kept: By machine, what earlier searches were told of the rows that it can use, as ``held``.
    """

    recipes: Recipes
    plain: Indices
    of_shape: Mapping[_Shape, tuple[Indices, Indices]]
    held: dict[int, Array]
    known: _Figures
    columns: Mapping[str, _Figures]
    kept: dict[Any, Array]

    def read(self, rows: Indices, machine: int) -> dict[str, Array]:
        """Figures by name of rows that are known of a machine ``[recipes]``."""
        if not len(rows):
            return {name: np.zeros(0) for name in _COLUMNS}
        return dict(zip(_COLUMNS, self.held[machine][:_KNOWN, rows - self.known.first[machine]], strict=True))

    def is_known(self, rows: Indices, machine: int) -> bool:
        """Whether all of some rows that a machine can use are known of it."""
        if machine not in self.held:
            return not len(rows)
        return bool((self.held[machine][_KNOWN, rows - self.known.first[machine]] == 1.0).all())


class Estimates:
    """Estimates of the recipes of a space on its machines, filled in on demand."""

    def __init__(self, space: Space, physics: Physics) -> None:
        self._space, self._physics = space, physics
        index: dict[tuple[object, ...], int] = {}
        machines: list[Machine] = []
        for site in space.sites:
            if _identity(site.machine) not in index:
                index[_identity(site.machine)] = len(machines)
                machines.append(site.machine)
        self.machines = tuple(machines)
        self.machine_of_site = np.array([index[_identity(site.machine)] for site in space.sites], dtype=np.int64)
        self._tables: dict[Family, Table] = {}
        self._memory: dict[Family, dict[Any, Any]] = {}
        self._least_s: dict[Family, Array] = {}
        self._bounded: dict[Family, Mask] = {}
        self._calls: Counter[tuple[Family, bool]] = Counter()

    def table(self, family: Family) -> Table:
        """The table of a family, as far as it is filled in."""
        if family not in self._tables:
            self._tables[family] = self._empty_table(family, self._kept(family))
        return self._tables[family]

    def _kept(self, family: Family) -> dict[Any, Any]:
        """What earlier searches were told of a family, as far as the estimator keeps it; else what this one was."""
        if family not in self._memory:
            keeper: Any = getattr(self._physics, "kept_figures", lambda *_: {})
            self._memory[family] = keeper(self._space.task.case, family, self._space.task.model)
        return self._memory[family]

    def least_s(self, family: Family, sites: Indices) -> Array:
        """Lower bound of the whole job by the operators of a family ``[sites]``, without interruptions.

        Nan where the estimator has no such bound, and at sites that were never asked for.
        """
        length = len(self._space.sites)
        found = self._least_s.setdefault(family, np.full(length, np.nan))
        bounded = self._bounded.setdefault(family, np.zeros(length, dtype=np.bool_))
        missing = sites[~bounded[sites]]
        if len(missing):
            found[missing] = self._bounded_s(family, missing)
            bounded[missing] = True
        return found

    def rows(self, family: Family, site: int) -> tuple[Indices, Indices]:
        """Rows of ``table`` that a site's devices can use: without recompute, and with it."""
        return self.table(family).of_shape[_shape(self._space.sites[site].machine)]

    def ensure(self, family: Family, rows: Indices, site: int, urgency: Array, confidence: float = _TIGHT) -> None:
        """Fill in some rows for a site, and the like rows of the next few machines by urgency along with it.

        Args:
            family: Of the rows.
            rows: Of the site's machine.
            site: What is asked for.
            urgency: Smallest first; infinite for machines that will not be asked for ``[machines]``.
            confidence: Probability with which a recipe must fit, so that it needs no recompute.
        """
        table, machine, tight = self.table(family), int(self.machine_of_site[site]), max(confidence, _TIGHT)
        again = bool(table.plain[rows[0]] != rows[0]) if len(rows) else False
        wanted = {machine: rows[table.known[rows, machine] == 0]}
        company = min(_COMPANY, _FIRST_COMPANY << self._calls[family, again])
        self._calls[family, again] += 1
        for other in np.argsort(urgency, kind="stable").tolist():
            if urgency[other] == np.inf or len(wanted) > company:
                break
            if other != machine and len(missing := self._worth_a_look(table, other, tight, again=again)):
                wanted[other] = missing
        self._estimate(table, wanted)

    def ensure_rows(self, family: Family, wanted: Mapping[int, Indices]) -> None:
        """Fill in some rows of each of some machines, all in one go."""
        table = self.table(family)
        self._estimate(table, {machine: rows[table.known[rows, machine] == 0] for machine, rows in wanted.items()})

    def known_rows(self, family: Family, site: int) -> Indices:
        """Rows of ``table`` that were filled in for a site."""
        rows = np.concatenate(self.rows(family, site))
        return np.asarray(rows[self.table(family).known[rows, self.machine_of_site[site]] == 1])

    def fill(self, family: Family) -> Table:
        """The whole table of a family."""
        table = self.table(family)
        every = {i: np.concatenate(table.of_shape[_shape(machine)]) for i, machine in enumerate(self.machines)}
        self._estimate(table, {i: rows[table.known[rows, i] == 0] for i, rows in every.items()})
        return table

    def _bounded_s(self, family: Family, sites: Indices) -> Array:
        space, task, bound = self._space, self._space.task, getattr(self._physics, "least_family_s", None)
        found = np.full(len(sites), np.inf)
        places = [
            (index, _with_device(space.sites[site].machine, device))
            for index, site in enumerate(sites.tolist())
            for device in space.sites[site].variants
        ]
        if bound and places:
            kept, machines = self._kept(family), [machine for _, machine in places]
            asked = [("least", *_known_machine(machine)) for machine in machines]
            further = {key: machine for key, machine in zip(asked, machines, strict=True) if key not in kept}
            usable = {_shape(machine): machine for machine in further.values()}
            recipes = {shape: space.recipes(family, machine) for shape, machine in usable.items()}
            each = [recipes[_shape(machine)] for machine in further.values()]
            if further:
                found_s = bound(task.case, family, list(further.values()), each, task.model)
                kept.update(zip(further, found_s.tolist(), strict=True))
            step_s = np.array([kept[key] for key in asked])
            with np.errstate(invalid="ignore"):  # one device of several that is not known leaves no bound
                np.minimum.at(found, np.array([index for index, _ in places]), step_s)
        return np.where(found < np.inf, task.steps * found, np.nan)

    def _worth_a_look(self, table: Table, machine: int, tight: float, *, again: bool) -> Indices:
        """Rows of a machine that are not known yet; with recompute only where it is tight without."""
        rows = table.of_shape[_shape(self.machines[machine])][again]
        wanted = table.known[rows, machine] == 0
        if again:
            wanted &= table.columns["fit_probability"][table.plain[rows], machine] < tight
        return np.asarray(rows[wanted])

    def _estimate(self, table: Table, wanted: Mapping[int, Indices]) -> None:
        """Estimate some rows of each machine, the same recipe in one go wherever it stands."""
        wanted = {machine: self._unknown(table, machine, rows) for machine, rows in wanted.items() if len(rows)}
        wanted = {machine: rows for machine, rows in wanted.items() if len(rows)}
        if not wanted:
            return
        rows = np.unique(np.concatenate(list(wanted.values())))
        at = [np.searchsorted(rows, of_one) for of_one in wanted.values()]
        mask = np.zeros((len(rows), len(wanted)), dtype=np.bool_)
        for column, places in enumerate(at):
            mask[places, column] = True
        task, machines = self._space.task, [self.machines[i] for i in wanted]
        found = self._physics.estimate_recipes(task.case, table.recipes.take(rows), machines, task.model, mask)
        for column, (machine, of_one) in enumerate(wanted.items()):
            here, held = of_one - table.known.first[machine], table.held[machine]
            for figure, name in enumerate(_COLUMNS):
                held[figure, here] = getattr(found, name)[at[column], column]
            held[_KNOWN, here] = 1.0
            kept = table.kept.setdefault(_known_machine(self.machines[machine]), _nothing(held.shape[1]))
            kept[:, here] = held[:, here]

    def _unknown(self, table: Table, machine: int, rows: Indices) -> Indices:
        """Rows that no earlier search was told of; the others are filled in."""
        held = table.held.get(machine)
        if held is None:
            held = table.held[machine] = _nothing(sum(map(len, table.of_shape[_shape(self.machines[machine])])))
        kept = table.kept.get(_known_machine(self.machines[machine]))
        if kept is None:
            return rows
        here = rows - table.known.first[machine]
        is_kept = kept[_KNOWN, here] == 1.0
        held[:, here[is_kept]] = kept[:, here[is_kept]]
        return np.asarray(rows[~is_kept])

    def _empty_table(self, family: Family, kept: dict[Any, Array]) -> Table:
        machine_of = {_shape(machine): machine for machine in self.machines}
        usable = {shape: self._space.recipes(family, machine) for shape, machine in machine_of.items()}
        ways = len(self._space.task.recomputes)
        first, of_shape, length = {}, {}, 0
        for shape, recipes in usable.items():
            rows = np.arange(length, length + len(recipes))
            first[shape], of_shape[shape] = length, (rows[::ways], rows[np.arange(len(rows)) % ways > 0])
            length += len(recipes)
        every = np.arange(length)  # recipes that differ in recompute alone stand together
        held: dict[int, Array] = {}
        starts = np.array([first[_shape(machine)] for machine in self.machines], dtype=np.int64)
        return Table(
            recipes=Recipes.joined(list(usable.values())),
            plain=every - every % ways,
            of_shape=of_shape,
            held=held,
            known=_Figures(held, starts, _KNOWN, 0.0),
            columns={name: _Figures(held, starts, figure, np.nan) for figure, name in enumerate(_COLUMNS)},
            kept=kept,
        )


def _nothing(length: int) -> Array:
    """Figures of recipes of which nothing is known."""
    figures = np.full((_KNOWN + 1, length), np.nan)
    figures[_KNOWN] = 0.0
    return figures


@dataclass(frozen=True, slots=True, eq=False)
class _Same:
    """A device as a key: known by identity."""

    device: Device

    def __hash__(self) -> int:
        return id(self.device)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.device is other.device


def _known_machine(machine: Machine) -> tuple[object, ...]:
    """What a machine is told by from one search to the next."""
    return (_Same(machine.device), *_identity(machine)[1:])


def _with_device(machine: Machine, device: Device) -> Machine:
    return machine if machine.device is device else replace(machine, device=device)


def _shape(machine: Machine) -> _Shape:
    return machine.count, machine.nodes


def _identity(machine: Machine) -> tuple[object, ...]:
    return (machine.device.id, machine.count, machine.nodes, machine.link, machine.inter_node_bytes_per_s)
