"""``predict --explain scaling``: terms that add up, a reason that holds, a table of eighty columns."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from rigwise.errors import InvalidInputError
from rigwise.estimate.scaling import TERMS, scaling
from rigwise.graph.load import load_model
from rigwise.report.scaling import scaling_document, scaling_text
from rigwise.workload.case import Case, Parallel


def ask(model="gpt2", counts=(1, 2, 4, 8), weak=False, per_node=None, **more):
    fields = {"device": "rtx-3090", "batch": 32, "seq": 256, "dtype": "amp-fp16", **more}
    return scaling(Case(model=model, **fields), counts, weak=weak, per_node=per_node, model=load_model(model))


@pytest.fixture(scope="module")
def strong():
    return ask(counts=(1, 4, 8, 32))


def test_terms_add_up_to_each_step(strong):
    for point in strong.points:
        assert set(point.terms_s) == set(TERMS)
        assert sum(point.terms_s.values()) == pytest.approx(point.prediction.step_time_s["p50"])
        assert min(point.terms_s.values()) >= -1e-12
        assert point.terms_s[point.binds] == max(point.terms_s.values())


def test_strong_scaling_loses_efficiency_to_what_grows(strong):
    efficiency = [point.efficiency_frac for point in strong.points]
    assert efficiency[0] == 1
    assert efficiency == sorted(efficiency, reverse=True)
    assert strong.grows == "communication"  # PCIe, then 100 Gbit/s, for a model whose gradients are half a gigabyte
    assert strong.stops_at < 32
    assert "faster link" in strong.change


def test_weak_scaling_keeps_the_batch_of_a_device():
    found = ask(counts=(1, 2, 4), weak=True, batch=8)
    assert [p.prediction.case.batch for p in found.points] == [8, 16, 32]
    assert found.points[-1].efficiency_frac > ask(counts=(1, 2, 4), batch=8).points[-1].efficiency_frac


@pytest.mark.parametrize(
    ("more", "grows"),
    [
        ({"device": "h100-sxm5-80gb", "batch": 8, "seq": 64, "counts": (1, 8)}, {"launch", "update"}),
        ({"device": "h100-sxm5-80gb", "batch": 256, "seq": 512, "counts": (1, 2), "weak": True}, {"straggling"}),
    ],
)
def test_the_reason_follows_the_machine_and_the_work(more, grows):
    assert ask(**more).grows in grows


def test_a_pipeline_with_few_micro_batches_stops_at_its_bubble():
    found = scaling(
        Case(
            model="llama-3.1-8b", device="h100-sxm5-80gb", batch=8, seq=4096,
            parallel=Parallel(pipeline=8, micro_batch=1),
        ),
        (8, 16, 32, 64),
        model=load_model("llama-3.1-8b"),
    )  # fmt: skip
    assert found.points[-1].terms_s["bubble"] > 0.3 * found.points[-1].prediction.step_time_s["p50"]
    assert found.points[-1].efficiency_frac < 0.6


def test_nodes_are_filled_before_another_is_taken():
    found = ask(counts=(4, 8, 16), device="h100-sxm5-80gb")
    assert [p.prediction.case.nodes for p in found.points] == [1, 1, 2]
    assert [p.prediction.case.nodes for p in ask(counts=(2, 4, 8), per_node=2).points] == [1, 2, 4]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"counts": (4,)}, "rising counts"),
        ({"counts": (4, 2)}, "rising counts"),
        ({"counts": (1, 3)}, "does not divide"),
        ({"counts": (1, 9), "batch": 9}, "9 devices do not divide over 2 nodes"),
        ({"counts": (2, 3), "weak": True, "batch": 5}, "batch 5 does not divide over 2"),
    ],
)
def test_counts_that_cannot_be_are_one_line(more, words):
    with pytest.raises(InvalidInputError) as caught:
        ask(**more)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_and_document_tell_the_same(strong):
    text, document = scaling_text(strong), scaling_document(strong)
    json.dumps(document, allow_nan=False)
    assert max(map(len, text.splitlines())) <= 80
    assert strong.change in " ".join(text.split())
    assert document["schema"] == "rigwise.scaling/1"
    assert [p["count"] for p in document["points"]] == [1, 4, 8, 32]
    assert document["points"][0]["prediction"]["schema"] == "rigwise.predict/1"
    assert scaling_text(strong, brief=True).split() == strong.why.split()


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "rigwise", "predict", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_answers_and_refuses_in_one_line():
    base = ("resnet50", "--device", "rtx-3090", "--batch", "64", "--dtype", "amp-fp16")
    told = run(*base, "--count", "1,2,4,8", "--explain", "scaling")
    assert told.returncode == 0, told.stderr
    assert max(map(len, told.stdout.splitlines())) <= 80
    assert "devices give" in told.stdout
    document = json.loads(run(*base, "--count", "1,2", "--explain", "scaling", "--weak", "--json").stdout)
    assert document["kind"] == "weak"
    for bad in (("--count", "8", "--explain", "scaling"), ("--count", "1,2"), ("--weak",)):
        refused = run(*base, *bad)
        assert refused.returncode == 2
        assert len(refused.stderr.strip().splitlines()) == 1
