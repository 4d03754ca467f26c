"""Parsers of probes read anything without failing, and a captured tree cannot do harm."""

import math
import os
import sys
import time
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rigwise.facts import catalogue
from rigwise.facts.cpu import peak_rates
from rigwise.machine import inspect as inspection
from rigwise.machine.inspect import inspect
from rigwise.machine.probe import (
    cpu,
    disks,
    gpu_amd,
    gpu_apple,
    gpu_intel,
    gpu_nvidia,
    limits,
    links,
    listeners,
    memory,
    network,
    nvml,
    pcie,
    software,
)
from rigwise.machine.probe.source import TEXT_LIMIT_BYTES, Root, Unreadable, attempt, open_root
from rigwise.machine.snapshot import Confidence, document
from rigwise.machine.theory import cpu_peaks, flop_per_cycle, gpu_peaks, lanes_of

#: Text that looks a little like what programs print.
WORDS = st.sampled_from(
    [
        "processor",
        ":",
        "GPU0",
        "NV4",
        "X",
        "\t",
        "\n",
        " kB",
        "MemTotal",
        "0-",
        "-1",
        "9" * 30,
        "Link 0:",
        "GB/s",
        "<gpu>",
    ]
)
TEXT = st.one_of(st.text(max_size=300), st.lists(WORDS, max_size=40).map(" ".join))

#: Parsers that answer with what they can read of any text.
LENIENT = [
    cpu.cpuinfo_entries,
    cpu.isa_of,
    memory.meminfo,
    memory.dmi_modules,
    disks.df_sizes,
    links.topology,
    links.nvlink_rates,
    gpu_amd.node_properties,
    gpu_apple.sysctl_values,
    software.boot_options,
    pcie.kind_of,
    lambda text: list(listeners.listening(text)),
    lambda text: software.arch_list(text.encode()),
]
#: Parsers of one value, which is unknown if it cannot be understood.
STRICT = [
    cpu.cache_bytes,
    cpu.cpu_list,
    memory.chosen,
    pcie.generation_of,
    network.rate_bytes_per_s,
    gpu_nvidia.bus_address,
    gpu_nvidia.mib,
    gpu_nvidia.mhz,
    gpu_nvidia.watts,
    gpu_nvidia.smi_gpus,
    gpu_intel.discovered,
    gpu_apple.displays,
    software.driver_version,
    software.cudnn_version,
    software.pressure_frac,
]


@pytest.mark.parametrize("parser", LENIENT)
@given(text=TEXT)
@settings(max_examples=60, deadline=None)
def test_lenient_parsers_read_any_text(parser, text: str) -> None:
    parser(text)


@pytest.mark.parametrize("parser", STRICT)
@given(text=TEXT)
@settings(max_examples=60, deadline=None)
def test_strict_parsers_answer_or_are_unknown(parser, text: str) -> None:
    field = attempt("here", lambda: parser(text))
    assert field.value is not None or field.reason


@given(numbers=st.sets(st.integers(0, 2000), min_size=1, max_size=40))
def test_a_list_of_cpus_is_read_back(numbers: set[int]) -> None:
    assert cpu.cpu_list(",".join(map(str, sorted(numbers)))) == sorted(numbers)


@given(first=st.integers(0, 500), more=st.integers(0, 500))
def test_a_range_of_cpus_has_all_of_them(first: int, more: int) -> None:
    assert cpu.cpu_list(f"{first}-{first + more}") == list(range(first, first + more + 1))


@given(generation=st.integers(1, 5), width=st.sampled_from([1, 2, 4, 8, 16]))
def test_more_lanes_and_newer_generations_carry_more(generation: int, width: int) -> None:
    rate = pcie.link_bytes_per_s(generation, width)
    assert pcie.link_bytes_per_s(generation, 2 * width) == pytest.approx(2 * rate)
    assert pcie.link_bytes_per_s(generation + 1, width) > 1.9 * rate * (0.8 if generation == 2 else 0.98)


