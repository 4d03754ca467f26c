"""Serving fleets: the arithmetic of the steady state, the search against brute force, the checker, the command."""

import json
import random
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.cli.main import main
from rigwise.errors import InvalidInputError, UnsupportedError
from rigwise.estimate import serving_curve
from rigwise.estimate.predict import predict
from rigwise.estimate.serving_curve import Curves, replica_curves, replica_floors, tensor_sizes
from rigwise.estimate.serving_step import RECORDED, Replica, case_of
from rigwise.estimate.steady_state import (
    Times,
    capacity,
    fitting_sequences,
    operation,
    rate_per_s,
    times_at,
    token_s,
)
from rigwise.facts.catalogue import resolve_device
from rigwise.graph.load import load_model
from rigwise.machine.machine import Machine
from rigwise.units import parse_rate
from rigwise.workload.serving_file import serving_job_from_tables
from rigwise.workload.serving_load import Serving

LLAMA = load_model("llama-3.1-8b")
LOAD = Serving(rate_per_s=20.0, prompt_tokens=2000, output_tokens=300, ttft_s=0.5, tpot_s=0.04)
TODAY = date(2026, 8, 1)
SEEDS = st.integers(0, 2**32 - 1)
Z90 = 1.2815515655446004


# The estimate


@pytest.mark.parametrize(("dtype", "tensor"), [("bf16", 1), ("fp16", 2), ("fp8", 4), ("int4", 8)])
def test_curves_are_what_predict_says(dtype, tensor) -> None:
    replica = Replica(model=LLAMA, load=LOAD, dtype=dtype, tensor=tensor)
    names = ["h100-sxm5-80gb", "rtx-4090", "l40s"]
    curves = replica_curves(replica, [Machine(device=resolve_device(name), count=tensor) for name in names])
    for row, name in enumerate(names):
        prompt = predict(replace(case_of(replica, "prefill"), device=name), LLAMA)
        assert curves.prefill_s[row] == pytest.approx(prompt.step_time_s["p50"], rel=1e-9)
        for batch in (1, 24, 256):
            step = predict(replace(case_of(replica, "decode", batch), device=name), LLAMA)
            size = RECORDED.index(batch)
            assert curves.decode_s[row, size] == pytest.approx(step.step_time_s["p50"], rel=1e-9)
            slow = curves.decode_s[row, size] * np.exp(Z90 * curves.decode_spread[row, size])
            assert slow == pytest.approx(step.step_time_s["p90"], rel=1e-9)
            assert curves.decode_floor_s[row, size] == pytest.approx(step.bound_s, rel=1e-9)


def test_the_cache_of_the_longest_request_is_reserved() -> None:
    """What a sequence adds: its 2,299 tokens in 144 pages of 16, for 32 layers x 8 heads x 128, twice, 2 bytes."""
    replica = Replica(model=LLAMA, load=LOAD, dtype="bf16", tensor=1)
    curves = replica_curves(replica, [Machine(device=resolve_device("h100-sxm5-80gb"))])
    added = np.diff(curves.memory_bytes[0])[-1] / (RECORDED[-1] - RECORDED[-2])
    by_hand = 144 * 16 * 32 * 8 * 128 * 2 * 2
    assert by_hand <= added < 1.01 * by_hand


@pytest.mark.parametrize("tensor", [1, 4])
def test_floors_are_below_estimates(tensor) -> None:
    replica = Replica(model=LLAMA, load=LOAD, dtype="bf16", tensor=tensor)
    machines = [Machine(device=resolve_device(n), count=8) for n in ("t4", "a100-sxm4-80gb", "mi300x", "b200")]
    curves, floors = replica_curves(replica, machines), replica_floors(replica, machines)
    assert list(np.isnan(curves.prefill_s)) == list(np.isnan(floors.prefill_s)) == [True, False, False, False]
    able = slice(1, None)
    assert (floors.prefill_s[able] <= curves.prefill_s[able]).all()
    assert (floors.decode_s[able] <= curves.decode_s[able, 0]).all()
    assert (floors.token_s[able, None] * curves.batches <= curves.decode_s[able] * (1 + 1e-12)).all()
    assert (floors.memory_bytes[able] <= curves.memory_bytes[able, 0]).all()


