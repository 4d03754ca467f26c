"""What counts as the same thing, what became better or worse, and what stays unclear."""

from dataclasses import replace

import numpy as np
import pytest

from rigwise.errors import AmbiguousNameError, InvalidInputError, UnknownNameError
from rigwise.measurement.compare import better, check, compare_sides, difference, key_of
from rigwise.measurement.records import Record, Selection
from rigwise.measurement.sides import one_machine, selections, side, span
from rigwise.report.history_text import compare_lines, finding_lines

BASE = Record(kind="bench", name="x", value=1.0, unit="s", machine_id="m", when="2026-11-21", tags={"side": 1024})


def series(values, **change):
    """Runs a minute apart."""
    return [
        replace(BASE, value=value, when=f"2026-01-01T{number // 60:02d}:{number % 60:02d}:00Z", **change)
        for number, value in enumerate(values)
    ]


def one(first, second, **more):
    return compare_sides(first, second, **more).comparisons[0]


def test_more_time_is_worse_and_more_throughput_is_better() -> None:
    slow, fast = series([2.0, 2.02, 1.98, 2.01, 2.03]), series([1.0, 1.01, 0.99, 1.02, 0.98])
    assert one(fast, slow).verdict == "worse"
    assert one(slow, fast).verdict == "better"
    assert one(fast, slow).ratio.value == pytest.approx(2.0, rel=0.05)
    as_rate = [[replace(record, unit="B/s") for record in side] for side in (fast, slow)]
    assert one(*as_rate).verdict == "better"
    as_ratio = [[replace(record, unit="") for record in side] for side in (fast, slow)]
    assert one(*as_ratio).verdict == "changed"
    assert [better(unit, 2.0) for unit in ("J", "J/token", "token/s", "%")] == ["worse", "worse", "better", "changed"]


def test_the_same_figures_are_the_same_and_noisy_ones_are_unclear() -> None:
    random = np.random.default_rng(0)
    quiet = [series(list(np.exp(0.01 * random.normal(size=8)))) for _ in range(2)]
    assert one(*quiet).verdict == "same"
    noisy = [series(list(np.exp(0.5 * random.normal(size=5)))) for _ in range(2)]
    assert one(*noisy).verdict == "unclear"
    assert "more of them" in one(*noisy).note


def test_two_names_that_begin_alike_are_told_apart() -> None:
    found = compare_sides(series([1.0, 1.1]), series([2.0, 2.1]))
    head, *rest = compare_lines(found, "amd-epyc-2-bba0bfd0", "amd-epyc-2-59e27c00")
    assert head.split()[:4] == ["the", "first", "the", "second"]
    assert "bba0bfd0, 2 in amd-epyc-2-59e27c00" in " ".join(" ".join(rest).split())
    assert next(compare_lines(found, "2026-10", "2026-11")).split()[:2] == ["2026-10", "2026-11"]


def test_a_sure_difference_that_does_not_matter_is_not_called_one() -> None:
    first = series([1.0 + 0.0001 * number for number in range(12)])
    second = series([1.02 + 0.0001 * number for number in range(12)])
    found = one(first, second)
    assert found.p < 0.001
    assert found.verdict == "same"


def test_few_runs_say_how_many_are_needed() -> None:
    found = one(series([1.0]), series([2.0]))
    assert found.verdict == "unclear"
    assert "1 and 1 runs, 4 each are needed" in found.note
    apart = one(series([1.0], p10=0.9, p90=1.1), series([2.0], p10=1.9, p90=2.1))
    assert "do not overlap" in apart.note
    together = one(series([1.0], p10=0.9, p90=2.0), series([2.0], p10=1.9, p90=2.1))
    assert "overlap" not in together.note


def test_many_figures_are_not_called_different_by_chance() -> None:
    random = np.random.default_rng(5)

    def drawn():
        values = {f"f{number}": np.exp(0.2 * random.normal(size=6)) for number in range(200)}
        return [record for name, found in values.items() for record in series(list(found), name=name)]

    found = compare_sides(drawn(), drawn()).comparisons
    assert len(found) == 200
    assert sum(one.verdict in ("better", "worse") for one in found) <= 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unit": "B/s"}, "unit is s and B/s"),
        ({"tags": {"side": 2048}}, "side is 1024 and 2048"),
        ({"tags": {"side": 1024, "format": "fp16"}}, "format is not said and fp16"),
        ({"tags": {"side": 1024, "device": "t4"}}, "device is not said and t4"),
        ({"tags": {"side": 1024, "threads": 4}}, "threads is not said and 4"),
    ],
)
def test_what_is_not_comparable_is_not_merged(change, words) -> None:
    found = compare_sides(series([1.0] * 5), series([1.0] * 5, **change))
    assert found.comparisons == ()
    assert found.refused == (("x", words),)


def test_two_machines_may_differ_in_what_follows_from_the_machine_only() -> None:
    first = series([1.0] * 5, tags={"side": 1024, "device": "t4", "threads": 2})
    second = series([1.0] * 5, machine_id="n", tags={"side": 1024, "device": "a100", "threads": 8})
    assert compare_sides(first, second).comparisons == ()
    assert one(first, second, machines=True).verdict == "same"
    larger = [replace(record, tags={**record.tags, "side": 4096}) for record in second]
    assert compare_sides(first, larger, machines=True).refused == (("x", "side is 1024 and 4096"),)


