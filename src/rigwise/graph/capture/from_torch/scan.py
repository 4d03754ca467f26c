"""Recurrences over time that are linear in their state: one operator for all steps.

Mamba, Mamba-2, gated delta rules and RWKV carry a state from token to token. Accelerators run all steps in
one kernel that reads its inputs once, writes its output once and keeps the state on chip; the backward pass
computes the states again. Without those kernels, transformers runs a Python loop over tokens, or takes
the recurrence apart into chunks. Here each such call is one ``rigwise.linear_scan``; decoding one token is a
``rigwise.linear_scan_step``, which reads and writes the state.

Source: Gu & Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, section 3.3.2.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

_LIBRARY = torch.library.Library("rigwise", "FRAGMENT")
_LIBRARY.define("linear_scan(Tensor x, Tensor[] reads, int state_size, int[] final_state) -> Tensor[]")
_LIBRARY.define("linear_scan_backward(Tensor grad, Tensor x, Tensor[] reads, int state_size) -> Tensor[]")
_LIBRARY.define("linear_scan_step(Tensor x, Tensor[] reads, Tensor(a!) state, int state_size) -> Tensor")


@torch.library.register_fake("rigwise::linear_scan", lib=_LIBRARY)
def _scan_shapes(x: Any, _reads: Any, _state_size: int, final_state: list[int]) -> list[Any]:
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    return [y, x.new_empty(final_state)] if final_state else [y]


@torch.library.register_fake("rigwise::linear_scan_backward", lib=_LIBRARY)
def _scan_backward_shapes(_grad: Any, x: Any, reads: list[Any], _state_size: int) -> list[Any]:
    return [torch.empty_like(t) for t in (x, *reads)]


@torch.library.register_fake("rigwise::linear_scan_step", lib=_LIBRARY)
def _step_shapes(x: Any, _reads: Any, _state: Any, _state_size: int) -> Any:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state_size: int, final_state: list[int], x: Any, *reads: Any) -> Any:
        ctx.save_for_backward(x, *reads)
        ctx.state_size = state_size
        y, *last = torch.ops.rigwise.linear_scan(x, list(reads), state_size, final_state)
        ctx.mark_non_differentiable(*last)
        return (y, *last)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, *reads = ctx.saved_tensors
        found = torch.ops.rigwise.linear_scan_backward(grads[0], x, reads, ctx.state_size)
        return None, None, *found


def scan(x: Any, reads: list[Any], state_size: int, final_state: tuple[int, ...] = ()) -> tuple[Any, Any]:
    """The output of all steps, of the shape of ``x``, and the last state, None where no shape is asked for.

    Args:
        x: What enters the state.
        reads: Whatever else the recurrence reads: decays, projections, gates; None where there is none.
        state_size: Elements of the state for each element of a step of ``x``.
        final_state: Shape of the last state, empty if it is not kept.
    """
    given = [t for t in reads if t is not None]
    if torch.is_grad_enabled():
        y, *last = _Scan.apply(state_size, list(final_state), x, *given)
    else:
        y, *last = torch.ops.rigwise.linear_scan(x, given, state_size, list(final_state))
    return y, last[0] if last else None


# What stands for the functions of transformers, with their signatures.


def _selective_scan(x: Any, dt: Any, a: Any, *operands: Any, **options: Any) -> Any:
    """Mamba; ``x`` is ``[batch, channels, tokens]``, ``a`` is ``[channels, state]``; b, c, D and z may follow."""
    last = bool(options.get("return_last_state"))
    shape = (*x.shape[:-1], a.shape[-1]) if last else ()
    reads = [dt, a, *operands, *(options.get(name) for name in ("D", "z", "delta_bias"))]
    y, state = scan(x, reads, a.shape[-1], shape)
    return (y, state) if last else y


def _chunk_scan(x: Any, dt: Any, a: Any, b: Any, c: Any, chunk_size: int, **options: Any) -> Any:
    """Mamba-2; ``x`` is ``[batch, tokens, heads, channels]``, ``b`` is ``[batch, tokens, groups, state]``."""
    del chunk_size
    batch, _, heads, channels = x.shape
    last = bool(options.get("return_final_states"))
    shape = (batch, heads, channels, b.shape[-1]) if last else ()
    reads = [dt, a, b, c, *(options.get(name) for name in ("D", "z", "dt_bias", "initial_states"))]
    y, state = scan(x, reads, b.shape[-1], shape)
    return (y, state) if last else y


def _state_update(state: Any, x: Any, *operands: Any, **options: Any) -> Any:
    """One token of either: ``operands`` are dt, a, b, c and perhaps D."""
    reads = [*operands, *(options.get(name) for name in ("D", "z", "dt_bias"))]
    return torch.ops.rigwise.linear_scan_step(x, [t for t in reads if t is not None], state, state.shape[-1])


def _delta_rule(query: Any, key: Any, value: Any, g: Any, beta: Any, **options: Any) -> tuple[Any, Any]:
    """Gated delta rules; ``value`` is ``[batch, tokens, heads, values]``, the state of a head keys by values."""
    batch, _, heads, values = value.shape
    shape = (batch, heads, key.shape[-1], values) if options.get("output_final_state") else ()
    return scan(value, [query, key, g, beta, options.get("initial_state")], key.shape[-1], shape)


def _rwkv(time_decay: Any, time_first: Any, key: Any, value: Any, state: Any = None, return_state: bool = False) -> Any:
    """RWKV-4: numerator, denominator and maximum of each channel; ``value`` is ``[batch, tokens, channels]``."""
    keep = return_state or state is not None
    shape = (3, value.shape[0], value.shape[-1]) if keep else ()
    y, last = scan(value, [time_decay, time_first, key, *(state or ())], 2, shape)
    return y, list(last.unbind(0)) if keep else None


#: By the name that a modeling file of transformers gives them.
_WHOLE: Mapping[str, Callable[..., Any]] = {
    "mamba_selective_scan": _selective_scan,
    "mamba_selective_state_update": _state_update,
    "mamba2_chunk_scan": _chunk_scan,
    "mamba2_selective_state_update": _state_update,
    "torch_chunk_gated_delta_rule": _delta_rule,
    "torch_recurrent_gated_delta_rule": _delta_rule,
    "chunk_kimi_delta_attention": _delta_rule,
    "recurrent_kimi_delta_attention": _delta_rule,
    "rwkv_linear_attention": _rwkv,
}


@contextmanager
def whole_scans() -> Iterator[None]:
    """Inside, the recurrences of every transformers model that is imported are one operator each."""
    files = [module for name, module in sys.modules.items() if name.startswith("transformers.models.")]
    found = [(vars(m), name) for m in files if "modeling_" in m.__name__ for name in _WHOLE if name in vars(m)]
    kept = [names[name] for names, name in found]
    try:
        for names, name in found:
            names[name] = _WHOLE[name]
        yield
    finally:
        for (names, name), function in zip(found, kept, strict=True):
            names[name] = function
