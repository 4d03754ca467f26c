"""The arithmetic that is timed: products, convolutions, attention, optimizers, molecules, networks."""

import numpy as np
import pytest

from rigwise.bench import (
    attention,
    cache,
    convolution,
    formats,
    launch,
    matmul,
    molecular,
    networks,
    optimizer,
    stream,
    transformer,
)  # fmt: skip
from rigwise.bench.types import Context

torch = pytest.importorskip("torch")

CONTEXT = Context(each_s=0.002, threads=1, memory_bytes=1e9, cache_bytes=2**20)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("number_format", ["fp64", "fp32", "bf16"])
def test_products_are_products(number_format) -> None:
    found = matmul.product(torch, CONTEXT, number_format, 64)()
    a = matmul.normal(torch, CONTEXT, number_format, 64, 64).double()
    assert torch.allclose(found.double(), a @ a, rtol=0.02, atol=0.1)


def test_int8_products_are_exact() -> None:
    a = matmul.normal(torch, CONTEXT, "int8", 32, 32)
    found = matmul.product(torch, CONTEXT, "int8", 32)()
    assert found.dtype == torch.int32
    assert torch.equal(found.long(), a.long() @ a.long())


def test_the_figures_of_products(monkeypatch) -> None:
    monkeypatch.setattr(matmul, "SIDES", (32, 64))
    found = {raw.name: raw for raw in matmul.run(CONTEXT)}
    assert {"matmul.fp64", "matmul.fp32", "matmul.bf16", "matmul.fp16", "matmul.int8"} == set(found)
    of = found["matmul.fp32"]
    assert of.amount == 2 * of.parameters["side"] ** 3
    assert all(sample > 0 for sample in of.timing.samples_s)


def test_without_pytorch_products_come_from_numpy(monkeypatch) -> None:
    monkeypatch.setattr(matmul, "SIDES", (32, 64))
    monkeypatch.setattr(matmul, "torch_or_none", lambda: None)
    assert [raw.name for raw in matmul.run(CONTEXT)] == ["matmul.fp64", "matmul.fp32"]


@pytest.mark.parametrize("module", [attention, cache, convolution, formats, optimizer, networks, transformer])
def test_without_pytorch_the_reason_is_the_install_line(module, monkeypatch) -> None:
    monkeypatch.setattr(module, "torch_or_none", lambda: None)
    (found,) = module.run(CONTEXT)
    assert "pip install 'rigwise[bench]'" in found.skipped


def test_the_memory_bounds_the_size() -> None:
    assert matmul.side_for(1e-9, 1.0, 3 * 512**2) == 512


def test_triad_and_copy() -> None:
    copied = stream.operation(torch, CONTEXT, "copy", 4096)()
    source = stream.normal(torch, CONTEXT, "fp32", 1024)
    assert torch.equal(copied, source)
    assert torch.allclose(stream.operation(torch, CONTEXT, "triad", 4096)(), 4 * source)


def test_both_layouts_convolve_alike() -> None:
    planes, pixels = (convolution.convolution(torch, CONTEXT, "fp32", layout, 2)() for layout in ("nchw", "nhwc"))
    assert planes.shape == (2, convolution.CHANNELS, convolution.PIXELS, convolution.PIXELS)
    assert torch.allclose(planes, pixels, atol=1e-3)
    assert pixels.is_contiguous(memory_format=torch.channels_last)


def test_attention_is_softmax_of_scores_under_a_mask() -> None:
    sizes = {"batch": 1, "heads": 2, "seq": 8, "head": 4}
    found = attention.attention(torch, CONTEXT, "fp32", sizes, with_backward=False)()
    values = torch.randn((3, 1, 2, 8, 4), generator=torch.Generator().manual_seed(CONTEXT.seed))
    scores = values[0] @ values[1].transpose(-1, -2) / 4**0.5
    scores = scores.masked_fill(torch.ones(8, 8).triu(1).bool(), float("-inf"))
    assert torch.allclose(found, scores.softmax(-1) @ values[2], atol=1e-5)


def test_formats_lose_what_their_steps_allow() -> None:
    found = {raw.name.partition(".")[2]: raw for raw in formats.run(CONTEXT)}
    errors = [found[name].value for name in ("fp64", "fp32", "fp16", "bf16", "int8")]
    assert errors == sorted(errors)
    for name in ("fp32", "fp16", "bf16"):
        assert 0.05 * found[name].parameters["step"] < found[name].value < 10 * found[name].parameters["step"]
    assert found["fp16"].parameters["largest"] == 65504
    assert found["bf16"].parameters["step"] == 2**-7


def test_the_optimizers_move_their_weights() -> None:
    found = {raw.name: raw for raw in optimizer.run(CONTEXT)}
    sgd, adamw = found["optimizer.sgd"], found["optimizer.adamw"]
    assert adamw.amount / sgd.amount == 7 / 5
    assert sgd.amount == 4 * 5 * sgd.parameters["elements"]


def test_launches_are_timed_one_by_one() -> None:
    assert [raw.name for raw in launch.run(CONTEXT)] == ["launch.queued"]


