"""Labs 5 to 10: their answers are right by first principles, wrong ones are told their mistake, and all of them run."""

import json
import math
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.labs import answers06, answers07, answers08, answers09, maze
from rigwise.labs.execute import execute
from rigwise.labs.learner import QUICK, RIGHT
from rigwise.labs.mistakes import values
from rigwise.labs.notebook import Cell, notebook
from rigwise.labs.progress import VARIABLE
from rigwise.labs.shelf import exercise, exercises, lab, prediction
from rigwise.machine.inspect import inspect
from rigwise.machine.match import catalogue_cpu

NUMBERS = range(5, 11)
WEIGHTS = {"weights": 3.2e9, "bandwidth": 1.0e12, "peak": 1.6e14}
CORES = {"wanted": 1400.0, "per_core": 600.0}
PROOF = {"candidates": 10_000, "estimated": 100, "expanded": 40}


def octile(cell: maze.Cell) -> float:
    across, down = abs(cell[0] - maze.GOAL[0]), abs(cell[1] - maze.GOAL[1])
    return max(across, down) + (math.sqrt(2) - 1) * min(across, down)


def straight(cell: maze.Cell) -> float:
    return math.hypot(cell[0] - maze.GOAL[0], cell[1] - maze.GOAL[1])


#: Exercise -> what is given, the answer from first principles.
ANSWERS = {
    "5.3": (WEIGHTS, 1e12 / (2 * 3.2e9)),
    "5.5": ({}, "a"),
    "5.6": ({}, 60 / 0.8),
    "6.2": ({}, 2**40 / 4096 / 110 / 3600),
    "6.4": (CORES, 3),
    "7.3": ({}, (14 - 6) * 2e-3 / ((6 - 1.75) / 100e6) / 1e3),
    "7.4": ({}, 25.6 * 4 * 2 * 7 / 8),
    "7.5": ({}, float(Fraction(63, 64) / Fraction(7, 8))),
    "8.2": ({}, 100 / (10 + 90 / 8)),
    "8.5": ({}, 2 * math.sin(math.pi / 18)),
    "8.6": ({}, "b"),
    "9.2": ({}, octile),
    "9.4": (PROOF, 9900 / 100),
    "9.5": ({}, "b"),
    "10.2": ({}, 7 * 24 * 6 * 4 * 0.90),
    "10.3": ({}, 2800 / (0.69 - 0.6 * 0.15)),
    "10.5": ({}, 2800 / (0.69 / 2 - 0.6 * 0.15)),
    "10.6": ({}, "c"),
}