@given(cores=st.integers(1, 200), clock=st.floats(1e9, 6e9), width=st.sampled_from([16, 32, 64]))
def test_a_peak_is_its_arithmetic(cores: int, clock: float, width: int) -> None:
    zen = catalogue.cpu("epyc-9654")
    model = type(zen)(id="x", name="X", vendor="v", architecture="a", fp32_flop_per_cycle_per_core=width)
    peaks = {peak.what: peak for peak in cpu_peaks(model, ["avx2", "fma", "avx512"], cores=cores, clock_hz=clock)}
    assert peaks["fp32"].flops_per_s == pytest.approx(cores * clock * width)
    masked = cpu_peaks(model, ["avx2", "fma"], cores=cores, clock_hz=clock)
    assert masked[0].flops_per_s <= peaks["fp32"].flops_per_s


def test_the_arithmetic_gives_the_peaks_of_the_catalogue() -> None:
    devices = [device for device in catalogue.devices() if device.units and device.boost_hz]
    peaks = [(device, peak) for device in devices for peak in gpu_peaks(device, units=device.units)]
    assert len(peaks) > len(devices)
    for device, peak in peaks:
        product = math.prod(float(word) for word in peak.arithmetic.replace("x", "").split() if _is_number(word))
        assert peak.flops_per_s == pytest.approx(product * 1e9, rel=0.02), device.id
        if peak.what == "fp32":
            assert peak.flops_per_s == pytest.approx(device.peak_flops_per_s["fp32"])


def _is_number(word: str) -> bool:
    return word.replace(".", "", 1).isdigit()


def test_peaks_of_a_whole_cpu_are_those_of_the_catalogue() -> None:
    """Hybrids too, whose cores differ."""
    checked = 0
    for one in catalogue.cpus():
        clock_hz, rates = one.allcore_hz or one.base_hz, peak_rates(one)
        if one.cores and clock_hz and "fp32" in rates and "avx2" in one.isa:
            isa = [*one.isa, "fma"]
            peaks = {p.what: p.flops_per_s for p in cpu_peaks(one, isa, cores=one.cores, clock_hz=clock_hz)}
            assert peaks["fp32"] == pytest.approx(rates["fp32"]), one.id
            checked += bool(one.efficiency_cores)
    assert checked


def test_lanes_are_those_of_the_catalogue() -> None:
    stated = {(d.compute_capability, d.lanes_per_unit) for d in catalogue.devices() if d.compute_capability}
    known = {(capability, lanes) for capability, lanes in stated if lanes and not capability.startswith("1.")}
    assert known
    assert {(capability, lanes_of(capability)) for capability, _ in known} == known


def test_width_without_avx512() -> None:
    assert flop_per_cycle(["avx", "avx2", "fma"], 64) == 32
    assert flop_per_cycle(["avx"], 64) == 16
    assert flop_per_cycle(["avx2", "fma"], None) is None


# a captured tree