def test_forces_are_the_slope_of_the_potential() -> None:
    system = molecular.System(CONTEXT, 6)
    rng = np.random.default_rng(1)
    system.positions = system.positions.astype(np.float64) + rng.normal(0, 0.05, system.positions.shape)
    forces, _ = system.interact()
    ends = []
    for sign in (1, -1):
        moved = system.positions.copy()
        moved[5, 1] += sign * 1e-5
        kept, system.positions = system.positions, moved
        ends.append(float(system.interact()[1]))
        system.positions = kept
    assert forces[5, 1] == pytest.approx(-(ends[0] - ends[1]) / 2e-5, rel=1e-4)
    assert np.abs(forces.sum(axis=0)).max() < 1e-6 * np.abs(forces).sum()


def test_a_gpu_has_the_cpu_beside_it(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(molecular, "_on", lambda context, name: iter(asked.append((name, context.target)) or ()))
    assert not [*molecular.run(CONTEXT), *molecular.run(Context(target="cuda:0"))]
    assert asked == [("molecular.pairs", "cpu"), ("molecular.pairs", "cuda:0"), ("molecular.pairs-of-cpu", "cpu")]


def test_energy_is_kept_and_both_libraries_agree() -> None:
    systems = [molecular.System(CONTEXT, 6), molecular.System(CONTEXT, 6, torch)]
    before = systems[0].energy()
    for system in systems:
        for _ in range(40):
            system.step()
    after = [system.energy() for system in systems]
    kinetic = 0.5 * float((systems[0].velocities ** 2).sum())
    assert abs(after[0] - before) < 0.01 * kinetic
    assert after[1] == pytest.approx(after[0], rel=1e-3)


@pytest.mark.parametrize("model", networks._ALL)
def test_networks_have_the_weights_and_the_arithmetic_of_the_zoo(model) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from rigwise.graph.load import load_model
    from rigwise.graph.summary import costs_of

    with torch.device("meta"):
        net = networks.gpt2(torch) if model == "gpt2" else networks.image_network(torch, model)
        tokens = torch.zeros(1, networks.TOKENS, dtype=torch.long)
        inputs = tokens if model == "gpt2" else torch.zeros(1, 3, networks.PIXELS, networks.PIXELS)
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            net.eval()(inputs)
    zoo = load_model(model)
    assert sum(weight.numel() for weight in net.parameters()) == zoo.parameter_count
    sizes = {"b": 1, "s": networks.TOKENS, "p": networks.PIXELS}
    flops = sum(cost.flops for cost in costs_of(zoo.graphs["infer"].ops, sizes, model))
    assert counted.get_total_flops() == pytest.approx(flops, rel=0.02)


def test_a_cpu_with_little_time_runs_small_networks_and_those_that_were_named() -> None:
    little = Context(each_s=0.4)
    assert networks.chosen(little) == networks._SMALL
    assert (
        networks.chosen(Context(each_s=3.0)) == networks.chosen(Context(each_s=0.4, target="cuda:0")) == networks._ALL
    )
    assert "vgg19" in networks.chosen(Context(each_s=0.4, wanted=("networks.vgg19.forward",)))


def test_a_step_that_would_take_minutes_is_left_out(monkeypatch) -> None:
    monkeypatch.setattr(networks, "_MOST_STEP_S", 0.0)
    monkeypatch.setattr(networks, "made", lambda torch, context, model: (torch.nn.Identity(), torch.zeros(2, 2)))
    forward, training = networks._both(torch, CONTEXT, "alexnet", ["forward", "training"])
    assert forward.timing.samples_s
    assert training.skipped.startswith("a step would take about")


def test_a_layer_changes_its_tokens_and_has_slopes_everywhere() -> None:
    sizes = {"width": 32, "heads": 2, "seq": 8, "batch": 2}
    out = transformer.layer(torch, CONTEXT, "fp32", sizes, with_backward=False)()
    assert out.shape == (2, 8, 32)
    slopes = transformer.layer(torch, CONTEXT, "fp32", sizes, with_backward=True)()
    assert slopes[0].shape == out.shape
    assert all(slope.abs().sum() > 0 for slope in slopes[:1])
    assert sum(slope.numel() for slope in slopes[1:]) == 12 * 32**2 + 13 * 32


def test_a_training_step_leaves_gradients_everywhere() -> None:
    net = networks.gpt2(torch, layers=2, width=32, heads=2, vocabulary=101)
    tokens = torch.randint(101, (1, 16))
    assert networks.step(torch, net, tokens, training=False)().shape == (1, 16, 101)
    networks.step(torch, net, tokens, training=True)()
    assert all(weight.grad is not None for weight in net.parameters())


def test_a_later_token_does_not_change_an_earlier_one() -> None:
    torch.manual_seed(0)
    net = networks.gpt2(torch, layers=2, width=32, heads=2, vocabulary=101).eval()
    tokens = torch.randint(101, (1, 16))
    changed = tokens.clone()
    changed[0, -1] = (changed[0, -1] + 1) % 101
    with torch.no_grad():
        before, after = net(tokens), net(changed)
    assert torch.allclose(before[0, :-1], after[0, :-1], atol=1e-5)
    assert not torch.allclose(before[0, -1], after[0, -1], atol=1e-3)


def test_the_caches_are_swept_by_size() -> None:
    found = list(cache.run(CONTEXT))
    assert [raw.amount for raw in found] == sorted(raw.amount for raw in found)
