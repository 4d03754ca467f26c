"""rigwise setup: which versions are chosen and why, plans that cannot be used, and what is written where."""

import json
import os
import re
import runpy
import stat
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from rigwise.cli import setup_files
from rigwise.cli.main import COMMANDS, main
from rigwise.cli.setup import command
from rigwise.errors import InfeasibleError, InvalidInputError, RigwiseError, UnknownNameError
from rigwise.facts import catalogue
from rigwise.facts.environments import base_images, setup_facts
from rigwise.facts.executed import LEVELS, rows
from rigwise.facts.software import builds, first_driver, runs_on, version
from rigwise.machine.doctor.facts import facts_of
from rigwise.machine.snapshot import Field, Snapshot
from rigwise.sandbox.environment import Environment, Wish, resolve
from rigwise.sandbox.lock import lock
from rigwise.sandbox.place import place_of_device, place_of_machine, place_of_plan
from rigwise.sandbox.targets import TARGETS, verified

ROOT = Path(__file__).parents[1]
SHARED = runpy.run_path(str(Path(__file__).with_name("setup_places.py")))
PLAN, plan, written = SHARED["PLAN"], SHARED["plan"], SHARED["written"]
NVIDIA = [device.id for device in catalogue.devices() if device.compute_capability]


def torch_on(device: str, **wish: object) -> Environment:
    return resolve(place_of_device(device), Wish(**wish))


@pytest.mark.parametrize(
    ("device", "driver", "requirement"),
    [
        (
            "v100-sxm2-16gb",
            "580.65.06",
            "torch==2.14.1+cu126",
        ),
        ("t4", "580.65.06", "torch==2.15.0"),
        ("t4", "550.54.15", "torch==2.14.1+cu126"),
        ("b200", "575.51.03", "torch==2.11.0+cu128"),
        ("tesla-k80-per-gpu", "470.82.01", "torch==2.5.1+cu118"),
    ],
)
def test_driver_and_architecture_decide_together(device: str, driver: str, requirement: str) -> None:
    assert torch_on(device, driver=driver).requirements == (requirement,)


def test_a_machine_that_nobody_has_looked_at_gets_what_any_driver_for_cuda_12_loads() -> None:
    environment = torch_on("h100-sxm5-80gb")
    assert (environment.tag, environment.driver_floor) == ("cu126", setup_facts().assumed_driver.value)
    assert any(choice.what == "driver" and "assumed" in choice.why for choice in environment.choices)


def test_the_driver_has_to_know_the_gpu_and_not_only_load_the_build() -> None:
    assert torch_on("b200").driver_floor == first_driver("10.0") == "570.26"


@given(
    device=st.sampled_from(NVIDIA), driver=st.sampled_from(["", "470.82.01", "525.60.13", "550.54.15", "580.65.06"]),
    in_image=st.booleans(),
)  # fmt: skip
def test_what_is_resolved_fits_or_is_refused(device: str, driver: str, in_image: bool) -> None:
    place = place_of_device(device)
    try:
        environment = resolve(place, Wish(driver=driver, in_image=in_image))
    except InfeasibleError:
        return
    (build,) = [row for row in builds("torch") if (row.version, row.tag) == (environment.version, environment.tag)]
    assert runs_on(build.archs, place.target.capabilities[0])
    assert environment.python in (build.pythons or [environment.python])
    assumed = next(choice.value for choice in environment.choices if choice.what == "driver")
    assert version(assumed) >= version(build.floor or "0")
    assert all(choice.why and choice.source for choice in environment.choices)
    if in_image:
        assert environment.image.python == environment.python
        assert environment.image.cuda in ("", environment.cuda)


def test_every_image_and_every_tool_has_a_source() -> None:
    assert all(image.source and image.glibc and image.python for image in base_images())
    assert all(tool.source and tool.date for tool in setup_facts().tools.values())


def test_every_cloud_name_is_of_a_device_of_the_catalogue() -> None:
    names = setup_facts().accelerators
    assert {*names.skypilot, *names.dstack} <= {device.id for device in catalogue.devices()}


def machine(**gpu: str) -> Snapshot:
    """A machine with one GPU."""
    fields = {name: Field(value=value, source="x") for name, value in gpu.items()}
    system = {"python": "3.12.1", "glibc": "2.35", "machine": "x86_64"}
    return Snapshot(
        system={name: Field(value=value, source="x") for name, value in system.items()},
        limits={"usable_cpus": Field(value=6, source="x")}, gpus=(fields,) if gpu else (),
    )  # fmt: skip


