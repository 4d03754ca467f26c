"""Runtimes and libraries side by side: they compute the same, and one that is missing or at fault is one line."""

import sys
import types

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rigwise.bench import engines, graphs, learning, libraries, peer, roads, runtimes, tables
from rigwise.bench.types import Context, Raw

CONTEXT = Context(each_s=0.002, threads=1, memory_bytes=1e9)


# --- what is missing -----------------------------------------------------------------------------


def missing() -> Raw:
    libraries.needed("no_such_library_at_all.part")
    return Raw(name="x", unit="s")


def fails() -> Raw:
    raise ValueError("a fault of\na library")


def test_a_missing_library_and_a_faulty_one_are_lines() -> None:
    good = Raw(name="good", unit="s", value=1.0)
    found = {raw.name: raw for raw in libraries.compared({"a": missing, "b": fails, "good": lambda: good}, "s")}
    assert found["a"].skipped == "not here: pip install no_such_library_at_all"
    assert found["b"].skipped == "ValueError: a fault of a library"
    assert found["good"] is good


def test_a_library_that_does_not_load_is_not_called_missing(tmp_path, monkeypatch) -> None:
    (tmp_path / "broken_library.py").write_text("import what_it_needs_and_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="broken_library is here and does not load: No module named 'what_it_needs"):
        libraries.needed("broken_library")


def test_rapids_is_for_gpus_of_nvidia() -> None:
    with pytest.raises(ImportError, match="GPU of NVIDIA"):
        libraries.rapids(CONTEXT, "cudf")


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["pandas", "polars"])
@settings(deadline=None, max_examples=30)  # the first call imports the library
@given(seed=st.integers(0, 50), rows=st.integers(1, 300))
@example(seed=5, rows=2)  # a key that no row has, and no sum above zero
def test_libraries_of_tables_find_what_numpy_finds(library, seed, rows) -> None:
    pytest.importorskip(library)
    columns = tables.columns_of(Context(seed=seed), rows)
    work = getattr(tables, library)(CONTEXT, columns)
    assert work.group() == pytest.approx(tables.expected(columns, "group"), rel=1e-9, abs=1e-9)
    assert work.join() == pytest.approx(tables.expected(columns, "join"), rel=1e-9, abs=1e-6)


def test_a_wrong_sum_is_no_figure(monkeypatch) -> None:
    monkeypatch.setattr(tables, "ROWS", 100)
    wrong = tables.Work(group=lambda: 0.5, join=lambda: 0.5)
    monkeypatch.setattr(tables, "pandas", lambda context, columns: wrong)
    found = list(tables.run(Context(each_s=0.002, threads=1, wanted=("tables.group.pandas",))))
    assert [raw.name for raw in found] == ["tables.group.pandas"]
    assert "where NumPy finds" in found[0].skipped


def test_the_figures_of_tables(monkeypatch) -> None:
    pytest.importorskip("pandas")
    monkeypatch.setattr(tables, "ROWS", 1000)
    found = {raw.name: raw for raw in tables.run(CONTEXT)}
    assert found["tables.group.pandas"].amount == 1000
    assert found["tables.join.pandas"].timing.samples_s
    assert "RAPIDS" in found["tables.group.cudf"].skipped


# --- learning ------------------------------------------------------------------------------------


def test_the_figures_of_learning(monkeypatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(learning, "POINTS", 400)
    found = {raw.name: raw for raw in learning.run(CONTEXT)}
    means = found["learning.k-means.sklearn"]
    assert 1 <= means.parameters["rounds"] <= learning.ROUNDS
    assert means.amount == 400 * means.parameters["rounds"]
    assert found["learning.forest.sklearn"].amount == 80 * learning.TREES
    assert "RAPIDS" in found["learning.forest.cuml"].skipped


# --- graphs --------------------------------------------------------------------------------------


def floyd(city: roads.Roads) -> np.ndarray:
    """Times between all crossings by trying every crossing between: no search, no bound."""
    count = city.side**2
    times = np.full((count, count), np.inf)
    np.fill_diagonal(times, 0.0)
    for row in range(city.side):
        for column in range(city.side):
            for there, seconds in city.leaving((row, column)):
                times[row * city.side + column, there[0] * city.side + there[1]] = seconds
    for between in range(count):
        times = np.minimum(times, times[:, [between]] + times[[between], :])
    return times


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 200), side=st.integers(2, 6), ends=st.tuples(*[st.integers(0, 5)] * 4))
def test_astar_finds_the_quickest_way(seed, side, ends) -> None:
    city = roads.roads(side, seed)
    start, goal = (ends[0] % side, ends[1] % side), (ends[2] % side, ends[3] % side)
    found, looked_at = roads.quickest(city, start, goal)
    right = floyd(city)[start[0] * side + start[1], goal[0] * side + goal[1]]
    assert found == pytest.approx(right)
    assert city.bound_s(start, goal) <= right * (1 + 1e-12)
    assert looked_at <= side**2


