"""Molecular dynamics: particles of Lennard-Jones, all pairs, one velocity-Verlet step.

Reduced units: sigma, epsilon and mass are 1; a periodic box of density 0.8; cut at half of the box. The forces
are computed for every ordered pair, as a GPU does it and as the catalogue's law of such loops counts.

Source: Verlet, "Computer 'Experiments' on Classical Fluids", Physical Review 159, 1967, for model and integrator;
van Meel et al., "Harvesting Graphics Power for MD Simulations", 2008, for CPU against GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from rigwise.bench.framework import torch_or_none, waiting, why_not
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure
from rigwise.bench.types import ITEMS, Context, Parameter, Raw

STEP = 0.002
DENSITY = 0.8
SIDES = (8, 12, 16, 24)  # particles along an edge: 512 to 13824
_BYTES_PER_PAIR = 4 * 3 * 6  # six arrays of vectors stand at once, at most


def run(context: Context) -> Iterator[Raw]:
    """Pair interactions in a second; on a GPU, on the CPU beside it too."""
    for name, target in (("pairs", context.target), ("pairs-of-cpu", "cpu")):
        if (name == "pairs" or context.target != "cpu") and is_wanted(context, f"molecular.{name}"):
            yield from _on(replace(context, target=target), f"molecular.{name}")


def _on(context: Context, name: str) -> Iterator[Raw]:
    torch = torch_or_none()
    wait = waiting(torch, context.target) if torch else lambda: None
    try:
        state, chosen = None, SIDES[0]
        for side in SIDES:  # grow while a step is quick enough
            if side**6 * _BYTES_PER_PAIR > 0.25 * context.memory_bytes:
                break
            state, chosen = System(context, side, torch), side
            first_s = min(measure(state.step, context.each_s / 16, wait).samples_s)
            if first_s * 8 > context.each_s / 5:
                break
        if state is None:
            yield Raw(name=name, unit=ITEMS, skipped="too little memory")
            return
        timing = measure(state.step, context.each_s, wait)
    except RuntimeError as error:
        yield Raw(name=name, unit=ITEMS, skipped=why_not(error))
        return
    count = chosen**3
    shown: dict[str, Parameter] = {
        "beside": "molecular.pairs-of-cpu",
        "particles": count,
        "format": "fp32",
        "library": "torch" if torch else "numpy",
        "threads": context.threads,
    }
    yield Raw(
        name=name,
        unit=ITEMS,
        amount=float(count * (count - 1)),
        timing=timing,
        parameters=shown,
        note="all ordered pairs in each step, arrays of pairs written to memory",
    )


class System:
    """Particles on a lattice with small random velocities, and the step that moves them.

    Args:
        context: Seed and target.
        side: Particles along an edge.
        torch: The module, or None for NumPy.
    """

    def __init__(self, context: Context, side: int, torch: Any = None) -> None:
        import numpy as np

        count = side**3
        self.box = (count / DENSITY) ** (1 / 3)
        grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
        random = np.random.default_rng(context.seed)
        speeds = random.standard_normal((count, 3))
        positions = ((grid + 0.5) * (self.box / side)).astype(np.float32)
        velocities = (speeds - speeds.mean(axis=0)).astype(np.float32)
        far = np.eye(count, dtype=np.float32) * 1e6
        move: Callable[[Any], Any] = (lambda a: torch.from_numpy(a).to(context.target)) if torch else lambda a: a
        self.round: Callable[[Any], Any] = torch.round if torch else np.round
        self.positions, self.velocities, self.far = move(positions), move(velocities), move(far)
        self.forces, self.potential = self.interact()

    def interact(self) -> tuple[Any, Any]:
        """Forces on all particles, and the potential energy.

        Source: the Lennard-Jones potential ``4 (r^-12 - r^-6)`` and its slope, cut at half of the box.
        """
        apart = self.positions[:, None] - self.positions[None]
        apart = apart - self.box * self.round(apart / self.box)
        square = (apart * apart).sum(-1) + self.far
        within = (square < (self.box / 2) ** 2) * 1.0
        sixth = within / (square * square * square)
        pull = 24.0 * (2.0 * sixth * sixth - sixth) / square
        return (pull[..., None] * apart).sum(1), 2.0 * (sixth * sixth - sixth).sum()

    def step(self) -> None:
        """Half a kick, a drift, half a kick."""
        self.velocities = self.velocities + 0.5 * STEP * self.forces
        self.positions = self.positions + STEP * self.velocities
        self.forces, self.potential = self.interact()
        self.velocities = self.velocities + 0.5 * STEP * self.forces

    def energy(self) -> float:
        """Kinetic and potential energy together."""
        return float(0.5 * (self.velocities * self.velocities).sum() + self.potential)
