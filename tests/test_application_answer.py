"""What placements yield, by hand: rates, loads, latency, batches, copies, what piles up."""

import pytest

from rigwise.application.answer import answer
from rigwise.application.costs import cost
from rigwise.application.plan import moves, plan_application
from rigwise.application.reader import application_from_tables
from rigwise.edge import parse_toml
from rigwise.errors import InfeasibleError, InvalidInputError

#: Frames at 100/s, each with 3 boxes; each box takes the GPU 2 ms and 8 wait for each other.
VIDEO = """
[application]
flow = ["camera -> find -> name -> gather -> store"]
[place.cpu]
cores = 4
[place.gpu]
kind = "gpu"
host = "cpu"
memory = "1GB"
[[link]]
between = ["cpu", "gpu"]
bytes_per_s = "1GB/s"
latency = "1ms"
[component.camera]
rate = "100/s"
outputs = { frame = { bytes = "1MB" } }
cost.cpu = { time = "2ms" }
[component.find]
inputs = { frame = "frame" }
outputs = { box = { bytes = "10kB", ratio = 3 } }
workers = 3
cost.cpu = { time = "20ms" }
[component.name]
inputs = { box = "box" }
outputs = { name = { bytes = 100 } }
batch = 8
cost.gpu = { time = "2ms", time_per_batch = "4ms", memory = "600MB" }
[component.gather]
inputs = { name = "name" }
outputs = { names = { bytes = 300, ratio = "1/3" } }
cost.cpu = { time = 0 }
[component.store]
inputs = { names = "names" }
cost.cpu = { time = "1ms" }
"""
PLACEMENT = {"camera": "cpu", "find": "cpu", "name": "gpu", "gather": "cpu", "store": "cpu"}


def costed(text: str = VIDEO):
    return cost(application_from_tables(parse_toml(text, "app.toml"), "app.toml"))


def yields(text: str = VIDEO, **elsewhere: str):
    return answer(costed(text), {**PLACEMENT, **elsewhere})


def test_items_multiply_along_the_edges() -> None:
    assert costed().rates == {"camera": 1, "find": 1, "name": 3, "gather": 3, "store": pytest.approx(1)}


def test_the_most_loaded_resource_limits_the_throughput() -> None:
    """Busy for one frame: GPU 3 x (4 + 8 x 2) / 8 = 7.5 ms, 3 finders 20 / 3 = 6.7 ms, 4 cores 23 / 4 = 5.75 ms."""
    found = yields()
    assert found.bottleneck in ("place gpu", "workers name")
    assert found.capacity_per_s["p50"] == pytest.approx(1 / 7.5e-3)
    assert found.throughput_per_s["p50"] == 100
    assert found.busy_frac["place gpu"] == pytest.approx(0.75)
    assert found.busy_frac["workers find"] == pytest.approx(2 / 3)
    assert found.busy_frac["place cpu"] == pytest.approx(0.575)
    assert found.busy_frac["link cpu -> gpu"] == pytest.approx(100 * 3 * 10e3 / 1e9)
    assert found.rates_per_s["name"] == pytest.approx(300)
    assert found.backlog == ()


def test_latency_is_calls_copies_and_the_filling_of_batches() -> None:
    """Boxes come three at a time: the first of 8 waits for two more frames."""
    copies_s = (1e-3 + 10e3 / 1e9) + (1e-3 + 100 / 1e9)
    expected_s = 2e-3 + 20e-3 + 2 / 100 + 20e-3 + 1e-3 + copies_s
    assert yields().latency_s["p50"] == pytest.approx(expected_s)
    assert [leg.component for leg in yields().path] == list(PLACEMENT)


@pytest.mark.parametrize(
    ("ratio", "batch", "wait_s"),
    [(1, 8, 7 / 100), (3, 3, 0.0), (3, 4, 1 / 100), (4, 8, 1 / 100), ("1/2", 2, 1 / 50), (2.5, 5, 1 / 100)],
)
def test_a_batch_waits_for_as_many_bursts_as_fill_it(ratio: object, batch: int, wait_s: float) -> None:
    quoted = f'"{ratio}"' if isinstance(ratio, str) else ratio
    text = VIDEO.replace("ratio = 3", f"ratio = {quoted}").replace("batch = 8", f"batch = {batch}")
    (leg,) = (
        leg
        for leg in yields(text.replace('time = "2ms", time_per_batch = "4ms"', 'time = "1ms"')).path
        if leg.component == "name"
    )
    assert leg.wait_s == pytest.approx(wait_s)


