"""Whether installed packages and libraries belong together."""

from __future__ import annotations

import re

from rigwise.facts.software import builds, version
from rigwise.machine.doctor.types import Answer, Facts, ok, problem, unknown

#: PyTorch 2.N came with torchvision 0.(N + 15). Source: torchvision's README, table of versions.
VISION_OFFSET = 15
#: PyTorch before this was built for NumPy 1. Source: pytorch/pytorch#135013; NumPy 2 is supported from 2.3.
NUMPY_2 = (2, 3)


def _cudnn(facts: Facts) -> str:
    """The cuDNN that pip installed."""
    return next(
        (str(value) for name, value in facts.section("software").items() if name.startswith("nvidia_cudnn")), ""
    )


def _on_path(facts: Facts, pattern: str) -> list[str]:
    return [path for path in facts.get("seen.path_libraries") or [] if re.search(pattern, path)]


def framework_missing(facts: Facts) -> Answer:
    """A GPU, and no framework in the environment that this runs in."""
    names = ("torch", "tensorflow", "jax", "vllm", "onnxruntime_gpu", "openvino", "tensorrt", "cupy_cuda12x")
    found = [f"{name} {facts.text(f'software.{name}')}" for name in names if f"software.{name}" in facts.values]
    return ok(", ".join(found)) if found else problem("no framework is installed beside this Python")


def tensorflow_libraries(facts: Facts) -> Answer:
    """TensorFlow on a GPU machine without the CUDA libraries it loads."""
    pip = _cudnn(facts)
    system = [path for path in facts.get("driver.libraries") or [] if "libcudnn.so" in path] or _on_path(
        facts, r"libcudnn\.so"
    )
    if pip or system:
        return ok(f"cuDNN {pip}" if pip else system[0])
    if "seen.path_libraries" not in facts.values:
        return unknown("folders of libraries were not looked at")
    return problem(f"TensorFlow {facts.text('software.tensorflow')} is installed, cuDNN is nowhere")


def jax_libraries(facts: Facts) -> Answer:
    """CUDA libraries older than JAX was built for, or others that come first."""
    shadow = _on_path(facts, r"/lib(cudnn|cublas|cusparse|cudart)\w*\.so")
    if shadow:
        return problem(f"{shadow[0]} is searched before what JAX brings")
    installed, jax = _cudnn(facts), facts.text("software.jax")
    major = "13" if "software.jax_cuda13_plugin" in facts.values else "12"
    known = [build for build in builds("jax") if build.cudnn and build.cuda == major]
    ranges = [build for build in known if version(build.version) <= version(jax)]
    least = re.search(r">=([\d.]+)", ranges[0].cudnn) if ranges else None
    if least and installed and version(installed) < version(least[1]):
        return problem(f"cuDNN {installed} is installed, JAX {jax} needs {least[1]}")
    if "seen.path_libraries" not in facts.values:
        return unknown("folders of libraries were not looked at")
    return ok(f"cuDNN {installed or 'is not from pip'}")


def jax_versions(facts: Facts) -> Answer:
    """jax, jaxlib and the CUDA plugin of different versions."""
    found = {
        name.removeprefix("software."): str(value)
        for name, value in facts.values.items()
        if re.fullmatch(r"software\.(jax|jaxlib|jax_cuda1[23]_plugin)", name)
    }
    shown = ", ".join(f"{name} {value}" for name, value in found.items())
    if len({version(value)[:2] for value in found.values()}) > 1:
        return problem(shown)
    plugins = {value for name, value in found.items() if name.endswith("plugin")}
    if plugins and found.get("jaxlib") and version(found["jaxlib"]) not in {version(value) for value in plugins}:
        return problem(shown)
    return ok(shown)


def cudnn_major(facts: Facts) -> Answer:
    """Packages that need different major versions of cuDNN, or another one that is searched first."""
    from rigwise.machine.doctor.rules import tables

    needs: dict[str, int] = {}
    for package, bands in tables().cudnn_needs.items():
        installed = facts.text(f"software.{package}")
        fitting = [
            (version(start), major)
            for start, major in bands.items()
            if installed and version(start) <= version(installed)
        ]
        if package == "torch" and facts.get("software.torch_cuda", "none") == "none":
            continue
        if fitting:
            needs[f"{package} {installed}"] = max(fitting)[1]
    if not needs:
        return ok("nothing here loads cuDNN")
    if len(set(needs.values())) > 1:
        return problem("; ".join(f"{package} needs cuDNN {major}" for package, major in needs.items()))
    major = next(iter(needs.values()))
    other = [path for path in _on_path(facts, r"/libcudnn\w*\.so\.\d") if not re.search(rf"\.so\.{major}(\.|$)", path)]
    if other:
        return problem(f"{next(iter(needs))} needs cuDNN {major}, and {other[0]} is searched first")
    if _cudnn(facts) and version(_cudnn(facts))[0] != major:
        return problem(f"{next(iter(needs))} needs cuDNN {major}, installed is {_cudnn(facts)}")
    if "seen.path_libraries" not in facts.values:
        return unknown("folders of libraries were not looked at")
    return ok(f"everything needs cuDNN {major}")


