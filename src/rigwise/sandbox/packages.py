"""Files for installers of packages: pip, uv, conda and pixi."""

from __future__ import annotations

import json

from rigwise.facts.environments import tool
from rigwise.facts.registries import registries
from rigwise.facts.software import version
from rigwise.sandbox.setting import Setting, check_script, comments, explanation, quoted, requirements


def pip(setting: Setting) -> dict[str, str]:
    """``requirements.txt``, and the check that says whether it works."""
    return {"requirements.txt": requirements(setting), "check.py": check_script()}


def install_script(setting: Setting) -> str:
    """``install.sh``: a virtual environment beside the job, made on a node with a network."""
    python = setting.environment.python
    head = explanation(setting, "Makes .venv here. Run it once where there is a network: bash install.sh")
    framework = setting.environment.framework
    return (
        "#!/bin/bash\n" + head + "set -euo pipefail\n"
        'cd "$(dirname "$0")"\n'
        f"command -v python{python} >/dev/null || {{\n"
        f'  echo "python{python} is not here: load its module, or install it with uv python install {python}" >&2\n'
        "  exit 2\n}\n"
        f"python{python} -m venv .venv\n"
        ".venv/bin/python -m pip install --requirement requirements.txt\n"
        f".venv/bin/python -c 'import {framework}; print({framework}.__version__)'\n"
    )


def uv(setting: Setting) -> dict[str, str]:
    """A uv project: the framework's index is asked for the framework and for nothing else."""
    environment = setting.environment
    head = explanation(
        setting, "Lock and install with: uv sync", f"then check with: uv run {quoted(('python', 'check.py'))}"
    )
    wanted = json.dumps(list(environment.requirements))
    lines = [
        head,
        "[project]\n",
        f'name = "{setting.name}"\n',
        'version = "0"\n',
        f'requires-python = "=={environment.python}.*"\n',
        f"dependencies = {wanted}\n",
        "\n[tool.uv]\n",
        "package = false\n",
        comments(["The lock has to hold for the machine of the job, whichever machine locks it."]),
        "required-environments = [\"sys_platform == 'linux' and platform_machine == 'x86_64'\"]\n",
        "environments = [\"sys_platform == 'linux' and platform_machine == 'x86_64'\"]\n",
    ]
    if environment.index:
        lines += [
            "\n[[tool.uv.index]]\n",
            f'name = "{environment.framework}-builds"\n',
            f"url = {json.dumps(environment.index)}\n",
            comments(["explicit: asked only for the packages that name it below."]),
            "explicit = true\n",
            "\n[tool.uv.sources]\n",
            f'{environment.framework} = {{ index = "{environment.framework}-builds" }}\n',
        ]
    return {"pyproject.toml": "".join(lines), "check.py": check_script()}


def conda(setting: Setting) -> dict[str, str]:
    """``environment.yml``: Python by conda, the framework by pip from its maker's index."""
    environment = setting.environment
    head = explanation(
        setting,
        "Create with: conda env create --file environment.yml",
        "Python comes from the channel, the framework from its maker's wheels: for which GPUs the channel's own builds"
        " hold code is in no table, and wheels bring their CUDA libraries with them: no CUDA packages by conda.",
    )
    channel = registries().channels["conda-forge"].url
    text = (
        f"{head}name: {setting.name}\n"
        f"channels:\n  - {json.dumps(channel)}\n  - nodefaults\n"
        f"dependencies:\n  - python={environment.python}\n  - pip\n  - pip:\n"
        "      - --requirement requirements.txt\n"
    )
    return {"environment.yml": text, "requirements.txt": requirements(setting), "check.py": check_script()}


def pixi(setting: Setting) -> dict[str, str]:
    """``pixi.toml``; the GPU is declared with the platform, which took the place of ``[system-requirements]``.

    Source: pixi documentation, "Declaring virtual packages per platform".
    """
    environment = setting.environment
    head = explanation(setting, "Lock and install with: pixi install", "then check with: pixi run check")
    channel = registries().channels["conda-forge"].url
    cuda = f', cuda = "{version(environment.cuda)[0]}"' if environment.cuda else ""
    glibc = f', glibc = "{environment.glibc}"' if environment.glibc else ""
    pins = [_pypi(requirement, environment.index) for requirement in environment.requirements]
    check = quoted(("python", "check.py", *setting.check_arguments))
    text = (
        f'{head}[workspace]\nname = "{setting.name}"\nchannels = [{json.dumps(channel)}]\n'
        f'platforms = [{{ platform = "linux-64"{cuda}{glibc} }}]\n'
        f'\n[dependencies]\npython = "{environment.python}.*"\n'
        f"\n[pypi-dependencies]\n{''.join(pins)}"
        f"\n[tasks]\ncheck = {json.dumps(check)}\n"
        f"job = {json.dumps(quoted(setting.words))}\n"
    )
    return {"pixi.toml": text, "check.py": check_script()}


def _pypi(requirement: str, index: str) -> str:
    """One requirement as pixi writes it; only the framework, which is pinned, comes from its own index."""
    for sign in ("==", "<"):
        name, found, number = requirement.partition(sign)
        if found:
            break
    plain, _, extra = name.rstrip("]").partition("[")
    extras = f', extras = ["{extra}"]' if extra else ""
    place = f", index = {json.dumps(index)}" if index and sign == "==" else ""
    return f'{plain} = {{ version = "{sign}{number}"{extras}{place} }}\n'


def accelerate_requirement() -> str:
    """The exact version of Accelerate to install."""
    return f"accelerate=={tool('accelerate').version}"
