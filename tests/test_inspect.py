"""A machine is read from its files and drivers, and what it says is kept with where it says it."""

import json
import os
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from rigwise.cli.main import root as command_line
from rigwise.edge import write_atomically
from rigwise.errors import InvalidInputError, MissingFactError, UnknownNameError
from rigwise.facts import catalogue
from rigwise.facts.cpuid import architecture_of, vendors
from rigwise.machine.inspect import inspect
from rigwise.machine.probe.source import Root, open_root
from rigwise.machine.snapshot import Confidence, Snapshot, document, read_snapshot, snapshot_text
from rigwise.machine.this import device_of, resolve_device
from rigwise.provenance import Basis
from rigwise.report.inspect_text import inspect_text
from rigwise.units import GIB

ROOTS = Path(__file__).parent / "data" / "roots"
NAMES = sorted(path.stem for path in ROOTS.glob("*.toml"))


def unpack(name: str, folder: Path) -> Path:
    """A tree of ``tests/data/roots`` as files."""
    for path, content in tomllib.loads((ROOTS / f"{name}.toml").read_text("utf-8")).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            file.write_text(content, encoding="utf-8")
        elif "hex" in content:
            file.write_bytes(bytes.fromhex(content["hex"]))
        else:
            file.symlink_to(content["link"])
    return folder


@pytest.fixture
def look(tmp_path):
    def at(name: str) -> Snapshot:
        return inspect(open_root(unpack(name, tmp_path / name)))

    return at


def texts(snapshot: Snapshot) -> str:
    return " | ".join(finding.text for finding in snapshot.findings)


def run(*arguments: str):
    return CliRunner().invoke(command_line, arguments)


def test_a_server_of_eight_gpus(look) -> None:
    found = look("dgx-h100")
    assert len(found.gpus) == 8
    assert found.value("gpus.7.name") == "NVIDIA H100 80GB HBM3"
    assert (found.value("gpus.0.sm_count"), found.value("gpus.0.memory_bytes")) == (132, 81559 * 2**20)
    assert {link["way"].value for link in found.links} == {"18 NVLinks"}
    assert len(found.links) == 8 * 7 / 2
    assert found.links[0]["bytes_per_s_each_way"].value == pytest.approx(18 * 26.562e9)
    assert (found.value("cpu.cores"), found.value("cpu.logical"), found.value("cpu.sockets")) == (4, 8, 2)
    assert found.value("memory.channels") == 16
    assert found.value("scheduler.job") == "slurm"
    assert found.value("container.host") == "DGX"
    assert found.value("network.0.bytes_per_s") == 400e9 / 8
    assert found.value("disks.1.file_system") == "lustre"
    assert found.findings == ()


def test_peaks_show_their_arithmetic(look) -> None:
    peaks = {(p["of"].value, p["what"].value): p for p in look("dgx-h100").peaks}
    fp32 = peaks["cpu", "fp32"]["flops_per_s"]
    assert fp32.value == pytest.approx(4 * 2.0e9 * 16 * 2 * 2)
    assert fp32.source == "4 cores x 2.00 GHz x 16 lanes x 2 pipes x 2"
    assert peaks["gpu 0", "fp32"]["flops_per_s"].value == pytest.approx(132 * 128 * 2 * 1.98e9, rel=1e-3)
    assert peaks["gpu 0", "bf16"]["flops_per_s"].value == pytest.approx(132 * 4096 * 1.83e9, rel=1e-3)
    assert peaks["gpu 0", "memory"]["bytes_per_s"].value == pytest.approx(2 * 2619e6 * 5120 / 8)
    assert peaks["memory", "bandwidth"]["bytes_per_s"].value == pytest.approx(16 * 4400e6 * 8)
    assert peaks["gpu 7", "to host"]["bytes_per_s"].value == pytest.approx(32e9 * 16 / 8 * 128 / 130)


def test_unlike_gpus_have_peaks_of_their_own_and_equal_ones_the_same(look) -> None:
    unlike = look("disagreeing")
    (peak,) = [entry for entry in unlike.peaks if entry["of"].value == "gpu 1" and "flops_per_s" in entry]
    assert peak["flops_per_s"].value == pytest.approx(140 * 128 * 2 * 2.4e9)
    assert peak["flops_per_s"].source == "140 units x 128 lanes x 2 x 2.40 GHz"
    assert "gpu 1 fp32" in inspect_text(unlike)
    alike = inspect_text(look("dgx-h100"))
    assert "gpu 0 fp32" in alike
    assert "gpu 1 " not in alike


