"""Workloads that are no network: dense matrix products and a molecular-dynamics force loop.

Source: BLAS ``sgemm`` and ``dgemm`` on square matrices, as device vendors quote them; Lennard-Jones: the
"lj" benchmark of LAMMPS (reduced density 0.8442, cutoff 2.5 sigma, 32,000 atoms).
"""

from __future__ import annotations

import math

from rigwise.graph.dim import Atom, Size, polynomial
from rigwise.graph.graph import Card, Graph, Model
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor

_ORDER: Size = polynomial({(Atom("s"),): 1})

#: Atoms within the cutoff of one atom: density x volume of the sphere, all of them visited for every atom.
NEIGHBOURS = round(0.8442 * 4 / 3 * math.pi * 2.5**3)

#: Distance 8 (3 differences, 3 products, 2 sums), reciprocal 1, its cube 2, force over distance 4, and 6 to
#: scale the vector and add it up.
FLOPS_PER_PAIR = 8 + 1 + 2 + 4 + 6


def gemm(name: str, dtype: str, title: str) -> Model:
    a, b = (Tensor((_ORDER, _ORDER), dtype, Role.INPUT) for _ in range(2))
    product = Tensor((_ORDER, _ORDER), dtype, Role.ACTIVATION, 0)
    op = Op(name="aten.mm", kind=Kind.GEMM, phase=Phase.FORWARD, inputs=(a, b), outputs=(product,))
    card = Card(
        title=title,
        family="blas",
        source="BLAS level 3, square matrices",
        assumed=("s is the order of the matrices",),
    )
    return Model(
        name=name, card=card, parameters=(), graphs={"infer": Graph(ops=(op,), symbols={"s": 4096})}, captured_with={}
    )


def lennard_jones() -> Model:
    positions = Tensor((_ORDER, 3), "float32", Role.BUFFER)
    neighbours = Tensor((_ORDER, NEIGHBOURS), "int32", Role.BUFFER)
    forces = Tensor((_ORDER, 3), "float32", Role.BUFFER)
    op = Op(
        name="rigwise.lennard_jones",
        kind=Kind.PAIRWISE,
        phase=Phase.FORWARD,
        inputs=(positions, neighbours),
        outputs=(forces,),
        attrs={"neighbours": NEIGHBOURS, "flops_per_pair": FLOPS_PER_PAIR},
    )
    card = Card(
        title="Lennard-Jones fluid, one force evaluation",
        family="simulation",
        source="LAMMPS benchmark lj: density 0.8442, cutoff 2.5 sigma",
        assumed=(
            "s is the number of particles",
            f"full neighbour lists of {NEIGHBOURS}, {FLOPS_PER_PAIR} FLOP for each pair; lists are not rebuilt",
        ),
    )
    graph = Graph(ops=(op,), symbols={"s": 32_000})
    return Model(name="lennard-jones", card=card, parameters=(), graphs={"infer": graph}, captured_with={})
