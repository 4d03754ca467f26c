"""JupyterLab for the labs: the learner's folder, and a server behind a password, TLS and loopback.

The server's files are those that ``rigwise setup jupyter`` writes: one configuration for both.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rigwise.edge import write_atomically
from rigwise.errors import InvalidInputError, MissingExtraError, UnsupportedError
from rigwise.labs.notebook import Lab, notebook
from rigwise.labs.shelf import labs

#: Where notebooks lie if nothing else is said, below the user's home.
FOLDER = "rigwise-labs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What is started, and where it answers.

    Attributes:
        command: With its arguments; it takes the place of this process.
        environment: In full.
        url: For a browser on this machine.
        has_password: Whether one was chosen before.
    """

    command: tuple[str, ...]
    environment: dict[str, str]
    url: str
    has_password: bool


def home_folder() -> Path:
    """Where the learner's notebooks lie if no other folder is named.

    Raises:
        InvalidInputError: The user has no home.
    """
    try:
        return Path.home() / FOLDER
    except RuntimeError:
        raise InvalidInputError("there is no home folder for the notebooks", hint="--folder names one") from None


def notebook_path(lab: Lab, folder: Path) -> Path:
    """Where the notebook of a lab lies."""
    return folder / f"{lab.name}.ipynb"


def lay_out(folder: Path, which: Sequence[Lab] = ()) -> list[Path]:
    """Write the notebooks that are not there yet; those that are there are never touched.

    Args:
        folder: Made if it is missing.
        which: All labs if none is named.

    Returns:
        What was written.

    Raises:
        InvalidInputError: The folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "--folder names another"
        raise InvalidInputError(f"the folder {folder} cannot be made: {error.strerror}", hint=hint) from None
    missing = [lab for lab in which or labs() if not os.path.lexists(notebook_path(lab, folder))]
    for lab in missing:
        write_atomically(notebook_path(lab, folder), notebook(lab))
    return [notebook_path(lab, folder) for lab in missing]


def prepare(folder: Path, lab: Lab | None, port: int, *, allow_root: bool = False) -> Start:
    """What starts JupyterLab in a folder, at a lab or at the list of files.

    The password's hash, the certificate and the configuration lie apart from the notebooks, readable by the user alone.

    Raises:
        MissingExtraError: JupyterLab is not installed.
        UnsupportedError: ``bash`` or ``openssl`` is missing.
        InvalidInputError: The port is taken, the user is root, or the server's files cannot be written.
    """
    from rigwise.measurement.place import data_folder
    from rigwise.sandbox.notebooks import server_files

    for module in ("jupyterlab", "ipykernel"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, "lab")
    for program in ("bash", "openssl"):
        if shutil.which(program) is None:
            raise UnsupportedError(f"the server needs {program}, which is not here", hint="on Windows: inside WSL")
    root = _root_flag(allow_root=allow_root)
    _check_port(port)
    place = data_folder() / "labs" / "server"
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.chmod(0o700)
    except OSError as error:
        raise InvalidInputError(f"the server's files cannot be kept in {place}: {error.strerror}") from None
    for name, text in server_files().items():
        write_atomically(place / name, text)
    path = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    at = f"tree/{notebook_path(lab, folder).name}" if lab else ""
    silent = ("--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url=None")
    settings = (f"--ServerApp.root_dir={folder.resolve()}", "--Application.log_level=WARN", *silent, *root)
    return Start(
        command=("bash", str(place / "start.sh"), *settings),
        environment={**os.environ, "PATH": os.pathsep.join(path), "JUPYTER_PORT": str(port)},
        url=f"https://localhost:{port}/lab/{at}".rstrip("/"),
        has_password=(place / "password.hash").is_file(),
    )


def _root_flag(*, allow_root: bool) -> tuple[str, ...]:
    """What JupyterLab has to be told where the user is root.

    Raises:
        InvalidInputError: Nobody said that root is meant.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return ()
    if not allow_root:
        hint = "start it as another user, or say --allow-root, in a container for example"
        raise InvalidInputError("you are root: every cell would run as root", hint=hint)
    return ("--allow-root",)


def _check_port(port: int) -> None:
    """Raise if something listens on the port of loopback already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            hint = "--port names another; if it is an earlier rigwise lab, use or end that one"
            raise InvalidInputError(f"port {port} of loopback cannot be had: {error.strerror}", hint=hint) from None
