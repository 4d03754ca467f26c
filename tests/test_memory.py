"""Peak memory: against steps that really run, and what must hold whatever the constants are."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.device_memory import can_index
from rigwise.estimate.memory import capacity_bytes, peak_memory, working_sets
from rigwise.estimate.memory_course import memory_course, memory_document
from rigwise.estimate.predict import predict
from rigwise.facts.catalogue import device
from rigwise.graph.load import read_zoo
from rigwise.report.memory import memory_text
from rigwise.report.prediction import prediction_text
from rigwise.workload.case import Case, Parallel, Software
from rigwise.workload.lower import Lowering, lower_model

CONSTANTS = load_calibration().memory_terms
GIB = 2**30


def bench():
    path = Path(__file__).parents[1] / "benchmarks" / "bench_memory.py"
    spec = importlib.util.spec_from_file_location("bench_memory", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# Against PyTorch.


def conv_net(torch):
    def block(channels):
        return torch.nn.Sequential(
            torch.nn.Conv2d(channels, channels, 3, padding=1), torch.nn.BatchNorm2d(channels), torch.nn.ReLU()
        )

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 32, 3, padding=1)
            self.blocks = torch.nn.ModuleList(block(32) for _ in range(5))
            self.pool = torch.nn.MaxPool2d(2)
            self.head = torch.nn.Linear(32 * 16 * 16, 500)

        def forward(self, x):
            x = self.stem(x)
            for layer in self.blocks:
                x = layer(x) + x
            return self.head(self.pool(x).flatten(1))

    return Net()


@pytest.fixture(scope="module")
def subjects():
    """A convolutional network with residuals, and a small BERT, with their captures; ``fake_tensors`` stays open."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from rigwise.graph.capture.from_torch import hf_config
    from rigwise.graph.capture.from_torch.assemble import capture
    from rigwise.graph.capture.from_torch.fake import fake_tensors
    from rigwise.graph.capture.from_torch.loss import own_loss
    from rigwise.graph.capture.subject import Subject
    from rigwise.graph.graph import Card

    config = {"model_type": "bert", "vocab_size": 2000, "hidden_size": 128, "num_hidden_layers": 6,
              "num_attention_heads": 4, "intermediate_size": 512, "architectures": ["BertForMaskedLM"]}  # fmt: skip
    with fake_tensors():
        conv = Subject(
            name="conv", module=conv_net(torch), inputs=lambda _, s: (torch.empty(s["b"], 3, 32, 32),), loss=own_loss,
            symbols={"train": {"b": 4}, "infer": {"b": 4}}, card=Card(title="conv"),
        )  # fmt: skip
        found = {"conv": conv, "bert": hf_config.subject(config, name="bert", where="bert")}
        yield {name: (subject, capture(subject)) for name, subject in found.items()}


RUNS = [("infer", "none", 64), ("train", "momentum", 8), ("train", "adamw", 64), ("train", "sgd", 512)]


@pytest.mark.parametrize("name", ["conv", "bert"])
@pytest.mark.parametrize(("task", "optimizer", "batch"), RUNS)
def test_what_stands_in_a_real_step(subjects, name, task, optimizer, batch):
    subject, model = subjects[name]
    script = bench()
    run = script.Run(task=task, batch=batch, optimizer=optimizer)
    sizes = {**subject.symbols[task], "b": batch}
    measured = script.measured_bytes(subject, run, sizes)
    assert script.allocated_bytes(model, run, sizes) == pytest.approx(measured, rel=0.03)


def test_autocast_keeps_copies_of_weights(subjects):
    subject, model = subjects["conv"]
    script = bench()
    for task in ("infer", "train"):
        run = script.Run(task=task, batch=16, autocast=True)
        measured = script.measured_bytes(subject, run, {"b": 16})
        assert script.allocated_bytes(model, run, {"b": 16}) == pytest.approx(measured, rel=0.05)


def test_a_checkpointed_layer_keeps_its_input_alone(subjects):
    subject, model = subjects["bert"]
    script = bench()
    sizes = {**subject.symbols["train"], "b": 64}
    plain, checkpointed = (script.Run(task="train", batch=64, optimizer="adamw", recompute=r) for r in ("none", "full"))
    assert script.measured_bytes(subject, checkpointed, sizes) < 0.8 * script.measured_bytes(subject, plain, sizes)
    measured = script.measured_bytes(subject, checkpointed, sizes)
    assert script.allocated_bytes(model, checkpointed, sizes) == pytest.approx(measured, rel=0.03)


# Against itself.


def memory(name, batch=16, data=1, micro=None, constants=CONSTANTS, dtype="amp-bf16", **fields):
    parallel = Parallel(data=data, micro_batch=micro or batch, zero=fields.pop("zero", 0))
    recompute, mode = fields.get("recompute", "none"), fields.get("mode", "eager")
    case = Case(model=name, device="", task=fields.pop("task", "train"), batch=data * batch, dtype=dtype,
                optimizer="adamw", parallel=parallel, **fields)  # fmt: skip
    model = read_zoo(name)
    lowering = Lowering(task=case.task, dtype=dtype, optimizer="adamw", recompute=recompute, mode=mode)
    work = lower_model(model, lowering)
    sizes = {**model.graph(case.task).symbols, "b": micro or batch}
    (held,) = working_sets(work.step_ops, sizes, case)
    return peak_memory(work, held, case, np.array([float(data)]), constants)


def test_terms_add_up_to_the_peak():
    for name in ("resnet50", "gpt2", "t5-small"):
        found = memory(name)
        assert sum(v[0] for v in found.terms.values()) == pytest.approx(found.peak_bytes[0])
        assert found.allocated_bytes < found.peak_bytes


