"""What a factory may return besides a plain PyTorch module, and what its code may do on the way."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections import Counter
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from rigwise.errors import CaptureError, InvalidInputError, MissingExtraError
from rigwise.graph.capture import factory as front
from rigwise.graph.capture.from_torch.fake import fake_tensors
from rigwise.graph.capture.run import capture_factory
from rigwise.graph.count import work
from rigwise.graph.op import Kind, Phase

torch = pytest.importorskip("torch")
nn, functional = torch.nn, torch.nn.functional


def model_of(function):
    with fake_tensors():
        return front.model_of(function, spec="nets:net", name="net")


def flops(model, task="infer"):
    graph, found = model.graphs[task], Counter()
    for op in graph.ops:
        found[op.phase] += op.repeat * work(op, graph.symbols).flops
    return found


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(16, 8), nn.Linear(8, 16)

    def forward(self, x):
        return self.second(functional.relu(self.first(x)))


def inputs(rows=4):
    return torch.randn(rows, 16)


PLAIN = 2 * 8 * (16 * 8 + 8 * 16)  # FLOPs of Net at a batch of 8


# Wrappers and formats


@pytest.mark.filterwarnings("ignore")
def test_wrappers_are_taken_off():
    inner = nn.Sequential
    found = {
        "compiled": model_of(lambda: (torch.compile(Net()), inputs())),
        "compiled inside": model_of(lambda: (inner(torch.compile(Net())), inputs())),
        "replicated": model_of(lambda: (nn.DataParallel(Net()), inputs())),
        "scripted": model_of(lambda: (torch.jit.script(Net()), inputs())),
    }
    assert {name: flops(model)[Phase.FORWARD] for name, model in found.items()} == dict.fromkeys(found, PLAIN)
    assert {name: model.parameter_count for name, model in found.items()} == dict.fromkeys(found, 280)
    assert found["replicated"].card.assumed == ("DataParallel was taken off: one device runs the whole module",)
    assert found["compiled"].card.assumed == ()


def compiled_in_place():
    module = Net()
    module.compile()
    return module, inputs()


def on_meta():
    with torch.device("meta"):
        module = Net()
    module.second.weight = nn.Parameter(module.first.weight.t())
    return module, torch.empty(4, 16, device="meta")


def in_half():
    return Net().half(), inputs().half()


def in_bfloat16_by_to():
    return Net().to(torch.bfloat16), inputs().bfloat16()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", [compiled_in_place, on_meta, in_half, in_bfloat16_by_to])
def test_modules_in_any_state_are_captured_as_in_float32(function):
    model = model_of(function)
    assert flops(model)[Phase.FORWARD] == PLAIN
    assert {t.dtype for op in model.graphs["train"].ops for t in op.outputs} == {"float32"}
    assert ("captured in float32: the workload says in which precision it runs" in model.card.assumed) == (
        function in (in_half, in_bfloat16_by_to)
    )


def test_a_shared_weight_stays_one_when_a_module_is_rebuilt():
    def factory():
        module = Net()
        module.second.weight = module.first.weight
        module.second = nn.Linear(8, 8)
        module.first.weight, module.first = module.second.weight, module.second
        return module.bfloat16(), torch.randn(4, 8).bfloat16()

    assert model_of(factory).parameter_count == 8 * 8 + 8


def test_weights_made_before_the_capture_are_not_read():
    module = Net()  # real numbers
    model = model_of(lambda: (module, inputs()))
    assert flops(model)[Phase.FORWARD] == PLAIN
    assert Kind.UNKNOWN not in {op.kind for op in model.graphs["train"].ops}


def test_a_module_that_runs_at_one_batch_alone_keeps_it():
    class Fixed(Net):
        def forward(self, x):
            return super().forward(x).view(4, 4, 4)

    model = model_of(lambda: (Fixed(), inputs(4)))
    assert dict(model.graphs["infer"].symbols) == {}
    assert model.card.assumed == ("the batch is that of the example inputs",)


def test_a_number_among_the_inputs_has_no_batch():
    class Timed(Net):
        def forward(self, x, step):
            return super().forward(x) * step

    assert dict(model_of(lambda: (Timed(), (inputs(), torch.tensor(3)))).graphs["infer"].symbols) == {"b": 8}


# What is wrong with a factory


async def asynchronous():
    return Net(), inputs()


def generator():
    yield Net(), inputs()


def needy(depth, width, batch=2):
    del depth, width, batch


def refusing(signal):
    def factory():
        raise signal

    return factory


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (lambda: None, CaptureError, "nets:net returned None; end it with: return model, example_inputs"),
        (lambda: (Net, inputs()), CaptureError, "returned the class Net, not a model; make one: call it"),
        (asynchronous, CaptureError, "is an async function; make it a plain function"),
        (generator, CaptureError, "yields instead of returning"),
        (needy, InvalidInputError, "nets:net needs arguments: depth, width; give them defaults"),
        (lambda: (Net(), None, 3), CaptureError, "returned a tuple, not a torch.nn.Module"),
        (lambda: ("net", inputs()), CaptureError, "returned a str, not a torch.nn.Module"),
        (lambda: (Net(), {}), CaptureError, "returned a dict as example inputs"),
        (
            lambda: (Net(), torch.randn(4, 5)),
            CaptureError,
            r"failed at test_capture_factory_kinds.py:\d+: RuntimeError",
        ),
    ],
)
def test_a_factory_that_returns_no_model_is_told_what_to_return(function, error, words):
    with pytest.raises(error, match=words) as caught:
        model_of(function)
    assert "\n" not in str(caught.value)


def test_required_sizes_are_filled_in():
    def factory(batch, seq):
        return nn.Linear(8, 4), torch.zeros(batch, seq, 8)

    assert dict(model_of(factory).graphs["infer"].symbols) == {"b": 8, "s": 512}


LOOKING = {
    "item": lambda x: x.sum().item(),
    "branch": lambda x: 1 if x.sum() > 0 else 0,
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "list": lambda x: x.tolist(),
    "numpy": lambda x: x.detach().numpy(),
    "range": lambda x: range(x.sum().long()),
    "in a library": lambda x: functional.one_hot(x.long()),
    "through sorted": lambda x: sorted([x[0, 0], x[1, 0]]),
}


@pytest.mark.parametrize("name", LOOKING)
def test_looking_at_values_is_refused_with_the_authors_line(name):
    class Looking(Net):
        def forward(self, x):
            LOOKING[name](x)
            return super().forward(x)

    with pytest.raises(CaptureError, match=r"failed at test_capture_factory_kinds.py:\d+: ") as caught:
        model_of(lambda: (Looking(), inputs()))
    assert "\n" not in str(caught.value)


# Lightning


def lightning_net(step):
    package = pytest.importorskip("lightning")

    class Lit(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, index):
            return step(self, batch)

    return Lit()


def cross_entropy(module, batch):
    x, labels = batch
    loss = functional.cross_entropy(module(x), labels)
    module.log("loss", loss)
    return {"loss": loss}


def printing(module, batch):
    loss = cross_entropy(module, batch)["loss"]
    print(loss.item())
    return loss


def by_hand(module, batch):
    module.optimizers().step()


def batch():
    return inputs(), torch.zeros(4, dtype=torch.long)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("step", "words", "has_cross_entropy"),
    [
        (cross_entropy, "the loss is that of training_step", True),
        (
            printing,
            r"the loss is the mean square of the outputs: training_step failed at .*:\d+ \(DataDependent",
            False,
        ),
        (by_hand, r"the loss is the mean square of the outputs: training_step failed at .*:\d+ \(RuntimeError", False),
        (lambda *_: None, "the loss is the mean square of the outputs: training_step returned no loss", False),
    ],
)
def test_the_loss_of_a_lightning_module_is_its_training_step_if_that_runs(step, words, has_cross_entropy):
    model = model_of(lambda: (lightning_net(step), batch()))
    (note,) = model.card.assumed
    assert pytest.importorskip("re").match(words, note)
    assert ("aten.nll_loss_forward" in {op.name for op in model.graphs["train"].ops}) == has_cross_entropy
    assert flops(model)[Phase.FORWARD] == flops(model, "train")[Phase.FORWARD] == PLAIN


@pytest.mark.filterwarnings("ignore")
def test_a_lightning_module_may_hold_its_example_inputs():
    def factory():
        module = lightning_net(lambda module, x: module(x).sum())
        module.example_input_array = inputs()
        return module

    assert flops(model_of(factory))[Phase.FORWARD] == PLAIN


# Keras


KERAS = """
import keras
from keras import layers

