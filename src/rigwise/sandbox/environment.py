"""Which versions a job runs on: one resolver for every target, each choice with its reason and source.

Driver floor x compute capability x architectures inside the build x Python x C library decide together; what fits is
``doctor.install.advise``. A machine that nobody has looked at gets a build that the oldest driver for CUDA 12 loads.
Source: ``facts/data/software/*.csv`` and ``setup.toml``, row by row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rigwise.errors import InfeasibleError, InvalidInputError, near_matches
from rigwise.facts.environments import BaseImage, base_image, base_images, numpy_for, setup_facts, tool
from rigwise.facts.registries import registries
from rigwise.facts.software import (
    Build,
    Container,
    builds,
    containers,
    cuda_for,
    cuda_releases,
    driver_floor,
    first_driver,
    version,
)
from rigwise.machine.doctor.install import FRAMEWORKS, TORCH_GLIBC, Advice, Target, advise
from rigwise.sandbox.place import Place

#: What ``--index`` takes for the index that installers ask by themselves.
DEFAULT_INDEX = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user states beside the place.

    Attributes:
        framework: ``torch``, ``jax`` or ``tensorflow``, or one with a version, ``torch==2.13.0``.
        driver, python, glibc: In place of what is known of the machine; empty for that.
        index: Another address for the framework's builds, or ``default``; empty for its maker's.
        in_image: Whether Python and C library come from a base image.
        elsewhere: Whether they come from neither that nor this machine.
        beside: A tool that has to compile with the framework, ``horovod``; empty for none.
    """

    framework: str = "torch"
    driver: str = ""
    python: str = ""
    glibc: str = ""
    index: str = ""
    in_image: bool = False
    elsewhere: bool = False
    beside: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One decision: what, which, why, and where that is written."""

    what: str
    value: str
    why: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The versions of everything that a job needs.

    Attributes:
        framework, version: ``torch`` and its version without the local tag.
        tag: ``cu126`` or ``cpu``; empty where the package's extra decides.
        cuda: CUDA version of the build; empty for the CPU.
        requirements: What to ask an installer for, exact.
        index: Address that the framework comes from; empty for the default index.
        python: ``3.12``.
        driver_floor: The oldest NVIDIA driver that loads it; empty for the CPU.
        glibc: The oldest C library that its wheels take; empty where unknown.
        image: Base image that holds this Python; None if the table has none.
        ready_made: The newest image of the framework's maker that this driver loads; None for the CPU.
        choices: Every decision above.
        assumed: What had to be assumed.
    """

    framework: str
    version: str
    tag: str
    cuda: str
    requirements: tuple[str, ...]
    index: str
    python: str
    driver_floor: str
    glibc: str
    image: BaseImage | None
    ready_made: Container | None
    choices: tuple[Choice, ...]
    assumed: tuple[str, ...]

    @property
    def install_arguments(self) -> str:
        """What follows ``pip install`` besides the requirements; empty for the default index."""
        return f"--index-url {self.index}" if self.index else ""


def resolve(place: Place, wish: Wish) -> Environment:
    """The newest environment that runs at a place.

    Raises:
        InvalidInputError: A wish cannot be read, or there is no such build.
        InfeasibleError: No known build fits.
    """
    framework, exact = _framework(wish.framework)
    wanted = _wanted(exact, wish.beside)
    target, given = _target(place, wish)
    advice = _with_python(framework, target, wanted, fixed=bool(target.python))
    if not advice.spec:
        last = advice.refused[0] if advice.refused else None
        newest = f"{last[0]}: {last[1]}" if last else "rigwise doctor says what is missing"
        raise InfeasibleError(f"{framework} for {place.device_name}: {advice.why}", hint=newest)
    return _environment(advice, place, wish, (target, given))


def _framework(text: str) -> tuple[str, str]:
    """Framework and exact version of ``torch==2.13.0``."""
    name, _, exact = text.partition("==")
    if name not in FRAMEWORKS:
        close = near_matches(name, FRAMEWORKS) or f"one of {', '.join(FRAMEWORKS)}"
        raise InvalidInputError(f"there is no framework {name[:40]!r}", hint=close)
    known = list(dict.fromkeys(build.version for build in builds(name)))
    if "==" in text and exact not in known:
        close = near_matches(exact, known) or f"the newest is {known[0]}"
        raise InvalidInputError(f"{name} {exact[:40]!r} is in no table", hint=close)
    return name, exact


