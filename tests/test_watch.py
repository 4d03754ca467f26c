"""What ``rigwise watch`` shows, of drivers that answer, answer half, hang, die or are not there."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rigwise.cli.main import root as command_line
from rigwise.machine.live.types import GpuProcess, GpuSample, HostState, Rates, Sample, Slice
from rigwise.machine.probe import live_child, live_gpus
from rigwise.machine.probe.live_amd import Amd
from rigwise.machine.probe.live_gpus import GpuFeed
from rigwise.machine.probe.live_nvidia import Nvml, short_name
from rigwise.machine.probe.live_processes import BusyProcesses
from rigwise.machine.probe.source import Root, Unreadable
from rigwise.report.live_text import columns, document, row, sample_lines, sample_text


def plant(folder: Path, files: dict[str, str]) -> Root:
    """A captured tree."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return Root(folder=folder.resolve())


class NvmlError(Exception):
    """As the library raises it."""

    def __init__(self, value: int = 3) -> None:
        super().__init__({3: "Not Supported", 15: "GPU is lost", 18: "Driver/library version mismatch"}[value])
        self.value = value


def library(*missing: str, **answers: object) -> SimpleNamespace:
    """A stand-in for ``pynvml``; a call that is not given is not supported, one that is missing not even there."""
    usual = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetName": b"NVIDIA H200",
        "nvmlDeviceGetPciInfo": SimpleNamespace(busId=b"00000000:3B:00.0"),
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=98, memory=40),
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=71, total=141),
        "nvmlDeviceGetPowerUsage": 612_000,
        "nvmlDeviceGetTotalEnergyConsumption": 5_000,
        "nvmlDeviceGetCurrentClocksEventReasons": 0x45,
        "nvmlDeviceGetMigMode": (0, 0),
        "nvmlDeviceGetComputeRunningProcesses": [],
        **answers,
    }

    def answering(answer: object):
        def call(*arguments: object) -> object:
            if isinstance(answer, Exception):
                raise answer
            return answer(*arguments) if callable(answer) else answer

        return call

    def absent(name: str):
        def call(*_: object) -> None:
            raise NvmlError(3)

        if not name.startswith("nvml"):
            raise AttributeError(name)
        return call

    class Library(SimpleNamespace):
        def __getattr__(self, name: str) -> object:
            return absent("" if name in missing else name)

    return Library(NVMLError=NvmlError, **{name: answering(one) for name, one in usual.items() if name not in missing})


def test_nvml_is_read_with_its_units() -> None:
    (gpu,) = Nvml(library()).read()
    assert (gpu.name, gpu.bus) == ("NVIDIA H200", "0000:3b:00.0")
    assert (gpu.load_frac, gpu.power_w, gpu.energy_j) == (0.98, 612.0, 5.0)
    assert gpu.throttle == ("sw_power_cap", "hw_thermal_slowdown")
    assert (gpu.pcie_width, gpu.temperature, gpu.slices, gpu.fault) == (None, None, (), "")


def test_an_older_package_has_the_old_name_of_the_reasons_only() -> None:
    old = library(
        "nvmlDeviceGetCurrentClocksEventReasons",
        nvmlDeviceGetCurrentClocksThrottleReasons=0x1,
    )
    assert Nvml(old).read()[0].throttle == ()
    neither = library("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
    assert Nvml(neither).read()[0].throttle is None


def test_a_driver_of_another_version_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="version mismatch"):
        Nvml(library(nvmlInit=NvmlError(18)))


def test_a_gpu_that_is_lost_keeps_its_name_and_the_other_goes_on() -> None:
    lost = False

    def power(handle: str) -> int:
        if lost and handle == "1":
            raise NvmlError(15)
        return 100_000

    nvml = Nvml(library(nvmlDeviceGetCount=2, nvmlDeviceGetHandleByIndex=str, nvmlDeviceGetPowerUsage=power))
    assert [gpu.fault for gpu in nvml.read()] == ["", ""]
    lost = True
    first, second = nvml.read()
    assert (first.power_w, first.fault) == (100.0, "")
    assert (second.power_w, second.name, second.fault) == (None, "NVIDIA H200", "gpu is lost")


