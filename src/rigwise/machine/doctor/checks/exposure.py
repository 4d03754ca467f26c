"""What others can reach or read: notebooks, dashboards, keys."""

from __future__ import annotations

from typing import Any

from rigwise.machine.doctor.conditions import in_container
from rigwise.machine.doctor.rules import services
from rigwise.machine.doctor.types import Answer, Facts, ok, problem, unknown

JUPYTER = "Jupyter"


def _open(facts: Facts, *, jupyter: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Listeners of known services that answer without a password, and those that were not asked.

    A Jupyter that answers 404, or not in time, serves below another path or is busy: it counts as not asked.
    """
    names = {service.port: service.name for service in services()}
    plain = {service.port for service in services() if not service.json}
    answers = {int(entry["port"]): _said(entry, plain) for entry in facts.get("seen.answers") or []}
    let_in, unasked = [], []
    for entry in facts.rows("listeners"):
        port, program = int(entry.get("port", 0)), str(entry.get("program", ""))
        name = JUPYTER if "jupyter" in program else names.get(port, "")
        if not name or (name == JUPYTER) is not jupyter:
            continue
        found = {"port": port, "name": name, "reach": str(entry.get("reach", ""))}
        if port not in answers or (answers[port] in ("404", "none") and "jupyter" in program):
            unasked.append(found)
        elif answers[port] == "200":
            let_in.append(found)
    return let_in, unasked


def _said(answer: dict[str, Any], plain: set[int]) -> str:
    """The status of an answer; ``other`` where it is of another kind than the service's."""
    status = str(answer["status"])
    return "other" if status == "200" and not answer["json"] and answer["port"] not in plain else status


def jupyter(facts: Facts) -> Answer:
    """A notebook server that lets anybody in: who can reach it can run programs as its user."""
    let_in, unasked = _open(facts, jupyter=True)
    config = [line for line in facts.get("seen.jupyter_config") or [] if not line.startswith("a password")]
    if let_in:
        worst = max(let_in, key=lambda entry: entry["reach"] != "this machine")
        reach = (
            f"reachable from {worst['reach']}"
            if worst["reach"] != "this machine"
            else "reachable by every user of this machine"
        )
        return problem(f"port {worst['port']} answers /api/contents without a password, {reach}")
    if any(line.startswith("no token") for line in config) and not _has_password(facts):
        return problem("; ".join(config))
    if unasked:
        worst = max(unasked, key=lambda entry: entry["reach"] != "this machine")
        return unknown(
            f"port {worst['port']}, reachable from {worst['reach']}, did not say whether it asks for a password"
        )
    return ok("no notebook server lets anybody in")


def _has_password(facts: Facts) -> bool:
    return any(line.startswith("a password") for line in facts.get("seen.jupyter_config") or [])


def dashboards(facts: Facts) -> Answer:
    """A dashboard or a model server that other machines can reach and that asks for no password."""
    let_in, unasked = _open(facts, jupyter=False)
    note = (
        "; what the container publishes decides" if in_container(facts) else "; a firewall before it was not looked at"
    )
    outside = [entry for entry in let_in if entry["reach"] != "this machine"]
    if outside:
        shown = ", ".join(f"{entry['name']} at port {entry['port']}" for entry in outside[:4])
        return problem(f"{shown}: answers without a password, reachable from {outside[0]['reach']}{note}")
    guessed = [entry for entry in unasked if entry["reach"] != "this machine"]
    if guessed:
        return unknown(
            f"port {guessed[0]['port']} ({guessed[0]['name']} by default) is reachable; it was not asked for a password"
        )
    return ok("no dashboard is open to other machines")


def readable_keys(facts: Facts) -> Answer:
    """Files with keys or tokens that other users can read."""
    files = facts.get("seen.secret_files") or []
    home = [entry for entry in files if entry["name"] == "~"]
    closed = bool(home) and int(home[0]["mode"], 8) & 0o011 == 0
    found = [entry for entry in files if entry["name"] != "~" and int(entry["mode"], 8) & 0o077]
    if not found or closed:
        return ok("no key is readable by others" if not found else "the home folder is closed to others")
    shown = ", ".join(f"{entry['name']} ({entry['mode']})" for entry in found[:4])
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    return problem(f"readable by others: {shown}{more}", *(entry["path"] for entry in found))


def secrets_in_arguments(facts: Facts) -> Answer:
    """Passwords and tokens on command lines, which every user of the machine can read."""
    found = facts.get("seen.argv_secrets") or []
    return problem(", ".join(found[:4])) if found else ok("no command line that could be read carries a secret")
