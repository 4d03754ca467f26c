"""The files of rigwise setup, run: Slurm with a stand-in for a GPU, torchrun over two nodes, the check."""

import os
import runpy
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from http.cookiejar import CookieJar
from importlib.util import find_spec
from pathlib import Path
from urllib.request import HTTPRedirectHandler

import pytest

from rigwise.cli.setup_files import write_files
from rigwise.sandbox.check import main as check
from rigwise.sandbox.place import place_of_device
from rigwise.sandbox.targets import Extra

SHARED = runpy.run_path(str(Path(__file__).with_name("setup_places.py")))
files_of, places = SHARED["files_of"], SHARED["places"]
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")

#: What a job tells of where it is.
TOLD = ("CUDA_VISIBLE_DEVICES", "SRUN_CPUS_PER_TASK", "SLURM_NNODES")
TELL = f"import os; print(*(os.environ.get(name, '-') for name in {TOLD}))"


def submitted(slurm, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and output of a job script that was submitted in its folder."""
    names = ",".join(["ALL", *(f"{name}={value}" for name, value in environment.items())])
    run = slurm.run("sbatch", "--wait", f"--export={names}", "job.sbatch", cwd=folder, timeout_s=120)
    (written,) = folder.glob("*.out")
    return run.returncode, written.read_text()


def test_slurm_runs_the_job_with_its_gpu_and_cpus(slurm, tmp_path) -> None:
    place = replace(place_of_device("t4"), cpus=2, time_s=60.0)
    write_files(str(tmp_path), files_of("slurm", place, extra=Extra(command=("python", "-c", TELL))), force=True)
    code, output = submitted(slurm, tmp_path, {"VENV": sys.prefix})
    assert (code, output.split()) == (0, ["0", "2", "1"])


def test_slurm_hands_the_exit_code_of_the_job_on(slurm, tmp_path) -> None:
    failing = Extra(command=("python", "-c", "raise SystemExit(7)"))
    write_files(str(tmp_path), files_of("slurm", place_of_device("t4"), extra=failing), force=True)
    assert submitted(slurm, tmp_path, {"VENV": sys.prefix})[0] == 7


def test_without_an_environment_the_job_says_so(slurm, tmp_path) -> None:
    write_files(str(tmp_path), files_of("slurm", place_of_device("t4")), force=True)
    code, output = submitted(slurm, tmp_path, {})
    assert code == 2
    assert "run bash install.sh" in output


#: A job that writes a checkpoint when it is told to end, and says how often it was started before.
SAVES = """\
import os, pathlib, signal, sys, time
def save(*_):
    pathlib.Path("checkpoint").write_text("saved")
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("start", os.environ.get("SLURM_RESTART_COUNT", "0"), flush=True)
pathlib.Path("started").write_text("")
time.sleep(0 if pathlib.Path("checkpoint").exists() else 300)
"""


def waits(until_s: float, is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + until_s
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.2)


def test_slurm_tells_the_job_before_its_end_and_starts_it_again(slurm, tmp_path) -> None:
    (tmp_path / "train.py").write_text(SAVES)
    place = replace(place_of_device("t4"), cpus=1, time_s=60.0)
    write_files(str(tmp_path), files_of("slurm", place, extra=Extra(command=("python", "train.py"))), force=True)
    assert "#SBATCH --signal=TERM@120" in (tmp_path / "job.sbatch").read_text()
    sent = slurm.run("sbatch", "--parsable", f"--export=ALL,VENV={sys.prefix}", "job.sbatch", cwd=tmp_path)
    job = sent.stdout.strip()
    waits(60, (tmp_path / "started").exists)
    (written,) = tmp_path.glob("*.out")
    assert written.read_text().split() == ["start", "0"]
    assert slurm.run("scancel", "--signal=TERM", job).returncode == 0  # as Slurm itself does before the limit
    waits(60, lambda: job not in slurm.jobs())
    assert "saved" in written.read_text().split()
    assert "JobState=COMPLETED" in slurm.run("scontrol", "show", "job", job).stdout
    assert slurm.run("scontrol", "requeue", job).returncode == 0
    # Slurm holds a requeued job for two minutes. Ten seconds are enough here; at once is too early: the node still
    # holds the credential of the first start as revoked, and the second ends without a word.
    soon = ("scontrol", "update", f"JobId={job}", "StartTime=now+10")
    waits(60, lambda: slurm.run(*soon).returncode == 0)
    waits(90, lambda: "start 1" in written.read_text() and job not in slurm.jobs())


@needs_torch
def test_slurm_starts_one_process_on_each_node_and_they_talk(slurm, tmp_path) -> None:
    write_files(str(tmp_path), files_of("slurm", places()["cpus"]), force=True)
    code, output = submitted(slurm, tmp_path, {"VENV": sys.prefix})
    assert code == 0, output
    assert output.count("all-reduce over gloo gives 3") == 2


@needs_torch
def test_torchrun_starts_two_nodes(tmp_path) -> None:
    write_files(str(tmp_path), files_of("torchrun", places()["cpus"]), force=True)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    port = str(20_000 + os.getpid() % 20_000)
    here = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            ["bash", "launch.sh"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**here, "NODE_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    assert all("all-reduce over gloo gives 3" in output for output, _ in outputs)


def test_a_node_without_its_number_is_told(tmp_path) -> None:
    write_files(str(tmp_path), files_of("torchrun", places()["nodes"]), force=True)
    bare = {name: value for name, value in os.environ.items() if name not in ("MASTER_ADDR", "NODE_RANK")}
    run = subprocess.run(["bash", "launch.sh"], cwd=tmp_path, capture_output=True, text=True, check=False, env=bare)
    assert run.returncode != 0
    assert "MASTER_ADDR: set it to the address of the first node" in run.stderr


@needs_torch
def test_the_check_finds_an_environment_in_order(capsys) -> None:
    assert check(["--devices", "0"]) == 0
    assert "in order" in capsys.readouterr().out


@needs_torch
def test_the_check_misses_gpus(capsys) -> None:
    assert check(["--devices", "64"]) == 1
    assert "64 are expected" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("tensorflow") is not None, reason="tensorflow is installed")
def test_the_check_says_what_does_not_import(capsys) -> None:
    assert check(["--framework", "tensorflow"]) == 1
    assert "does not import" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("jupyterlab") is None, reason="jupyterlab is not installed")
def test_a_short_password_is_refused_and_a_long_one_is_hashed(tmp_path) -> None:
    write_files(str(tmp_path), files_of("jupyter", place_of_device("t4")), force=True)
    ask = [sys.executable, "set_password.py"]
    short = subprocess.run(ask, cwd=tmp_path, input="secret\n", capture_output=True, text=True, check=False)
    assert short.returncode == 1
    none = subprocess.run(ask, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (none.returncode, none.stderr.split(":")[0]) == (1, "no password was given")
    assert not (tmp_path / "password.hash").exists()
    subprocess.run(ask, cwd=tmp_path, input="correct horse battery\n", capture_output=True, text=True, check=True)
    kept = tmp_path / "password.hash"
    assert kept.read_text().startswith("argon2:")
    assert kept.stat().st_mode & 0o77 == 0


def answer(port: int, path: str, folder: Path, form: dict[str, str] | None = None, jar: object = None) -> int:
    """The status that the server answers with over TLS, its certificate checked."""
    import ssl
    import urllib.error
    import urllib.parse
    import urllib.request

    context = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context), urllib.request.HTTPCookieProcessor(jar), NoRedirect()
    )
    data = urllib.parse.urlencode(form).encode() if form else None
    try:
        with opener.open(f"https://localhost:{port}{path}", data=data, timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


class NoRedirect(HTTPRedirectHandler):
    """Leaves a redirect as the answer."""

    def redirect_request(self, *arguments: object) -> None:
        return None


def waits_for(port: int, process: subprocess.Popen) -> None:
    """Wait until something listens."""
    until = time.monotonic() + 90
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail("JupyterLab did not start")


@pytest.mark.skipif(find_spec("jupyterlab") is None or not shutil.which("openssl"), reason="no JupyterLab or openssl")
def test_jupyter_lets_in_who_has_the_password_and_nobody_else(tmp_path) -> None:
    write_files(str(tmp_path), files_of("jupyter", place_of_device("t4")), force=True)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    ask = [sys.executable, "set_password.py"]
    subprocess.run(ask, cwd=tmp_path, input="correct horse battery\n", text=True, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = ["bash", "start.sh", *(["--allow-root"] if os.geteuid() == 0 else [])]
    here = {**os.environ, "JUPYTER_PORT": str(port), "HOME": str(tmp_path)}
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(start, cwd=tmp_path, env=here, stdout=log, stderr=log)
    try:
        waits_for(port, process)
        jar = CookieJar()
        assert answer(port, "/api/contents", tmp_path) == 403
        assert answer(port, "/login", tmp_path, jar=jar) == 200
        (xsrf,) = [cookie.value for cookie in jar if cookie.name == "_xsrf"]
        wrong = {"_xsrf": xsrf, "password": "incorrect horse battery"}
        assert answer(port, "/login", tmp_path, wrong, jar) == 401
        assert answer(port, "/api/contents", tmp_path, jar=jar) == 403
        assert answer(port, "/login", tmp_path, {**wrong, "password": "correct horse battery"}, jar) == 302
        assert answer(port, "/api/contents", tmp_path, jar=jar) == 200
        with socket.create_connection(("127.0.0.1", port)) as plain, suppress(ConnectionResetError):
            plain.sendall(b"GET /api HTTP/1.0\r\n\r\n")
            assert not plain.recv(1000).startswith(b"HTTP")
    finally:
        process.terminate()
        process.wait(timeout=30)
    assert (tmp_path / "key.pem").stat().st_mode & 0o77 == 0
