"""Over the API come the documents of the command line, key by key the same; what is wrong is said with its key."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from rigwise.cli.main import root as command_line
from rigwise.cli.output import json_bytes
from rigwise.graph.load import zoo_path
from rigwise.web import questions
from rigwise.web.app import create_app
from rigwise.web.questions import KINDS, Question, asked_by, fields
from rigwise.web.settings import Settings

HERE = Settings(workers=1)
API = "/api/v1"


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIGWISE_STORE", str(tmp_path_factory.mktemp("store") / "none.sqlite"))
        with TestClient(create_app(HERE), base_url="http://127.0.0.1:8765") as found:
            yield found


def typed(arguments: list[str]) -> Any:
    """The document that a command prints."""
    run = CliRunner().invoke(command_line, [*arguments, "--json"])
    assert run.exception is None or isinstance(run.exception, SystemExit) or not run.stdout, run.exception
    return json.loads(run.stdout)


def without_clock(document: Any) -> Any:
    """A document without the time that the search took."""
    if isinstance(document, dict):
        return {key: without_clock(value) for key, value in document.items() if key != "wall_s"}
    return [without_clock(value) for value in document] if isinstance(document, list) else document


SAME = {
    "predict?model=resnet50&device=t4&batch=64": ["predict", "resnet50", "--device", "t4", "--batch", "64"],
    "predict?model=ResNet50&device=Tesla+T4&power-limit=60W&dtype=amp-fp16": (
        ["predict", "ResNet50", "--device", "Tesla T4", "--power-limit", "60W", "--dtype", "amp-fp16"]
    ),
    "compare?model=gpt2&device=t4,l4&device=rtx-4090&task=infer": (
        ["compare", "gpt2", "--device", "t4,l4", "--device", "rtx-4090", "--task", "infer"]
    ),
    "plan?model=resnet50&samples=1e7&deadline=24h&device=t4&spot=true&budget=%24100": (
        ["plan", "resnet50", "--samples", "1e7", "--deadline", "24h", "--device", "t4", "--spot", "--budget", "$100"]
    ),
    "plan?model=gpt2&task=serve&rate=5/s&prompt=200&output-tokens=50&device=t4": (
        [
            "plan",
            "gpt2",
            "--task",
            "serve",
            "--rate",
            "5/s",
            "--prompt",
            "200",
            "--output-tokens",
            "50",
            "--device",
            "t4",
        ]
    ),
    "devices?memory=%3E%3D80GB&sort=-bandwidth&limit=5": (
        ["devices", "--memory", ">=80GB", "--sort", "-bandwidth", "--limit", "5"]
    ),
    "devices": ["devices", "--limit", "100"],
    "devices/t4": ["devices", "t4"],
    "devices/epyc-7302": ["cpus", "epyc-7302"],
    "cpus?vendor=amd": ["cpus", "--vendor", "amd", "--limit", "100"],
    "offers?device=h100&limit=7": ["offers", "--device", "h100", "--limit", "7"],
    "parts?category=gpu": ["parts", "--category", "gpu", "--limit", "100"],
    "models?family=llama": ["models", "--family", "llama", "--limit", "100"],
    "models/ResNet50": ["models", "resnet50"],
    "history": ["history", "--limit", "100"],
}


@pytest.mark.parametrize("address", SAME)
def test_an_answer_is_the_document_of_the_command(client, monkeypatch, tmp_path, address: str) -> None:
    answer = client.get(f"{API}/{address}")
    assert answer.status_code == 200, answer.text
    if address == "history":
        monkeypatch.setenv("RIGWISE_STORE", answer.json()["store"])
    expected = typed(SAME[address])
    if "plan" in address:
        assert without_clock(answer.json()) == without_clock(expected)
        assert list(answer.json()) == list(expected)
    else:
        assert answer.content == json_bytes(expected)


def test_the_machine_is_the_one_that_serves(client) -> None:
    def fixed(document: Any) -> Any:
        return {key: document[key] for key in ("schema", "cpu")}

    assert set(client.get(f"{API}/machine").json()) == set(typed(["inspect"]))
    assert client.get(f"{API}/machine").json()["schema"] == typed(["inspect"])["schema"]


def test_a_question_says_the_command_that_repeats_it(client) -> None:
    query = "model=resnet50&device=t4&batch=32&count=2&link=-x"
    asked = asked_by("predict", query.replace("&link=-x", "&link=pcie4x16"))
    assert typed(shlex.split(asked.command)[1:]) == client.get(f"{API}/predict?{asked.query}").json()
    assert "--link=-x" in asked_by("predict", query).command
    assert asked_by("plan", "spot=false&model=gpt2&tokens=1e6").command == "rigwise plan gpt2 --tokens 1e6 --no-spot"


def test_no_plan_is_an_answer(client) -> None:
    answer = client.get(f"{API}/plan?model=resnet50&samples=1e9&budget=%240.01&device=t4")
    assert answer.status_code == 200
    assert answer.json()["plans"] == []
    assert answer.json()["infeasible"]["type"] == "InfeasibleError"


WRONG = {
    "predict?model=resnet50": "device",
    "predict?device=t4": "model",
    "predict?model=resnet5&device=t4": "model",
    "predict?model=resnet50&device=t44": "device",
    "predict?model=resnet50&device=h100": "device",
    "predict?model=resnet50&device=t4&batch=x": "batch",
    "predict?model=resnet50&device=t4&batch=nan": "batch",
    "predict?model=resnet50&device=t4&batch=-1": "batch",
    "predict?model=resnet50&device=t4&batch=0": "batch",
    "predict?model=resnet50&device=t4&task=fly": "task",
    "predict?model=resnet50&device=t4&power-limit=60km": "power-limit",
    "predict?model=resnet50&device=t4&device=l4": "device",
    "predict?model=resnet50&device=t4&data=3": "data",
    "predict?model=resnet50&device=t4&host=abacus": "host",
    "predict?model=resnet50&device=t4&zero=7": "zero",
    "predict?model=upload-AAAAAAAAAAAAAAAAAAAAAA&device=t4": "model",
    "plan?model=resnet50&samples=many": "samples",
    "plan?model=resnet50&samples=1e6&deadline=soon": "deadline",
    "plan?model=resnet50&samples=1e6&budget=inf": "budget",
    "plan?model=resnet50&samples=1e6&device=t44": "device",
    "plan?model=resnet50&samples=1e6&spot=maybe": "spot",
    "plan?model=resnet50&samples=1e6&weight=love=3": "weight",
    "plan?model=resnet50&samples=1e6&top=lots": "top",
    "devices?memory=heavy": "memory",
    "devices?limit=-3": "limit",
    "offers?limit=0": "limit",
    "devices?limit=1e9": "limit",
    "history?since=yesterday": "since",
}


@pytest.mark.parametrize("address", WRONG)
def test_what_is_wrong_is_said_with_its_key(client, address: str) -> None:
    answer = client.get(f"{API}/{address}")
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert error["field"] == WRONG[address]
    assert error["message"]
    assert "\n" not in error["message"] + error["hint"]
    assert error["type"].endswith("Error")


@pytest.mark.parametrize(
    "address", ["", "nothing", "devices/t44", "models/resnet5", "models/..%2F..%2Fetc", "predict/x"]
)
def test_there_is_none_of_this_name(client, address: str) -> None:
    answer = client.get(f"{API}/{address}")
    assert answer.status_code == 404
    assert answer.json()["schema"] == "rigwise.error/1"


def test_an_empty_value_is_not_given(client) -> None:
    plain = client.get(f"{API}/predict?model=resnet50&device=t4")
    assert client.get(f"{API}/predict?model=resnet50&device=t4&batch=&seq=+&dtype=").content == plain.content


def test_every_key_of_a_question_is_described(client) -> None:
    document = client.get(f"{API}/openapi.json").json()
    for kind in KINDS:
        described = {one["name"] for one in document["paths"][f"/{kind}"]["get"]["parameters"]}
        assert described == {field.name for field in fields(kind)}


def test_no_key_names_a_file() -> None:
    keys = {field.name for kind in KINDS for field in fields(kind)}
    files = {"own", "quota", "loss-curve", "until-loss", "cases", "calibration", "measured", "plot", "output", "report"}
    files |= {"trace", "load", "store", "engine"}
    assert keys.isdisjoint(files)
    assert {"model", "device", "deadline"} <= keys


def test_keys_that_the_lists_name_exist() -> None:
    from rigwise.cli.history import command as history
    from rigwise.cli.predict import command as predict

    flags = {option.name for option in predict.params} | {"names"}
    assert set(questions._CASE) <= flags
    assert set(questions._HISTORY) <= {option.name for option in history.params}


def test_the_same_question_has_one_query() -> None:
    one = asked_by("plan", "deadline=24h&model=gpt2&tokens=1e6&budget=")
    other = asked_by("plan", "tokens=1e6&model=gpt2&deadline=24h")
    assert one == other
    assert one.query == "model=gpt2&tokens=1e6&deadline=24h"
    assert asked_by("plan", one.query) == one
    assert one.text("budget", "none") == "none"


def test_an_answer_is_computed_once(client) -> None:
    processes = client.app.state.answers._processes
    asked: list[bytes] = []
    ask = processes.ask

    async def counted(question: bytes, **how: Any) -> bytes:
        asked.append(question)
        return await ask(question, **how)

    processes.ask = counted
    try:
        address = f"{API}/predict?model=resnet18&device=t4&batch=17"
        first = client.get(address)
        assert [client.get(address).content for _ in range(3)] == [first.content] * 3
        assert len(asked) == 1
        client.get(address + "1")
        assert len(asked) == 2
    finally:
        del processes.ask


def test_an_uploaded_graph_is_answered_as_the_zoo_model(client) -> None:
    sent = client.post(f"{API}/uploads", files={"file": ("resnet18.rwg", zoo_path("resnet18").read_bytes())})
    assert sent.status_code == 201, sent.text
    assert sent.json()["model"]["name"] == "resnet18"
    name = sent.json()["upload"]
    for question in ("predict?device=t4&batch=8", "compare?device=t4,l4", "plan?samples=1e6&device=t4"):
        mine = client.get(f"{API}/{question}&model={name}")
        known = client.get(f"{API}/{question}&model=resnet18")
        assert mine.status_code == 200, mine.text
        assert without_clock(json.loads(mine.text.replace(name, "resnet18"))) == without_clock(known.json())


def test_an_uploaded_configuration_is_read(client, tmp_path) -> None:
    config = {"model_type": "llama", "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8}
    config |= {"intermediate_size": 1024, "vocab_size": 1000}
    sent = client.post(f"{API}/uploads", files={"file": ("config.json", json.dumps(config))})
    assert sent.status_code == 201, sent.text
    (tmp_path / "config.json").write_text(json.dumps(config))
    mine = client.get(f"{API}/predict?model={sent.json()['upload']}&device=t4").json()
    own = typed(["predict", str(tmp_path / "config.json"), "--device", "t4"])
    assert mine["step_time_s"] == own["step_time_s"]


def test_an_uploaded_onnx_file_is_read(client, tmp_path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "net",
        [value("x", TensorProto.FLOAT, ["N", 64])],
        [value("y", TensorProto.FLOAT, ["N", 32])],
        [helper.make_tensor("w", TensorProto.FLOAT, [64, 32], [0.0] * 2048)],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    assert onnx.__version__
    sent = client.post(f"{API}/uploads", files={"file": ("net.onnx", content)})
    assert sent.status_code == 201, sent.text
    assert sent.json()["model"]["parameters"] == 64 * 32
    answer = client.get(f"{API}/predict?model={sent.json()['upload']}&device=t4&task=infer")
    assert answer.json()["macs"] == 64 * 32


def test_questions_are_frozen() -> None:
    asked = Question(kind="devices", values=())
    assert replace(asked, kind="cpus").kind == "cpus"
    with pytest.raises(AttributeError):
        asked.kind = "cpus"  # type: ignore[misc]


def test_a_second_plan_of_a_model_finds_the_estimates_of_the_first() -> None:
    from rigwise.estimate import fleet
    from rigwise.web import worker

    def plan(samples: str) -> dict[str, Any]:
        asked = {"model": "resnet18", "samples": samples, "device": "t4", "deadline": "30d"}
        return worker._answered(questions.question(questions.PLAN, list(asked.items())), {})

    first = plan("1e6")
    known = fleet._kept_figures.cache_info()
    second = plan("2e6")
    found = fleet._kept_figures.cache_info()
    assert (found.misses, second["plans"][0]["device"]) == (known.misses, first["plans"][0]["device"])
    assert found.hits > known.hits
