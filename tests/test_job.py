"""Jobs from files and from flags: the same job either way, and one clear line for what cannot be read."""

import pytest

from rigwise.errors import InvalidInputError, UnsupportedError
from rigwise.graph.graph import Card, Graph, Model, Parameter
from rigwise.units import DAY_S, HOUR_S
from rigwise.workload.choices import settle
from rigwise.workload.job import COMMAND_LINE, Job, OwnedMachine
from rigwise.workload.job_file import job_from_tables, job_from_toml, owned_from_toml, with_owned

FULL = """
[workload]
model = "llama-3.1-8b"
task = "train"
method = "lora"
tokens = "20M"
batch = 64
seq = 2048
optimizer = "adamw"
[constraints]
deadline = "24h"
budget = "$100"
confidence = 0.5
[market]
providers = ["AWS", "gcp"]
regions = ["us-east-1"]
devices = ["H100 SXM"]
spot = true
max_price_age = "30d"
[[market.owned]]
name = "box"
device = "rtx-3090"
count = 2
usd_per_h = 0.1
[objective]
minimize = "time"
gap = "5%"
top = 3
"""


def test_a_full_file() -> None:
    assert job_from_toml(FULL, "job.toml") == Job(
        model="llama-3.1-8b",
        method="lora",
        amount=20e6,
        unit="tokens",
        batch=64,
        seq=2048,
        optimizer="adamw",
        deadline_s=24 * HOUR_S,
        budget_usd=100.0,
        confidence=0.5,
        providers=("aws", "gcp"),
        regions=("us-east-1",),
        devices=("H100 SXM",),
        spot=True,
        max_price_age_s=30 * DAY_S,
        owned=(OwnedMachine(name="box", device="rtx-3090", count=2, usd_per_h=0.1),),
        minimize="time",
        gap_frac=0.05,
        top=3,
    )


def test_text_and_numbers_mean_the_same() -> None:
    written = job_from_toml('[workload]\nmodel="m"\nsamples="128e6"\nbatch="1k"\n', "a.toml")
    plain = job_from_toml('[workload]\nmodel="m"\nsamples=128000000\nbatch=1000\n', "b.toml")
    assert written == plain


def test_defaults() -> None:
    assert job_from_toml('[workload]\nmodel="m"\nsteps=10\n', "job.toml") == Job(model="m", amount=10.0, unit="steps")


HEAD = '[workload]\nmodel = "m"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["workload is missing"]),
        ("[workload\n", ["not TOML"]),
        ("[workload]\nsamples = 1\n", ["workload.model is missing"]),
        (HEAD, ["no amount of work", "workload.samples"]),
        (HEAD + "samples = 1\ntokens = 2\n", ["several amounts", "workload.samples, workload.tokens"]),
        (HEAD + "samples = 0\n", ["workload.samples is 0"]),
        (HEAD + "samples = -5\n", ["workload.samples is -5"]),
        (HEAD + "samples = nan\n", ["workload.samples", "nan"]),
        (HEAD + "samples = inf\n", ["workload.samples", "inf"]),
        (HEAD + "samples = 1e400\n", ["workload.samples", "inf"]),
        (HEAD + 'samples = "1e400"\n', ["workload.samples", "1e400", "too large"]),
        (HEAD + 'samples = "lots"\n', ["workload.samples", "lots"]),
        (HEAD + 'samples = "5 GB"\n', ["workload.samples", "GB"]),
        (HEAD + "samples = [1]\n", ["workload.samples"]),
        (HEAD + "samples = 5\nbatch = 0\n", ["batch is 0"]),
        (HEAD + "samples = 5\nbatch = 1.5\n", ["workload.batch is 1.5", "whole number"]),
        (HEAD + 'samples = 5\ntask = "trian"\n', ["task is 'trian'", "train"]),
        (HEAD + 'samples = 5\nmethod = "dora"\n', ["dora", "qlora"]),
        (HEAD + "samples = 5\nsampels = 6\n", ["unknown key 'workload.sampels'"]),
        (HEAD + "epochs = 3\n", ["epochs", "workload.dataset_size"]),
        (HEAD + "samples = 3\ndataset_size = 5\n", ["epochs", "workload.dataset_size"]),
        (HEAD + 'samples = 5\n[constraints]\ndeadline = "5 apples"\n', ["constraints.deadline", "apples"]),
        (HEAD + 'samples = 5\n[constraints]\ndeadline = "-5h"\n', ["constraints.deadline is -18000"]),
        (HEAD + 'samples = 5\n[constraints]\nbudget = "EUR 5"\n', ["constraints.budget", "EUR 5"]),
        (HEAD + "samples = 5\n[constraints]\nconfidence = 0.2\n", ["constraints.confidence is 0.2"]),
        (HEAD + "samples = 5\n[constraint]\nbudget = 5\n", ["unknown key 'constraint'", "constraints"]),
        (HEAD + 'samples = 5\n[objective]\nminimize = "fun"\n', ["objective.minimize is 'fun'"]),
        (HEAD + "samples = 5\n[objective]\ntop = 0\n", ["objective.top is 0"]),
        (HEAD + "samples = 5\n[objective]\ngap = -1\n", ["objective.gap is -1"]),
        (
            HEAD + 'samples = 5\n[[market.owned]]\nname = "a"\ndevice = "t4"\ncount = 3\nnodes = 2\n',
            ["'a'", "3 devices"],
        ),
        (HEAD + 'samples = 5\n[[market.owned]]\nname = "a"\n', ["market.owned.0.device is missing"]),
        (HEAD + 'samples = 5\n[[market.owned]]\nname = "a"\ndevice = "t4"\nusd_per_h = nan\n', ["usd_per_h"]),
    ],
)
def test_what_cannot_be_read_is_one_line_with_file_and_key(text, words) -> None:
    with pytest.raises(InvalidInputError) as caught:
        job_from_toml(text, "job.toml")
    message = str(caught.value)
    assert message.startswith("job.toml")
    assert "\n" not in message
    for word in words:
        assert word in message