def test_libraries_of_a_framework_are_named_by_their_packages(tmp_path) -> None:
    (tmp_path / "proc").mkdir()
    for name in ("torch-2.14.1", "nvidia_cudnn_cu12-9.10.2.21", "nvidia_nccl_cu12-2.27.3"):
        (tmp_path / "python/site-packages" / f"{name}.dist-info").mkdir(parents=True)
    assert "cuDNN 9.10.2.21, NCCL 2.27.3" in " ".join(inspect_text(inspect(open_root(tmp_path))).split())


def test_catalogue_and_driver_that_disagree_are_findings(look) -> None:
    found = look("disagreeing")
    places = [finding.where for finding in found.findings]
    assert "gpus.0.sm_count" in places
    assert "counts 72 multiprocessors, the catalogue 80" in texts(found)
    assert "limited to 300 W, the catalogue states 150 W" in texts(found)
    assert "8 lanes of 16" in texts(found)
    assert "the catalogue has no NVIDIA RTX 9999 Prototype" in texts(found)
    assert "350 W, 400 W is the default" in texts(found)
    assert "gpus.0.memory_bytes" not in places


def test_l2_and_memory_that_disagree_are_findings(tmp_path) -> None:
    tree = unpack("dgx-h100", tmp_path)
    lines = (tree / "commands/cuda-attributes").read_text("utf-8").replace("l2_bytes=52428800", "l2_bytes=31457280")
    (tree / "commands/cuda-attributes").write_text(lines, encoding="utf-8")
    xml = (tree / "commands/nvidia-smi_-q_-x").read_text("utf-8").replace("81559 MiB", "40960 MiB")
    (tree / "commands/nvidia-smi_-q_-x").write_text(xml, encoding="utf-8")
    found = inspect(open_root(tree))
    assert texts(found).count("the driver states 30 MiB of L2, the catalogue 50") == 8
    assert texts(found).count("the driver offers 40.0 GiB") == 8


def test_a_control_group_limits_what_may_be_used(look) -> None:
    found = look("container")
    assert (found.value("limits.cpu_count"), found.value("limits.usable_cpus")) == (16, 2.5)
    assert found.value("limits.cgroup_memory_bytes") == 8 * GIB
    assert found.get("limits.cgroup_cpus").source.endswith("/kubepods/pod1/cpu.max")
    assert "os.cpu_count() says 16, and 2.5 may be used" in texts(found)
    assert found.value("container.kind") == "kubernetes"
    assert found.value("memory.shm_bytes") == 64 * 2**20
    assert "/dev/shm 64 MiB" in inspect_text(found)


def test_version_1_of_control_groups_and_a_path_of_the_host(tmp_path) -> None:
    tree = unpack("container", tmp_path)
    (tree / "proc/self/cgroup").write_text("4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n", encoding="utf-8")
    for path, text in {
        "cpu,cpuacct/cpu.cfs_quota_us": "150000",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": str(3 * 2**30),
    }.items():
        file = tree / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    found = inspect(open_root(tree))
    assert found.value("limits.cgroup_cpus") == 1.5
    assert found.value("limits.cgroup_memory_bytes") == 3 * GIB


def test_a_driver_that_hangs_is_a_finding(look) -> None:
    found = look("hanging-driver")
    assert found.value("gpus.0.name") == "NVIDIA A40"
    assert found.get("gpus.0.memory_bytes").confidence is Confidence.UNKNOWN
    assert "nvidia-smi did not answer" in texts(found)
    assert found.value("pcie.0.driver") == "nvidia"
    assert (found.value("pcie.0.width"), found.value("pcie.0.width_max")) == (4, 16)


def test_a_gpu_without_a_driver_is_a_finding(look) -> None:
    found = look("no-driver")
    assert found.gpus == ()
    assert "its driver is nouveau" in texts(found)
    assert "couldn't communicate" in found.failed["gpus nvidia"]


def test_an_amd_server(look) -> None:
    found = look("mi300x")
    assert [gpu["sm_count"].value for gpu in found.gpus] == [304, 304]
    assert found.value("gpus.0.architecture") == "gfx942"
    assert found.value("gpus.1.power_limit_w") == 750
    assert resolved(found).id == "mi300x"


def test_intel_apple_and_wsl(look) -> None:
    assert resolved(look("intel-arc")).id == "arc-a770-16gb"
    mac = look("mac")
    assert (mac.value("cpu.performance_cores"), mac.value("memory.total_bytes")) == (6, 36 * GIB)
    assert mac.value("limits.usable_cpus") == mac.value("limits.cpu_count") == mac.value("cpu.logical") == 12
    assert resolved(mac).id == "apple-m3-pro-18c"
    wsl = look("wsl2")
    assert wsl.value("container.wsl") is True
    assert wsl.value("driver.libraries") == ["/usr/lib/wsl/lib/libcuda.so.1"]


