"""``predict --explain serving``: tokens, dollars and room for the cache."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import date

import pytest

from rigwise.errors import InvalidInputError, UnsupportedError
from rigwise.estimate.serving import Price, ServingQuestion, longest_context, serve, serving_document
from rigwise.facts.catalogue import device, offers
from rigwise.graph.load import load_model
from rigwise.report.serving import serving_text
from rigwise.report.serving_price import usual_price
from rigwise.workload.case import Case, Parallel

LLAMA = load_model("llama-3.1-8b")


def ask(card="h100-sxm5-80gb", **fields):
    """Serve the 8B Llama in 16 bits; fields of the question, else of the case."""
    own = {name: fields.pop(name) for name in ("batches", "contexts", "prompt", "price") if name in fields}
    case = Case(**{"model": "llama-3.1-8b", "device": card, "runtime": "vllm", "mode": "compiled", **fields})
    return serve(ServingQuestion(case=case, **{"batches": (1, 8), "contexts": (1024, 4096), **own}), LLAMA)


def rigwise(*arguments):
    command = [sys.executable, "-m", "rigwise", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("card", ["h100-sxm5-80gb", "a100-sxm4-80gb", "rtx-4090"])
def test_one_sequence_takes_what_reading_the_weights_takes(card):
    """16 GB over the bus at 55 to 100 % of its rate; the rest is gaps between kernels."""
    token_s = ask(card, batches=(1,), contexts=(128,)).points[0].token_s["p50"]
    read_s = 2 * 7.5e9 / device(card).memory_bytes_per_s
    assert 0.55 < read_s / token_s < 1.0


def test_fewer_bits_are_quicker_alone_and_no_gain_in_a_long_prompt():
    """Decode reads half or a quarter; a prompt computes as much, and widens the weights beside it."""
    answers = [ask("rtx-3090", dtype=dtype, batches=(1,)) for dtype in ("fp16", "int8", "int4")]
    alone = [answer.points[0].token_s["p50"] for answer in answers]
    prompts = [answer.prompt.first_token_s["p50"] for answer in answers]
    assert alone == sorted(alone, reverse=True)
    assert alone[0] / alone[2] < 2 / (0.5 + 2 / 128)
    assert prompts[1:] == pytest.approx(prompts[:1] * 2, rel=0.03)


def test_the_cache_of_a_sequence_is_counted_by_hand():
    """32 layers x 8 key heads x 128 x 2 (keys and values) x 2 bytes; 1,025 tokens take 65 pages of 16."""
    by_hand = 65 * 16 * 32 * 8 * 128 * 2 * 2
    assert ask(contexts=(1024,)).limits[0].sequence_bytes == by_hand


def test_one_more_sequence_than_the_limit_does_not_fit():
    most = ask(contexts=(4096,)).limits[0].most_sequences
    points = ask(contexts=(4096,), batches=(most, most + 1)).points
    assert [point.fits for point in points] == [True, False]


def test_longer_contexts_leave_room_for_fewer_and_four_bits_for_more():
    wide, narrow = ask("rtx-4090"), ask("rtx-4090", dtype="int4")
    assert wide.limits[0].most_sequences > wide.limits[1].most_sequences
    for few, many in zip(wide.limits, narrow.limits, strict=True):
        assert many.most_sequences > few.most_sequences
        assert many.sequence_bytes == few.sequence_bytes


def test_a_model_that_does_not_fit_is_an_answer():
    answer = ask("t4", dtype="fp16")
    assert [limit.most_sequences for limit in answer.limits] == [0, 0]
    assert not any(point.fits for point in answer.points)
    assert "not even one fits" in serving_text(answer)


def test_rates_and_dollars_follow_from_the_times():
    answer = ask(price=Price(usd_per_h=3.6, basis="as given"))
    for point in answer.points:
        assert point.user_tokens_per_s["p50"] == pytest.approx(1 / point.token_s["p50"])
        assert point.tokens_per_s["p10"] == pytest.approx(point.batch / point.token_s["p90"])
        assert point.usd_per_million_tokens["p90"] == pytest.approx(1e-3 * point.token_s["p90"] / point.batch * 1e6)
        assert point.usd_per_million_tokens["p10"] < point.usd_per_million_tokens["p90"]
    prompt = answer.prompt
    assert prompt.usd_per_million_tokens["p50"] == pytest.approx(1e-3 * prompt.first_token_s["p50"] / 1024 * 1e6)


def test_more_sequences_share_the_weights():
    """Slower for each, cheaper for all."""
    answer = ask(batches=(1, 8, 64), contexts=(1024,), price=Price(usd_per_h=2.0, basis="as given"))
    times = [point.token_s["p50"] for point in answer.points]
    dollars = [point.usd_per_million_tokens["p50"] for point in answer.points]
    assert times == sorted(times)
    assert dollars == sorted(dollars, reverse=True)


def test_replicas_multiply_rates_and_nothing_else():
    one, four = ask(), ask(count=4)
    assert (four.replicas, four.case.count) == (4, 1)
    for alone, among in zip(one.points, four.points, strict=True):
        assert among.token_s == alone.token_s
        assert among.tokens_per_s["p50"] == pytest.approx(4 * alone.tokens_per_s["p50"])


def test_a_tensor_group_is_quicker_and_holds_more_than_one_device():
    one, group = ask(), ask(count=4, parallel=Parallel(tensor=4))
    assert group.replicas == 1
    assert group.points[0].token_s["p50"] < one.points[0].token_s["p50"]
    assert group.limits[0].sequence_bytes == pytest.approx(one.limits[0].sequence_bytes)
    assert group.limits[0].most_sequences > 4 * one.limits[0].most_sequences


def test_a_format_is_chosen_and_named():
    assert (ask("t4").case.dtype, ask().case.dtype) == ("fp16", "bf16")
    assert "dtype fp16" in ask("t4").assumed


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"batches": ()}, "batch is empty"),
        ({"batches": (0,)}, "batch is 0"),
        ({"contexts": (0,)}, "context is 0"),
        ({"prompt": 0}, "seq is 0"),
        ({"price": Price(usd_per_h=float("nan"), basis="")}, "dollars an hour"),
        ({"count": 3, "parallel": Parallel(tensor=2)}, "does not divide 3 devices"),
        ({"count": 4, "nodes": 3}, "does not divide 4 devices in 3 nodes"),
    ],
)
def test_impossible_questions_are_named(fields, words):
    with pytest.raises(InvalidInputError, match=words):
        ask(**fields)


def test_a_model_without_decode_is_refused():
    with pytest.raises(UnsupportedError, match="no decode step"):
        serve(ServingQuestion(case=Case(model="resnet50", device="t4")))


def test_learned_positions_end_the_context_and_computed_ones_do_not():
    gpt2 = load_model("gpt2")
    assert (longest_context(gpt2), longest_context(LLAMA)) == (1024, None)
    assert longest_context(load_model("opt-1.3b")) == 2048
    question = ServingQuestion(case=Case(model="gpt2", device="t4"))
    assert {point.context for point in serve(question, gpt2).points} == {1023}
    for field, value in (("contexts", (1024,)), ("prompt", 1025)):
        with pytest.raises(UnsupportedError, match="1024 positions"):
            serve(replace(question, **{field: value}), gpt2)
    assert any("positions" in word for word in ask().assumed)


def test_a_state_does_not_grow_with_the_context():
    question = ServingQuestion(case=Case(model="mamba-130m", device="t4"), batches=(4,))
    answer = serve(question)
    assert answer.points[0].token_s == answer.points[1].token_s
    assert answer.limits[0].sequence_bytes == answer.limits[1].sequence_bytes > 0
    assert any("does not grow" in word for word in answer.assumed)


def offer(**fields):
    row = next(o for o in offers() if o.device == "h100-sxm5-80gb" and o.price_usd_h and o.accel_count == 8)
    return replace(row, as_of="2026-01-01", spot_price_usd_h=None, flags=(), **fields)


def test_the_usual_price_is_the_cheapest_that_holds_whole_groups():
    rows = [
        offer(provider="a", accel_count=8, price_usd_h=24.0),
        offer(provider="b", accel_count=1, price_usd_h=2.0),
        offer(provider="c", accel_count=8, price_usd_h=1.0, device="h100-sxm5-80gb|h100-pcie-80gb"),
        offer(provider="d", accel_count=8, price_usd_h=0.0, session_cap_s=3600.0),
    ]
    day = date(2026, 2, 1)
    apart, together = (usual_price("h100-sxm5-80gb", 8, group, rows, day) for group in (1, 8))
    assert (apart.usd_per_h, together.usd_per_h) == (16.0, 24.0)
    assert "8 x b" in apart.basis
    assert "2026-01-01" in together.basis
    assert usual_price("h100-sxm5-80gb", 8, 8, rows, date(2027, 6, 1)) is None


def test_the_document_is_json_and_versioned():
    document = serving_document(ask())
    text = json.dumps(document, allow_nan=False)
    assert json.loads(text)["schema"] == "rigwise.serving/1"
    assert document["points"][0].keys() == {
        "batch", "context", "token_s", "user_tokens_per_s", "tokens_per_s", "usd_per_million_tokens",
        "memory_bytes", "fits", "binds",
    }  # fmt: skip
    assert document["price"] is None
    assert document["points"][0]["usd_per_million_tokens"] is None


def test_the_table_keeps_to_eighty_columns():
    answer = ask(batches=(1, 100_000), contexts=(128, 1_000_000), price=Price(usd_per_h=1e4, basis="x" * 60))
    assert max(len(line) for line in serving_text(answer).splitlines()) <= 80
    assert len(serving_text(answer, brief=True)) < len(serving_text(answer))


def test_the_command_answers_with_lists_of_batches():
    flags = ("--explain", "serving", "--batch", "1,4", "--context", "256", "--seq", "128")
    done = rigwise("predict", "gpt2", "--device", "t4", *flags)
    assert done.returncode == 0, done.stderr
    assert "serve gpt2 on t4, fp16, by vllm, compiled" in done.stdout
    assert re.search(r"256 +4 ", done.stdout)
    answer = json.loads(rigwise("predict", "gpt2", "--device", "t4", *flags, "--price", "2", "--json").stdout)
    assert [(point["context"], point["batch"]) for point in answer["points"]] == [(256, 1), (256, 4)]
    assert answer["price"] == {"usd_per_h": 2.0, "basis": "as given"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--explain", "serving", "--batch", "1,,2"), "not a list of numbers"),
        (("--explain", "serving", "--batch", "1,x"), "not a number"),
        (("--explain", "serving", "--task", "train"), "prefill and decode both"),
        (("--explain", "serving", "--seq", "1,2"), "takes one number"),
        (("--explain", "servin",), "serving"),
        (("--batch", "1,2"), "takes one number here"),
        (("--price", "2"), "--explain serving"),
    ],
)  # fmt: skip
def test_the_command_names_what_is_wrong(flags, words):
    done = rigwise("predict", "gpt2", "--device", "t4", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
