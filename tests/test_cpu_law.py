"""What holds for operators on a CPU, whatever the constants are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError, MissingFactError, UnsupportedError
from rigwise.estimate.bound import CLOCK_HEADROOM, ceiling_flops_per_s
from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.columns import columns, held_hz
from rigwise.estimate.cpu import cpu_times, updated_bytes_per_s
from rigwise.estimate.fleet import estimate_fleet
from rigwise.estimate.op_time import op_times
from rigwise.estimate.predict import predict, work_of
from rigwise.estimate.setting import Setting
from rigwise.facts.catalogue import cpu, cpus, resolve_device
from rigwise.facts.cpu import as_device, peak_rates
from rigwise.graph.load import load_model
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.machine.machine import Machine
from rigwise.workload.case import Case, Software, check
from rigwise.workload.lower import Recipe
from rigwise.workload.resolve import resolve
from rigwise.workload.table import tabulate

WHOLE = [d for d in (as_device(one) for one in cpus()) if not d.missing()]
MODELS = ["resnet50", "mobilenet-v2", "bert-base", "convnext-tiny", "lennard-jones"]


def table_of(model, task="infer", batch=1, device="core-i9-10940x"):
    case = Case(model=model, device=device, task=task, batch=batch, dtype="fp32")
    loaded = load_model(model)
    return work_of(loaded, resolve(case, loaded), resolve_device(device)).table


def seconds(table, device, setting=None):
    return cpu_times(table, columns([device], load_calibration()), load_calibration(), setting or Setting())


@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    where=st.sampled_from(WHOLE),
    batch=st.integers(1, 64),
    year=st.sampled_from([None, 2016]),
)
def test_no_operator_is_quicker_than_its_roofs(model, where, batch, year):
    table = table_of(model, batch=1 if model == "lennard-jones" else batch)
    compute, memory, total = seconds(table, where, Setting(year=year))
    moved = (table.read_bytes + table.write_bytes)[None]
    assert (compute >= table.flops[None] / where.peak("fp32") * (1 - 1e-12)).all()
    assert (memory >= (moved - where.l2_bytes) / where.memory_bytes_per_s * (1 - 1e-12)).all()
    assert (total >= compute).all()
    assert (total >= memory).all()


@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    where=st.sampled_from(WHOLE),
    quantity=st.sampled_from(["memory_bytes_per_s", "l2_bytes", "boost_hz"]),
    factor=st.floats(1.01, 4.0),
)
def test_a_better_cpu_is_never_slower(model, where, quantity, factor):
    better = replace(where, **{quantity: getattr(where, quantity) * factor})
    table = table_of(model)
    assert (seconds(table, better)[2] <= seconds(table, where)[2] * (1 + 1e-12)).all()


def test_cpus_go_by_their_own_law_beside_accelerators():
    table, calibration = table_of("resnet50"), load_calibration()
    both = [resolve_device(name) for name in ("rtx-4090", "core-i9-10940x", "epyc-7763")]
    together = op_times(table, columns(both, calibration), calibration, Setting())
    for row, one in enumerate(both):
        alone = op_times(table, columns([one], calibration), calibration, Setting())
        assert together.total_s[row] == pytest.approx(alone.total_s[0])
        assert one.kind == "gpu" or alone.total_s[0] == pytest.approx(seconds(table, one)[2][0])


def test_the_fleet_and_a_single_prediction_agree_on_cpus():
    """The planner and ``predict`` must give a CPU the same time, by its own law and as its own host."""
    case = Case(model="resnet50", device="core-i9-10940x", task="infer", batch=8, mode="compiled")
    found = estimate_fleet(
        case,
        Recipe(dtype="fp32", micro_batch=8, mode="compiled"),
        [Machine(device=resolve_device(case.device), count=1)],
    )
    assert found.step_p50_s[0] == pytest.approx(predict(case).step_time_s["p50"])


def test_a_hybrid_goes_at_the_pace_of_its_slowest_core():
    """12700H: six cores of 32 FLOP at 2.3 GHz and eight of 16 at 1.7."""
    hybrid = cpu("core-i7-12700h")
    assert peak_rates(hybrid)["fp32"] == pytest.approx(6 * 2.3e9 * 32 + 8 * 1.7e9 * 16)
    device = as_device(hybrid)
    even = float(columns([device], load_calibration()).even_frac[0, 0, 0]) * device.peak("fp32")
    assert even == pytest.approx(14 * 16 * 1.7e9 * (4.7 / 2.3) ** 0.5)


def test_a_clock_between_rated_and_highest_is_held():
    for device in WHOLE:
        rated = device.base_hz
        assert rated <= held_hz(device) <= rated * device.boost_hz / device.tensor_hz * (1 + 1e-12)


def test_a_bound_counts_on_the_highest_clock():
    device = resolve_device("core-i9-10940x")
    ceiling = device.peak("fp32") * 4.6 / 3.3 * CLOCK_HEADROOM
    assert ceiling_flops_per_s(device, "fp32") == pytest.approx(ceiling)


def test_bf16_doubles_the_width_and_amx_more():
    assert peak_rates(cpu("epyc-9654"))["bf16_acc32"] == 2 * peak_rates(cpu("epyc-9654"))["fp32"]
    assert peak_rates(cpu("xeon-platinum-8480p"))["bf16_acc32"] == 16 * peak_rates(cpu("xeon-platinum-8480p"))["fp32"]
    assert "bf16_acc32" not in peak_rates(cpu("core-i9-10940x"))


def test_unfolding_moves_each_window():
    """The unfolded matrix of a 3x3 kernel is nine times its input; that of a 1x1 is its input: 1 + 9 against 1 + 1."""
    table, device = table_of("resnet50"), resolve_device("xeon-e5-2630-v3")
    more_s = (seconds(table, device, Setting(year=2016))[1] - seconds(table, device)[1])[0, :, 0]
    per_byte = more_s / (table.read_bytes + table.write_bytes - table.weight_bytes)[:, 0]
    conv = table.flops[:, 0] > 1e6
    wide, narrow = per_byte[conv & (table.window == 9)], per_byte[conv & (table.window == 1)]
    assert np.median(wide) == pytest.approx(5 * np.median(narrow), rel=0.05)


def test_a_runtime_that_packs_weights_spares_laying_them_out_at_every_step():
    table, device = table_of("resnet50"), resolve_device("core-i9-10940x")
    torch_s, packed_s = (seconds(table, device, Setting(runtime=name))[2][0, :, 0] for name in ("torch", "openvino"))
    wide = (table.window > 1) & (table.flops[:, 0] > 0)
    assert (packed_s[wide] < torch_s[wide]).all()
    assert packed_s[~wide] == pytest.approx(torch_s[~wide])


def streaming_op(mebibytes, name="aten.relu"):
    array = Tensor((mebibytes, 2**18))
    return Op(name=name, kind=Kind.ELEMENTWISE, phase=Phase.FORWARD, inputs=(array,), outputs=(array,))


def test_arrays_over_32_mib_lie_in_new_pages():
    where = as_device(cpu("core-i9-10940x"))

    def per_mebibyte(mebibytes, name="aten.relu", **setting):
        table = tabulate([streaming_op(mebibytes, name)], {"b": 1})
        return float(seconds(table, where, Setting(**setting))[1][0, 0, 0]) / mebibytes

    assert per_mebibyte(33) > 1.3 * per_mebibyte(32)
    assert per_mebibyte(64) == pytest.approx(per_mebibyte(33), rel=0.5)
    for kept in ({"name": "aten.relu_"}, {"mode": "compiled"}, {"runtime": "onnxruntime"}, {"year": 2016}):
        assert per_mebibyte(33, **kept) < 1.3 * per_mebibyte(32, **kept)


def test_a_prediction_says_how_much_of_it_is_new_pages():
    def said(batch, device="core-i9-10940x"):
        answer = predict(Case(model="resnet18", device=device, task="train", batch=batch, dtype="fp32"))
        return [word for word in answer.assumed if "32 MiB" in word]

    assert said(1) == said(64, "rtx-4090") == []
    (word,) = said(64)
    assert 10 <= int(word.partition("%")[0]) < 60


def test_a_slow_host_holds_back_small_batches_alone():
    def time_s(host, batch):
        case = Case(model="resnet50", device="rtx-4090", task="infer", batch=batch, dtype="fp16", host=host)
        return predict(case).step_time_s["p50"]

    quick, slow = "core-i9-14900k", "xeon-e5-2650-v4"
    assert time_s(slow, 1) > 1.5 * time_s(quick, 1)
    assert time_s(slow, 512) == pytest.approx(time_s(quick, 512), rel=0.02)


def test_the_reference_host_changes_nothing():
    case = Case(model="resnet50", device="rtx-4090", task="infer", batch=1, dtype="fp16")
    named = predict(replace(case, host="core-i9-10940x"))
    assert named.step_time_s["p50"] == pytest.approx(predict(case).step_time_s["p50"])
    assert not any("usual host" in words for words in named.assumed)


def test_a_host_of_unknown_speed_is_an_error():
    with pytest.raises(MissingFactError, match="grace"):
        predict(Case(model="resnet50", device="rtx-4090", task="infer", host="grace"))


def test_plain_convolutions_are_slower_and_anything_else_is_refused():
    case = Case(model="resnet18", device="titan-x-pascal", task="infer", batch=16, software=Software(year=2016))
    plain = replace(case, software=Software(year=2016, convolution="plain"))
    assert predict(plain).step_time_s["p50"] > predict(case).step_time_s["p50"]
    with pytest.raises(InvalidInputError, match="convolution"):
        check(replace(case, software=Software(convolution="fast")))


def op_s(model, where, task="infer", dtype="fp32", **sizes):
    """Seconds of a step on a device."""
    return predict(Case(model=model, device=where, task=task, dtype=dtype, **sizes)).step_time_s["p50"]


@pytest.mark.parametrize("where", ["core-i9-10940x", "epyc-9755"])
@pytest.mark.parametrize("model", ["resnet50", "bert-base"])
def test_fp16_that_is_emulated_is_slower_than_fp32(model, where):
    assert "fp16" not in cpu(where).isa
    kept = {"batch": 32, "mode": "compiled"}  # no new pages, of which fp16 needs half as many

    def seconds(dtype):
        return op_s(model, where, **kept, dtype=dtype)

    for dtype in ("fp16", "amp-fp16"):
        assert seconds(dtype) > 1.5 * seconds("fp32")
    assert op_s("resnet50", where, **kept, dtype="fp16") > 5 * op_s("resnet50", where, **kept)  # one by one


@pytest.mark.parametrize(
    "one", [one for one in cpus() if peak_rates(one) and {"fp16", "sve", "sve2"} & set(one.isa)], ids=lambda c: c.id
)
def test_a_cpu_with_fp16_computes_at_its_own_rate(one):
    assert peak_rates(one)["fp16"] == peak_rates(one)["fp32"]
    assert not columns([as_device(one)], load_calibration()).lacks_fp16.any()


def test_bf16_without_instructions_for_it_is_refused():
    with pytest.raises(UnsupportedError):
        predict(Case(model="resnet50", device="core-i9-10940x", task="infer", dtype="bf16"))


def test_attention_meets_whole_blocks_of_keys():
    """Of 512 tokens a causal mask saves nothing, of very many nearly half."""

    def times_over_unmasked(tokens):
        query = Tensor((1, 8, tokens, 64))
        ops = [
            Op(name="rigwise.attention", kind=Kind.ATTENTION, phase=Phase.FORWARD, inputs=(query,) * 3,
               outputs=(query,), attrs={"causal": causal, "format": "fp32"})
            for causal in (True, False)
        ]  # fmt: skip
        compute = seconds(tabulate(ops, {}), as_device(cpu("epyc-9755")))[0][0, :, 0]
        return compute[0] / compute[1]

    assert times_over_unmasked(512) == pytest.approx(1.0)
    assert times_over_unmasked(1024) == pytest.approx(0.75)
    assert 0.5 < times_over_unmasked(65536) < 0.51


def test_an_update_is_no_quicker_than_one_core_moves_it():
    """Fewer cores than saturate the bus take longer, in proportion."""
    whole = cpu("epyc-9755")

    def update_s(cores):
        device = as_device(replace(whole, cores=cores))
        loaded = load_model("gpt2")
        case = resolve(Case(model="gpt2", device=whole.id, task="train", batch=1, dtype="fp32"), loaded)
        step = work_of(loaded, case, device)
        on_device = columns([device], load_calibration())
        return step.update.moved_bytes / updated_bytes_per_s(on_device, load_calibration().cpu)[0, 0, 0]

    assert update_s(1) == pytest.approx(2 * update_s(2))
    assert update_s(128) >= update_s(1) / 128


def recurrent(gates, steps):
    rows, hidden = gates * 256, Tensor((16, 256))
    weights = (Tensor((rows, 256), "float32", Role.PARAMETER), Tensor((rows, 256), "float32", Role.PARAMETER))
    x = Tensor((steps, 16, 256))
    return Op(name="rigwise.recurrent", kind=Kind.RNN, phase=Phase.FORWARD, inputs=(x, *weights, hidden),
              outputs=(x, hidden), attrs={"gates": gates, "format": "fp32"})  # fmt: skip


def test_a_gru_fetches_its_weights_in_every_step_and_an_lstm_does_not():
    device = as_device(cpu("epyc-9755"))
    gru, lstm = ([seconds(tabulate([recurrent(g, t)], {}), device)[1][0, 0, 0] for t in (2, 200)] for g in (3, 4))
    assert gru[1] / gru[0] > 50
    table = tabulate([recurrent(3, 200), recurrent(4, 200)], {})
    assert table.cell_steps[:, 0].tolist() == [200.0, 1.0]
    assert lstm[1] / lstm[0] < 50
