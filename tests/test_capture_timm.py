"""Networks of timm by name, and the shapes of networks that made capture fail before."""

import copy
import importlib.util
import subprocess
import sys
from itertools import pairwise

import pytest

pytest.importorskip("torch")

from rigwise.errors import CaptureError, UnknownNameError
from rigwise.graph import load
from rigwise.graph.capture import run
from rigwise.graph.capture.from_torch import timm_model
from rigwise.graph.capture.from_torch.assemble import capture
from rigwise.graph.capture.from_torch.fake import BuildingModules, fake_tensors
from rigwise.graph.capture.from_torch.loss import own_loss
from rigwise.graph.capture.from_torch.trace import trace
from rigwise.graph.capture.subject import Subject
from rigwise.graph.capture.symbolic import difference, evaluate
from rigwise.graph.count import work
from rigwise.graph.graph import Card
from rigwise.graph.load import load_model, read_zoo
from rigwise.graph.op import Role

torch = pytest.importorskip("torch")
nn = torch.nn

if importlib.util.find_spec("timm") is None:
    pytest.skip("needs timm", allow_module_level=True)


def captured(name, tasks=("infer",)):
    with fake_tensors():
        return capture(timm_model.subject(name, tasks))


def macs(model):
    graph = model.graphs["infer"]
    return sum(work(op, {**graph.symbols, "b": 1}).macs * op.repeat for op in graph.ops)


def images(build, side=64):
    """A subject of a network of pictures, for inference."""
    with BuildingModules():
        module = build()
    return Subject(
        name="net",
        module=module,
        inputs=lambda _task, sizes: (torch.empty(sizes["b"], 3, sizes["p"], sizes["p"]),),
        loss=own_loss,
        symbols={"infer": {"b": 8, "p": side}},
        card=Card(title="net"),
    )


def test_a_network_of_timm_is_the_same_network_of_the_zoo():
    model, zoo = captured("resnet18"), read_zoo("resnet18")
    assert model.parameter_count == zoo.parameter_count
    assert macs(model) == macs(zoo)
    assert (model.card.family, model.card.source.split()[0]) == ("resnet", "timm")


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_it_predicts_a_picture_size_it_was_not_traced_at(name):
    sizes = {"b": 3, "p": 211}
    with fake_tensors():
        subject = timm_model.subject(name, ("infer",))
        model = capture(subject, whole=True)
        fresh = trace(subject, "infer", sizes)
    assert set(model.graphs["infer"].symbols) == {"b", "p"}
    assert sum(op.repeat for op in model.graphs["infer"].ops) == len(fresh.ops)
    graph = evaluate(model.graphs["infer"], sizes)
    assert sum(work(op, {}).macs * op.repeat for op in graph.ops) == sum(work(op, {}).macs for op in fresh.ops)


def test_a_network_of_one_picture_size_says_so_and_can_be_trained():
    model = captured("test_vit", ("train", "infer"))
    assert dict(model.graphs["infer"].symbols) == {"b": 8}
    assert "image side fixed at 160" in model.card.assumed
    gradients = sum(op.repeat for op in model.graphs["train"].ops for t in op.outputs if t.role is Role.GRADIENT)
    assert gradients == sum(p.count for p in model.parameters)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet_18", "did you mean resnet18"),
        ("ResNet18", "has no network 'ResNet18'; did you mean resnet18"),
        ("hf-hub:someone/something", "has no network 'hf-hub:someone/something'"),
        ("", "has no network ''"),
    ],
)
def test_a_name_that_timm_does_not_have_lists_near_matches(name, words):
    with fake_tensors(), pytest.raises(UnknownNameError, match=words):
        timm_model.subject(name)


def test_a_tag_that_timm_does_not_have_is_one_line():
    with fake_tensors(), pytest.raises(CaptureError, match=r"building timm:resnet18.no_such_tag failed") as caught:
        timm_model.subject("resnet18.no_such_tag")
    assert "\n" not in str(caught.value)


def test_a_timm_word_is_captured_once(monkeypatch):
    first = load_model("timm:test_resnet")
    monkeypatch.setattr(run, "capture_timm", None)
    assert load_model("timm:test_resnet") == first
    assert load.load_model("timm:test_resnet").name == "test_resnet"


def test_without_timm_the_install_line_keeps_torch(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "timm" else find(name))
    with pytest.raises(CaptureError, match=r"timm:x needs timm, which is not installed; .*--no-deps timm"):
        run.capture_timm("x")