@pytest.mark.parametrize(
    ("programs", "environment", "installed", "job"),
    [
        (("sbatch", "sinfo"), "", ["slurm"], "none"),
        (("qsub",), "PBS_JOBID=7.head\nNCPUS=4\nPBS_NODEFILE=/var/spool/aux/7\n", ["pbs"], "pbs"),
        (("qsub", "qhost"), "", ["grid engine"], "none"),
        (("bsub",), "LSB_JOBID=3\n", ["lsf"], "lsf"),
        ((), "KUBERNETES_SERVICE_HOST=10.0.0.1\n", None, "kubernetes"),
    ],
)
def test_schedulers_are_told_apart(programs, environment, installed, job, tmp_path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "environment").write_text(environment)
    (tmp_path / "usr" / "bin").mkdir(parents=True)
    for program in programs:
        (tmp_path / "usr" / "bin" / program).touch()
    found = inspect(open_root(tmp_path))
    assert (found.value("scheduler.installed"), found.value("scheduler.job")) == (installed, job)
    given = found.value("scheduler.given") or {}
    assert set(given) == {line.partition("=")[0] for line in environment.split() if line.startswith(("PBS", "NCPUS"))}
    words = job if job != "none" else installed[0]
    assert f"{words}" in inspect_text(found)


def test_volumes_have_their_file_system_and_single_files_of_containers_none(tmp_path) -> None:
    mounts = [
        "/dev/mapper/vg-root / ext4 rw 0 0",
        "/dev/mapper/vg-root /snap/x ext4 ro 0 0",
        "/dev/nvme0n1p1 /etc/hosts ext4 rw 0 0",
        "/dev/nvme0n1p1 /boot/efi vfat rw 0 0",
        "/dev/md127 /data xfs rw 0 0",
    ]
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/mounts").write_text("\n".join(mounts) + "\n")
    (tmp_path / "sys/block/nvme0n1").mkdir(parents=True)
    (tmp_path / "sys/block/nvme0n1/size").write_text("1953525168\n")
    (tmp_path / "commands").mkdir()
    (tmp_path / "commands/df_-P_-l_-k").write_text(
        "Filesystem 1024-blocks Used Available Capacity Mounted on\n"
        "/dev/mapper/vg-root 1000 900 100 90% /\n/dev/md127 5000 0 5000 0% /data\n"
    )
    found = inspect(open_root(tmp_path))
    told = [tuple(disk[key].value for key in ("name", "kind", "mount", "free_bytes")) for disk in found.disks]
    assert told == [
        ("nvme0n1", "nvme", "/boot/efi", None),
        ("vg-root", "volume", "/", 102400),
        ("md127", "volume", "/data", 5120000),
    ]


def test_a_pod_whose_variables_are_hidden_is_one(tmp_path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "var/run/secrets/kubernetes.io/serviceaccount").mkdir(parents=True)
    (tmp_path / ".dockerenv").touch()
    assert inspect(open_root(tmp_path)).value("container.kind") == "kubernetes"


def resolved(snapshot: Snapshot):
    return device_of(snapshot)


def test_frameworks_are_read_and_not_imported(look) -> None:
    found = look("laptop")
    assert found.value("software.torch") == "2.11.0"
    assert (found.value("software.torch_local"), found.value("software.torch_cuda")) == ("2.11.0+cu130", "13.0")
    assert found.value("software.torch_archs") == ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
    assert found.value("software.nvidia_cudnn_cu13") == "9.19.0.56"


def test_who_can_reach_a_listener(look) -> None:
    ports = {e["port"].value: (e["reach"].value, e["usual"].value) for e in look("laptop").listeners}
    assert ports == {8888: ("all networks", "Jupyter"), 6000: ("this machine", None)}


def test_power_and_throttling_of_a_laptop(look) -> None:
    found = look("laptop")
    assert found.value("gpus.0.throttle") == ["sw_power_cap"]
    assert "80 W, 115 W is the default" in texts(found)
    assert found.get("memory.channels").reason.startswith("dmidecode ended with 1")


def test_secrets_of_the_environment_are_not_read(look) -> None:
    assert "not-to-be-read" not in snapshot_text(look("dgx-h100"))
    assert look("laptop").value("container.variables") is None


