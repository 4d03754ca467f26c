"""Files for what rents machines or shares out a cluster: SkyPilot, dstack and Kubernetes."""

from __future__ import annotations

import json
import textwrap

from rigwise.errors import MissingFactError
from rigwise.facts import catalogue
from rigwise.facts.environments import accelerator_name, base_image, setup_facts, tool
from rigwise.facts.registries import registries
from rigwise.sandbox.containers import UID, shared_gib
from rigwise.sandbox.launch import broken, is_distributed, launch_words
from rigwise.sandbox.schedulers import GRACE_S
from rigwise.sandbox.setting import Setting, check_script, comments, explanation, minutes, requirements

#: Port of the first process; nothing else listens on a machine that was rented for the job.
_PORT = 29500


def skypilot(setting: Setting) -> dict[str, str]:
    """``task.yaml`` for SkyPilot, with the offer of the plan where SkyPilot knows its provider."""
    place = setting.place
    known = place.provider in registries().catalogues["skypilot"].names
    notes = [f"Start with: sky launch --cluster {setting.name} task.yaml"]
    if place.provider and not known:
        notes.append(f"{place.provider} is no provider of SkyPilot, so it looks for the cheapest that has the device.")
    resources = []
    if place.has_gpu:
        resources.append(f"accelerators: {_accelerator(setting, 'skypilot')}:{place.gpus_per_node}")
    if known:
        where = f"{place.provider}/{place.region}" if place.region else place.provider
        resources.append(f"infra: {json.dumps(where)}")
    if place.market == "spot":
        resources.append("use_spot: true")
    if place.cpus:
        resources.append(f"cpus: {place.cpus}+")
    rendezvous = ['--nnodes="$SKYPILOT_NUM_NODES"', '--node-rank="$SKYPILOT_NODE_RANK"', '--master-addr="$first"']
    run = 'first="$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"\n' if _several(setting) else ""
    run += broken(launch_words(setting, [*rendezvous, f"--master-port={_PORT}"] if _several(setting) else _ALONE))
    uv = tool("uv").version
    install = (
        f"command -v uv >/dev/null || python3 -m pip install --user 'uv=={uv}'\n"
        'export PATH="$HOME/.local/bin:$PATH"\n'
        f"uv venv --seed --python {setting.environment.python} .venv\n"
        ".venv/bin/python -m pip install --requirement requirements.txt\n"
    )
    text = (
        explanation(setting, *notes)
        + f"name: {setting.name}\nnum_nodes: {place.nodes}\n"
        + comments(["The folder that is copied to the machines."])
        + "workdir: .\n"
        + ("resources:\n" + "".join(f"  {line}\n" for line in resources) if resources else "")
        + f"setup: |\n{_block(install, 2)}run: |\n{_block(_ACTIVATE + run, 2)}"
    )
    return {"task.yaml": text, "requirements.txt": requirements(setting), "check.py": check_script()}


_ALONE = ("--standalone",)
_ACTIVATE = 'export PATH="$PWD/.venv/bin:$PATH"\n'


def dstack(setting: Setting) -> dict[str, str]:
    """``job.dstack.yml``, a task for dstack."""
    place = setting.place
    known = place.provider in registries().catalogues["gpuhunt"].names
    notes = ["Start with: dstack apply --file job.dstack.yml"]
    if place.provider and not known:
        notes.append(f"{place.provider} is no backend of dstack, so it looks in all that are set up.")
    rendezvous = ['--nnodes="$DSTACK_NODES_NUM"', '--node-rank="$DSTACK_NODE_RANK"']
    rendezvous += ['--master-addr="$DSTACK_MASTER_NODE_IP"', f"--master-port={_PORT}"]
    job = broken(launch_words(setting, rendezvous if _several(setting) else _ALONE))
    install = (
        f"python{setting.environment.python} -m venv .venv\n"
        ".venv/bin/python -m pip install --requirement requirements.txt\n"
    )
    resources = [f"shm_size: {shared_gib(setting)}GB"]
    resources += [f"cpu: {place.cpus}.."] if place.cpus else []
    if place.has_gpu:
        resources.append(f"gpu: {_dstack_gpu(setting)}:{place.gpus_per_node}")
    text = (
        explanation(setting, *notes)
        + f"type: task\nname: {setting.name}\n"
        + (f"nodes: {place.nodes}\n" if place.nodes > 1 else "")
        + f'python: "{setting.environment.python}"\nfiles:\n  - requirements.txt\n  - check.py\n'
        + f"commands:\n  - |\n{_block(install + _ACTIVATE + job, 4)}"
        + (f"backends: [{place.provider}]\n" if known else "")
        + (f"regions: [{json.dumps(place.region)}]\n" if known and place.region else "")
        + f"spot_policy: {'spot' if place.market == 'spot' else 'on-demand'}\n"
        + (f"max_duration: {minutes(place.time_s + GRACE_S)}m\n" if place.time_s else "")
        + "resources:\n"
        + "".join(f"  {line}\n" for line in resources)
    )
    return {"job.dstack.yml": text, "requirements.txt": requirements(setting), "check.py": check_script()}


