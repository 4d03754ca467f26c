"""A build is proven again by a checker of its own, and a document that was changed is rejected."""

import copy
import json
from math import inf
from pathlib import Path

import pytest

from rigwise.cli.main import main
from rigwise.errors import InvalidInputError
from rigwise.graph.load import load_model
from rigwise.rig.build import Ask, build, document
from rigwise.rig.certificate import verify_build
from rigwise.rig.claim import read_claim
from rigwise.rig.options import Wish, new_options
from rigwise.rig.reader import read_rig
from rigwise.rig.speed import Speed
from rigwise.rig.types import KINDS
from rigwise.workload.choices import settle
from rigwise.workload.job import Job

R12 = Path(__file__).parents[1] / "examples" / "rigs" / "alienware-aurora-r12.toml"


def by_tdp(task, setups, confidence):
    """A toy estimator: cards are as fast as they are hungry, two are 1.8 times one."""
    cards = {option.parts[0].device: option.parts[0] for option in new_options(Wish())["gpu"]}
    return {
        s: Speed(samples_per_s=(cards[s.device].tdp_w or 1.0) * s.count**0.85, fit_probability=1.0)
        for s in setups
        if s.device in cards
    }


def answer(**asked):
    task = settle(Job(model="resnet50", amount=1e6, unit="samples"), load_model("resnet50"))
    return json.loads(json.dumps(document(build(Ask(task=task, **asked), by_tdp))))


@pytest.fixture(scope="module")
def plain():
    return answer(budget_usd=1500.0)


def faults(changed):
    return verify_build(read_claim(changed, "build.json"), by_tdp)


@pytest.mark.parametrize("budget_usd", [700.0, 1000.0, 4000.0, inf])
@pytest.mark.parametrize("minimize", ["time", "cost"])
def test_what_the_search_finds_is_proven(budget_usd, minimize) -> None:
    if (minimize, budget_usd) == ("time", inf):
        minimize = "cost"
    assert faults(answer(budget_usd=budget_usd, minimize=minimize)) == []


def test_an_upgrade_is_proven() -> None:
    owned = read_rig(R12.read_text(), R12.name)
    assert faults(answer(budget_usd=1200.0, owned=owned, mains=owned.mains)) == []


def total(changed):
    changed["total_usd"] -= 50.0


def price(changed):
    changed["chosen"][1]["price_usd"] -= 50.0
    changed["total_usd"] -= 50.0


def name(changed):
    changed["chosen"][0]["name"] = "GeForce RTX 9999"


def order(changed):
    changed["chosen"].reverse()


def figures(changed):
    changed["parts"][0]["tdp_w"] = 5.0


def finding(changed):
    changed["findings"].pop()


def speed(changed):
    changed["speed"]["samples_per_s"] *= 1.1


def time(changed):
    changed["time_s"] *= 0.9


def best(changed):
    changed["certificate"]["best"] *= 0.9


def bound(changed):
    changed["certificate"]["lower_bound"] *= 0.9


def count(changed):
    changed["certificate"]["candidates"] += 1


def budget(changed):
    changed["question"]["budget_usd"] = 500.0


def richer(changed):
    changed["question"]["budget_usd"] = 9000.0


def further(changed):
    changed["further"]["total_usd"] += 10.0


@pytest.mark.parametrize(
    "change",
    [total, price, name, order, figures, finding, speed, time, best, bound, count, budget, richer, further],
)
def test_what_is_falsified_is_rejected(change, plain) -> None:
    changed = copy.deepcopy(plain)
    change(changed)
    assert faults(changed)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_dearer_or_unfit_part_is_rejected(kind, plain) -> None:
    options = new_options(Wish())[kind]
    depth = KINDS.index(kind)
    for other in (options[0], options[-1]):
        changed = copy.deepcopy(plain)
        chosen = changed["chosen"][depth]
        if other.name == chosen["name"]:
            continue
        changed["total_usd"] += other.price_usd - chosen["price_usd"]
        chosen |= {"name": other.name, "price_usd": other.price_usd}
        assert faults(changed)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda plain: [], "no build"),
        (lambda plain: {**plain, "schema": "rigwise.plan/1"}, "no build"),
        (lambda plain: {key: value for key, value in plain.items() if key != "question"}, "its question"),
        (lambda plain: {**plain, "total_usd": "much"}, "total_usd"),
        (lambda plain: {**plain, "chosen": None}, "chosen"),
        (lambda plain: {**plain, "question": {**plain["question"], "more": 1}}, "more"),
    ],
)
def test_what_is_no_document_is_refused(change, words, plain) -> None:
    with pytest.raises(InvalidInputError, match=words):
        read_claim(change(plain), "build.json")


def test_code_is_not_run(plain) -> None:
    question = copy.deepcopy(plain["question"])
    question["job"]["model"] = "os:getcwd"
    with pytest.raises(InvalidInputError, match="code"):
        read_claim({**plain, "question": question}, "build.json")


def test_the_command_line_verifies_what_it_wrote(tmp_path, capfd) -> None:
    file = tmp_path / "build.json"

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["rig", *arguments])
        return stop.value.code, *capfd.readouterr()

    build_flags = ["--budget", "$900", "--device", "rtx-4060", "--device", "rtx-5060-ti-16gb", "--quiet"]
    assert run("build", *build_flags, "--output", str(file))[0] == 0
    code, out, err = run("verify", str(file))
    assert (code, err) == (0, "")
    assert "is better" in out
    changed = json.loads(file.read_text())
    changed["total_usd"] += 1.0
    file.write_text(json.dumps(changed))
    code, out, _ = run("verify", str(file), "--json")
    assert code == 1
    assert json.loads(out)["faults"]
    code, out, err = run("verify", str(tmp_path / "none.json"))
    assert (code, out, err.count("\n")) == (2, "", 1)
