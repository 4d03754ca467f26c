"""Figures of ``rigwise bench`` in the store."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from rigwise.bench.keep import Keeper, records
from rigwise.bench.suite import Report
from rigwise.bench.types import BYTES, ERROR, FLOPS, TIME, Figure, Raw, State, Timing
from rigwise.cli.main import main
from rigwise.errors import InvalidInputError
from rigwise.measurement.compare import key_of
from rigwise.measurement.store import open_store

SNAPSHOT = '{"cpu": {"name": {"value": "AMD EPYC"}, "cores": {"value": 2}}}'
SECONDS = (0.010, 0.011, 0.012, 0.013, 0.020)


def report(*figures: Figure, **more) -> Report:
    software = {"torch": "2.13.0", "rigwise": "0.1.0"}
    return Report(
        started="2026-11-21T10:00:00Z", name="AMD EPYC", threads=2, software=software, figures=figures, **more
    )


def figure(name: str, unit: str, amount: float = 1.0, value: float | None = None, **more) -> Figure:
    raw = Raw(name=name, unit=unit, amount=amount, timing=Timing(samples_s=SECONDS), **more)
    return Figure(raw=raw, value=amount / 0.012 if value is None else value)


def test_a_rate_and_a_time_keep_their_spread() -> None:
    rate, time = records(
        report(figure("matmul.fp32", FLOPS, 2e9, parameters={"side": 1000}), figure("launch", TIME, value=0.012)),
        SNAPSHOT,
    )
    assert rate.p10 < rate.value < rate.p90
    assert rate.value == pytest.approx(2e9 / 0.012)
    assert (time.p10, time.value, time.p90, time.n) == (pytest.approx(0.0104), 0.012, pytest.approx(0.0172), 5)
    assert rate.tags == {"method": 1, "device": "AMD EPYC", "threads": 2, "side": 1000, "status": "ok"}
    assert rate.machine_id.startswith("amd-epyc-2-")


def test_what_was_skipped_is_no_record_and_a_ratio_has_no_spread() -> None:
    ratio = Figure(raw=Raw(name="formats.fp16", unit=ERROR, value=1e-3), value=1e-3)
    skipped = Figure(raw=Raw(name="matmul.int8", unit=FLOPS, skipped="no such kernel"))
    (found,) = records(report(ratio, skipped), SNAPSHOT)
    assert (found.value, found.p10, found.p90, found.n) == (1e-3, None, None, 1)


def test_a_busy_or_throttled_run_says_so_and_measures_the_same_thing() -> None:
    states = (State(), State(others_frac=0.5), State(throttled=("power",)))
    found = records(report(*(figure("copy", BYTES, 1e6, state=state) for state in states)), SNAPSHOT)
    assert [record.tags["status"] for record in found] == ["ok", "busy", "throttled"]
    assert len({key_of(record) for record in found}) == 1


def test_two_figures_that_differ_in_a_result_measured_the_same_thing() -> None:
    errors = ({"error": 1e-7, "batch": 1, "beside": "runtimes.eager.latency"}, {"error": 2e-7, "batch": 1})
    found = records(report(*(figure("runtimes.onnx.latency", TIME, parameters=one) for one in errors)), SNAPSHOT)
    assert len({key_of(record) for record in found}) == 1
    assert [record.tags["note"] for record in found] == ["error 1e-07", "error 2e-07"]


def test_a_known_device_goes_by_its_id_and_the_store_takes_all(tmp_path) -> None:
    pytest.importorskip("sqlalchemy")
    found = records(report(figure("copy", BYTES, 1e6), device=SimpleNamespace(id="rtx-4090")), SNAPSHOT)
    assert found[0].tags["device"] == "rtx-4090"
    with open_store(str(tmp_path / "s.sqlite")) as store:
        assert store.add(found) == 1
        assert store.query(snapshots=True)[0].snapshot == SNAPSHOT


def test_the_command_keeps_what_it_measured_unless_told_not_to(tmp_path, monkeypatch, capfd) -> None:
    def bench(*flags):
        with pytest.raises(SystemExit) as stop:
            main(["bench", "formats", "--quick", "--each", "1ms", "--json", *flags])
        json.loads(capfd.readouterr().out)
        return stop.value.code

    url = f"sqlite:///{tmp_path / 'kept.sqlite'}"
    monkeypatch.setenv("RIGWISE_STORE", url)
    assert bench("--no-store") == 0
    assert not (tmp_path / "kept.sqlite").exists()
    assert bench() == 0
    with open_store(url) as store:
        names = {record.name for record in store.query()}
    assert names
    assert all(name.startswith("formats.") for name in names)


SLOW = """
import sys
from rigwise.bench import suite
from rigwise.bench.types import Benchmark
from rigwise.cli.main import main

suite.BENCHMARKS = tuple(Benchmark(name=n, group="compute", figures=1, answers="") for n in ("good", "endless"))
Benchmark.module = property(lambda benchmark: f"fake_{benchmark.name}")
main(["bench", "--each", "10ms"])
"""
FAKE = "import time\nfrom rigwise.bench.types import Raw, Timing\n\ndef run(context):\n"


def test_a_run_that_is_killed_half_way_keeps_what_it_had_measured(tmp_path) -> None:
    pytest.importorskip("sqlalchemy")
    (tmp_path / "fake_good.py").write_text(f'{FAKE}    yield Raw(name="good", unit="1/s", value=2.0)\n')
    (tmp_path / "fake_endless.py").write_text(f"{FAKE}    time.sleep(600)\n    yield\n")
    (tmp_path / "slow.py").write_text(SLOW)
    url = f"sqlite:///{tmp_path / 'kept.sqlite'}"
    process = subprocess.Popen(
        [sys.executable, "slow.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "RIGWISE_STORE": url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        while not _names(tmp_path, url) and process.poll() is None:
            time.sleep(0.2)
    finally:
        process.kill()
        _, errors = process.communicate(timeout=60)
    assert process.returncode < 0, errors.decode()
    assert _names(tmp_path, url) == ["good"]


def _names(folder, url: str) -> list[str]:
    if not (folder / "kept.sqlite").exists():
        return []
    with open_store(url) as store:
        return [record.name for record in store.query()]


def test_a_store_that_fails_is_tried_again_and_nothing_is_kept_twice() -> None:
    added: list[str] = []

    class Full:
        full = True

        def add(self, found) -> int:
            if self.full:
                raise InvalidInputError("the disk is full")
            added.extend(record.name for record in found)
            return len(found)

    store = Full()
    keeper = Keeper(store, SNAPSHOT)
    keeper.keep(report(figure("a", TIME)))
    assert keeper.fault == "the disk is full"
    store.full = False
    keeper.keep(report(figure("a", TIME), figure("b", TIME)))
    keeper.keep(report(figure("a", TIME), figure("b", TIME), figure("c", TIME)))
    assert (keeper.fault, added) == ("", ["a", "b", "c"])
