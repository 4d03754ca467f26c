"""``predict``: defaults, errors, files of cases and the command line."""

import json
import subprocess
import sys

import pytest

from rigwise.errors import InvalidInputError, MissingFactError, RigwiseError, UnknownNameError, UnsupportedError
from rigwise.estimate.cases import answer_cases
from rigwise.estimate.predict import predict, predict_document
from rigwise.facts.catalogue import devices
from rigwise.workload.case import Case, InputPipeline, Parallel, Software

KEYS = {
    "schema", "case", "step_time_s", "forward_s", "backward_s", "optimizer_s", "exposed_comm_s", "throughput_per_s",
    "tokens_per_s", "peak_memory_bytes", "fits", "fit_probability", "energy_j", "flops", "macs", "bytes", "mfu",
    "bound_s", "binds", "provenance", "assumed", "unknown_ops",
}  # fmt: skip


def rigwise(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "rigwise", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_document_has_every_key_of_the_contract():
    document = predict_document(predict(Case(model="resnet50", device="t4", batch=8)))
    assert document.keys() >= KEYS
    assert document["peak_memory_bytes"]["terms"]
    assert document["binds"].keys() == {"compute", "memory", "launch", "network", "input"}
    json.dumps(document, allow_nan=False)


def test_defaults_are_filled_in_and_named():
    small = predict(Case(model="resnet50", device="h100-sxm5-80gb"))
    assert (small.case.dtype, small.case.optimizer, small.case.image_size) == ("fp32", "adamw", 224)
    large = predict(Case(model="llama-3.1-8b", device="h100-sxm5-80gb", task="decode"))
    assert (large.case.dtype, large.case.context, large.case.optimizer) == ("bf16", 1024, "none")
    assert "dtype bf16" in large.assumed
    assert "context 1024" in large.assumed


def test_parts_add_up_to_the_step():
    p = predict(Case(model="bert-base", device="v100-sxm2-32gb", batch=16, count=4, optimizer="adam"))
    parts = p.forward_s + p.backward_s + p.optimizer_s + p.exposed_comm_s
    assert p.step_time_s["p50"] == pytest.approx(parts)


def test_optimizer_none_times_forward_and_backward_only():
    p = predict(Case(model="bert-base", device="t4", batch=8, optimizer="none"))
    assert "optimizer" not in p.memory_terms
    assert p.optimizer_s < 1e-3


def test_math_attention_is_slower_and_larger_than_flash():
    def at(attention):
        return predict(
            Case(model="gpt2", device="a100-sxm4-80gb", batch=4, dtype="fp16", software=Software(attention=attention))
        )

    assert at("math").step_time_s["p50"] > at("flash").step_time_s["p50"]
    assert at("math").peak_memory_bytes["p50"] > at("flash").peak_memory_bytes["p50"]
    assert at("math").macs < at("flash").macs  # whose backward pass computes the scores again


def test_compiled_fuses_and_small_batches_are_bound_by_launches():
    eager = predict(Case(model="bert-base", device="h100-sxm5-80gb", batch=64, task="infer"))
    compiled = predict(Case(model="bert-base", device="h100-sxm5-80gb", batch=64, task="infer", mode="compiled"))
    assert compiled.moved_bytes < eager.moved_bytes
    assert compiled.step_time_s["p50"] < eager.step_time_s["p50"]
    tiny = predict(Case(model="resnet50", device="h100-sxm5-80gb", batch=1, task="infer"))
    assert tiny.binds["launch"] > 0.5


def test_power_limit_slows_heavy_work():
    def at(limit):
        return predict(Case(model="resnet50", device="h100-sxm5-80gb", batch=256, power_limit_w=limit)).step_time_s

    assert at(150)["p50"] > at(None)["p50"]


def test_a_slower_host_slows_what_dispatch_binds_and_an_unknown_one_is_named():
    def at(*host):
        flags = ("--device", "rtx-4090", "--task", "infer", "--dtype", "fp16", "--json")
        return rigwise("predict", "resnet18", *flags, *host)

    usual, slower = (json.loads(at(*host).stdout) for host in ((), ("--host", "epyc-7742")))
    assert slower["step_time_s"]["p50"] > usual["step_time_s"]["p50"]
    assert slower["case"]["host"] == "epyc-7742"
    unknown = at("--host", "rtx-4090")
    assert unknown.returncode == 2
    assert unknown.stdout == ""
    assert "no cpu 'rtx-4090'" in unknown.stderr


def test_a_model_that_does_not_fit_is_an_answer():
    p = predict(Case(model="llama-3.1-8b", device="t4", dtype="fp16", seq=2048))
    assert not p.fits
    assert p.fit_probability < 0.01


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"model": "resnet5"}, UnknownNameError, "resnet50"),
        ({"device": "rtx-490"}, UnknownNameError, "rtx-4090"),
        ({"batch": 0}, InvalidInputError, "batch"),
        ({"batch": "8"}, InvalidInputError, "batch is '8'; batch must be a whole number"),
        ({"batch": 8.5}, InvalidInputError, "batch is 8.5; batch must be a whole number"),
        ({"count": None}, InvalidInputError, "count is None"),
        ({"image_size": float("nan")}, InvalidInputError, "image_size is nan"),
        ({"count": 3, "nodes": 2}, InvalidInputError, "3 devices"),
        ({"count": 4, "batch": 6}, InvalidInputError, "does not divide"),
        ({"dtype": "bf16"}, UnsupportedError, "t4 cannot compute bf16"),
        ({"dtype": "fp8"}, UnsupportedError, "t4 cannot compute fp8"),
        ({"dtype": "fp12"}, InvalidInputError, "fp12"),
        ({"context": 5, "task": "decode"}, UnsupportedError, "no decode"),
        ({"seq": 128}, UnsupportedError, "no seq"),
        ({"parallel": Parallel(tensor=2), "count": 2, "batch": 2}, UnsupportedError, "attention blocks"),
        ({"parallel": Parallel(zero=4)}, InvalidInputError, "zero"),
        ({"parallel": Parallel(micro_batch=3), "batch": 8}, InvalidInputError, "micro-batch"),
        ({"power_limit_w": -5.0}, InvalidInputError, "power_limit_w"),
        ({"power_limit_w": 1e9}, InvalidInputError, "below 1e9"),
        ({"link": "pcie4x12"}, UnsupportedError, "pcie4x12"),
        ({"link": "xgmi", "count": 2}, UnsupportedError, "no link is called 'xgmi'"),
        ({"input": InputPipeline(bytes_per_sample=-5.0)}, InvalidInputError, "input.bytes_per_sample is -5"),
        ({"input": InputPipeline(bytes_per_sample=1e5, read_bytes_per_s=0.0)}, InvalidInputError, "read_bytes_per_s"),
        ({"input": InputPipeline(bytes_per_sample=1e5, workers=0)}, InvalidInputError, "workers is 0"),
        ({"inter_node_gbps": float("nan")}, InvalidInputError, "inter_node_gbps"),
        ({"host": "no-such-cpu"}, UnknownNameError, "no-such-cpu"),
        ({"device": "this:gpu99"}, InvalidInputError, "this machine"),
    ],
)
def test_bad_input_is_one_clear_line(changes, error, words):
    with pytest.raises(error) as caught:
        predict(Case(**{"model": "resnet50", "device": "t4", "batch": 8, **changes}))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_device_without_facts_says_what_is_missing():
    incomplete = next(d for d in devices() if d.missing())
    with pytest.raises(MissingFactError) as caught:
        predict(Case(model="resnet50", device=incomplete.id))
    assert incomplete.missing()[0] in str(caught.value)


