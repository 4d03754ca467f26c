"""What people write as a quantity: a comma groups thousands and is never a decimal point."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError
from rigwise.units import parse_bytes, parse_count, parse_seconds, parse_usd, parse_watts


@given(st.integers(0, 10**15))
def test_grouped_thousands_are_the_same_number(number):
    assert parse_count(f"{number:,}") == parse_count(f"{number:_}") == number


@pytest.mark.parametrize(
    "written", ["1,5", "1,5k", "12,34", "1234,567", "1,,000", "1,00,000", "2.000,50", ",5", "1,5e3"]
)
def test_another_comma_is_refused_and_not_dropped(written):
    for parse in (parse_count, parse_seconds, parse_bytes, parse_watts, parse_usd):
        with pytest.raises(InvalidInputError, match="not a number"):
            parse(written)


@pytest.mark.parametrize("written", ["€2000", "2000 EUR", "£5"])
def test_another_currency_is_said_to_be_one(written):
    with pytest.raises(InvalidInputError, match="not in dollars"):
        parse_usd(written)