@pytest.mark.parametrize("name", NAMES)
def test_a_snapshot_survives_its_file(name: str, look, tmp_path) -> None:
    found = look(name)
    path = tmp_path / "saved.json"
    path.write_text(snapshot_text(found), encoding="utf-8")
    again = read_snapshot(path)
    assert document(again) == document(found)
    assert dict(again.fields()) == dict(found.fields())


@pytest.mark.parametrize("name", NAMES)
def test_every_field_says_where_it_is_from(name: str, look) -> None:
    for key, field in look(name).fields():
        assert field.source, key
        assert (field.value is None) == (field.confidence is Confidence.UNKNOWN), key
        assert field.value is not None or field.reason, key


@pytest.mark.parametrize("name", NAMES)
def test_the_text_keeps_to_80_columns_and_one_screen(name: str, tmp_path) -> None:
    result = run("inspect", "--root", str(unpack(name, tmp_path / name)))
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) < 80
    assert len(result.output.splitlines()) <= 45
    brief = run("inspect", "--root", str(tmp_path / name), "--quiet").output
    assert len(brief.splitlines()) <= 25


def test_this_machine_is_read_and_captured(tmp_path) -> None:
    """What a captured tree says is what the machine said, but for what changes by itself."""
    here = inspect(Root(record=tmp_path.resolve()))
    assert here.failed == {}
    assert here.value("cpu.logical") == os.cpu_count()
    again = inspect(open_root(tmp_path))
    for section in ("cpu", "limits", "driver", "pcie"):
        assert document(again)[section] == document(here)[section]
    assert [disk["size_bytes"] for disk in again.disks] == [disk["size_bytes"] for disk in here.disks]
    assert dict(again.software).keys() == dict(here.software).keys()


def test_a_capture_keeps_no_connections(tmp_path) -> None:
    inspect(Root(record=tmp_path.resolve()))
    for table in (tmp_path / "proc/net").glob("tcp*"):
        assert all(line.split()[3] == "0A" for line in table.read_text("utf-8").splitlines() if line.strip())


def test_a_snapshot_is_a_device(tmp_path) -> None:
    tree, saved = unpack("dgx-h100", tmp_path / "tree"), tmp_path / "server.json"
    assert run("inspect", "--root", str(tree), "--save", str(saved), "--quiet").exit_code == 0
    gpu, cpu = resolve_device(str(saved)), resolve_device(f"{saved}:cpu")
    assert (gpu.id, gpu.usable_bytes) == ("h100-sxm5-80gb", 81559 * 2**20)
    assert (cpu.units, cpu.kind, cpu.memory_bytes) == (4, "cpu", 2015 * 2**30)
    answer = run("predict", "resnet18", "--device", str(saved), "--batch", "8", "--json")
    plain = run("predict", "resnet18", "--device", "h100-sxm5-80gb", "--batch", "8", "--json")
    said, stated = json.loads(answer.output), json.loads(plain.output)
    assert said["device"] == stated["device"]
    assert said["step_time_s"] == stated["step_time_s"]


def test_an_environment_can_be_set_up_for_a_snapshot(look, tmp_path) -> None:
    path = tmp_path / "dgx.json"
    path.write_text(snapshot_text(look("dgx-h100")), "utf-8")
    found = run("setup", "slurm", "--device", str(path))
    assert found.exit_code == 0
    assert "#SBATCH --gres=gpu:8" in found.stdout
    assert "loads CUDA 12.6" in found.stdout
    counted = CliRunner().invoke(
        command_line, ["setup", "slurm", "--device", str(path), "--count", "2"], standalone_mode=False
    )
    assert isinstance(counted.exception, InvalidInputError)


def test_this_machine_can_be_predicted() -> None:
    answer = json.loads(run("predict", "resnet18", "--device", "this:cpu", "--batch", "2", "--json").output)
    assert answer["bound_s"] <= answer["step_time_s"]["p10"]
    assert any("as probed" in words or "all of its cores" in words for words in answer["assumed"])
    assert resolve_device(resolve_device("this:cpu").id) == resolve_device("this:cpu")


def test_an_unknown_gpu_is_built_from_what_was_probed(look) -> None:
    device = device_of(look("disagreeing"), "gpu1")
    assert device.peak_flops_per_s == {"fp32": pytest.approx(140 * 128 * 2 * 2.4e9)}
    assert device.memory_bytes_per_s == pytest.approx(2 * 14001e6 * 384 / 8)
    assert device.basis[""] is Basis.MEASURED
    assert "not in the catalogue" in device.note


