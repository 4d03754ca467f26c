"""``nn.LSTM``, ``nn.GRU`` and ``nn.RNN`` as one operator each, as accelerators run them."""

from __future__ import annotations

from typing import Any

import torch

#: Gates of a cell by the name PyTorch gives the function.
CELLS = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}

#: input, states, weights, has_biases, layers, dropout, train, bidirectional, batch_first. A packed
#: sequence comes with other arguments and is left to PyTorch.
UNPACKED_ARGUMENTS = 9

_LIBRARY = torch.library.Library("rigwise", "FRAGMENT")
_LIBRARY.define("rnn(Tensor x, Tensor[] states, Tensor[] weights, int gates, int layers, bool train) -> Tensor[]")
_LIBRARY.define(
    "rnn_backward(Tensor grad, Tensor x, Tensor[] states, Tensor[] weights, Tensor y, Tensor reserve,"
    " int gates, int layers) -> Tensor[]"
)


@torch.library.register_fake("rigwise::rnn", lib=_LIBRARY)
def _rnn_shapes(x: Any, states: list[Any], _weights: Any, gates: int, layers: int, train: bool) -> list[Any]:
    steps, batch, _ = x.shape
    stacked, _, hidden = states[0].shape
    out = [x.new_empty(steps, batch, hidden * (stacked // layers)), *(torch.empty_like(s) for s in states)]
    if train:  # gates after activation and the new state of every step, layer and direction
        out.append(x.new_empty(stacked, steps, batch, hidden * (gates + 1)))
    return out


@torch.library.register_fake("rigwise::rnn_backward", lib=_LIBRARY)
def _rnn_backward_shapes(_grad: Any, x: Any, states: list[Any], weights: list[Any], *_: Any) -> list[Any]:
    return [torch.empty_like(t) for t in (x, *states, *weights)]


class _Recurrent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: int, layers: int, count: int, x: Any, *rest: Any) -> Any:
        states, weights = list(rest[:count]), list(rest[count:])
        y, *after, reserve = torch.ops.rigwise.rnn(x, states, weights, gates, layers, True)
        ctx.save_for_backward(x, *rest, y, reserve)
        ctx.sizes = gates, layers, count
        return (y, *after)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, *rest, y, reserve = ctx.saved_tensors
        gates, layers, count = ctx.sizes
        out = torch.ops.rigwise.rnn_backward(grads[0], x, rest[:count], rest[count:], y, reserve, gates, layers)
        return None, None, None, *out


def run(gates: int, x: Any, states: Any, weights: list[Any], *flags: Any) -> Any:
    """The layers of one recurrent module; arguments as ``torch.lstm`` takes them."""
    _biases, layers, _dropout, _train, _bidirectional, batch_first = flags
    states = list(states) if isinstance(states, list | tuple) else [states]
    x = x.transpose(0, 1).contiguous() if batch_first else x
    if torch.is_grad_enabled():
        y, *after = _Recurrent.apply(gates, layers, len(states), x, *states, *weights)
    else:
        y, *after = torch.ops.rigwise.rnn(x, states, weights, gates, layers, False)
    return (y.transpose(0, 1) if batch_first else y, *after)
