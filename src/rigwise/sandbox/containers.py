"""Files for containers: Docker, compose, Apptainer and development containers."""

from __future__ import annotations

import json

from rigwise.errors import MissingFactError
from rigwise.facts.environments import BaseImage
from rigwise.sandbox.launch import ON_EACH_NODE, broken, node_words, rank_lines
from rigwise.sandbox.setting import Setting, check_script, comments, explanation, requirements

#: Of the user that the job runs as: above those that images come with.
UID = 10001
#: Shared memory where the memory of the node is not known; Docker's own 64 MiB stops data loaders and NCCL.
SHARED_GIB = 8
#: What an image is built without: history, environments, and files that hold keys or passwords.
IGNORED = (".git", ".venv", "__pycache__", ".env", "*.pem", "*.key", ".netrc", "password.hash")


def docker(setting: Setting) -> dict[str, str]:
    """``Dockerfile``, built on an image that fits driver and Python, run as a user without rights."""
    shared = shared_gib(setting)
    gpus = " --gpus all" if setting.place.has_gpu else ""
    notes = [
        f"Build with: docker build --tag {setting.name} .",
        f"run with: docker run --rm{gpus} --shm-size={shared}g {setting.name}",
    ]
    ready = setting.environment.ready_made
    if ready:
        notes.append(
            f"A ready-made image with the same major version of CUDA: {ready.image};"
            " for which GPUs it holds code is in no table."
        )
    return {"Dockerfile": dockerfile(setting, notes), ".dockerignore": "".join(f"{name}\n" for name in IGNORED),
            "requirements.txt": requirements(setting), "check.py": check_script()}  # fmt: skip


def base_of(setting: Setting) -> BaseImage:
    """The image to build on.

    Raises:
        MissingFactError: The table has none for this CUDA and Python.
    """
    environment = setting.environment
    if environment.image is None:
        raise MissingFactError(
            f"no base image with Python {environment.python} is in the table", hint="leave --python away, or name 3.12"
        )
    return environment.image


