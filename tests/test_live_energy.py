"""Rates and energy follow from counters, whenever these begin again at zero, stop or cannot be read."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.machine.live import energy
from rigwise.machine.live.rates import counted, energy_between, rates
from rigwise.machine.live.types import Counters, EnergyZone, GpuReading, GpuSample, HostState
from rigwise.machine.probe import live, memory_line
from rigwise.machine.probe.live_gpus import GpuFeed
from rigwise.machine.probe.live_host import Host, energy_zones
from rigwise.machine.probe.source import Root

steps_j = st.lists(st.floats(0.0, 99.0), min_size=1, max_size=40)


def plant(folder: Path, files: dict[str, str]) -> Root:
    """A captured tree."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return Root(folder=folder.resolve())


def zone(name: str, energy_uj: int, range_uj: int = 262_143_328_850) -> dict[str, str]:
    return {"name": f"{name}\n", "energy_uj": f"{energy_uj}\n", "max_energy_range_uj": f"{range_uj}\n"}


def powercap(**zones: dict[str, str]) -> dict[str, str]:
    """Zones as the kernel lays them out; ``intel_rapl_0_1`` is ``intel-rapl:0:1``."""
    named = {name.replace("intel_rapl_", "intel-rapl:").replace("_", ":"): files for name, files in zones.items()}
    return {f"sys/class/powercap/{name}/{file}": text for name, files in named.items() for file, text in files.items()}


def readings(*energies_j: float, range_j: float = 100.0) -> list[Counters]:
    return [
        Counters(at_s=float(at), zones={"package-0": EnergyZone(energy_j=one, range_j=range_j)})
        for at, one in enumerate(energies_j)
    ]


@given(steps=steps_j, start=st.floats(0.0, 99.0))
def test_energy_is_the_sum_of_its_steps_however_often_the_counter_begins_again(steps, start) -> None:
    values = [start]
    for step in steps:
        values.append((values[-1] + step) % 100.0)
    part = energy.cpu_part(readings(*values))
    assert part.energy_j == pytest.approx(sum(steps), abs=1e-6)
    assert part.mean_w == pytest.approx(sum(steps) / len(steps), abs=1e-6)
    assert part.max_w == pytest.approx(max(steps), abs=1e-6)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(1, 1e6))
def test_a_counter_never_counts_less_than_nothing_nor_more_than_its_range(before, after, range_j) -> None:
    found = counted(before, after, range_j)
    assert found is None or 0 <= found <= max(range_j, after)


def test_a_zone_that_falls_silent_is_no_energy() -> None:
    first, second = readings(1.0, 2.0)
    silent = Counters(at_s=2.0)
    part = energy.cpu_part([first, second, silent])
    assert (part.energy_j, part.reason) == (None, "an energy counter could not be read all the time")
    assert energy_between({}, {}) is None


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 1000)), min_size=2, max_size=30))
def test_the_trapezoid_lies_between_the_least_and_the_highest_power(steps) -> None:
    at_s, powers = 0.0, []
    for passed_s, watts in steps:
        at_s += passed_s
        powers.append((at_s, watts))
    wall_s = powers[-1][0] - powers[0][0]
    found = energy.trapezoid(powers)
    assert min(w for _, w in powers) * wall_s <= found * (1 + 1e-9) + 1e-9
    assert found <= max(w for _, w in powers) * wall_s * (1 + 1e-9) + 1e-9
    assert found == pytest.approx(sum(energy.trapezoid(pair) for pair in pairwise(powers)))


def gpu(at_s: float, **given_fields: object) -> GpuReading:
    fields = {"index": 0, "vendor": "NVIDIA", "bus": "0000:3b:00.0", **given_fields}
    return GpuReading(at_s=at_s, gpus=(GpuSample(**fields),))


def test_a_gpus_counter_is_preferred_to_its_power() -> None:
    (part,) = energy.gpu_parts([gpu(0, energy_j=1000.0, power_w=1.0), gpu(2, energy_j=1300.0, power_w=200.0)])
    assert (part.energy_j, part.mean_w, part.max_w, part.how) == (300.0, 150.0, 200.0, energy.GPU_COUNTER)


