"""Buying for a load that varies: the number of machines is the cheapest of all, and people can ask for it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.cli.main import main
from rigwise.errors import InvalidInputError
from rigwise.market.break_even import UnitCosts
from rigwise.market.load import answer_load, read_load, split_of, unit_costs
from rigwise.market.ownership import MONTH_H, Conditions, Purchase, total_cost
from rigwise.workload.job import Horizon

FLAGS = ["resnet18", "--samples", "1e8", "--batch", "256", "--device", "rtx-4090", "--max-price-age", "20000d"]


@pytest.fixture
def run(capfd):
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["plan", *FLAGS, *arguments])
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return run


@given(
    st.lists(st.floats(0, 60), min_size=1, max_size=6).filter(any),
    st.floats(3600, 40 * 3600),
    st.floats(0, 5000),
    st.floats(0, 1),
    st.floats(0, 4),
)
def test_no_other_number_of_machines_is_cheaper(jobs, own_s, fixed, own, rent) -> None:
    costs = UnitCosts(fixed_usd=fixed, own_usd_per_h=own, rent_usd_per_h=rent)
    answer = answer_load(jobs, own_s, costs, months=6.0)
    work_s = [jobs[week % len(jobs)] * own_s for week in range(answer.weeks)]
    every = [split_of(number, work_s, costs) for number in range(answer.best.machines + 20)]
    assert answer.best.cost_usd == pytest.approx(min(split.cost_usd for split in every))
    assert answer.best.owned_s + answer.best.rented_s == pytest.approx(sum(work_s))
    assert all(other.cost_usd >= answer.best.cost_usd * (1 - 1e-9) for other in answer.others)


def test_a_machine_costs_what_owning_it_costs() -> None:
    box = Purchase(price_usd=2000.0, host_w=60.0, idle_w=30.0, psu_efficiency_frac=0.9)
    where = Conditions(usd_per_kwh=0.3)
    costs = unit_costs(box, where, 300.0, 24.0, 1.0)
    for hours_per_week in (1.0, 40.0, 168.0):
        total = total_cost(box, where, 300.0, Horizon(months=24.0, hours_per_week=hours_per_week)).total_usd
        worked_h = 24.0 * MONTH_H * hours_per_week / 168
        assert costs.cost_usd(1, worked_h * 3600, 0.0) == pytest.approx(total)


def test_a_dearer_rent_never_buys_less() -> None:
    bought = []
    for rent in (0.1, 0.5, 1.0, 2.0, 8.0):
        costs = UnitCosts(fixed_usd=1000.0, own_usd_per_h=0.1, rent_usd_per_h=rent)
        bought.append(answer_load([0.0, 50.0, 200.0], 10 * 3600.0, costs, months=12.0).best.machines)
    assert bought == sorted(bought)
    assert bought[0] == 0
    assert bought[-1] > 1


@pytest.mark.parametrize("text", ["", "0,0", "-1", "nan", "inf", "three", "1e9", "1,2;3", ",".join(["1"] * 2000)])
def test_what_is_no_load_is_refused(text) -> None:
    with pytest.raises(InvalidInputError, match="--load"):
        read_load(text, "--load")


def test_the_answer_fits_80_columns(run) -> None:
    code, out, err = run("--explain", "buying", "--load", "3,0,400")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for words in ("a load of 3, 0, 400 jobs a week", "cheapest", "buy or rent:"):
        assert words in out


def test_the_document_holds_the_load_of_a_file(run, tmp_path) -> None:
    file = tmp_path / "weeks.txt"
    file.write_text("3\n0\n400\n")
    answer = json.loads(run("--explain", "buying", "--load", str(file), "--json")[1])
    assert answer["schema"] == "rigwise.plan.buying/1"
    load = answer["load"]
    assert load["jobs_by_week"] == [3, 0, 400]
    assert load["best"]["cost_usd"] <= min(other["cost_usd"] for other in load["others"])
    rented = next(one for one in (load["best"], *load["others"]) if one["machines"] == 0)
    jobs = sum(load["jobs_by_week"][week % 3] for week in range(load["weeks"]))
    assert rented["cost_usd"] == pytest.approx(jobs * load["rent_job_usd"])


def test_a_load_belongs_to_buying(run) -> None:
    for more in ((), ("--explain", "choice")):
        code, out, err = run("--load", "3", *more)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "--load is for --explain buying" in err
