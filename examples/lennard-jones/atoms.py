"""Atoms that attract and repel each other, in a periodic box: one step of velocity Verlet, in reduced units.

Source: L. Verlet, Computer "Experiments" on Classical Fluids, 1967; the potential of J. E. Lennard-Jones, cut off and
shifted so that it ends at zero.
"""

from __future__ import annotations

import torch
from torch import nn

ATOMS_A_SIDE, DENSITY, CUT, STEP = 8, 0.7, 2.5, 0.004
ATOMS = ATOMS_A_SIDE**3
SIDE = (ATOMS / DENSITY) ** (1 / 3)
SHIFT = 4 * (CUT**-12 - CUT**-6)


def pairs(places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """From every atom to the nearest image of every other, and 1/r^2: zero beyond the cut and for the atom itself."""
    apart = places[:, :, None] - places[:, None]
    apart = apart - SIDE * torch.round(apart / SIDE)
    square = (apart * apart).sum(-1)
    near = (square < CUT * CUT) & (square > 0)
    return apart, torch.where(near, 1 / square.clamp(min=0.5), 0.0)


def forces(places: torch.Tensor) -> torch.Tensor:
    """On every atom, from all others."""
    apart, inverse = pairs(places)
    sixth = inverse * inverse * inverse
    return ((48 * sixth * sixth - 24 * sixth) * inverse)[..., None].mul(apart).sum(2)


def energy(places: torch.Tensor, speeds: torch.Tensor) -> torch.Tensor:
    """Potential and kinetic, of each box."""
    _, inverse = pairs(places)
    sixth = inverse * inverse * inverse
    potential = torch.where(inverse > 0, 4 * (sixth * sixth - sixth) - SHIFT, 0.0)
    return potential.sum((1, 2)) / 2 + (speeds * speeds).sum((1, 2)) / 2


class Verlet(nn.Module):
    """One step: half a kick, a drift, the new forces, the other half."""

    def forward(
        self, places: torch.Tensor, speeds: torch.Tensor, pull: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Places, speeds and forces of the next moment: box, atom, axis."""
        speeds = speeds + 0.5 * STEP * pull
        places = places + STEP * speeds
        pull = forces(places)
        return places, speeds + 0.5 * STEP * pull, pull


def start(boxes: int, temperature: float = 0.8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A cubic lattice whose centre of mass stands still."""
    axis = (torch.arange(ATOMS_A_SIDE) + 0.5) * SIDE / ATOMS_A_SIDE
    places = torch.cartesian_prod(axis, axis, axis).expand(boxes, -1, -1).contiguous()
    chance = torch.Generator().manual_seed(0)
    speeds = torch.randn(boxes, ATOMS, 3, generator=chance) * temperature**0.5
    return places, speeds - speeds.mean(1, keepdim=True), forces(places)


def step() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """What rigwise captures: the step and example inputs."""
    return Verlet(), start(2)
