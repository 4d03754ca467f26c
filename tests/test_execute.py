"""What comes out of a dataflow: every item, once, in order where asked, whatever runs it."""

import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError, RunError
from rigwise.execute.dataflow import run
from rigwise.execute.stage import Limits, Stage

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="worker processes inherit pipes, as on POSIX")


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch):
    """No thread and no process outlives a run."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "data" / "execute"))
    threads, children = set(threading.enumerate()), set(psutil.Process().children(recursive=True))
    yield
    assert set(threading.enumerate()) - threads == set()
    assert set(psutil.Process().children(recursive=True)) - children == set()


def collected(stages: list[Stage], limits: Limits | None = None) -> list:
    """What reaches the end of a dataflow."""
    found: list = []
    run([*stages, Stage(name="end", call=found.append, after=(stages[-1].name,))], limits)
    return found


# -- random graphs

STEPS = {
    "same": lambda x: x,
    "add": lambda x: x + 1,
    "odd": lambda x: x if x % 2 else None,
    "twice": lambda x: (y for y in (x, -x)),
}
COUNT_KEPT = ("same", "add")


def expected(step: str, items: list[int]) -> list[int]:
    """What a step makes of a list, one after the other."""
    made: list[int] = []
    for item in items:
        result = STEPS[step](item)
        made += [] if result is None else [result] if isinstance(result, int) else list(result)
    return made


@st.composite
def graphs(draw) -> tuple[list[Stage], dict[str, list[int]], set[str]]:
    """Stages, what each should give, and whose order is open."""
    count = draw(st.integers(0, 40))
    stages = [Stage(name="s0", call=lambda: iter(range(count)))]
    gives, unordered = {"s0": list(range(count))}, set()
    for number in range(1, draw(st.integers(2, 7))):
        name = f"s{number}"
        before = draw(st.sampled_from(sorted(gives)))
        partners = [n for n in gives if n not in unordered and n != before and len(gives[n]) == len(gives[before])]
        kind = draw(st.sampled_from(["one", "one", "batch", "inline", "merge", "join"]))
        shape = {"workers": draw(st.integers(1, 3)), "queue": draw(st.integers(1, 5)), "ordered": True}
        step = draw(st.sampled_from(sorted(STEPS)))
        if kind == "join" and before not in unordered and partners:
            other = draw(st.sampled_from(partners))
            stages.append(Stage(name=name, call=lambda a, b: 3 * a + b, after=(before, other), **shape))
            gives[name] = [3 * a + b for a, b in zip(gives[before], gives[other], strict=True)]
            continue
        if kind == "merge" and len(gives) > 1:
            other = draw(st.sampled_from(sorted(set(gives) - {before})))
            stages.append(Stage(name=name, call=STEPS[step], after=(before, other), merge=True, **shape))
            gives[name] = expected(step, gives[before] + gives[other])
            unordered.add(name)
            continue
        if kind == "inline":
            stages.append(Stage(name=name, call=STEPS[step], after=(before,), run="inline"))
        elif kind == "batch":
            all_of = lambda items, step=step: expected(step, items)  # noqa: E731
            shape |= {"batch": draw(st.integers(2, 6)), "max_wait_s": 0.001}
            stages.append(Stage(name=name, call=all_of, after=(before,), **shape))
        else:
            stages.append(Stage(name=name, call=STEPS[step], after=(before,), **shape))
        gives[name] = expected(step, gives[before])
        if before in unordered:
            unordered.add(name)
    return stages, gives, unordered


@settings(max_examples=80, deadline=None)
@given(graphs())
def test_every_item_arrives_once_and_in_order(graph):
    stages, gives, unordered = graph
    found: dict[str, list] = {name: [] for name in gives}
    ends = [Stage(name=f"end of {name}", call=found[name].append, after=(name,)) for name in gives]
    measured = run([*stages, *ends])
    for name, items in gives.items():
        assert sorted(found[name]) == sorted(items)
        if name not in unordered:
            assert found[name] == items
        assert measured.stage(f"end of {name}").items_in == len(items)


# -- one thing at a time


@pytest.mark.parametrize("where", ["thread", "process", "inline"])
def test_a_function_runs_where_it_is_told(where):
    stages = [
        Stage(name="a", call="stage_functions:few"),
        Stage(name="b", call="stage_functions:pid", after=("a",), run=where),
    ]
    pids = set(collected(stages))
    assert len(pids) == 1
    assert (psutil.Process().pid in pids) == (where != "process")


def test_each_worker_process_has_its_own_instance():
    stage = Stage(name="b", call="stage_functions:Counting", after=("a",), run="process", workers=2)
    calls = collected([Stage(name="a", call="stage_functions:few"), stage])
    assert len(calls) == 10
    assert max(calls) <= 10
    assert calls.count(1) in (1, 2)


def test_a_source_may_run_in_a_process():
    assert collected([Stage(name="a", call="stage_functions:few", run="process")]) == list(range(10))


def test_batches_are_full_but_for_the_last():
    sizes: list[int] = []
    stage = Stage(name="b", call=lambda items: sizes.append(len(items)), after=("a",), batch=4)
    run([Stage(name="a", call=lambda: iter(range(10))), stage])
    assert sizes == [4, 4, 2]


def test_a_batch_does_not_wait_longer_than_it_may():
    gate = threading.Event()

    def source():
        yield from range(3)
        assert gate.wait(30)

    def call(items):
        gate.set()
        return items

    stage = Stage(name="b", call=call, after=("a",), batch=64, max_wait_s=0.01)
    assert collected([Stage(name="a", call=source), stage]) == [0, 1, 2]


def test_several_outputs_go_to_those_who_ask_for_them():
    found: dict[str, list] = {"even": [], "odd": []}
    stages = [
        Stage(name="a", call=lambda: iter(range(6))),
        Stage(name="b", call=lambda x: {"odd" if x % 2 else "even": x}, after=("a",), ports=("even", "odd")),
        Stage(name="c", call=found["even"].append, after=("b.even",)),
        Stage(name="d", call=found["odd"].append, after=("b.odd",)),
    ]
    measured = run(stages)
    assert found == {"even": [0, 2, 4], "odd": [1, 3, 5]}
    assert measured.stage("b").items_out == (3, 3)


def test_a_source_may_have_several_outputs():
    source = Stage(name="a", call=lambda: iter([{"x": 1, "y": 2}, {"y": 3}]), ports=("x", "y"))
    end = Stage(name="b", call=lambda y: y, after=("a.y",))
    assert collected([source, end, Stage(name="c", call=lambda x: x, after=("a.x",))]) == [1]


def test_a_slow_end_holds_the_source_back():
    made, done, ahead = 0, 0, []

    def source():
        nonlocal made
        while True:
            made += 1
            ahead.append(made - done)
            yield made

    def slow(item):
        nonlocal done
        time.sleep(0.005)
        done += 1

    stages = [Stage(name="a", call=source), Stage(name="b", call=slow, after=("a",), queue=3)]
    run(stages, Limits(items=30))
    assert max(ahead) <= 3 + 3 + 1  # in the queue, taken at once, and the one being made


def test_items_are_exactly_as_many_as_asked_for():
    source = Stage(name="a", call="stage_functions:numbers")
    assert collected([source], Limits(items=7)) == list(range(7))


def test_a_source_without_end_ends_when_the_time_is_up():
    measured = run(
        [
            Stage(name="a", call="stage_functions:numbers"),
            Stage(name="b", call="stage_functions:slow", after=("a",), queue=1),
        ],
        Limits(duration_s=0.05),
    )
    assert measured.ended == "duration"


def test_a_rate_is_kept_on_average():
    source = Stage(name="a", call="stage_functions:numbers", rate_per_s=1000.0)
    begin = time.perf_counter()
    assert len(collected([source], Limits(items=50))) == 50
    assert time.perf_counter() - begin >= 49 / 1000


def test_one_at_a_time_means_what_it_says():
    inside, most = 0, 0

    def call(item):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.001)
        inside -= 1
        return item

    stages = [
        Stage(name="a", call=lambda: iter(range(20))),
        Stage(name="b", call=call, after=("a",), workers=3),
        Stage(name="c", call=call, after=("b",), workers=3),
    ]
    run(stages, Limits(one_at_a_time=True))
    assert most == 1


def test_a_join_without_partners_says_how_many_it_dropped():
    stages = [
        Stage(name="a", call=lambda: iter(range(6))),
        Stage(name="b", call=lambda x: x if x < 4 else None, after=("a",)),
        Stage(name="c", call=lambda x, y: (x, y), after=("a", "b")),
    ]
    assert run(stages).stage("c").unmatched == 2


def test_times_and_counts_add_up():
    stages = [
        Stage(name="a", call=lambda: iter(range(200))),
        Stage(name="b", call=lambda x: time.sleep(0.002) or x, after=("a",), workers=2, queue=4),
        Stage(name="c", call=lambda x: None, after=("b",), run="inline"),
    ]
    measured = run(stages)
    b, c = measured.stage("b"), measured.stage("c")
    assert (b.items_in, b.items_out, b.calls, c.items_in, c.items_out) == (200, (200,), 200, 200, ())
    assert b.service_p50_s >= 0.002
    assert b.service_p90_s >= b.service_p50_s
    assert b.busy_frac + b.starved_frac + b.blocked_frac + b.overhead_frac <= 1.25
    assert 0 < b.queue_mean <= b.queue_max <= 4
    assert measured.sinks[0].items == 200
    assert measured.sinks[0].throughput_per_s <= 1100
    assert measured.sinks[0].latency_p90_s >= measured.sinks[0].latency_p50_s >= 0.002


# -- no dataflow


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([], "no source"),
        ([Stage(name="a", call=iter, after=("b",)), Stage(name="b", call=iter, after=("a",))], "no earlier stage"),
        ([Stage(name="a", call=iter), Stage(name="a", call=iter)], "two stages are named 'a'"),
        ([Stage(name="a", call=iter), Stage(name="b", call=iter, after=("a.x",))], "output 'x' of a"),
        ([Stage(name="a", call=iter), Stage(name="b", call=iter, after=("a",), batch=0)], "batch is 0"),
        ([Stage(name="a", call=iter), Stage(name="b", call=iter, after=("a",), run="threat")], "did you mean thread"),
        ([Stage(name="a", call=iter), Stage(name="b", call=iter, after=("a",), run="inline", workers=2)], "inline"),
        ([Stage(name="a", call=iter, rate_per_s=0.0)], "rate is 0"),
        ([Stage(name="a", call=iter), Stage(name="b", call=iter, after=("a",), rate_per_s=2.0)], "only a source"),
        ([Stage(name="a", call=iter, workers=2)], "batches or workers"),
    ],
)
def test_what_makes_no_dataflow_is_refused(stages, words):
    with pytest.raises(InvalidInputError, match=words):
        run(stages)


@pytest.mark.parametrize("where", ["thread", "process"])
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ("no_such_module:f", InvalidInputError, "no Python module 'no_such_module'"),
        ("stage_functions:sane", InvalidInputError, "did you mean same"),
        ("stage_functions:NUMBER", InvalidInputError, "is int"),
        ("stage_functions:NotCallable", InvalidInputError, "no __call__"),
        ("stage_functions:CannotStart", RunError, "no model file"),
    ],
)
def test_a_function_that_is_not_there_is_named_before_the_start(where, call, error, words):
    stages = [Stage(name="a", call="stage_functions:numbers"), Stage(name="bad", call=call, after=("a",), run=where)]
    with pytest.raises(error, match=words) as raised:
        run(stages)
    assert "bad" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_join_of_two_ways_from_one_stage_gets_all_that_a_call_gives():
    """One call gives more items than the queues of the longer way hold."""
    shape = {"queue": 1, "ordered": True}
    stages = [
        Stage(name="read", call=lambda: iter(range(6))),
        Stage(
            name="many",
            call=lambda items: [x for i in items for x in (i, -i)],
            after=("read",),
            batch=6,
            max_wait_s=1.0,
        ),
        Stage(name="add", call=lambda x: x + 1, after=("many",), **shape),
        Stage(name="join", call=lambda a, b: (a, b), after=("many", "add"), **shape),
    ]
    seen = []
    run([*stages, Stage(name="keep", call=seen.append, after=("join",))])
    assert seen == [(x, x + 1) for i in range(6) for x in (i, -i)]
