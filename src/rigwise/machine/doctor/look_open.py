"""What the doctor looks at for safety: which services answer without a password, and keys that others can read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container
from typing import Any

from rigwise.machine.doctor.look import PROCESSES_LIMIT, SECRET_OPTION, python_child
from rigwise.machine.probe.source import Root, Unreadable
from rigwise.machine.snapshot import Snapshot, printable

#: Folders below the home folder, and the names in them that hold a secret.
SECRETS = (
    (".ssh", r"id_(rsa|ecdsa|ed25519|dsa)$|[\w.-]+\.pem$"),
    (".jupyter", r"[\w.-]+\.(key|pem)$|jupyter_server_config\.json$"),
    (".cache/huggingface", r"token$|stored_tokens$"), (".huggingface", r"token$"), (".aws", r"credentials$"),
    (".kaggle", r"kaggle\.json$"), (".config/gcloud", r"(application_default_credentials\.json|credentials\.db)$"),
    (".azure", r"(accessTokens|msal_token_cache)\.json$"), (".kube", r"config$"), (".docker", r"config\.json$"),
    (".ngc", r"config$"), ("", r"\.(netrc|git-credentials|wandb_key|vast_api_key|pgpass)$"),
)  # fmt: skip
#: Ports asked at most, and how long the child that asks may take altogether.
PORTS_LIMIT = 24
ASK_LIMIT_S = 3.5
#: Jupyter answers this only to whom it lets in; without the content of the folder, which can be long.
NOTEBOOK = "/api/contents?content=0"


def readers(root: Root, snapshot: Snapshot) -> dict[str, Callable[[], Any]]:
    """Name -> what reads it."""
    return {
        "answers": lambda: answers(root, snapshot),
        "secret_files": lambda: secret_files(root),
        "argv_secrets": lambda: argv_secrets(root),
        "jupyter_config": lambda: jupyter_config(root),
    }


def home(root: Root) -> str:
    """The home folder of the user; of a captured tree ``/home/user``."""
    return os.path.expanduser("~") if root.live else "/home/user"


def answers(root: Root, snapshot: Snapshot) -> list[dict[str, Any]]:
    """What every port that is listened on answers to one request without a password, from this machine."""
    from rigwise.machine.doctor.rules import services
    from rigwise.machine.probe import http_child

    paths = {service.port: service.path for service in services()}
    ports = sorted({int(str(entry["port"].value)) for entry in snapshot.listeners if _asked(entry, paths)})[
        :PORTS_LIMIT
    ]
    if not ports:
        return []
    below = notebook_paths(root)
    asked = [f"{port}{below.get(port) or paths.get(port, NOTEBOOK)}" for port in ports]
    text = python_child(root, http_child.__file__, *asked, name="http-answers", limit_s=ASK_LIMIT_S)
    found = []
    for line in text.splitlines()[: 2 * PORTS_LIMIT]:
        match = re.fullmatch(r"(\d{1,5})(/\S*) (\d{3}|none) (json|other)", line.strip())
        if match:
            found.append({"port": int(match[1]), "path": match[2], "status": match[3], "json": match[4] == "json"})
    return found


def notebook_paths(root: Root) -> dict[int, str]:
    """Path to ask of each notebook server of this user, by port: some serve below another path than the top.

    Their files hold the token too, which is not kept.
    """
    found = {}
    folder = f"{home(root)}/.local/share/jupyter/runtime"
    for name in root.names(folder, r"(jp|nb)server-\d+\.json$"):
        try:
            content = root.content(f"{folder}/{name}", limit_bytes=64 * 1024).decode("utf-8", "replace")
        except Unreadable:
            continue
        port, base = (
            re.search(r'"port":\s*(\d{1,5})\b', content),
            re.search(r'"base_url":\s*"(/[\w./~-]{0,200})"', content),
        )
        if port and base:
            found[int(port[1])] = base[1].rstrip("/") + NOTEBOOK
    return found


def _asked(entry: Any, known: Container[int]) -> bool:
    """Only what can be one of the services: a port of one, a notebook, a program in Python; not ssh, not a database."""
    port, program = str(entry["port"].value), str(entry["program"].value or "")
    return port.isdecimal() and (int(port) in known or program.startswith(("jupyter", "python")))


def secret_files(root: Root) -> list[dict[str, str]]:
    """Mode of every file below the home folder that holds a secret."""
    folder = home(root)
    paths = [
        f"{folder}/{place}/{name}".replace("//", "/")
        for place, pattern in SECRETS
        for name in root.names(f"{folder}/{place}", pattern)
    ]
    if not paths:
        return []
    text = root.run("stat", "-c", "%a %u %n", folder, *paths[:200], name="stat-secrets")
    found = []
    for line in text.splitlines():
        match = re.fullmatch(r"([0-7]{3,4}) (\d+) (/.+)", line.strip())
        if match:
            found.append(
                {"mode": match[1], "owner": match[2], "path": match[3], "name": match[3].replace(folder, "~", 1)}
            )
    return found


def argv_secrets(root: Root) -> list[str]:
    """Programs whose command line, which every user can read, carries a secret; the option, never the secret."""
    found = []
    for process in root.names("/proc", r"\d+$")[-PROCESSES_LIMIT:]:
        try:
            content = root.content(f"/proc/{process}/cmdline", limit_bytes=64 * 1024)
        except Unreadable:
            continue
        words = [word for word in content.decode("utf-8", "replace").split("\0") if word]
        for word, following in zip(words, [*words[1:], ""], strict=False):
            match = SECRET_OPTION.match(word)
            value = word.partition("=")[2] or ("" if "=" in word else following)
            if match and len(value.strip("'\"")) >= 6 and not value.startswith(("-", "/", "$")):
                found.append(
                    f"{printable(words[0]).rpartition('/')[2][:40]} {word.partition('=')[0]} (process {process})"
                )
    return found[:20]


def jupyter_config(root: Root) -> list[str]:
    """Settings of Jupyter that open it: no token, no password, any address."""
    found = []
    folder = f"{home(root)}/.jupyter"
    for name in root.names(folder, r"jupyter_(server|notebook|lab)_config\.(py|json)$"):
        try:
            text = root.text(f"{folder}/{name}", kept=lambda _: "", limit_bytes=2**20)
        except Unreadable:
            continue
        live = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        for what, pattern in OPENING.items():
            if re.search(pattern, live):
                found.append(f"{what} in ~/.jupyter/{name}")
    return found


#: What opens a notebook server -> how it is written in its configuration, Python or JSON.
OPENING = {
    "no token": r"(?:NotebookApp|ServerApp|IdentityProvider)\.token\s*=\s*(?:u?''|u?\"\")|\"token\"\s*:\s*\"\"",
    "every address": r"\.ip\s*=\s*u?['\"](?:0\.0\.0\.0|\*|::)?['\"]|\"ip\"\s*:\s*\"(?:0\.0\.0\.0|\*|::)\"",
    "a password": r"password\"?\s*[=:]\s*u?['\"](?:argon2|sha1|sha256):",
}
