"""What a step's time goes into, by hand and by laws; a step out of several."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError
from rigwise.measurement.profile.activity import activities, communicates
from rigwise.measurement.profile.intervals import Cover, merged, total_s, without
from rigwise.measurement.profile.read import read_trace
from rigwise.measurement.profile.spans import ON_DEVICE, Span, Trace, What
from rigwise.measurement.profile.steps import linked, median_step, steps_of, window_of
from rigwise.measurement.profile.units import units_of
from rigwise.report.trace_answer import recorded

_FILES = runpy.run_path(str(Path(__file__).with_name("profile_files.py")))
GEMM, NCCL, cuda_like, nsight_export = (_FILES[name] for name in ("GEMM", "NCCL", "cuda_like", "nsight_export"))
US = 1e-6


@pytest.fixture
def example(tmp_path) -> Trace:
    return read_trace(cuda_like().write(tmp_path / "a.json"))


def test_the_parts_of_a_step_are_those_counted_by_hand(example) -> None:
    """From the first work at 115 us to the next step's: 519 us busy, and each gap by what the host did in it."""
    tied = linked(example)
    steps = steps_of(tied)
    (found,) = activities(tied, steps, 1)
    assert found.window_s == pytest.approx(1000 * US)
    assert found.busy_s == pytest.approx((60 + 100 + 20 + 80 + 6 + 90 + 90 + 43 + 30) * US)
    assert found.kernel_s == pytest.approx((100 + 20 + 80 + 6 + 90 + 90 + 10 + 100 + 30) * US)
    assert found.idle_s == pytest.approx(
        {
            "queued": (5 + 2 + 2 + 2 + 5 + 2 + 2) * US,
            "between operators": (450 - 392 + 1000 - 740) * US,
            "in operators": (470 - 450 + 15) * US,
            "synchronising": (740 - 732) * US,
            "input": 100 * US,
        }
    )
    assert found.communication_s == pytest.approx(100 * US)
    assert found.exposed_communication_s == pytest.approx((2 + 31) * US)
    (copies,) = found.copies
    assert (copies.direction, copies.count, copies.pageable, copies.moved_bytes) == ("HtoD", 1, 1, 600_000)
    assert copies.exposed_s == pytest.approx(60 * US)
    (stretch,) = found.stretches
    assert (stretch.pieces, stretch.first) == (1, "autograd::engine::evaluate_function: AddmmBackward0")
    assert stretch.idle_s == pytest.approx(78 * US)


def test_an_export_of_nsight_gives_the_same_parts(tmp_path, example) -> None:
    other = read_trace(nsight_export(tmp_path / "a.sqlite", cuda_like()))
    ours, theirs = recorded(example), recorded(other)
    assert theirs.step_s == pytest.approx(ours.step_s)
    assert theirs.activities[0].idle_s == pytest.approx(ours.activities[0].idle_s)
    assert theirs.activities[0].busy_s == pytest.approx(ours.activities[0].busy_s)


def test_kernels_belong_to_the_operators_that_asked_for_them(example) -> None:
    tied = linked(example)
    step = steps_of(tied)[0]
    units = units_of(tied, step, lambda name: name in ("aten::linear", "aten::relu", "aten::mm"))
    asked = [(unit.name, round(unit.time_s / US), unit.is_backward) for unit in units if unit.is_asked]
    assert asked == [
        ("aten::linear", 100, False),
        ("aten::relu", 20, False),
        ("aten::linear", 80, False),
        ("aten::mm", 90, True),
        ("aten::mm", 90, True),
    ]
    assert [round(unit.time_s / US) for unit in units if unit.is_update] == [30]
    assert not any(communicates(unit.name) for unit in units)
    assert sum(unit.time_s for unit in units) == pytest.approx((100 + 20 + 80 + 6 + 90 + 90 + 10 + 30) * US)


def test_the_median_step_is_shown() -> None:
    marks = [Span(What.MARK, f"ProfilerStep#{n}", start, took, "1/1") for n, start, took in STEPS]
    tied = linked(Trace(source="torch", host=tuple(marks), on_device=()))
    steps = steps_of(tied)
    assert steps[median_step(tied, steps)].name == "ProfilerStep#3"


STEPS = [(1, 0.0, 9.0), (2, 9.0, 1.0), (3, 10.0, 2.0), (4, 12.0, 3.0), (5, 15.0, 1.5)]


def test_steps_on_another_device_do_not_mix(example) -> None:
    twice = [*example.on_device, *(replace(span, device=1, lane="1/7", name="b") for span in example.on_device)]
    trace = replace(example, on_device=tuple(sorted(twice, key=lambda span: span.start_s)))
    found = recorded(trace).activities
    assert [one.device for one in found] == [0, 1]
    assert found[0].busy_s == pytest.approx(found[1].busy_s)
    assert (found[0].name, found[1].name) == ("NVIDIA A100-SXM4-40GB", "")


