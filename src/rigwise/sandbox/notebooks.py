"""Notebooks: JupyterLab with password and TLS on loopback; for Colab and Kaggle, ones that install and check."""

from __future__ import annotations

import json
from dataclasses import replace

from rigwise.facts.environments import tool
from rigwise.sandbox.packages import install_script
from rigwise.sandbox.setting import Setting, check_script, comments, explanation, quoted, reasons, requirements

#: JupyterLab's own port.
_PORT = 8888

_CONFIG = """import os
import pathlib

c = get_config()  # noqa: F821 - JupyterLab puts it here
here = pathlib.Path(__file__).resolve().parent
secret = here / "password.hash"
if not secret.is_file():
    raise SystemExit("no password yet: bash start.sh asks for one")

# On loopback: nobody on the network reaches it but through ssh, as connect.sh does.
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.port = int(os.environ.get("JUPYTER_PORT", "{port}"))
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.allow_remote_access = False
c.ServerApp.root_dir = str(here / "notebooks")
# TLS: other users of this machine can read its loopback traffic otherwise.
c.ServerApp.certfile = str(here / "cert.pem")
c.ServerApp.keyfile = str(here / "key.pem")
# The token is off only because the password is required: without both, anyone could run code here.
c.PasswordIdentityProvider.password_required = True
c.PasswordIdentityProvider.hashed_password = secret.read_text().strip()
c.IdentityProvider.token = ""
"""

_PASSWORD = '''"""Asks for a password, or reads it from stdin, and keeps its argon2 hash and nothing else."""

import getpass
import os
import pathlib
import sys

from jupyter_server.auth import passwd

MINIMUM = 12

given = getpass.getpass("Password for JupyterLab: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\\n")
if not given:
    raise SystemExit("no password was given: start this in a terminal, or write one to its stdin")
if len(given) < MINIMUM:
    raise SystemExit(f"at least {MINIMUM} characters: whoever guesses it runs code here")
if sys.stdin.isatty() and getpass.getpass("Again: ") != given:
    raise SystemExit("the two differ")
path = pathlib.Path(__file__).resolve().parent / "password.hash"
handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
with os.fdopen(handle, "w") as stream:
    stream.write(passwd(given, "argon2") + "\\n")
'''


def jupyter(setting: Setting) -> dict[str, str]:
    """JupyterLab behind password and TLS, on loopback only, and the ssh line that reaches it."""
    number = tool("jupyterlab").version
    head = explanation(setting, "Read by start.sh. Nothing in this file is secret.")
    install = install_script(setting) + f".venv/bin/python -m pip install 'jupyterlab=={number}'\n"
    connect = (
        "#!/bin/bash\n"
        + comments(["On your own machine: bash connect.sh USER@MACHINE, then open the address it prints.",
                    "ssh carries the port; nothing has to be opened in a firewall."])
        + 'set -euo pipefail\n: "${1:?name the machine: bash connect.sh USER@MACHINE}"\n'
        + f'port="${{JUPYTER_PORT:-{_PORT}}}"\necho "https://localhost:$port"\n'
        + 'exec ssh -N -L "127.0.0.1:$port:127.0.0.1:$port" "$1"\n'
    )  # fmt: skip
    return {
        **server_files(head),
        "connect.sh": connect,
        "install.sh": install,
        "requirements.txt": requirements(setting),
        "check.py": check_script(),
    }


def server_files(head: str = "") -> dict[str, str]:
    """JupyterLab's configuration, what asks for its password, and what starts it; ``head`` explains the first."""
    start = (
        "#!/bin/bash\n"
        + comments(["Asks for a password and makes a certificate the first time, then starts JupyterLab.",
                    "The certificate is its own authority: the browser asks once whether to trust it."])
        + 'set -euo pipefail\numask 077\ncd "$(dirname "$0")"\n'
        '[ ! -d .venv ] || export PATH="$PWD/.venv/bin:$PATH"\n'
        "[ -s password.hash ] || python set_password.py\n"
        "[ -s cert.pem ] || openssl req -x509 -newkey rsa:3072 -sha256 -days 365 -nodes \\\n"
        "  -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \\\n"
        "  -keyout key.pem -out cert.pem 2>/dev/null\n"
        "mkdir -p notebooks\n"
        'exec jupyter lab --config=jupyter_server_config.py "$@"\n'
    )  # fmt: skip
    return {
        "jupyter_server_config.py": head + _CONFIG.replace("{port}", str(_PORT)),
        "set_password.py": _PASSWORD,
        "start.sh": start,
    }


def colab(setting: Setting) -> dict[str, str]:
    """A notebook that installs and checks, with a GPU asked for where the plan has one."""
    metadata: dict[str, object] = {"accelerator": "GPU", "colab": {"gpuType": _colab_gpu(setting)}}
    if not setting.place.has_gpu:
        metadata = {}
    return {f"{setting.name}.ipynb": _notebook(setting, metadata, "Colab")}


def kaggle(setting: Setting) -> dict[str, str]:
    """A notebook that installs and checks, and the description that ``kaggle kernels push`` reads."""
    document = {
        "id": f"USERNAME/{setting.name}",
        "title": setting.name,
        "code_file": f"{setting.name}.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": setting.place.has_gpu,
        "enable_internet": True,
        "dataset_sources": [],
        "competition_sources": [],
        "kernel_sources": [],
    }
    return {
        f"{setting.name}.ipynb": _notebook(setting, {}, "Kaggle"),
        "kernel-metadata.json": json.dumps(document, indent=2) + "\n",
    }


def _colab_gpu(setting: Setting) -> str:
    """What Colab calls the GPU; its smallest where it has none of that name."""
    known = {"t4": "T4", "l4": "L4", "a100-sxm4-40gb": "A100"}
    return known.get(setting.place.device, "T4")


def _notebook(setting: Setting, metadata: dict[str, object], where: str) -> str:
    """The notebook as nbformat 4.5."""
    environment = setting.environment
    kept = replace(environment, choices=tuple(c for c in environment.choices if c.what != "Python"))
    lines = reasons(replace(setting, environment=kept), "Python is the session's own.")
    why = "".join(f"- {line}\n" for line in lines)
    index = ["--index-url", environment.index] if environment.index else []
    arguments = json.dumps([*index, *environment.requirements])
    install = (
        f"# {where} brings a {environment.framework} of its own: it is replaced by the one resolved for this GPU.\n"
        "# If it was imported already in this session, restart the session after this cell.\n"
        "import subprocess\nimport sys\n\n"
        f"subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', *{arguments}], check=True)\n"
    )
    check = (
        "# In a process of its own, so that what this session has imported does not matter.\n"
        f"subprocess.run([sys.executable, 'check.py', *{json.dumps(list(setting.check_arguments))}], check=True)\n"
    )
    job = [_cell("job", f"!{quoted(setting.words)}\n")] if setting.command else []
    cells = [
        {"cell_type": "markdown", "id": "about", "metadata": {}, "source": _lines(f"# {setting.name}\n\n{why}")},
        _cell("install", install),
        _cell("check-file", f"%%writefile check.py\n{check_script()}"),
        _cell("check", check),
        *job,
    ]  # fmt: skip
    document = {
        "cells": cells,
        "metadata": {
            **metadata,
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _cell(name: str, text: str) -> dict[str, object]:
    return {"cell_type": "code", "execution_count": None, "id": name, "metadata": {}, "outputs": [],
            "source": _lines(text)}  # fmt: skip


def _lines(text: str) -> list[str]:
    """Lines as notebooks keep them, the last without its line break."""
    return text.rstrip("\n").splitlines(keepends=True)
