"""Files of profilers: whole, torn, packed, odd, hostile."""

import gzip
import json
import runpy
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError
from rigwise.measurement.profile import chrome, source
from rigwise.measurement.profile.counting import quotients
from rigwise.measurement.profile.read import read_trace
from rigwise.measurement.profile.spans import Counters, Trace, What
from rigwise.report.trace_answer import recorded

_FILES = runpy.run_path(str(Path(__file__).with_name("profile_files.py")))
GEMM, cuda_like, nsight_export = _FILES["GEMM"], _FILES["cuda_like"], _FILES["nsight_export"]

SPAN = {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 2, "ts": 10.0, "dur": 5.0, "args": {}}


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InvalidInputError) as error:
        read_trace(path)
    return str(error.value)


def trace_of(path: Path) -> Trace:
    found = read_trace(path)
    assert isinstance(found, Trace)
    return found


def test_the_stored_example_is_what_the_helper_makes() -> None:
    stored = Path(__file__).parent / "data/trace/cuda-like.json"
    assert json.loads(stored.read_text()) == cuda_like().document()


def test_kinds_times_links_and_sizes_are_read(tmp_path) -> None:
    found = trace_of(cuda_like(1).write(tmp_path / "a.json"))
    kernel = next(span for span in found.on_device if span.name == GEMM)
    assert (found.source, found.devices) == ("torch", {0: "NVIDIA A100-SXM4-40GB"})
    assert (kernel.what, kernel.device, kernel.lane) == (What.KERNEL, 0, "0/7")
    assert kernel.time_s == pytest.approx(100e-6)
    assert kernel.start_s == pytest.approx(180e-6)
    (call,) = [span for span in found.host if span.link == kernel.link]
    assert call.name == "cudaLaunchKernel"
    linear = next(span for span in found.host if span.name == "aten::linear")
    assert linear.shapes == ((8, 16), (32, 16), (32,))


def test_packed_and_plain_say_the_same(tmp_path) -> None:
    plain = cuda_like().write(tmp_path / "a.json")
    packed = written(tmp_path / "a.json.gz", gzip.compress(plain.read_bytes()))
    assert trace_of(packed).host == trace_of(plain).host


def test_the_bare_array_is_a_trace(tmp_path) -> None:
    assert len(trace_of(written(tmp_path / "a.json", json.dumps([SPAN, SPAN]))).host) == 2


def test_values_of_any_length_across_chunks(tmp_path, monkeypatch) -> None:
    path = cuda_like().write(tmp_path / "a.json")
    whole = trace_of(path)
    monkeypatch.setattr(source, "CHUNK_BYTES", 7)
    assert trace_of(path) == whole


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(1, 30_000))
def test_a_torn_file_gives_the_spans_before_the_tear(tmp_path_factory, cut) -> None:
    text = json.dumps(cuda_like().document())
    path = written(tmp_path_factory.mktemp("torn") / "a.json", text[: min(cut, len(text) - 1)])
    whole = cuda_like()
    try:
        found = trace_of(path)
    except InvalidInputError:
        assert text[:cut].count('"dur"') <= 1
        return
    inside = text[: min(cut, len(text) - 1)].count("}}")
    assert len(found.host) + len(found.on_device) == min(inside, len(whole.events))
    assert found.notes == () or "ends in the middle" in found.notes[0]


