"""The update rules as kernels, against what PyTorch really runs."""

import pytest

from rigwise.graph.count import work
from rigwise.graph.graph import Parameter
from rigwise.graph.passes.optimizer import KERNELS, STATE_ARRAYS, optimizer_ops

torch = pytest.importorskip("torch")

N = 1000


def captured_step(optimizer_name):
    """Names and traffic, in arrays of the parameters' size, of a second optimizer step."""
    from torch.utils._python_dispatch import TorchDispatchMode

    calls = []

    class Log(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            calls.append(func.__name__)
            return func(*args, **(kwargs or {}))

    parameter = torch.nn.Parameter(torch.zeros(N))
    make = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1, foreach=True),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True),
        "adam": lambda p: torch.optim.Adam(p, lr=0.1, foreach=True),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True),
    }
    optimizer = make[optimizer_name]([parameter])
    parameter.grad = torch.ones(N)
    optimizer.step()
    with Log():
        optimizer.step()
    arrays = sum(v.numel() == N for v in optimizer.state[parameter].values() if torch.is_tensor(v))
    return [name.removeprefix("_foreach_").split(".")[0] for name in calls if "_foreach_" in name], arrays


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw"])
def test_kernels_are_those_of_a_real_step(name):
    real, arrays = captured_step(name)
    counters = ("add_",) if name.startswith("adam") else ()  # the step counter, a scalar a tensor
    if counters and real[0] == "add_":
        real = real[1:]
    assert sorted(kernel.rstrip("_") for kernel, _, _ in KERNELS[name]) == sorted(k.rstrip("_") for k in real)
    assert STATE_ARRAYS[name] == arrays


def test_adamw_moves_twenty_one_arrays():
    """Each line of the rule counted by hand: 2+3+2+3+2+2+2+4, less nothing."""
    ops = optimizer_ops([Parameter(name="w", shape=(N,))], "adamw", "float32")
    moved = sum(work(op, {}).read_bytes + work(op, {}).write_bytes for op in ops)
    mul_p, lerp, mul_v, addcmul, sqrt, div, add, addcdiv = 2, 3, 2, 3, 2, 2, 2, 4
    assert moved == 4 * N * (mul_p + lerp + mul_v + addcmul + sqrt + div + add + addcdiv)


def test_frozen_parameters_are_not_updated():
    frozen = Parameter(name="w", shape=(N,), trainable=False)
    assert optimizer_ops([frozen], "adamw", "float32") == ()
    assert optimizer_ops([Parameter(name="w", shape=(N,))], "none", "float32") == ()