@pytest.mark.parametrize(
    "last_j", [1000.0, 5.0, None], ids=["it did not move", "driver was loaded again", "it is gone"]
)
def test_where_the_counter_says_nothing_power_is_integrated(last_j) -> None:
    (part,) = energy.gpu_parts([gpu(0, energy_j=1000.0, power_w=100.0), gpu(2, energy_j=last_j, power_w=200.0)])
    assert (part.energy_j, part.how) == (300.0, energy.TRAPEZOID)


def test_a_gpu_that_is_lost_has_no_energy_and_says_so() -> None:
    seen = [gpu(0, power_w=100.0, throttle=("sw_power_cap",), memory_used_bytes=7), gpu(1, fault="gpu is lost")]
    (part,) = energy.gpu_parts(seen)
    assert (part.energy_j, part.reason) == (None, "gpu is lost")
    assert (part.throttle, part.peak_memory_bytes) == (("sw_power_cap",), 7)


def test_the_whole_is_known_only_where_every_part_is() -> None:
    known = energy.Part(part="cpu", energy_j=2.0)
    assert energy.Summary(parts=(known, known)).energy_j == 4.0
    assert energy.Summary(parts=(known, energy.Part(part="gpu0", reason="lost"))).energy_j is None
    assert energy.Summary().energy_j is None


def test_packages_and_their_memory_count_and_nothing_twice(tmp_path) -> None:
    root = plant(
        tmp_path,
        powercap(
            intel_rapl_0=zone("package-0", 5_000_000),
            intel_rapl_0_0=zone("core", 4_000_000),
            intel_rapl_0_2=zone("dram", 1_000_000),
            intel_rapl_1=zone("psys", 9_000_000),
        ),
    )
    host = Host(root)
    assert {name: one.energy_j for name, one in host.zones().items()} == {
        "intel-rapl:0 package-0": 5.0,
        "intel-rapl:0:2 dram": 1.0,
    }
    (tmp_path / "sys/class/powercap/intel-rapl:0:2/energy_uj").write_text("broken\n")
    assert host.zones() == {}


def test_counters_that_only_root_may_read_say_how_to_open_them(tmp_path, monkeypatch) -> None:
    root = plant(tmp_path, powercap(intel_rapl_0=zone("package-0", 1)))
    text = Root.text

    def refused(self: Root, path: str, **options: object) -> str:
        if path.endswith("energy_uj"):
            from rigwise.machine.probe.source import Unreadable

            raise Unreadable("permission denied")
        return text(self, path, **options)

    monkeypatch.setattr(Root, "text", refused)
    zones, reason = energy_zones(root)
    assert zones == {}
    assert "sudo chmod a+r /sys/class/powercap/*/energy_uj" in reason


@pytest.mark.parametrize("content", [{}, {"sys/class/powercap/intel-rapl:0/name": "package-0"}], ids=["none", "half"])
def test_without_counters_the_reason_is_said(content, tmp_path) -> None:
    assert energy_zones(plant(tmp_path, {"proc/x": "", **content}))[1]


def test_rates_leave_out_what_went_backwards_and_what_is_new() -> None:
    before = Counters(at_s=0.0, disks={"a": (10, 10), "b": (0, 0)}, cpus=((0.0, 0.0, 0.0),) * 2)
    after = Counters(at_s=2.0, disks={"a": (5, 10), "b": (4, 2), "c": (7, 7)}, cpus=((1.0, 1.0, 4.0),) * 2)
    found = rates(before, after)
    assert found.disks == {"b": (2.0, 1.0), "c": (0.0, 0.0)}
    assert (found.load_frac, found.steal_frac, found.power_w) == (0.25, 0.25, None)
    assert rates(before, Counters(at_s=2.0, cpus=((1.0, 0.0, 1.0),))).loads == ()  # a CPU was switched off
    assert rates(after, after).load_frac is None


class FakePsutil:
    """What psutil answers of a machine with two disks, a partition and a bridge."""

    @staticmethod
    def cpu_times(percpu: bool):
        fields = {"user": 3.0, "idle": 5.0, "iowait": 1.0, "steal": 1.0, "guest": 2.0}
        return [SimpleNamespace(_asdict=lambda: fields)]

    @staticmethod
    def disk_io_counters(perdisk: bool):
        one = SimpleNamespace(read_bytes=1, write_bytes=2)
        return dict.fromkeys(("sda", "sda1", "loop0", "dm-0"), one)

    @staticmethod
    def net_io_counters(pernic: bool):
        return dict.fromkeys(("lo", "eth0", "br-1"), SimpleNamespace(bytes_recv=1, bytes_sent=2))

    @staticmethod
    def virtual_memory():
        return SimpleNamespace(total=100, available=40)

    @staticmethod
    def swap_memory():
        raise OSError


