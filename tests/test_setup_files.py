"""Every file of every target reads as what it is, says why, and holds nothing of this machine's environment."""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.errors import InfeasibleError, MissingFactError
from rigwise.sandbox.environment import Wish
from rigwise.sandbox.launch import broken
from rigwise.sandbox.place import place_of_device
from rigwise.sandbox.setting import quoted
from rigwise.sandbox.targets import TARGETS, Extra

SHARED = runpy.run_path(str(Path(__file__).with_name("setup_places.py")))
files_of, places = SHARED["files_of"], SHARED["places"]
GOLDEN = Path(__file__).parent / "golden" / "setup"
PLACES = places()
#: Together where the tables have no build, or the cloud no name: a K80 is too old for some, and dstack has none.
REFUSED = {("dstack", "old")}
EVERY = [(target, name) for target in TARGETS for name in PLACES if (target, name) not in REFUSED]


def program(name: str) -> str | None:
    """A program on the search path or beside this Python."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)]))


def every_file(ending: str) -> list[tuple[str, str, str]]:
    """Target and place, path and text of every file with a name that ends so."""
    return [
        (f"{target} {name}", path, text)
        for target, name in EVERY
        for path, text in files_of(target, PLACES[name]).items()
        if path.endswith(ending)
    ]


def test_every_target_has_files_at_every_place_and_the_same_each_time() -> None:
    for target, name in EVERY:
        files = files_of(target, PLACES[name])
        assert files
        assert files == files_of(target, PLACES[name])
        assert all(text.endswith("\n") and "\r" not in text for text in files.values())


def test_what_has_no_name_in_a_cloud_is_an_error_until_it_is_given() -> None:
    with pytest.raises(MissingFactError, match="--accelerator"):
        files_of("dstack", PLACES["old"])
    assert "gpu: K80:1" in files_of("dstack", PLACES["old"], extra=Extra(accelerator="K80"))["job.dstack.yml"]


def scripts() -> list[tuple[str, str]]:
    """Every shell script, those inside YAML and Dockerfiles too."""
    import yaml

    found = [
        (f"{where} {path}", text) for ending in (".sh", ".sbatch", ".pbs") for where, path, text in every_file(ending)
    ]
    for where, _, text in every_file("task.yaml"):
        task = yaml.safe_load(text)
        found += [(f"{where} setup", task["setup"]), (f"{where} run", task["run"])]
    for where, _, text in every_file("dstack.yml"):
        found += [(where, "".join(yaml.safe_load(text)["commands"]))]
    for where, _, text in every_file("jobset.yaml"):
        pod = list(yaml.safe_load_all(text))[-1]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
        found += [(where, pod["containers"][0]["args"][0])]
    for where, _, text in every_file("Dockerfile"):
        found += [(where, json.loads(text.splitlines()[-1].removeprefix("CMD "))[2])]
    return found


def test_bash_reads_every_script(tmp_path) -> None:
    for where, text in dict(scripts()).items():
        read = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
        assert (read.returncode, read.stderr) == (0, ""), where


@pytest.mark.skipif(program("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing(tmp_path) -> None:
    for number, (where, text) in enumerate(scripts()):
        if text.startswith("#!"):
            (tmp_path / f"{number}.sh").write_text(f"{text}\n# {where}\n")
    found = subprocess.run(
        [program("shellcheck"), *sorted(map(str, tmp_path.iterdir()))], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


def test_python_reads_every_script() -> None:
    for where, path, text in every_file(".py"):
        compile(text, f"{where} {path}", "exec")


def test_requirements_are_exact_and_of_one_index() -> None:
    from packaging.requirements import Requirement

    for where, _, text in every_file("requirements.txt"):
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        wanted = [Requirement(line) for line in lines if not line.startswith("--")]
        assert any(str(one.specifier).startswith("==") for one in wanted), where
        assert sum(line.startswith("--index-url") for line in lines) <= 1
        assert not any("extra-index" in line for line in lines)


def test_toml_of_uv_asks_the_framework_index_for_the_framework_only() -> None:
    import tomllib

    for _, _, text in every_file("pyproject.toml"):
        document = tomllib.loads(text)
        indexes = document["tool"]["uv"].get("index", [])
        assert all(index["explicit"] for index in indexes)
        named = [source["index"] for source in document["tool"]["uv"].get("sources", {}).values()]
        assert named == [index["name"] for index in indexes]
        assert document["project"]["dependencies"]


def test_pixi_declares_the_gpu_with_its_platform() -> None:
    import tomllib

    for where, _, text in every_file("pixi.toml"):
        document = tomllib.loads(text)
        assert "system-requirements" not in document
        assert ("cuda" in document["workspace"]["platforms"][0]) == ("cpu" not in where)
        assert document["pypi-dependencies"]["torch"]["version"].startswith("==")


def test_conda_leaves_the_framework_to_pip() -> None:
    import yaml

    for _, _, text in every_file("environment.yml"):
        document = yaml.safe_load(text)
        python, pip, by_pip = document["dependencies"]
        assert (python.split("=")[0], pip) == ("python", "pip")
        assert by_pip == {"pip": ["--requirement requirements.txt"]}
        assert document["channels"][-1] == "nodefaults"


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile."""
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def faults(text: str) -> list[str]:
    """What is wrong with a Dockerfile."""
    found = instructions(text)
    names = [name for name, _ in found]
    users = [value for name, value in found if name == "USER"]
    wrong = [name for name in names if name not in {"FROM", "ENV", "RUN", "COPY", "WORKDIR", "USER", "CMD"}]
    wrong += ["it does not begin with FROM"] if names[0] != "FROM" else []
    wrong += ["the image has no version"] if ":" not in found[0][1] or found[0][1].endswith(":latest") else []
    wrong += ["it runs as root"] if not users or users[-1] in ("0", "root") else []
    wrong += ["root comes back"] if names and names[-1] != "CMD" else []
    for name, value in found:
        if name == "RUN" and ("apt-get install" in value or "pip install" in value) and "type=cache" not in value:
            wrong.append("a cache stays in the image")
        if name == "RUN" and "apt-get install" in value and "--no-install-recommends" not in value:
            wrong.append("recommended packages come along")
    return wrong