def test_a_crossing_without_roads_is_never_reached() -> None:
    inf = float("inf")
    assert roads.quickest(roads.Roads(2, [[1.0, 0], [inf, 0]], [[1.0, inf]]), (0, 0), (1, 1))[0] == inf


def test_every_library_finds_the_same_way_and_astar_looks_at_less() -> None:
    networkx, csgraph = pytest.importorskip("networkx"), pytest.importorskip("scipy.sparse.csgraph")
    from scipy import sparse

    city = roads.roads(40, 3)
    start, goal = (13, 10), (27, 31)
    own, looked_at = roads.quickest(city, start, goal)
    call, looked_at_there = roads.by_networkx(networkx, city, start, goal)
    assert call() == pytest.approx(own)
    assert roads.by_scipy(csgraph, sparse, city, start, goal)() == pytest.approx(own)
    assert looked_at < 40**2 / 2
    assert looked_at == pytest.approx(looked_at_there, rel=0.1)


def test_ranks_are_those_of_networkx() -> None:
    networkx = pytest.importorskip("networkx")
    begins, ends = graphs.links_of(CONTEXT, 50, 300)
    own = graphs.rank(50, begins, ends)()
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(50))
    graph.add_edges_from(zip(begins.tolist(), ends.tolist(), strict=True))
    right = networkx.pagerank(graph, alpha=graphs.DAMPING, tol=1e-12)
    assert own.sum() == pytest.approx(1.0)
    assert own == pytest.approx([right[page] for page in range(50)], rel=0.02)


def test_the_figures_of_graphs(monkeypatch) -> None:
    pytest.importorskip("networkx")
    monkeypatch.setattr(graphs, "SIDE", 24)
    monkeypatch.setattr(graphs, "LINKS", 500)
    monkeypatch.setattr(graphs, "PAGES", 100)
    found = {raw.name: raw for raw in graphs.run(CONTEXT)}
    shown = {name for name, raw in found.items() if not raw.skipped}
    assert shown == {f"graphs.pagerank.{one}" for one in ("networkx", "scipy")} | {
        f"graphs.route.{one}" for one in ("rigwise", "networkx", "scipy")
    }
    assert found["graphs.pagerank.scipy"].parameters["bytes_per_item"] == 12 * graphs.ROUNDS


# --- runtimes ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bed(tmp_path_factory):
    torch = pytest.importorskip("torch")
    context = Context(each_s=0.002, threads=1, folder=str(tmp_path_factory.mktemp("bed")))
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3, 4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(32, 10)).eval()
    images = torch.randn(runtimes.BATCH, 3, 64, 64)
    with torch.no_grad():
        expected = net(images[: runtimes.COMPARED])
    return runtimes.Bed(torch=torch, context=context, model="resnet18", net=net, images=images, expected=expected)


def exported(bed) -> engines.Exported:
    return engines.Exported(torch=bed.torch, net=bed.net, image=bed.images[:1], context=bed.context)


@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.parametrize(("name", "module", "most"), [("onnx", "onnxruntime", 1e-5), ("openvino", "openvino", 1e-5)])
def test_runtimes_answer_as_eager_does(name, module, most, bed) -> None:
    pytest.importorskip(module)
    pytest.importorskip("onnxscript")
    found = runtimes.compared(bed, engines.ENGINES[name](exported(bed)))
    assert found["error"] < most
    assert found["same_class_frac"] == 1.0


@pytest.mark.filterwarnings("ignore")
def test_int8_loses_a_little(bed) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    error = runtimes.compared(bed, engines.onnxruntime_int8(exported(bed)))["error"]
    assert 1e-4 < error < 0.1


def test_eager_is_its_own_reference_and_an_error_is_seen(bed) -> None:
    right = runtimes.eager(bed)
    assert runtimes.compared(bed, right)["error"] == 0.0
    assert runtimes.compared(bed, lambda images: 1.01 * right(images))["error"] == pytest.approx(0.01, rel=1e-3)


def test_the_figures_of_a_runtime(bed) -> None:
    made = list(runtimes._of_runtime(bed, "eager", lambda: runtimes.eager(bed), needs_file=False))
    assert [raw.name for raw in made] == ["runtimes.eager.images", "runtimes.eager.latency"]
    assert made[0].amount == runtimes.BATCH
    assert made[1].work["batch"] == 1


def test_a_runtime_that_fails_is_a_line(bed) -> None:
    (found,) = runtimes._of_runtime(bed, "compiled", fails, needs_file=False)
    assert found.skipped == "ValueError: a fault of a library"


def test_without_room_on_the_disk_nothing_is_exported(bed, monkeypatch) -> None:
    monkeypatch.setattr(runtimes.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=10**8))
    (found,) = runtimes._of_runtime(bed, "onnx", fails, needs_file=True)
    assert found.skipped == "0.1 GB are free, 1 GB are needed"


