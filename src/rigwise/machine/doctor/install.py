"""What to install: the newest build that this driver loads, this GPU runs, and this Python and C library take.

Tools that go by the driver alone send a V100 with driver 580 to builds for CUDA 13, which hold no code for it.
Source: data/software/*.csv; unslothai/unsloth#5876 is such a case, mended by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rigwise.errors import AmbiguousNameError, InvalidInputError, MissingFactError
from rigwise.facts import catalogue
from rigwise.facts.registries import registries
from rigwise.facts.software import Build, builds, cuda_releases, driver_floor, runs_on, version
from rigwise.machine.doctor.types import Facts

FRAMEWORKS = ("torch", "jax", "tensorflow")
#: glibc that wheels of PyTorch ask for from 2.7 on, and before it. Source: tags of wheels, 2.6.0 and 2.7.1 measured.
TORCH_GLIBC = (((2, 7), "2.28"), ((2, 0), "2.17"))
#: Names of the processor that the tables are of.
X86 = ("x86_64", "amd64", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a build must fit.

    Attributes:
        driver: NVIDIA driver; empty where there is none.
        capabilities: Compute capability of every GPU; empty without NVIDIA GPUs.
        python: ``3.11``; empty for any.
        glibc: ``2.36``; empty for any.
        machine: Kind of processor, ``x86_64``; empty for that.
        cards: NVIDIA GPUs that are there, whether or not a driver works.
    """

    driver: str = ""
    capabilities: tuple[str, ...] = ()
    python: str = ""
    glibc: str = ""
    machine: str = ""
    cards: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to install, and why not something newer.

    Attributes:
        framework: Of which.
        build: The one chosen; None if none fits, or if the CPU build does.
        spec: What to ask an installer for; empty if nothing fits.
        index: Address of the index it comes from; empty for the default one.
        why: Why this one, in one sentence.
        refused: Newer builds and the first reason against each, newest first.
        assumed: What had to be assumed.
    """

    framework: str
    build: Build | None
    spec: str
    index: str
    why: str
    refused: tuple[tuple[str, str], ...] = ()
    assumed: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The line to type; empty if nothing fits."""
        where = f" --index-url {self.index}" if self.index else ""
        quoted = f"'{self.spec}'" if "[" in self.spec else self.spec
        return f"pip install {quoted}{where}" if self.spec else ""


def capability_of(name: str) -> str:
    """Compute capability of the GPU of this name; a name of several variants will do where they share it.

    Raises:
        UnknownNameError: No accelerator has the name.
        AmbiguousNameError: Several have it, and differ in this.
        MissingFactError: It is no GPU of NVIDIA.

    >>> capability_of("V100"), capability_of("rtx-4090")
    ('7.0', '8.9')
    """
    try:
        found = catalogue.device(name)
    except AmbiguousNameError:
        variants = [catalogue.device(one) for one in catalogue.device_names().candidates(name)]
        if len({one.compute_capability for one in variants}) > 1:
            raise
        found = variants[0]
    if not found.compute_capability:
        raise MissingFactError(f"{found.name} has no compute capability", hint="builds for CUDA are for NVIDIA GPUs")
    return found.compute_capability


def target_of(facts: Facts) -> Target:
    """What a build must fit on the machine of these facts."""
    from rigwise.machine.doctor.checks.gpu import driver_of
    from rigwise.machine.doctor.conditions import cards

    gpus = facts.rows("gpus")
    return Target(
        driver=driver_of(facts),
        capabilities=tuple(sorted({str(gpu["compute_capability"]) for gpu in gpus if "compute_capability" in gpu})),
        python=".".join(facts.text("system.python").split(".")[:2]),
        glibc=facts.text("system.glibc"),
        machine=facts.text("system.machine"),
        cards=cards(facts, "NVIDIA"),
    )


def _any(build: Build) -> bool:
    return True


def advise(framework: str, target: Target, wanted: Callable[[Build], bool] = _any) -> Advice:
    """The newest build of a framework that fits, of those that are wanted.

    Raises:
        InvalidInputError: There is no such framework in the tables.

    >>> v100 = Target(driver="580.65.06", capabilities=("7.0",), python="3.12", glibc="2.35")
    >>> advise("torch", v100).build.tag
    'cu126'
    """
    if framework not in FRAMEWORKS:
        raise InvalidInputError(f"what fits {framework!r} is not known", hint=f"one of {', '.join(FRAMEWORKS)}")
    if (target.capabilities or target.cards) and not target.driver:
        return Advice(framework=framework, build=None, spec="", index="", why="install the NVIDIA driver first")
    if target.driver and not target.capabilities:
        why = "the compute capability of the GPU is unknown: name it with --device"
        return Advice(framework=framework, build=None, spec="", index="", why=why)
    if not target.capabilities:
        return _without_gpu(framework, target, wanted)
    refused: list[tuple[str, str]] = []
    for build in filter(wanted, builds(framework)):
        reason = against(build, target)
        if not reason:
            return _chosen(build, target, tuple(refused))
        refused.append((_name(build), reason))
    why = f"none of {len(refused)} known builds fits"
    return Advice(
        framework=framework, build=None, spec="", index="", why=why, refused=tuple(refused), assumed=_assumed(target)
    )