def test_serving_is_read_elsewhere() -> None:
    with pytest.raises(UnsupportedError, match=r"job\.toml.*serving"):
        job_from_toml(HEAD + 'samples = 5\ntask = "serve"\n', "job.toml")


def test_a_flag_is_named_as_it_was_typed() -> None:
    tables = {"workload": {"model": "m", "samples": "5"}, "market": {"max_price_age": "old"}}
    with pytest.raises(InvalidInputError, match="command line: --max-price-age: duration 'old'"):
        job_from_tables(tables, COMMAND_LINE)


def test_owned_machines_from_a_file() -> None:
    text = '[[owned]]\nname = "box"\ndevice = "t4"\n'
    (machine,) = owned_from_toml(text, "own.toml")
    assert machine == OwnedMachine(name="box", device="t4")
    job = Job(model="m", amount=1, unit="steps")
    assert with_owned(job, (machine,), "own.toml").owned == (machine,)
    with pytest.raises(InvalidInputError, match="two owned machines are called 'box'"):
        with_owned(with_owned(job, (machine,), "own.toml"), (machine,), "own.toml")
    with pytest.raises(InvalidInputError, match=r"own\.toml: owned is missing"):
        owned_from_toml("", "own.toml")


# What a job leaves to its model


def a_model(parameters=1000, *, causal=False, symbols=("b",)):
    graph = Graph(ops=(), symbols={s: 8 for s in symbols})
    return Model(
        name="m",
        card=Card(title="M", reference_batch=32, causal=causal),
        parameters=(Parameter(name="w", shape=(parameters,)),),
        graphs={"train": graph, "infer": graph, "decode": graph},
    )


def a_task(model, **fields):
    return settle(Job(**{"model": "m", "amount": 100, "unit": "samples", **fields}), model)


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({"unit": "samples", "amount": 100}, 4),
        ({"unit": "samples", "amount": 96}, 3),
        ({"unit": "samples", "amount": 100, "batch": 7}, 15),
        ({"unit": "tokens", "amount": 1000, "batch": 2, "seq": 10}, 50),
        ({"unit": "tokens", "amount": 1000, "batch": 2, "task": "decode"}, 500),
        ({"unit": "epochs", "amount": 3, "dataset_size": 1000.0, "batch": 100}, 30),
        ({"unit": "steps", "amount": 17}, 17),
    ],
)
def test_steps(fields, steps) -> None:
    assert a_task(a_model(symbols=("b", "s")), **fields).steps == steps


def test_an_absent_batch_is_the_reference_batch_and_named() -> None:
    task = a_task(a_model())
    assert task.case.batch == 32
    assert "batch 32, the reference batch of m" in task.assumed


def test_tokens_need_a_sequence() -> None:
    with pytest.raises(InvalidInputError, match="no sequence"):
        a_task(a_model(), unit="tokens")


@pytest.mark.parametrize(
    ("model", "fields", "dtypes"),
    [
        (a_model(), {}, ["amp-bf16", "amp-fp16", "fp32"]),
        (a_model(2 * 10**9, causal=True), {"method": "lora"}, ["bf16", "amp-bf16", "amp-fp16", "fp32"]),
        (a_model(2 * 10**9, causal=True), {}, ["bf16", "amp-bf16", "amp-fp16", "fp32"]),
        (a_model(), {"task": "infer"}, ["bf16", "fp16", "fp32"]),
        (a_model(), {"task": "infer", "allow_quantised": True}, ["bf16", "fp16", "fp32", "fp8", "int8", "int4"]),
    ],
)
def test_number_formats_that_leave_the_result_alone(model, fields, dtypes) -> None:
    assert list(dict.fromkeys(f.dtype for f in a_task(model, **fields).families)) == dtypes


def test_layouts_only_for_images() -> None:
    assert {f.layout for f in a_task(a_model()).families} == {"nchw"}
    assert {f.layout for f in a_task(a_model(symbols=("b", "p"))).families} == {"nchw", "nhwc"}