def shared_gib(setting: Setting) -> int:
    """Shared memory for the container: half of the node's memory, as Linux takes for /dev/shm itself."""
    memory_bytes = setting.place.memory_bytes
    return max(1, int(memory_bytes // 2**31)) if memory_bytes else SHARED_GIB


def _system_packages(setting: Setting, image: BaseImage) -> list[str]:
    """What the image lacks: Python where it has none, and a compiler where the plan compiles the model."""
    names = ["python3", "python3-venv"] if image.image != "python" else []
    if setting.place.work.mode == "compiled":
        names += ["gcc", "g++"] + (["python3-dev"] if image.image != "python" else [])
    return names


def _packages(setting: Setting, image: BaseImage) -> str:
    """The layer of system packages; empty where the image has all."""
    names = _system_packages(setting, image)
    if not names:
        return ""
    why = "gcc: torch.compile builds its launchers with it. " if "gcc" in names else ""
    note = comments([f"{why}The caches are mounts, so they stay out of the image."])
    return (
        f"{note}# hadolint ignore=DL3008\nRUN --mount=type=cache,target=/var/cache/apt,sharing=locked \\\n"
        "    --mount=type=cache,target=/var/lib/apt,sharing=locked \\\n"
        "    rm -f /etc/apt/apt.conf.d/docker-clean \\\n"
        f"    && apt-get update \\\n    && apt-get install --no-install-recommends --yes {' '.join(names)}\n"
    )


def dockerfile(setting: Setting, notes: list[str]) -> str:
    """The Dockerfile itself."""
    image = base_of(setting)
    seen = "NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility " if setting.place.has_gpu else ""
    told = rank_lines(setting).replace("\n", "; ")
    command = json.dumps(["bash", "-c", f"{told}exec " + " ".join(node_words(setting))])
    several = setting.place.nodes > 1
    return "".join([
        "# syntax=docker/dockerfile:1\n", explanation(setting, *notes),
        comments(["Pin the image itself by adding @sha256:... of docker buildx imagetools inspect."]),
        f"FROM {image.name}\n",
        f"ENV {seen}PYTHONUNBUFFERED=1 PATH=/opt/venv/bin:$PATH\n", _packages(setting, image),
        "RUN python3 -m venv /opt/venv\n", "COPY requirements.txt /opt/requirements.txt\n",
        "# hadolint ignore=DL3042\n", "RUN --mount=type=cache,target=/var/cache/pip \\\n"
        "    python -m pip install --cache-dir /var/cache/pip --requirement /opt/requirements.txt\n",
        comments([f"Not root: what escapes from the job has no rights on the host. Uid {UID} is nobody else's."]),
        f"RUN useradd --create-home --uid {UID} job \\\n"
        "    && install --directory --owner=job --group=job /job /job/results\n",
        "WORKDIR /job\n", "COPY --chown=job:job . .\n", f"USER {UID}\n",
        comments([ON_EACH_NODE]) if several else "", f"CMD {command}\n",
    ])  # fmt: skip


def compose(setting: Setting) -> dict[str, str]:
    """``compose.yaml`` beside the Dockerfile."""
    place = setting.place
    gpus = (
        "    deploy:\n      resources:\n        reservations:\n          devices:\n"
        f"            - driver: nvidia\n              count: {place.gpus_per_node}\n              capabilities: [gpu]\n"
        if place.has_gpu
        else ""
    )
    text = (
        explanation(setting, "Build and run with: docker compose run --build --rm job")
        + f"name: {setting.name}\nservices:\n  job:\n    build: .\n    init: true\n"
        + comments(["Data loaders and NCCL pass data through shared memory; the default is 64 MiB."], "    # ")
        + f"    shm_size: {shared_gib(setting)}gb\n"
        + comments(["Memory that network cards and GPUs read by themselves is locked, without a limit."], "    # ")
        + "    ulimits:\n      memlock: -1\n      stack: 67108864\n"
        + gpus
        + "    volumes:\n      - results:/job/results\n\nvolumes:\n  results:\n"
    )
    return {"compose.yaml": text, **docker(setting)}


def apptainer(setting: Setting) -> dict[str, str]:
    """``environment.def`` and ``run.sh``; with a GPU it is run with ``--nv``, which brings the host's driver in."""
    image = base_of(setting)
    nv = " --nv" if setting.place.has_gpu else ""
    names = " ".join(_system_packages(setting, image))
    packages = (
        f"    apt-get update\n    apt-get install --no-install-recommends --yes {names}\n"
        "    rm -rf /var/lib/apt/lists/*\n"
        if names
        else ""
    )
    framework = setting.environment.framework
    definition = (
        f"Bootstrap: docker\nFrom: {image.name}\n\n"
        + explanation(setting, "Build with: apptainer build job.sif environment.def", "then run with: bash run.sh")
        + "\n%files\n    requirements.txt /opt/requirements.txt\n    check.py /opt/check.py\n"
        + f"\n%post\n{packages}    python3 -m venv /opt/venv\n"
        + "    /opt/venv/bin/python -m pip install --no-cache-dir --requirement /opt/requirements.txt\n"
        + "\n%environment\n    export PATH=/opt/venv/bin:$PATH\n    export PYTHONUNBUFFERED=1\n"
        + '\n%runscript\n    exec "$@"\n'
        + f"\n%test\n    /opt/venv/bin/python -c 'import {framework}'\n"
    )
    notes = [ON_EACH_NODE] if setting.place.nodes > 1 else []
    inside = ("--cleanenv", '--bind "$PWD:/job"', "--pwd /job", "job.sif")
    run = (
        "#!/bin/bash\n" + explanation(setting, "Runs the job in job.sif.", *notes)
        + comments(["--nv brings the host's driver in; --cleanenv keeps the host's CUDA paths out."] if nv else [])
        + 'set -euo pipefail\ncd "$(dirname "$0")"\n' + rank_lines(setting)
        + broken(["exec", "apptainer", f"exec{nv}", *inside, *node_words(setting)])
    )  # fmt: skip
    return {"environment.def": definition, "run.sh": run, "requirements.txt": requirements(setting),
            "check.py": check_script()}  # fmt: skip


def devcontainer(setting: Setting) -> dict[str, str]:
    """``.devcontainer/``, for editors, Codespaces and Gitpod.

    The GPU is asked for by ``hostRequirements``, optionally: an editor then passes it in where there is one, and the
    same files open where there is none. Source: devcontainers/spec, devcontainer.json reference.
    """
    place = setting.place
    needs: dict[str, object] = {"cpus": min(place.cpus or 2, 64)}
    if place.has_gpu:
        needs["gpu"] = "optional"
    check = "python .devcontainer/check.py" + (
        "" if setting.environment.framework == "torch" else f" --framework {setting.environment.framework}"
    )
    document = {
        "name": setting.name,
        "build": {"dockerfile": "Dockerfile", "context": "."},
        "hostRequirements": needs,
        "runArgs": [f"--shm-size={shared_gib(setting)}g"],
        "remoteUser": "job",
        "postCreateCommand": check,
        "customizations": {"vscode": {"extensions": ["ms-python.python", "ms-toolsai.jupyter"]}},
    }
    head = explanation(setting, "Opens in VS Code, Codespaces, Gitpod and others that read devcontainer.json.")
    lines = "".join(f"//{line.removeprefix('#')}\n" for line in head.splitlines())
    inside = docker(setting)
    return {
        ".devcontainer/devcontainer.json": lines + json.dumps(document, indent=2) + "\n",
        **{f".devcontainer/{name}": text for name, text in inside.items()},
    }
