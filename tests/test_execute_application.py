"""From application files to stages, and from measurements to sentences."""

from dataclasses import replace

import pytest

from rigwise.application.costs import cost
from rigwise.application.plan import plan_application
from rigwise.application.reader import application_from_tables
from rigwise.edge import parse_toml
from rigwise.execute.application import ApplicationRun, run_application, stages_of
from rigwise.execute.comparison import compare
from rigwise.execute.stage import Limits

TWO_WAYS = """
[application]
name = "two-ways"
flow = ["left -> split", "split.small -> fast -> both.a",
  "split.large -> slow -> both.b", "both -> end", "right -> end"]
[place.cpu]
cores = 4
[component.left]
outputs = { item = { bytes = 1 } }
cost.cpu = { time = "1us" }
[component.right]
outputs = { item = { bytes = 1 } }
cost.cpu = { time = "1us" }
[component.split]
inputs = { item = "item" }
outputs = { small = { bytes = 1, type = "item" }, large = { bytes = 1, type = "item" } }
cost.cpu = { time = "1us" }
[component.fast]
inputs = { item = "item" }
outputs = { item = { bytes = 1 } }
workers = 3
cost.cpu = { time = "1us" }
[component.slow]
inputs = { item = "item" }
outputs = { item = { bytes = 1 } }
workers = 9
run = "process"
cost.cpu = { time = "1us", cores = 2 }
[component.both]
inputs = { b = "item", a = "item" }
outputs = { item = { bytes = 1 } }
workers = 2
cost.cpu = { time = "1us" }
[component.end]
inputs = { item = "item" }
merge = true
cost.cpu = { time = "1us" }
"""

CHAIN = """
[application]
flow = ["read -> work -> store"]
[place.cpu]
cores = 2
[component.read]
outputs = { item = { bytes = 1 } }
cost.cpu = { time = "1ms" }
RATE
[component.work]
inputs = { item = "item" }
outputs = { item = { bytes = 1 } }
workers = 2
cost.cpu = { time = "4ms" }
[component.store]
inputs = { item = "item" }
cost.cpu = { time = "1ms" }
"""


def application(text: str):
    return application_from_tables(parse_toml(text, "app.toml"), "app.toml")


def test_ports_joins_and_merges_keep_their_meaning():
    costed = cost(application(TWO_WAYS))
    stages, assumed = stages_of(costed, dict.fromkeys(costed.services, "cpu"), simulate=True)
    found = {stage.name: stage for stage in stages}
    assert found["split"].ports == ("small", "large")
    assert found["fast"].after == ("split.small",)
    assert found["both"].after == ("slow", "fast")  # in the order of its inputs
    assert found["both"].joins
    assert found["end"].merge
    assert sorted(found["end"].after) == ["both", "right"]
    assert (found["fast"].workers, found["slow"].workers) == (3, 2)  # as many as there are cores for
    assert (found["fast"].ordered, found["slow"].ordered, found["both"].ordered) == (True, True, False)
    assert len(assumed) == 2


def test_a_graph_of_all_shapes_runs_simulated():
    found = run_application(application(TWO_WAYS), Limits(items=30), simulate=True).measured
    assert found.stage("both").items_in == 30
    assert found.stage("end").items_in == 60


@pytest.fixture(scope="module")
def finished() -> ApplicationRun:
    """A run of the chain to change the measurements of."""
    return run_application(application(CHAIN.replace("RATE", "")), Limits(items=30), simulate=True)


def measured(run: ApplicationRun, *, lock_wait_s: float = 0.0, machine: float = 0.5, **stages: dict) -> ApplicationRun:
    """The same run with other measurements."""
    changed = tuple(replace(stage, **stages.get(stage.name, {})) for stage in run.measured.stages)
    values = {"stages": changed, "lock_wait_s": lock_wait_s, "machine_cores_busy_frac": machine}
    return replace(run, simulated=(), measured=replace(run.measured, **values))


IDLE = {"busy_frac": 0.1, "cpu_frac": 1.0, "starved_frac": 0.9}


@pytest.mark.parametrize(
    ("changes", "bottleneck"),
    [
        ({"work": {"busy_frac": 0.98, "cpu_frac": 0.1}}, "workers work"),
        ({"work": {"busy_frac": 0.98, "cpu_frac": 1.0}}, "place cpu"),
        ({"work": {"busy_frac": 0.9, "cpu_frac": 0.5}, "machine": 0.99}, "place cpu"),
        ({"work": {"busy_frac": 0.98, "cpu_frac": 0.45}, "lock_wait_s": 0.005}, "the interpreter's lock"),
        ({"work": {"busy_frac": 0.98, "cpu_frac": 0.45, "run": "process"}, "lock_wait_s": 0.005}, "workers work"),
        ({"read": {"busy_frac": 0.97, "cpu_frac": 0.1}}, "workers read"),
    ],
)
def test_the_bottleneck_is_what_is_busy(finished, changes, bottleneck):
    changes = {"read": IDLE, "work": IDLE, "store": IDLE, **changes}
    assert compare(measured(finished, **changes), cores=2).bottleneck_measured == bottleneck


def test_the_lock_and_other_programs_are_named(finished):
    slow = {"busy_frac": 0.98, "cpu_frac": 0.45, "item_s": 0.009}
    locked = compare(measured(finished, read=IDLE, store=IDLE, work=slow, lock_wait_s=0.005), cores=2)
    assert any('run = "process" for work would let it use other cores' in line for line in locked.differences)
    assert any("9.00 ms for an item, 4.00 ms were expected, the wait for the interp" in d for d in locked.differences)
    shared = compare(measured(finished, read=IDLE, store=IDLE, work=slow, machine=0.99), cores=2)
    # 0.1 + 0.1 + 2 x 0.98 x 0.45 cores computed; an item needs 1 + 4 + 1 ms of a core
    assert (
        "other programs kept 0.9 of 2 cores busy; on the 1.08 that were left, 180 /s were expected"
        in shared.differences
    )
    assert any("the wait for a core included" in line for line in shared.differences)


def test_a_source_that_falls_behind_is_named(finished):
    found = compare(measured(finished, read={**IDLE, "late_s": 2.0}), cores=2)
    assert "source read is 2.00 s behind its rate: the rest does not keep up" in found.differences


def test_a_slow_enough_source_is_the_bottleneck():
    slow = application(CHAIN.replace("RATE", 'rate = "50/s"'))
    assert plan_application(slow).answers[0].throughput_per_s["p50"] == 50
    found = compare(run_application(slow, Limits(items=20), simulate=True))
    assert found.bottleneck_predicted == "source read"
