"""The Slurm that other tests use is real: jobs run, fail, count GPUs, and are cancelled."""

import time
from pathlib import Path


def test_a_job_runs_and_its_exit_code_comes_back(slurm, tmp_path: Path) -> None:
    done = slurm.run("sbatch", "--wait", "--output=%j.txt", "--wrap=echo on $SLURMD_NODENAME", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (output,) = tmp_path.glob("*.txt")
    assert output.read_text().split() == ["on", slurm.nodes[0]]
    assert slurm.run("sbatch", "--wait", "--output=/dev/null", "--wrap=exit 7", cwd=tmp_path).returncode == 7


def test_every_node_runs_its_task(slurm) -> None:
    done = slurm.run("srun", f"--nodes={len(slurm.nodes)}", "sh", "-c", "echo $SLURMD_NODENAME $SLURM_NTASKS")
    assert sorted(done.stdout.splitlines()) == [f"{node} {len(slurm.nodes)}" for node in slurm.nodes]


def test_a_node_has_one_gpu_and_not_two(slurm) -> None:
    done = slurm.run("srun", "--gres=gpu:h200:1", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    assert done.stdout.strip() == "0", done.stderr
    refused = slurm.run("sbatch", "--test-only", "--gres=gpu:h200:2", "--wrap=true")
    assert refused.returncode != 0
    assert "not available" in refused.stderr


def test_a_job_is_cancelled_with_its_processes(slurm, tmp_path: Path) -> None:
    asked = slurm.run(
        "sbatch", "--parsable", "--output=/dev/null", "--wrap=echo $$ > pid; exec sleep 600", cwd=tmp_path
    )
    job = asked.stdout.strip()
    _until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    process = Path("/proc", (tmp_path / "pid").read_text().strip())
    assert process.exists()
    assert job in slurm.jobs()
    assert slurm.run("scancel", job).returncode == 0
    _until(lambda: job not in slurm.jobs() and not process.exists())


def _until(is_so, within_s: float = 30.0) -> None:
    end_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end_s, "it did not happen"
        time.sleep(0.1)