def test_cases_are_answered_in_order_and_errors_stand_on_their_lines(tmp_path):
    cases = [
        {"model": "resnet50", "device": "t4", "batch": 4},
        {"model": "resnet50", "device": "t4", "batchh": 4},
        {"model": "no-such", "device": "t4"},
        {"model": "resnet50", "device": "l4", "batch": 4},
    ]
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(json.dumps(c) for c in cases) + "\nnot json\n")
    answers = list(answer_cases(str(path)))
    assert [a["device"] if "device" in a else a["error"]["type"] for a in answers] == [
        "t4", "InvalidInputError", "UnknownNameError", "l4", "InvalidInputError",
    ]  # fmt: skip
    assert "line 2" in answers[1]["error"]["message"]
    done = rigwise("predict", "--cases", str(path), "--json")
    assert done.returncode == 1
    assert [json.loads(line) for line in done.stdout.splitlines()] == json.loads(json.dumps(answers))


@pytest.mark.parametrize(
    ("beside", "words"),
    [(["vgg16"], "vgg16"), (["--device", "t4"], "--device"), (["--batch", "7"], "--batch"), (["--weak"], "--weak")],
)
def test_nothing_beside_a_file_of_cases_is_silently_forgotten(tmp_path, beside, words):
    path = tmp_path / "cases.jsonl"
    path.write_text(json.dumps({"model": "resnet50", "device": "t4"}))
    done = rigwise("predict", "--cases", str(path), *beside)
    assert done.returncode == 2
    assert done.stderr == f"rigwise: {words} does nothing beside --cases; say it on the lines of the file\n"
    assert done.stdout == ""


