"""Job scripts for Slurm and PBS."""

from __future__ import annotations

from rigwise.sandbox.launch import broken, is_distributed, launch_words
from rigwise.sandbox.packages import install_script
from rigwise.sandbox.setting import Setting, check_script, comments, explanation, minutes, requirements

#: How long before its end a job is told, so that it can write a checkpoint.
GRACE_S = 120
#: Ports that no service has by default. Two jobs on one node have different numbers, so mostly different ports.
_PORT = "$((20000 + {job} % 20000))"
_SLURM_FIRST = (
    comments(["Names of nodes need not be names of hosts, so the address of the first is asked for."])
    + 'mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")\n'
    """MASTER_ADDR="$(scontrol show node "${nodes[0]}" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')"\n"""
    "export MASTER_ADDR\n"
)
_PBS_FIRST = 'mapfile -t nodes < <(sort -u "$PBS_NODEFILE")\nexport MASTER_ADDR="${nodes[0]}"\n'
_SLURM_RENDEZVOUS = (
    '--nnodes="$SLURM_JOB_NUM_NODES"', "--rdzv-backend=c10d", '--rdzv-id="$SLURM_JOB_ID"',
    '--rdzv-endpoint="$MASTER_ADDR:$MASTER_PORT"',
)  # fmt: skip


def slurm(setting: Setting) -> dict[str, str]:
    """``job.sbatch``, one task for each node, and what installs the environment.

    srun has not handed on ``--cpus-per-task`` of the job since Slurm 22.05, so both the variable and the flag are set.
    Source: Slurm release notes 22.05; Lightning-AI/pytorch-lightning#18650.
    """
    return {"job.sbatch": _slurm_script(setting), **_beside(setting)}


def pbs(setting: Setting) -> dict[str, str]:
    """``job.pbs``, and what installs the environment."""
    return {"job.pbs": _pbs_script(setting), **_beside(setting)}


def _beside(setting: Setting) -> dict[str, str]:
    return {
        "install.sh": install_script(setting),
        "requirements.txt": requirements(setting),
        "check.py": check_script(),
    }


def _limit(setting: Setting) -> tuple[str, str]:
    """The time limit as HH:MM:SS, and why it is that long; empty where there is no plan."""
    time_s = setting.place.time_s
    if time_s is None:
        return "", "No time limit here: without a plan only the queue's own holds."
    whole = minutes(time_s + GRACE_S)
    return (
        f"{whole // 60:02}:{whole % 60:02}:00",
        f"The limit is what 9 of 10 runs stay under, and {GRACE_S} s to stop in order.",
    )


def _modules(setting: Setting) -> str:
    if not setting.modules:
        return comments(["No modules are loaded: name them with --module if the cluster needs them."])
    loads = "".join(f"module load {module}\n" for module in setting.modules)
    # modules of many clusters read variables that are not set, so they come before set -u
    return "module purge\n" + loads


def _environment(folder: str) -> str:
    return (
        f'VENV="${{VENV:-{folder}/.venv}}"\n'
        '[ -x "$VENV/bin/python" ] || {\n'
        '  echo "there is no environment in $VENV: run bash install.sh where there is a network" >&2\n'
        "  exit 2\n}\n"
        'export PATH="$VENV/bin:$PATH"\n'
    )