def images():
    return keras.Sequential([
        keras.Input((32, 32, 3)), layers.Conv2D(16, 3, strides=2, padding="same"), layers.BatchNormalization(),
        layers.ReLU(), layers.MaxPooling2D(), layers.Flatten(), layers.Dropout(0.2), layers.Dense(10)])
"""


@pytest.fixture
def keras_nets(tmp_path, monkeypatch):
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed")
    (tmp_path / "keras_nets.py").write_text(KERAS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_keras_model_is_captured_through_its_backend(keras_nets, monkeypatch, backend):
    pytest.importorskip(backend)
    monkeypatch.setenv("KERAS_BACKEND", backend)
    model = capture_factory("keras_nets:images")
    convolution, product = 2 * 8 * 16 * 16 * 27 * 16, 2 * 8 * (8 * 8 * 16) * 10
    assert dict(model.graphs["infer"].symbols) == {"b": 8}
    assert flops(model)[Phase.FORWARD] == convolution + product
    assert flops(model, "train")[Phase.BACKWARD] == convolution + 2 * product
    assert model.parameter_count == 28 * 16 + 2 * 16 + (8 * 8 * 16 + 1) * 10
    assert model.buffer_bytes >= 2 * 16 * 4
    assert {op.module for op in model.graphs["infer"].ops if op.kind is Kind.CONV} == {"conv2d"}


def keras_stub(monkeypatch, backend):
    """Keras on a backend that is not installed here."""

    class Layer:
        built = True

    stub = SimpleNamespace(Layer=Layer, backend=SimpleNamespace(backend=lambda: backend))
    monkeypatch.setitem(sys.modules, "keras", stub)
    return Layer


def test_keras_on_tensorflow_is_told_to_choose_another_backend(monkeypatch):
    layer = keras_stub(monkeypatch, "tensorflow")
    with pytest.raises(CaptureError, match=r"runs on tensorflow here.*; set KERAS_BACKEND=torch or KERAS_BACKEND=jax"):
        model_of(layer)


def test_a_module_that_needs_tensorflow_is_told_the_same(tmp_path, monkeypatch):
    (tmp_path / "flowing.py").write_text("import tensorflow\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(CaptureError, match=r"importing flowing failed at flowing.py:1: .*KERAS_BACKEND=torch"):
        front.find_factory("flowing:net")


# diffusers and torch-geometric


def unet():
    diffusers = pytest.importorskip("diffusers")
    module = diffusers.UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8, cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    return module, {
        "sample": torch.randn(2, 4, 16, 16),
        "timestep": torch.tensor(1),
        "encoder_hidden_states": torch.randn(2, 7, 32),
    }


def autoencoder():
    diffusers = pytest.importorskip("diffusers")
    module = diffusers.AutoencoderKL(block_out_channels=(32,), norm_num_groups=8)
    return module, torch.randn(2, 3, 32, 32)


def transformer():
    diffusers = pytest.importorskip("diffusers")
    module = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, num_layers=2, sample_size=16,
        num_embeds_ada_norm=10, norm_type="ada_norm_zero",
    )  # fmt: skip
    labels = torch.zeros(2, dtype=torch.long)
    return module, {"hidden_states": torch.randn(2, 4, 16, 16), "timestep": labels, "class_labels": labels}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", [unet, autoencoder, transformer])
def test_diffusers_models_are_captured(function):
    model = model_of(function)
    assert "diffusers" in model.captured_with
    assert dict(model.graphs["infer"].symbols) == {"b": 8}
    forward, train = flops(model)[Phase.FORWARD], flops(model, "train")
    assert train[Phase.FORWARD] == forward
    assert 1.9 * forward < train[Phase.BACKWARD] < 2.6 * forward
    assert Kind.UNKNOWN not in {op.kind for graph in model.graphs.values() for op in graph.ops}


NODES, EDGES = 50, 200


def graph_net(name, **options):
    layers = pytest.importorskip("torch_geometric.nn")

    class GraphNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = getattr(layers, name)(16, 32, **options)
            self.second = getattr(layers, name)(32, 8)

        def forward(self, x, edges):
            return self.second(functional.relu(self.first(x, edges)), edges)

    return lambda: (GraphNet(), (torch.randn(NODES, 16), torch.zeros(2, EDGES, dtype=torch.long)))


LOOPS = "no edge of a graph joins a node to itself"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "products", "assumed"), [("GCNConv", 1, True), ("SAGEConv", 2, False), ("GATConv", 1, True)]
)
def test_graph_networks_are_captured(name, products, assumed):
    model = model_of(graph_net(name))
    assert dict(model.graphs["infer"].symbols) == {}
    assert "the batch is that of the example inputs" in model.card.assumed
    assert (LOOPS in model.card.assumed) == assumed
    assert flops(model)[Phase.FORWARD] == products * 2 * NODES * (16 * 32 + 32 * 8)
    kinds = {op.kind for graph in model.graphs.values() for op in graph.ops}
    assert Kind.INDEX in kinds
    assert Kind.UNKNOWN not in kinds
    messages = EDGES + NODES if assumed else EDGES
    assert any(t.shape[0] == messages for op in model.graphs["infer"].ops for t in op.outputs)


@pytest.mark.filterwarnings("ignore")
def test_torch_geometric_is_left_as_it_was():
    layers = pytest.importorskip("torch_geometric.nn.conv.gcn_conv")
    before = layers.add_remaining_self_loops
    model_of(graph_net("GCNConv"))
    assert layers.add_remaining_self_loops is before


@pytest.mark.filterwarnings("ignore")
def test_a_pool_over_graphs_of_unknown_number_is_refused_with_its_line():
    layers = pytest.importorskip("torch_geometric.nn")

    class Pooled(Net):
        def forward(self, x, graphs):
            return layers.global_mean_pool(super().forward(x), graphs)

    with pytest.raises(CaptureError, match=r"failed at test_capture_factory_kinds.py:\d+: DataDependent"):
        model_of(lambda: (Pooled(), (inputs(), torch.zeros(4, dtype=torch.long))))


@pytest.mark.filterwarnings("ignore")
def test_a_fault_inside_a_library_names_its_file():
    layers = pytest.importorskip("torch_geometric.nn")
    with pytest.raises(CaptureError, match=r"failed at torch_geometric/nn/aggr/\w+.py:\d+: DataDependent"):
        model_of(lambda: (layers.MeanAggregation(), (inputs(), torch.zeros(4, dtype=torch.long))))


# In the child process


ROGUE = """
import os, signal, sys, threading, time
import torch
from torch import nn