def test_this_machine_decides_python_and_c_library_but_not_those_of_an_image() -> None:
    place = place_of_machine(facts_of(machine()))
    assert (place.has_gpu, place.cpus, resolve(place, Wish()).python) == (False, 6, "3.12")
    old = place_of_machine(facts_of(machine()))
    with pytest.raises(InfeasibleError, match=r"3\.7"):
        resolve(old, Wish(python="3.7"))
    assert resolve(old, Wish(in_image=True)).image.image == "python"


def test_a_gpu_without_its_driver_gets_no_cpu_build() -> None:
    place = place_of_machine(facts_of(machine(name="NVIDIA Tesla T4", vendor="NVIDIA", compute_capability="7.5")))
    with pytest.raises(InfeasibleError, match="install the NVIDIA driver first"):
        resolve(place, Wish())
    assert resolve(place, Wish(driver="550.54.15")).tag == "cu126"


def test_a_plan_names_no_file_to_read(tmp_path) -> None:
    snapshot = written({"schema": "rigwise.snapshot/1"}, tmp_path)
    for name in ("this", snapshot):
        with pytest.raises(UnknownNameError):
            place_of_plan(plan(device=name), "plan.json")


def test_an_amd_gpu_is_left_out_and_said() -> None:
    place = place_of_machine(facts_of(machine(name="AMD Instinct MI300X", vendor="AMD")))
    assert not place.has_gpu
    assert "AMD" in resolve(place, Wish()).assumed[0]


@pytest.mark.parametrize(
    ("wish", "word"),
    [
        ({"framework": "trch"}, "torch"), ({"framework": "torch==9.9"}, "9.9"), ({"framework": "torch=="}, "newest"),
        ({"driver": "new"}, "--driver"), ({"python": "NaN"}, "--python"), ({"glibc": "-1"}, "--glibc"),
        ({"driver": "0"}, "--driver"), ({"index": "ftp://x"}, "--index"),
        ({"index": "https://user:word@x/"}, "password"),
        ({"python": "9" * 41}, "--python"),
    ],
)  # fmt: skip
def test_a_wish_that_cannot_be_read_is_one_line(wish: dict, word: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(word)) as caught:
        torch_on("t4", **wish)
    assert "\n" not in str(caught.value)


def test_a_mirror_takes_the_place_of_the_index() -> None:
    assert torch_on("t4", index="https://mirror.example/{tag}").index == "https://mirror.example/cu126"
    assert torch_on("t4", index="default").requirements == ("torch==2.14.1",)