@pytest.mark.parametrize("name", ["h200-sxm-141gb", "rtx-4090"])
def test_narrow_weights_over_eight_devices_have_a_time_at_every_size(name) -> None:
    """A rank reads a part of the weights that an operator before has widened, and no more than that from the cache."""
    replica = Replica(model=LLAMA, load=LOAD, dtype="int4", tensor=8)
    curves = replica_curves(replica, [Machine(device=resolve_device(name), count=8)])
    assert np.isfinite(curves.decode_s).all()
    assert (curves.decode_floor_s <= curves.decode_s).all()
    assert curves.prefill_s[0] > curves.prefill_floor_s[0] > 0


def test_groups_divide_the_heads() -> None:
    """71 query heads of Falcon divide over nothing, 32 and 8 of the Llama over up to 8."""
    assert tensor_sizes(LLAMA) == (1, 2, 4, 8)
    assert tensor_sizes(load_model("falcon-7b")) == (1,)


# The steady state


@given(st.floats(0.1, 500), st.floats(1e-3, 0.2), st.floats(1e-3, 2.0), st.integers(1, 5000))
def test_rate_and_wait_obey_littles_law(sequences, decode_s, prefill_s, steps) -> None:
    """N = r x time in the batch, and a step comes round every T_d / (1 - r T_p)."""
    rate = rate_per_s(sequences, decode_s, prefill_s, steps)
    each_s = token_s(sequences, decode_s, prefill_s, steps)
    assert sequences == pytest.approx(rate * steps * each_s)
    assert each_s == pytest.approx(decode_s / (1 - rate * prefill_s), rel=1e-6)


def test_a_batch_played_through_step_by_step_settles_where_the_formulas_say() -> None:
    """Requests at even times; each prompt stops the batch for 50 ms, each step of it takes 20 ms."""
    decode_s, prefill_s, steps, rate = 0.02, 0.05, 100, 4.0
    now, queue, batch, done, waits = 0.0, 0.0, [], [], []
    while len(done) < 2000:
        if queue <= now:
            now += prefill_s
            queue += 1 / rate
            batch.append([now, steps])
            continue
        now = now + decode_s if batch else queue
        batch = [[begun, left - 1] for begun, left in batch]
        done += [(now - begun) / steps for begun, left in batch if not left]
        batch = [request for request in batch if request[1]]
        waits.append(len(batch))
    times = Times(decode_s=np.array([[decode_s]]), prefill_s=np.array([prefill_s]))
    at_work = operation(np.array([512.0]), times, rate, steps)
    assert np.mean(waits[500:]) == pytest.approx(at_work.sequences, rel=0.05)
    assert np.mean(done[500:]) == pytest.approx(token_s(at_work.sequences, decode_s, prefill_s, steps), rel=0.05)


def some_curves(seed, machines=1):
    """Curves of replicas that grow with the sequences, but for a jitter."""
    dice = np.random.default_rng(seed)
    batches = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 24.0])
    shape = (machines, len(batches))
    floor_s = dice.uniform(0.002, 0.02, (machines, 1)) + dice.uniform(1e-5, 2e-3, (machines, 1)) * batches
    prefill_s = dice.uniform(0.01, 0.3, machines)
    return Curves(
        batches=batches,
        decode_s=floor_s * dice.uniform(1.0, 2.0, shape),
        decode_spread=dice.uniform(0.01, 0.3, shape),
        decode_floor_s=floor_s,
        prefill_s=prefill_s * dice.uniform(1.0, 2.0, machines),
        prefill_spread=dice.uniform(0.01, 0.3, machines),
        prefill_floor_s=prefill_s,
        memory_bytes=dice.uniform(5e9, 15e9, (machines, 1)) + dice.uniform(1e7, 2e9, (machines, 1)) * batches,
        memory_spread=dice.uniform(0.01, 0.2, machines),
        capacity_bytes=np.full(machines, 24e9),
    )


