"""What benchmarks compute is right, and the method counts as it says; no test here looks at how long anything took."""

import json
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.bench import all_reduce, disk, fio, limits, loader, records, state, suite, timing
from rigwise.bench.types import BYTES, ERROR, FLOPS, ITEMS, TIME, Context, Raw, State, Timing
from rigwise.errors import InvalidInputError, UnknownNameError
from rigwise.facts.catalogue import resolve_device
from rigwise.workload.table import tabulate

times = st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=60)


class Clock:
    """A clock that only what is timed moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.calls = 0

    def perf_counter(self) -> float:
        return self.now_s

    process_time = perf_counter

    def takes(self, *durations_s: float):
        def call() -> None:
            self.now_s += durations_s[min(self.calls, len(durations_s) - 1)]
            self.calls += 1

        return call


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing, "time", made)
    return made


def test_a_slow_start_is_no_sample(clock) -> None:
    found = timing.measure(clock.takes(5.0, 0.01), each_s=100.0)
    assert found.samples_s == pytest.approx([0.01] * len(found.samples_s))
    assert found.warm_up_s == pytest.approx(5.02)


def test_blocks_of_quick_calls_fill_the_time(clock) -> None:
    found = timing.measure(clock.takes(1e-5), each_s=1.0)
    assert found.calls == 2500  # a fortieth of the time
    assert clock.calls - 2 == found.calls * len(found.samples_s)
    assert clock.now_s == pytest.approx(1.0, rel=0.06)


def test_a_call_that_takes_too_long_is_timed_once(clock) -> None:
    assert len(timing.measure(clock.takes(50.0), each_s=1.0).samples_s) == 1


def test_waiting_for_the_device_counts(clock) -> None:
    found = timing.measure(lambda: None, each_s=1.0, wait=clock.takes(0.02))
    assert sum(found.samples_s) * found.calls == pytest.approx(0.02 * len(found.samples_s))


def test_what_prepares_a_call_is_not_timed(clock) -> None:
    found = timing.measure_prepared(clock.takes(0.3), lambda: setattr(clock, "now_s", clock.now_s + 0.1), each_s=2.0)
    assert found.samples_s == pytest.approx([0.1] * len(found.samples_s))
    assert len(found.samples_s) >= 5


@given(times, st.floats(0, 1))
def test_quantiles_are_those_of_numpy(samples, share) -> None:
    assert timing.quantile(samples, share) == pytest.approx(float(np.quantile(samples, share)))


@given(times)
def test_the_interval_of_the_median_lies_within_the_samples(samples) -> None:
    low, high = timing.median_interval(samples)
    assert min(samples) <= low * (1 + 1e-12)
    assert low <= high <= max(samples) * (1 + 1e-12)


def test_the_interval_narrows_with_more_samples() -> None:
    few = np.random.default_rng(0).normal(1.0, 0.1, 10)
    many = np.random.default_rng(0).normal(1.0, 0.1, 400)
    widths = [high - low for low, high in map(timing.median_interval, (few, many))]
    assert widths[1] < widths[0]


# --- what is compared ------------------------------------------------------------------------


def raw(name: str = "matmul.fp32", **changed) -> Raw:
    side = 1024
    given = {
        "unit": FLOPS, "amount": 2.0 * side**3, "timing": Timing(samples_s=(0.01, 0.011, 0.012)), "limit": "fp32",
        "work": {"law": "gemm", "m": side, "n": side, "k": side, "format": "fp32"},
    }  # fmt: skip
    return Raw(name=name, **{**given, **changed})


def test_a_rate_is_the_amount_over_the_median() -> None:
    figure = limits.judged(raw(), resolve_device("t4"), 1)
    assert figure.value == pytest.approx(2 * 1024**3 / 0.011)
    assert figure.best == pytest.approx(2 * 1024**3 / 0.010)
    assert figure.low <= figure.value <= figure.high


def test_the_limit_is_the_peak_of_the_format_and_of_the_cores_that_computed() -> None:
    gpu, cpu = resolve_device("t4"), resolve_device("core-i9-10940x")
    assert limits.limit_of(raw(), gpu).value == pytest.approx(8.1e12, rel=0.02)
    whole = limits.judged(raw(), cpu, cpu.units).limit
    half = limits.judged(raw(parameters={"threads": cpu.units // 2}), cpu, cpu.units).limit
    assert half.value == pytest.approx(whole.value / 2)
    assert "GHz" in whole.words


def test_no_limit_is_stated_where_the_catalogue_has_none() -> None:
    assert limits.judged(raw(limit="int8"), resolve_device("core-i9-10940x"), 14).limit is None
    assert limits.judged(raw(), None, 1).limit is None


@pytest.mark.parametrize("device", ["t4", "h100-sxm5-80gb", "core-i9-10940x"])
@pytest.mark.parametrize(
    "work",
    [
        {"law": "gemm", "m": 512, "n": 512, "k": 512, "format": "fp32"},
        {"law": "conv", "n": 8, "c": 64, "h": 28, "w": 28, "k": 64, "r": 3, "format": "fp32", "layout": "nhwc"},
        {"law": "attention", "batch": 1, "heads": 12, "seq": 512, "head": 64, "format": "fp32"},
        {"law": "rows", "operator": "add", "elements": 10**7},
        {"law": "rows", "operator": "copy", "elements": 10**7},
    ],
)
def test_predictions_stay_below_the_limit(device, work) -> None:
    memory = work["law"] == "rows"
    amount = 12e7 if memory else float(limits_flops(work))
    asked = raw(work=work, amount=amount, limit="memory" if memory else "fp32")
    figure = limits.judged(asked, resolve_device(device), 10**6)
    assert figure.predicted.value > 0
    if not memory:  # caches may carry a copy above the memory's rate
        assert figure.predicted.value <= limits.HEADROOM * figure.limit.value


def limits_flops(work: dict) -> float:
    """As the graph counts the same operator."""
    return tabulate([limits.operator(work)], {"b": 1}).flops[0, 0]


def test_attention_is_counted_as_the_graph_counts_it() -> None:
    from rigwise.bench.attention import flops

    sizes = {"batch": 2, "heads": 3, "seq": 256, "head": 64}
    counted = limits_flops({"law": "attention", **sizes, "format": "fp32"})
    assert flops(**sizes) == pytest.approx(counted, rel=0.01)


def test_a_step_of_a_network_is_predicted_with_its_interval() -> None:
    work = {"law": "step", "model": "resnet18", "task": "train", "batch": 16, "image_size": 224}
    asked = raw("networks.resnet18.training", unit=ITEMS, amount=16.0, work=work, limit="")
    found = limits.judged(asked, resolve_device("t4"), 1).predicted
    low, high = (float(word) for word in found.words.removeprefix("80 %: ").split(" to "))
    assert low <= found.value <= high


def test_a_figure_above_its_limit_says_so() -> None:
    figure = limits.judged(raw(timing=Timing(samples_s=(1e-9,) * 5)), resolve_device("t4"), 1)
    assert any("above its limit" in remark for remark in figure.remarks)
    assert not any("above" in remark for remark in limits.judged(raw(), resolve_device("t4"), 1).remarks)


def test_published_figures_are_of_known_devices_and_below_their_peaks() -> None:
    rows, sources = limits._published_table()
    assert {row.source for row in rows} == set(sources)
    for row in rows:
        if row.device:
            device = resolve_device(row.device)
            assert device.id == row.device
            if row.name.startswith("matmul"):
                assert row.value < device.peak(row.name.partition(".")[2])
            else:
                assert row.value < published_bound(row.name, device.id)


def published_bound(name: str, device: str) -> float:
    """Images a second that the device's roofs allow."""
    _, model, part = name.split(".")
    work = {"law": "step", "model": model, "task": "train", "batch": 16, "image_size": 224}
    assert part == "training"
    return 16 / limits._step(tuple(sorted(work.items())), device).bound_s