def test_an_old_framework_brings_its_numpy() -> None:
    assert torch_on("t4", framework="torch==2.1.2").requirements[1] == "numpy<2"


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ({}, "no schema"), ([], "no schema"), ({"schema": "rigwise.plan/2"}, "rigwise.plan/2"),
        ({"schema": "rigwise.plan/1", "plans": []}, "no plan"), ({"schema": "rigwise.plan/1"}, "plans"),
        ({"schema": "rigwise.plan/1", "plans": ["x"]}, "plans"), (plan(device="h900"), "h900"),
        (plan(device="H100"), "h100-sxm5-80gb"), (plan(device="mi300x"), "no table"), (plan(count=0), "devices"),
        (plan(count=3, nodes=2), "multiple"), (plan(nodes=-1), "nodes"), (plan(time_s={"p90": -1.0}), "p90"),
        (plan(time_s={}), "p90"), (plan(region="a\nRUN rm"), "cannot stand"), (plan(provider="$(id)"), "cannot stand"),
        (plan(count="many"), "count"), (plan(instance="x" * 300), "cannot stand"), (plan(count=10**9), "devices"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_used_is_one_line(document: object, word: str) -> None:
    with pytest.raises(RigwiseError, match=re.escape(word)) as caught:
        place_of_plan(document, "plan.json")
    assert "\n" not in str(caught.value)


def test_a_rank_that_a_plan_has_not() -> None:
    assert place_of_plan(PLAN, "plan.json", 2).gpus_per_node == 8
    with pytest.raises(InvalidInputError, match="it has 1, 2"):
        place_of_plan(PLAN, "plan.json", 3)


def test_a_plan_of_the_command_itself_is_read(tmp_path) -> None:
    path = str(tmp_path / "plan.json")
    asked = ["plan", "resnet50", "--samples", "1M", "--device", "t4", "--output", path]
    with pytest.raises(SystemExit) as ended:
        main(asked)
    assert ended.value.code == 0
    run = ask("pip", "--plan", path, "--json")
    document = json.loads(run.stdout)
    assert document["place"]["work"]["model"] == "resnet50"
    assert document["environment"]["framework"] == "torch"


def ask(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(command, list(arguments), input=stdin, standalone_mode=False)


def test_json_has_every_file_and_how_far_it_was_verified() -> None:
    document = json.loads(ask("docker", "--device", "t4", "--json").stdout)
    assert document["schema"] == "rigwise.setup/1"
    assert "FROM nvidia/cuda" in document["files"]["Dockerfile"]
    assert document["verified"]["level"] in LEVELS
    assert document["locked"] is None


def test_a_plan_on_stdin() -> None:
    run = ask("slurm", "--plan", "-", "--json", stdin=json.dumps(PLAN))
    assert json.loads(run.stdout)["place"]["device"] == "t4"
    with pytest.raises(InvalidInputError, match="empty"):
        raise ask("slurm", "--plan", "-").exception


def test_without_a_target_all_of_them_are_listed() -> None:
    run = ask()
    assert all(target in run.stdout for target in TARGETS)
    assert {row["target"] for row in json.loads(ask("--json").stdout)["targets"]} == set(TARGETS)


def test_the_first_file_alone_goes_to_stdout() -> None:
    run = ask("pip", "--device", "t4", "--quiet")
    assert run.stdout.splitlines()[-1] == "torch==2.14.1+cu126"
    assert run.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["slrum"], "slurm"), (["pip", "--plan", "a", "--device", "t4"], "--device"),
        (["pip", "--rank", "2"], "--rank"), (["slurm", "plan.json"], "--plan plan.json"),
        (["pip", "--count", "2"], "--count"), (["pip", "--force"], "--force"), (["pip", "--output", " "], "--output"),
        (["colab", "--lock"], "lock"), (["pip", "--plan", "missing.json"], "missing.json"),
        (["pip", "--device", "t4", "--count", "3", "--nodes", "2"], "multiple"),
        (["tensorflow", "--framework", "jax"], "tensorflow"), (["slurm", "--module", "a; rm"], "--module"),
        (["slurm", "--name", "A B"], "--name"), (["kubernetes", "--image", "a\nb"], "--image"),
        (["torchrun", "--", "python", "a\nb"], "command"), (["dstack", "--device", "p40"], "--accelerator"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], word: str) -> None:
    error = ask(*arguments).exception
    assert isinstance(error, RigwiseError)
    assert (error.exit_code, "\n" in str(error)) == (2, False)
    assert word in str(error)


def test_nothing_that_fits_is_exit_1() -> None:
    error = ask("tensorflow", "--device", "b200").exception
    assert (type(error), error.exit_code) == (InfeasibleError, 1)