def test_a_divided_gpu_shows_its_slices() -> None:
    def slice_of(_: str, index: int) -> str:
        if index == 1:
            raise NvmlError(3)
        return f"slice{index}"

    sizes = {"handle": SimpleNamespace(used=5, total=90), "slice0": SimpleNamespace(used=1, total=10)}
    nvml = Nvml(
        library(
            nvmlDeviceGetMigMode=(1, 1),
            nvmlDeviceGetMaxMigDeviceCount=3,
            nvmlDeviceGetMigDeviceHandleByIndex=slice_of,
            nvmlDeviceGetMemoryInfo=lambda handle: sizes.get(handle, SimpleNamespace(used=2, total=20)),
            nvmlDeviceGetUtilizationRates=NvmlError(3),
        )
    )
    (gpu,) = nvml.read()
    assert gpu.slices == (
        Slice(index=0, memory_used_bytes=1, memory_bytes=10),
        Slice(index=2, memory_used_bytes=2, memory_bytes=20),
    )
    assert gpu.load_frac is None


def test_a_process_is_listed_once_with_its_user_and_program() -> None:
    here = os.getpid()
    used = [SimpleNamespace(pid=here, usedGpuMemory=None), SimpleNamespace(pid=2**22 + 1, usedGpuMemory=9)]
    both = library(
        nvmlDeviceGetComputeRunningProcesses=used,
        nvmlDeviceGetGraphicsRunningProcesses=[SimpleNamespace(pid=here, usedGpuMemory=4)],
    )
    hidden, mine = Nvml(both).read()[0].processes
    assert hidden == GpuProcess(pid=2**22 + 1, memory_bytes=9)
    assert (mine.pid, mine.memory_bytes) == (here, 4)
    assert mine.user == psutil.Process().username()


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ([], ""),
        (["/opt/bin/ollama", "serve", "--token", "x"], "ollama"),
        (["python3.11", "/home/a/train.py", "--api-key=secret"], "python3.11 train.py"),
        (["python", "-c", "secret"], "python"),
        (["python", "-m"], "python"),
    ],
)
def test_arguments_stay_hidden(command, shown) -> None:
    assert short_name(command) == shown


def test_amd_is_read_from_the_drivers_files(tmp_path) -> None:
    device = "sys/class/drm/card1/device"
    node = "sys/class/kfd/kfd/topology/nodes/2"
    tree = {
        f"{device}/vendor": "0x1002",
        f"{device}/uevent": "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:75:00.0\n",
        f"{device}/product_name": "AMD Instinct MI300X",
        f"{device}/gpu_busy_percent": "97",
        f"{device}/mem_info_vram_used": "1000",
        f"{device}/mem_info_vram_total": "2000",
        f"{device}/pp_dpm_sclk": "0: 132Mhz\n1: 2100Mhz *\n",
        f"{device}/current_link_width": "8",
        f"{device}/max_link_width": "16",
        f"{device}/current_link_speed": "32.0 GT/s PCIe",
        f"{device}/hwmon/hwmon4/power1_input": "550000000",
        f"{device}/hwmon/hwmon4/power1_cap": "750000000",
        f"{device}/hwmon/hwmon4/temp1_input": "48000",
        f"{device}/hwmon/hwmon4/freq1_input": "2100000000",
        f"{node}/gpu_id": "4321",
        f"{node}/properties": "location_id 29952\ndomain 0\n",
        "sys/class/kfd/kfd/proc/77/vram_4321": "900",
        "sys/class/drm/card0/device/vendor": "0x8086",
    }
    (gpu,) = Amd(plant(tmp_path, tree)).read()
    assert (gpu.name, gpu.load_frac, gpu.power_w, gpu.power_limit_w) == ("AMD Instinct MI300X", 0.97, 550.0, 750.0)
    assert (gpu.clock_hz, gpu.max_clock_hz, gpu.temperature) == (2.1e9, 2.1e9, 48)
    assert (gpu.pcie_width, gpu.pcie_width_max, gpu.pcie_generation, gpu.pcie_generation_max) == (8, 16, 5, None)
    assert (gpu.throttle, gpu.energy_j) == (None, None)
    assert gpu.processes == (GpuProcess(pid=77, memory_bytes=900),)
    (tmp_path / device / "gpu_busy_percent").write_text("many")
    assert Amd(Root(folder=tmp_path.resolve())).read()[0].load_frac is None


ANSWER = '{"at_s": 1.0, "gpus": [], "note": "fine"}'


