"""One call on each node of a Ray cluster: an actor on every node starts the process there and hands its lines on.

The actor holds all processors and GPUs of its node, so that nothing else of the cluster runs beside what it
measures. A node that leaves the cluster is seen by Ray; a process that is stopped is not, and has to be noticed
by its silence.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rigwise.errors import InvalidInputError
from rigwise.execute.nodes import Call, NodeProcess, Said
from rigwise.execute.spread import connected_ray, first_line

#: One question waits so long on a node for a line to come: few messages while nothing happens.
_ASK_S = 5.0
_LINES_AT_ONCE, _WAITING_LINES = 512, 4096
#: How long an actor has to end the process of its node, which may be stopped and not see that nobody listens.
_END_S = 5.0


class Agent:
    """What runs on a node."""

    def __init__(self, module: str, request: str) -> None:
        """Start the process."""
        self._said: queue.Queue[bytes | None] = queue.Queue(_WAITING_LINES)
        self._process = NodeProcess(Call(module=module, request=request), self._said.put, {})

    def lines(self, wait_s: float) -> tuple[list[bytes], str | None]:
        """Lines that came, waiting so long for the first; and how the process ended, None while it runs."""
        found: list[bytes] = []
        with contextlib.suppress(queue.Empty):
            line = self._said.get(timeout=wait_s)
            while line is not None and len(found) < _LINES_AT_ONCE:
                found.append(line)
                line = self._said.get_nowait()
            if line is None:
                return found, self._process.how_it_ended()
            found.append(line)
        return found, None

    def end(self) -> None:
        """End the process."""
        self._process.end()


class RayNodes:
    """One actor on each node that lives, or several on a Ray that is started here."""

    def __init__(self, address: str, count: int | None, call: Call, only: Collection[str] = ()) -> None:
        """Start the actors.

        Args:
            address: Of a cluster; empty to start one on this computer and end it afterwards.
            count: So many nodes; None for all. Without an address so many processes of this computer.
            call: What every node does.
            only: These nodes and no others; empty for all.

        Raises:
            MissingExtraError: Ray is not installed.
            RunError: The cluster cannot be reached.
            InvalidInputError: It has fewer nodes.
        """
        self._ray: Any = connected_ray(address, count or 1)
        self._actors: dict[str, Any] = {}
        self._asked: dict[Any, str] = {}
        try:
            places, self.refused = self._places(address, count, only)
            self.names = (*places, *self.refused)
            agent = self._ray.remote(Agent)
            for name, options in places.items():
                actor = agent.options(max_restarts=0, max_concurrency=2, **options).remote(call.module, call.request)
                self._actors[name] = actor
                self._ask(name)
        except BaseException:
            self.close()
            raise

    def _places(
        self, address: str, count: int | None, only: Collection[str]
    ) -> tuple[dict[str, dict[str, Any]], Mapping[str, str]]:
        """Ray's options for the actor of each node, and the nodes that are gone."""
        if not address:
            names = [f"ray-{place}" for place in range(1, (count or 1) + 1)]
            return {name: {"num_cpus": 1} for name in names if not only or name in only}, {}
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        found: dict[str, dict[str, Any]] = {}
        gone: dict[str, str] = {}
        for node in sorted(self._ray.nodes(), key=lambda node: str(node["NodeID"])):
            name = _unlike({**found, **gone}, str(node.get("NodeManagerHostname") or node["NodeManagerAddress"]))
            if not node["Alive"]:
                gone[name] = f"Ray: it left the cluster, {node.get('DeathReasonMessage') or 'no reason given'}"
                continue
            resources = node.get("Resources", {})
            place = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            taken = {"num_cpus": resources.get("CPU", 0), "num_gpus": resources.get("GPU", 0)}
            found[name] = {**taken, "scheduling_strategy": place}
        chosen = {name: options for name, options in found.items() if not only or name in only}
        if count is None or only:
            return chosen, {} if only else gone
        if len(chosen) < count:
            raise InvalidInputError(f"{count} nodes are asked for, and the Ray cluster has {len(chosen)}")
        return dict(list(chosen.items())[:count]), {}

    def _ask(self, name: str) -> None:
        self._asked[self._actors[name].lines.remote(_ASK_S)] = name

    def poll(self, wait_s: float) -> list[Said]:
        """As ``Nodes`` says."""
        if not self._asked:
            time.sleep(wait_s)
            return []
        ready, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=wait_s)
        if ready:  # all others that are ready by now come along
            ready, _ = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        found: list[Said] = []
        for answer in ready:
            name = self._asked.pop(answer)
            try:
                lines, ended = self._ray.get(answer)
            except self._ray.exceptions.RayError as error:
                lines, ended = [], f"Ray: {first_line(error)}"
            found += [Said(node=name, line=line) for line in lines]
            if ended is not None:
                found.append(Said(node=name, ended=ended))
            else:
                self._ask(name)
        return found

    def waiting(self, node: str) -> str:
        """As ``Nodes`` says."""
        return "Ray: its processors or GPUs are taken by other work"

    def end(self, node: str) -> None:
        """As ``Nodes`` says."""
        self._asked = {answer: name for answer, name in self._asked.items() if name != node}
        self._end([self._actors.pop(node)])

    def _end(self, actors: Sequence[Any]) -> None:
        with contextlib.suppress(Exception):  # they may be gone, and so may the cluster
            told = [actor.end.remote() for actor in actors]
            self._ray.wait(told, num_returns=len(told), timeout=_END_S)
        for actor in actors:
            with contextlib.suppress(Exception):
                self._ray.kill(actor, no_restart=True)

    def close(self) -> None:
        """As ``Nodes`` says."""
        self._end(list(self._actors.values()))
        self._ray.shutdown()


def _unlike(taken: Mapping[str, object], name: str) -> str:
    """A name that is not taken.

    >>> _unlike({"a": 1, "a-2": 1}, "a")
    'a-3'
    """
    place = 1
    shown = name
    while shown in taken:
        place += 1
        shown = f"{name}-{place}"
    return shown
