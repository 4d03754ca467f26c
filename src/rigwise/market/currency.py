"""Amounts of money in any currency, as US dollars at a dated rate.

Everything inside is in dollars. Text is turned into dollars once, where it is read, at the rates
of the package or the user's own; an answer says at which.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rigwise.errors import InvalidInputError, near_matches
from rigwise.facts.currencies import currency_file
from rigwise.units import parse_usd

USD = "USD"
_YOURS = "yours"
_AMOUNT = re.compile(r"^\s*(?P<before>[^\d\s.,+-]*)\s*(?P<number>[\d.,_]+(?:[eE][+-]?\d+)?)\s*(?P<after>\D*?)\s*$")
_MAX_RATE = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one unit of a currency is worth, when, and who says so."""

    usd: float
    as_of: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Rates by ISO 4217 code; a dollar is always a dollar."""

    by_code: Mapping[str, Rate] = field(default_factory=dict)

    def of(self, code: str) -> Rate:
        """The rate of a currency.

        Raises:
            InvalidInputError: None is known.

        >>> Rates().of("USD").usd
        1.0
        """
        if code == USD:
            return Rate(usd=1.0, as_of="", source="")
        if code not in self.by_code:
            close = near_matches(code, [known.lower() for known in self.by_code]).upper().replace("DID YOU MEAN", "")
            known = f"did you mean{close} " if close else ""
            raise InvalidInputError(
                f"no rate is known for the currency {code!r}",
                hint=f"{known}give one: --exchange {code}=DOLLARS".strip(),
            )
        return self.by_code[code]


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """An amount as it was written: ``number`` units of ``currency``."""

    number: float
    currency: str

    def usd(self, rates: Rates) -> float:
        """The amount in dollars; errors of ``Rates.of``."""
        return self.number * rates.of(self.currency).usd


def package_rates() -> Rates:
    """The dated rates in the package, by way of the dollar.

    >>> round(package_rates().of("EUR").usd, 4), round(package_rates().of("TWD").usd, 4)
    (1.1761, 0.032)
    """
    found: dict[str, Rate] = {}
    for table in currency_file().tables:
        dollars = table.rates[USD] if table.base != USD else 1.0
        for code, units in table.rates.items():
            if code != USD:
                found[code] = Rate(usd=dollars / units, as_of=table.as_of, source=table.source)
    return Rates(by_code=found)


def with_own(rates: Rates, texts: Iterable[str]) -> Rates:
    """The rates with the user's own, each ``CODE=DOLLARS``.

    Raises:
        InvalidInputError: Not of that form, not above zero, or given twice.

    >>> with_own(package_rates(), ["EUR=1.08"]).of("EUR").usd
    1.08
    """
    own: dict[str, Rate] = {}
    for text in texts:
        code, equals, number = text.partition("=")
        code = code.strip().upper()
        try:
            usd = float(number)
        except ValueError:
            usd = math.nan
        if not equals or not re.fullmatch(r"[A-Z]{3}", code) or not 0 < usd < _MAX_RATE:
            raise InvalidInputError(f"rate {text!r} cannot be read", hint="write a code and dollars: EUR=1.08")
        if code == USD and usd != 1:
            raise InvalidInputError(f"rate {text!r}: a dollar is a dollar")
        if code in own:
            raise InvalidInputError(f"two rates are given for {code}")
        own[code] = Rate(usd=usd, as_of="", source=_YOURS)
    return Rates(by_code={**rates.by_code, **own})


def parse_money(text: str | float) -> Money:
    """An amount and its currency from "€100", "100 EUR", "NT$ 46,400", "1.5k usd" or a bare number of dollars.

    Raises:
        InvalidInputError: No number, below zero, or a sign that is unknown or means several currencies.

    >>> parse_money("€100"), parse_money("46,400 TWD")
    (Money(number=100.0, currency='EUR'), Money(number=46400.0, currency='TWD'))
    """
    if not isinstance(text, str):
        return Money(number=_not_negative(parse_usd(text), text), currency=USD)
    match = _AMOUNT.match(text)
    if match is None:
        raise InvalidInputError(f"amount {text!r} is not a number with a currency", hint="write €100, 100 EUR or $100")
    before, number, after = match["before"], match["number"], match["after"].strip()
    scale, after = _scale(after)
    if before and after:
        raise InvalidInputError(f"amount {text!r} names two currencies", hint="write €100 or 100 EUR")
    if re.search(r",\d{1,2}$", number):
        raise InvalidInputError(
            f"amount {text!r}: is the comma a decimal point?", hint="write 99.50 for cents and 1,000 for thousands"
        )
    amount = parse_usd(number + scale)
    return Money(number=_not_negative(amount, text), currency=_code(before or after, text))


def _scale(after: str) -> tuple[str, str]:
    """``k`` or ``m`` directly after the number, and what follows it."""
    match = re.match(r"^([kKmM])(?![A-Za-z])\s*(.*)$", after)
    return (match[1], match[2]) if match else ("", after)


def _not_negative(amount: float, text: object) -> float:
    if not (amount >= 0 and math.isfinite(amount)):
        raise InvalidInputError(f"amount {text!r} is below zero")
    return amount


def _code(sign: str, text: str) -> str:
    """The ISO 4217 code that a sign or a code stands for; no sign is dollars."""
    file = currency_file()
    if not sign:
        return USD
    if sign in file.signs:
        return file.signs[sign]
    if sign.lower() in file.unclear:
        codes = " or ".join(file.unclear[sign.lower()])
        raise InvalidInputError(f"amount {text!r}: {sign} is money of several countries", hint=f"write {codes}")
    if re.fullmatch(r"[A-Za-z]{3}", sign):
        return sign.upper()
    raise InvalidInputError(f"amount {text!r} has an unknown currency {sign!r}", hint="write a code: 100 EUR")


def to_usd(text: str | float, rates: Rates) -> float:
    """An amount in any currency as dollars; errors of ``parse_money`` and ``Rates.of``.

    >>> to_usd("€100", with_own(package_rates(), ["EUR=1.1"])), to_usd("$1.5k", Rates())
    (110.00000000000001, 1500.0)
    """
    return parse_money(text).usd(rates)


def with_tax_usd(price_usd: float, tax_frac: float) -> float:
    """What a price before tax comes to.

    Raises:
        InvalidInputError: A tax below zero, or of 100 % and more, which is a rate written as per cent.

    >>> with_tax_usd(100.0, 0.19)
    119.0
    """
    if not 0 <= tax_frac < 1:
        raise InvalidInputError(f"tax is {tax_frac:g}", hint="give a fraction: 0.19, or 19%")
    return price_usd * (1 + tax_frac)


def used(text: str | float, rates: Rates) -> str:
    """At which rate an amount became dollars, in words; empty for dollars.

    >>> used("€100", package_rates())
    'EUR 1 = $1.1761 (ecb euro reference rates of the day, 2026-05-08)'
    """
    code = parse_money(text).currency
    if code == USD:
        return ""
    rate = rates.of(code)
    when = f"{rate.source}, {rate.as_of}" if rate.as_of else rate.source
    return f"{code} 1 = ${rate.usd:.4g} ({when})" if rate.usd < 1 else f"{code} 1 = ${rate.usd:.4f} ({when})"