def test_a_torn_archive_gives_what_could_be_unpacked(tmp_path) -> None:
    packed = gzip.compress(json.dumps(cuda_like(200).document()).encode())
    found = trace_of(written(tmp_path / "a.json.gz", packed[: len(packed) * 3 // 4]))
    assert found.host
    assert "ends in the middle" in found.notes[0]


def test_odd_events_are_counted_and_left_out(tmp_path) -> None:
    odd = [
        {**SPAN, "dur": -3},
        {**SPAN, "ts": "soon"},
        {**SPAN, "ts": None},
        {**SPAN, "dur": True},
        {**SPAN, "dur": 1e300},
        "no event",
        {**SPAN, "args": [1]},
        {**SPAN, "args": {"Input Dims": [[[1, 2], [3]], "x", [None, 4], [[]]]}},
        {"ph": "M", "name": "process_name"},
        SPAN,
    ]
    text = json.dumps({"traceEvents": odd}).replace('"dur": 5.0', '"dur": 5.0', 1)
    found = trace_of(written(tmp_path / "a.json", text))
    assert len(found.host) == 3
    assert {"1 events with a negative duration were left out", "5 events without a usable time were left out"} == set(
        found.notes
    )


def test_begin_and_end_events_make_spans(tmp_path) -> None:
    pairs = [
        {"ph": "B", "name": "outer", "cat": "x", "pid": 1, "tid": 1, "ts": 0},
        {"ph": "B", "name": "inner", "cat": "x", "pid": 1, "tid": 1, "ts": 10},
        {"ph": "E", "pid": 1, "tid": 1, "ts": 15},
        {"ph": "E", "pid": 1, "tid": 1, "ts": 40},
        {"ph": "E", "pid": 1, "tid": 1, "ts": 50},
    ]
    found = trace_of(written(tmp_path / "a.json", json.dumps(pairs)))
    assert {span.name: span.time_s for span in found.host} == pytest.approx({"outer": 40e-6, "inner": 5e-6})


def test_marks_among_the_operators_of_old_traces(tmp_path) -> None:
    old = [{**SPAN, "cat": "Operator", "name": name} for name in ("ProfilerStep#3", "aten::mm")]
    found = trace_of(written(tmp_path / "a.json", json.dumps(old)))
    assert [span.what for span in found.host] == [What.MARK, What.OP]


def test_spans_that_begin_without_end_take_a_bounded_room(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(chrome, "MOST_SPANS", 5)
    begun = [{"ph": "B", "name": "x", "ts": at, "pid": 1, "tid": 1} for at in range(50)]
    ended = [{"ph": "E", "ts": 60, "pid": 1, "tid": 1}] * 50
    assert len(trace_of(written(tmp_path / "a.json", json.dumps(begun + ended))).host) == 5


def test_a_trace_without_spans_says_what_may_be_wrong(tmp_path) -> None:
    assert "repeat=1" in refusal(written(tmp_path / "a.json", '{"traceEvents": []}'))


def test_more_spans_than_are_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(chrome, "MOST_SPANS", 10)
    found = trace_of(cuda_like().write(tmp_path / "a.json"))
    assert len(found.host) + len(found.on_device) == 10
    assert found.notes == ("only the first 10 spans were read",)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.json", "", "is empty"),
        ("a.json", "{", "no list of traceEvents"),
        ("a.json", '{"traceEvents": 3}', "no list of traceEvents"),
        ("a.json", "[" * 200_000, "nested too deeply"),
        ("a.json", '{"a": ' + "[" * 200_000, "nested too deeply"),
        ("a.json", '{"loss": 1.0}', "no list of traceEvents"),
        ("a.txt", "the quick brown fox\n", "no output of a profiler"),
        ("a.txt", b"\xff\xfe\x00\x01", "no output of a profiler"),
        ("a.zip", b"PK\x03\x04rest", "zip archive"),
        ("a.json.gz", b"\x1f\x8b\x08rubbish", "unpacked"),
        ("a.nsys-rep", b"x", "nsys export --type sqlite a.nsys-rep"),
        ("a.sqlite", b"SQLite format 3\x00" + b"\x00" * 200, "Nsight"),
    ],
)
def test_what_is_no_trace_is_refused_in_a_line(tmp_path, name, content, word) -> None:
    message = refusal(written(tmp_path / name, content))
    assert word in message
    assert "\n" not in message


def test_missing_files_and_folders(tmp_path) -> None:
    assert "no file" in refusal(tmp_path / "missing.json")
    assert "folder" in refusal(tmp_path)


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(source, "_FREE_BYTES", 1 << 20)
    bomb = gzip.compress(b'{"traceEvents": [' + b" " * (64 << 20))
    assert "times its size" in refusal(written(tmp_path / "a.json.gz", bomb))


def test_a_file_longer_than_the_limit_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(source, "LIMIT_BYTES", 1000)
    assert "record fewer steps" in refusal(cuda_like().write(tmp_path / "a.json"))


def test_one_endless_event_is_refused_early(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(chrome, "_LONGEST", 1 << 20)
    text = '{"traceEvents": [{"name": "' + "x" * (4 << 20)
    assert "event 1 is no JSON" in refusal(written(tmp_path / "a.json", text))


# Nsight Systems


def test_an_export_says_what_the_trace_says(tmp_path) -> None:
    made = cuda_like()
    torch, nsight = trace_of(made.write(tmp_path / "a.json")), trace_of(nsight_export(tmp_path / "a.sqlite", made))
    assert (nsight.source, nsight.devices, nsight.notes) == ("nsight", torch.devices, ())
    for side in ("host", "on_device"):
        ours, theirs = getattr(torch, side), getattr(nsight, side)
        assert [(s.what, s.name, s.device, s.shapes) for s in ours] == [
            (s.what, s.name, s.device, s.shapes) for s in theirs
        ]
        assert [s.start_s for s in ours] == pytest.approx([s.start_s for s in theirs])
        assert [s.time_s for s in ours] == pytest.approx([s.time_s for s in theirs])


def test_columns_and_tables_may_lack(tmp_path) -> None:
    path = nsight_export(tmp_path / "a.sqlite", cuda_like(1))
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL DROP COLUMN demangledName")
        connection.execute("ALTER TABLE CUPTI_ACTIVITY_KIND_MEMCPY DROP COLUMN start")
        connection.execute("DROP TABLE TARGET_INFO_GPU")
        connection.execute("INSERT INTO NVTX_EVENTS VALUES (1, NULL, 34, 'a mark', 5, NULL)")
        connection.execute("UPDATE CUPTI_ACTIVITY_KIND_RUNTIME SET [end] = start - 5 WHERE correlationId = 1")
    connection.close()
    found = trace_of(path)
    assert GEMM in {span.name for span in found.on_device}
    assert found.notes == (
        "table CUPTI_ACTIVITY_KIND_MEMCPY was left out: it has no column start",
        "1 rows that end before they begin were left out",
    )


def test_other_databases_are_refused(tmp_path) -> None:
    path = tmp_path / "a.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a INT)")
    connection.close()
    assert "no export of Nsight Systems" in refusal(path)


def test_a_view_that_pretends_to_be_a_table_is_not_asked(tmp_path) -> None:
    path = tmp_path / "a.sqlite"
    endless = "WITH RECURSIVE n(start, end) AS (SELECT 1, 2 UNION ALL SELECT start + 1, end + 1 FROM n) SELECT * FROM n"
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE VIEW CUPTI_ACTIVITY_KIND_KERNEL AS {endless}")
    connection.close()
    assert "no export of Nsight Systems" in refusal(path)


# perf stat

PERF = """
 Performance counter stats for 'python train.py':

          2,000.50 msec task-clock                       #    1.985 CPUs utilized
     6,000,000,000      cycles:u                         #    3.000 GHz                         (62.50%)
     9,000,000,000      instructions:u                   #    1.50  insn per cycle              (62.50%)
       200,000,000      cache-references                 #   99.980 M/sec
        50,000,000      cache-misses                     #   25.00% of all cache refs
   <not supported>      LLC-loads
   <not counted>        dTLB-loads                                                              (0.00%)
               123      context-switches

       1.007812345 seconds time elapsed

       1.900000000 seconds user
"""


def counters_of(path: Path) -> Counters:
    found = read_trace(path)
    assert isinstance(found, Counters)
    return found


def test_perf_as_people_read_it(tmp_path) -> None:
    found = counters_of(written(tmp_path / "perf.txt", PERF))
    assert found.values["task-clock"] == pytest.approx(2.0005)
    assert (found.missing, found.command) == (("LLC-loads", "dTLB-loads"), "python train.py")
    assert found.counted_frac == {"cycles": 0.625, "instructions": 0.625}
    together = quotients(found)
    assert together["instructions_per_cycle"] == pytest.approx(1.5)
    assert together["cache_miss_frac"] == pytest.approx(0.25)
    assert together["clock_hz"] == pytest.approx(6e9 / 2.0005)
    assert together["cpus_used"] == pytest.approx(2.0005 / 1.007812345)
    assert together["memory_bytes_per_s"] == pytest.approx(50e6 * 64 / 1.007812345)


@pytest.mark.parametrize(
    "text",
    [
        "6000000000,,cycles,1000,100.00,3.0,GHz\n9000000000,,instructions,1000,100.00,1.5,insn per cycle\n",
        "# started on Sat\n\n6000000000;;cycles:u;1000;100.00;;\n9000000000;;instructions:u;1000;100.00;;\n",
        "S0,2,6000000000,,cycles,1000,100.00,,\nS0,2,9000000000,,instructions,1000,100.00,,\n",
        '{"counter-value" : "6000000000.0", "unit" : "", "event" : "cycles", "pcnt-running" : 100.00}\n'
        '{"counter-value" : "9000000000.0", "unit" : "", "event" : "instructions", "pcnt-running" : 100.00}\n',
        " 6.000.000.000      cycles\n 9.000.000.000      instructions\n",
        " 6\u202f000\u202f000\u202f000      cycles\n 9\u202f000\u202f000\u202f000      instructions\n",
        " 2,000,000,000 cpu_core/cycles/\n 4,000,000,000 cpu_atom/cycles/\n"
        " 5,000,000,000 cpu_core/instructions/\n 4,000,000,000 cpu_atom/instructions/\n",
    ],
)
def test_perf_in_other_spellings(tmp_path, text) -> None:
    found = quotients(counters_of(written(tmp_path / "perf.out", text)))
    assert found["instructions_per_cycle"] == pytest.approx(1.5)


# Anything


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    plain = cuda_like(1).write(folder / "a.json").read_bytes()
    sqlite = nsight_export(folder / "a.sqlite", cuda_like(1)).read_bytes()
    return {"a.json": plain, "a.json.gz": gzip.compress(plain), "a.sqlite": sqlite, "a.txt": PERF.encode()}


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(["a.json", "a.json.gz", "a.sqlite", "a.txt"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=4)), min_size=1, max_size=6),
)
def test_a_spoiled_file_is_read_or_refused_in_a_line(whole_files, tmp_path_factory, name, changes) -> None:
    content = bytearray(whole_files[name])
    for where, put in changes:
        at = int(where * len(content))
        content[at : at + len(put)] = put
    path = written(tmp_path_factory.getbasetemp() / f"spoiled-{name}", bytes(content))
    found, message = None, ""
    try:
        found = read_trace(path)
    except InvalidInputError as error:
        message = str(error)
    assert "\n" not in message
    if isinstance(found, Trace):
        assert recorded(found).step_s >= 0
    elif found is not None:
        quotients(found)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("ph", "cat", "name", "pid", "tid", "ts", "dur", "args")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(KEYS), values), max_size=4), st.sampled_from(["cpu_op", "kernel", "gpu_memcpy"])
)
def test_events_may_hold_anything(tmp_path_factory, changes, category) -> None:
    event = {**SPAN, "cat": category, **dict(changes)}
    text = json.dumps({"deviceProperties": [event, 3], "distributedInfo": event, "traceEvents": [event, SPAN]})
    found = trace_of(written(tmp_path_factory.getbasetemp() / "odd.json", text))
    assert recorded(found).step_s >= 0