def test_the_host_counts_whole_disks_and_real_cards(tmp_path) -> None:
    tree = {
        "sys/block/sda/size": "1",
        "sys/block/loop0/size": "1",
        "sys/block/dm-0/size": "1",
        "sys/class/net/eth0/device/x": "",
        "sys/class/net/br-1/x": "",
        "sys/class/hwmon/hwmon0/name": "nvme",
        "sys/class/hwmon/hwmon0/temp1_input": "99000",
        "sys/class/hwmon/hwmon3/name": "k10temp",
        "sys/class/hwmon/hwmon3/temp1_input": "61400",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2000000",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "3000000",
        "sys/fs/cgroup/cgroup.controllers": "memory",
        "proc/self/cgroup": "0::/job\n",
        "sys/fs/cgroup/job/memory.max": "1000",
        "sys/fs/cgroup/job/memory.current": "900",
        "sys/fs/cgroup/job/memory.stat": "anon 1\ninactive_file 300\n",
    }
    host = Host(plant(tmp_path, tree), FakePsutil())
    counters, state = host.counters(), host.state()
    assert (counters.disks, counters.networks) == ({"sda": (1, 2)}, {"eth0": (1, 2)})
    assert counters.cpus == ((3.0, 1.0, 10.0),)  # guests are counted among users
    assert state == HostState(
        memory_used_bytes=60,
        memory_bytes=100,
        group_used_bytes=600,
        group_bytes=1000,
        clock_hz=2e9,
        max_clock_hz=3e9,
        temperature=61,
        no_energy=state.no_energy,
    )
    assert state.no_energy


class FakeGpus(GpuFeed):
    """A GPU that takes 200 W and counts it."""

    def __init__(self) -> None:
        super().__init__(command=[])
        self.at_s, self.is_closed = 0.0, False

    def read(self) -> GpuReading:
        self.at_s += 1.0
        return gpu(self.at_s, energy_j=200.0 * self.at_s, power_w=200.0, throttle=("sw_power_cap",))

    def close(self) -> None:
        self.is_closed = True


def test_a_sampler_reads_at_both_ends_and_in_between(tmp_path) -> None:
    root = plant(tmp_path, powercap(intel_rapl_0=zone("package-0", 1_000_000, 10_000_000)))
    gpus = FakeGpus()
    with live.Sampler(every_s=60.0, host=Host(root, FakePsutil()), gpus=gpus) as sampler:
        (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("4000000\n")
    found = sampler.summary()
    cpu, first = found.parts
    assert (cpu.energy_j, cpu.how, found.readings) == (3.0, energy.RAPL, 2)
    assert (first.energy_j, first.mean_w, first.throttle) == (200.0, 200.0, ("sw_power_cap",))
    assert found.energy_j == 203.0
    assert found.peak_memory_bytes
    assert not gpus.is_closed  # who made it may need it again


def test_a_long_stretch_keeps_its_ends_and_its_energy(monkeypatch) -> None:
    monkeypatch.setattr(live, "_MOST_READINGS", 10)
    sampler = live.Sampler(host=Host(Root(), FakePsutil()), gpus=FakeGpus())
    for _ in range(101):
        sampler._read()
    part = sampler.summary().parts[1]
    assert sampler.summary().readings <= 10
    assert part.energy_j == 200.0 * 100


def test_the_memory_line_states_what_limits_most() -> None:
    state = HostState(memory_used_bytes=10**9, memory_bytes=16 * 10**9, group_used_bytes=10**9, group_bytes=2 * 10**9)
    assert memory_line.host_line(state, None) == "RAM 1.00 GB free of 2.00 GB, this process unknown"
    assert memory_line.host_line(HostState(), 5) == "RAM unknown, this process 5.00 B"
    assert memory_line.gpu_line(GpuSample(index=1, fault="gpu is lost")) == "GPU 1: gpu is lost"
    assert memory_line.gpu_line(GpuSample(index=1)) == "GPU 1: its driver does not state its memory"


def test_the_memory_line_of_this_computer() -> None:
    import rigwise

    assert rigwise.memory_line().startswith("RAM ")
