"""The optimizer step as operators, built from the parameters.

What PyTorch runs by default on an accelerator is one multi-tensor kernel for each line of
the update rule over all parameters (``foreach``), so that every line reads and writes whole
arrays. The rows below are those lines: arrays read and written, by the state they touch.

Source: update rules of SGD, Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019);
the split into kernels was read off a captured step of torch 2.13 (tests/test_optimizer.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from rigwise.graph.graph import Parameter
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor

_ROLES = {"p": Role.PARAMETER, "g": Role.GRADIENT, "m": Role.BUFFER, "v": Role.BUFFER, "t": Role.ACTIVATION}

#: Optimizer -> kernels as (name, arrays read, arrays written);
#: p parameter, g gradient, m and v moments, t temporary.
KERNELS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "none": (),
    "sgd": (("add_", "pg", "p"),),
    "momentum": (("mul_", "m", "m"), ("add_", "mg", "m"), ("add_", "pm", "p")),
    "adam": (
        ("lerp_", "mg", "m"),
        ("mul_", "v", "v"),
        ("addcmul_", "vg", "v"),
        ("sqrt", "v", "t"),
        ("div_", "t", "t"),
        ("add_", "t", "t"),
        ("addcdiv_", "pmt", "p"),
    ),
}
KERNELS["adamw"] = (("mul_", "p", "p"), *KERNELS["adam"])

#: Arrays of the size of the parameters that the optimizer keeps between steps.
STATE_ARRAYS = {"none": 0, "sgd": 0, "momentum": 1, "adam": 2, "adamw": 2}

#: Tensors and elements that one multi-tensor launch can take: the arguments of a kernel hold
#: about 100 addresses and 320 blocks of 65,536 elements.
_TENSORS_PER_LAUNCH, _ELEMENTS_PER_LAUNCH = 100, 320 * 65536


def optimizer_ops(
    parameters: Iterable[Parameter], optimizer: str, dtype: str, *, unscale: bool = False
) -> tuple[Op, ...]:
    """One update of all trainable parameters.

    Args:
        parameters: The model's table; frozen ones are left out.
        optimizer: none, sgd, momentum, adam or adamw.
        dtype: Format of parameters, gradients and state.
        unscale: Loss scaling of float16 autocast: gradients are divided and checked first.
    """
    trained = [p for p in parameters if p.trainable]
    elements, tensors = sum(p.elements for p in trained), sum(p.count for p in trained)
    if not elements or optimizer == "none":
        return ()
    launches = max(ceil(tensors / _TENSORS_PER_LAUNCH), ceil(elements / _ELEMENTS_PER_LAUNCH))
    kernels = ((("unscale_", "g", "g"),) if unscale else ()) + KERNELS[optimizer]

    def arrays(letters: str) -> tuple[Tensor, ...]:
        return tuple(Tensor((elements,), dtype, _ROLES[letter]) for letter in letters)

    return tuple(
        Op(
            name=f"optimizer.{name}",
            kind=Kind.OPTIMIZER,
            phase=Phase.OPTIMIZER,
            inputs=arrays(read),
            outputs=arrays(written),
            attrs={"launches": launches, "tensors": tensors},
        )
        for name, read, written in kernels
    )
