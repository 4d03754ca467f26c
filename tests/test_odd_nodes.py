"""Nodes that are unlike the others are named with what speaks against them; nodes that are alike are not."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.bench import fleet
from rigwise.bench.fleet import FleetRequest, confirmed, run_fleet
from rigwise.bench.fleet_place import fleet_place
from rigwise.bench.node import PROTOCOL
from rigwise.bench.node_ledger import Limits, NodeResult
from rigwise.bench.odd_nodes import GPUS, LEAST_NODES, MEMORY, OVERALL, Measured, odd_nodes, threshold
from rigwise.bench.suite import Request
from rigwise.execute.nodes import Call
from rigwise.measurement.records import Record
from rigwise.report.fleet_text import document, evidence_lines, fleet_text

FIGURES = 20


def snapshot(*, gpus: int = 0, cpu: str = "EPYC", memory: float = 256e9) -> str:
    card = {"name": {"value": "H100"}, "memory_bytes": {"value": 80e9}}
    machine = {"cpu": {"name": {"value": cpu}}, "memory": {"total_bytes": {"value": memory}}, "gpus": [card] * gpus}
    return json.dumps(machine)


def record(name: str, value: float, unit: str = "B/s", **tags) -> Record:
    return Record(kind="bench", name=name, value=value, unit=unit, machine_id="m", when="2026-11-21", tags=tags)


def fleet_of(nodes: int, *, noise: float = 0.01, seed: int = 0, unit: str = "B/s") -> dict[str, dict[str, Record]]:
    draw = random.Random(seed)
    return {
        f"n{node}": {f"f{k}": record(f"f{k}", 1e9 * draw.lognormvariate(0, noise), unit) for k in range(FIGURES)}
        for node in range(nodes)
    }


def judged(figures: dict[str, dict[str, Record]], machines: dict[str, str] | None = None, **skipped):
    machines = machines or {}
    return odd_nodes(
        {
            name: Measured(
                snapshot=machines.get(name, snapshot()), records=tuple(of.values()), skipped=skipped.get(name, {})
            )
            for name, of in figures.items()
        }
    )


@pytest.mark.parametrize(("unit", "factor"), [("B/s", 0.7), ("s", 1 / 0.7), ("FLOP/s", 0.7), ("", 1 / 0.7)])
def test_a_slow_figure_is_evidence_in_each_unit(unit, factor) -> None:
    figures = fleet_of(8, unit=unit)
    slow = figures["n3"]["f5"]
    figures["n3"]["f5"] = record("f5", 1e9 * factor, unit, status="busy")
    (name, (evidence,)) = next(iter(judged(figures).items()))
    assert (name, evidence.figure, evidence.nodes) == ("n3", "f5", 8)
    assert evidence.loss_frac == pytest.approx(0.3, abs=0.02)
    assert evidence.z > evidence.bound == pytest.approx(threshold(8, FIGURES + 1))
    assert evidence.state == "busy"
    figures["n3"]["f5"] = slow
    assert judged(figures) == {}


def test_a_node_that_is_quicker_is_not_bad() -> None:
    figures = fleet_of(8)
    figures["n3"]["f5"] = record("f5", 2e9)
    assert judged(figures) == {}


def test_a_little_slow_in_everything_is_found_over_all_figures() -> None:
    figures = fleet_of(16, noise=0.02)
    figures["n7"] = {name: record(name, 0.92 * one.value) for name, one in figures["n7"].items()}
    found = judged(figures)
    assert list(found) == ["n7"]
    (overall,) = [one for one in found["n7"] if one.figure == OVERALL]
    assert overall.loss_frac == pytest.approx(0.08, abs=0.02)


@pytest.mark.parametrize("nodes", [8, 64])
def test_nodes_that_are_alike_are_seldom_called_odd(nodes) -> None:
    alarms = [bool(judged(fleet_of(nodes, noise=0.02, seed=seed))) for seed in range(100)]
    assert sum(alarms) <= 10


def test_two_odd_nodes_do_not_hide_each_other() -> None:
    figures = fleet_of(9)
    for node in ("n1", "n2"):
        figures[node]["f0"] = record("f0", 5e8)
    assert set(judged(figures)) == {"n1", "n2"}


def test_fewer_gpus_less_memory() -> None:
    machines = {f"n{node}": snapshot(gpus=8) for node in range(6)}
    machines["n2"] = snapshot(gpus=7)
    machines["n4"] = snapshot(gpus=8, memory=192e9)
    found = judged(fleet_of(6), machines)
    assert {name: {one.figure for one in of} for name, of in found.items()} == {
        "n2": {GPUS},
        "n4": {MEMORY},
    }
    assert evidence_lines(found["n2"][0])[0].split() == ["GPUs", "7", "8", "12", "%"]
    assert evidence_lines(found["n4"][0])[0].split() == ["memory", "192", "GB", "256", "GB", "25", "%"]


def test_machines_of_another_make_are_not_compared() -> None:
    figures = fleet_of(8)
    figures |= {f"m{node}": {name: record(name, 1e8) for name in figures["n0"]} for node in range(LEAST_NODES)}
    assert judged(figures, {f"m{node}": snapshot(cpu="Xeon") for node in range(LEAST_NODES)}) == {}


def test_figures_of_other_sizes_are_not_compared() -> None:
    figures = fleet_of(8)
    for node in ("n0", "n1"):
        figures[node]["f0"] = record("f0", 1e6, "B/s", bytes=10)
    assert judged(figures) == {}


def test_a_figure_that_one_node_could_not_take() -> None:
    figures = fleet_of(6)
    del figures["n1"]["f3"]
    (evidence,) = judged(figures, n1={"f3": "CUDA error: an illegal memory access"})["n1"]
    shown = " ".join(" ".join(evidence_lines(evidence)).split())
    assert shown == "f3: not measured, which 5 others did: CUDA error: an illegal memory access"
    for node in ("n0", "n2", "n3"):  # most could not: that is the suite's affair
        del figures[node]["f3"]
    assert judged(figures) == {}


def test_three_nodes_are_too_few() -> None:
    figures = fleet_of(3)
    figures["n1"]["f0"] = record("f0", 1.0)
    assert judged(figures) == {}


@given(st.lists(st.floats(1e-3, 1e3), min_size=LEAST_NODES, max_size=12), st.sampled_from([2.0**-20, 0.5, 2.0**30]))
def test_the_unit_of_a_figure_does_not_matter(values, factor) -> None:
    def names(scale: float) -> set[str]:
        return set(judged({f"n{k}": {"f": record("f", scale * value)} for k, value in enumerate(values)}))

    assert names(1.0) == names(factor)


def result(name: str, of: dict[str, Record]) -> NodeResult:
    return NodeResult(name=name, state="ok", snapshot=snapshot(), records=tuple(of.values()))


def test_what_is_gone_the_second_time_is_doubted() -> None:
    figures = fleet_of(8)
    figures["n1"]["f0"] = figures["n1"]["f1"] = record("f0", 5e8)
    figures["n1"]["f1"] = record("f1", 5e8)
    figures["n2"]["f2"] = record("f2", 5e8)
    first = [result(name, of) for name, of in figures.items()]
    evidence = judged(figures)
    again = [
        result("n1", {"f0": record("f0", 5e8), "f1": record("f1", 1e9)}),
        result("n2", {"f2": record("f2", 1e9)}),
    ]
    sure, doubted = confirmed(first, again, evidence)
    assert {name: [one.figure for one in of] for name, of in sure.items()} == {"n1": ["f0"]}
    assert {name: [one.figure for one in of] for name, of in doubted.items()} == {"n1": ["f1"], "n2": ["f2"]}
    assert confirmed(first, [], evidence)[0] == evidence  # nothing was heard of them: nothing is taken back


@pytest.mark.parametrize("is_slow_again", [True, False])
def test_odd_nodes_measure_again(tmp_path, monkeypatch, is_slow_again) -> None:
    lines = [{"hello": PROTOCOL, "snapshot": snapshot()}, *({"record": RECORD | {"name": f"f{k}"}} for k in range(4))]
    (tmp_path / "steady_node.py").write_text(
        "import json, os, sys\n"
        "asked = json.loads(sys.stdin.readline())\n"
        "place = 0\n"
        "while True:\n"
        "    try: os.mkdir(f'{sys.argv[0]}.{place}'); break\n"
        "    except FileExistsError: place += 1\n"
        f"for line in {lines!r}:\n"
        "    if 'record' in line:\n"
        f"        line['record']['value'] = 1e9 + place * 1e6 - 5e8 * (place == 2 or place == 5 and {is_slow_again})\n"
        "    if 'record' not in line or not asked['names'] or line['record']['name'] in asked['names']:\n"
        "        print(json.dumps(line))\n"
        "print(json.dumps({'done': True, 'software': {}}))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(fleet, "_call", lambda asked: Call(module="steady_node", request=fleet_call(asked)))
    monkeypatch.setattr(fleet, "chosen", lambda names: ())
    kept: list[Record] = []
    request = FleetRequest(place=fleet_place("local:5"), suite=Request(), limits=Limits())
    report = run_fleet(request, kept.extend)
    (name,) = report.evidence or report.doubted
    assert {node.name for node in report.bad} == ({name} if is_slow_again else set())
    assert len(kept) == 6 * 4
    text = fleet_text(report)
    assert max(map(len, text.splitlines())) < 80
    assert "rigwise history --machine" in text
    assert "rigwise history" not in fleet_text(report, is_kept=False)
    without = replace(report, nodes=tuple(replace(node, records=()) for node in report.nodes))
    assert "rigwise history" not in fleet_text(without)
    assert ("unlike the others" in text) == is_slow_again
    assert ("when measured again" in text) == (not is_slow_again)
    of = next(one for one in document(report)["nodes"] if one["name"] == name)
    assert of["state"] == ("odd" if is_slow_again else "ok")
    assert {one["figure"] for one in of["evidence"] + of["doubted"]} == {OVERALL, "f0", "f1", "f2", "f3"}


RECORD = {"kind": "bench", "value": 1e9, "unit": "B/s", "when": "2026-11-21", "tags": {}}


def fleet_call(asked: FleetRequest) -> str:
    return json.dumps({"names": asked.suite.names})