def test_dockerfiles_are_in_order() -> None:
    assert every_file("Dockerfile")
    assert [(where, faults(text)) for where, _, text in every_file("Dockerfile") if faults(text)] == []


def test_the_check_of_dockerfiles_sees_faults() -> None:
    bad = "FROM x\nRUN apt-get install y\nADD z /\n"
    assert len(faults(bad)) == 6


@pytest.mark.skipif(program("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_finds_nothing(tmp_path) -> None:
    for where, _, text in every_file("Dockerfile"):
        found = subprocess.run([program("hadolint"), "-"], input=text, capture_output=True, text=True, check=False)
        assert found.stdout == "", where


def test_compose_gives_shared_memory_and_the_gpus() -> None:
    import yaml

    for where, _, text in every_file("compose.yaml"):
        job = yaml.safe_load(text)["services"]["job"]
        assert re.fullmatch(r"[1-9]\d*gb", job["shm_size"])
        assert ("deploy" in job) == ("cpu" not in where)


@pytest.mark.skipif(find_spec("check_jsonschema") is None, reason="check-jsonschema is not installed")
def test_compose_keeps_its_schema() -> None:
    import check_jsonschema
    import jsonschema
    import yaml

    folder = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor"
    schema = json.loads((folder / "compose-spec.json").read_text(encoding="utf-8"))
    for _, _, text in every_file("compose.yaml"):
        jsonschema.validate(yaml.safe_load(text), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"services": {"job": {"shmsize": "1gb"}}}, schema)


@pytest.mark.skipif(find_spec("kubeflow_trainer_api") is None, reason="kubeflow-trainer-api is not installed")
def test_the_jobset_keeps_its_schema() -> None:
    import yaml
    from kubeflow_trainer_api.models import JobsetV1alpha2JobSet

    for _, _, text in every_file("jobset.yaml"):
        document = list(yaml.safe_load_all(text))[-1]
        assert lost(document, JobsetV1alpha2JobSet.from_dict(document).to_dict()) == []
    bad = {"spec": {"replikatedJobs": []}}
    assert lost(bad, JobsetV1alpha2JobSet.from_dict(bad).to_dict()) == ["/spec/replikatedJobs"]


def lost(before: object, after: object, place: str = "") -> list[str]:
    """Keys that a model has not taken over."""
    if isinstance(before, dict):
        missing = [key for key in before if not isinstance(after, dict) or key not in after]
        inner = [
            fault for key in before if key not in missing for fault in lost(before[key], after[key], f"{place}/{key}")
        ]
        return [f"{place}/{key}" for key in missing] + inner
    if isinstance(before, list):
        pairs = zip(before, after if isinstance(after, list) else [None] * len(before), strict=False)
        return [fault for one, other in pairs for fault in lost(one, other, place)]
    return []


def test_the_jobset_finds_its_first_pod_and_hands_the_files_in() -> None:
    import yaml

    for where, _, text in every_file("jobset.yaml"):
        files, jobset = yaml.safe_load_all(text)
        assert set(files["data"]) == {"requirements.txt", "check.py"}
        name = jobset["metadata"]["name"]
        job = jobset["spec"]["replicatedJobs"][0]
        pod = job["template"]["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert volumes == {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        if where.endswith("nodes"):
            assert f"--master-addr={name}-{job['name']}-0-0.{name}" in pod["containers"][0]["args"][0]


def test_an_image_of_your_own_needs_no_files() -> None:
    import yaml

    text = files_of("kubernetes", PLACES["node"], extra=Extra(image="registry.example/job@sha256:00"))["jobset.yaml"]
    (jobset,) = yaml.safe_load_all(text)
    pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example/job@sha256:00"
    assert "pip install" not in text


def test_a_development_container_opens_without_a_gpu_too() -> None:
    for where, _, text in every_file("devcontainer.json"):
        document = json.loads("".join(line for line in text.splitlines() if not line.startswith("//")))
        assert set(document) <= {
            "name", "build", "hostRequirements", "runArgs", "remoteUser", "postCreateCommand", "customizations"
        }  # fmt: skip
        assert document["hostRequirements"].get("gpu") == (None if "cpu" in where else "optional")
        assert "--gpus" not in " ".join(document["runArgs"])


@pytest.mark.skipif(find_spec("nbformat") is None, reason="nbformat is not installed")
def test_notebooks_are_notebooks() -> None:
    import nbformat

    for where, _, text in every_file(".ipynb"):
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
        for cell in notebook.cells:
            if cell.cell_type == "code" and not cell.source.startswith(("%%", "!")):
                compile(cell.source, where, "exec")


def test_sections_of_the_apptainer_definition_are_known() -> None:
    for _, _, text in every_file("environment.def"):
        sections = re.findall(r"^%(\w+)", text, re.MULTILINE)
        assert sections == ["files", "post", "environment", "runscript", "test"]
        assert text.startswith("Bootstrap: docker\nFrom: ")


def test_apptainer_brings_the_driver_in_only_where_there_is_one() -> None:
    for where, path, text in every_file("run.sh"):
        assert path == "run.sh"
        assert (" --nv " in text) == ("cpu" not in where)


def test_directives_stand_before_the_first_command() -> None:
    for ending, word in ((".sbatch", "#SBATCH"), (".pbs", "#PBS")):
        for where, _, text in every_file(ending):
            first = next(n for n, line in enumerate(text.splitlines()) if line and not line.startswith("#"))
            late = [n for n, line in enumerate(text.splitlines()) if line.startswith(word) and n > first]
            assert late == [], where


def test_slurm_hands_the_cpus_on_in_both_ways() -> None:
    text = files_of("slurm", PLACES["node"])["job.sbatch"]
    assert 'export SRUN_CPUS_PER_TASK="$cpus"' in text
    assert 'srun --cpus-per-task="$cpus"' in text
    assert "#SBATCH --gres=gpu:4\n" in text
    assert "#SBATCH --time=01:03:00\n" in text  # 3601 s and 120 s of grace are 62 minutes and a second


def test_modules_are_loaded_before_variables_must_be_set() -> None:
    text = files_of("slurm", PLACES["node"], extra=Extra(modules=("gcc/12", "cuda/12.6")))["job.sbatch"]
    assert text.index("module load gcc/12") < text.index("module load cuda/12.6") < text.index("set -u")


@pytest.mark.parametrize(
    "grammar", [r"-N [\w-]{1,15}", r"-l select=\d+:ncpus=\d+:mpiprocs=1(:ngpus=\d+)?(:mem=\d+mb)?"]
)
def test_pbs_directives_follow_their_grammar(grammar: str) -> None:
    for where, _, text in every_file(".pbs"):
        assert len(re.findall(rf"^#PBS {grammar}$", text, re.MULTILINE)) == 1, where


def test_several_nodes_start_one_torchrun_each_and_one_process_for_each_gpu() -> None:
    for target in ("slurm", "pbs", "skypilot", "dstack", "kubernetes", "torchrun", "docker", "compose", "apptainer"):
        text = " ".join("".join(files_of(target, PLACES["nodes"]).values()).split())
        assert "--nproc-per-node=8" in text, target
        assert "--standalone" not in text, target
    assert "torchrun" not in files_of("slurm", PLACES["one"])["job.sbatch"]


def test_a_command_that_is_not_python_is_started_as_it_is() -> None:
    text = files_of("torchrun", PLACES["node"], extra=Extra(command=("./train", "--fast")))["launch.sh"]
    assert "--no-python ./train --fast" in text


def test_skypilot_names_the_offer_of_the_plan() -> None:
    import yaml

    task = yaml.safe_load(files_of("skypilot", PLACES["node"])["task.yaml"])
    assert task["resources"]["accelerators"] == "T4:4"
    assert (task["resources"]["infra"], task["resources"]["use_spot"]) == ("aws/us-east-1", True)


def test_accelerate_shards_as_the_plan_does() -> None:
    import yaml

    node = yaml.safe_load(files_of("accelerate", PLACES["node"])["accelerate.yaml"])
    assert (node["distributed_type"], node["mixed_precision"], node["num_processes"]) == ("FSDP", "fp16", 4)
    assert node["fsdp_config"]["fsdp_reshard_after_forward"] is True
    one = yaml.safe_load(files_of("accelerate", PLACES["one"])["accelerate.yaml"])
    assert one["distributed_type"] == "NO"


def test_tf_config_names_this_node(tmp_path) -> None:
    (tmp_path / "strategy.py").write_text(files_of("tensorflow", PLACES["cpus"])["strategy.py"])
    ask = ["python3", "strategy.py", "alpha,beta", "1"]
    made = subprocess.run(ask, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(made.stdout) == {
        "cluster": {"worker": ["alpha:12345", "beta:12345"]}, "task": {"type": "worker", "index": 1}
    }  # fmt: skip
    assert subprocess.run([*ask[:-1], "2"], cwd=tmp_path, capture_output=True, check=False).returncode == 1


def test_jupyter_is_on_loopback_behind_password_and_tls() -> None:
    text = files_of("jupyter", PLACES["one"])["jupyter_server_config.py"]
    assert 'c.ServerApp.ip = "127.0.0.1"' in text
    assert "password_required = True" in text
    assert "allow_remote_access = False" in text
    assert "certfile" in text


@pytest.mark.parametrize(
    ("target", "path"), [("docker", "Dockerfile"), ("slurm", "job.sbatch"), ("pip", "requirements.txt")]
)
def test_the_reviewed_files_are_unchanged(target: str, path: str) -> None:
    """Read them again when this fails; the sentence on verification changes by itself and is left out."""
    from dataclasses import replace

    from rigwise.sandbox.targets import render, setting_of

    setting = replace(setting_of(target, PLACES["node"], Wish(), Extra()), level="")
    assert render(target, setting)[path] == (GOLDEN / path).read_text(encoding="utf-8")


WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="$"), min_size=1)


@settings(max_examples=40)
@given(st.lists(WORDS, min_size=1, max_size=40))
def test_a_shell_reads_the_words_that_were_given(words: list[str]) -> None:
    assert shlex.split(quoted(words)) == words
    script = broken(["printf", r"'%s\n'", *(quoted([word]) for word in words)])
    read = subprocess.run(["bash"], input=script.encode(), capture_output=True, check=True)
    assert read.stdout.decode().split("\n")[:-1] == words


def test_a_variable_is_left_for_the_shell_that_runs_the_job() -> None:
    assert quoted(["--key=$KEY", "${A}/b", "a$(id)", "`id`"]) == "\"--key=$KEY\" \"${A}/b\" 'a$(id)' '`id`'"


def test_no_variable_of_this_machine_stands_in_a_file(monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_notforanyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws_notforanyone")
    texts = "".join(text for target, name in EVERY for text in files_of(target, PLACES[name]).values())
    assert "notforanyone" not in texts
    assert str(Path.cwd()) not in texts


def test_horovod_gets_a_framework_that_it_compiles_with() -> None:
    assert "torch==2.0.1" in files_of("horovod", PLACES["one"])["requirements.txt"]
    with pytest.raises(InfeasibleError, match=r"10\.0"):
        files_of("horovod", place_of_device("b200"))
