"""How a command is started once for each GPU, and what processes of several nodes need to find each other."""

from __future__ import annotations

from collections.abc import Sequence

from rigwise.sandbox.setting import Setting, quoted

#: Lines are broken before this column.
_WIDTH = 100
#: Where the nodes meet, unless MASTER_PORT says otherwise.
_PORT = 29500
ON_EACH_NODE = "Start it on every node, with MASTER_ADDR the address of the first and NODE_RANK from 0 on."


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


def node_words(setting: Setting) -> list[str]:
    """The job on this node, of as many as ``rank_lines`` asks about."""
    rendezvous = [f"--nnodes={setting.place.nodes}", '--node-rank="$NODE_RANK"']
    rendezvous += ['--master-addr="$MASTER_ADDR"', '--master-port="$MASTER_PORT"']
    return launch_words(setting, rendezvous if setting.place.nodes > 1 else ("--standalone",))


def rank_lines(setting: Setting) -> str:
    """What each of several nodes has to be told, or it ends at once; nothing for one node."""
    if setting.place.nodes == 1 or not is_distributed(setting):
        return ""
    return (
        ': "${MASTER_ADDR:?set it to the address of the first node}"\n'
        ': "${NODE_RANK:?set it to the number of this node, from 0 on}"\n'
        f'MASTER_PORT="${{MASTER_PORT:-{_PORT}}}"\n'
    )


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
