"""Every target by name: which files it has, and which framework and Python it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from rigwise.errors import InvalidInputError, UnknownNameError, near_matches
from rigwise.facts.executed import Row, row_of
from rigwise.sandbox import clouds, containers, launchers, notebooks, packages, schedulers
from rigwise.sandbox.environment import Wish, resolve
from rigwise.sandbox.place import Place
from rigwise.sandbox.setting import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One target.

    Attributes:
        about: What it is, for the list of targets.
        write: Setting -> files.
        framework: The only one it is for; empty for any.
        in_image, elsewhere: Where Python and C library come from; see ``Wish``.
        beside: A tool that is compiled against the framework; empty for none.
    """

    about: str
    write: Callable[[Setting], dict[str, str]]
    framework: str = ""
    in_image: bool = False
    elsewhere: bool = False
    beside: str = ""


TARGETS: Mapping[str, Kind] = {
    "pip": Kind(about="exact requirements for pip", write=packages.pip),
    "uv": Kind(about="a uv project", write=packages.uv),
    "conda": Kind(about="a conda environment", write=packages.conda),
    "pixi": Kind(about="a pixi workspace", write=packages.pixi),
    "docker": Kind(about="a Dockerfile", write=containers.docker, in_image=True),
    "compose": Kind(about="docker compose with GPUs", write=containers.compose, in_image=True),
    "apptainer": Kind(about="an Apptainer definition", write=containers.apptainer, in_image=True),
    "devcontainer": Kind(about="a development container", write=containers.devcontainer, in_image=True),
    "slurm": Kind(about="a Slurm job script", write=schedulers.slurm),
    "pbs": Kind(about="a PBS job script", write=schedulers.pbs),
    "skypilot": Kind(about="a SkyPilot task", write=clouds.skypilot, elsewhere=True),
    "dstack": Kind(about="a dstack task", write=clouds.dstack, elsewhere=True),
    "kubernetes": Kind(about="a Kubernetes JobSet", write=clouds.kubernetes, elsewhere=True),
    "torchrun": Kind(about="a torchrun launcher", write=launchers.torchrun, framework="torch"),
    "accelerate": Kind(about="a configuration of Accelerate", write=launchers.accelerate, framework="torch"),
    "tensorflow": Kind(about="TensorFlow with its strategies", write=launchers.tensorflow, framework="tensorflow"),
    "horovod": Kind(about="Horovod", write=launchers.horovod, framework="torch", beside="horovod"),
    "jupyter": Kind(about="JupyterLab with password and TLS", write=notebooks.jupyter),
    "colab": Kind(about="a notebook for Colab", write=notebooks.colab, elsewhere=True),
    "kaggle": Kind(about="a notebook for Kaggle", write=notebooks.kaggle, elsewhere=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """What the user states for the files; see ``Setting``."""

    command: tuple[str, ...] = ()
    name: str = ""
    modules: tuple[str, ...] = ()
    image: str = ""
    accelerator: str = ""
    cpus: int | None = None


def kind_of(target: str) -> Kind:
    """The target of a name.

    Raises:
        UnknownNameError: There is none.
    """
    if target not in TARGETS:
        close = near_matches(target, (*TARGETS, "verify")) or f"one of {', '.join(TARGETS)}"
        raise UnknownNameError(f"there is no target {target[:40]!r}", hint=close)
    return TARGETS[target]


def setting_of(target: str, place: Place, wish: Wish, extra: Extra) -> Setting:
    """Everything that the files of a target are written from.

    Raises:
        UnknownNameError: There is no such target.
        InvalidInputError: It is for another framework, or a word cannot stand in a file.
        InfeasibleError: No known build fits.
    """
    kind = kind_of(target)
    asked = wish.framework.partition("==")[0]
    if kind.framework and wish.framework != Wish().framework and asked != kind.framework:
        raise InvalidInputError(f"{target} is for {kind.framework}, not {asked[:40]}", hint="leave --framework away")
    framework = wish.framework if asked == kind.framework or not kind.framework else kind.framework
    whole = replace(wish, framework=framework, in_image=kind.in_image, elsewhere=kind.elsewhere, beside=kind.beside)
    if extra.cpus is not None:
        place = replace(place, cpus=extra.cpus)
    return Setting(
        place=place, environment=resolve(place, whole), command=extra.command, name=extra.name or _name(place),
        modules=extra.modules, image=extra.image, accelerator=extra.accelerator, level=level_sentence(target),
    )  # fmt: skip


def _name(place: Place) -> str:
    """A name for the job: the model's, as far as schedulers and clouds take it."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in place.work.model.lower())
    joined = "-".join(part for part in plain.split("-") if part)[:30].strip("-")
    return f"rigwise-{joined}" if joined else "rigwise"


def render(target: str, setting: Setting) -> dict[str, str]:
    """The files of a target, path -> text; the same setting always gives the same text."""
    return kind_of(target).write(setting)


def verified(target: str) -> Row:
    """How far the files of a target have been verified."""
    return row_of(f"setup {target}")


def level_sentence(target: str) -> str:
    """The same as a sentence for the files and for the terminal."""
    row = verified(target)
    when = row.when if row.when[:1].isdigit() else row.when.replace("every", "in every")
    never = "" if row.level == "executed" else " These files have never been executed."
    return f"Verified: {row.level} ({row.on}; {when}).{never}"