#: Exercise, a wrong answer, words of the mistake that it shows.
MISTAKES = [
    ("5.3", 1e12 / 3.2e9, "a byte for each weight"),
    ("5.3", 1e12 / (4 * 3.2e9), "four bytes"),
    ("5.3", 8 * 1e12 / (2 * 3.2e9), "bits"),
    ("5.3", 1.6e14 / (2 * 3.2e9), "roof of arithmetic"),
    ("5.3", 156.25e-3, "power of ten"),
    ("5.5", "b", "32 TFLOP/s"),
    ("5.5", "c", "none of a, b"),
    ("5.6", 37.5, "A's ridge point"),
    ("5.6", 200, "B's ridge point"),
    ("6.2", 1e12 / 4096 / 110 / 3600, "1e12 bytes"),
    ("6.2", 2**40 / 4000 / 110 / 3600, "4,000 bytes"),
    ("6.2", 677.87 * 60, "minutes"),
    ("6.2", 2**40 / 170e6 / 3600, "in sequence"),
    ("6.4", 2, "200 pictures a second are missing"),
    ("6.4", 1400 / 600, "before rounding"),
    ("6.4", 600 / 1400, "one over it"),
    ("6.4", 40, "wait for the GPU"),
    ("6.4", "three", "whole number"),
    ("7.3", 32 * 200, "NCCL's two trees"),
    ("7.3", 11 * 200 / (3 - 1.75), "up and down"),
    ("7.3", 1 * 200 / (6 - 0.875), "goes round twice"),
    ("7.3", 8 * 200 / 6, "moves bytes too"),
    ("7.3", 376_471, "power of ten"),
    ("7.4", 25.6 * 4, "the message once"),
    ("7.4", 25.6 * 4 * 2, "that is 2 m"),
    ("7.4", 25.6 * 4 * 7 / 8, "adding up alone"),
    ("7.4", 25.6 * 2 * 7 / 8, "a byte for each gradient"),
    ("7.4", 25.6 * 4 * 14, "whole message at each"),
    ("7.5", 8, "an eighth"),
    ("7.5", 126 / 14, "number of hops"),
    ("7.5", 1, "still grows"),
    ("8.2", 8, "10 ms are not"),
    ("8.2", 7.2, "0.9 x 8"),
    ("8.2", 10, "ever more GPUs"),
    ("8.2", 100 / 11.25, "leaves the 10 ms out"),
    ("8.2", 21.25, "time of a step"),
    ("8.2", 100 / 21.25 / 8, "efficiency"),
    ("8.5", 2, "without delay"),
    ("8.5", 0.4, "2 / 5"),
    ("8.6", "a", "as quick as oneself"),
    ("9.2", straight, "straight line again"),
    ("9.2", lambda cell: abs(cell[0] - maze.GOAL[0]) + abs(cell[1] - maze.GOAL[1]), "around every corner"),
    ("9.2", lambda cell: math.sqrt(2) * max(abs(cell[0] - maze.GOAL[0]), abs(cell[1] - maze.GOAL[1])), "straight ones"),
    ("9.2", lambda cell: 0, "less than the straight line"),
    ("9.2", lambda cell: math.nan, "no number"),
    ("9.2", lambda cell: octile(cell) if cell[0] else None, "no finite number"),
    ("9.2", lambda cell: cell / 0, "no number"),
    ("9.2", 34.3, "the function itself"),
    ("9.4", 100 / 10_000, "share that was estimated"),
    ("9.4", 9900 / 10_000, "share that was ruled out"),
    ("9.4", 9900 / 40, "expanded"),
    ("9.5", "c", "half of a bound that holds"),
    ("10.2", 168 * 3.60, "six times as long"),
    ("10.2", 168 * 6 * 0.90, "four are rented"),
    ("10.2", 168 / 6 * 3.60, "slower ones"),
    ("10.3", 2800 / 0.69, "leaves the electricity out"),
    ("10.3", 2800 / 0.78, "added to the rent"),
    ("10.3", 2800 / (0.69 - 0.15), "1 kW"),
    ("10.3", 4666.7 / 24, "days"),
    ("10.5", 2800 / 0.60, "as quick as your own"),
    ("10.5", 2 * 2800 / 0.60, "not halved"),
    ("10.5", 2800 / (1.38 - 0.09), "half as quick"),
    ("10.5", 2800 / 0.60 / 2, "worth less"),
    ("10.5", 2800 / 0.255 / 2, "hours of the rented card"),
    ("10.6", "a", "a tenth longer"),
]


def told(name: str, answer: object) -> tuple[bool, str]:
    verdict = exercise(name).judge(answer, ANSWERS[name][0])
    return verdict.right, verdict.because


def test_every_exercise_has_an_answer_here() -> None:
    assert sorted(ANSWERS) == sorted(name for number in NUMBERS for name in exercises(number))


@pytest.mark.parametrize("name", ANSWERS)
def test_the_answer_from_first_principles_is_right(name: str) -> None:
    right, because = told(name, ANSWERS[name][1])
    assert right, because
    assert "{" not in because


@pytest.mark.parametrize(("name", "answer", "words"), MISTAKES)
def test_a_wrong_answer_is_told_its_mistake(name: str, answer: object, words: str) -> None:
    right, because = told(name, answer)
    assert not right
    assert words in because


@pytest.mark.parametrize("name", [name for name in ANSWERS if name != "9.2"])
@pytest.mark.parametrize("answer", [math.nan, math.inf, -1.0, 0, "", "word", [], True, None, object()])
def test_no_answer_ends_a_judge(name: str, answer: object) -> None:
    right, because = told(name, answer)
    assert not right
    assert because


@pytest.mark.parametrize("number", NUMBERS)
def test_text_and_answers_ask_the_same(number: int) -> None:
    code = "\n".join(cell.source for cell in lab(number).cells if cell.is_code)
    asked = {word: set(re.findall(rf'\b{word}\("(\d+\.\d+)"', code)) for word in ("predict", "reveal", "check")}
    assert asked["predict"] == asked["reveal"]
    assert asked["check"] == set(exercises(number))
    assert all(prediction(name).question for name in asked["predict"])
    assert not asked["predict"] & asked["check"]


@settings(deadline=None)
@given(value=st.floats(0.01, 1e6))
def test_only_what_is_near_is_right(value: float) -> None:
    answer = 100 / (10 + 90 / 8)
    assert told("8.2", value)[0] == math.isclose(value, answer, rel_tol=0.01)


@settings(deadline=None)
@given(ranks=st.sampled_from([4, 8, 16, 64, 512]), latency=st.floats(1e-6, 1e-2), rate=st.floats(1e6, 1e12))
def test_ring_and_tree_are_equally_quick_where_they_cross(ranks: int, latency: float, rate: float) -> None:
    message = answers07.crossing_bytes(ranks, latency, rate)
    ring_s = 2 * (ranks - 1) * (latency + message / ranks / rate)
    tree_s = 2 * math.log2(ranks) * (latency + message / rate)
    assert ring_s == pytest.approx(tree_s)


