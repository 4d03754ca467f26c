"""How a command is started once for each GPU, and what processes of several nodes need to find each other."""

from __future__ import annotations

from collections.abc import Sequence

from rigwise.sandbox.setting import Setting, quoted

#: Lines are broken before this column.
_WIDTH = 100


def is_distributed(setting: Setting) -> bool:
    """Whether several processes compute one step."""
    place = setting.place
    return setting.environment.framework == "torch" and place.nodes * place.processes_per_node > 1


def launch_words(setting: Setting, rendezvous: Sequence[str] = ("--standalone",)) -> list[str]:
    """The job's command, by torchrun where several processes compute one step; words for a shell, variables open.

    torchrun starts one process for each GPU of a node; ``rendezvous`` says how the nodes find each other.
    """
    if not is_distributed(setting):
        return [quoted([word]) for word in setting.words]
    processes = f"--nproc-per-node={setting.place.processes_per_node}"
    rest = setting.words[1:] if setting.is_python else ("--no-python", *setting.words)
    return ["torchrun", *rendezvous, processes, *(quoted([word]) for word in rest)]


def broken(words: Sequence[str], indent: str = "") -> str:
    """Words on as few lines as fit, each but the last ended by a backslash."""
    lines, line = [], indent
    for word in words:
        start = line in (indent, f"{indent}  ")
        if not start and len(line) + len(word) + 3 > _WIDTH:
            lines.append(f"{line} \\")
            line = f"{indent}  {word}"
        else:
            line += word if start else f" {word}"
    return "".join(f"{text}\n" for text in [*lines, line])


def threads(setting: Setting) -> str:
    """The line that gives each process its share of the node's CPUs; without it every process takes all of them."""
    cpus = setting.place.cpus
    if not cpus:
        return ""
    each = max(1, cpus // setting.place.processes_per_node)
    return f"export OMP_NUM_THREADS={each}  # {cpus} CPUs for {setting.place.processes_per_node} processes\n"
