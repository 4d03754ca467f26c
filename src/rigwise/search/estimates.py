"""Estimates of recipes on machines, each computed once.

One call to the estimator serves one recipe on many machines, so a machine that is asked for
brings along those that the search is likely to ask for next. Tables hold nan until then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rigwise.machine.machine import Machine
from rigwise.search.space import Space
from rigwise.search.types import Array, Physics
from rigwise.workload.choices import Family
from rigwise.workload.lower import Recipe

#: Recompute is worth a look where a recipe fits with less than this probability without it.
_TIGHT = 0.9

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All recipes of a family.

    Attributes:
        recipes: One for each row.
        plain: Row of the same recipe without recompute ``[recipes]``.
        of_count: Rows that a number of devices can use: without recompute, and with it.
        valid: Whether a machine's devices can share the work so ``[recipes, machines]``.
        known: What has been estimated ``[recipes, machines]``.
        columns: Estimates by the names of ``FleetEstimate`` ``[recipes, machines]``.
    """

    recipes: tuple[Recipe, ...]
    plain: Indices
    of_count: dict[int, tuple[Indices, Indices]]
    valid: Mask
    known: Mask
    columns: dict[str, Array]


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

    def table(self, family: Family) -> Table:
        """The table of a family, as far as it is filled in."""
        if family not in self._tables:
            self._tables[family] = self._empty_table(family)
        return self._tables[family]

    def rows(self, family: Family, site: int) -> tuple[Indices, Indices]:
        """Rows of ``table`` that a site's devices can use: without recompute, and with it."""
        return self.table(family).of_count[self._space.sites[site].machine.count]

    def ensure(self, family: Family, rows: Indices, site: int, company: Mask) -> None:
        """Fill in some rows for a site, and for the machines in ``company`` along with it."""
        table, machine = self.table(family), self.machine_of_site[site]
        for row in rows[~table.known[rows, machine]]:
            wanted = table.valid[row] & ~table.known[row] & company
            if table.plain[row] != row:
                wanted &= table.columns["fit_probability"][table.plain[row]] < _TIGHT
            wanted[machine] = True
            self._estimate(table, int(row), wanted)

    def fill(self, family: Family) -> Table:
        """The whole table of a family."""
        table = self.table(family)
        for row in range(len(table.recipes)):
            self._estimate(table, row, table.valid[row] & ~table.known[row])
        return table

    def _estimate(self, table: Table, row: int, wanted: Mask) -> None:
        where = np.flatnonzero(wanted)
        if not where.size:
            return
        task, machines = self._space.task, [self.machines[i] for i in where]
        estimate = self._physics.estimate_fleet(task.case, table.recipes[row], machines, task.model)
        for name, column in table.columns.items():
            column[row, where] = getattr(estimate, name)
        table.known[row, where] = True

    def _empty_table(self, family: Family) -> Table:
        devices = np.array([machine.count for machine in self.machines])
        counts = sorted(set(devices.tolist()))
        usable = {count: self._space.recipes(family, count) for count in counts}
        recipes = tuple(dict.fromkeys(recipe for count in counts for recipe in usable[count]))
        row_of = {recipe: row for row, recipe in enumerate(recipes)}
        plain = np.array([row_of[replace(recipe, recompute="none")] for recipe in recipes], dtype=np.int64)
        shape = (len(recipes), len(self.machines))
        of_count, valid = {}, np.zeros(shape, dtype=np.bool_)
        for count in counts:
            rows = np.array([row_of[recipe] for recipe in usable[count]], dtype=np.int64)
            of_count[count] = rows[plain[rows] == rows], rows[plain[rows] != rows]
            valid[np.ix_(rows, np.flatnonzero(devices == count))] = True
        return Table(
            recipes=recipes,
            plain=plain,
            of_count=of_count,
            valid=valid,
            known=np.zeros(shape, dtype=np.bool_),
            columns={name: np.full(shape, np.nan) for name in _COLUMNS},
        )


def _identity(machine: Machine) -> tuple[object, ...]:
    return (machine.device.id, machine.count, machine.nodes, machine.link, machine.inter_node_bytes_per_s)