# --- what else went on -----------------------------------------------------------------------


def test_others_are_what_is_busy_and_not_ours(tmp_path) -> None:
    (tmp_path / "pressure").mkdir()
    marks = []
    for ticks, stalled in (((100, 0, 0, 100, 0, 0, 0, 0), 0), ((200, 50, 50, 200, 0, 0, 0, 100), 500_000)):
        (tmp_path / "stat").write_text("cpu  " + " ".join(map(str, ticks)) + " 0 0\ncpu0 1 2 3\n")
        (tmp_path / "pressure" / "cpu").write_text(f"some avg10=1.00 avg60=0 avg300=0 total={stalled}\nfull total=0\n")
        marks.append(state.mark(tmp_path))
    before = state.Marks(at_s=0.0, own_s=0.0, ticks=marks[0].ticks, stalled_s=marks[0].stalled_s)
    after = state.Marks(at_s=2.0, own_s=1.0, ticks=marks[1].ticks, stalled_s=marks[1].stalled_s)
    found = state.between(before, after)
    assert (found.others_frac, found.steal_frac, found.stall_frac) == (100 / 400, 100 / 400, 0.25)
    assert "other processes took 25 % of the CPU time" in state.remarks(found, 0.0)
    assert state.remarks(State(), 0.05) == ()