def test_the_value_of_a_secret_is_refused_and_not_repeated(monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_notforanyone")
    error = ask("torchrun", "--", "python", "train.py", "hf_notforanyone").exception
    assert isinstance(error, InvalidInputError)
    assert "HF_TOKEN" in str(error)
    assert "hf_notforanyone" not in str(error)
    run = ask("torchrun", "--json", "--", "python", "train.py", "$HF_TOKEN")
    assert "hf_notforanyone" not in run.stdout
    assert '\\"$HF_TOKEN\\"' in run.stdout


def test_files_are_written_once_and_replaced_only_by_force(tmp_path) -> None:
    folder = tmp_path / "new" / "job"
    arguments = ["devcontainer", "--device", "t4", "--output", str(folder)]
    assert ask(*arguments).exception is None
    made = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert ".devcontainer/devcontainer.json" in made
    assert "already" in str(ask(*arguments).exception)
    assert ask(*arguments, "--force").exception is None
    assert [path.name for path in folder.parent.iterdir()] == ["job"]
    one = ask("kubernetes", "--device", "t4", "--output", str(tmp_path / "one"))
    assert one.stderr.startswith("wrote 1 file into ")


def test_scripts_can_be_started_and_nothing_else(tmp_path) -> None:
    ask("torchrun", "--device", "t4", "--output", str(tmp_path / "job"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) & 0o111 for path in (tmp_path / "job").iterdir()}
    assert {name for name, mode in modes.items() if mode} == {"launch.sh", "install.sh"}


def test_a_failure_half_way_puts_back_what_was_there(tmp_path, monkeypatch) -> None:
    (tmp_path / "a").write_text("old a")
    (tmp_path / "keep").write_text("mine")
    real, calls = os.replace, []

    def full(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(setup_files.os, "replace", full)
    with pytest.raises(InvalidInputError, match="No space left"):
        setup_files.write_files(str(tmp_path), {"a": "new a", "sub/b": "new b"}, force=True)
    assert (tmp_path / "a").read_text() == "old a"
    assert not (tmp_path / "sub" / "b").exists()
    assert (tmp_path / "keep").read_text() == "mine"


def test_a_place_that_is_a_file(tmp_path) -> None:
    (tmp_path / "x").write_text("")
    assert "cannot be written" in str(ask("pip", "--device", "t4", "--output", str(tmp_path / "x" / "y")).exception)
    assert "cannot be written" in str(ask("pip", "--device", "t4", "--output", str(tmp_path / "x")).exception)


def test_a_link_in_the_folder_is_replaced_and_not_written_through(tmp_path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "requirements.txt").symlink_to(tmp_path / "mine")
    assert ask("pip", "--device", "t4", "--output", str(tmp_path / "job"), "--force").exception is None
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "job" / "requirements.txt").is_symlink()


def wheel(folder: Path, name: str, number: str) -> None:
    """A wheel that holds nothing."""
    with zipfile.ZipFile(folder / f"{name}-{number}-py3-none-any.whl", "w") as packed:
        about = f"{name}-{number}.dist-info"
        packed.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
        packed.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{about}/RECORD", "")


def test_uv_locks_with_hashes_from_a_folder(tmp_path, monkeypatch) -> None:
    pytest.importorskip("uv")
    wheel(tmp_path, "torch", "2.14.1")
    for name, value in {
        "UV_FIND_LINKS": str(tmp_path),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "UV_OFFLINE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    document = json.loads(ask("pip", "--device", "t4", "--index", "default", "--lock", "--json").stdout)
    assert re.search(
        r"^torch==2\.14\.1 \\\n    --hash=sha256:[0-9a-f]{64}$", document["files"]["requirements.txt"], re.M
    )
    assert document["locked"]["packages"] == 1
    assert document["locked"]["by"].startswith("uv ")


def test_a_uv_project_gets_its_own_lock(tmp_path, monkeypatch) -> None:
    pytest.importorskip("uv")
    wheel(tmp_path, "torch", "2.14.1")
    for name, value in {
        "UV_FIND_LINKS": str(tmp_path),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "UV_OFFLINE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("UV_PYTHON", sys.executable)
    run = ask("uv", "--device", "t4", "--index", "default", "--python", "3.11", "--lock", "--json")
    locked = tomllib.loads(json.loads(run.stdout)["files"]["uv.lock"])
    assert {package["name"] for package in locked["package"]} == {"rigwise", "torch"}


@pytest.mark.parametrize(
    ("script", "word"), [("#!/bin/sh\necho 'no such\nversion' >&2\nexit 1\n", "no such version"), ("", "uv")]
)
def test_uv_that_fails_or_is_absent_is_one_line(tmp_path, monkeypatch, script: str, word: str) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    if script:
        (tmp_path / "uv").write_text(script)
        (tmp_path / "uv").chmod(0o755)
    with pytest.raises(RigwiseError, match=word) as caught:
        lock(torch_on("t4"))
    assert "\n" not in str(caught.value)


def test_every_target_says_how_far_it_was_verified() -> None:
    assert "setup" in COMMANDS
    assert {row.id for row in rows() if row.id.startswith("setup ")} == {f"setup {target}" for target in TARGETS}
    for target in TARGETS:
        assert verified(target).level in LEVELS
    with pytest.raises(UnknownNameError, match="slurm"):
        raise ask("slurmm").exception


def test_the_page_of_what_was_executed_is_current() -> None:
    """Edit facts/data/executed.toml, then run python tools/build_executed.py."""
    made = runpy.run_path(str(ROOT / "tools" / "build_executed.py"))["text"]()
    assert (ROOT / "docs" / "reference" / "executed.md").read_text(encoding="utf-8") == made
