"""Many recipes as columns: there are thousands for one machine, of which few are ever looked at one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.workload.case import RECOMPUTE
from rigwise.workload.lower import Recipe

Column = NDArray[np.int64]

#: What a recipe says beside its number format, memory layout and mode; recompute by its place in ``RECOMPUTE``.
NAMES = ("micro_batch", "zero", "tensor", "pipeline", "expert", "context", "sequence", "virtual", "recompute")


class Recipes(Sequence[Recipe]):
    """Recipes of one number format, memory layout and mode, in order.

    Attributes:
        dtype, layout, mode: Of all.
        columns: The rest, by ``NAMES`` ``[recipes]``.
    """

    def __init__(self, family: Any, columns: Mapping[str, Column]) -> None:
        """Of a family, or of anything with its number format, memory layout and mode."""
        self.dtype, self.layout, self.mode = str(family.dtype), str(family.layout), str(family.mode)
        self.columns = columns

    @staticmethod
    def of(recipes: Sequence[Recipe]) -> Recipes:
        """Recipes of one family, laid out as columns."""
        if isinstance(recipes, Recipes):
            return recipes
        rows = [(*(int(getattr(r, name)) for name in NAMES[:-1]), RECOMPUTE.index(r.recompute)) for r in recipes]
        return Recipes(recipes[0], dict(zip(NAMES, np.array(rows, dtype=np.int64).T, strict=True)))

    @staticmethod
    def joined(parts: Sequence[Recipes]) -> Recipes:
        """Recipes of one family, one after the other."""
        return Recipes(parts[0], {name: np.concatenate([part.columns[name] for part in parts]) for name in NAMES})

    @property
    def members(self) -> Column:
        """Devices of one data-parallel replica ``[recipes]``."""
        return np.asarray(self.columns["tensor"] * self.columns["pipeline"] * self.columns["context"])

    def take(self, rows: NDArray[Any]) -> Recipes:
        """Some of them, by index or mask."""
        return Recipes(self, {name: column[rows] for name, column in self.columns.items()})

    def __len__(self) -> int:
        """How many there are."""
        return len(self.columns["zero"])

    def __getitem__(self, index: Any) -> Any:
        """One recipe by index, several by slice."""
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        values: dict[str, Any] = {name: int(column[index]) for name, column in self.columns.items()}
        values |= {"sequence": bool(values["sequence"]), "recompute": RECOMPUTE[values["recompute"]]}
        return Recipe(dtype=self.dtype, layout=self.layout, mode=self.mode, **values)

    def __iter__(self) -> Iterator[Recipe]:
        """One after the other."""
        return (self[index] for index in range(len(self)))

    def __contains__(self, recipe: object) -> bool:
        """Whether a recipe is among them."""
        if not isinstance(recipe, Recipe):
            return False
        alike = Recipes.of((recipe,))
        if (alike.dtype, alike.layout, alike.mode) != (self.dtype, self.layout, self.mode):
            return False
        same = [self.columns[name] == alike.columns[name][0] for name in NAMES]
        return bool(np.logical_and.reduce(same).any())