def test_items_of_a_full_batch_come_together() -> None:
    text = VIDEO.replace("[component.gather]\n", "[component.gather]\nbatch = 8\n")
    assert [leg.component for leg in yields(text).path if leg.wait_s] == ["name"]
    text = text.replace("batch = 8\ncost.gpu", 'batch = 8\nmax_wait = "1s"\ncost.gpu')
    assert [leg.component for leg in yields(text).path if leg.wait_s] == ["name", "gather"]


def test_a_batch_is_not_waited_for_longer_than_allowed() -> None:
    (leg,) = (leg for leg in yields(VIDEO.replace("batch = 8", 'batch = 8\nmax_wait = "5ms"')).path if leg.wait_s)
    assert (leg.component, leg.wait_s) == ("name", 0.005)


def test_cores_are_shared_and_workers_are_not() -> None:
    one = yields(VIDEO.replace("cores = 4", "cores = 1"))
    assert one.bottleneck == "place cpu"
    assert one.capacity_per_s["p50"] == pytest.approx(1 / 23e-3)
    alone = yields(VIDEO.replace("workers = 3", "workers = 1"))
    assert (alone.bottleneck, alone.limiting) == ("workers find", ("find",))
    assert alone.capacity_per_s["p50"] == pytest.approx(50)
    wide = yields(VIDEO.replace('{ time = "20ms" }', '{ time = "20ms", cores = 2 }'))
    assert wide.busy_frac["workers find"] == pytest.approx(wide.throughput_per_s["p50"] * 20e-3 / 2)


def test_what_is_too_much_piles_up_before_the_bottleneck() -> None:
    found = yields(VIDEO.replace('"100/s"', '"150/s"'))
    (pile,) = found.backlog
    excess_per_s = 150 - 1 / 7.5e-3
    assert pile.edge == "find -> name"
    assert pile.items_per_s == pytest.approx(3 * excess_per_s)
    assert pile.bytes_per_s == pytest.approx(3 * excess_per_s * 10e3)
    assert found.throughput_per_s["p50"] == pytest.approx(1 / 7.5e-3)


def test_a_source_that_is_too_slow_itself_is_named() -> None:
    (pile,) = yields(VIDEO.replace('time = "2ms" }', 'time = "20ms" }', 1)).backlog
    assert (pile.edge, pile.items_per_s) == ("camera", pytest.approx(50))


def test_a_link_can_be_the_bottleneck() -> None:
    found = yields(VIDEO.replace('"1GB/s"', '"2MB/s"'))
    assert (found.bottleneck, found.limiting) == ("link cpu -> gpu", ("find -> name",))
    (pile,) = found.backlog
    assert (pile.edge, pile.items_per_s) == ("find -> name", pytest.approx(300 - 200))


def test_without_a_rate_the_source_is_as_fast_as_the_rest() -> None:
    found = yields(VIDEO.replace('rate = "100/s"\n', ""))
    assert found.throughput_per_s == found.capacity_per_s
    assert found.backlog == ()


def test_a_disk_is_read_at_its_rate() -> None:
    text = VIDEO.replace("[place.gpu]", '[place.ssd]\nbytes_per_s = "50MB/s"\nhost = "cpu"\n[place.gpu]')
    text = text.replace('cost.cpu = { time = "2ms" }', 'cost.ssd = { bytes = "1MB", time = "1ms" }')
    found = yields(text, camera="ssd")
    assert found.busy_frac["place ssd"] == pytest.approx(found.throughput_per_s["p50"] * 21e-3)
    assert found.busy_frac["link ssd -> cpu"] == 0


def test_items_go_over_several_links_where_there_is_no_shorter_way() -> None:
    text = VIDEO + '[place.far]\ncores = 2\n[[link]]\nbetween = ["far", "cpu"]\nbytes_per_s = "10MB/s"\n'
    text = text.replace("[component.gather]\n", "[component.gather]\ncost.far = { time = 0 }\n")
    found = yields(text, gather="far")
    assert found.busy_frac["link cpu -> far"] == pytest.approx(300 * 100 / 10e6)
    assert found.busy_frac["link gpu -> cpu"] == pytest.approx(300 * 100 / 1e9)


def test_an_estimate_carries_its_interval_through() -> None:
    text = VIDEO.replace(
        'cost.gpu = { time = "2ms", time_per_batch = "4ms", memory = "600MB" }',
        'model = { name = "resnet50", dtype = "fp16" }',
    )
    text = text.replace("workers = 3", "workers = 50").replace("cores = 4", "cores = 64")
    found = yields(text.replace('kind = "gpu"\n', 'device = "t4"\n').replace("batch = 8", "batch = 64"))
    assert found.bottleneck == "place gpu"
    capacity, latency_s = found.capacity_per_s, found.latency_s
    assert capacity["p10"] < capacity["p50"] < capacity["p90"]
    assert latency_s["p10"] < latency_s["p50"] < latency_s["p90"]


