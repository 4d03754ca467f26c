"""What a search compares: of ways that cost the same, the quicker comes first, and the cost shown is the cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.search.bounds import Goal
from rigwise.units import HOUR_S

COST = Goal(objective="cost", confidence=0.9)


@given(usd=st.floats(0.0, 1e3), hours=st.floats(0.0, 1e4), more=st.floats(2.0, 1e4))
def test_of_ways_that_cost_the_same_the_quicker_is_better(usd: float, hours: float, more: float) -> None:
    quick, slow = (COST.settled(COST.value(usd, h * HOUR_S, 0.0, 0.0), h * HOUR_S) for h in (hours, hours + more))
    assert quick < slow


@given(usd=st.floats(0.01, 1e6), hours=st.floats(0.0, 1e4))
def test_time_never_outweighs_money(usd: float, hours: float) -> None:
    value = COST.settled(COST.value(usd, hours * HOUR_S, 0.0, 0.0), hours * HOUR_S)
    assert value == pytest.approx(usd, rel=1e-9, abs=1e-8)
    assert COST.untied(value, usd) == usd


def test_other_objectives_are_what_they_say() -> None:
    for objective, number in (("time", 7200.0), ("energy", 5.0), ("outlay", 3.0)):
        goal = Goal(objective=objective, confidence=0.9)
        assert goal.untied(goal.settled(goal.value(3.0, 7200.0, 5.0, 1.0), 7200.0), 3.0) == number