def keeps_up(curves, row, load, rate, z, confidence):
    """Whether a replica takes a rate: the fixed point by plain iteration, from an empty batch up."""
    times = times_at(curves, z)
    decode_s, prefill_s = times.decode_s[row], times.prefill_s[row]
    fitting = fitting_sequences(curves, confidence)[row]
    if rate * prefill_s >= 1 or fitting < 1:
        return False
    size, sequences = 0, 0.0
    for _ in range(len(curves.batches) + 1):
        each_s = decode_s[size] / (1 - rate * prefill_s) if load.decode_steps else 0.0
        sequences = rate * load.decode_steps * each_s
        if sequences > curves.batches[-1] * (1 + 1e-9):
            return False
        size = int(np.flatnonzero(sequences <= curves.batches * (1 + 1e-9))[0])
    quick = load.ttft_s is None or decode_s[size] + prefill_s <= load.ttft_s * (1 + 1e-9)
    return bool(quick and sequences <= fitting * (1 + 1e-9) and each_s <= (load.tpot_s or np.inf) * (1 + 1e-9))


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_capacity_is_the_most_that_keeps_the_limits(seed) -> None:
    dice, curves = random.Random(seed), some_curves(seed)
    load = replace(
        LOAD,
        output_tokens=dice.choice([1, 2, 50, 300]),
        ttft_s=dice.choice([None, 0.2, 0.5]),
        tpot_s=dice.choice([None, 0.02, 0.05]),
    )
    confidence = dice.choice([0.5, 0.9])
    z = dice.choice([0.0, Z90])
    fitting = fitting_sequences(curves, confidence)
    most = float(capacity(curves.batches, times_at(curves, z), fitting, load).rate_per_s[0])
    assert most == 0 or keeps_up(curves, 0, load, most * (1 - 1e-6), z, confidence)
    assert not keeps_up(curves, 0, load, most * (1 + 1e-6) + 1e-9, z, confidence)


def test_what_fits_is_within_the_memory_and_one_more_is_not() -> None:
    curves = some_curves(3, machines=50)
    fitting = fitting_sequences(curves, 0.9)
    allowed = curves.capacity_bytes * np.exp(-Z90 * curves.memory_spread)
    for row, most in enumerate(fitting):
        peak = np.interp([max(most, 1), most + 1], curves.batches, curves.memory_bytes[row])
        assert most == 0 or peak[0] <= allowed[row]
        assert most == curves.batches[-1] or peak[1] > allowed[row]
    assert len(set(fitting)) > 5


# Reading a job


def tables(**work):
    usual = {"model": "llama-3.1-8b", "task": "serve", "rate": "20/s", "prompt": "2k", "output_tokens": 300}
    return {"workload": {**usual, **work}}


def test_a_job_file_is_read() -> None:
    request = serving_job_from_tables(tables(ttft="500ms", tpot="40ms", utilisation="70%", duration="1d"), "job.toml")
    assert request.load == replace(LOAD, utilisation_frac=0.7, duration_s=86400.0)
    assert (request.job.model, request.job.task, request.job.confidence) == ("llama-3.1-8b", "decode", 0.9)


@pytest.mark.parametrize(("text", "per_s"), [("20/s", 20.0), ("90/min", 1.5), ("20/h", 20 / 3600), ("1.2k/d", 1 / 72)])
def test_rates_have_a_time(text, per_s) -> None:
    assert parse_rate(text) == pytest.approx(per_s)


@pytest.mark.parametrize(
    ("work", "words"),
    [
        ({"rate": "0/s"}, "workload.rate is 0/s"),
        ({"rate": "20"}, "does not say in what time"),
        ({"rate": 20}, "does not say in what time"),
        ({"rate": "20/fortnight"}, "unknown time 'fortnight'"),
        ({"rate": "nan/s"}, "not a number"),
        ({"rate": "-1/s"}, "workload.rate is -1/s"),
        ({"rate": None}, "serving needs workload.rate"),
        ({"prompt": None, "output_tokens": None}, "needs workload.prompt and workload.output_tokens"),
        ({"prompt": "2.5"}, "give a whole number"),
        ({"output_tokens": 0}, "workload.output_tokens is 0"),
        ({"ttft": 500}, "has no unit"),
        ({"tpot": "40"}, "has no unit"),
        ({"tpot": "0ms"}, "workload.tpot is 0 s"),
        ({"utilisation": "170%"}, "workload.utilisation is 1.7"),
        ({"duration": 0}, "workload.duration is 0 s"),
        ({"batch": 8}, "workload.batch means nothing when serving"),
        ({"samples": "1e6"}, "workload.samples means nothing when serving"),
        ({"ratte": "1/s"}, "unknown key"),
    ],
)
def test_bad_tables_are_one_clear_line(work, words) -> None:
    with pytest.raises(InvalidInputError, match=words) as error:
        serving_job_from_tables(tables(**work), "job.toml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"constraints": {"deadline": "5h"}}, "deadline means nothing"),
        ({"objective": {"minimize": "time"}}, "least cost only"),
        ({"data": {"size": "1GB"}}, "data.size means nothing"),
        ({"constraints": {"confidence": 2}}, "confidence is 2"),
    ],
)
def test_what_a_server_cannot_be_asked(more, words) -> None:
    with pytest.raises((InvalidInputError, UnsupportedError), match=words):
        serving_job_from_tables({**tables(), **more}, "job.toml")