def test_without_torchvision_names_stand_in_for_it_and_are_gone_afterwards():
    code = """
import importlib.util, sys
sys.modules["torchvision"] = None
sys.modules.pop("torchvision")
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name.startswith("torchvision") else find(name, *a)
from rigwise.graph.capture.from_torch import timm_model
with timm_model._names_for_torchvision():
    from torchvision.transforms.functional import InterpolationMode
    from torchvision.ops.misc import FrozenBatchNorm2d
    import torchvision.datasets
    assert InterpolationMode.NEAREST != InterpolationMode.BILINEAR
    assert not isinstance(3, FrozenBatchNorm2d) and not hasattr(torchvision, "__all__")
assert not [name for name in sys.modules if name.partition(".")[0] == "torchvision"]
assert timm_model.import_timm().is_model("resnet18")
assert not [name for name in sys.modules if name.partition(".")[0] == "torchvision"]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# What made capture of some networks fail or slow; each is a small network with the same trait.


class Kept(nn.Module):
    """Keeps what its first pass computed."""

    def __init__(self):
        super().__init__()
        self.linear, self.places = nn.Linear(4, 4), None

    def forward(self, x):
        if self.places is None:
            self.places = torch.zeros(4, 4)
        return self.linear(x) @ self.places


def test_what_a_first_pass_keeps_is_not_part_of_a_step():
    with fake_tensors():
        inputs = lambda _task, sizes: (torch.empty(sizes["b"], 4),)  # noqa: E731
        made = Subject(
            name="kept", module=Kept(), inputs=inputs, loss=own_loss, symbols={"infer": {"b": 8}}, card=Card(title="x")
        )
        model = capture(made)
    assert [op.name for op in model.graphs["infer"].ops] == ["aten.addmm", "aten.mm"]


class Together(nn.Module):
    """A list of equal layers whose results stand side by side, so that it cannot be cut short."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1) for _ in range(6)])
        self.join = nn.Conv2d(24, 8, 1)

    def forward(self, x):
        return self.join(torch.cat([branch(x) for branch in self.branches], 1))


def test_a_list_of_equal_layers_that_is_no_chain_is_traced_whole():
    with fake_tensors():
        model = capture(images(Together))
    convolutions = [op for op in model.graphs["infer"].ops if op.name == "aten.convolution"]
    assert sum(op.repeat for op in convolutions) == 7


class Padded(nn.Module):
    """Pads as much as makes the windows of a stride of two cover the picture."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, x):
        missing = (-(-x.shape[-1] // 2) - 1) * 2 + 3 - x.shape[-1]
        return self.convolution(nn.functional.pad(x, (missing // 2, missing - missing // 2) * 2))


def test_padding_that_depends_on_the_picture_leaves_its_side_free():
    with fake_tensors():
        model = capture(images(Padded))
        graph = evaluate(model.graphs["infer"], {"b": 2, "p": 101})
    assert [op.outputs[0].shape for op in graph.ops] == [(2, 3, 103, 103), (2, 4, 51, 51)]


class Patches(nn.Module):
    """Takes pictures of round sides only, and cuts them into patches of two by two."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 8, 3, stride=2, padding=1)

    def forward(self, x):
        if x.shape[-1] % 64:
            raise ValueError("sides are multiples of 64")
        y = self.second(self.first(x))
        batch, channels, height, width = y.shape
        return y.reshape(batch * channels * height // 2, 2, width // 2, 2).transpose(1, 2).contiguous()


def test_sizes_that_several_floors_explain_on_round_sides_are_plain():
    with fake_tensors():
        model = capture(images(Patches))
    assert "image sides are multiples of 64" in model.card.assumed
    assert str(model.graphs["infer"].ops[-1].outputs[0].shape[0]) == "b*p"


class LaidOut(nn.Module):
    """Lays its stages out with tensors that it asks to have on the CPU, as RegNet does."""

    def __init__(self):
        super().__init__()
        widths = torch.arange(4, device="cpu", dtype=torch.float32) * 6 + 5
        widths = (torch.round(widths / 8) * 8).int()
        stages = [3, *torch.unique(widths).tolist()]
        self.stages = nn.Sequential(*(nn.Conv2d(a, b, 1) for a, b in pairwise(stages)))

    def forward(self, x):
        return self.stages(x)


def test_a_layout_computed_with_tensors_on_the_cpu_has_values():
    with fake_tensors():
        model = capture(images(LaidOut))
    assert [p.shape[0] for p in model.parameters if len(p.shape) == 4] == [8, 16, 24]


def test_a_deep_copy_is_a_network_like_another():
    with fake_tensors():
        layer = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
        other = copy.deepcopy(layer)
        copies = copy.deepcopy([layer[0].weight] * 2)
    assert isinstance(other[0].weight, nn.Parameter)
    assert other[0].weight.requires_grad
    assert not other[1].running_mean.requires_grad
    assert copies[0] is copies[1]
    storages = {t.untyped_storage()._cdata for m in (layer, other) for t in (*m.parameters(), *m.buffers())}
    assert len(storages) == 2 * len([*layer.parameters(), *layer.buffers()])


def test_other_operators_at_another_batch_end_the_search_at_once(monkeypatch):
    class Branch(nn.Module):
        def forward(self, x):
            return x + 1 if x.shape[0] % 2 else x * 2

    seen = []

    def inputs(_task, sizes):
        seen.append(sizes["b"])
        return (torch.empty(sizes["b"], 4),)

    with fake_tensors(), pytest.raises(CaptureError, match=r"follow no rule: operator 0 .*aten.add or aten.mul"):
        capture(
            Subject(
                name="x",
                module=Branch(),
                inputs=inputs,
                loss=own_loss,
                symbols={"infer": {"b": 8}},
                card=Card(title="x"),
            )
        )
    assert len(seen) <= 6


def test_graphs_of_the_same_network_are_equal_however_often_it_is_captured():
    first, second = captured("test_resnet"), captured("test_resnet")
    assert difference(first.graphs["infer"], second.graphs["infer"]) == ""