def test_the_number_of_marked_steps_cannot_be_told(example) -> None:
    assert recorded(example, 3).count == 3
    with pytest.raises(InvalidInputError, match="marks 3"):
        recorded(example, 4)


def test_a_host_alone_is_busy_while_an_operator_runs() -> None:
    host = (
        Span(What.MARK, "ProfilerStep#1", 0.0, 10.0, "1/1"),
        Span(What.MARK, "enumerate(DataLoader)#x", 0.0, 2.0, "1/1"),
        Span(What.OP, "aten::linear", 3.0, 4.0, "1/1"),
        Span(What.OP, "aten::mm", 4.0, 2.0, "1/1"),
    )
    (found,) = recorded(Trace(source="torch", host=host, on_device=())).activities
    assert (found.busy_s, found.pieces) == (4.0, 1)
    assert found.idle_s == {"input": 2.0, "between operators": 4.0}


nested = st.lists(
    st.tuples(st.sampled_from(["aten::mm", "aten::linear", "wrapper", "ProfilerStep#1"]), st.integers(0, 3)),
    max_size=25,
)


@given(nested)
def test_all_time_of_the_host_belongs_to_some_unit(rows) -> None:
    """Operators inside each other, four deep: what is asked for, what is around it and what nobody knows add up."""
    host: list[Span] = []

    def lay(start: int, end: int, level: int, left: list[tuple[str, int]]) -> None:
        while left and left[0][1] == level and start + 10 ** (4 - level) <= end:
            name, _ = left.pop(0)
            stop = start + 10 ** (4 - level)
            what = What.MARK if name.startswith("Profiler") else What.OP
            host.append(Span(what, name.replace("#1", "x"), float(start), float(stop - start), "1/1"))
            lay(start + 1, stop, level + 1, left)
            start = stop + 3

    lay(0, 10**6, 0, sorted(rows, key=lambda row: row[1])[:1] + rows)
    trace = Trace(source="torch", host=tuple(host), on_device=())
    tied = linked(trace)
    steps = steps_of(tied)
    units = units_of(tied, steps[0], lambda name: name in ("aten::mm", "aten::linear"))
    (activity,) = activities(tied, steps, 0)
    assert sum(unit.time_s for unit in units) == pytest.approx(activity.kernel_s)


pieces = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=30)


@given(pieces, pieces)
def test_intervals_are_sets_of_moments(first, second) -> None:
    a, b = (merged((float(start), float(start + took)) for start, took in some) for some in (first, second))
    moments_a, moments_b = ({t for start, took in some for t in range(start, start + took)} for some in (first, second))
    assert total_s(a) == len(moments_a)
    assert total_s(without(a, b)) == len(moments_a - moments_b)
    assert Cover(a).within_s(10.0, 31.0) == len(moments_a & set(range(10, 31)))


spans = st.lists(
    st.tuples(
        st.sampled_from([What.OP, What.MARK, What.CALL, What.KERNEL, What.COPY]),
        st.sampled_from(
            ["aten::mm", "ProfilerStep#1", "cudaStreamSynchronize", NCCL, "Memcpy DtoH (Device -> Pinned)"]
        ),
        st.integers(0, 300),
        st.integers(0, 80),
        st.integers(0, 2),
        st.integers(0, 4),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=200)
@given(spans)
def test_any_spans_add_up(rows) -> None:
    """Busy and idle are the window, whatever overlaps, is torn or joined wrongly; nothing is negative."""
    made = [
        Span(what, name, start * US, took * US, f"x/{lane}", lane if what in ON_DEVICE else -1, link)
        for what, name, start, took, lane, link in rows
    ]
    made.sort(key=lambda span: (span.start_s, -span.time_s))
    host = tuple(span for span in made if span.what not in ON_DEVICE)
    trace = Trace(source="torch", host=host, on_device=tuple(span for span in made if span.what in ON_DEVICE))
    tied = linked(trace)
    assert all(parent < index for index, parent in enumerate(tied.parents))
    steps = steps_of(tied)
    at = median_step(tied, steps)
    assert window_of(tied, steps, at)[1] >= window_of(tied, steps, at)[0]
    for one in activities(tied, steps, at):
        assert all(value > 0 for value in one.idle_s.values())
        assert one.exposed_communication_s <= one.communication_s + 1e-12
        if one.device >= 0:
            assert one.busy_s + sum(one.idle_s.values()) == pytest.approx(one.window_s, abs=1e-9)
    units = units_of(tied, steps[at], lambda name: name == "aten::mm")
    assert all(unit.time_s >= 0 for unit in units)
