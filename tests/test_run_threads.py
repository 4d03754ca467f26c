"""Ranks on one CPU: what each has of it, what they send each other, and with how many threads a run is predicted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from rigwise.cli.main import main
from rigwise.errors import InvalidInputError, MissingFactError
from rigwise.estimate.calibration import packaged
from rigwise.estimate.collective import all_reduce_s, network_of
from rigwise.estimate.columns import columns, columns_of, held_hz
from rigwise.estimate.cpu import network_on_cores, updated_bytes_per_s
from rigwise.estimate.data_parallel import Messages, Passes, data_parallel_s
from rigwise.estimate.predict import groups_of, machine_of, predict, work_of
from rigwise.estimate.scaling import scaling
from rigwise.facts.catalogue import resolve_device
from rigwise.graph.load import load_model
from rigwise.launch.asked import THREADS, Asked, from_plan, here_together
from rigwise.launch.folder import State
from rigwise.launch.hooks import usable_cores
from rigwise.launch.keep import status_of
from rigwise.launch.measured import Measured
from rigwise.launch.result import Result, differences
from rigwise.launch.start import How, prepare
from rigwise.machine.machine import Machine, on_shared_cores, part_of_cpu
from rigwise.machine.probe import limits as probe_limits
from rigwise.machine.snapshot import Field
from rigwise.report.step_times import timed_step
from rigwise.workload.case import Case, Parallel
from rigwise.workload.resolve import resolve

EPYC = resolve_device("epyc-7742")
CASE = Case(model="resnet18", device=EPYC.id, batch=16, image_size=64, optimizer="momentum")
TWO = replace(CASE, count=2)


@given(ranks=some.integers(1, 300), threads=some.none() | some.integers(1, 300))
def test_ranks_never_have_more_than_the_cpu(ranks, threads) -> None:
    part, core_frac = part_of_cpu(EPYC, ranks, threads)
    assert EPYC.units
    assert part.units == (threads or max(1, EPYC.units // ranks))
    assert core_frac == min(1.0, EPYC.units / (ranks * part.units))
    for name, rate in part.peak_flops_per_s.items():
        whole = EPYC.peak_flops_per_s[name]
        assert rate * ranks <= whole * (1 + 1e-12)
        assert rate == pytest.approx(whole * part.units * core_frac / EPYC.units)
        # as many cores at their clock: what the law of operators compares
        assert part.units * held_hz(part) / rate == pytest.approx(EPYC.units * held_hz(EPYC) / whole)
    for name in ("memory_bytes", "memory_bytes_per_s", "l2_bytes", "tdp_w"):
        assert getattr(part, name) * ranks == pytest.approx(getattr(EPYC, name))


def test_a_cpu_of_one_rank_is_left_as_it_is() -> None:
    alone = Machine(device=EPYC)
    assert on_shared_cores(alone) is alone
    for case in (replace(CASE, count=2, nodes=2), replace(CASE, count=2, link="pcie4x16")):
        machine = machine_of(resolve(case, load_model("resnet18")).case, EPYC)
        assert machine.device is EPYC
        assert not machine.shares_cores
        assert not groups_of(replace(case, parallel=Parallel(data=2)), machine).network.on_cores.any()


def test_a_cpu_without_a_known_number_of_cores_has_no_parts() -> None:
    with pytest.raises(MissingFactError, match="number of cores"):
        part_of_cpu(replace(EPYC, units=None), 2)


def test_two_ranks_take_as_long_as_one_process_with_half_of_the_cpu_and_then_exchange() -> None:
    shared = predict(TWO)
    assert shared.device.units == 32
    assert shared.capacity_bytes == pytest.approx(predict(CASE).capacity_bytes / 2)
    alone = predict(replace(CASE, batch=8, threads=32))
    assert shared.forward_s > alone.forward_s  # that one has the whole bus and the whole cache
    assert shared.optimizer_s > 1.9 * predict(CASE).optimizer_s  # each updates all weights by half of the bus
    assert shared.exposed_comm_s > 0
    assert shared.case.threads == 32
    assert any("2 ranks share one CPU: 32 threads each" in words for words in shared.assumed)
    assert not any("PCIe" in words or "usual link" in words for words in predict(replace(CASE, count=4)).assumed)


def test_ranks_that_share_are_never_quicker_than_their_cpu_alone() -> None:
    times = [predict(replace(CASE, count=count)).step_time_s["p50"] for count in (1, 2, 4, 8, 16)]
    assert times == sorted(times)
    bounds = {predict(replace(CASE, count=count)).bound_s for count in (1, 2, 4)}
    assert max(bounds) == pytest.approx(min(bounds))


def test_more_ranks_than_cores_take_turns_at_everything() -> None:
    one = replace(CASE, batch=256, count=64)
    two = replace(CASE, batch=256, count=128, parallel=Parallel(micro_batch=2))
    lone, turns = (machine_of(resolve(case, load_model("resnet18")).case, EPYC) for case in (one, two))
    assert (lone.core_frac, turns.core_frac) == (1.0, 0.5)
    assert turns.device.units == 1
    assert held_hz(turns.device) == pytest.approx(held_hz(EPYC) / 2)
    assert any("take turns" in words for words in predict(two).assumed)
    hosts = [columns_of(machine, None, packaged()).host_scale[0, 0, 0] for machine in (lone, turns)]
    assert hosts == [1.0, 2.0]  # dispatch takes turns too
    assert predict(two).forward_s > predict(replace(two, count=64, batch=128)).forward_s * 1.9


def test_nothing_hides_what_the_cores_carry() -> None:
    calibration = packaged()
    machine = machine_of(resolve(TWO, load_model("resnet18")).case, EPYC)
    network = network_on_cores(machine, calibration)
    constants = calibration.cpu
    assert network.intra_bytes_per_s == pytest.approx(constants.rank_bytes_per_cycle * held_hz(machine.device))
    sizes = np.array([4e3, 4e5, 4e7])
    n, rate, hop_s = 2, network.intra_bytes_per_s, constants.rank_hop_cycles / held_hz(machine.device)
    latency_s, transfer_s = network.base_latency_s + 2 * (n - 1) * hop_s, 2 * (n - 1) / n * sizes / rate
    assert all_reduce_s(sizes, network) == pytest.approx(latency_s + transfer_s)
    resolved = resolve(TWO, load_model("resnet18"))
    step = work_of(load_model("resnet18"), resolved, EPYC)
    assert step.line is not None
    message = 1e6
    staged_s = 4 * message / float(updated_bytes_per_s(columns([machine.device], calibration), constants)[0, 0, 0])
    for backward_s in (1e-3, 1e3):  # however long there is to hide behind
        passes = Passes(forward_s=np.array([1.0]), backward_s=np.array([backward_s]), micro_steps=np.array([1.0]))
        sent = Messages(gradient_bytes=message, weight_bytes=message)
        whole = data_parallel_s(resolved.case, sent, step.line, network, passes, calibration.collective)
        assert whole == pytest.approx(all_reduce_s(message, network) + staged_s)
    sharded = replace(resolved.case, parallel=replace(resolved.case.parallel, zero=3))
    sent, moved = Messages(gradient_bytes=4e7, weight_bytes=4e7), []
    for backward_s in (1e-3, 1e3):
        passes = Passes(forward_s=np.array([1.0]), backward_s=np.array([backward_s]), micro_steps=np.array([1.0]))
        moved.append(float(data_parallel_s(sharded, sent, step.line, network, passes, calibration.collective)[0]))
    assert moved[0] == moved[1] > 4e7 / rate


def test_what_looks_at_ranks_from_elsewhere_sees_the_same() -> None:
    shared = predict(TWO)
    rows = timed_step(TWO, load_model("resnet18"))
    timed_s = sum(sum(row.binds_s.values()) for row in rows.rows)
    assert timed_s == pytest.approx(sum(share.time_s for share in shared.by_kind if share.kind != "update"))
    answer = scaling(CASE, [1, 2, 4])
    assert answer.crossover_bytes == 0  # gloo has rings only
    assert [point.prediction.case.threads for point in answer.points] == [None, 32, 16]


def test_a_fleet_of_cpus_is_still_asked_for_its_links() -> None:
    with pytest.raises(MissingFactError, match="host link"):
        network_of(Machine(device=EPYC, count=2), packaged().collective)


def test_threads_are_of_cpus(capsys) -> None:
    with pytest.raises(InvalidInputError, match="threads 2 on t4"):
        predict(replace(CASE, device="t4", threads=2))
    with pytest.raises(InvalidInputError, match="threads is 0"):
        predict(replace(CASE, threads=0))
    with pytest.raises(SystemExit) as stop:
        main(["predict", "resnet18", "--device", EPYC.id, "--threads", "2", "--batch", "4", "--json"])
    assert stop.value.code in (0, None)
    found = json.loads(capsys.readouterr().out)
    assert found["case"]["threads"] == 2
    quick = predict(Case(model="resnet18", device=EPYC.id, batch=4))
    assert found["step_time_s"]["p50"] > 2 * quick.step_time_s["p50"]


SEVERAL = Asked(case=replace(TWO, device="this:cpu"), on="torchrun", ranks=2)
PYTHON = ["python", "train.py"]


@pytest.mark.parametrize(
    ("asked", "command", "environment", "threads"),
    [
        (SEVERAL, PYTHON, {}, max(1, usable_cores() // 2)),
        (SEVERAL, PYTHON, {THREADS: "3"}, 3),
        (SEVERAL, PYTHON, {THREADS: "4,2"}, 4),
        (SEVERAL, PYTHON, {THREADS: "many"}, max(1, usable_cores() // 2)),
        (SEVERAL, PYTHON, {THREADS: "0"}, max(1, usable_cores() // 2)),
        (replace(SEVERAL, on="local"), ["torchrun", "--nproc-per-node=2", "train.py"], {}, 1),
        (replace(SEVERAL, on="local"), ["python", "-m", "torch.distributed.run", "train.py"], {}, 1),
        (replace(SEVERAL, on="local"), ["mpirun", "-n", "2", *PYTHON], {}, None),
        (replace(SEVERAL, on="slurm"), PYTHON, {}, 1),
        (replace(SEVERAL, on="slurm", ranks=1), PYTHON, {}, 8),
        (replace(SEVERAL, on="ray"), PYTHON, {}, 1),
        (replace(SEVERAL, on="ray"), PYTHON, {THREADS: "2"}, 2),
        (replace(SEVERAL, ranks=1), PYTHON, {}, None),
        (replace(SEVERAL, on="skypilot"), PYTHON, {}, None),
        (replace(SEVERAL, case=replace(TWO, device="t4")), PYTHON, {}, None),
    ],
)
def test_the_threads_of_a_rank_are_those_that_it_will_have(asked, command, environment, threads) -> None:
    found = here_together(asked, command, environment, words=["--partition=x", "--cpus-per-task=8"])
    assert found.threads == threads
    assert found.case is not None
    assert found.case.threads == threads
    assert replace(found.case, threads=None) == asked.case  # the ranks stay ranks


def test_threads_that_are_asked_for_go_first_and_are_handed_to_the_run(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RIGWISE_RUNS", str(tmp_path))
    monkeypatch.delenv(THREADS, raising=False)
    found = here_together(SEVERAL, PYTHON, {THREADS: "3"}, threads=2)
    assert found.threads == 2
    for asked, said in ((found, "2"), (replace(found, on="slurm", ranks=1), "2"), (replace(found, threads=None), None)):
        if asked.on == "slurm":
            monkeypatch.setattr("rigwise.launch.slurm.available", lambda: None)
        _, state = prepare(["python", "-c", "1"], asked, How(), {})
        assert state.environment.get(THREADS) == said
    with pytest.raises(InvalidInputError, match="--threads 0"):
        here_together(SEVERAL, PYTHON, {}, threads=0)
    with pytest.raises(InvalidInputError, match="not for dstack"):
        here_together(replace(SEVERAL, on="dstack"), PYTHON, {}, threads=2)


def test_a_plan_of_several_gpus_run_here_is_predicted_as_ranks_on_this_cpu(tmp_path) -> None:
    entry = {"rank": 1, "kind": "rent", "provider": "x", "device": "t4", "count": 2, "nodes": 1, "dtype": "fp32"}
    entry |= {"layout": "nchw", "mode": "eager", "recompute": "none", "micro_batch": 4, "parallel": {"data": 2}}
    job = {"model": "resnet18", "task": "train", "batch": 8}
    path = Path(tmp_path, "plan.json")
    path.write_text(json.dumps({"schema": "rigwise.plan/1", "job": job, "plans": [entry]}))
    asked = here_together(from_plan(str(path), 1, "local", "this:cpu"), PYTHON, {})
    assert asked.case is not None
    assert (asked.case.count, asked.case.parallel.data, asked.threads) == (2, 2, max(1, usable_cores() // 2))
    told = predict(asked.case)
    assert told.exposed_comm_s > 0
    assert told.case.threads == asked.threads


@pytest.mark.parametrize(("limit", "cores", "usable"), [(2, 8, 2), (16, 8, 8), (1.5, 8, 1), (0.5, 8, 1), (4, None, 4)])
def test_cores_are_those_that_affinity_and_control_groups_leave(limit, cores, usable, monkeypatch) -> None:
    monkeypatch.setattr(probe_limits, "limits", lambda root: {"usable_cpus": Field(value=limit, source="x")})
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: cores)
    assert usable_cores() == usable


def test_a_run_with_other_threads_says_so() -> None:
    state = State(id="r", command=("python",), started=("python",), cwd="/", on="torchrun", phase="finished")
    step_s = {"p10": 0.9, "p50": 1.0, "p90": 1.1}
    predicted = {"case": {"count": 2, "threads": 1}, "step_time_s": step_s, "exposed_comm_s": 0.2}
    found = Measured(steps=20, ranks=2, step_time_s={**step_s, "p50": 1.05}, samples=16, cores=2.0)
    found = replace(found, facts={"threads": 2, "cores": 4})
    told = " ".join(differences(Result(state=state, measured=found, predicted=predicted, wall_s=30.0)))
    assert "Threads of each rank: 2, 1 predicted." in told
    assert "the cores that compute carry it" in told
    same = replace(found, facts={"threads": 1, "cores": 2}, cores=1.0)
    result = Result(state=state, measured=same, predicted=predicted, wall_s=30.0)
    assert "Threads of each rank" not in " ".join(differences(result))
    assert status_of(result) == "ok"