def _slurm_script(setting: Setting) -> str:
    place = setting.place
    limit, why = _limit(setting)
    directives = [
        f"--job-name={setting.name}", f"--nodes={place.nodes}", "--ntasks-per-node=1",
        *([f"--gres=gpu:{place.gpus_per_node}"] if place.gpus_per_node else []),
        *([f"--cpus-per-task={place.cpus}"] if place.cpus else []), *([f"--time={limit}"] if limit else []),
        "--output=%x-%j.out", f"--signal=TERM@{GRACE_S}",
    ]  # fmt: skip
    notes = [
        "Submit with: sbatch job.sbatch",
        "One task for each node; it starts one process for each GPU.",
        why,
        f"{GRACE_S} s before the end the processes get SIGTERM, to write a checkpoint.",
    ]
    if not place.cpus:
        notes.append("How many CPUs a node has is not known: --cpus N asks for them, else Slurm gives one.")
    several = place.nodes > 1
    rendezvous = _SLURM_RENDEZVOUS if several else ("--standalone",)
    lines = [
        "#!/bin/bash\n", *(f"#SBATCH {text}\n" for text in directives), explanation(setting, *notes),
        "set -eo pipefail\n", _modules(setting), "set -u\n", _environment("$SLURM_SUBMIT_DIR"),
        *([_SLURM_FIRST + _port("SLURM_JOB_ID")] if several else []),
        'cpus="${SLURM_CPUS_PER_TASK:-1}"\n',
        comments(["srun has not taken this over from the job since 22.05, and versions differ in what they read."]),
        'export SRUN_CPUS_PER_TASK="$cpus"\n', f'export OMP_NUM_THREADS="$(( cpus > {place.processes_per_node} ? '
        f'cpus / {place.processes_per_node} : 1 ))"\n',
        broken(["srun", '--cpus-per-task="$cpus"', "--kill-on-bad-exit=1", *launch_words(setting, rendezvous)]),
    ]  # fmt: skip
    return "".join(lines)


def _port(job: str) -> str:
    return f'export MASTER_PORT="{_PORT.format(job=job)}"\n' + comments(
        ["If the nodes cannot find each other: export NCCL_SOCKET_IFNAME with the name of their network."]
    )


def _pbs_script(setting: Setting) -> str:
    place = setting.place
    limit, why = _limit(setting)
    cpus, memory = place.cpus or 1, place.memory_bytes
    select = f"select={place.nodes}:ncpus={cpus}:mpiprocs=1"
    select += f":ngpus={place.gpus_per_node}" if place.gpus_per_node else ""
    select += f":mem={int(memory // 2**20)}mb" if memory and place.of != "this machine" else ""
    notes = [
        "Submit with: qsub job.pbs",
        why,
        *(["How many CPUs a node has is not known: --cpus N asks for them."] if not place.cpus else []),
    ]
    directives = [f"-N {setting.name[:15]}", f"-l {select}", *([f"-l walltime={limit}"] if limit else []), "-j oe"]
    words = _pbs_words(setting)
    lines = [
        "#!/bin/bash\n", *(f"#PBS {text}\n" for text in directives), explanation(setting, *notes),
        "set -eo pipefail\n", _modules(setting), "set -u\n", 'cd "$PBS_O_WORKDIR"\n', _environment("$PBS_O_WORKDIR"),
        *([_PBS_FIRST + _port("${PBS_JOBID%%.*}")] if place.nodes > 1 else []),
        f"export OMP_NUM_THREADS={max(1, cpus // place.processes_per_node)}\n", words,
    ]  # fmt: skip
    return "".join(lines)


def _pbs_words(setting: Setting) -> str:
    """The command on this node, or by pbsdsh once on each of several."""
    if setting.place.nodes == 1 or not is_distributed(setting):
        return broken(launch_words(setting))
    rendezvous = [f"--nnodes={setting.place.nodes}", "--rdzv-backend=c10d", '--rdzv-id="$PBS_JOBID"']
    rendezvous.append('--rdzv-endpoint="$MASTER_ADDR:$MASTER_PORT"')
    inner = " ".join(launch_words(setting, rendezvous))
    note = comments(["pbsdsh starts it on each node, without this shell's variables, so they are handed over."])
    return (
        note
        + "cat > launch-$$.sh <<EOF\n"
        + 'export PATH="$PATH" MASTER_ADDR="$MASTER_ADDR" MASTER_PORT="$MASTER_PORT" PBS_JOBID="$PBS_JOBID"\n'
        + 'export OMP_NUM_THREADS="$OMP_NUM_THREADS"\n'
        + 'cd "$PBS_O_WORKDIR"\nEOF\n'
        + f"cat >> launch-$$.sh <<'EOF'\nexec {inner}\nEOF\n"
        + 'pbsdsh -- bash "$PBS_O_WORKDIR/launch-$$.sh"\n'
    )
