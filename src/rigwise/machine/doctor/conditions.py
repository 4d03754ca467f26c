"""What kind of machine a rule is about; each condition is a function of facts and a phrase for when it fails."""

from __future__ import annotations

from collections.abc import Callable

from rigwise.machine.doctor.types import Facts


def cards(facts: Facts, vendor: str) -> int:
    """GPUs of a vendor that are there, whether or not a driver works."""
    plugged = [
        card
        for card in facts.rows("pcie")
        if card.get("vendor") == vendor and card.get("kind") in ("gpu", "accelerator")
    ]
    driven = [gpu for gpu in facts.rows("gpus") if gpu.get("vendor") == vendor]
    return max(len(plugged), len(driven))


def in_container(facts: Facts) -> bool:
    """Whether this runs inside a container."""
    return facts.get("container.kind", "none") not in ("none", "lxc")


def _nvidia(facts: Facts) -> bool:
    return cards(facts, "NVIDIA") > 0 or bool(facts.get("container.nvidia_devices") or facts.get("driver.nvidia"))


def _wsl_gpu(facts: Facts) -> bool:
    return facts.get("container.wsl") is True and "dxg" in (facts.get("container.other_devices") or [])


CONDITIONS: dict[str, tuple[Callable[[Facts], bool], str]] = {
    "nvidia": (lambda facts: _nvidia(facts) or _wsl_gpu(facts), "there is no NVIDIA GPU"),
    "nvidia-bare": (lambda facts: _nvidia(facts) and not _wsl_gpu(facts), "there is no NVIDIA GPU with a Linux driver"),
    "nvidia-asked": (
        lambda facts: "gpus nvidia" in facts.get("failed", {}) or any("driver" in gpu for gpu in facts.rows("gpus")),
        "no tool of NVIDIA is installed",
    ),
    "nvidia-card": (lambda facts: cards(facts, "NVIDIA") > 0, "there is no NVIDIA GPU on the bus"),
    "nvidia-driver": (
        lambda facts: bool(facts.get("driver.nvidia")) or any("driver" in gpu for gpu in facts.rows("gpus")),
        "there is no NVIDIA driver",
    ),
    "gpus": (lambda facts: bool(facts.rows("gpus")), "no GPU answers"),
    "several-gpus": (lambda facts: len(facts.rows("gpus")) > 1, "there are not several GPUs"),
    "several-amd": (lambda facts: cards(facts, "AMD") > 1, "there are not several AMD GPUs"),
    "amd-compute": (
        lambda facts: (
            "kfd" in (facts.get("container.other_devices") or []) or facts.get("software.torch_hip", "none") != "none"
        ),
        "nothing here computes on AMD GPUs",
    ),
    "mig": (lambda facts: any(gpu.get("mig") == "enabled" for gpu in facts.rows("gpus")), "MIG is off"),
    "wsl": (lambda facts: facts.get("container.wsl") is True, "it is no WSL2"),
    "not-wsl": (lambda facts: facts.get("container.wsl") is not True, "it is WSL2"),
    "container": (in_container, "it is no container"),
    "no-container": (lambda facts: not in_container(facts), "it is a container"),
    "torch": (lambda facts: "software.torch" in facts.values, "PyTorch is not installed"),
    "torch-cuda": (
        lambda facts: facts.get("software.torch_cuda", "none") != "none",
        "no PyTorch for CUDA is installed",
    ),
    "torchvision": (lambda facts: "software.torchvision" in facts.values, "torchvision is not installed"),
    "tensorflow": (lambda facts: "software.tensorflow" in facts.values, "TensorFlow is not installed"),
    "jax": (lambda facts: "software.jax" in facts.values, "JAX is not installed"),
    "jax-cuda": (
        lambda facts: any(f"software.jax_cuda{major}_plugin" in facts.values for major in (12, 13)),
        "no JAX for CUDA is installed",
    ),
    "numpy": (lambda facts: "software.numpy" in facts.values, "NumPy is not installed"),
    "framework": (
        lambda facts: any(f"software.{name}" in facts.values for name in ("torch", "tensorflow", "jaxlib")),
        "no framework is installed",
    ),
    "conda": (lambda facts: "CONDA_PREFIX" in facts.variables(), "no conda environment is active"),
    "docker": (lambda facts: "docker" in (facts.get("container.engines") or []), "Docker is not installed"),
    "apptainer": (
        lambda facts: bool({"apptainer", "singularity"} & set(facts.get("container.engines") or [])),
        "Apptainer is not installed",
    ),
    "slurm": (lambda facts: "slurm" in (facts.get("scheduler.installed") or []), "there is no Slurm"),
    "slurm-job": (lambda facts: facts.get("scheduler.job") == "slurm", "it is no Slurm job"),
    "frequency": (lambda facts: "cpu.governor" in facts.values, "the clock of the CPU is not governed here"),
    "script": (lambda facts: "seen.script" in facts.values, "no script was given (--script FILE)"),
}


def missing(facts: Facts, conditions: tuple[str, ...]) -> str:
    """Why a rule with these conditions has nothing to say; empty where it has.

    >>> missing(Facts(), ("torch",))
    'PyTorch is not installed'
    """
    return next((phrase for holds, phrase in map(CONDITIONS.__getitem__, conditions) if not holds(facts)), "")
