"""Files that PyTorch wrote: exported programs read as data and traced again, everything else named and refused."""

import json
import pickle
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("torch")

from rigwise.errors import CaptureError, InvalidInputError, RigwiseError, UnsupportedError
from rigwise.graph.capture.from_torch import exported, torch_file
from rigwise.graph.capture.from_torch.assemble import capture
from rigwise.graph.capture.from_torch.fake import fake_tensors
from rigwise.graph.capture.from_torch.loss import own_loss
from rigwise.graph.capture.subject import Subject
from rigwise.graph.capture.symbolic import difference
from rigwise.graph.count import work
from rigwise.graph.graph import Card
from rigwise.graph.load import load_model
from rigwise.graph.op import Phase, Role

torch = pytest.importorskip("torch")
nn, Dim = torch.nn, torch.export.Dim

BATCH = Dim("batch", min=1, max=512)


class Net(nn.Module):
    """Convolution, batch norm, dropout and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(8, 10)

    def forward(self, image):
        return self.head(self.drop(torch.relu(self.norm(self.conv(image))).mean((2, 3))))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (2, 8)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.out(mixed.transpose(1, 2).flatten(2))


class Words(nn.Module):
    """Four equal layers between an embedding and a head that is the same matrix."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(101, 16)
        self.layers = nn.ModuleList([Layer() for _ in range(4)])
        self.head = nn.Linear(16, 101, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        with torch.no_grad():
            places = torch.arange(ids.shape[1])
        x = self.embed(ids) + places[:, None]
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


IMAGE = torch.zeros(2, 3, 32, 32)
IDS = torch.zeros(2, 12, dtype=torch.long)


def saved(path, module, *inputs, sizes=None):
    program = torch.export.export(module, inputs, dynamic_shapes=sizes, strict=False)
    torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """The file of a network whose batch is free."""
    return saved(tmp_path_factory.mktemp("net") / "net.pt2", Net().eval(), IMAGE, sizes=({0: BATCH},))


def captured(path):
    with fake_tensors():
        return capture(exported.subject(path, name=path.stem))


def directly(build, shape, dtype, symbols):
    """The same module without a file between."""

    def inputs(_task, sizes):
        return (torch.zeros([sizes.get(n, n) for n in shape], dtype=dtype),)

    with fake_tensors():
        module = build().eval()
        return capture(
            Subject(name="x", module=module, inputs=inputs, loss=own_loss, symbols=symbols, card=Card(title="x"))
        )


def macs(model, task, **sizes):
    return sum(work(op, {**model.graphs[task].symbols, **sizes}).macs * op.repeat for op in model.graphs[task].ops)


def test_an_exported_network_is_the_network_operator_by_operator(net):
    model = captured(net)
    other = directly(Net, ("b", 3, 32, 32), torch.float32, {"infer": {"b": 8}})
    assert difference(model.graphs["infer"], other.graphs["infer"]) == ""
    assert [op.module for op in model.graphs["infer"].ops] == ["conv", "norm", "", "", "head"]
    assert model.parameters == other.parameters
    assert model.buffer_bytes == other.buffer_bytes


def test_it_can_be_trained(net):
    graph = captured(net).graphs["train"]
    gradients = [t for op in graph.ops for t in op.outputs if t.role is Role.GRADIENT]
    assert len(gradients) == 6
    assert {op.module for op in graph.ops if op.phase is Phase.BACKWARD} >= {"conv", "norm", "head"}


def test_what_was_exported_for_evaluation_stays_so_and_is_said(net):
    model = captured(net)
    assert "dropout and batch statistics as they were exported" in model.card.assumed
    assert not any("dropout" in op.name for op in model.graphs["train"].ops)


def test_equal_layers_are_folded_and_a_shared_matrix_counts_once(tmp_path):
    sizes = ({0: BATCH, 1: Dim("words", min=2, max=1024)},)
    model = captured(saved(tmp_path / "words.pt2", Words().eval(), IDS, sizes=sizes))
    other = directly(Words, ("b", "s"), torch.long, {"infer": {"b": 8, "s": 512}})
    assert dict(model.graphs["infer"].symbols) == {"b": 8, "s": 512}
    assert model.parameter_count == other.parameter_count
    assert macs(model, "infer", b=3, s=77) == macs(other, "infer", b=3, s=77)
    (attention,) = [op for op in model.graphs["infer"].ops if op.name == "rigwise.attention"]
    assert (attention.repeat, attention.module, attention.attrs["causal"]) == (4, "layers.*", True)


def test_both_sides_of_a_picture_are_the_image_side(tmp_path):
    side = Dim("side", min=16, max=1024)
    path = saved(tmp_path / "n.pt2", Net().eval(), IMAGE, sizes=({0: BATCH, 2: side, 3: side},))
    model = captured(path)
    assert dict(model.graphs["infer"].symbols) == {"b": 8, "p": 32}
    assert str(model.graphs["infer"].ops[0].outputs[0].shape[2]) == "(p+1)//2"


def test_sizes_that_are_not_free_are_said(tmp_path):
    model = captured(saved(tmp_path / "fixed.pt2", Net().eval(), IMAGE))
    assert dict(model.graphs["infer"].symbols) == {}
    assert model.graphs["infer"].ops[0].inputs[0].shape == (2, 3, 32, 32)
    assert "the batch is that of the export" in model.card.assumed
    assert model.card.reference_batch == 2


def test_a_size_with_too_narrow_a_range_is_fixed_and_said(tmp_path):
    path = saved(tmp_path / "narrow.pt2", Net().eval(), IMAGE, sizes=({0: Dim("few", min=2, max=4)},))
    model = captured(path)
    assert dict(model.graphs["infer"].symbols) == {}
    assert "the batch of image fixed at 2, as exported" in model.card.assumed


def test_sizes_are_tried_within_their_range(tmp_path):
    path = saved(tmp_path / "some.pt2", Net().eval(), IMAGE, sizes=({0: Dim("some", min=2, max=7)},))
    model = captured(path)
    assert dict(model.graphs["infer"].symbols) == {"b": 7}
    assert model.card.reference_batch == 7


@pytest.mark.filterwarnings("ignore:The tensor attributes")
def test_a_recurrent_layer_and_a_part_under_autocast_stay_what_they_are(tmp_path):
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.run, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 4)

        def forward(self, x):
            with torch.autocast("cpu", enabled=False):
                x = x * 2
            return self.head(self.run(x)[0])

    path = saved(tmp_path / "tagger.pt2", Tagger().eval(), torch.zeros(2, 5, 8), sizes=({0: BATCH},))
    names = [op.name for op in captured(path).graphs["infer"].ops]
    assert "rigwise.recurrent" in names
    assert "aten.mul" in names


