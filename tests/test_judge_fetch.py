"""``tools/fetch_measured.py`` against a server on this machine that holds a few lines of each source."""

import json
import sys
import tomllib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from rigwise.calibrate.question import measured_s
from rigwise.measurement.tables import read_tables

TOOLS = Path(__file__).parents[1] / "tools"

TIMM = """\
model,infer_samples_per_sec,infer_step_time,infer_batch_size,infer_img_size,infer_gmacs,infer_macts,param_count
mobilenetv3_small_050,45562.75,22.464,1024,224,0.03,0.92,1.59
tinynet_e,1.0,1024,1024,106,0.03,0.69,2.04
broken,,,1,224,,,
"""
FOUNDRY_COLUMNS = (
    "Model", "SeqLen (T)", "# GPUs", "GPU", "MFU", "HFU", "MicroBatchSize", "GradAccum", "GlobalBatchSize",
    "Throughput (T/s)", "Precision", "MP Mode", "Sharding Strategy", "Activation Checkpointing", "NumParams",
)  # fmt: skip
FOUNDRY = [
    ("13b", "32768", "8", "a100_80gb", "51.69", "68.92", "1", "3", "24", "8134", "amp_bf16", "DEFAULT", "FULL_SHARD",
     "True", "13011240960"),
    ("13b", "32768", "8", "h100_80gb", "1", "1", "1", "3", "24", "1", "amp_bf16", "DEFAULT", "FULL_SHARD", "True", "1"),
]  # fmt: skip
CNN = {
    "gpu_name": "GeForce GTX TITAN X",
    "cudnn_version": 5105,
    "opt": {"model_t7": "models/resnets/resnet-34.t7", "batch_size": 16, "image_height": 224, "image_width": 224,
            "use_cudnn": 1},
    "forward_times": [0.04, 0.041],
    "backward_times": [0.076, 0.076],
    "total_times": [0.116, 0.117],
}  # fmt: skip


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import fetch_measured

    yield fetch_measured
    for name in [n for n in sys.modules if n == "fetch_measured" or n.partition(".")[0] == "measured"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "served"
    folder.mkdir()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def sources(folder: Path, **paths: str) -> Path:
    lines = ['url = "https://files.example/{repository}/{revision}/{path}"']
    for name, path in paths.items():
        lines += [
            "[[table]]",
            f'name = "{name.replace("_", "-")}"',
            'repository = "a/b"',
            'revision = "c^"',
            f'paths = ["{path}"]',
        ]
    file = folder / "sources.toml"
    file.write_text("\n".join(lines))
    return file


def serve(folder: Path, path: str, content: str) -> None:
    file = folder / "a" / "b" / "c^" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")


def test_the_tables_come_back_without_what_is_held_out(tool, server, tmp_path) -> None:
    folder, url = server
    names = {"timm": "results/benchmark-infer-amp-nchw-pt113-cu117-rtx3090.csv", "llm_foundry": "README.md"}
    names["cnn_benchmarks"] = "out/1.json"
    table = "\n".join("| " + " | ".join(line) + " |" for line in (FOUNDRY_COLUMNS, ["---"] * 15, *FOUNDRY))
    serve(folder, names["timm"], TIMM)
    serve(folder, names["llm_foundry"], f"# MPT\n\nwords\n\n## A100 80GB with 1600 Gbps\n{table}\n\nmore words\n")
    serve(folder, names["cnn_benchmarks"], json.dumps(CNN))
    out = tmp_path / "out"
    assert tool.main([str(out), "--mirror", url, "--sources", str(sources(tmp_path, **names))]) == 0
    rows, rejected = read_tables([out])
    assert rejected == ()
    by_source = {
        name: [row for row in rows if row.source == name] for name in ("timm", "llm-foundry", "cnn-benchmarks")
    }
    (timm,), (foundry,) = by_source["timm"], by_source["llm-foundry"]
    assert (timm.model, timm.batch, timm.shape, timm.framework) == (
        "mobilenetv3_small_050", 1024, "3x224x224", "PyTorch 1.13 cu117 eager",
    )  # fmt: skip
    assert measured_s(timm) == pytest.approx(22.464e-3, rel=1e-3)
    assert (foundry.device_variant, foundry.count, foundry.batch) == ("SXM4 80GB", 8, 24)
    assert "act_ckpt=True" in foundry.notes
    assert [round(measured_s(row), 6) for row in by_source["cnn-benchmarks"]] == [0.0405, 0.076, 0.1165]
    assert by_source["cnn-benchmarks"][0].framework == "Torch7 cuDNN 5.1.05 CUDA 8.0"


@pytest.mark.parametrize(
    ("name", "path", "content"),
    [
        ("timm", "results/notes.csv", TIMM),
        ("timm", "benchmark-infer-amp-nchw-pt113-cu117-rtx3090.csv", TIMM.replace("45562.75", "fast")),
        ("cnn_benchmarks", "1.json", "no json"),
        ("cnn_benchmarks", "1.json", "{}"),
        ("cnn_benchmarks", "1.json", "[]"),
        ("llm_foundry", "README.md", "| Model |\n| --- |\n| 1b |\n"),
        ("llm_foundry", "absent.md", ""),
    ],
)
def test_a_file_of_another_form_is_named_and_skipped(name, path, content, tool, server, tmp_path, capsys) -> None:
    folder, url = server
    if content:
        serve(folder, path, content)
    arguments = [str(tmp_path / "out"), "--mirror", url, "--sources", str(sources(tmp_path, **{name: path}))]
    assert tool.main(arguments) == 1
    assert f"skipped a/b/{path}" in capsys.readouterr().err


def test_nothing_is_read_in_the_clear_from_another_machine(tool) -> None:
    with pytest.raises(ValueError, match="https"):
        tool.read_url("http://files.example/a")


def test_what_is_held_out_never_passes(tool) -> None:
    row = {"source": "timm", "device": "RTX 3090", "model": "resnet50", "framework": "PyTorch 2.4.0 eager"}
    assert not tool.is_held_out(row)
    for change in (
        {"device": "RTX 5090"},
        {"device": "Core i7-12700H"},
        {"framework": "PyTorch 2.9.1 cu130 eager"},
        {"model": "tinynet_e"},
        {"source": "cnn-benchmarks", "device": "GTX 1080"},
        {"source": "llm-foundry", "device": "H100"},
    ):
        assert tool.is_held_out({**row, **change})


def test_every_source_has_a_licence_and_an_extraction(tool) -> None:
    tables = tomllib.loads((TOOLS / "measured_sources.toml").read_text(encoding="utf-8"))["table"]
    assert {table["name"] for table in tables} == set(tool.EXTRACT)
    assert all(table["licence"] and table["paths"] for table in tables)
