"""Traces of capacity: both forms of file, what is wrong with them, and traces that are drawn."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError
from rigwise.market.spot import ASSUMED, Interruption
from rigwise.market.trace import EXPONENTIAL, HEAVY, Draw, Trace, draw, read_trace, refined, shape_of, windows
from rigwise.units import HOUR_S

CSV = "hour,available\n0,1\n0.5,1\n1.0,0\n1.5,1\n"


def test_a_csv_file_is_read() -> None:
    trace = read_trace(CSV, "zone.csv")
    assert trace.step_s == 1800
    assert trace.available.tolist() == [True, True, False, True]


def test_the_public_form_is_read() -> None:
    text = json.dumps({"metadata": {"gap_seconds": 600, "zone": "a"}, "data": [0, 1, 1]})
    trace = read_trace(text, "zone.json")
    assert (trace.step_s, trace.available.tolist()) == (600, [False, True, True])


def test_a_trace_that_counts_machines_has_as_many_as_the_job_needs() -> None:
    text = json.dumps({"metadata": {"gap_seconds": 600}, "data": [0, 4, 16]})
    for machines, there in ((1, [False, True, True]), (8, [False, False, True])):
        assert read_trace(text, "zone.json", machines).available.tolist() == there
    assert read_trace(CSV, "zone.csv", 8).available.tolist() == [True, True, False, True]


@given(there=st.lists(st.booleans(), min_size=2, max_size=50), step_min=st.integers(1, 120))
def test_what_is_written_is_read(there, step_min) -> None:
    lines = [f"{i * step_min / 60!r},{str(x).lower()}" for i, x in enumerate(there)]
    trace = read_trace("hour,available\n" + "\n".join(lines), "zone.csv")
    assert trace.available.tolist() == there
    assert trace.step_s == pytest.approx(60 * step_min)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is no trace"),
        ("hours,available\n0,1\n1,1\n", "is no trace"),
        ("hour,available\n", "has 0 steps"),
        ("hour,available\n0,1\n", "has 1 steps"),
        ("hour,available\n0,1\n1,maybe\n", "line 3: available is 'maybe'"),
        ("hour,available\n0,1\n1,nan\n", "line 3: available is 'nan'"),
        ("hour,available\n0,1\n1,-1\n", "line 3: available is '-1'"),
        ("hour,available\n0,1\n1\n", "line 3 has 1 cells"),
        ("hour,available\n0,1\n1,1\n3,1\n", "line 4: hour 3 does not follow 1"),
        ("hour,available\n1,1\n0,1\n", "line 3: hour 0 does not follow 1"),
        ("{}", "is no trace"),
        ("[1, 0]", "is no trace"),
        ('{"metadata": {"gap_seconds": 0}, "data": [1, 0]}', "gap_seconds is 0"),
        ('{"metadata": {"gap_seconds": "10min"}, "data": [1, 0]}', "gap_seconds is 10min"),
        ('{"metadata": {}, "data": [1, 0]}', "gap_seconds is None"),
        ('{"metadata": {"gap_seconds": 60}, "data": [1, null]}', r"data\[1\] is None"),
        ('{"metadata": {"gap_seconds": 60}, "data": [1, true]}', r"data\[1\] is True"),
        ('{"metadata": {"gap_seconds": 60}, "data": [1, -2]}', r"data\[1\] is -2"),
        ('{"metadata": {"gap_seconds": 60}, "data": [1, NaN]}', "NaN"),
        ('{"metadata": {"gap_seconds": 60}, "data": [1', "not JSON"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text, named) -> None:
    with pytest.raises(InvalidInputError, match=named) as caught:
        read_trace(text, "zone.txt")
    assert caught.value.message.startswith("zone.txt")


def test_the_figures_of_a_trace() -> None:
    never = shape_of(Trace(step_s=60.0, available=np.zeros(4, dtype=bool)))
    assert (never.availability_frac, never.runs, never.mean_run_s, never.mean_wait_s) == (0, 0, None, 240)
    always = shape_of(Trace(step_s=60.0, available=np.ones(4, dtype=bool)))
    assert (always.availability_frac, always.runs, always.mean_run_s, always.mean_wait_s) == (1, 1, 240, None)


@pytest.mark.parametrize("law", [EXPONENTIAL, HEAVY])
def test_drawn_traces_have_the_means_asked_for(law) -> None:
    shape = shape_of(draw(ASSUMED, 1, Draw(step_s=60.0, steps=3_000_000, law=law, seed=3)))
    assert shape.mean_run_s == pytest.approx(ASSUMED.mean_run_s, rel=0.15)
    assert shape.availability_frac == pytest.approx(ASSUMED.availability_frac, rel=0.03)
    ratio = {EXPONENTIAL: 1 / np.log(2), HEAVY: 6.5}[law]
    assert shape.mean_run_s / shape.median_run_s == pytest.approx(ratio, rel=0.15)


def test_a_cap_ends_every_run() -> None:
    days = Interruption(mean_run_s=40 * HOUR_S, mean_wait_s=HOUR_S, restart_s=60.0, save_s=60.0)
    capped = draw(days, 1, Draw(step_s=300.0, steps=200_000, longest_run_s=24 * HOUR_S, seed=4))
    edges = np.flatnonzero(np.diff(capped.available)) + 1
    runs = np.diff(edges)[0 if not capped.available[0] else 1 :: 2] * 300.0
    assert len(runs) > 50
    # Two runs become one where the wait between them is rounded to nothing: a twelfth of 5 minutes is none.
    assert np.mean(runs > 24 * HOUR_S + 300) < 0.1
    assert np.mean(np.abs(runs - 24 * HOUR_S) <= 300) > 0.3


def test_a_seed_is_a_trace() -> None:
    how = Draw(step_s=600.0, steps=500, seed=5)
    assert draw(ASSUMED, 2, how).available.tolist() == draw(ASSUMED, 2, how).available.tolist()
    assert draw(ASSUMED, 1, how).available.mean() >= draw(ASSUMED, 8, how).available.mean()


def test_windows_begin_evenly_and_go_round() -> None:
    trace = Trace(step_s=60.0, available=np.array([1, 1, 0, 0], dtype=bool))
    assert windows(trace, 2, 6).astype(int).tolist() == [[1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0]]


def test_finer_steps_change_nothing_but_the_steps() -> None:
    trace = read_trace(CSV, "zone.csv")
    fine = refined(trace, 700.0)
    assert (fine.step_s, fine.length_s) == (600.0, trace.length_s)
    assert shape_of(fine) == shape_of(trace)
