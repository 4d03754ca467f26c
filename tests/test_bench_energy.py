"""The energy benchmark: figures follow from windows, and a machine that tells nothing is told why."""

import sys
import threading
from types import SimpleNamespace

import pytest

from rigwise.bench import energy, gpu_state, limits, suite
from rigwise.bench.state import remarks
from rigwise.bench.types import JOULES, WATTS, Context, Raw, State
from rigwise.facts.catalogue import resolve_device
from rigwise.machine.live.energy import Part, Summary
from rigwise.machine.live.types import GpuReading, GpuSample
from rigwise.machine.probe.live_gpus import GpuFeed
from rigwise.measurement.compare import better
from rigwise.report.bench_text import bench_text

CONTEXT = Context(target="cpu", threads=1, each_s=0.01, memory_bytes=1e9)


class Meter:
    """Ten joules for each call, whatever it takes."""

    def __init__(self) -> None:
        self.windows = 0

    def __call__(self, work):
        steps = work()
        self.windows += 1
        return energy.Window(wall_s=2.0, steps=steps, energy_j=10.0 * steps, throttle=("sw_power_cap",))


@pytest.fixture
def quick(monkeypatch) -> Meter:
    meter = Meter()
    monkeypatch.setattr(energy, "_LEAST_S", {"cpu": 0.0})
    monkeypatch.setattr(energy, "meter_of", lambda torch, context, gpus: (meter, "counters"))
    return meter


def test_figures_are_joules_of_a_step_and_watts_at_rest(quick) -> None:
    pytest.importorskip("torch")
    idle, matmul, training = energy.run(CONTEXT)
    assert (idle.name, idle.unit, idle.value) == ("energy.idle", WATTS, 5.0)
    assert (matmul.name, matmul.unit, matmul.value) == ("energy.matmul", JOULES, 10.0)
    flops = 2.0 * float(matmul.parameters["side"]) ** 3
    assert f"{flops / 10.0:.3g} FLOP/J" in matmul.note
    assert "held back by sw_power_cap" in matmul.note
    assert training.skipped == "too little memory"
    assert quick.windows == 6


def test_a_figure_that_was_not_asked_for_costs_nothing(quick) -> None:
    pytest.importorskip("torch")
    context = Context(target="cpu", each_s=0.01, wanted=("energy.idle",))
    assert [raw.name for raw in energy.run(context)] == ["energy.idle"]
    assert quick.windows == 3


def test_no_parameter_is_a_measurement(quick) -> None:
    """Records are compared where their parameters agree."""
    pytest.importorskip("torch")
    first, second = (list(energy.run(CONTEXT))[1].parameters for _ in range(2))
    assert first == second


def test_a_window_without_energy_is_no_figure(monkeypatch) -> None:
    monkeypatch.setattr(energy, "_LEAST_S", {"cpu": 0.0})
    raw = energy._idle(None, CONTEXT, (lambda work: None, "counters"))
    assert (raw.value, raw.skipped) == (None, "its energy could not be read all the time")


def reading(monkeypatch, *parts: Part, notes: tuple[str, ...] = ()) -> None:
    """A machine whose sampler says this."""

    class Sampler:
        def __init__(self, **_: object) -> None:
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def summary(self) -> Summary:
            return Summary(wall_s=2.0, readings=2, parts=parts, notes=notes)

    monkeypatch.setattr(energy, "Sampler", Sampler)
    monkeypatch.setattr(energy, "_LEAST_S", {"cpu": 0.0})
    monkeypatch.setattr(energy, "_LEAST_GPU_S", 0.0)
    monkeypatch.setitem(sys.modules, "zeus.monitor", None)


def torch_with(bus: int) -> SimpleNamespace:
    stated = SimpleNamespace(pci_domain_id=0, pci_bus_id=bus, pci_device_id=0)
    return SimpleNamespace(cuda=SimpleNamespace(get_device_properties=lambda index: stated))


def test_the_gpu_is_found_by_its_address_however_the_framework_counts(monkeypatch) -> None:
    first = Part(part="gpu0", bus="0000:3b:00.0", energy_j=1.0, how="a")
    second = Part(part="gpu1", bus="0000:af:00.0", energy_j=2.0, how="b")
    reading(monkeypatch, Part(part="cpu", reason="no counter"), first, second)
    meter, how = energy.meter_of(torch_with(0xAF), Context(target="cuda:0"), None)
    assert meter is not None
    assert (how, meter(lambda: 4)) == ("b", energy.Window(wall_s=2.0, steps=4, energy_j=2.0))
    missing, why = energy.meter_of(torch_with(0x11), Context(target="cuda:0"), None)
    assert (missing, why) == (None, "this GPU's energy is not read")


