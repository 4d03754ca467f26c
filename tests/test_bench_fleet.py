"""A fleet: real worker processes here, one of which may die, hang or talk nonsense, and the others go on."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from click.testing import CliRunner

from rigwise.bench.fleet import FleetReport, FleetRequest, collect, ledgers_of, run_fleet
from rigwise.bench.fleet_place import fleet_place
from rigwise.bench.node import PROTOCOL
from rigwise.bench.node_ledger import DIED, FAILED, GARBLED, HUNG, LATE, MISSING, OK, STOPPED, Limits, NodeLedger
from rigwise.bench.suite import Request
from rigwise.cli.main import root as command_line
from rigwise.errors import InvalidInputError, RunError
from rigwise.execute.nodes import Call, LocalNodes, Said

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

SNAPSHOT = json.dumps({"cpu": {"name": {"value": "EPYC"}, "cores": {"value": 2}}})
HELLO = {"hello": PROTOCOL, "rigwise": "0.1.0", "snapshot": SNAPSHOT}
RECORD = {"kind": "bench", "name": "x.y", "value": 1.0, "unit": "B/s", "when": "2026-11-21", "tags": {"n": 1}}
DONE = {"done": True, "software": {"torch": "2.13.0"}}
#: What a node does after its greeting and one figure.
DOES = {
    "good": "say(DONE)",
    "later": "time.sleep(3); say(DONE)",
    "killed": "os.kill(os.getpid(), 9)",
    "stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
    "silent": "time.sleep(600)",
    "slow": "say({'start': 'stream', 'ended': 0, 'of': 1})\n    while True: say({'alive': True}); time.sleep(0.1)",
    "garbage": "print('Segmentation \\x1b[31mfault'); time.sleep(600)",
    "endless": "[sys.stdout.write('x' * 65536) for _ in range(10**9)]",
    "nan": "print(json.dumps({'record': {**RECORD, 'value': float('nan')}})); time.sleep(600)",
    "fault": "say({'fault': 'no disk'})",
    "leaves": "sys.exit('no more\\nmemory')",
}


@pytest.fixture
def nodes_that(tmp_path, monkeypatch):
    """Nodes that do what is asked of them, each something else, in whatever order they start."""
    head = f"import json, os, signal, sys, time\nHELLO, RECORD, DONE = {HELLO!r}, {RECORD!r}, {DONE!r}\n"
    head += "def say(line): print(json.dumps(line), flush=True)\nsys.stdout.reconfigure(line_buffering=True)\n"
    body = "".join(f"def {name}():\n    {does}\n" for name, does in DOES.items())
    tail = (
        "for place, name in enumerate(json.loads(sys.stdin.readline())):\n    try: os.mkdir(f'{sys.argv[0]}.{place}')\n"
    )
    tail += "    except FileExistsError: continue\n"
    tail += "    say(HELLO); say({'record': {**RECORD, 'tags': {'does': name}}}); globals()[name](); break\n"
    (tmp_path / "fake_node.py").write_text(head + body + tail)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    opened = []

    def collected(*does: str, keep=lambda records: None, **limits: float):
        nodes = LocalNodes(
            [f"n{place}" for place in range(len(does))], Call(module="fake_node", request=json.dumps(does))
        )
        opened.append(nodes)
        ledgers = ledgers_of(nodes, "run")
        interrupted = collect(nodes, ledgers, Limits(**limits), keep, lambda ended, of, words: None)
        results = [ledger.result() for ledger in ledgers.values()]
        return {one.records[0].tags["does"]: one for one in results if one.records}, interrupted

    yield collected
    for nodes in opened:
        nodes.close()
    assert not [one for one in psutil.Process().children(recursive=True) if "fake_node" in " ".join(one.cmdline())]


def test_each_fault_costs_one_node(nodes_that) -> None:
    kept = []
    found, interrupted = nodes_that(*DOES, keep=kept.append, silent_s=4.0, benchmark_s=6.0)
    assert not interrupted
    states = {does: node.state for does, node in found.items()}
    assert states == {
        "good": OK,
        "later": OK,
        "killed": DIED,
        "stopped": HUNG,
        "silent": HUNG,
        "slow": LATE,
        "garbage": GARBLED,
        "endless": GARBLED,
        "nan": GARBLED,
        "fault": FAILED,
        "leaves": DIED,
    }
    assert "SIGKILL" in found["killed"].why
    assert found["leaves"].why == "exit code 1: memory"
    assert found["garbage"].why == "it said 'Segmentation  [31mfault'"
    assert found["slow"].why == "no end within 6 s during stream"
    assert sum(map(len, kept)) == len(DOES)  # what was measured before is kept of each
    record = next(one for records in kept for one in records if one.tags["does"] == "good")
    assert (record.snapshot, record.software) == (SNAPSHOT, '{"torch": "2.13.0"}')
    assert record.tags["run"] == "run"


def test_a_node_that_never_speaks_is_missing(tmp_path, monkeypatch) -> None:
    (tmp_path / "mute_node.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    nodes = LocalNodes(["a"], Call(module="mute_node", request=""))
    ledgers = ledgers_of(nodes, "run")
    collect(nodes, ledgers, Limits(start_s=1.0), lambda records: None, lambda ended, of, words: None)
    nodes.close()
    assert (ledgers["a"].state, ledgers["a"].result().why) == (MISSING, "it did not start within 1 s")


def said(*lines: object) -> NodeLedger:
    ledger = NodeLedger("a", "run", 0.0)
    for line in lines:
        if not ledger.state:
            ledger.hear(line if isinstance(line, bytes) else json.dumps(line).encode(), 1.0)
    return ledger


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe",
        b"[1]",
        b"null",
        b'{"a": 1}',
        b'{"record": {}}',
        b'{"record": [' * 500,
        {"record": RECORD | {"extra": 1}},
        {"record": RECORD | {"snapshot": "{}"}},
        {"record": RECORD | {"value": "much"}},
        {"record": RECORD | {"tags": 3}},
        {"record": RECORD | {"name": "a\nb"}},
        {"done": True},
        {"done": True, "software": [1]},
        {"hello": PROTOCOL, "snapshot": 3},
        {"hello": PROTOCOL, "snapshot": "no JSON"},
    ],
)
def test_a_line_that_is_not_understood_ends_the_node(line) -> None:
    assert said(HELLO, line).state == GARBLED


def test_nothing_counts_before_the_greeting_and_another_version_is_refused() -> None:
    assert said({"record": RECORD}).state == GARBLED
    other = said(HELLO | {"hello": PROTOCOL + 1, "rigwise": "9.0\x1b[2J"})
    assert (other.state, other.result().why) == (FAILED, "it has rigwise 9.0 [2J")


def test_time_in_which_nobody_listened_is_not_the_nodes() -> None:
    ledger = said(HELLO)
    limits = Limits(silent_s=60.0)
    ledger.excuse(100.0)
    assert ledger.over(limits, 150.0) is None
    assert ledger.over(limits, 162.0) == (HUNG, "it said nothing for 60 s")


def test_equal_nodes_have_names_of_their_own_in_the_store() -> None:
    first, second = (NodeLedger(name, "run", 0.0) for name in ("a.example", "b.example"))
    for ledger in (first, second):
        ledger.hear(json.dumps(HELLO).encode(), 0.0)
    assert first.result().machine_id != second.result().machine_id
    assert "example" not in first.result().machine_id


def measure(place: str, *names: str, each_s: float = 0.02, **changed) -> FleetReport:
    suite = Request(names=names, each_s=each_s, threads=1, folder="")
    limits = changed.pop("limits", Limits(start_s=120.0))
    shared = changed.pop("shared", ".")
    return run_fleet(FleetRequest(place=fleet_place(place, shared), suite=suite, limits=limits), **changed)


def node_processes(among: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in among if one.status() != psutil.STATUS_ZOMBIE and "rigwise.bench.node" in one.cmdline()]


def test_the_suite_on_worker_processes_one_of_which_is_killed() -> None:
    pytest.importorskip("torch")
    processes: list[psutil.Process] = []
    killed = []

    def kill_one(ended: int, of: int, words: str) -> None:
        if not processes:
            processes.extend(sorted(node_processes(psutil.Process().children()), key=lambda one: one.pid))
        if not killed and words.endswith(": stream"):
            killed.append(words.partition(":")[0])
            processes[int(killed[0].removeprefix("local-")) - 1].kill()

    report = measure("local:3", "matmul.fp32", "stream.copy", each_s=1.0, progress=kill_one)
    states = {node.name: node.state for node in report.nodes}
    assert states == {name: DIED if name in killed else OK for name in ("local-1", "local-2", "local-3")}
    assert [node.name for node in report.bad] == killed
    assert report.bad[0].why == "ended by SIGKILL during stream"
    assert [record.name for record in report.bad[0].records] == ["matmul.fp32"]  # what it had measured by then
    assert {len(node.records) for node in report.nodes if node.state == OK} == {2}
    assert psutil.wait_procs(processes, timeout=10)[1] == []


def test_every_node_of_slurm_once(slurm, monkeypatch, tmp_path) -> None:
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    slurm.run("scontrol", "update", "NodeName=n4", "State=DRAIN", "Reason=bad fan")
    cancelled = []

    def cancel_one(ended: int, of: int, words: str) -> None:
        if words == "n2: stream" and not cancelled:
            job = slurm.run("squeue", "--noheader", "--nodelist=n2", "--format=%A").stdout.strip()
            cancelled.append(slurm.run("scancel", job).returncode)

    try:
        report = measure("slurm", "stream.copy", each_s=1.5, progress=cancel_one, shared=str(tmp_path))
    finally:
        slurm.run("scontrol", "update", "NodeName=n4", "State=RESUME")
    assert cancelled == [0]
    found = {node.name: (node.state, node.why) for node in report.nodes}
    assert {name: state for name, (state, _) in found.items()} == {"n1": OK, "n2": DIED, "n3": OK, "n4": MISSING}
    assert "cancelled" in found["n2"][1]
    assert found["n4"][1] == "Slurm: drained, bad fan"
    until(lambda: slurm.jobs() == [])
    assert list(tmp_path.iterdir()) == []


def test_slurm_jobs_are_cancelled_when_the_coordinator_is_interrupted(slurm, tmp_path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "rigwise", "bench", "matmul", "--each", "20s", "--fleet", "slurm:all:2"],
        cwd=tmp_path,
        env={**os.environ, **slurm.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    until(lambda: len(slurm.run("squeue", "--noheader", "--states=RUNNING").stdout.splitlines()) == 2)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, b"")
    assert b"2 stopped" in output
    until(lambda: slurm.jobs() == [])
    assert list(tmp_path.iterdir()) == []


def test_slurm_says_what_it_does_not_have(slurm, monkeypatch) -> None:
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInputError, match="5 nodes are asked for, and 4 can be used"):
        measure("slurm:5", "launch")
    with pytest.raises(InvalidInputError, match="no nodes in gpus"):
        measure("slurm:gpus", "launch")
    with pytest.raises(InvalidInputError, match="cannot be written"):
        measure("slurm:1", "launch", shared="/proc/no")
    assert slurm.jobs() == []


@pytest.mark.slow
def test_ray_outlives_a_node_that_is_killed() -> None:
    pytest.importorskip("ray")
    killed = []

    def kill_one(ended: int, of: int, words: str) -> None:
        if not killed and words.endswith(": stream"):
            killed.append(words)
            found = node_processes(psutil.Process().children(recursive=True))
            parents = {
                one.pid for one in found
            }  # a node that has forked and not yet become something else is there twice
            next(one for one in found if one.ppid() not in parents).kill()

    try:
        report = measure("ray:2", "stream.copy", each_s=1.5, progress=kill_one)
    except RunError as error:  # Ray gives itself 30 s
        if "timed out during startup" not in str(error):
            raise
        pytest.skip("this machine is too busy to start a Ray")
    assert sorted(node.state for node in report.nodes) == [DIED, OK]
    assert "SIGKILL" in report.bad[0].why


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_coordinator_ends(tmp_path, number) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "rigwise", "bench", "matmul", "disk", "--each", "20s", "--fleet", "local:3"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    until(lambda: len(list(tmp_path.iterdir())) == 3)  # each node has made the folder of its test
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 3
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert errors == b""
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert number == signal.SIGKILL or b"3 stopped" in output
    assert psutil.wait_procs(children, timeout=30)[1] == []
    until(lambda: list(tmp_path.iterdir()) == [])


def until(is_so, within_s: float = 60.0) -> None:
    end_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end_s, "it did not happen"
        time.sleep(0.1)


def test_ctrl_c_is_an_answer_of_what_there_is(nodes_that) -> None:
    def interrupted(records) -> None:
        if records and records[0].tags["does"] == "later":
            raise KeyboardInterrupt

    found, was_interrupted = nodes_that("later", "silent", keep=interrupted)
    assert was_interrupted
    assert (found["later"].state, found["silent"].state) == (OK, STOPPED)


def test_a_full_store_costs_a_line_and_not_the_answer(monkeypatch) -> None:
    pytest.importorskip("torch")
    from rigwise.measurement.store import Store

    asked = []

    def full(self, records):
        asked.append(len(records))
        raise InvalidInputError("the store cannot be written: disk is full")

    monkeypatch.setattr(Store, "add", full)
    result = CliRunner().invoke(command_line, ["bench", "launch", "--each", "20ms", "--fleet", "local:2"])
    assert result.exit_code == 0, result.output
    assert result.stderr == "not kept for rigwise history: the store cannot be written: disk is full\n"
    assert len(asked) == 1
    assert "local:2, 2 nodes: 2 ok" in result.stdout


def test_the_document_and_the_store(tmp_path, monkeypatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("RIGWISE_STORE", str(tmp_path / "store.sqlite"))
    saved = tmp_path / "fleet.json"
    arguments = ["bench", "launch", "--each", "20ms", "--fleet", "local:2", "--json", "--save", str(saved)]
    result = CliRunner().invoke(command_line, arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found == json.loads(saved.read_text())
    assert found["schema"] == "rigwise.bench-fleet/1"
    assert found["bad"] == []
    (figure,) = found["figures"]
    assert figure["values"].keys() == {"local-1", "local-2"}
    history = json.loads(CliRunner().invoke(command_line, ["history", "--json"]).stdout)
    assert {one["machine_id"] for one in history["records"]} == {node["machine"] for node in found["nodes"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fleet", "locl:3"], "there is no fleet 'locl:3'"),
        (["--fleet", ""], "there is no fleet ''"),
        (["--fleet", "local:0"], "asks for 0 nodes"),
        (["--fleet", "local:-3"], "asks for -3 nodes"),
        (["--fleet", "local:99999999999999999999"], "asks for 9999"),
        (["--fleet", "slurm:a:b:3"], "there is no fleet"),
        (["--fleet", "slurm:--help"], "there is no fleet"),
        (["--fleet", "local:2", "--node-limit", "0s"], "0 s as node limit"),
        (["--fleet", "local:2", "--node-limit", "nan"], "nan"),
        (["--fleet", "local:2", "--start-limit", "3 apples"], "3 apples"),
        (["--fleet", "local:2", "--save", "x.csv"], "does not end in .json"),
        (["--fleet", "local:2", "lunch"], "there is no benchmark 'lunch'"),
        (["--node-limit", "3s"], "--node-limit goes with --fleet"),
        (["--no-confirm"], "--confirm goes with --fleet"),
    ],
)
def test_bad_input_is_one_line(arguments, words) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "rigwise", "bench", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_node_that_ends_at_once_gives_its_reason(monkeypatch, tmp_path) -> None:
    (tmp_path / "broken_node.py").write_text("import no_such_module\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    nodes = LocalNodes(["a"], Call(module="broken_node", request="{}"))
    heard: list[Said] = []
    until(lambda: heard.extend(nodes.poll(0.5)) or heard)
    nodes.close()
    assert heard == [Said(node="a", ended="exit code 1: ModuleNotFoundError: No module named 'no_such_module'")]
