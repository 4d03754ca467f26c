"""The command itself: whether it exists, its Python, and what starts several ranks of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rigwise.errors import InvalidInputError

#: Programs that start the ranks of a command themselves.
STARTERS = ("torchrun", "accelerate", "deepspeed", "mpirun", "mpiexec", "horovodrun", "srun", "composer")
_PYTHON = re.compile(r"python(\d(\.\d+)?)?(\.exe)?")
#: Lists the builds of torch that an interpreter finds, without loading them.
_LIST_TORCH = (
    "import json,importlib.metadata as m;print(json.dumps(sorted({(d.version,str(d.locate_file('')))"
    " for d in m.distributions() if (d.metadata['Name'] or '').lower()=='torch'})))"
)


#: Torchrun on every node of a job of Slurm: the first four words are torchrun's. They meet at the first node, by the
#: address that Slurm itself uses, at a port that follows from the number of the job.
_ON_NODES = """\
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(scontrol show node --oneliner "$first" | grep -o "NodeAddr=[^ ]*" | cut -d = -f 2)
exec srun --ntasks={nodes} --ntasks-per-node=1 "${{@:1:4}}" --nnodes={nodes} --rdzv-backend=c10d \
  --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$address:$((20000 + SLURM_JOB_ID % 20000))" --no-python "${{@:5}}"
"""


def check_command(command: Sequence[str], cwd: str = "") -> None:
    """Refuse what cannot be started, before anything is.

    Raises:
        InvalidInputError: There is no such program or script.
    """
    program = command[0]
    found = shutil.which(program, path=None) if not os.path.dirname(program) else shutil.which(str(Path(cwd, program)))
    if found is None:
        hint = f"python {program}?" if program.endswith(".py") else "is its environment active?"
        raise InvalidInputError(f"there is no program {program[:100]!r}", hint=hint)
    script = command[1] if len(command) > 1 else ""
    if is_python(program) and script.endswith(".py") and not Path(cwd, script).is_file():
        raise InvalidInputError(f"there is no script {script[:100]!r}")


def is_python(program: str) -> bool:
    """Whether a program is a Python interpreter, by its name.

    >>> is_python("python"), is_python("/opt/env/bin/python3.11"), is_python("pythonic")
    (True, True, False)
    """
    return bool(_PYTHON.fullmatch(os.path.basename(program)))


def starts_ranks(command: Sequence[str]) -> bool:
    """Whether a command starts its ranks itself.

    >>> starts_ranks(["accelerate", "launch", "train.py"]), starts_ranks(["python", "-m", "torch.distributed.run"])
    (True, True)
    """
    return os.path.basename(command[0]) in STARTERS or is_torchrun(command)


def is_torchrun(command: Sequence[str]) -> bool:
    """Whether a command is torchrun's, by its name or as a module.

    >>> is_torchrun(["torchrun", "train.py"]), is_torchrun(["mpirun", "-n", "2", "python", "train.py"])
    (True, False)
    """
    by_module = "-m" in command[1:] and any(word.startswith("torch.distributed.") for word in command)
    return os.path.basename(command[0]) == "torchrun" or (is_python(command[0]) and by_module)


def check_torch(command: Sequence[str]) -> str:
    """Look at the builds of torch that the command would find; a sentence if a second one is hidden.

    Raises:
        InvalidInputError: Two builds lie over each other in one folder.
    """
    if not is_python(command[0]):
        return ""
    try:
        asked = subprocess.run(
            [command[0], "-c", _LIST_TORCH], stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=30
        )
        builds = [(str(version), str(place)) for version, place in json.loads(asked.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return ""
    places = [place for _, place in builds]
    twice = next((place for place in places if places.count(place) > 1), None)
    versions = " and ".join(version for version, place in builds if twice in (None, place))
    if twice is not None:
        raise InvalidInputError(
            f"two builds of torch lie over each other in one environment: {versions}",
            hint="pip uninstall torch until none is left, then install one",
        )
    return f"the environment holds two builds of torch, {versions}: the first on the path counts" if builds[1:] else ""


def by_torchrun(command: Sequence[str], ranks: int, nodes: int = 1) -> list[str]:
    """The command started once for each rank, by torchrun.

    On one node the ranks meet at a free port of this machine. On several, Slurm's own variables tell where.
    """
    python = command[0] if is_python(command[0]) else sys.executable
    run = [python, "-m", "torch.distributed.run", f"--nproc-per-node={ranks // nodes}"]
    if nodes == 1:
        return [*run, "--standalone", "--no-python", *command]
    script = _ON_NODES.format(nodes=nodes)
    return ["bash", "-c", script, "bash", *run, *command]


def check_port() -> None:
    """Whether ranks can meet on this machine.

    Raises:
        InvalidInputError: No port is free.
    """
    try:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
    except OSError as error:
        raise InvalidInputError(
            f"no port of this machine is free for the ranks to meet: {error.strerror or error}",
            hint="ss -tan shows who has them",
        ) from None
