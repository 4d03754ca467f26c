"""Sizes that are symbolic in batch, sequence length, context and image size.

A dimension is an ``int`` or a ``Dim``: a polynomial with integer coefficients whose
variables are the symbols of a graph, possibly behind a floor division:

    b*s        tokens of a batch
    (p+1)//2   height after a stride-2 convolution with padding 1

One floor is enough for any stack of convolutions and poolings, because
``((p+a)//d + c)//e == (p + a + c*d)//(d*e)`` for whole numbers.

The text form is what a ``.rwg`` file holds. It is read by the small parser below,
never evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rigwise.errors import InvalidInputError

SYMBOLS = {
    "b": "batch: samples or sequences in one step",
    "s": "sequence length in new tokens per sequence (matrix order for sgemm and dgemm)",
    "c": "context: tokens already in the cache when one more is decoded",
    "p": "image height and width in pixels",
}


@dataclass(frozen=True, slots=True, order=True)
class Atom:
    """``(symbol + add) // div``; a plain symbol has add 0 and div 1."""

    symbol: str
    add: int = 0
    div: int = 1

    def __str__(self) -> str:
        inner = f"({self.symbol}{self.add:+d})" if self.add else self.symbol
        return inner if self.div == 1 else f"{inner}//{self.div}"

    def at(self, sizes: Mapping[str, Any]) -> Any:
        """The value for given symbol sizes, which may be NumPy arrays."""
        try:
            return (sizes[self.symbol] + self.add) // self.div
        except KeyError:
            raise InvalidInputError(f"no value for the symbol {self.symbol!r} ({SYMBOLS[self.symbol]})") from None


@dataclass(frozen=True, slots=True)
class Dim:
    """A polynomial: whole-number coefficients times products of atoms."""

    terms: tuple[tuple[int, tuple[Atom, ...]], ...]

    def __str__(self) -> str:
        return "+".join(_term_text(c, atoms) for c, atoms in self.terms).replace("+-", "-") or "0"

    def at(self, sizes: Mapping[str, Any]) -> Any:
        """The value for given symbol sizes, which may be NumPy arrays."""
        total: Any = 0
        for coefficient, atoms in self.terms:
            product: Any = coefficient
            for atom in atoms:
                product = product * atom.at(sizes)
            total = total + product
        return total


Size = int | Dim


def _term_text(coefficient: int, atoms: tuple[Atom, ...]) -> str:
    factors = [str(a) for a in atoms]
    if coefficient != 1 or not factors:
        factors.insert(0, str(coefficient))
    return "*".join(factors)


def size_at(size: Size, sizes: Mapping[str, Any]) -> Any:
    """An int as itself, a ``Dim`` at the given symbol sizes.

    >>> size_at(parse_size("b*(p+1)//2"), {"b": 8, "p": 224})
    896
    """
    return size if isinstance(size, int) else size.at(sizes)


class Sizes(dict[str, Any]):
    """Symbol sizes that remember the products of the shapes they were asked about."""

    __slots__ = ("products",)

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__(sizes)
        self.products: dict[int, tuple[tuple[Size, ...], Any]] = {}


def product_at(shape: tuple[Size, ...], sizes: Mapping[str, Any]) -> Any:
    """Elements of a shape at the given symbol sizes.

    >>> product_at((parse_size("b"), 1000), {"b": 64})
    64000
    """
    known = sizes.products if isinstance(sizes, Sizes) else {}
    if id(shape) in known:
        return known[id(shape)][1]
    product: Any = 1
    for size in shape:
        product = product * size_at(size, sizes)
    known[id(shape)] = (shape, product)  # the shape is kept so that its id stays its own
    return product


def polynomial(terms: Mapping[tuple[Atom, ...], int]) -> Size:
    """The size with these coefficients by monomial; constant polynomials become ints."""
    kept = {tuple(sorted(atoms)): c for atoms, c in terms.items() if c}
    if not kept:
        return 0
    if set(kept) == {()}:
        return kept[()]
    return Dim(tuple((c, atoms) for atoms, c in sorted(kept.items(), reverse=True)))


_FACTOR = re.compile(r"\s*(?:(\d+)|\((\w)([+-]\d+)\)(?://(\d+))?|([a-z])(?://(\d+))?)\s*")
_MAX_TEXT, _MAX_SIZE = 400, 10**15


def parse_size(text: str | int) -> Size:
    """Read the text form of a size.

    Raises:
        InvalidInputError: It is no such polynomial, or absurdly large.

    >>> parse_size("2*b*s+1")
    Dim(terms=((2, (Atom(symbol='b', add=0, div=1), Atom(symbol='s', add=0, div=1))), (1, ())))
    >>> str(parse_size("b*(p+1)//2"))
    'b*(p+1)//2'
    """
    if isinstance(text, int) and not isinstance(text, bool) and abs(text) <= _MAX_SIZE:
        return text
    if not isinstance(text, str) or not text or len(text) > _MAX_TEXT:
        raise InvalidInputError(f"{str(text)[:40]!r} is not a size")
    terms: dict[tuple[Atom, ...], int] = {}
    position = 0
    while position < len(text):
        sign, position = (-1 if text[position] == "-" else 1), position + (text[position] in "+-")
        coefficient, atoms, position = _parse_term(text, position)
        key = tuple(sorted(atoms))
        terms[key] = terms.get(key, 0) + sign * coefficient
    return polynomial(terms)


def _parse_term(text: str, position: int) -> tuple[int, list[Atom], int]:
    """Factors joined by ``*`` from ``position`` on: coefficient, atoms, where it stopped."""
    coefficient, atoms = 1, []
    while True:
        match = _FACTOR.match(text, position)
        if match is None:
            raise InvalidInputError(f"{text[:60]!r} is not a size: cannot read it from position {position}")
        number, shifted, add, shifted_div, plain, plain_div = match.groups()
        if number:
            coefficient *= int(number)
        else:
            symbol, div = shifted or plain, int(shifted_div or plain_div or 1)
            if symbol not in SYMBOLS or div < 1:
                raise InvalidInputError(f"{text[:60]!r} is not a size: unknown symbol {symbol!r} or division by zero")
            atoms.append(Atom(symbol, int(add or 0), div))
        if abs(coefficient) > _MAX_SIZE or len(atoms) > 8:
            raise InvalidInputError(f"{text[:60]!r} is not a size: too large")
        position = match.end()
        if position < len(text) and text[position] == "*":
            position += 1
            continue
        if position < len(text) and text[position] not in "+-":
            raise InvalidInputError(f"{text[:60]!r} is not a size: cannot read it from position {position}")
        return coefficient, atoms, position