def test_a_label_does_not_matter() -> None:
    assert key_of(BASE) == key_of(replace(BASE, tags={"side": 1024, "note": "after the update", "run": 7}))
    assert difference(key_of(BASE), key_of(BASE)) == ""


def test_what_stands_on_one_side_only_and_what_software_changed() -> None:
    first = [*series([1.0], software='{"torch": "2.12"}'), *series([1.0], name="a")]
    second = [*series([1.0], software='{"torch": "2.13"}'), *series([1.0], name="b")]
    found = compare_sides(first, second)
    assert found.only == (("a",), ("b",))
    assert found.changed == (("torch", "2.12", "2.13"),)


def test_a_regression_an_improvement_and_an_outlier_are_found() -> None:
    random = np.random.default_rng(1)
    noise = list(np.exp(0.01 * random.normal(size=16)))
    after = [value * (1.2 if number >= 9 else 1.0) for number, value in enumerate(noise)]
    (found,), looked = check(series(after))
    assert (found.what, found.when, found.runs, looked) == ("regression", "2026-01-01T00:09:00Z", (9, 7), 1)
    (found,), _ = check(series(after, unit="token/s"))
    assert found.what == "improvement"
    spoiled = [*noise[:5], 3.0, *noise[6:]]
    (found,), _ = check(series(spoiled))
    assert (found.what, found.when) == ("outlier", "2026-01-01T00:05:00Z")
    assert check(series(noise)) == ((), 1)
    assert check(series(noise[:7])) == ((), 0)


def test_a_finding_says_which_runs_were_disturbed() -> None:
    random = np.random.default_rng(1)
    noise = list(np.exp(0.01 * random.normal(size=16)))
    runs = series([value * (1.2 if number >= 9 else 1.0) for number, value in enumerate(noise)])
    busy = [
        replace(run, tags={**run.tags, "status": "busy"}) if number >= 8 else run for number, run in enumerate(runs)
    ]
    (found,), _ = check(busy)
    assert (found.runs, found.disturbed) == ((9, 7), (1, 7))
    assert "on a busy or throttled machine 1 and 7 of them" in " ".join("".join(finding_lines([found])).split())
    (found,), _ = check(runs)
    assert found.disturbed == (0, 0)
    assert "busy" not in "".join(finding_lines([found]))


def test_series_of_other_machines_and_sizes_stay_apart() -> None:
    mixed = [*series([1.0] * 6), *series([2.0] * 6, machine_id="n"), *series([3.0] * 6, tags={"side": 1})]
    assert check(mixed) == ((), 0)


# --- naming the sides ------------------------------------------------------------------------------------------------

MACHINES = ("amd-epyc-2-01", "amd-epyc-2-02", "1x-h200-03")


def test_sides_are_machines_or_times() -> None:
    assert side("1x", MACHINES).machine == "1x-h200-03"
    assert side("2026-12", MACHINES).until == "2027-01-01T00:00:00.000000Z"
    assert side("2026-02-28", MACHINES).until == "2026-03-01T00:00:00.000000Z"
    assert span("2026-11-01..2026-11-07") == ("2026-11-01T00:00:00.000000Z", "2026-11-08T00:00:00.000000Z")
    assert span("2026-11-01T10:00Z..2026-11-01T12:00Z")[1] == "2026-11-01T12:00:00.000000Z"
    assert span("..2026-10") == ("", "2026-11-01T00:00:00.000000Z")
    with pytest.raises(AmbiguousNameError, match="amd-epyc-2-01, amd-epyc-2-02"):
        side("amd", MACHINES)


@pytest.mark.parametrize("words", ["", "h200", "2026", "yesterday", "2026-11-21T10:00"])
def test_words_that_name_nothing(words) -> None:
    with pytest.raises(UnknownNameError):
        side(words, MACHINES)


@pytest.mark.parametrize(
    "words", ["2026-13", "2026-02-30", "2026-11-07..2026-11-01", "..", "soon..later", "9999-12-31"]
)
def test_times_that_are_none(words) -> None:
    with pytest.raises(InvalidInputError):
        side(words, MACHINES)


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ("1x", "2026-11", "a machine and a time"),
        ("1x", "1x", "both sides"),
        ("2026-11", "2026-11-21", "overlap"),
        ("2026-11..", "2026-12", "overlap"),
        ("..2026-11", "2026-10", "overlap"),
    ],
)
def test_sides_that_cannot_be_compared(first, second, word) -> None:
    with pytest.raises(InvalidInputError, match=word):
        selections(side(first, MACHINES), side(second, MACHINES), Selection())


def test_sides_that_can() -> None:
    early, late = selections(side("..2026-10", MACHINES), side("2026-11..", MACHINES), Selection())
    assert (early.until, late.since) == ("2026-11-01T00:00:00.000000Z",) * 2
    with pytest.raises(InvalidInputError, match="--machine"):
        selections(side("1x", MACHINES), side("amd-epyc-2-01", MACHINES), Selection(machines=("1x",)))
    with pytest.raises(InvalidInputError, match="2 machines"):
        one_machine([BASE, replace(BASE, machine_id="n")])
