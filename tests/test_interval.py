"""Intervals of time: what widens them."""

from dataclasses import fields, replace

import numpy as np
import pytest

from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.interval import TERMS, step_spread, step_terms
from rigwise.estimate.learned import GROUPS
from rigwise.estimate.micro_step import MicroStep
from rigwise.estimate.predict import predict
from rigwise.workload.case import Case, Software

CALIBRATION = load_calibration()
CASE = Case(model="resnet50", device="rtx-3090", batch=64, dtype="amp-fp16", task="infer")


def micro_of(group: str, throttled_s: float = 0.0) -> MicroStep:
    """A forward pass of one second in one group of operators."""
    columns = {field.name: np.zeros(1) for field in fields(MicroStep)}
    columns["forward_s"] = np.ones(1)
    columns["throttled_s"] = np.full(1, throttled_s)
    return MicroStep(**{**columns, "group_s": np.eye(len(GROUPS))[[GROUPS.index(group)]]})


def spread(group: str, case: Case = CASE, throttled_s: float = 0.0) -> float:
    shares = {"compute": np.ones(1), "launch": np.zeros(1), "network": np.zeros(1)}
    return float(step_spread(np.zeros(1), micro_of(group, throttled_s), shares, case, CALIBRATION)[0])


@pytest.mark.parametrize("group", ["gemm", "attention", "streaming"])
def test_a_step_of_one_kind_is_as_uncertain_as_that_kind(group):
    assert spread(group) == pytest.approx(CALIBRATION.interval.of_term[group])


def test_channels_last_and_old_software_widen_convolutions_only():
    last = replace(CASE, layout="nhwc")
    old = replace(CASE, software=Software(year=2022))
    assert spread("conv", last) > spread("conv")
    assert spread("conv", old) > spread("conv")
    assert spread("streaming", last) == spread("streaming", old) == spread("streaming")


def test_older_than_old_widens_no_further():
    years = CALIBRATION.launch.reference_year - CALIBRATION.interval.most_years
    oldest = [replace(CASE, software=Software(year=int(years) - n)) for n in (1, 9)]
    assert spread("conv", oldest[0]) == spread("conv", oldest[1])


def test_a_clock_held_down_by_power_is_known_less_well():
    assert spread("gemm", throttled_s=0.4) > spread("gemm", throttled_s=0.1) > spread("gemm")


def test_every_constant_multiplies_something():
    shares = np.full((1, len(GROUPS)), 1 / len(GROUPS))
    cases = [
        replace(CASE, layout=layout, mode=mode, software=Software(year=2020))
        for layout, mode in (("nchw", "eager"), ("nhwc", "compiled"))
    ]
    found = sum(step_terms(shares, np.ones(1), case, CALIBRATION)[0] for case in cases)
    assert set(TERMS) == set(CALIBRATION.interval.of_term)
    assert (np.asarray(found) > 0).all()


@pytest.mark.parametrize(("device", "limit_w"), [("rtx-4090", 120.0), ("t4", 40.0)])
def test_a_lower_power_limit_slows_and_widens(device, limit_w):
    free = predict(replace(CASE, device=device, dtype="fp32"))
    held = predict(replace(CASE, device=device, dtype="fp32", power_limit_w=limit_w))
    width = [p.step_time_s["p90"] / p.step_time_s["p10"] for p in (free, held)]
    assert held.step_time_s["p50"] > free.step_time_s["p50"]
    assert width[1] > width[0]
