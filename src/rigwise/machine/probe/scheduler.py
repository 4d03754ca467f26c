"""The scheduler that this machine belongs to, and the job that this process is part of."""

from __future__ import annotations

from rigwise.machine.probe.source import Root, attempt
from rigwise.machine.snapshot import Field

#: A variable that a job has -> its scheduler.
JOBS = {"SLURM_JOB_ID": "slurm", "PBS_JOBID": "pbs", "LSB_JOBID": "lsf", "KUBERNETES_SERVICE_HOST": "kubernetes"}
#: A program -> the scheduler it belongs to.
PROGRAMS = {"sbatch": "slurm", "qsub": "pbs", "bsub": "lsf"}
#: Grid Engine submits by ``qsub`` as well, and has this program, which PBS has not.
OTHER_QSUB = ("qhost", "grid engine")


def scheduler(root: Root) -> dict[str, Field]:
    """Schedulers that can be asked, and what the job that this runs in was given."""
    variables = root.variables()
    job = next((name for key, name in JOBS.items() if key in variables), "none")
    given = {key: value for key, value in sorted(variables.items()) if key.startswith(("SLURM_", "PBS_", "NCPUS"))}
    found = {
        "job": Field(value=job, source="environment"),
        "installed": attempt("programs on the path", lambda: _installed(root) or None),
        "given": attempt("environment", lambda: given or None),
    }
    if root.has_program("sinfo"):
        found["slurm"] = attempt("sinfo --version", lambda: root.run("sinfo", "--version").split()[-1])
    return found


def _installed(root: Root) -> list[str]:
    """Kubernetes is left out: its tool says nothing of the machine it lies on."""
    found = [name for program, name in PROGRAMS.items() if root.has_program(program)]
    program, name = OTHER_QSUB
    return [name if one == "pbs" else one for one in found] if "pbs" in found and root.has_program(program) else found
