"""How published tables spell devices, networks, precisions and software."""

from __future__ import annotations

import re
from functools import lru_cache

from rigwise.errors import UnknownNameError, UnsupportedError
from rigwise.facts.device import Device
from rigwise.graph.load import zoo_names
from rigwise.machine.this import resolve_device
from rigwise.workload.case import DTYPES, Software

#: (device, variant) of published tables whose words alone do not name one catalogue entry.
#: Source: the tables' own documentation of their systems.
_DEVICES = {
    ("A100", "SXM4"): "a100-sxm4-80gb",
    ("A100", "SXM 80GB"): "a100-sxm4-80gb",
    ("A100", "a100_dgx"): "a100-sxm4-80gb",
    ("A100", "a100_pairwise_nvlink"): "a100-sxm4-80gb",
    ("A40", "a40_pairwise_nvlink"): "a40",
    ("V100", "SXM2"): "v100-sxm2-16gb",
    ("V100", "SXM2 (DGX-1)"): "v100-sxm2-16gb",
    ("P100", "PCIe?"): "p100-pcie-16gb",
    ("Core i9-10940X", "CPU 14c AVX512"): "core-i9-10940x",
    ("Titan X (Maxwell)", ""): "gtx-titan-x-maxwell",
}

#: Networks whose published name is not the zoo's even with dashes for underscores.
_MODELS = {
    "vit_base_patch16_224": "vit-b-16",
    "vit_large_patch16_224": "vit-l-16",
    "resnet50 v1.5": "resnet50",
    "mobilenetv2_100": "mobilenet-v2",
    "mobilenetv3_large_100": "mobilenet-v3-large",
    "googlenet-v1": "googlenet",
    "googlenet v1": "googlenet",
}

#: Precision of a step, as tables spell it.
_DTYPE_OF_WORD = {"fp32 (tf32 off)": "fp32", "half": "fp16", "bfloat16": "bf16", "float32": "fp32", "float16": "fp16"}

#: Year in which each major version of cuDNN was current. Source: NVIDIA cuDNN release notes.
_YEAR_OF_CUDNN = {1: 2014, 2: 2015, 3: 2015, 4: 2015, 5: 2016, 6: 2017, 7: 2018, 8: 2020, 9: 2024}


@lru_cache(maxsize=4096)
def device_of(name: str, variant: str) -> Device:
    """The catalogue entry that a table's words name.

    Raises:
        UnknownNameError: None; the message lists near matches.
        AmbiguousNameError: Several.
    """
    if (name, variant) in _DEVICES:
        return resolve_device(_DEVICES[name, variant])
    if not variant:
        return resolve_device(name)
    try:
        return resolve_device(f"{name} {variant}")
    except UnknownNameError:
        return resolve_device(name)


@lru_cache(maxsize=8192)
def zoo_name(model: str) -> str:
    """The zoo's name of a published network, empty if the zoo lacks it."""
    plain = _MODELS.get(model.lower(), model.lower())
    known = zoo_names()
    guesses = (plain, plain.replace("_", "-"), plain.replace("-", ""), plain.replace("_", ""))
    return next((guess for guess in guesses if guess in known), "")


def dtype_of(precision: str) -> str:
    """The dtype of a case.

    Raises:
        UnsupportedError: A mixture, or a format that no step runs in.
    """
    word = precision.lower().strip()
    dtype = _DTYPE_OF_WORD.get(word, word.replace("_", "-"))
    if dtype not in DTYPES:
        raise UnsupportedError(f"precision {precision[:40]!r} cannot be asked", hint=f"one of: {', '.join(DTYPES)}")
    return dtype


@lru_cache(maxsize=1024)
def software_of(framework: str) -> Software:
    """Version or year of the software that a table names; empty where it says neither."""
    if "no cuDNN" in framework:
        return Software(year=2016, convolution="plain")
    torch = re.search(r"PyTorch (\d{1,2}\.\d{1,2})", framework, re.ASCII)
    attention = "math" if re.search(r"\bHF\b", framework) else None
    if torch:
        return Software(torch=torch.group(1), attention=attention)
    cudnn = re.search(r"cudnn(?: version=| |\[r)(\d{1,2})", framework.lower(), re.ASCII)
    container = re.search(r"NGC \w+[-:](\d\d)\.", framework, re.ASCII)
    year = _YEAR_OF_CUDNN.get(int(cudnn.group(1))) if cudnn else 2000 + int(container.group(1)) if container else None
    if "llm-foundry" in framework:  # its tables were measured with the Triton kernels of 2023
        return Software(year=2023)
    return Software(year=year, attention=attention)


def release_of(framework: str) -> str:
    """Name and version of a framework without build tags, for grouping.

    >>> release_of("PyTorch 2.4.0 cu124 eager"), release_of("Torch7 cuDNN 5.1.05 CUDA 8.0")
    ('PyTorch 2.4', 'Torch7 cuDNN 5.1')
    """
    plain = re.sub(r"\b(eager|torch\.compile|cu\d+|cpu|HF)\b", " ", framework)
    match = re.match(r"(.*?\d+\.\d+)", " ".join(plain.split()))
    return (match.group(1) if match else " ".join(plain.split()))[:40]