@pytest.mark.parametrize("model", ["bert-base", "resnet50", "whisper-small"])
def test_a_model_without_tokens_is_refused(model) -> None:
    with pytest.raises(UnsupportedError, match="no decode step"):
        serving_curve.check_servable(load_model(model), LOAD)


def test_positions_end_a_request() -> None:
    gpt2 = load_model("gpt2")
    serving_curve.check_servable(gpt2, replace(LOAD, prompt_tokens=724))
    with pytest.raises(UnsupportedError, match="1024 positions"):
        serving_curve.check_servable(gpt2, replace(LOAD, prompt_tokens=725))


# The command

FEW = ["--device", "l4", "--device", "l40s", "--device", "h100-sxm5-80gb", "--max-price-age", "20000d"]
SERVE = ["plan", "llama-3.1-8b", "--task", "serve", "--rate", "20/s", "--prompt", "2k"]
LIMITS = ["--ttft", "500ms", "--tpot", "40ms"]


@pytest.fixture
def rigwise(capfd):
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return run


def test_the_answer_fits_80_columns_and_says_what_it_leaves_out(rigwise) -> None:
    code, out, err = rigwise(*SERVE, "--output", "300", *LIMITS, *FEW)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("llama-3.1-8b: serve 20 requests/s of 2,000 + 300 tokens")
    assert max(map(len, lines)) <= 80
    words = " ".join(out.split())
    for said in ("without queues", "gap 0 %", "per million tokens", "for a month of 730 h", "--utilisation 0.7"):
        assert said in words


def test_json_adds_up(rigwise, tmp_path) -> None:
    """Dollars, tokens and rates follow from each other; the limits hold at the 90 % point."""
    code, out, _ = rigwise(*SERVE, "--output-tokens", "300", *LIMITS, *FEW, "--json", "--output", tmp_path / "p.json")
    answer = json.loads(out)
    assert (code, answer["schema"]) == (0, "rigwise.plan.serving/1")
    assert json.loads((tmp_path / "p.json").read_text()) == answer
    for plan in answer["plans"]:
        work = plan["serving"]
        dollars = work["usd_per_million_tokens"]
        assert plan["cost_usd"]["p50"] == pytest.approx(plan["usd_per_h"] * 730)
        assert dollars["all"] * 20 * 2300 * 3600 / 1e6 == pytest.approx(plan["usd_per_h"])
        assert dollars["input"] * 2000 + dollars["output"] * 300 == pytest.approx(dollars["all"] * 2300)
        assert work["ttft_s"]["p90"] <= 0.5
        assert work["tpot_s"]["p90"] <= 0.04
        assert work["limits_probability"] >= 0.9
        assert work["sequences"] <= work["most_sequences"]
        assert work["replicas"] * work["rate_per_s"] == pytest.approx(20)
        assert plan["count"] == work["replicas"] * plan["parallel"]["tensor"]
        by_hand = work["decode_step_s"]["p90"] + work["sequences"] * work["prefill_s"]["p90"] / 299
        assert work["tpot_s"]["p90"] == pytest.approx(by_hand)


def test_a_plan_is_proven_again_and_a_falsified_one_is_not(rigwise, tmp_path) -> None:
    path = tmp_path / "plan.json"
    rigwise(*SERVE, "--output-tokens", "300", *LIMITS, *FEW, "--output", path, "--quiet")
    code, out, _ = rigwise("plan", "verify", path)
    assert code == 0
    assert "the certificate holds" in out
    answer = json.loads(path.read_text())
    answer["plans"][0]["cost_usd"]["p50"] *= 0.9
    path.write_text(json.dumps(answer))
    code, out, _ = rigwise("plan", "verify", path)
    assert code == 1
    assert "plan 1" in out
    answer["certificate"]["surprise"] = 1
    path.write_text(json.dumps(answer))
    code, _, err = rigwise("plan", "verify", path)
    assert code == 2
    assert "unknown key" in err


