"""Driver, CUDA, cuDNN, NCCL, frameworks and the architectures compiled into them, without importing any of them."""

from __future__ import annotations

import platform
import re
import sys
from mmap import ACCESS_READ, mmap

from rigwise.machine.probe import portable
from rigwise.machine.probe.source import Root, Unreadable, attempt
from rigwise.machine.snapshot import Field

#: Where libraries of a driver or a toolkit lie.
LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib",
    "/usr/local/cuda/compat", "/usr/local/cuda/lib64", "/usr/local/nvidia/lib64",
)  # fmt: skip
_LIBRARY = r"lib(cuda|nvidia-ml|cudnn|nccl|cudart|amdhip64|ze_loader)\.so\.\d"
#: Distributions whose versions decide whether a framework runs.
PACKAGES = (
    "torch", "torchvision", "torchaudio", "triton", "tensorflow", "jax", "jaxlib", "jax_cuda12_plugin",
    "jax_cuda13_plugin", "numpy", "transformers", "vllm", "flash_attn", "bitsandbytes", "onnxruntime",
    "onnxruntime_gpu", "openvino", "tensorrt", "deepspeed", "accelerate", "xformers", "cupy_cuda12x", "ctranslate2",
    "nvidia_ml_py", "mkl", "rigwise",
)  # fmt: skip
_MAKERS = re.compile(r"nvidia_(cuda_runtime|cudnn|nccl|cublas|nvjitlink)(_cu\d+)?$")
#: A framework library larger than this is not searched.
SEARCH_LIMIT_BYTES = 2**30


def driver(root: Root) -> dict[str, Field]:
    """The GPU drivers and the libraries of drivers and toolkits that lie in the usual places."""
    module = root.field("/sys/module/nvidia/version")
    if module.value is None:
        module = root.field("/proc/driver/nvidia/version", driver_version)
    libraries = attempt("folders of libraries", lambda: _libraries(root) or None)
    toolkit = root.field("/usr/local/cuda/version.json", lambda text: _json_version(text, "cuda"))
    return {
        "nvidia": module,
        "nvidia_open": root.field("/proc/driver/nvidia/version", lambda text: "Open Kernel Module" in text),
        "nouveau": attempt("/sys/module/nouveau", lambda: root.exists("/sys/module/nouveau")),
        "amdgpu": root.field("/sys/module/amdgpu/version"),
        "rocm": root.field("/opt/rocm/.info/version"),
        "libraries": libraries,
        "cuda_toolkit": toolkit if toolkit.value else _nvcc(root),
        "cudnn": root.field("/usr/include/cudnn_version.h", cudnn_version),
    }


def driver_version(text: str) -> str:
    """The version in /proc/driver/nvidia/version.

    >>> driver_version("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19")
    '535.104.05'
    """
    return str(re.findall(r"\b(\d{3}\.\d{1,3}(?:\.\d{1,3})?)\b", text)[0])


def _json_version(text: str, key: str) -> str:
    from rigwise.edge import parse_json
    from rigwise.errors import InvalidInputError

    try:
        return str(parse_json(text, "version.json")[key]["version"])
    except InvalidInputError as error:
        raise Unreadable(error.message) from None


def _nvcc(root: Root) -> Field:
    return attempt("nvcc --version", lambda: re.findall(r"release (\d+\.\d+)", root.run("nvcc", "--version"))[0])


def cudnn_version(text: str) -> str:
    r"""The version that cuDNN's header defines.

    >>> cudnn_version("#define CUDNN_MAJOR 9\n#define CUDNN_MINOR 1\n#define CUDNN_PATCHLEVEL 0")
    '9.1.0'
    """
    stated = dict(re.findall(r"#define CUDNN_(MAJOR|MINOR|PATCHLEVEL) (\d{1,6})", text))
    return ".".join(stated[key] for key in ("MAJOR", "MINOR", "PATCHLEVEL"))


def _libraries(root: Root) -> list[str]:
    return [f"{folder}/{name}" for folder in LIBRARIES for name in root.names(folder, _LIBRARY)]


def system(root: Root) -> dict[str, Field]:
    """Operating system, kernel, C library and Python."""
    if root.foreign:
        return portable.system()
    return {
        "os": attempt("/etc/os-release", lambda: _os_name(root)),
        "kernel": attempt("uname -srm", lambda: root.run("uname", "-srm").strip()),
        "machine": attempt("uname -srm", lambda: root.run("uname", "-srm").split()[-1]),
        "glibc": attempt("ldd --version", lambda: re.findall(r"(\d+\.\d+)\s*$", _first_line(root))[0]),
        "python": _python(root),
        "boot_options": root.field("/proc/cmdline", boot_options, kept=boot_options),
        "pressure_cpu_frac": root.field("/proc/pressure/cpu", pressure_frac),
        "load": root.field("/proc/loadavg", lambda text: float(text.split()[0])),
        "uptime_s": root.field("/proc/uptime", lambda text: float(text.split()[0])),
    }