# Files that were tampered with.


def tampered(source, path, change):
    """A copy of an archive with its program changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("models/model.json"):
                program = json.loads(content)
                content = json.dumps(change(program) or program).encode()
            new.writestr(entry.filename, content)
    return path


def first_node(program):
    return program["graph_module"]["graph"]["nodes"][0]


def call(target, *values):
    def change(program):
        arguments = [{"name": f"a{i}", "arg": value, "kind": 1} for i, value in enumerate(values)]
        first_node(program).update(target=target, inputs=arguments)

    return change


@pytest.mark.parametrize(
    "target", ["torch.os.system", "os.system", "builtins.exec", "torch.hub.load", "torch.ops.os.system.default", "eval"]
)
def test_no_function_but_pytorchs_operators_can_be_called(net, tmp_path, target):
    trace = tmp_path / "was_run"
    path = tampered(net, tmp_path / "n.pt2", call(target, {"as_string": f"touch {trace}"}))
    with pytest.raises(UnsupportedError, match=r"n.pt2: conv2d \(.*\) is not PyTorch's own; give the model as"):
        captured(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "target", ["torch.ops.aten.__class__.default", "torch.ops.aten.from_file.default", "torch.ops.aten.no_such.default"]
)
def test_names_that_are_no_operators_are_refused(net, tmp_path, target):
    path = tampered(net, tmp_path / "n.pt2", call(target, {"as_string": "/etc/hostname"}))
    with pytest.raises(UnsupportedError, match=r"is no operator that PyTorch"):
        captured(path)


def test_a_size_expression_is_never_evaluated(net, tmp_path):
    trace = tmp_path / "was_run"

    def change(program):
        size = program["graph_module"]["graph"]["tensor_values"]["image"]["sizes"][0]
        size["as_expr"]["expr_str"] = f"__import__('pathlib').Path({str(trace)!r}).touch()"

    model = captured(tampered(net, tmp_path / "n.pt2", change))
    assert "a size of image fixed at 2, as exported" in model.card.assumed
    assert not trace.exists()


def undefined(program):
    first_node(program)["inputs"][0]["arg"] = {"as_tensor": {"name": "nowhere"}}


def negative(program):
    program["graph_module"]["graph"]["tensor_values"]["image"]["sizes"][1] = {"as_int": -3}


def enormous(program):
    program["graph_module"]["graph"]["tensor_values"]["image"]["sizes"][1] = {"as_int": 10**30}


def nested(program):
    graph = program["graph_module"]["graph"]
    for _ in range(12):
        node = {**first_node(program), "inputs": [{"name": "g", "arg": {"as_graph": {"graph": graph}}}]}
        graph = {**graph, "nodes": [node]}
    program["graph_module"]["graph"] = graph


def control_flow(program):
    first_node(program)["target"] = "torch.ops.higher_order.cond"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda _: [1], InvalidInputError, "n.pt2: its program is no JSON object"),
        (lambda _: {"graph_module": 3}, InvalidInputError, "n.pt2 does not hold what torch.export writes: TypeError"),
        (lambda p: p["graph_module"].pop("signature") and None, InvalidInputError, "KeyError 'signature'"),
        (negative, InvalidInputError, "a tensor with a side of -3"),
        (enormous, InvalidInputError, "a tensor with a side of 1000"),
        (nested, InvalidInputError, "graphs are nested over 8 deep"),
        (control_flow, UnsupportedError, r"conv2d \(torch.ops.higher_order.cond\) is control flow"),
        (undefined, CaptureError, r"n.pt2: conv2d \(torch.ops.aten.conv2d.default\) failed.*KeyError: 'nowhere'"),
    ],
)  # fmt: skip
def test_a_program_that_contradicts_itself_is_one_line_with_the_place(net, tmp_path, change, error, words):
    with pytest.raises(error, match=words) as caught:
        captured(tampered(net, tmp_path / "n.pt2", change))
    assert "\n" not in str(caught.value)


def test_an_operator_of_another_library_is_named(net, tmp_path):
    path = tampered(net, tmp_path / "n.pt2", call("torch.ops.mylib.fused.default"))
    with pytest.raises(UnsupportedError, match=r"torch.ops.mylib.fused.default\) is not PyTorch's own"):
        captured(path)


def test_a_value_that_the_program_looks_at_is_a_clear_refusal(net, tmp_path):
    path = tampered(net, tmp_path / "n.pt2", call("torch.ops.aten.item.default", {"as_tensor": {"name": "image"}}))
    with pytest.raises(CaptureError, match=r"aten.item.default"):
        captured(path)


# Files that hold something else.


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (Path(self.trace),)


def zipped(path, **entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)


def write_script(path, _):
    torch.jit.save(torch.jit.script(Net()), path)


def write_cut_short(path, net):
    path.write_bytes(net.read_bytes()[:3000])


FILES = {
    "empty": (lambda path, _: path.write_bytes(b""), "is empty"),
    "text": (lambda path, _: path.write_text("hello"), "is no file that PyTorch wrote"),
    "cut short": (write_cut_short, "is cut short or damaged"),
    "weights": (lambda path, _: torch.save(Net().state_dict(), path), "is what torch.save wrote.*torch.export.save"),
    "module": (lambda path, _: torch.save(Net(), path), "pickled, which could run code: not read"),
    "old": (
        lambda path, _: torch.save({}, path, _use_new_zipfile_serialization=False), "holds pickled Python objects"
    ),
    "script": (write_script, "is TorchScript: it holds code to run, and does not say what its inputs look like"),
    "compiled": (lambda path, _: zipped(path, m__data__aotinductor__model__x_dot_so="x"), "holds compiled code"),
    "several": (lambda path, _: zipped(path, m__models__a_dot_json="{}", m__models__b_dot_json="{}"), "2 programs"),
    "other zip": (lambda path, _: zipped(path, readme_dot_txt="x"), "is a zip archive, but none that PyTorch wrote"),
    "no json": (lambda path, _: zipped(path, m__models__model_dot_json="{"), "its program is not usable JSON"),
    "deep": (lambda path, _: zipped(path, m__models__model_dot_json="[" * 100_000), "its program is not usable JSON"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("suffix", [".pt2", ".pth"])
def test_what_a_file_is_instead_is_one_line(net, tmp_path, kind, suffix):
    write, words = FILES[kind]
    path = tmp_path / f"model{suffix}"
    write(path, net)
    with pytest.raises(RigwiseError, match=words) as caught, fake_tensors():
        exported.subject(path, name="model")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bare", [True, False])
def test_nothing_is_ever_unpickled(tmp_path, bare):
    path, trace = tmp_path / "model.pt", tmp_path / "was_run"
    if bare:
        path.write_bytes(pickle.dumps(Bomb(trace)))
    else:
        torch.save(Bomb(trace), path)
    with pytest.raises(UnsupportedError, match=r"pickled"):
        load_model(str(path))
    assert not trace.exists()


def test_what_an_archive_unpacks_to_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file, "_PROGRAM_LIMIT_BYTES", 2**20)
    path = tmp_path / "bomb.pt2"
    zipped(path, m__models__model_dot_json=b" " * 2**24)
    assert path.stat().st_size < 2**20
    with pytest.raises(InvalidInputError, match=r"m/models/model.json unpacks to over 1 MiB"):
        torch_file.read_program(path)


def test_a_directory_that_claims_to_be_enormous_is_not_believed(tmp_path):
    path = tmp_path / "claims.pt2"
    zipped(path, m__models__model_dot_json="{}")
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = (2**31).to_bytes(4, "little")  # size of the directory
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"is cut short or damaged"):
        torch_file.read_program(path)


def test_a_missing_file_and_a_model_word_that_names_one(net, tmp_path):
    with pytest.raises(InvalidInputError, match=r"there is no file"):
        load_model(str(tmp_path / "none.pt2"))
    model = load_model(str(net))
    assert (model.name, set(model.graphs)) == ("net", {"train", "infer"})
    assert model.card.source.startswith("net.pt2, exported by PyTorch")
