"""Predictions for networks of the zoo beside published measurements, with loose thresholds.

Needs the folder of measured tables (``RIGWISE_MEASURED``); without it the tests are skipped and say so.
These rows are of devices and networks that the constants were set with: a regression shows here, not a claim.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from rigwise.calibrate.judge import Judgement, judge, sampled
from rigwise.calibrate.metrics import errors_of
from rigwise.calibrate.names import zoo_name
from rigwise.calibrate.shelf import Shelf
from rigwise.measurement.measurement import Measurement
from rigwise.measurement.tables import read_tables

TABLES = Path(os.environ.get("RIGWISE_MEASURED", "../shared/data/measured"))

pytestmark = pytest.mark.skipif(
    not TABLES.is_dir(), reason=f"no measured tables at {TABLES}; RIGWISE_MEASURED names them"
)


def of_table(name: str, count: int) -> list[Measurement]:
    """Rows of single devices, spread over the table, that ask about a network of the zoo or a matrix product."""
    rows, _ = read_tables([TABLES / f"{name}.csv"])
    able = [m for m in rows if m.count == 1 and (m.model == "op:gemm" or zoo_name(m.model))]
    return list(sampled(able, count))


@pytest.fixture(scope="module")
def found() -> Judgement:
    wanted = {"timm": 110, "neusight_e2e": 40, "cnn-benchmarks": 30, "aiconfigurator_gemm": 200}
    return judge([m for name, count in wanted.items() for m in of_table(name, count)], Shelf())


def error(found: Judgement, source: str, **labels: str) -> float:
    """Geometric error over all rows of a source, of those with at least these labels."""
    mask = np.array(
        [
            one.question.measurement.source == source
            and all(getattr(one.question.case, key) == value for key, value in labels.items())
            for one in found.rows.scores
        ]
    )
    errors = errors_of(found.rows.predicted_s, found.rows.measured_s, mask)
    assert errors is not None, (source, labels)
    return errors.geo_err_frac


@pytest.mark.parametrize(
    ("source", "labels", "most_frac"),
    [
        ("timm", {"device": "rtx-3090", "task": "infer"}, 0.25),
        ("timm", {"device": "rtx-4090"}, 0.25),
        ("timm", {"device": "core-i9-10940x"}, 0.80),
        ("neusight_e2e", {"device": "v100-pcie-32gb"}, 0.15),
        ("neusight_e2e", {"device": "t4"}, 0.25),
        ("cnn-benchmarks", {"device": "titan-x-pascal"}, 0.45),
        ("aiconfigurator_gemm", {"device": "h100-sxm5-80gb", "dtype": None}, 0.80),
    ],
)
def test_no_group_has_become_bad(source: str, labels: dict, most_frac: float, found) -> None:
    assert error(found, source, **labels) <= most_frac


def test_hardly_a_row_beats_its_bound(found) -> None:
    assert (~found.rows.trusted).mean() <= 0.005


def test_steps_are_foretold_better_than_by_simple_means(found) -> None:
    steps = found.rows.is_step
    own = errors_of(found.rows.predicted_s, found.rows.measured_s, steps)
    for fold, answers in found.answers.items():
        for name, predicted in answers.items():
            theirs = errors_of(predicted, found.rows.measured_s, steps & np.isfinite(predicted))
            same = errors_of(found.rows.predicted_s, found.rows.measured_s, steps & np.isfinite(predicted))
            if theirs is not None and name in ("flops", "roofline"):
                assert same.geo_err_frac < theirs.geo_err_frac, (fold, name)
    assert own.n >= 150


def test_intervals_cover_most_steps(found) -> None:
    inside = [one.p10_s <= one.measured_s <= one.p90_s for one in found.rows.scores if one.question.is_step]
    assert np.mean(inside) >= 0.5