def nvjitlink(facts: Facts) -> Answer:
    """Libraries of a CUDA toolkit on ``LD_LIBRARY_PATH`` before those that came with PyTorch."""
    folders = facts.variables().get("LD_LIBRARY_PATH", "").split(":")
    found = [
        path
        for path in _on_path(facts, r"/lib(nvJitLink|cusparse|cublas)\w*\.so")
        if path.rpartition("/")[0] in folders
    ]
    if found:
        return problem(f"{found[0]} is searched before what PyTorch {facts.text('software.torch')} brings")
    return ok("no other CUDA libraries are searched first")


def libstdcxx(facts: Facts) -> Answer:
    """A libstdc++ that is found first and older than the system's."""
    found = facts.get("seen.libstdcxx") or {}
    system = [number for folder, number in found.items() if folder.startswith("/usr/lib")]
    first = [(folder, number) for folder, number in found.items() if not folder.startswith("/usr/lib")]
    for folder, number in first:
        if system and number < max(system):
            return problem(f"{folder}/libstdc++.so.6 has GLIBCXX_3.4.{number}, the system's 3.4.{max(system)}")
    return ok(f"GLIBCXX_3.4.{max(found.values())}" if found else "one libstdc++")


def glibc(facts: Facts) -> Answer:
    """Wheels that were built for a newer C library."""
    here = facts.text("system.glibc")
    for package, tags in (facts.get("seen.wheel_tags") or {}).items():
        wanted = [(int(major), int(minor)) for major, minor in re.findall(r"manylinux_(\d)_(\d+)", " ".join(tags))]
        if wanted and version(here)[:2] < min(wanted):
            return problem(f"{package} needs glibc {'.'.join(map(str, min(wanted)))}, here is {here}")
    return ok(f"glibc {here}")


def vision_pair(facts: Facts) -> Answer:
    """Torchvision of another release, or for another CUDA, than PyTorch."""
    torch, vision = (
        facts.text("software.torch_local") or facts.text("software.torch"),
        facts.text("software.torchvision"),
    )
    pair = f"torch {torch}, torchvision {vision}"
    if (
        version(torch)[:1] == (2,)
        and version(vision)[:1] == (0,)
        and version(vision)[1] != version(torch)[1] + VISION_OFFSET
    ):
        return problem(f"{pair}; to it belongs 0.{version(torch)[1] + VISION_OFFSET}")
    tags = [text.partition("+")[2] for text in (torch, vision)]
    if all(tags) and tags[0] != tags[1]:
        return problem(f"{pair}: one is for {tags[0]}, the other for {tags[1]}")
    return ok(pair)


def audio_pair(facts: Facts) -> Answer:
    """Torchaudio of another release than PyTorch."""
    torch, audio = facts.text("software.torch"), facts.text("software.torchaudio")
    if not audio or version(torch)[:2] >= (2, 9):
        return ok("torchaudio is not installed" if not audio else f"torchaudio {audio}")
    if version(torch)[:2] != version(audio)[:2]:
        return problem(f"torch {torch}, torchaudio {audio}")
    return ok(f"torch {torch}, torchaudio {audio}")


def numpy_abi(facts: Facts) -> Answer:
    """NumPy 2 with a PyTorch that was built for NumPy 1."""
    numpy, torch = facts.text("software.numpy"), facts.text("software.torch")
    if version(numpy) >= (2,) and version(torch) < NUMPY_2:
        return problem(f"NumPy {numpy} with PyTorch {torch}")
    return ok(f"NumPy {numpy} with PyTorch {torch}")


def conda_build(facts: Facts) -> Answer:
    """Conda chose a CPU build although there is a GPU."""
    found = facts.get("seen.conda_builds") or {}
    for package, build in found.items():
        if re.search(r"(^|_)cpu", build) and "cuda" not in build:
            return problem(f"conda installed {package} as {build}")
    return ok(", ".join(f"{package} {build}" for package, build in found.items()) or "conda installed no framework")


def avx(facts: Facts) -> Answer:
    """A CPU, or a virtual one, without the instructions that wheels are compiled for."""
    isa = facts.get("cpu.isa") or []
    if facts.text("system.machine") not in ("", "x86_64") or "neon" in isa:
        return ok("it is no x86 CPU")
    lacking = [name for name in ("avx", "avx2", "fma") if name not in isa]
    if "avx" in lacking:
        where = "the virtual machine does not show it" if facts.get("cpu.virtual") else "the CPU has none"
        return problem(f"no AVX: {where}")
    return ok(f"{', '.join(isa)}" + (f" (without {', '.join(lacking)})" if lacking else ""))


def cuda_runtimes(facts: Facts) -> Answer:
    """Several CUDA runtimes on the search path."""
    found = {path: match[1] for path in _on_path(facts, r"libcudart\.so") if (match := re.search(r"\.so\.(\d+)", path))}
    if len(set(found.values())) > 1:
        return problem(", ".join(sorted(found)))
    return ok(next(iter(found), "no CUDA runtime on the search path"))
