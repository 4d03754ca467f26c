"""Processes that train together, pictures in shards, and what the figures of an input pipeline say together."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.bench import all_reduce, pipeline, shards, staleness
from rigwise.bench.limits import judged
from rigwise.bench.types import BYTES, ITEMS, TIME, Context, Figure, Raw, Timing
from rigwise.report import bench_sections


def figures(rates: dict[str, float], unit: str = ITEMS) -> list[Figure]:
    return [judged(Raw(name=name, unit=unit, value=rate), None, 2) for name, rate in rates.items()]


# --- the input pipeline --------------------------------------------------------------------------

RATES = {"records.files.cold": 4000.0, "loader.decode": 300.0, "loader.no-workers": 200.0, "loader.workers2": 500.0}


def test_the_stages_in_the_order_that_images_pass_them() -> None:
    found = pipeline.stages(figures({**RATES, "networks.resnet18.training": 40.0}), 2)
    assert [(stage.name, stage.per_s) for stage in found] == [
        ("disk", 4000.0), ("CPU decode", 500.0), ("training", 40.0),
    ]  # fmt: skip
    assert pipeline.bottleneck(found).name == "training"


def test_with_a_gpu_images_cross_the_link() -> None:
    link = {"host-link.to.pinned": 24e9, "networks.resnet18.training": 3000.0, "networks.resnet50.training": 900.0}
    found = {stage.name: stage for stage in pipeline.stages(figures({**RATES, **link}), 2)}
    assert found["PCIe"].per_s == pytest.approx(24e9 / (3 * 224 * 224))
    assert found["GPU"].figure == "networks.resnet50.training"
    assert pipeline.bottleneck(list(found.values())).name == "CPU decode"


def test_decoding_alone_counts_for_each_thread_where_no_loader_was_measured() -> None:
    (found,) = pipeline.stages(figures({"loader.decode": 300.0}), 4)
    assert found.per_s == 1200.0
    assert pipeline.bottleneck([found]) is None


def test_the_hours_of_the_notes() -> None:
    disk = pipeline.reading("", *pipeline.HARD_DISK)
    solid = pipeline.reading("", *pipeline.SATA_SSD)
    assert disk.by_seek_s / 3600 == pytest.approx(677, rel=0.002)
    assert solid.by_seek_s / 3600 == pytest.approx(7.46, rel=0.002)  # the notes' 6.7 are a hundredth of 677
    assert disk.packed_s == pytest.approx(250e9 / 170e6)


def test_the_document_names_the_bottleneck() -> None:
    found = bench_sections.pipeline_document(figures({**RATES, "disk.random": 20e3, "disk.sequential": 1e9}), 2)
    assert found["pipeline"] == {"disk": 4000.0, "CPU decode": 500.0}
    assert found["bottleneck"] == "CPU decode"
    assert [row["disk"] for row in found["imagenet"]] == ["here", "hard disk", "SATA SSD"]
    assert found["imagenet"][0]["packed_s"] == pytest.approx(250)
    assert bench_sections.pipeline_document([], 2) == {"pipeline": {}, "bottleneck": None, "imagenet": []}


def test_sections_keep_to_80_columns_and_say_nothing_of_nothing() -> None:
    beside = {"beside": "graphs.route.networkx", "looked_at": 12345}
    routes = [
        judged(Raw(name=f"graphs.route.{name}", unit=TIME, value=value, parameters=beside), None, 1)
        for name, value in (("rigwise", 0.2), ("networkx", 0.1), ("scipy", 0.01))
    ]
    links = figures({"all-reduce.latency": 2e-4}, TIME) + figures({"all-reduce.bandwidth": 1e9}, BYTES)
    of = [*routes, *links, *figures({**RATES, "disk.random": 20e3, "disk.sequential": 1e9})]
    lines = [*bench_sections.side_by_side(of), *bench_sections.collectives(of), *bench_sections.pipeline_lines(of, 2)]
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "networkx 100 ms (looks at 12345), rigwise 0.50 x" in text
    assert "scipy 10.00 x" in text
    assert "CPU decode holds up the others" in text
    assert not [*bench_sections.side_by_side([]), *bench_sections.collectives([])]
    assert not [*bench_sections.pipeline_lines([], 2)]


# --- collectives ---------------------------------------------------------------------------------


@given(latency_s=st.floats(1e-7, 1e-3), rate=st.floats(1e7, 1e12), ranks=st.integers(3, 4096))
def test_trees_win_short_messages_and_rings_long_ones(latency_s, rate, ranks) -> None:
    short = all_reduce.ring_and_tree(latency_s, rate, 1e-3 * latency_s * rate, ranks)
    long = all_reduce.ring_and_tree(latency_s, rate, 1e6 * ranks**2 * latency_s * rate, ranks)
    assert short[1] < short[0]
    assert long[0] < long[1]


def test_nccl_is_asked_for_ring_and_tree_where_there_are_gpus() -> None:
    assert [group.library for group in all_reduce.groups(1)] == ["gloo"]
    found = {group.name: group for group in all_reduce.groups(16)}
    assert found["all-reduce.tree"].environment == {"NCCL_ALGO": "Tree"}
    assert found["all-reduce.nccl"].ranks == all_reduce.MOST_RANKS


def test_a_process_that_does_not_answer_is_a_line(tmp_path, monkeypatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(all_reduce.ranks, "answer", lambda *given: None)
    found = {raw.name: raw.skipped for raw in all_reduce.run(Context(folder=str(tmp_path)))}
    assert found["all-reduce"] == "the processes did not answer: ValueError"
    assert found["all-reduce.nccl"] == "not here: needs several GPUs"


# --- synchronous and stale training --------------------------------------------------------------


def test_two_processes_learn_in_both_ways(tmp_path, monkeypatch) -> None:
    pytest.importorskip("torch.distributed")
    monkeypatch.setattr(staleness, "RUNS", 1)
    found = staleness.trained(Context(each_s=0.01, folder=str(tmp_path)), 0)
    for (course,) in found.values():
        assert course.losses[-1] < course.losses[0] < 6.0  # ln 256 is 5.5
        assert list(course.at_s) == sorted(course.at_s)
    assert list(tmp_path.iterdir()) == []


class Alone:
    """All-reduce of one process with a twin that has the same gradients, which come late."""

    def __init__(self, late: int) -> None:
        self.late, self.asked = late, 0

    def all_reduce(self, total, async_op):
        assert async_op
        total *= 2
        self.asked += 1
        due = self.asked + self.late
        return type("Handle", (), {"is_completed": lambda _: self.asked >= due, "wait": lambda _: None})()


@pytest.mark.parametrize(("late", "staleness_", "on_their_way"), [(9, 0, 0), (9, 3, 3), (1, 3, 1)])
def test_no_gradient_is_older_than_it_may_be_and_in_the_end_all_are_applied(late, staleness_, on_their_way) -> None:
    torch = pytest.importorskip("torch")
    from rigwise.bench.staleness_rank import Replica

    replica = Replica(torch, Alone(late), {"ranks": 2}, seed=0)
    batch = torch.zeros(4, 8, dtype=torch.long), torch.arange(4)
    for _ in range(6):
        replica.step(*batch, staleness_)
        assert len(replica.sent) <= staleness_
    assert len(replica.sent) == on_their_way
    replica.receive(0)
    assert not replica.sent


def test_without_staleness_training_is_that_of_one_process() -> None:
    torch = pytest.importorskip("torch")
    from rigwise.bench.staleness_rank import _RATE, Replica

    replica, net = Replica(torch, Alone(9), {"ranks": 2}, seed=0), staleness.network(torch, 0)
    batch = torch.arange(32).view(4, 8), torch.arange(4)
    for _ in range(3):
        replica.step(*batch, 0)
        loss = torch.nn.functional.cross_entropy(net(batch[0]), batch[1])
        slopes = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for weight, slope in zip(net.parameters(), slopes, strict=True):
                weight.sub_(_RATE * slope)
    for mine, right in zip(replica.weights, net.parameters(), strict=True):
        assert torch.allclose(mine, right, atol=1e-6)


def test_a_loss_that_is_never_reached_is_no_time() -> None:
    assert staleness.time_to(staleness.Course([1.0, 2.0], [3.0, 2.0], 2), 1.0) is None
    assert staleness.time_to(staleness.Course([1.0, 2.0], [3.0, 2.0], 2), 3.5) == 1.0
    good = staleness.Course([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], 3)
    bad = staleness.Course([1.0, 2.0, 3.0], [4.0, 4.0, 4.0], 3)
    found = list(staleness._figures("even", 0, {0: [good, good], 4: [good, bad]}))
    assert found[0].timing == Timing(samples_s=(2.0, 2.0), wall_s=6.0)
    assert found[1].skipped == "1 of 2 runs never came to the loss"


# --- shards --------------------------------------------------------------------------------------


@pytest.fixture
def open_files():
    """WebDataset leaves its shards to the collector of garbage to close."""
    yield
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("open_files")
@pytest.mark.parametrize(("write", "module"), [("files", "PIL"), ("webdataset", "webdataset"), ("parquet", "pyarrow")])
def test_every_container_gives_the_same_pictures_back(write, module, tmp_path) -> None:
    pytest.importorskip(module)
    pictures = [(f"{place:06d}", bytes([place]) * (place + 1)) for place in range(23)]
    read = getattr(shards, write)(tmp_path, pictures)
    shards._forget(tmp_path)
    assert sorted(read()) == sorted(read()) == sorted(data for _, data in pictures)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("open_files")
def test_the_figures_of_shards(tmp_path, monkeypatch) -> None:
    pytest.importorskip("PIL")
    from rigwise.bench import disk

    monkeypatch.setattr(disk, "file_system", lambda folder: "ext4")
    monkeypatch.setattr(shards, "COUNT", 12)
    found = {raw.name: raw for raw in shards.run(Context(each_s=0.002, folder=str(tmp_path)))}
    assert found["shards.files.cold"].amount == 12
    assert found["shards.files.decoded"].timing.samples_s
    assert {name.split(".")[1] for name in found} == {"files", "webdataset", "parquet"}
    assert list(tmp_path.iterdir()) == []


def test_missing_pictures_are_an_error() -> None:
    with pytest.raises(ValueError, match="1 of 400 pictures"):
        shards._passed(iter([b"one"]))