def kubernetes(setting: Setting) -> dict[str, str]:
    """``jobset.yaml``: one pod for each node, which find each other by name.

    Without an image of your own the packages are installed when a pod starts, from a config map with the two files.
    """
    image = setting.image or _python_image(setting)
    head = explanation(
        setting,
        "Start with: kubectl apply --filename jobset.yaml; the cluster needs JobSet and NVIDIA's device plugin.",
        "CPUs are not asked for: a node keeps some for itself, and its GPUs bring the rest to the pod.",
        "The image is expected to hold the environment." if setting.image else
        "Every pod installs the packages as it starts: build the image of setup docker and name it with --image to"
        " spare that.",
    )  # fmt: skip
    return {"jobset.yaml": head + ("" if setting.image else _config_map(setting)) + _jobset(setting, image)}


def _python_image(setting: Setting) -> str:
    image = base_image("", setting.environment.python)
    if image is None:
        raise MissingFactError(
            f"no image with Python {setting.environment.python} is in the table", hint="name one with --image"
        )
    return image.name


def _config_map(setting: Setting) -> str:
    files = {"requirements.txt": requirements(setting), "check.py": check_script()}
    data = "".join(f"  {name}: |\n{_block(text, 4)}" for name, text in files.items())
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {setting.name}-files\ndata:\n{data}---\n"


def _jobset(setting: Setting, image: str) -> str:
    place, name = setting.place, setting.name
    rendezvous = [f"--nnodes={place.nodes}", '--node-rank="$JOB_COMPLETION_INDEX"']
    rendezvous += [f"--master-addr={name}-node-0-0.{name}", f"--master-port={_PORT}"]
    job = broken(["exec", *launch_words(setting, rendezvous if _several(setting) else _ALONE)])
    install = (
        "cp /files/* /job/\ncd /job\npython -m venv venv\n"
        "venv/bin/python -m pip install --requirement requirements.txt\n"
        'export PATH="/job/venv/bin:$PATH"\n'
    )
    script = "set -euo pipefail\n" + ("" if setting.image else install) + job
    limits = [f"nvidia.com/gpu: {place.gpus_per_node}"] if place.has_gpu else []
    shown = "                    limits:\n" + "".join(f"                      {line}\n" for line in limits)
    mounts = [("shm", "/dev/shm"), ("job", "/job"), *([] if setting.image else [("files", "/files")])]
    files = (
        "" if setting.image else f"                - name: files\n                  configMap: {{name: {name}-files}}\n"
    )
    limit = f"          activeDeadlineSeconds: {minutes(place.time_s + GRACE_S) * 60}\n" if place.time_s else ""
    return (
        f"apiVersion: jobset.x-k8s.io/{tool('jobset').version}\nkind: JobSet\nmetadata:\n  name: {name}\nspec:\n"
        "  failurePolicy:\n    maxRestarts: 3\n  replicatedJobs:\n    - name: node\n      replicas: 1\n"
        f"      template:\n        spec:\n          parallelism: {place.nodes}\n          completions: {place.nodes}\n"
        f"          completionMode: Indexed\n          backoffLimit: 0\n{limit}"
        "          template:\n            spec:\n              restartPolicy: Never\n"
        "              securityContext:\n                runAsNonRoot: true\n"
        f"                runAsUser: {UID}\n                fsGroup: {UID}\n"
        f"              terminationGracePeriodSeconds: {GRACE_S}\n"
        f"              containers:\n                - name: job\n                  image: {json.dumps(image)}\n"
        '                  command: ["bash", "-c"]\n                  args:\n                    - |\n'
        f"{_block(script, 22)}"
        '                  env:\n                    - {name: HOME, value: /job}\n'
        '                    - {name: PYTHONUNBUFFERED, value: "1"}\n'
        + (f"                  resources:\n{shown}" if limits else "")
        + "                  volumeMounts:\n"
        + "".join(f"                    - {{name: {volume}, mountPath: {path}}}\n" for volume, path in mounts)
        + "              volumes:\n                - name: shm\n"
        f"                  emptyDir: {{medium: Memory, sizeLimit: {shared_gib(setting)}Gi}}\n"
        "                - name: job\n                  emptyDir: {}\n" + files
    )  # fmt: skip


def _several(setting: Setting) -> bool:
    return setting.place.nodes > 1 and is_distributed(setting)


def _accelerator(setting: Setting, program: str) -> str:
    return setting.accelerator or accelerator_name(program, setting.place.device)


def _dstack_gpu(setting: Setting) -> str:
    """The name, with the memory where devices of one name differ in it."""
    name = _accelerator(setting, "dstack")
    same = [device for device, called in setup_facts().accelerators.dstack.items() if called == name]
    sizes = {catalogue.device(device).memory_bytes for device in same}
    memory_bytes = catalogue.device(setting.place.device).memory_bytes if setting.place.device else None
    return f"{name}:{memory_bytes / 2**30:.0f}GB" if len(sizes) > 1 and memory_bytes else name


def _block(text: str, columns: int) -> str:
    """Text as a block of YAML."""
    return textwrap.indent(text, " " * columns)