@pytest.mark.parametrize("delay", [0, 1, 2, 4, 7])
def test_late_gradients_converge_below_the_steepest_rate_and_not_above(delay: int) -> None:
    def away(rate: float) -> float:
        past = [1.0] * (delay + 1)
        for _ in range(6000):
            past.append(past[-1] - rate * past[-1 - delay])
        return abs(past[-1])

    steepest = answers08.steepest_rate(delay)
    assert away(0.98 * steepest) < 1e-3
    assert away(1.02 * steepest) > 1e3


@settings(deadline=None)
@given(wanted=st.floats(1, 1e4), per_core=st.floats(50, 1e4))
def test_so_many_cores_are_enough_and_one_less_is_not(wanted: float, per_core: float) -> None:
    asked = {"wanted": wanted, "per_core": per_core}
    right = [n for n in range(math.ceil(wanted / per_core) + 2) if answers06.judge_cores(n, asked).right]
    assert len(right) == 1
    assert right[0] * per_core >= wanted * (1 - 1e-12)
    assert (right[0] - 1) * per_core < wanted


def test_wrong_values_become_factors_and_the_right_one_none() -> None:
    assert values(4.0, {2.0: "half", 4.0: "right"}) == {0.5: "half"}


def test_every_cell_of_the_map_has_a_way_home() -> None:
    assert set(maze.ways_home()) == maze.CELLS


def test_ways_home_are_those_of_another_library() -> None:
    networkx = pytest.importorskip("networkx")
    graph = networkx.Graph()
    graph.add_weighted_edges_from((cell, to, step) for cell in maze.CELLS for to, step in maze.steps(cell))
    assert maze.ways_home() == pytest.approx(networkx.single_source_dijkstra_path_length(graph, maze.GOAL))


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0, 1), raised=st.sampled_from(sorted(maze.CELLS - {maze.GOAL})))
def test_a_judge_of_estimates_finds_one_cell_that_exceeds_the_way(share: float, raised: maze.Cell) -> None:
    home = maze.ways_home()

    def between(cell: maze.Cell) -> float:
        return share * octile(cell) + (1 - share) * home[cell]

    assert answers09.judge_estimate(between, {}).right
    verdict = answers09.judge_estimate(lambda cell: home[cell] + (cell == raised), {})
    assert not verdict.right
    assert str(raised) in verdict.because


#: What a learner who knows would write in place of ``None``.
WRITTEN = {
    "5.3": "new.memory_bytes_per_s / (2 * model.parameter_count)",
    "6.4": '-(-wanted["h100-sxm5-80gb"] // rate["loader.decode"])',
    "9.4": "(proof.candidates - proof.estimated) / proof.estimated",
}


def solved(cell: Cell) -> Cell:
    """The cell with a guess at every prediction and the right answer at every exercise."""

    def written(match: re.Match[str]) -> str:
        return f'check("{match[1]}", {WRITTEN.get(match[1], repr(ANSWERS[match[1]][1]))}'

    source = re.sub(r'\bcheck\("([\d.]+)", None', written, cell.source)
    source = source.replace("return ...  # a number", "return max(across, down) + (2**0.5 - 1) * min(across, down)")
    return replace(cell, source=re.sub(r'\bpredict\("([\d.]+)", None', r'predict("\1", 2.0', source))


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_the_lab_runs_and_right_answers_are_right(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nbclient")
    for module in lab(number).needs:
        pytest.importorskip({"pillow": "PIL"}.get(module, module))
    monkeypatch.setenv(QUICK, "1")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "progress.json"))
    answered = replace(lab(number), cells=tuple(solved(cell) for cell in lab(number).cells))
    assert "None" not in [
        guess for cell in answered.cells for guess in re.findall(r'predict\("[\d.]+", (\w+)', cell.source)
    ]
    ran = execute(notebook(answered), tmp_path)
    if "does not tell enough of" in ran.fault and catalogue_cpu(inspect())[0] is None:
        pytest.skip("a CPU that the catalogue does not know")
    assert ran.fault == ""
    assert ran.states == {name: RIGHT for name in exercises(number)}
    assert set(json.loads((tmp_path / "progress.json").read_text())["solved"]) == set(exercises(number))


def test_the_picture_of_a_search_is_a_map_for_each() -> None:
    pytest.importorskip("vl_convert")
    way = [maze.START, maze.GOAL]
    drawn = maze.picture({"one": (1.0, way, way), "other": (2.0, way, way)})._repr_mimebundle_()["text/html"]
    assert "one: 2 cells, way 1.00" in drawn
    assert "other: 2 cells, way 2.00" in drawn