def test_merging_takes_the_sum_and_joining_one_of_each() -> None:
    text = """
[application]
flow = ["left -> both.a", "right -> both.b"]
[place.cpu]
cores = 4
[component.left]
outputs = { x = { bytes = 1 } }
cost.cpu = { time = "1ms" }
[component.right]
outputs = { x = { bytes = 1 } }
cost.cpu = { time = "3ms" }
[component.both]
inputs = { a = "x", b = "x" }
cost.cpu = { time = "1ms" }
"""
    everywhere = dict.fromkeys(("left", "right", "both"), "cpu")
    joined = answer(costed(text), everywhere)
    assert joined.rates_per_s["both"] == joined.rates_per_s["left"]
    assert joined.latency_s["p50"] == pytest.approx(4e-3)
    merged = answer(costed(text.replace("[component.both]\n", "[component.both]\nmerge = true\n")), everywhere)
    assert merged.rates_per_s["both"] == pytest.approx(2 * merged.rates_per_s["left"])


def test_moves_say_what_each_would_change_or_why_it_cannot_be() -> None:
    text = VIDEO.replace("[component.find]\n", '[component.find]\ncost.gpu = { time = "1ms", memory = "500MB" }\n')
    text = text.replace("[component.store]\n", '[component.store]\ncost.gpu = { time = "8ms" }\n')
    found = {(move.component, move.place): move for move in moves(costed(text), PLACEMENT)}
    assert set(found) == {("find", "gpu"), ("store", "gpu")}
    assert found["find", "gpu"].why_not == "too little memory on gpu"
    moved = found["store", "gpu"].answer
    assert moved is not None
    assert moved.capacity_per_s["p50"] == pytest.approx(1 / 15.5e-3)


def test_what_is_pinned_stays_and_moving_it_is_told_all_the_same() -> None:
    text = VIDEO.replace("[component.find]\n", '[component.find]\non = "cpu"\ncost.gpu = { time = "1us" }\n')
    plan = plan_application(costed(text.replace('"20ms"', '"200ms"')).application)
    assert plan.answers[0].placement["find"] == "cpu"
    assert plan.certificate.candidates == 1
    (move,) = plan.moves
    assert (move.component, move.place, move.allowed) == ("find", "gpu", False)
    assert move.answer is not None
    assert move.answer.capacity_per_s["p50"] > 8 * plan.answers[0].capacity_per_s["p50"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            'memory = "1GB"',
            'memory = "500MB"',
            r"no placement fits in memory; the nearest needs 600 MB of the 500 MB on gpu",
        ),
        (
            "[objective]",
            '[objective]\noptimize = "latency"',
            "no placement keeps up with 150 items/s; the quickest carries 133",
        ),
    ],
)
def test_nothing_that_keeps_the_limits(old: str, new: str, words: str) -> None:
    text = ("[objective]\n" + VIDEO).replace(old, new)
    text = text.replace('"100/s"', '"150/s"') if "quickest" in words else text
    with pytest.raises(InfeasibleError, match=words) as caught:
        plan_application(costed(text).application)
    assert caught.value.exit_code == 1


def test_no_way_between_places() -> None:
    text = VIDEO.replace("[[link]]\nbetween", "[ignored]\nbetween")
    text = text[: text.index("[ignored]")] + text[text.index("[component.camera]") :]
    with pytest.raises(InfeasibleError, match=r"no placement has links for all its edges; add a \[\[link\]\]"):
        plan_application(costed(text).application)


@pytest.mark.parametrize("optimize", ["latency", "cost"])
def test_the_least_latency_or_cost_needs_a_rate(optimize: str) -> None:
    text = f'[objective]\noptimize = "{optimize}"\n' + VIDEO.replace('rate = "100/s"\n', "")
    with pytest.raises(InvalidInputError, match=f"the least {optimize} depends on the rate; give each source a rate"):
        plan_application(costed(text).application)


def test_nothing_that_limits_the_throughput() -> None:
    text = """
[application]
flow = ["a -> b"]
[place.cpu]
cores = 1
[component.a]
outputs = { x = { bytes = 1 } }
cost.cpu = { time = 0 }
[component.b]
inputs = { x = "x" }
cost.cpu = { time = 0 }
"""
    with pytest.raises(InvalidInputError, match="nothing limits the throughput"):
        plan_application(costed(text).application)


def test_a_placement_that_cannot_be() -> None:
    with pytest.raises(InvalidInputError, match=r"component\.name cannot run on cpu: no cost is stated"):
        yields(name="cpu")
    with pytest.raises(InvalidInputError, match=r"component\.name cannot run on moon: there is no such place"):
        yields(name="moon")