def boot_options(text: str) -> str:
    """Options of the kernel's command line that change how devices reach memory and each other; no others are kept.

    >>> boot_options("root=/dev/sda1 intel_iommu=on quiet"), boot_options("quiet")
    ('intel_iommu=on', 'none')
    """
    return " ".join(re.findall(r"(?<!\S)(?:\S*iommu=\S+|pci=\S+)", text)) or "none"


def _os_name(root: Root) -> str:
    if root.has_program("sw_vers"):
        return " ".join(root.run("sw_vers", "-" + key).strip() for key in ("productName", "productVersion"))
    return str(re.findall(r'(?m)^PRETTY_NAME="?([^"\n]+)', root.text("/etc/os-release"))[0])


def _first_line(root: Root) -> str:
    return root.run("ldd", "--version").splitlines()[0]


def _python(root: Root) -> Field:
    if root.live and root.record is None:
        return Field(value=platform.python_version(), source="this process")
    return attempt("python -V", lambda: root.run(sys.executable, "-V", name="python_-V").split()[-1])


def pressure_frac(text: str) -> float:
    """Share of the last 10 s in which some task waited for a CPU.

    >>> pressure_frac("some avg10=25.00 avg60=1.00 avg300=0.00 total=4711")
    0.25
    """
    return round(float(re.findall(r"some avg10=([\d.]{1,8})", text)[0]) / 100, 6)


def software(root: Root) -> dict[str, Field]:
    """Version of each framework that is installed, by the name of its distribution; and what PyTorch was built for."""
    found: dict[str, Field] = {}
    for folder in root.packages():
        for name in root.names(folder, r"[\w.]+-[\w.+!]+\.dist-info$"):
            package, _, version = name.removesuffix(".dist-info").partition("-")
            key = re.sub(r"[-.]", "_", package).lower()
            if (key in PACKAGES or _MAKERS.match(key)) and key not in found:
                found[key] = Field(value=version, source=f"{folder}/{name}")
        if "torch" in found and found["torch"].source.startswith(folder) and "torch_cuda" not in found:
            found |= _torch(root, folder)
    return found


def _torch(root: Root, folder: str) -> dict[str, Field]:
    """Of ``torch/version.py``, which is read and never run; and the architectures from the library."""
    place = f"{folder}/torch/version.py"
    library = f"{folder}/torch/lib/libtorch_python.so"
    cuda = root.field(place, lambda text: _assigned(text, "cuda"))
    is_cuda = cuda.value not in (None, "none")
    return {
        "torch_local": root.field(place, lambda text: _assigned(text, "__version__")),
        "torch_cuda": cuda,
        "torch_hip": root.field(place, lambda text: _assigned(text, "hip")),
        "torch_archs": attempt(library, lambda: _archs(root, library) if is_cuda else ["none"]),
    }


def _assigned(text: str, name: str) -> str:
    value = re.findall(rf"(?m)^{name}(?:\s*:[^=\n]{{1,40}})?\s*=\s*(?:'([^'\n]*)'|\"([^\"\n]*)\"|(None))", text)[0]
    return value[0] or value[1] or "none"


def _archs(root: Root, library: str) -> list[str]:
    """Of the text that ``torch.cuda.get_arch_list`` splits; it stands in the library as it was given to the build."""
    with root.place(library).open("rb") as stream:
        if stream.seek(0, 2) > SEARCH_LIMIT_BYTES:
            raise Unreadable("it is too large to be searched")
        with mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
            found = arch_list(content)
    if not found:
        raise Unreadable("it names no architecture")
    if root.record is not None:
        root.keep(library, f"\0{' '.join(found)}\0")
    return found


def arch_list(content: bytes | mmap) -> list[str]:
    r"""Architectures of a list such as ``sm_75 sm_80 compute_90`` inside a library.

    >>> arch_list(b"junk\0sm_70 sm_75 sm_90a compute_90\0junk")
    ['sm_70', 'sm_75', 'sm_90a', 'compute_90']
    """
    pattern = re.compile(rb"\0((?:(?:sm|compute)_\d{2,3}[af]?)(?: (?:sm|compute)_\d{2,3}[af]?)*)\0")
    match = pattern.search(content)
    return match[1].decode().split(" ") if match else []