def child(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_feed_asks_again_and_again() -> None:
    with GpuFeed(command=child(f"import sys\nfor _ in sys.stdin: print('''{ANSWER}''', flush=True)")) as feed:
        assert [feed.read().note for _ in range(3)] == ["fine"] * 3


def test_a_driver_that_hangs_is_left_alone_and_ended(monkeypatch) -> None:
    with GpuFeed(limit_s=0.2, command=child("import time; time.sleep(600)")) as feed:
        assert "did not answer in 0.2 s" in feed.read().note
        left = feed._left
        assert left is not None
        assert left.poll() is not None  # it was killed
        assert "did not answer" in feed.read().note
        assert feed._process is None  # and not asked again at once
        monkeypatch.setattr(live_gpus, "_AGAIN_S", 0.0)
        monkeypatch.setattr(
            feed, "_command", child(f"import sys\nfor _ in sys.stdin: print('''{ANSWER}''', flush=True)")
        )
        monkeypatch.setattr(feed, "_limit_s", 60.0)
        assert feed.read().note == "fine"


@pytest.mark.parametrize(
    "code", ["raise SystemExit(3)", "import os; os.abort()", "print('{}', flush=True)", "print('no JSON', flush=True)"]
)
def test_a_child_that_dies_or_talks_nonsense_is_a_note(code) -> None:
    with GpuFeed(command=child(code)) as feed:
        assert feed.read().note.startswith("the process that reads the GPUs failed")


def test_a_child_that_cannot_be_started_is_a_note(tmp_path) -> None:
    with GpuFeed(command=[str(tmp_path / "nothing")]) as feed:
        assert feed.read().note.startswith("the GPUs cannot be read")


FAKE = """
from types import SimpleNamespace
class NVMLError(Exception): pass
def nvmlInit(): pass
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetName(handle): return b"NVIDIA T4"
def nvmlDeviceGetPowerUsage(handle): print("a library that talks"); return 70000
def nvmlDeviceGetComputeRunningProcesses(handle): return [SimpleNamespace(pid=1, usedGpuMemory=5)]
"""


@pytest.fixture
def fake_gpu(tmp_path, monkeypatch) -> Path:
    """A computer whose driver is a module of this test, in the child that a user's computer would have."""
    (tmp_path / "pynvml.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(live_gpus, "has_nvidia", lambda root: True)
    return tmp_path


@pytest.mark.usefixtures("fake_gpu")
def test_the_real_child_answers_for_a_driver() -> None:
    with GpuFeed(limit_s=60.0) as feed:
        (gpu,) = feed.read().gpus
        process = feed._process
    assert (gpu.name, gpu.power_w, gpu.processes[0].memory_bytes) == ("NVIDIA T4", 70.0, 5)
    assert process is not None
    assert process.poll() is not None


def test_no_process_stays_behind_when_the_one_who_asks_is_killed(fake_gpu) -> None:
    (fake_gpu / "pynvml.py").write_text(FAKE.replace("return 70000", "import time; time.sleep(600)"))
    code = (
        "from rigwise.machine.probe import live_gpus as g; g.has_nvidia = lambda root: True\n"
        "feed = g.GpuFeed(limit_s=600.0); feed._start(); print(feed._process.pid, flush=True); feed.read()"
    )
    with subprocess.Popen(child(code), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        asked = psutil.Process(int(process.stdout.readline()))
        process.kill()
    assert psutil.wait_procs([asked], timeout=30)[1] == []


def test_a_driver_that_fails_is_opened_again_later(fake_gpu, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlInit=NvmlError(18)))
    gpus = live_child.Gpus(Root(folder=fake_gpu), nvidia=True)
    assert "version mismatch; see rigwise doctor" in gpus.read().note
    monkeypatch.setitem(sys.modules, "pynvml", library())
    assert gpus.read().gpus == ()  # not at once
    monkeypatch.setattr(live_child, "_AGAIN_S", 0.0)
    assert (len(gpus.read().gpus), gpus.read().note) == (1, "")


def test_a_driver_that_is_replaced_meanwhile_is_opened_again(fake_gpu, monkeypatch) -> None:
    power: list[object] = [100_000]

    def asked(_: str) -> object:
        if isinstance(power[0], Exception):
            raise power[0]
        return power[0]

    monkeypatch.setattr(live_child, "_AGAIN_S", 0.0)
    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlDeviceGetPowerUsage=asked))
    gpus = live_child.Gpus(Root(folder=fake_gpu), nvidia=True)
    assert gpus.read().gpus[0].power_w == 100.0
    power[0] = NvmlError(18)
    assert gpus.read().gpus == ()
    assert "version mismatch" in gpus.read().note
    power[0] = 200_000
    assert (gpus.read().gpus[0].power_w, gpus.read().note) == (200.0, "")


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install 'rigwise[nvidia]'" in live_child.Gpus(Root(folder=tmp_path), nvidia=True).read().note


