"""Pictures of labs: what is drawn, and what is said where nothing can be."""

import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError
from rigwise.labs.pictures import Axis, Rule, Series, amount_text, bars, plot
from rigwise.report.figures.theme import NARROW_PX, bare

pytest.importorskip("altair")
pytest.importorskip("vl_convert")

ROWS = [{"n": 2**k, "s": 1e-3 * 2**k, "what": "here" if k % 2 else "there"} for k in range(8)]
X, Y = Axis(field="n", title="n", logarithmic=True), Axis(field="s", title="time", unit="s")
HEADING = ("A title", "A note")


def domain(picture, channel: str) -> tuple[float, float]:
    layers = bare(picture.figure)["layer"]
    return next(layer["encoding"][channel]["scale"]["domain"] for layer in layers if channel in layer["encoding"])


def rows_of(spec: dict) -> list[dict]:
    """The rows of the first layer, which Altair keeps apart."""
    return spec["datasets"][spec["layer"][0]["data"]["name"]]


def test_a_picture_is_svg_with_its_title_and_words_and_follows_the_page() -> None:
    shown = plot(ROWS, X, Y, heading=HEADING, series="what", rules=[Rule(x=16.0, text="a rule")])._repr_mimebundle_()
    assert shown["text/plain"] == "A title. A note"
    for words in ("<svg", "A title", "A note", "a rule", "here", "there", "currentColor", "time"):
        assert words in shown["text/html"]
    assert "<script" not in shown["text/html"]


def test_points_are_joined_or_not_as_asked() -> None:
    picture = plot(ROWS, X, Y, heading=HEADING, series=Series(field="what", loose=("here",), plain=("there",)))
    marks = [layer["mark"]["type"] for layer in bare(picture.figure)["layer"]]
    assert marks == ["line", "point"]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(1e-9, 1e15), min_size=1, max_size=20))
def test_every_value_lies_on_its_logarithmic_axis(values: list[float]) -> None:
    rows = [{"n": value, "s": 1.0} for value in values]
    low, high = domain(plot(rows, X, Y, heading=HEADING), "x")
    assert low <= min(values) <= max(values) <= high
    assert math.isfinite(low * high)


def test_a_linear_axis_begins_at_zero_unless_it_says_otherwise() -> None:
    assert domain(plot(ROWS, X, Y, heading=HEADING), "y")[0] == 0
    own = Axis(field="s", title="time", unit="s", low=0.5, high=1.0)
    assert list(domain(plot(ROWS, X, own, heading=HEADING), "y")) == [0.5, 1.0]


def test_bars_stand_on_the_edge_of_a_logarithmic_axis_and_carry_their_amounts() -> None:
    rows = [{"name": "a", "v": 1e-6}, {"name": "b", "v": 1e-3}]
    picture = bars(rows, "name", Axis(field="v", title="v", logarithmic=True, low=1e-8), heading=HEADING)
    assert [row["base"] for row in rows_of(bare(picture.figure))] == [1e-8, 1e-8]
    assert "0.001" in picture._repr_mimebundle_()["text/html"]


def test_parts_of_a_bar_are_stacked_in_their_order() -> None:
    rows = [{"name": "a", "v": v, "part": part} for part, v in (("first", 0.7), ("second", 0.3))]
    picture = bars(rows, "name", Axis(field="v", title="", unit="%"), heading=HEADING, part="part")
    spec = bare(picture.figure, NARROW_PX)
    assert spec["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["first", "second"]
    assert [row["part_place"] for row in rows_of(spec)] == [0, 1]


@pytest.mark.parametrize(("rows", "word"), [([], "no rows"), ([{"n": 1}], "s"), ([{"n": 1, "s": None}], "no rows")])
def test_rows_that_cannot_be_drawn_are_refused(rows: list, word: str) -> None:
    with pytest.raises(InvalidInputError, match=word):
        plot(rows, X, Y, heading=HEADING)


def test_without_the_extra_the_words_are_shown_and_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    shown = plot(ROWS, X, Y, heading=HEADING)._repr_mimebundle_()
    assert set(shown) == {"text/plain"}
    assert "rigwise[plot]" in shown["text/plain"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.25, "%", "25 %"), (2e9, "B/s", "2.00 GB/s"), (3.5, "$", "$3.50"), (1e6, "B", "1.00 MB"), (7, "", "7")],
)
def test_amounts_are_written_with_their_unit(value: float, unit: str, text: str) -> None:
    assert amount_text(value, unit) == text