class FakeTensorRT(types.ModuleType):
    """TensorRT as its Python API of version 10 is called; the engine adds one to each number."""

    def __init__(self, *, reads: bool = True) -> None:
        super().__init__("tensorrt")
        self.calls: list[tuple[str, object]] = []
        self.addresses: dict[str, int] = {}
        self.reads = reads
        self.Logger = types.SimpleNamespace(ERROR=1)
        self.BuilderFlag = types.SimpleNamespace(TF32="tf32")
        self.Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda logger, level: None})
        self.Builder = lambda logger: self
        self.OnnxParser = lambda network, logger: self
        self.Runtime = lambda logger: self

    def create_network(self, flags):
        return types.SimpleNamespace(get_input=lambda place: types.SimpleNamespace(name="images"))

    def parse_from_file(self, path):
        return self.reads

    def get_error(self, place):
        return "an operator it does not know"

    def create_builder_config(self):
        return self

    def create_optimization_profile(self):
        return types.SimpleNamespace(set_shape=lambda *shapes: self.calls.append(("shapes", shapes)))

    def add_optimization_profile(self, profile):
        self.calls.append(("profile", profile))

    def clear_flag(self, flag):
        self.calls.append(("clear", flag))

    def build_serialized_network(self, network, config):
        return b"plan"

    def deserialize_cuda_engine(self, plan):
        return self

    def get_tensor_name(self, place):
        return ("images", "answer")[place]

    def create_execution_context(self):
        return self

    def set_input_shape(self, name, shape):
        self.shape = shape

    def get_tensor_shape(self, name):
        return self.shape[0], 10

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        self.calls.append(("run", dict(self.addresses)))
        return True


class OnGpu:
    """What is asked of a network's export and of CUDA, without either."""

    def __init__(self, torch, tmp_path) -> None:
        self.context = Context(target="cuda:0", folder=str(tmp_path))
        stream = types.SimpleNamespace(cuda_stream=7, synchronize=lambda: None)
        self.torch = types.SimpleNamespace(
            cuda=types.SimpleNamespace(Stream=lambda target: stream), empty=lambda shape, device: torch.zeros(shape)
        )
        self.image, self.path, self.is_cuda = torch.zeros(1, 3, 8, 8), tmp_path / "network.onnx", True


def test_tensorrt_is_called_as_its_api_asks(monkeypatch, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    fake = FakeTensorRT()
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    images = torch.randn(2, 3, 8, 8)
    found = engines.tensorrt(OnGpu(torch, tmp_path))(images)
    assert found.shape == (2, 10)
    assert ("clear", "tf32") in fake.calls
    assert dict(fake.calls)["shapes"] == ("images", (1, 3, 8, 8), (16, 3, 8, 8), (64, 3, 8, 8))
    assert fake.addresses == {"images": images.data_ptr(), "answer": found.data_ptr()}


def test_what_tensorrt_cannot_read_is_said(monkeypatch, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRT(reads=False))
    with pytest.raises(RuntimeError, match="an operator it does not know"):
        engines.tensorrt(OnGpu(torch, tmp_path))


def test_tensorrt_needs_a_gpu(bed) -> None:
    with pytest.raises(ImportError, match="GPU of NVIDIA"):
        engines.tensorrt(exported(bed))


# --- GPUs that are not here ----------------------------------------------------------------------


def test_peers_are_several_gpus() -> None:
    one = types.SimpleNamespace(cuda=types.SimpleNamespace(device_count=lambda: 1))
    two = types.SimpleNamespace(cuda=types.SimpleNamespace(device_count=lambda: 2))
    gpu = Context(target="cuda:0")
    assert peer.why_none(one, gpu) == peer.why_none(two, CONTEXT) == "not here: needs several GPUs"
    assert "rigwise[bench]" in peer.why_none(None, gpu)
    assert peer.why_none(two, gpu) == ""


@pytest.mark.parametrize(("direct", "limits"), [(True, ["peer link", ""]), (False, ["host link", ""])])
def test_bytes_between_two_gpus(direct, limits, monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    cuda = types.SimpleNamespace(
        device_count=lambda: 2, synchronize=lambda: None, can_device_access_peer=lambda here, there: direct
    )
    fake = types.SimpleNamespace(
        cuda=cuda,
        uint8=torch.uint8,
        randint=lambda low, high, shape, dtype, device: torch.randint(low, high, shape, dtype=dtype),
        zeros=lambda size, dtype, device: torch.zeros(size, dtype=dtype),
    )
    monkeypatch.setattr(peer, "torch_or_none", lambda: fake)
    found = list(peer.run(Context(target="cuda:0", each_s=0.002, memory_bytes=16e6)))
    assert [raw.name for raw in found] == ["peer.gpu1.one-way", "peer.gpu1.both-ways"]
    assert [raw.limit for raw in found] == limits
    assert found[1].amount == 2 * found[0].amount == 2e6