def test_a_virtual_cpu_is_its_cores_of_its_architecture(look) -> None:
    device = device_of(look("container"))
    assert (device.architecture, device.units, device.memory_bytes) == ("Cascade Lake", 2, 8 * GIB)
    assert device.peak_flops_per_s["fp32"] == pytest.approx(2 * 2.2e9 * 64)
    assert device.basis["memory_bytes_per_s"] is Basis.ASSUMED


@pytest.mark.parametrize("part", ["gpu8", "gpu99"])
def test_a_gpu_that_is_not_there(part: str, look) -> None:
    with pytest.raises(InvalidInputError, match="shows 8 GPUs, from gpu0 on"):
        device_of(look("dgx-h100"), part)


def test_what_a_broken_machine_does_not_tell_is_an_error(look) -> None:
    broken = look("broken")
    with pytest.raises(MissingFactError, match="does not tell"):
        device_of(broken, "cpu")
    with pytest.raises(MissingFactError, match=r"has no GPU without a name, and .* does not tell"):
        device_of(broken)
    with pytest.raises(UnknownNameError):
        resolve_device("no-such-thing-4-cores")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "no schema"),
        ('{"schema": "rigwise.inspect/99"}', "another version"),
        ('{"schema": "rigwise.predict/1"}', "rigwise.predict/1"),
        ("[1]", "no schema"),
        ('{"schema": "rigwise.inspect/1", "cpu": {"cores": {"value": 1}}}', "cpu.cores.source is missing"),
        ('{"schema": "rigwise.inspect/1", "cpu": {"cores": {"value": NaN}}}', "NaN"),
        ('{"schema": "rigwise.inspect/1", "gpu": []}', "unknown key 'gpu'"),
        ("", "empty"),
        ("not json", "not JSON"),
    ],
)
def test_a_bad_snapshot_is_one_line(text: str, words: str, tmp_path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=words):
        read_snapshot(path)


def test_codes_that_steer_a_terminal_are_left_out(tmp_path) -> None:
    evil = {"name": {"value": "\x1b]0;title\x07\x1b[31mEvil\x9b", "source": "x\x1b[2J"}}
    path = tmp_path / "evil.json"
    path.write_text(json.dumps({"schema": "rigwise.inspect/1", "gpus": [evil]}), encoding="utf-8")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nmodel name : \x1b[31mEvil\x07\n", encoding="utf-8")
    for shown in (inspect_text(read_snapshot(path)), inspect_text(inspect(open_root(tmp_path)))):
        assert "Evil" in shown
        assert all(character.isprintable() or character == "\n" for character in shown)


@pytest.mark.skipif(os.name == "nt", reason="no such devices")
def test_saving_to_a_device_leaves_the_device(tmp_path) -> None:
    """A pipe stands for the null device, which a test must not risk."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, "whole")
    assert os.read(reader, 100) == b"whole"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_saved_snapshot_does_not_name_the_home(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "someone"))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "someone" / "lib"))
    assert run("inspect", "--save", str(tmp_path / "saved.json"), "--quiet").exit_code == 0
    saved = read_snapshot(tmp_path / "saved.json")
    assert saved.value("container.variables")["LD_LIBRARY_PATH"] == "~/lib"


def test_bad_flags_are_refused(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for arguments, words in [
        (["--root", str(tmp_path / "nowhere")], "not there"),
        (["--root", str(tmp_path / "empty")], "no captured tree"),
        (["--root", str(tmp_path / "full" / "file")], "no folder"),
        (["--capture", str(tmp_path / "full")], "not empty"),
        (["--capture", str(tmp_path / "full" / "file")], "cannot be written"),
        (["missing.json"], "missing.json"),
        (["x.json", "--root", "y"], "give one of"),
        (["--wait", "0"], "not between"),
        (["--wait", "soon"], "soon"),
    ]:
        result = CliRunner().invoke(command_line, ["inspect", *arguments])
        assert result.exit_code != 0, arguments
        assert words in str(result.exception) + result.output, arguments


def test_cpuid_names_architectures_of_the_catalogue() -> None:
    known = {cpu.architecture for cpu in catalogue.cpus()}
    named = {row.architecture for vendor in vendors().values() for row in vendor.rows}
    newer_or_older = {"Cooper Lake", "Comet Lake", "Ice Lake", "Tiger Lake", "Zen", "Neoverse V3"}
    assert named - newer_or_older <= known
    assert architecture_of("GenuineIntel", 6, 85, 4) == "Skylake-SP"
    assert architecture_of("NoSuchMaker", 6, 85) == architecture_of("GenuineIntel", 5, 85) == ""
    assert all(vendor.source for vendor in vendors().values())
