"""A real Slurm on the loopback: one controller and a few nodes, all processes of whoever runs the tests.

Nothing outside a private folder is read or written: no key of munge, no /etc. Each of the nodes says that it has two
processors and one GPU, which is /dev/zero. The daemons run in the foreground as children of the test process
and end with it, whatever ends it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scancel", "sinfo", "squeue", "scontrol")
NODES = 4
_START_S, _END_S = 30.0, 8.0

_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={controller}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1
KillWait=2
SlurmdTimeout=60
GresTypes=gpu
"""


@dataclass(frozen=True)
class SlurmCluster:
    """A Slurm that runs.

    Attributes:
        environment: What a process needs to use it: ``SLURM_CONF``, and the search path.
        nodes: Their names.
        folder: Where its files and logs are.
        daemons: Process id of each node's slurmd, by its name.
    """

    environment: Mapping[str, str]
    nodes: tuple[str, ...]
    folder: Path
    daemons: Mapping[str, int]

    def run(self, *words: str, timeout_s: float = 60.0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command of Slurm and wait for its end."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            words, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment, cwd=cwd
        )

    def jobs(self) -> list[str]:
        """Ids of the jobs that have not ended."""
        return self.run("squeue", "--noheader", "--format=%A").stdout.split()


def missing() -> str:
    """Why there can be no Slurm here; empty where there can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    return f"no {absent[0]} (Debian: apt-get install slurm-wlm)" if absent else ""


@contextmanager
def cluster() -> Iterator[SlurmCluster]:
    """A Slurm that is idle; all of it is gone afterwards."""
    for _ in range(3):  # another program may take a port between its choice and its use
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="slurm-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            found = _start(folder, stack)
            if _is_idle(found, _START_S):
                yield found
                return
            logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in folder.glob("*.log"))
    pytest.fail(f"Slurm did not start:\n{logs}")


def session() -> Iterator[SlurmCluster]:
    """The body of a fixture: the cluster, or a skipped test where Slurm is not installed."""
    if reason := missing():
        pytest.skip(reason)
    with cluster() as found:
        yield found


def _start(folder: Path, stack: ExitStack) -> SlurmCluster:
    nodes = tuple(f"n{place}" for place in range(1, NODES + 1))
    _write(folder, nodes)
    environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
    controller = _daemon(["slurmctld", "-D", "-c", "-f", environment["SLURM_CONF"]], environment)
    stack.callback(_end, controller)
    daemons = {}
    for node in nodes:
        daemon = _daemon(["slurmd", "-D", "-c", "-f", environment["SLURM_CONF"], "-N", node], environment)
        daemons[node] = daemon.pid
        stack.callback(_end, daemon)
    found = SlurmCluster(environment=environment, nodes=nodes, folder=folder, daemons=daemons)
    stack.callback(_cancel_all, found)
    return found


def _write(folder: Path, nodes: tuple[str, ...]) -> None:
    import pwd

    user = pwd.getpwuid(os.getuid()).pw_name
    host = socket.gethostname().partition(".")[0]
    ports = _free_ports(1 + len(nodes))
    text = _CONF.format(host=host, user=user, folder=folder, controller=ports[0])
    for node, port in zip(nodes, ports[1:], strict=True):
        text += f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=1000"
        text += " Gres=gpu:h200:1\n"
    text += "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text(f"NodeName={','.join(nodes)} Name=gpu Type=h200 File=/dev/zero\n")
    (folder / "state").mkdir()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def _daemon(words: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A daemon that ends with this process, also when this is killed."""
    if shutil.which("setpriv"):
        words = ["setpriv", "--pdeathsig", "TERM", "--", *words]
    nowhere = subprocess.DEVNULL
    settings = {**os.environ, **environment}
    return subprocess.Popen(words, stdin=nowhere, stdout=nowhere, stderr=nowhere, env=settings)


def _is_idle(slurm: SlurmCluster, within_s: float) -> bool:
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        with suppress(subprocess.TimeoutExpired):
            states = slurm.run("sinfo", "--noheader", "--Node", "--format=%T", timeout_s=5.0).stdout.split()
            if states == ["idle"] * len(slurm.nodes):
                return True
        time.sleep(0.2)
    return False


def _cancel_all(slurm: SlurmCluster) -> None:
    """End every job, so that no process of one outlives the daemons."""
    with suppress(subprocess.TimeoutExpired):
        end_s = time.monotonic() + _END_S
        while (jobs := slurm.jobs()) and time.monotonic() < end_s:
            slurm.run("scancel", "--full", *sorted(set(jobs)), timeout_s=5.0)
            time.sleep(0.2)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(timeout=_END_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
