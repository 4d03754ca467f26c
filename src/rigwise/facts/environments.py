"""What an environment is made of beside the framework: base images, tools, and what other programs call a device.

The files are ``data/software/images.csv`` and ``data/software/setup.toml``, each row with its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from rigwise.edge import parse, parse_toml, read_text
from rigwise.errors import MissingFactError, near_matches
from rigwise.facts.software import FOLDER, read_rows, version


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """One published container image to build on.

    Attributes:
        image, tag: Its name and tag.
        cuda: CUDA version whose driver it asks for; empty for none.
        system, python, glibc: What is inside.
        source, note: Where the row was read, and what to know about it.
    """

    image: str
    tag: str
    cuda: str
    system: str
    python: str
    glibc: str
    source: str
    note: str

    @property
    def name(self) -> str:
        """What ``FROM`` is followed by."""
        return f"{self.image}:{self.tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Default:
    """What is taken where nothing else decides, and why."""

    value: str
    why: str
    source: str
    date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program that generated files install or call; ``below`` is the first PyTorch that it does not compile with."""

    version: str
    source: str
    date: str
    below: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumpyRule:
    """Which NumPy an old PyTorch needs."""

    torch_below: str
    spec: str
    source: str
    date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Accelerators:
    source: str
    date: str
    skypilot: dict[str, str]
    dstack: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupFacts:
    """``setup.toml``."""

    assumed_driver: Default
    python: Default
    tools: dict[str, Tool]
    numpy: NumpyRule
    accelerators: _Accelerators


@cache
def setup_facts() -> SetupFacts:
    """The file, checked.

    Raises:
        InvalidInputError: It cannot be used.
    """
    path = FOLDER / "setup.toml"
    return parse(parse_toml(read_text(path), path.name), SetupFacts, path.name)


@cache
def base_images() -> tuple[BaseImage, ...]:
    """Every base image, in the order of the file: of two that fit, the first is preferred."""
    return read_rows(
        "images.csv",
        lambda row: BaseImage(**{name: row[name] for name in BaseImage.__dataclass_fields__}),
    )


def base_image(cuda: str, python: str) -> BaseImage | None:
    """The image for a CUDA version, or the plain Python image for none; None if the table has no such image.

    An image for CUDA brings the Python of its system, so that one has to be the one asked for.

    >>> base_image("12.6", "3.12").name, base_image("", "3.11").name
    ('nvidia/cuda:12.6.3-base-ubuntu24.04', 'python:3.11-slim-bookworm')
    """
    fitting = (row for row in base_images() if row.cuda == cuda and (not python or row.python == python))
    return next(fitting, None)


def tool(name: str) -> Tool:
    """A tool and its version.

    Raises:
        MissingFactError: The table has none of the name.
    """
    known = setup_facts().tools
    if name not in known:
        raise MissingFactError(f"no version of {name} is known", hint=near_matches(name, known))
    return known[name]


def accelerator_name(program: str, device: str) -> str:
    """What SkyPilot (``skypilot``) or dstack (``dstack``) calls a device of the catalogue.

    Raises:
        MissingFactError: The table has no name for it.

    >>> accelerator_name("skypilot", "a100-sxm4-80gb"), accelerator_name("dstack", "a100-sxm4-80gb")
    ('A100-80GB', 'A100')
    """
    names: Mapping[str, str] = getattr(setup_facts().accelerators, program)
    if device not in names:
        raise MissingFactError(f"what {program} calls {device} is not known", hint="give it with --accelerator NAME")
    return names[device]


def numpy_for(torch: str) -> str:
    """What to ask of NumPy beside this PyTorch; empty if any will do.

    >>> numpy_for("2.0.1"), numpy_for("2.14.1")
    ('numpy<2', '')
    """
    rule = setup_facts().numpy
    return rule.spec if version(torch) < version(rule.torch_below) else ""