@pytest.mark.parametrize("text", ["", "cpu", "cpu  a b c d e f g h i", "intr 1 2 3 4 5 6 7 8 9"])
def test_counters_that_cannot_be_read_say_nothing(tmp_path, text) -> None:
    (tmp_path / "stat").write_text(text)
    found = state.mark(tmp_path)
    assert found.ticks == ()
    assert found.stalled_s is None


# --- storage -------------------------------------------------------------------------------------


def context(folder, **changed) -> Context:
    return Context(**{"each_s": 0.01, "threads": 1, "folder": str(folder), "disk_bytes": 16 * 2**20, **changed})


def test_samples_are_the_same_in_every_container(tmp_path) -> None:
    shelf = records.Shelf(tmp_path / "shelf", seed=0, count=20)
    shelf.forget()
    assert shelf.files() == shelf.packed() == shelf.tar() == 20 * records.SIZE


def test_the_disk_is_read_and_nothing_stays(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(disk, "file_system", lambda folder: "ext4")  # also where the tests' folder is memory
    figures = {figure.name: figure for figure in disk.run(context(tmp_path))}
    assert set(figures) == {"disk.write", "disk.random", "disk.random-deep", "disk.sequential", "disk.cached"}
    assert not any(figure.skipped for figure in figures.values())
    assert figures["disk.random"].unit == ITEMS
    assert figures["disk.sequential"].unit == BYTES
    assert list(tmp_path.iterdir()) == []


FIO = {
    "fio version": "fio-3.33",
    "jobs": [
        {"error": 0, "read": {"iops": 13600.5, "bw_bytes": 55705600, "clat_ns": {"percentile": {"99.000000": 177152}}}}
    ],
}


def test_what_fio_says_is_taken_as_it_is() -> None:
    found = fio.parsed("fio: a warning\n" + json.dumps(FIO))
    assert found == (13600.5, 55705600.0, {"tool": "fio-3.33", "p99_us": 177.2})


@pytest.mark.parametrize("text", ["", "{}", "{", '{"jobs": [1]}', json.dumps(FIO).replace('"error": 0', '"error": 22')])
def test_what_is_no_answer_of_fio(text) -> None:
    with pytest.raises(ValueError, match=r"fio|found|Expecting|unpack"):
        fio.parsed(text)


@pytest.mark.parametrize("script", ["exit 3", "echo nothing", f"echo '{json.dumps(FIO)}'"])
def test_fio_measures_where_it_answers(script, tmp_path, monkeypatch) -> None:
    program = tmp_path / "fio"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr(fio, "installed", lambda: str(program))
    monkeypatch.setattr(disk, "file_system", lambda folder: "ext4")
    (found,) = disk.run(context(tmp_path, each_s=0.3, wanted=("disk.random",)))
    assert (found.value == 13600.5) == ("iops" in script)
    assert found.value > 0


def test_single_figures_of_the_disk(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(disk, "file_system", lambda folder: "ext4")
    found = [figure.name for figure in disk.run(context(tmp_path, wanted=("disk.random",)))]
    assert found == ["disk.random"]


def test_a_full_disk_is_left_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(disk, "file_system", lambda folder: "ext4")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=10**9))
    (figure,) = disk.run(context(tmp_path))
    assert "free" in figure.skipped