def pid(name):
    with open(name, "w") as stream:
        stream.write(str(os.getpid()))

def rogue():
    folder = os.getcwd()
    print("x" * 100_000)
    if not os.fork():                      # a copy that captures too
        pass
    elif not os.fork():                    # a child that sleeps
        pid(f"{folder}/sleeping")
        time.sleep(600)
    elif not os.fork():                    # one that leaves its group and its parent
        os.setsid()
        if not os.fork():
            pid(f"{folder}/daemon")
            time.sleep(600)
        os._exit(0)
    threading.Thread(target=time.sleep, args=(600,)).start()
    for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    os.chdir("/")
    sys.stdout = sys.stderr = None
    for name in ("sleeping", "daemon"):
        while not os.path.exists(f"{folder}/{name}"):
            time.sleep(0.05)
    return nn.Linear(8, 4), torch.zeros(2, 8)

def leaving():
    sys.exit(0)
"""


def gone(pid):
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{pid}/stat") as stream:
            if stream.read().rpartition(")")[2].split()[0] == "Z":
                return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="fork, and orphans that can be adopted")
def test_what_a_factory_starts_ends_with_it_and_its_answer_is_whole(tmp_path, monkeypatch):
    (tmp_path / "rogues.py").write_text(ROGUE)
    monkeypatch.chdir(tmp_path)
    assert capture_factory("rogues:rogue").parameter_count == 36
    assert gone(int((tmp_path / "sleeping").read_text()))
    assert gone(int((tmp_path / "daemon").read_text()))


@pytest.fixture
def without(tmp_path, monkeypatch):
    """Packages that the child does not find."""

    def hide(*packages):
        place = tmp_path / "path"
        place.mkdir()
        lines = "".join(f"sys.modules[{name!r}] = None\n" for name in packages)
        (place / "sitecustomize.py").write_text(f"import sys\n{lines}")
        monkeypatch.setenv("PYTHONPATH", str(place))
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return hide


JAX_NET = """
import jax.numpy as jnp

def net():
    return lambda w, x: x @ w, (jnp.zeros((8, 4)), jnp.zeros((2, 8)))
"""


def test_jax_alone_is_enough(without):
    pytest.importorskip("jax")
    (without("torch", "transformers") / "alone.py").write_text(JAX_NET)
    model = capture_factory("alone:net")
    assert (model.parameter_count, set(model.captured_with)) == (32, {"jax"})


@pytest.mark.parametrize(
    ("missing", "code", "extra"),
    [
        ("jax", "import jax.numpy\n", "jax"),
        ("torch", "import torch.nn\n", "torch"),
        ("jax", "def net(): import jax", "jax"),
    ],
)
def test_the_extra_that_is_missing_is_named(without, missing, code, extra):
    (without("torch", missing) / "lacking.py").write_text(code)
    with pytest.raises(MissingExtraError, match=rf"needs {missing}, which is not installed; .*rigwise\[{extra}\]"):
        capture_factory("lacking:net")


def test_leaving_python_with_success_is_no_answer(tmp_path, monkeypatch):
    (tmp_path / "rogues.py").write_text(ROGUE)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("rogues")
    with pytest.raises(SystemExit):  # which the child turns into one line: see test_capture_child.py
        model_of(module.leaving)
