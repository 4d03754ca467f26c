"""``nn.LSTM``, ``nn.GRU`` and ``nn.RNN``: one operator for each layer and direction.

Accelerators run a layer as one call over all steps; PyTorch on a CPU would unroll it step by step. The
backward pass is two operators, as for a convolution: with respect to the input and to the weights.
"""

from __future__ import annotations

from typing import Any

import torch

#: Gates of a cell by the name of PyTorch's function.
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}

#: input, states, weights, has_biases, layers, dropout, train, bidirectional, batch_first. A packed
#: sequence comes with other arguments and is left to PyTorch.
UNPACKED_ARGUMENTS = 9

_LIBRARY = torch.library.Library("rigwise", "FRAGMENT")
_LIBRARY.define(
    "recurrent(Tensor x, Tensor input_weight, Tensor hidden_weight, Tensor[] biases, Tensor[] states, int gates,"
    " bool train) -> Tensor[]"
)
_LIBRARY.define(
    "recurrent_dgrad(Tensor grad, Tensor input_weight, Tensor hidden_weight, Tensor y, Tensor reserve,"
    " Tensor[] states, int gates) -> Tensor[]"
)
_LIBRARY.define("recurrent_wgrad(Tensor grad_gates, Tensor x, Tensor y, int gates, int biases) -> Tensor[]")


@torch.library.register_fake("rigwise::recurrent", lib=_LIBRARY)
def _recurrent(x: Any, _wi: Any, hidden_weight: Any, _b: Any, states: list[Any], gates: int, train: bool) -> list[Any]:
    hidden = hidden_weight.shape[1]
    out = [x.new_empty(*x.shape[:-1], hidden), *(torch.empty_like(s) for s in states)]
    if train:  # the gates after their activation and the new state of every step
        out.append(x.new_empty(*x.shape[:-1], hidden * (gates + 1)))
    return out


@torch.library.register_fake("rigwise::recurrent_dgrad", lib=_LIBRARY)
def _recurrent_dgrad(grad: Any, input_weight: Any, _wh: Any, _y: Any, _r: Any, states: Any, _gates: int) -> list[Any]:
    rows, columns = input_weight.shape
    gates_grad, x_grad = grad.new_empty(*grad.shape[:-1], rows), grad.new_empty(*grad.shape[:-1], columns)
    return [gates_grad, x_grad, *(torch.empty_like(s) for s in states)]


@torch.library.register_fake("rigwise::recurrent_wgrad", lib=_LIBRARY)
def _recurrent_wgrad(grad_gates: Any, x: Any, y: Any, _gates: int, biases: int) -> list[Any]:
    rows = grad_gates.shape[-1]
    weights = [x.new_empty(rows, x.shape[-1]), x.new_empty(rows, y.shape[-1])]
    return weights + [x.new_empty(rows) for _ in range(biases)]


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: int, biases: int, x: Any, *rest: Any) -> Any:
        weights, states = list(rest[: 2 + biases]), list(rest[2 + biases :])
        y, *after, reserve = torch.ops.rigwise.recurrent(x, *weights[:2], weights[2:], states, gates, True)
        ctx.save_for_backward(x, *weights[:2], y, reserve, *states)
        ctx.sizes = gates, biases
        return (y, *after)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, input_weight, hidden_weight, y, reserve, *states = ctx.saved_tensors
        gates, biases = ctx.sizes
        ops = torch.ops.rigwise
        gates_grad, x_grad, *states_grad = ops.recurrent_dgrad(
            grads[0], input_weight, hidden_weight, y, reserve, states, gates
        )
        return None, None, x_grad, *ops.recurrent_wgrad(gates_grad, x, y, gates, biases), *states_grad


def run(
    gates: int, x: Any, states: Any, weights: list[Any], has_biases: bool, layers: int, *flags: Any
) -> tuple[Any, ...]:
    """What ``torch.lstm`` and its siblings return, for their arguments."""
    dropout, train, bidirectional, batch_first = flags
    states = list(states) if isinstance(states, list | tuple) else [states]
    directions, biases = 2 if bidirectional else 1, 2 if has_biases else 0
    x = x.transpose(0, 1).contiguous() if batch_first else x
    after: list[list[Any]] = [[] for _ in states]
    for layer in range(layers):
        outputs = []
        for row in range(layer * directions, (layer + 1) * directions):
            own = weights[row * (2 + biases) : (row + 1) * (2 + biases)]
            y, *last = _run_layer(gates, biases, x, own, [state[row] for state in states])
            outputs.append(y)
            for kept, state in zip(after, last, strict=True):
                kept.append(state)
        x = outputs[0] if directions == 1 else torch.cat(outputs, -1)
        if dropout and layer < layers - 1:
            x = torch.nn.functional.dropout(x, dropout, train)
    return (x.transpose(0, 1) if batch_first else x, *(torch.stack(kept) for kept in after))


def _run_layer(gates: int, biases: int, x: Any, weights: list[Any], states: list[Any]) -> Any:
    if torch.is_grad_enabled():
        return _Layer.apply(gates, biases, x, *weights, *states)
    return torch.ops.rigwise.recurrent(x, *weights[:2], weights[2:], states, gates, False)