def test_memory_is_no_disk(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(disk, "file_system", lambda folder: "tmpfs")
    (figure,) = records.run(context(tmp_path))
    assert "memory" in figure.skipped


def test_a_fault_of_the_disk_is_a_result(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(disk, "file_system", lambda folder: "ext4")

    def fails(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.os, "pwritev", fails)
    (figure,) = disk.run(context(tmp_path))
    assert figure.skipped == "No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_pictures_decode_to_what_a_network_sees() -> None:
    pytest.importorskip("PIL")
    pictures = loader.Pictures(seed=0)
    assert pictures[3].shape == (loader.CROP, loader.CROP, 3)
    assert 60 < pictures[3].mean() < 195
    with pytest.raises(IndexError):
        pictures[len(pictures)]


# --- choosing ------------------------------------------------------------------------------------


def test_a_typo_gets_near_matches() -> None:
    with pytest.raises(UnknownNameError, match="did you mean matmul"):
        suite.chosen(["matmull"])


def test_the_same_suite_in_the_same_order_whatever_order_was_asked() -> None:
    assert suite.chosen(["network", "memory"]) == suite.chosen(["memory", "network"])
    assert suite.chosen([]) == suite.BENCHMARKS


@pytest.mark.parametrize("changed", [{"each_s": 0.0}, {"each_s": float("nan")}, {"each_s": 1e9}, {"threads": -1}])
def test_numbers_out_of_range_are_refused(changed) -> None:
    from rigwise.machine.snapshot import Snapshot

    with pytest.raises(InvalidInputError):
        suite.context_of(suite.Request(**changed), Snapshot(), ("cpu", "cpu"), "")


@given(st.floats(1e-7, 1e-3), st.floats(1e6, 1e12))
def test_latency_and_bandwidth_are_found_again(latency_s, bytes_per_s) -> None:
    ranks = 4
    hops = 2 * (ranks - 1)
    sizes = [latency_s * bytes_per_s * ranks * share for share in (0.1, 1.0, 10.0)]
    measured = [(size, hops * (latency_s + size / ranks / bytes_per_s)) for size in sizes]
    found = all_reduce.fitted(measured, ranks)
    assert found == pytest.approx((latency_s, bytes_per_s), rel=1e-6)


def test_every_benchmark_has_a_file() -> None:
    from importlib import import_module

    for benchmark in suite.BENCHMARKS:
        assert callable(import_module(benchmark.module).run)


def test_a_ratio_needs_no_timing() -> None:
    figure = limits.judged(Raw(name="formats.bf16", unit=ERROR, value=3e-3), None, 1)
    assert (figure.value, figure.spread_frac) == (3e-3, None)


def test_noisy_figures_are_counted_among_those_that_were_measured() -> None:
    from rigwise.report.bench_text import bench_text

    noisy = Raw(name="launch.queued", unit=TIME, timing=Timing(samples_s=(1e-3, 2e-3, 4e-3, 8e-3)))
    raws = (noisy, Raw(name="energy", unit="", skipped="the time was up"))
    report = suite.Report(started="", name="CPU", threads=1, figures=tuple(limits.judged(r, None, 1) for r in raws))
    assert "1 of 1 figures is noisy" in bench_text(report)


def test_an_item_of_many_bytes_lowers_the_limit_of_items() -> None:
    gpu = resolve_device("t4")
    rate = gpu.memory_bytes_per_s
    asked = raw("tables.group.cudf", unit=ITEMS, limit="memory", work={}, parameters={"bytes_per_item": 16})
    assert limits.judged(asked, gpu, 1).limit.value == pytest.approx(rate / 16)
    asked = raw("learning.k-means.cuml", unit=ITEMS, limit="fp32", work={}, parameters={"flops_per_item": 2048})
    assert limits.judged(asked, gpu, 1).limit.value == pytest.approx(limits.limit_of(raw(), gpu).value / 2048)
    assert limits.judged(raw(unit=ITEMS, work={}), gpu, 1).limit is None  # an item of unknown size


def test_the_limit_of_a_step_is_its_bound_and_a_time_below_it_is_doubtful() -> None:
    work = {"law": "step", "model": "resnet18", "task": "infer", "batch": 1, "image_size": 224}
    times = Timing(samples_s=(1e-6,) * 5)
    asked = raw("runtimes.eager.latency", unit=TIME, amount=1.0, work=work, limit="", timing=times)
    figure = limits.judged(asked, resolve_device("t4"), 1)
    assert figure.limit.value <= figure.predicted.value
    assert figure.limit.value > 1e-6
    assert any("above its limit" in remark for remark in figure.remarks)
    rate = limits.judged(raw(unit=ITEMS, amount=1.0, work=work, limit="", timing=times), resolve_device("t4"), 1)
    assert rate.limit.value == pytest.approx(1 / figure.limit.value)
    assert limits.limit_share(rate) == pytest.approx(limits.limit_share(figure))


def test_a_layer_is_predicted_as_the_sum_of_its_operators() -> None:
    from rigwise.bench import transformer

    sizes = {"width": 256, "heads": 4, "seq": 128, "batch": 2}
    work = {"law": "layer", **sizes, "format": "fp32"}
    counted = sum(tabulate([op], {"b": 1}).flops[0, 0] for op in limits.operators(work))
    assert transformer.flops(**sizes) == pytest.approx(counted, rel=0.01)
    amount = transformer.flops(**sizes)
    figure = limits.judged(raw(work=work, amount=amount), resolve_device("t4"), 1)
    assert 0 < figure.predicted.value < figure.limit.value


def test_a_quick_suite_says_what_it_leaves_out_unless_it_is_named() -> None:
    kept, left_out = suite._for_time(suite.BENCHMARKS, suite.Request(quick=True))
    assert {raw.name for raw in left_out} == {b.name for b in suite.BENCHMARKS} - {b.name for b in kept}
    assert {"runtimes", "tables"} <= {raw.name for raw in left_out}
    named = suite.chosen(["runtimes"])
    assert suite._for_time(named, suite.Request(quick=True, names=("runtimes",))) == (named, [])
    assert suite._for_time(suite.BENCHMARKS, suite.Request())[1] == []


@pytest.mark.parametrize(
    ("vendors", "part", "target"),
    [
        ([], "", ("cpu", "cpu")),
        (["NVIDIA"], "", ("cuda:0", "gpu0")),
        (["NVIDIA"], "cpu", ("cpu", "cpu")),
        (["NVIDIA", "NVIDIA"], "gpu1", ("cuda:1", "gpu1")),
        (["AMD"], "gpu", ("cuda:0", "gpu0")),
        (["Intel"], "", ("xpu:0", "gpu0")),
        (["Apple"], "", ("mps", "gpu0")),
    ],
)
def test_the_target_is_the_gpu_that_pytorch_knows_by_another_name(vendors, part, target) -> None:
    from rigwise.machine.snapshot import Field, Snapshot

    gpus = tuple({"vendor": Field(value=vendor, source="a test")} for vendor in vendors)
    assert suite.target_of(Snapshot(gpus=gpus), part) == target


def test_gpus_that_are_not_there_or_not_known() -> None:
    from rigwise.errors import UnsupportedError
    from rigwise.machine.snapshot import Field, Snapshot

    with pytest.raises(InvalidInputError, match="no GPU"):
        suite.target_of(Snapshot(), "gpu0")
    with pytest.raises(UnsupportedError, match="unknown"):
        suite.target_of(Snapshot(gpus=({"name": Field(value="x", source="a test")},)), "")