def against(build: Build, target: Target) -> str:
    """The first reason against a build; empty if it fits.

    A build whose architectures are not known is refused: a wrong one fails at the first kernel.
    """
    floor = build.floor or driver_floor(build.cuda)
    if floor and version(target.driver) < version(floor):
        return f"CUDA {build.cuda} needs driver {floor}, this is {target.driver}"
    lacking = [capability for capability in target.capabilities if not _covers(build, capability)]
    if build.framework == "torch" and not build.confidence:
        return "which architectures it holds is not known"
    if lacking:
        return f"holds no code for compute capability {', '.join(lacking)}"
    pythons = build.pythons or _pythons_of(build)
    if target.python and pythons and target.python not in pythons:
        return f"there is no wheel for Python {target.python} ({pythons[0]} to {pythons[-1]})"
    glibc = _glibc(build)
    if target.glibc and glibc and version(target.glibc) < version(glibc):
        return f"needs glibc {glibc}, here is {target.glibc}"
    return ""


def _covers(build: Build, capability: str) -> bool:
    """Of PyTorch the architectures inside decide, of JAX its maker's word, of TensorFlow what its CUDA compiles for."""
    if build.framework == "torch":
        return runs_on(build.archs, capability)
    if build.framework == "tensorflow":
        of_cuda = [row.capabilities for row in cuda_releases() if row.cuda == build.cuda]
        return bool(of_cuda) and capability in of_cuda[0]
    least = build.capability_least or ("7.5" if version(build.cuda)[:1] == (13,) else "5.2")
    return version(capability) >= version(least)


def _pythons_of(build: Build) -> tuple[str, ...]:
    """Interpreters of the same version's default build, where a build does not state its own."""
    return next(
        (other.pythons for other in builds(build.framework) if other.version == build.version and other.pythons), ()
    )


def _glibc(build: Build) -> str:
    if build.framework != "torch":
        return "2.17"
    return next((glibc for since, glibc in TORCH_GLIBC if version(build.version) >= since), "")


def _name(build: Build) -> str:
    return f"{build.framework} {build.version}+{build.tag}" if build.framework == "torch" else build.spec


def _chosen(build: Build, target: Target, refused: Sequence[tuple[str, str]]) -> Advice:
    index = "" if build.is_default else registries().wheels[build.framework].url.format(tag=build.tag)
    where = {"torch": f"its architectures are {build.confidence.replace('_', ' ')}"}.get(
        build.framework, "by its maker's statement"
    )
    shown = ", ".join(target.capabilities)
    why = f"driver {target.driver} loads CUDA {build.cuda}, it runs compute capability {shown} ({where})"
    return Advice(
        framework=build.framework, build=build, spec=build.spec, index=index, why=why, refused=tuple(refused),
        assumed=_assumed(target),
    )  # fmt: skip


def _without_gpu(framework: str, target: Target, wanted: Callable[[Build], bool]) -> Advice:
    """The newest CPU build that this Python and C library take."""
    refused: list[tuple[str, str]] = []
    for build in filter(wanted, builds(framework)):
        pythons, glibc = build.pythons or _pythons_of(build), _glibc(build)
        if target.python and pythons and target.python not in pythons:
            refused.append((build.version, f"there is no wheel for Python {target.python}"))
        elif target.glibc and glibc and version(target.glibc) < version(glibc):
            refused.append((build.version, f"needs glibc {glibc}, here is {target.glibc}"))
        else:
            index = registries().wheels["torch"].url.format(tag="cpu") if framework == "torch" else ""
            return Advice(
                framework=framework, build=None, spec=f"{framework}=={build.version}", index=index,
                why="no NVIDIA GPU is known here: the build for the CPU", refused=_once(refused),
                assumed=_assumed(target),
            )  # fmt: skip
    why = "no known build fits this Python and C library"
    return Advice(
        framework=framework, build=None, spec="", index="", why=why, refused=_once(refused), assumed=_assumed(target)
    )


def _once(refused: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(dict.fromkeys(refused))


def _assumed(target: Target) -> tuple[str, ...]:
    lines = []
    if target.machine not in X86:
        lines.append(f"the tables are of wheels for x86-64; this is {target.machine}")
    lines += ["any Python"] if not target.python else []
    lines += ["any C library"] if not target.glibc else []
    return tuple(lines)
