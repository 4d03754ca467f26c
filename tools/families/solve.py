"""Numbers that captures of one family differ in, explained by the sizes of their configurations.

A number is a row of values, one for each capture. It is explained by the sum of fewest products of
sizes that gives all of them. One capture at least is left over to check the sum, and a row that two
sums of equal length explain is an error: then the sizes were chosen badly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import combinations, combinations_with_replacement

import numpy as np

Formula = list[list]

#: Terms and greatest number of factors, in the order in which they are tried.
_STAGES = ((1, 3), (2, 2), (3, 2), (2, 3))
_MAX_DEGREE, _LARGEST = 3, 400_000


class UnexplainedError(Exception):
    """No sum of products gives a row of values, or several do."""


class Solver:
    """Finds formulas for rows of values, and remembers them."""

    def __init__(self, samples: Sequence[Mapping[str, float]]) -> None:
        self.samples = samples
        names = list(samples[0])
        self.floats = [n for n in names if any(isinstance(s[n], float) for s in samples)]
        whole = [n for n in names if n not in self.floats and len({s[n] for s in samples}) > 1]
        self._check_apart(whole)
        self.found: dict[tuple, Formula] = {}
        self.products: dict[tuple, tuple[str, ...]] = {}
        for degree in range(_MAX_DEGREE + 1):
            for chosen in combinations_with_replacement(sorted(whole), degree):
                self.products.setdefault(tuple(_product(chosen, s) for s in samples), chosen)
        self.degrees = [len(chosen) for chosen in self.products.values()]
        self.matrix = np.array(list(self.products), dtype=float).T

    def _check_apart(self, names: Sequence[str]) -> None:
        """Refuse sizes that are equal in every sample, as no formula could tell one from the other."""
        seen: dict[tuple, str] = {}
        for name in names:
            twin = seen.setdefault(tuple(s[name] for s in self.samples), name)
            if twin != name and "positions" not in (name, twin):  # which are the rows of their table, or fewer
                raise UnexplainedError(f"{twin} and {name} are equal in every sample")

    def formula(self, values: tuple) -> Formula:
        """The formula of a row of values.

        Raises:
            UnexplainedError: There is none, or no single simplest one.
        """
        if values not in self.found:
            self.found[values] = self._explain(values)
        return self.found[values]

    def _explain(self, values: tuple) -> Formula:
        if any(isinstance(value, float) for value in values):
            for name in self.floats:
                if tuple(s[name] for s in self.samples) == values:
                    return [[1, name]]
        for terms, degree in _STAGES:
            found: dict[tuple, list[Formula]] = {}
            for columns in self._candidates(values, terms, degree):
                formula = self._exact(columns, values)
                if formula is not None:  # of several, fewest factors and then least coefficients
                    rank = (sum(self.degrees[c] for c in columns), sum(abs(term[0]) for term in formula))
                    found.setdefault(rank, []).append(formula)
            if found:
                best = found[min(found)]
                if len(best) > 1:
                    raise UnexplainedError(f"{values} is {' or '.join(map(str, best))}")
                return best[0]
        raise UnexplainedError(f"no sum of products gives {values}")

    def _candidates(self, values: tuple, terms: int, degree: int) -> Iterator[tuple[int, ...]]:
        """Columns whose combination comes close to the values."""
        target = np.array(values, dtype=float)
        scale = np.abs(self.matrix).max(axis=0)
        unit = self.matrix / scale
        few = [c for c, factors in enumerate(self.degrees) if factors <= degree]
        columns = np.array(list(combinations(few, terms)))
        for start in range(0, len(columns), 50_000):
            block = columns[start : start + 50_000]
            chosen = np.moveaxis(unit[:, block], 1, 0)
            gram = np.einsum("nkt,nku->ntu", chosen, chosen)
            right = np.einsum("nkt,k->nt", chosen, target)
            good = np.abs(np.linalg.det(gram)) > 1e-13
            weights = np.linalg.solve(gram[good], right[good][:, :, None])[:, :, 0]
            error = np.abs(np.einsum("nkt,nt->nk", chosen[good], weights) - target).max(axis=1)
            near = error < 1e-6 * max(1.0, np.abs(target).max())
            yield from (tuple(int(c) for c in row) for row in block[good][near])

    def _exact(self, columns: tuple[int, ...], values: tuple) -> Formula | None:
        """Whole coefficients that give the values exactly."""
        names = list(self.products.values())
        rows = list(self.products)
        system = [[Fraction(rows[c][k]) for c in columns] + [Fraction(values[k])] for k in range(len(values))]
        solution = _solved(system, len(columns))
        if solution is None:
            return None
        if any(w.denominator != 1 or not w or abs(w) > _LARGEST for w in solution):
            return None
        return [[int(w), *names[c]] for w, c in zip(solution, columns, strict=True)]


def _product(names: Sequence[str], sizes: Mapping[str, float]) -> int:
    product = 1
    for name in names:
        product *= sizes[name]
    return product


def _solved(system: list[list[Fraction]], unknowns: int) -> list[Fraction] | None:
    for column in range(unknowns):
        pivot = next((r for r in range(column, len(system)) if system[r][column]), None)
        if pivot is None:
            return None
        system[column], system[pivot] = system[pivot], system[column]
        lead = system[column] = [x / system[column][column] for x in system[column]]
        for r, row in enumerate(system):
            if r != column and row[column]:
                system[r] = [x - row[column] * y for x, y in zip(row, lead, strict=True)]
    if any(row[unknowns] for row in system[unknowns:]):
        return None
    return [row[unknowns] for row in system[:unknowns]]