def _wanted(exact: str, beside: str) -> Callable[[Build], bool]:
    below = version(tool(beside).below) if beside else ()

    def fits(build: Build) -> bool:
        return (not exact or build.version == exact) and (not below or version(build.version) < below)

    return fits


def _target(place: Place, wish: Wish) -> tuple[Target, tuple[Choice, ...]]:
    """What a build must fit, and the choices that this took."""
    for name in ("driver", "python", "glibc"):
        text = getattr(wish, name)
        if text and (not version(text) or len(text) > 40 or version(text) == (0,)):
            raise InvalidInputError(f"--{name} is {text[:40]!r}", hint="give a version, 3.12 say")
    known, choices = place.target, list[Choice]()
    driver = wish.driver or known.driver if known.capabilities or known.cards else ""
    if not driver and known.capabilities and place.of != "this machine":
        choices.append(_assumed_driver(known.capabilities))
        driver = choices[-1].value
    elif driver and known.capabilities:
        why, source = ("as stated", "--driver") if wish.driver else ("the driver here", place.of)
        choices.append(Choice(what="driver", value=driver, why=why, source=source))
    python = ".".join((wish.python or ("" if wish.in_image or wish.elsewhere else known.python)).split(".")[:2])
    glibc = wish.glibc or ("" if wish.in_image or wish.elsewhere else known.glibc)
    return replace(known, driver=driver, python=python, glibc=glibc), tuple(choices)


def _assumed_driver(capabilities: tuple[str, ...]) -> Choice:
    """The driver taken for a machine that nobody has looked at: the oldest that knows the GPU and loads CUDA 12.

    Of a GPU that CUDA 12 has dropped or not yet known, the oldest that loads a CUDA for it.
    """
    default = setup_facts().assumed_driver
    cuda = min((cuda_for(capability, 12) for capability in capabilities), key=version)
    loads = default.value if version(cuda)[:1] == (12,) else driver_floor(cuda or cuda_for(capabilities[0], 99))
    first = max((first_driver(capability) for capability in capabilities), key=version)
    driver = max(loads, first, key=version)
    why = default.why if driver == default.value else f"the oldest driver for compute capability {capabilities[-1]}"
    return Choice(what="driver", value=driver, why=f"assumed: {why}", source=default.source)


def _with_python(framework: str, target: Target, wanted: Callable[[Build], bool], *, fixed: bool) -> Advice:
    """Advice for a Python: the stated one, else the default one, else the newest that a build has."""
    if fixed:
        return advise(framework, target, wanted)
    default = advise(framework, replace(target, python=setup_facts().python.value), wanted)
    return default if default.spec else advise(framework, target, wanted)


def _environment(advice: Advice, place: Place, wish: Wish, fitted: tuple[Target, tuple[Choice, ...]]) -> Environment:
    target, choices = fitted
    framework, number = advice.framework, advice.spec.partition("==")[2]
    build = advice.build
    cuda = build.cuda if build else ""
    python, python_choice = _python(advice, target, place, stated=bool(wish.python))
    image = _image(cuda, python, wish, advice)
    if wish.in_image and not wish.python and image is not None:
        python, python_choice = image.python, replace(python_choice, value=image.python, why=f"that of {image.name}")
    tag = ("cpu" if framework == "torch" else "") if build is None else build.tag
    index = _index(framework, tag, advice, wish)
    floor = _least_driver(build, target) if build else ""
    local = f"+{tag}" if framework == "torch" and index else ""
    numpy = numpy_for(number) if framework == "torch" else ""
    tables = setup_facts()
    found = [
        Choice(what=framework, value=f"{number}{local}", why=advice.why, source=_source_of(framework, build)),
        *choices,
        *(
            [
                Choice(
                    what="least driver",
                    value=floor,
                    why=f"loads CUDA {cuda} and knows the GPU",
                    source="software/cuda.csv",
                )
            ]
            * bool(floor)
        ),
        python_choice,
    ]
    if numpy:
        why = f"{framework} {number} was compiled for NumPy 1"
        found.append(Choice(what="NumPy", value=numpy, why=why, source=tables.numpy.source))
    if wish.in_image and image:
        why = f"its driver check and Python {image.python} fit" if image.cuda else f"it holds Python {image.python}"
        found.append(Choice(what="base image", value=image.name, why=why, source=image.source))
    glibc = _glibc(framework, number)
    return Environment(
        framework=framework, version=number, tag=tag, cuda=cuda,
        requirements=(f"{advice.spec}{local}", *([numpy] if numpy else [])), index=index, python=python,
        driver_floor=floor, glibc=glibc, image=image,
        ready_made=_ready_made(build, target) if build else None,
        choices=(*found, *_refused(advice)), assumed=(*place.assumed, *_assumed(advice, target, wish, glibc)),
    )  # fmt: skip