def test_a_job_file_says_the_same(rigwise, tmp_path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text(
        '[workload]\nmodel = "llama-3.1-8b"\ntask = "serve"\nrate = "20/s"\nprompt = "2k"\noutput_tokens = 300\n'
        'ttft = "500ms"\ntpot = "40ms"\n'
        '[market]\ndevices = ["l4", "l40s", "h100-sxm5-80gb"]\nmax_price_age = "20000d"\n'
    )
    _, from_file, _ = rigwise("plan", path, "--json")
    _, from_flags, _ = rigwise(*SERVE, "--output", "300", *LIMITS, *FEW, "--json")
    assert json.loads(from_file)["plans"] == json.loads(from_flags)["plans"]
    code, _, err = rigwise("plan", path, "--rate", "30/s")
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--output", "300", "--ttft", "1ms"], 1, "the quickest first token takes"),
        (["--output", "300", "--budget", "$5"], 1, "the cheapest costs $"),
        (["--output", "300", "--output-tokens", "4"], 2, "both give a number of tokens"),
        (["--output", "300", "--report", "x.pdf"], 2, "does not end in .html"),
        (["--output", "0"], 2, "--output-tokens is 0"),
        (["--output", "300", "--region", "mars"], 2, "no offer has the region"),
        (["--output", "300", "--steps", "4"], 2, "--steps means nothing"),
        ([], 2, "serving needs --output-tokens"),
    ],
)
def test_bad_questions_are_one_line(rigwise, flags, code, words) -> None:
    found, out, err = rigwise(*SERVE, *flags, *FEW)
    assert (found, out) == (code, "")
    assert words in err
    assert err.count("\n") == 1


def test_nothing_feasible_is_a_document_too(rigwise) -> None:
    code, out, _ = rigwise(*SERVE, "--output", "300", "--tpot", "1ms", *FEW, "--json")
    answer = json.loads(out)
    assert (code, answer["plans"]) == (1, [])
    assert "each token within 1.00 ms" in answer["infeasible"]["message"]


def test_too_much_to_hold_is_said(rigwise) -> None:
    _, _, err = rigwise("plan", "llama-3.1-405b", *SERVE[2:], "--output", "300", "--device", "l4", *FEW[6:])
    assert "no offer can hold llama-3.1-405b" in err
    assert "--allow-quantised needs less memory" in err


def test_owned_machines_serve_too(rigwise, tmp_path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[[owned]]\nname = "rack"\ndevice = "l40s"\ncount = 8\nnodes = 2\nusd_per_h = 1.0\n')
    _, out, _ = rigwise(*SERVE, "--output", "300", *LIMITS, *FEW, "--own", own, "--rate", "5/s", "--json")
    best = json.loads(out)["plans"][0]
    assert (best["kind"], best["instance"], best["usd_per_h"]) == ("own", "rack", 1.0)
    assert best["nodes"] <= 2


def test_serving_files_are_planned_beside_others(rigwise, tmp_path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text(
        '[workload]\nmodel = "llama-3.1-8b"\ntask = "serve"\nrate = "1/s"\nprompt = 500\noutput_tokens = 100\n'
        '[market]\ndevices = ["l4"]\nmax_price_age = "20000d"\n'
    )
    broken = tmp_path / "broken.toml"
    broken.write_text(path.read_text().replace("1/s", "1"))
    code, out, _ = rigwise("plan", path, broken, "--json")
    first, second = json.loads(out)["results"]
    assert (code, first["schema"]) == (1, "rigwise.plan.serving/1")
    assert "does not say in what time" in second["error"]["message"]


def test_the_report_starts_with_the_fleet_and_says_what_it_rests_on(rigwise, tmp_path) -> None:
    pytest.importorskip("vl_convert", reason="extra plot")
    place = tmp_path / "fleet.html"
    code, out, err = rigwise(*SERVE, "--output", "300", *LIMITS, *FEW, "--json", "--report", str(place))
    assert (code, err) == (0, f"wrote {place}\n")
    best = json.loads(out)["plans"][0]
    page = place.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    heading = page[page.index("<h1>") : page.index("</h1>")]
    assert f"{best['serving']['replicas']} x {best['device']}" in heading
    for words in (*best["why"], "limit 500 ms", "Certificate", "constants", best["price_date"]):
        assert words in page
    assert "<script" not in page