FULL = Sample(
    when="2026-11-21T19:00:00.000Z",
    since_s=1.0,
    rates=Rates(
        load_frac=0.5, loads=(0.25, 0.75), disks={"sda": (5e6, 0.0)}, networks={"eth0": (0.0, 0.0)}, power_w=61.5
    ),
    host=HostState(memory_used_bytes=10**9, memory_bytes=10**10, group_used_bytes=99, group_bytes=100, temperature=61),
    gpus=(
        GpuSample(
            index=0,
            name="NVIDIA H200",
            load_frac=0.98,
            memory_used_bytes=70 * 10**9,
            memory_bytes=141 * 10**9,
            power_w=612.0,
            power_limit_w=700.0,
            clock_hz=1.7e9,
            max_clock_hz=1.98e9,
            throttle=("sw_power_cap",),
            pcie_width=8,
            pcie_width_max=16,
            pcie_generation=5,
            pcie_generation_max=5,
            temperature=70,
            processes=tuple(GpuProcess(pid=pid, user="anna", name="python train.py") for pid in range(7)),
        ),
        GpuSample(index=1, name="NVIDIA H200", fault="gpu is lost"),
    ),
    notes=("a note that is long enough to be broken where the terminal ends, which is soon",),
)


@pytest.mark.parametrize("width", [39, 79, 200])
def test_no_line_is_wider_than_the_terminal(width) -> None:
    lines = sample_text(FULL, width).splitlines()
    assert [line for line in lines if len(line) > width] == []
    told = " ".join(" ".join(lines).split())
    for words in ("612 of 700 W", "PCIe 5 x8 of 5 x16", "sw_power_cap", "and 3 more processes", "gpu is lost", "99 %"):
        assert words in told


@given(cores=st.integers(2, 400), width=st.integers(20, 200))
def test_cores_stand_in_columns(cores, width) -> None:
    many = replace(FULL, rates=Rates(load_frac=1.0, loads=(0.05,) * cores), gpus=(), notes=())
    lines = sample_text(many, width).splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("cores"))
    end = next(place for place, line in enumerate(lines) if line.startswith("memory"))
    shown = [line[9:] for line in lines[start:end]]
    assert all(len(line) <= max(width - 9, 3) for line in shown)
    assert "".join(shown).split() == ["5"] * cores
    assert all(set(line[2::4]) == {"5"} for line in shown)


def test_what_is_worth_a_look_is_marked() -> None:
    marked = "\n".join(line for line, looks in sample_lines(FULL, 200) if looks)
    for words in ("held back", "x8 of 5 x16", "control group", "gpu is lost"):
        assert words in marked
    assert "load" not in marked


def test_many_gpus_get_a_line_each_where_the_screen_is_low() -> None:
    whole, brief = (sample_lines(FULL, 79, height) for height in (None, 12))
    assert len(brief) < len(whole)
    (first,) = [line for line in brief if line[0].startswith("gpu 0")]
    assert first[1]
    assert "98 %   70.0 of 141 GB   612 of 700 W" in first[0]
    assert any("PCIe 5 x8 of 5 x16" in line and looks for line, looks in brief)
    assert sample_lines(FULL, 79, len(whole)) == whole
    assert [line for line, _ in brief if len(line) > 79] == []


def test_a_machine_that_tells_nothing_is_shown() -> None:
    empty = Sample(when="2026-11-21T19:00:00.000Z", since_s=1.0, rates=Rates(), host=HostState())
    assert "this system does not tell" in sample_text(empty)
    assert set(row(empty, 0)[2:]) == {""}


def test_a_log_keeps_its_columns_when_a_gpu_goes() -> None:
    names = columns(2)
    full, less = (dict(zip(names, row(one, 2), strict=True)) for one in (FULL, replace(FULL, gpus=FULL.gpus[:1])))
    assert (full["cpu_power_w"], full["gpu0_throttle"], full["gpu0_power_w"]) == ("61.5", "sw_power_cap", "612")
    assert (full["gpu1_fault"], less["gpu1_fault"]) == ("gpu is lost", "it is not there any more")
    assert (full["gpu1_load_frac"], full["gpu1_throttle"]) == ("", "")