@given(
    content=st.binary(max_size=400),
    name=st.sampled_from(["proc/cpuinfo", "proc/meminfo", "proc/net/tcp", "proc/mounts"]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_in_any_file_is_no_fault(content: bytes, name: str, tmp_path) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    found = inspect(open_root(tmp_path))
    assert found.failed == {}
    assert document(found)


def test_a_link_out_of_the_tree_is_not_followed(tmp_path) -> None:
    (tmp_path / "secret").write_text("MemTotal: 1024 kB", encoding="utf-8")
    tree = tmp_path / "tree"
    (tree / "proc").mkdir(parents=True)
    (tree / "proc" / "meminfo").symlink_to("../../secret")
    (tree / "sys").symlink_to("/sys")
    found = inspect(open_root(tree))
    assert found.get("memory.total_bytes").reason == "a link leads out of the tree"
    assert found.disks == ()
    assert found.value("limits.cpu_count") is None


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes with names")
def test_pipes_folders_and_huge_files_are_not_read(tmp_path) -> None:
    (tmp_path / "proc").mkdir()
    os.mkfifo(tmp_path / "proc" / "cpuinfo")
    (tmp_path / "proc" / "loadavg").mkdir()
    with (tmp_path / "proc" / "meminfo").open("wb") as stream:
        stream.truncate(TEXT_LIMIT_BYTES + 1)
    found = inspect(open_root(tmp_path))
    assert found.failed == {}
    assert found.get("cpu.name").reason == "it is no regular file"
    assert "it has over" in found.get("memory.total_bytes").reason
    assert found.get("system.load").value is None


def test_a_loop_of_links_ends(tmp_path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").symlink_to("meminfo")
    (tmp_path / "proc" / "meminfo").symlink_to("cpuinfo")
    assert inspect(open_root(tmp_path)).get("cpu.name").value is None


def test_entities_of_xml_are_refused() -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE nvidia_smi_log [<!ENTITY a "aaaa">]><nvidia_smi_log>&a;</nvidia_smi_log>'
    with pytest.raises(Unreadable, match="entities"):
        gpu_nvidia.smi_gpus(bomb)


# this machine


def test_a_probe_that_hangs_or_fails_leaves_the_others(monkeypatch) -> None:
    def hangs(root: Root) -> None:
        time.sleep(30)

    def fails(root: Root) -> None:
        raise ZeroDivisionError("on purpose")

    usual = inspection.probes()
    monkeypatch.setattr(inspection, "probes", lambda: {**usual, "disks": hangs, "network": fails})
    monkeypatch.setattr(inspection, "GRACE_S", 0.3)
    found = inspect(Root(limit_s=0.5))
    assert found.failed["disks"] == "it did not end in 0.8 s"
    assert found.failed["network"] == "ZeroDivisionError: on purpose"
    assert found.value("system.kernel")


def test_where_nvml_hangs_the_kernel_module_still_tells(tmp_path, monkeypatch) -> None:
    information = tmp_path / "proc/driver/nvidia/gpus/0000:41:00.0/information"
    information.parent.mkdir(parents=True)
    information.write_text("Model: \t NVIDIA A40\n", encoding="utf-8")
    monkeypatch.setattr(gpu_nvidia, "gpus", lambda root: time.sleep(30))
    monkeypatch.setattr(inspection, "GRACE_S", 0.2)
    found = inspect(Root(folder=tmp_path.resolve(), limit_s=0.3))
    assert found.value("gpus.0.name") == "NVIDIA A40"
    assert found.failed["gpus nvidia"].startswith("it did not end")
    assert [finding.where for finding in found.findings] == ["gpus.0.memory_bytes"]


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_a_command_that_hangs_is_ended(tmp_path, monkeypatch) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\nexec sleep 30\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(Unreadable, match=r"did not answer in 0\.3 s"):
        Root(limit_s=0.3).run("nvidia-smi", "-q", "-x")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_what_a_failing_command_says_is_kept(tmp_path, monkeypatch) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho Driver/library version mismatch\nexit 18\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(Unreadable, match="ended with 18: Driver/library version mismatch"):
        Root().run("nvidia-smi", "-q", "-x")


def test_a_computer_of_another_kind_tells_what_psutil_knows(monkeypatch) -> None:
    monkeypatch.setattr(Root, "foreign", property(lambda root: True))
    found = inspect(Root())
    assert found.failed == {}
    assert found.value("cpu.logical") == os.cpu_count()
    assert found.value("memory.total_bytes") > found.value("memory.available_bytes") > 0
    assert found.value("limits.usable_cpus") >= 1
    assert found.value("system.os")


def test_a_capture_hides_which_machine_it_was(tmp_path) -> None:
    root = Root(record=tmp_path)
    said = (
        "<uuid>GPU-1b724e78-eef5-4163-d43c-e4da15d41176</uuid><serial>1324</serial>\nSerial Number: 9A8B\nSize: 64 GB"
    )
    root.keep("commands/tool", said + "\nGPU 0: X (UUID: GPU-1b724e78-eef5-4163-d43c-e4da15d41176)")
    kept = (tmp_path / "commands/tool").read_text("utf-8")
    assert "Size: 64 GB" in kept
    assert not any(word in kept for word in ("1b724e78", "1324", "9A8B"))


# NVML


class NvmlError(Exception):
    """As the library raises it."""


def nvml_library(**calls: object) -> SimpleNamespace:
    """A stand-in for the module: every call that is not given is not supported."""

    def refuse(*_: object) -> None:
        raise NvmlError("Not Supported")

    def answering(answer: object):
        return lambda *_: answer

    names = dict.fromkeys(_asked_names(), refuse)
    given_calls = {name: answering(answer) for name, answer in calls.items()}
    usual = {"nvmlInit": answering(None), "nvmlShutdown": answering(None)}
    usual["nvmlDeviceGetHandleByIndex"] = lambda index: index
    return SimpleNamespace(NVMLError=NvmlError, **{**names, **usual, **given_calls})


def _asked_names() -> list[str]:
    import inspect as source
    import re

    return re.findall(r'"(nvml(?:Device|System)\w+)"', source.getsource(nvml))


def test_nvml_answers_what_it_supports() -> None:
    memory_info = SimpleNamespace(total=24 * 2**30, used=0, free=0)
    library = nvml_library(
        nvmlDeviceGetCount=1,
        nvmlDeviceGetName=b"NVIDIA GeForce RTX 3090",
        nvmlDeviceGetPciInfo=SimpleNamespace(busId=b"00000000:01:00.0"),
        nvmlSystemGetCudaDriverVersion_v2=12040,
        nvmlDeviceGetCudaComputeCapability=(8, 6),
        nvmlDeviceGetNumGpuCores=10496,
        nvmlDeviceGetMemoryInfo=memory_info,
        nvmlDeviceGetEnforcedPowerLimit=350_000,
        nvmlDeviceGetMaxClockInfo=2100,
        nvmlDeviceGetCurrentClocksThrottleReasons=0x4,
    )
    (gpu,) = nvml.gpus(library)
    assert gpu["name"].value == "NVIDIA GeForce RTX 3090"
    assert (gpu["power_limit_w"].value, gpu["max_clock_hz"].value) == (350.0, 2.1e9)
    assert gpu["throttle"].value == ["sw_power_cap"]
    assert gpu["ecc"].confidence is Confidence.UNKNOWN
    assert gpu["ecc"].reason == "not supported"
    counted = gpu_nvidia.with_attributes(gpu, {})["sm_count"]
    assert (counted.value, counted.confidence) == (82, Confidence.DERIVED)


def test_nvml_without_a_driver_is_unreadable() -> None:
    def refuse() -> None:
        raise NvmlError("NVML Shared Library Not Found")

    library = nvml_library()
    library.nvmlInit = refuse
    with pytest.raises(Unreadable, match="Shared Library Not Found"):
        nvml.gpus(library)


def test_the_cuda_child_answers_or_says_why() -> None:
    """Without a driver it ends with a code; with one it prints a line for each GPU."""
    from rigwise.machine.probe import cuda_child

    field = attempt("child", lambda: Root().run(sys.executable, "-I", cuda_child.__file__, name="cuda-attributes"))
    assert "ended with" in field.reason or "sm_count=" in str(field.value)


def test_the_least_limit_on_the_way_up_counts(tmp_path) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b", encoding="utf-8")
    for folder, quota in [("", "max 100000"), ("a", "150000 100000"), ("a/b", "400000 100000")]:
        place = tmp_path / "sys/fs/cgroup" / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "cpu.max").write_text(quota, encoding="utf-8")
    assert limits.cpu_quota(open_root(tmp_path)).value == 1.5


@given(quota=st.text(max_size=20), period=st.text(max_size=20))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_limit_that_is_no_number_is_none(quota: str, period: str, tmp_path) -> None:
    place = tmp_path / "sys/fs/cgroup"
    place.mkdir(parents=True, exist_ok=True)
    (place / "cpu.max").write_bytes(f"{quota} {period}".encode("utf-8", "replace"))
    value = limits.cpu_quota(open_root(tmp_path)).value
    assert value is None or value > 0