@pytest.mark.parametrize("name", ["gpt2", "bert-base", "vit-b-16", "resnet50"])
def test_recompute_holds_less(name):
    none, selective, full = (memory(name, recompute=r).peak_bytes[0] for r in ("none", "selective", "full"))
    assert full < selective < none


def test_smaller_micro_batches_hold_less_but_all_gradients():
    whole, split = memory("gpt2", batch=32), memory("gpt2", batch=32, micro=8)
    assert split.peak_bytes[0] < whole.peak_bytes[0]
    trained = 4.0 * read_zoo("gpt2").parameter_count
    assert split.terms["gradients"][0] >= trained


def test_zero_stages_hold_less_and_less():
    stages = [memory("gpt2-xl", batch=1, data=8, zero=zero) for zero in range(4)]
    peaks = [stage.peak_bytes[0] for stage in stages]
    assert peaks == sorted(peaks, reverse=True)
    trained = 4.0 * read_zoo("gpt2-xl").parameter_count
    assert stages[0].terms["gradient_buckets"][0] == pytest.approx(trained)
    assert stages[1].terms["optimizer"][0] == pytest.approx(2 * trained / 8)
    assert stages[3].terms["weights"][0] == pytest.approx(trained / 8)
    assert "gradient_buckets" not in stages[3].terms
    assert stages[3].terms["gathered"][0] > 0


def test_a_paged_cache_has_whole_pages_and_all_keys_and_values():
    """32 layers of 8 heads of 128 for keys and values, in 16 bits."""
    token = 2 * 32 * 8 * 128 * 2
    case = Case(model="llama-3.1-8b", device="h100-sxm5-80gb", task="decode", batch=4, context=100)
    plain, paged = predict(case), predict(replace(case, runtime="vllm"))
    assert plain.memory_terms["kv_cache"] == pytest.approx(4 * 101 * token)
    assert paged.memory_terms["kv_cache"] == pytest.approx(4 * 112 * token)


def test_a_state_space_model_keeps_a_state_of_one_size():
    one, four = (
        predict(Case(model="mamba-130m", device="rtx-4090", task="decode", batch=n)).memory_terms["kv_cache"]
        for n in (1, 4)
    )
    assert one == 24 * (1536 * 4 + 1536 * 16) * 4  # convolution and scan of 24 layers, in float32
    assert four == 4 * one


@pytest.mark.parametrize("fields", [
    {"model": "resnet50", "device": "rtx-4090", "dtype": "amp-fp16"},
    {"model": "gpt2", "device": "a100-sxm4-40gb", "dtype": "amp-bf16", "seq": 1024},
    {"model": "vit-b-16", "device": "rtx-3090", "task": "infer"},
    {"model": "llama-3.1-8b", "device": "h100-sxm5-80gb", "task": "decode", "context": 8192},
])  # fmt: skip
def test_the_largest_micro_batch_fits_and_a_somewhat_larger_one_does_not(fields):
    largest = predict(Case(**fields)).largest_micro_batch
    assert largest > 0
    assert predict(Case(**fields, batch=largest)).fits
    assert not predict(Case(**fields, batch=int(largest * 1.02) + 1)).fits


def test_where_nothing_fits_the_answer_says_so():
    p = predict(Case(model="llama-3.1-8b", device="rtx-4090", dtype="bf16", seq=4096))
    assert not p.fits
    assert p.largest_micro_batch == 0
    assert "not even a micro-batch of 1 fits" in prediction_text(p)
    p = predict(Case(model="resnet50", device="rtx-4090", batch=4096))
    assert f"the largest micro-batch that fits is {p.largest_micro_batch}" in prediction_text(p, brief=True)


def test_old_kernels_cannot_index_very_large_tensors():
    """256 x 64 x 112 x 112 is under 2**31 elements, 3,000 such images are over it."""
    small, large = (
        Case(model="resnet50", device="h200-sxm-141gb", task="infer", batch=n, dtype="amp-fp16") for n in (256, 3000)
    )
    old = Software(torch="1.12")
    assert predict(replace(small, software=old)).fits
    assert predict(large).fits
    assert not predict(replace(large, software=old)).fits
    held = working_sets(lower_model(read_zoo("mobilenet-v2"), Lowering(task="infer", dtype="fp16")).step_ops,
                        {"b": 2000, "p": 224}, large)[0]  # fmt: skip
    assert not can_index(held, large, CONSTANTS)  # 96 channels of 112 x 112, depthwise
    assert can_index(held, replace(large, layout="nhwc"), CONSTANTS)


def test_error_correction_takes_its_share_of_gddr():
    t4, a100 = device("t4"), device("a100-sxm4-40gb")
    assert capacity_bytes(t4, CONSTANTS) < 15.1 * GIB
    assert capacity_bytes(a100, CONSTANTS) > 39 * GIB


def test_the_course_of_a_step():
    course = memory_course(Case(model="resnet50", device="rtx-4090", batch=32, dtype="amp-fp16"))
    p = course.prediction
    assert course.peak.total_bytes >= max(moment.total_bytes for moment in course.course)
    came_and_went = sum(p.memory_terms.get(n, 0) for n in ("activations", "transient", "autocast_weights", "gradients"))
    assert came_and_went == pytest.approx(course.peak.total_bytes)
    assert [m.phase for m in course.course] == sorted((m.phase for m in course.course), reverse=True)
    assert course.replay.reserved_bytes >= course.replay.allocated_bytes
    assert "the fullest operator" in memory_text(course)
    assert memory_document(course)["schema"] == "rigwise.memory/1"