def _assumed(advice: Advice, target: Target, wish: Wish, glibc: str) -> list[str]:
    """What the advice had to assume, but for what an image settles."""
    found = [text for text in advice.assumed if text not in ("any Python", "any C library")]
    if glibc and not target.glibc and not wish.in_image:
        found.append(f"glibc {glibc} or newer where it runs")
    return found


def _python(advice: Advice, target: Target, place: Place, *, stated: bool) -> tuple[str, Choice]:
    """The Python of the environment, and why."""
    number = advice.spec.partition("==")[2]
    pythons = next((row.pythons for row in builds(advice.framework) if row.version == number and row.pythons), ())
    source = f"software/{advice.framework}.csv"
    if target.python:
        whose = "as stated" if stated else f"that of {place.of}"
        why = f"{whose}; {advice.framework} {number} has a wheel for it"
        return target.python, Choice(what="Python", value=target.python, why=why, source=source)
    default = setup_facts().python
    if not pythons or default.value in pythons:
        return default.value, Choice(what="Python", value=default.value, why=default.why, source=default.source)
    plain = [python for python in pythons if not python.endswith("t")]
    newest = max(plain, key=version)
    why = f"the newest that {advice.framework} {number} has a wheel for"
    return newest, Choice(what="Python", value=newest, why=why, source=source)


def _image(cuda: str, python: str, wish: Wish, advice: Advice) -> BaseImage | None:
    """An image for this CUDA, else the plain image of this Python: wheels bring their CUDA libraries with them."""
    exact = base_image(cuda, python) if cuda else None
    if exact or not cuda or wish.python:
        return exact or base_image("", python)
    number = advice.spec.partition("==")[2]
    pythons = next((row.pythons for row in builds(advice.framework) if row.version == number and row.pythons), ())
    others = (row for row in base_images() if row.cuda == cuda and row.python in pythons)
    return next(others, None) or base_image("", python)


def _least_driver(build: Build, target: Target) -> str:
    """The oldest driver that loads a build and knows the GPUs."""
    drivers = [build.floor or driver_floor(build.cuda), *map(first_driver, target.capabilities)]
    return max(drivers, key=version)


def _index(framework: str, tag: str, advice: Advice, wish: Wish) -> str:
    if not wish.index:
        return advice.index
    if wish.index == DEFAULT_INDEX:
        return ""
    if not wish.index.startswith(("https://", "http://", "file://", "/")) or any(c.isspace() for c in wish.index):
        raise InvalidInputError(f"--index is {wish.index[:60]!r}", hint=f"give an address, or {DEFAULT_INDEX!r}")
    if "@" in wish.index:
        raise InvalidInputError("--index holds a name or password", hint="put it into netrc or a keyring instead")
    known = registries().wheels.get(framework)
    return wish.index if known is None else wish.index.replace("{tag}", tag)


def _source_of(framework: str, build: Build | None) -> str:
    return build.source.split(";")[0] if build and build.source else f"software/{framework}.csv"


def _glibc(framework: str, number: str) -> str:
    if framework != "torch":
        return ""
    return next((glibc for since, glibc in TORCH_GLIBC if version(number) >= since), "")


def _ready_made(build: Build, target: Target) -> Container | None:
    """The newest image of the framework's maker with the same major version of CUDA that compiles for these GPUs.

    Which architectures it was compiled for is in no table, so it is a hint and never the choice.
    """
    capable = {row.cuda for row in cuda_releases() if set(target.capabilities) <= set(row.capabilities)}
    fitting = [
        row
        for row in containers()
        if row.image.startswith("nvidia/pytorch:")
        and build.framework == "torch"
        and version(row.cuda)[:1] == version(build.cuda)[:1]
        and ".".join(row.cuda.split(".")[:2]) in capable
    ]
    return max(fitting, key=lambda row: version(row.release), default=None)


def _refused(advice: Advice) -> tuple[Choice, ...]:
    """The newest build that was left out, and why."""
    if not advice.refused:
        return ()
    name, why = advice.refused[0]
    return (Choice(what="left out", value=name, why=why, source=f"software/{advice.framework}.csv"),)