def test_where_nothing_is_readable_the_reason_is_the_answer(monkeypatch) -> None:
    pytest.importorskip("torch")
    reading(monkeypatch, Part(part="cpu", reason="only root may read it"), notes=("the GPU driver did not answer",))
    (raw,) = energy.run(CONTEXT)
    assert (raw.value, raw.skipped) == (None, "the GPU driver did not answer; only root may read it")
    shown = bench_text(suite.Report(started="", name="CPU", threads=1, figures=(limits.judged(raw, None, 1),)))
    assert "only root may read it" in shown


def measured(**fields: object) -> SimpleNamespace:
    usual = {"time": 2.0, "gpu_energy": {}, "cpu_energy": None, "dram_energy": None, "soc_energy": None}
    return SimpleNamespace(**{**usual, **fields})


@pytest.mark.parametrize(
    ("found", "target", "joules"),
    [
        (measured(), "cpu", None),
        (measured(cpu_energy={0: 3.0, 1: 4.0}, dram_energy={0: 1.0}), "cpu", 8.0),
        (measured(gpu_energy={0: 5.0, 1: 6.0}), "cuda:1", 6.0),
        (measured(gpu_energy={0: 5.0}), "cuda:1", None),
        (measured(soc_energy=SimpleNamespace(gpu_mj=1500, cpu_total_mj=500)), "mps", 1.5),
        (measured(soc_energy=SimpleNamespace(gpu_energy_mj=None, cpu_energy_mj=250.0)), "cuda:0", None),
    ],
)
def test_zeus_is_asked_for_the_target_alone(found, target, joules) -> None:
    assert energy.zeus_joules(found, target) == joules


def test_zeus_stands_in_where_nothing_else_reads(monkeypatch) -> None:
    reading(monkeypatch, Part(part="cpu", reason="no counter"))

    class ZeusMonitor:
        def begin_window(self, name: str) -> None:
            pass

        def end_window(self, name: str) -> SimpleNamespace:
            return measured(soc_energy=SimpleNamespace(gpu_mj=1500))

    monkeypatch.setitem(sys.modules, "zeus.monitor", SimpleNamespace(ZeusMonitor=ZeusMonitor))
    meter, how = energy.meter_of(None, Context(target="mps"), None)
    assert meter is not None
    assert (how, meter(lambda: 3)) == ("Zeus", energy.Window(wall_s=2.0, steps=3, energy_j=1.5))


def test_a_training_step_is_compared_with_the_predicted_energy() -> None:
    device = resolve_device("rtx-4090")
    work = {"law": "step energy", "model": "resnet50", "task": "train", "batch": 16, "image_size": 224}
    raw = Raw(name="energy.training.resnet50", unit=JOULES, value=20.0, work=work)
    figure = limits.judged(raw, device, 1)
    assert figure.limit is None
    assert figure.predicted is not None
    assert 1.0 < figure.predicted.value < device.tdp_w * 1.0  # a step of milliseconds
    report = suite.Report(started="", name="GPU", threads=1, device=device, figures=(figure,))
    assert f"{figure.predicted.value / 20.0:.2f} of it" in bench_text(report)


class Feed(GpuFeed):
    """Two GPUs, one of which held its clock back at first."""

    def __init__(self) -> None:
        super().__init__(command=[])
        self.asked, self.is_closed = threading.Semaphore(0), False
        self.reasons = ("hw_thermal_slowdown",)

    def read(self) -> GpuReading:
        other = GpuSample(index=0, bus="0000:3b:00.0", throttle=("sync_boost",))
        mine = GpuSample(index=1, bus="0000:af:00.0", clock_hz=1e9, power_w=300.0, throttle=self.reasons)
        self.reasons = ()
        self.asked.release()
        return GpuReading(at_s=0.0, gpus=(other, mine))

    def close(self) -> None:
        self.is_closed = True


def test_every_reason_of_the_time_of_a_figure_is_its_state() -> None:
    feed = Feed()
    with gpu_state.GpuState("0000:af:00.0", feed, every_s=0.0) as sampled:
        for _ in range(4):
            feed.asked.acquire()
        first = sampled.since()
        feed.asked = threading.Semaphore(0)
        for _ in range(3):
            feed.asked.acquire()
        second = sampled.since()
    assert first == {"gpu_hz": 1e9, "gpu_w": 300.0, "throttled": ("hw_thermal_slowdown",)}
    assert second == {"gpu_hz": 1e9, "gpu_w": 300.0, "throttled": ()}
    assert feed.is_closed
    assert "hw_thermal_slowdown" in remarks(State(**first), None)[0]


def test_a_cpu_has_no_gpu_beside_it() -> None:
    with gpu_state.gpu_state(None, "cpu") as sampled:
        assert sampled is None


def test_a_gpu_without_an_address_is_the_only_one_or_none() -> None:
    one, other = GpuSample(index=0), GpuSample(index=1)
    assert gpu_state.sample_of([one], "") is one
    assert gpu_state.sample_of([one, other], "") is None
    assert gpu_state.sample_of([one], "0000:3b:00.0") is None


def test_less_energy_is_better() -> None:
    assert (better(JOULES, 0.5), better(WATTS, 2.0)) == ("better", "worse")
