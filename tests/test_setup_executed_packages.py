"""The environments of rigwise setup, installed for real: JAX by pip and by uv from a folder of wheels, Accelerate."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from rigwise.cli.setup import command
from rigwise.cli.setup_files import write_files
from rigwise.sandbox.environment import Wish
from rigwise.sandbox.place import place_of_device
from rigwise.sandbox.targets import Extra

SHARED = runpy.run_path(str(Path(__file__).with_name("setup_places.py")))
files_of, places = SHARED["files_of"], SHARED["places"]
PYTHON = "{}.{}".format(*sys.version_info[:2])
#: What JAX needs on a CPU. Its wheels are made anew from what is installed here, so that nothing asks a network.
NAMES = ("jax", "jaxlib", "ml_dtypes", "numpy", "opt_einsum", "scipy")
UV = shutil.which("uv", path=os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)]))
needs_jax = pytest.mark.skipif(
    find_spec("jax") is None or sys.platform != "linux", reason="jax is not installed, or this is no Linux"
)


def packed(name: str, folder: Path) -> Path:
    """The wheel of an installed distribution, without its tests and what Python compiled."""
    installed = metadata.distribution(name)
    (tag,) = re.findall(r"(?m)^Tag: (\S+)", installed.read_text("WHEEL"))[:1]
    path = folder / f"{name}-{installed.version}-{tag}.whl"
    kept = [
        file for file in installed.files if not re.search(r"__pycache__|/tests/|^\.\./|/RECORD$|INSTALLER", str(file))
    ]
    (about,) = {file.parts[0] for file in kept if file.parts[0].endswith(".dist-info")}
    with zipfile.ZipFile(path, "w") as wheel:
        for file in kept:
            wheel.write(installed.locate_file(file), str(file))
        wheel.writestr(f"{about}/RECORD", "".join(f"{file},,\n" for file in kept) + f"{about}/RECORD,,\n")
    return path


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    for name in NAMES:
        packed(name, folder)
    return folder


def jax_files(target: str, folder: Path) -> None:
    """The files of a target for the JAX that is installed here, on a CPU."""
    wish = Wish(framework=f"jax=={metadata.version('jax')}", python=PYTHON)
    write_files(str(folder), files_of(target, place_of_device("epyc-7742"), wish), force=True)


def works(environment: Path) -> None:
    """Whether rigwise setup verify finds JAX in it and nothing wrong."""
    run = CliRunner().invoke(
        command, ["verify", "--in", str(environment), "--disk", "1MB", "--json"], standalone_mode=False
    )
    document = json.loads(run.stdout)
    assert (document["framework"], document["version"]) == ("jax", metadata.version("jax"))
    rows = {row["what"]: row["status"] for one in document["checks"] for row in one["rows"]}
    assert (run.return_value, rows["jaxlib"], rows["jax"]) == (0, "ok", "ok")


@needs_jax
@pytest.mark.slow
def test_pip_installs_the_requirements_and_the_environment_works(wheels, tmp_path) -> None:
    jax_files("pip", tmp_path)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "env"], cwd=tmp_path, check=True)
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        "env",
        "install",
        "--quiet",
        "--requirement",
        "requirements.txt",
    ]
    here = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_NO_COMPILE": "1"}
    here |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(install, cwd=tmp_path, env=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    works(tmp_path / "env")


@needs_jax
@pytest.mark.slow
@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_uv_locks_and_syncs_the_project_and_it_works(wheels, tmp_path) -> None:
    jax_files("uv", tmp_path)
    here = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "VIRTUAL_ENV"))}
    here |= {"UV_OFFLINE": "1", "UV_FIND_LINKS": str(wheels), "UV_CACHE_DIR": str(tmp_path / "cache")}
    here |= {"UV_PYTHON": sys.executable, "UV_NO_CONFIG": "0", "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run([UV, "sync", "--quiet"], cwd=tmp_path, env=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    locked = {one["name"] for one in json_of_lock(tmp_path / "uv.lock")}
    assert {name.replace("_", "-") for name in NAMES} <= locked
    works(tmp_path / ".venv")


def json_of_lock(path: Path) -> list[dict]:
    import tomllib

    return tomllib.loads(path.read_text(encoding="utf-8"))["package"]


def environment_without(package: str, folder: Path) -> None:
    """An environment with links to all that is installed here but one package, and the launchers."""
    venv.create(folder, with_pip=False, symlinks=True)
    (inside,) = folder.glob("lib/python*/site-packages")
    for found in Path(metadata.distribution("accelerate").locate_file("")).iterdir():
        if not found.name.startswith(package) and not (inside / found.name).exists():
            (inside / found.name).symlink_to(found)
    for name, main in (("accelerate", "accelerate.commands.accelerate_cli"), ("torchrun", "torch.distributed.run")):
        program = folder / "bin" / name
        program.write_text(f"#!{folder}/bin/python\nfrom {main} import main\nmain()\n")
        program.chmod(0o755)


#: A job that tells what Accelerate made of its launcher.
TELLS = """\
import torch
from accelerate import Accelerator
job = Accelerator()
total = job.reduce(torch.tensor([job.process_index + 1.0]))
print(job.distributed_type.value, job.num_processes, job.device, job.mixed_precision, total.item(), flush=True)
job.wait_for_everyone()
job.end_training()
"""


@pytest.mark.skipif(find_spec("accelerate") is None, reason="accelerate is not installed")
def test_accelerate_takes_over_what_its_launcher_says(tmp_path) -> None:
    environment_without("timm", tmp_path / "venv")  # which accelerate imports, and which asks for torchvision
    (tmp_path / "train.py").write_text(TELLS)
    port = str(20_000 + (os.getpid() + 7919) % 20_000)
    here = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    started = []
    for name, rank in (("cpu", 0), ("cpus", 0), ("cpus", 1)):
        folder = tmp_path / f"{name}-{rank}"
        files = files_of("accelerate", places()[name], extra=Extra(command=("python", "../train.py")))
        write_files(str(folder), files, force=True)
        (folder / ".venv").symlink_to(tmp_path / "venv")
        settings = {**here, "NODE_RANK": str(rank), "HF_HOME": str(folder)}
        started.append(
            subprocess.Popen(
                ["bash", "launch.sh"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env=settings,
            )
        )  # fmt: skip
    outputs = [process.communicate(timeout=180) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], outputs
    told = [said.replace("cpu:0", "cpu").strip() for said, _ in outputs]
    assert told == ["NO 1 cpu no 1.0", "MULTI_CPU 2 cpu no 3.0", "MULTI_CPU 2 cpu no 3.0"]


@pytest.mark.skipif(find_spec("accelerate") is None, reason="accelerate is not installed")
def test_accelerate_itself_reads_every_configuration(tmp_path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    kinds = {}
    for name, place in places().items():
        write_files(
            str(tmp_path / name), {"accelerate.yaml": files_of("accelerate", place)["accelerate.yaml"]}, force=True
        )
        read = load_config_from_file(str(tmp_path / name / "accelerate.yaml"))
        kinds[name] = (str(read.distributed_type), read.num_processes, read.num_machines)
    assert kinds["node"] == ("DistributedType.FSDP", 4, 1)
    assert kinds["nodes"] == ("DistributedType.FSDP", 16, 2)
    assert kinds["cpus"] == ("DistributedType.MULTI_CPU", 2, 2)
    assert kinds["one"] == ("DistributedType.NO", 1, 1)