def test_input_counts_by_its_reading_and_the_answer_says_what_does_not_count():
    def asked(**how):
        return predict(Case(model="resnet50", device="t4", batch=8, input=InputPipeline(bytes_per_sample=1e6, **how)))

    slow = asked(read_bytes_per_s=8e6, decode="jpeg")
    assert slow.step_time_s["p50"] == pytest.approx(1.0, rel=0.05)
    assert "decoding of input is not counted, only reading" in slow.assumed
    assert slow.binds["input"] > 0.5
    assert any("loading of input is not counted" in words for words in asked().assumed)
    assert not any("input" in words for words in asked(read_bytes_per_s=1e12).assumed)


def test_an_empty_case_file_is_refused(tmp_path):
    (tmp_path / "cases.jsonl").write_text("\n\n")
    with pytest.raises(RigwiseError, match="holds no case"):
        list(answer_cases(str(tmp_path / "cases.jsonl")))


def test_command_prints_eighty_columns_and_no_escapes():
    done = rigwise("predict", "resnet50", "--device", "NVIDIA GeForce RTX 3090", "--batch", "8")
    assert done.returncode == 0
    assert "step time" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert not [line for line in done.stdout.splitlines() if line.startswith("  |") and line.endswith(" ")]
    assert "\x1b" not in done.stdout


def test_the_head_of_a_decode_step_names_its_context_and_not_a_sequence_that_it_has_not():
    done = rigwise("predict", "gpt2", "--device", "t4", "--task", "decode", "--seq", "10", "--context", "99", "--quiet")
    assert done.stdout.splitlines()[0] == "gpt2 on t4: decode, batch 1, fp32, eager, context 99"


def test_operators_that_run_for_a_part_of_the_step_are_said_to():
    busy = rigwise("predict", "resnet50", "--device", "t4", "--batch", "64").stdout
    waiting = rigwise("predict", "gpt2", "--device", "h100-sxm5-80gb", "--task", "decode").stdout
    words = "of the step; for the rest it waits: see what binds"
    assert words not in busy
    assert words in waiting
    assert max(map(len, waiting.splitlines())) <= 80


def test_compare_sorts_by_time_and_explains_what_it_leaves_out():
    done = rigwise("compare", "resnet50", "--device", "t4,h100-sxm5-80gb", "--dtype", "bf16", "--batch", "8", "--json")
    results = json.loads(done.stdout)["results"]
    assert [r["device"] for r in results] == ["h100-sxm5-80gb", "t4"]
    assert results[1]["error"]["type"] == "UnsupportedError"
    assert rigwise("compare", "resnet50", "--device", "t4").returncode == 2


def test_a_model_of_one_batch_is_not_asked_for_another():
    with pytest.raises(UnsupportedError, match="sgemm has one batch only, so batch 4"):
        predict(Case(model="sgemm", device="t4", task="infer", batch=4))
    assert predict(Case(model="sgemm", device="t4", task="infer")).step_time_s["p50"] > 0
