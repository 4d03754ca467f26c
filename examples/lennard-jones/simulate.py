"""Move 512 atoms, and check that no energy is made or lost."""

from __future__ import annotations

import argparse
import sys

import torch
from atoms import ATOMS, Verlet, energy, start

from rigwise import monitor

#: Largest change of the energy, in parts of the kinetic energy at the start, that still counts as kept.
MOST_DRIFT = 0.01


def main() -> int:
    """Simulate; 1 if the energy was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=1, help="boxes side by side")
    options = parser.parse_args()
    step, state = Verlet(), start(options.batch)
    first, kinetic = energy(state[0], state[1]), (state[1] ** 2).sum((1, 2)) / 2
    drift = 0.0
    with torch.inference_mode(), monitor(samples=options.batch) as m:
        for number in range(1, options.steps + 1):
            state = step(*state)
            m.step()
            if number % 20 == 0 or number == options.steps:
                with m.pause():
                    drift = max(drift, float(((energy(state[0], state[1]) - first).abs() / kinetic).max()))
            if m.stopping:
                break
    print(f"{ATOMS} atoms, {number} steps: energy within {drift:.2%} of the kinetic energy at the start")
    return int(not drift < MOST_DRIFT)


if __name__ == "__main__":
    sys.exit(main())