def test_the_document_is_json_and_has_everything() -> None:
    found = json.loads(json.dumps(document([FULL], 1.0)))["samples"][0]
    assert found["gpus"][0]["throttle"] == ["sw_power_cap"]
    assert (found["cpu"]["temperature_c"], found["gpus"][0]["temperature_c"]) == (61, 70)
    assert found["disks"] == [{"name": "sda", "read_bytes_per_s": 5e6, "written_bytes_per_s": 0.0}]


def watched(*arguments: str):
    return CliRunner().invoke(command_line, ["watch", *arguments])


def test_a_log_has_one_header_and_a_row_for_each_sample() -> None:
    run = watched("--csv", "--count", "3", "--every", "0.1s")
    rows = list(csv.DictReader(io.StringIO(run.stdout)))
    assert (run.exit_code, len(rows)) == (0, 3)
    assert all(0 <= float(one["cpu_load_frac"]) <= 1 for one in rows)
    assert all(0.05 < float(one["since_s"]) < 60 for one in rows)


def test_json_is_one_document_of_the_samples_that_were_asked_for() -> None:
    run = watched("--json", "--count", "2", "--every", "100ms")
    found = json.loads(run.stdout)
    assert (found["schema"], found["every_s"], len(found["samples"])) == ("rigwise.watch/1", 0.1, 2)


class Table:
    """Processes whose CPU time a test sets; numbers are used again."""

    Error = psutil.Error

    def __init__(self) -> None:
        self.processes: list[tuple[int, float, float | None]] = []

    def process_iter(self, names: list[str]):
        for pid, began_s, spent_s in self.processes:
            times = None if spent_s is None else SimpleNamespace(user=spent_s, system=0.0)
            yield SimpleNamespace(pid=pid, info={"cpu_times": times, "create_time": began_s})

    def Process(self, pid: int) -> psutil.Process:  # noqa: N802  # psutil's name
        return psutil.Process(pid)


def test_the_busiest_processes_are_those_that_took_time_since() -> None:
    table, here, gone = Table(), os.getpid(), 2**22 + 1
    table.processes = [(here, 1.0, 100.0), (gone, 1.0, 5.0), (7, 1.0, 5.0), (8, 1.0, 900.0), (9, 1.0, None)]
    busy = BusyProcesses(table)
    table.processes = [(here, 1.0, 101.0), (gone, 1.0, 8.0), (7, 2.0, 6.0), (8, 1.0, 900.0), (9, 1.0, 2.0)]
    first, second = busy.read()
    assert (first.pid, second.pid) == (gone, here)
    assert first.load_frac == pytest.approx(3 * second.load_frac)
    assert (first.memory_bytes, first.name) == (None, "")
    assert second.user == psutil.Process().username()
    shown = sample_text(replace(FULL, processes=(first, second), gpus=()))
    assert f"pid {here} {second.user}" in shown
    assert "busiest" in shown


def test_processes_are_in_the_document_where_they_were_asked_for() -> None:
    run = watched("--json", "--processes", "--every", "0.2s")
    found = json.loads(run.stdout)["samples"][0]["processes"]
    assert all(one["load_frac"] > 0 for one in found)
    assert json.loads(watched("--json", "--every", "0.1s").stdout)["samples"][0]["processes"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        ["--count", "0"], ["--count", "many"], ["--every", "0"], ["--every", "nan"], ["--every", "-1s"],
        ["--every", "5GB"], ["--every", "2h"], ["--wait", ""], ["--csv", "--json"], ["train.py"],
        ["--csv", "--processes"],
    ],
)  # fmt: skip
def test_wrong_options_are_refused(wrong) -> None:
    run = watched(*wrong)
    assert run.exit_code == 2 or run.exception is not None
    done = subprocess.run([sys.executable, "-m", "rigwise", "watch", *wrong], capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert done.stdout == b""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("form", [[], ["--csv"]], ids=["text", "csv"])
def test_ctrl_c_is_how_it_ends(form, number) -> None:
    command = [sys.executable, "-m", "rigwise", "watch", "--every", "0.1s", *form]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")


def test_ctrl_c_leaves_the_document_of_what_was_taken(monkeypatch) -> None:
    def interrupted(*_: object, **__: object):
        yield FULL
        raise KeyboardInterrupt

    monkeypatch.setattr("rigwise.cli.watch._samples", interrupted)
    run = watched("--json", "--count", "9")
    assert (run.exit_code, len(json.loads(run.stdout)["samples"])) == (0, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_log_that_nobody_reads_any_more_ends() -> None:
    command = [sys.executable, "-m", "rigwise", "watch", "--every", "0.1s", "--csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
