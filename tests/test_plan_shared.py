"""Jobs that share machines as people plan them: text, JSON, limits, verification, and what cannot be asked."""

import copy
import json

import pytest

from rigwise.cli.main import main

JOB = """
[workload]
model = "resnet18"
samples = "{samples}"
[constraints]
deadline = "{deadline}"
[market]
devices = ["l4"]
max_price_age = "20000d"
"""
OWN = """
[[owned]]
name = "desk"
device = "rtx-3090"
usd_per_h = 0.05
[[owned]]
name = "old"
device = "gtx-1080-ti"
usd_per_h = 0.05
"""


@pytest.fixture
def folder(tmp_path):
    """Three jobs, of which two are urgent, and two machines."""
    for name, samples, deadline in (("a", "20M", "8h"), ("b", "30M", "8h"), ("c", "20M", "3d")):
        (tmp_path / f"{name}.toml").write_text(JOB.format(samples=samples, deadline=deadline))
    (tmp_path / "own.toml").write_text(OWN)
    return tmp_path


@pytest.fixture
def rigwise(capfd):
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["plan", *(str(a) for a in arguments)])
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return run


@pytest.fixture
def share(rigwise, folder):
    """Plan the three jobs together."""
    jobs = [folder / f"{name}.toml" for name in "abc"]
    return lambda *more: rigwise(*jobs, "--share", "--own", folder / "own.toml", *more)


def test_the_answer_fits_80_columns(share) -> None:
    code, out, err = share()
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for words in ("3 jobs on 2 machines", "desk", "old", "gap 0 %"):
        assert words in out


def test_queues_follow_each_other_and_keep_their_deadlines(share) -> None:
    answer = json.loads(share("--json")[1])
    assert answer["schema"] == "rigwise.plan.shared/1"
    assert [one["name"][-6:] for one in answer["plans"]] == ["a.toml", "b.toml", "c.toml"]
    for machine in answer["machines"]:
        queue = sorted((one for one in answer["plans"] if one["machine"] == machine), key=lambda one: one["place"])
        end_s = 0.0
        for place, one in enumerate(queue, 1):
            assert one["place"] == place
            assert one["start_s"]["p50"] == pytest.approx(end_s)
            end_s = one["end_s"]["p50"]
            assert end_s == pytest.approx(one["start_s"]["p50"] + one["plan"]["time_s"]["p50"])
    for one, named in zip(answer["plans"], answer["question"]["jobs"], strict=True):
        assert one["end_s"]["p90"] <= named["job"]["deadline_s"]
    assert answer["cost_usd"]["p50"] == pytest.approx(answer["certificate"]["best"])
    assert answer["cost_usd"]["p50"] == pytest.approx(sum(one["plan"]["cost_usd"]["p50"] for one in answer["plans"]))


def test_a_shorter_deadline_of_all_never_costs_less(share) -> None:
    loose, tight = (json.loads(share("--json", "--deadline", deadline)[1]) for deadline in ("3d", "8h"))
    assert tight["certificate"]["best"] >= loose["certificate"]["best"]
    assert tight["end_s"]["p90"] <= 8 * 3600


def test_waiting_that_costs_nothing_is_put_up_with(share, folder) -> None:
    for name in "abc":
        (folder / f"{name}.toml").write_text(JOB.format(samples="20M", deadline="90d"))
    assert all(one["machine"] for one in json.loads(share("--json")[1])["plans"])
    for name in "abc":
        job = JOB.format(samples="20M", deadline="90d") + '[objective]\nvalue_of_time = "$1000/h"\n'
        (folder / f"{name}.toml").write_text(job)
    assert all(one["place"] <= 1 for one in json.loads(share("--json")[1])["plans"])


def cheaper(changed):
    changed["plans"][0]["plan"]["cost_usd"]["p50"] *= 0.9


def earlier(changed):
    changed["plans"][2]["start_s"]["p50"] += 60.0


def dearer_options(changed):
    for work in changed["certificate"]["works"]:
        for option in work["options"][1:]:
            option["number"] *= 2


def without_a_part(changed):
    changed["certificate"]["cover"].pop()


def other_total(changed):
    changed["cost_usd"]["p90"] *= 2


def other_deadline(changed):
    changed["question"]["deadline_s"] = 60.0


def elsewhere(changed):
    own = next(one for one in changed["plans"] if one["machine"])
    own["machine"] = next(name for name in changed["machines"] if name != own["machine"])


CHANGES = (cheaper, earlier, dearer_options, without_a_part, other_total, other_deadline, elsewhere)


def test_a_plan_is_verified_and_a_changed_one_rejected(share, rigwise, folder) -> None:
    file = folder / "plan.json"
    assert share("--output", file, "--quiet")[0] == 0
    assert rigwise("verify", file)[0] == 0
    answer = json.loads(file.read_text())

    for change in CHANGES:
        changed = copy.deepcopy(answer)
        change(changed)
        file.write_text(json.dumps(changed))
        code, out, _ = rigwise("verify", file, "--json")
        assert code == 1, change.__name__
        assert json.loads(out)["faults"], change.__name__


def test_a_plan_on_a_machine_that_costs_nothing_is_verified_too(share, rigwise, folder) -> None:
    (folder / "own.toml").write_text('[[owned]]\nname = "desk"\ndevice = "rtx-3090"\n')
    code, out, _ = share("--deadline", "30d", "--output", folder / "plan.json")
    assert code == 0
    assert "$0.00" in out
    assert rigwise("verify", folder / "plan.json")[0] == 0


def test_no_plan_is_one_line_and_a_document(share, folder) -> None:
    for name in "abc":
        job = JOB.format(samples="20M", deadline="90d").replace("[market]", 'hourly_cap = "$0.001"\n[market]')
        (folder / f"{name}.toml").write_text(job)
    alone = json.loads(share("--json")[1])
    assert all(one["machine"] for one in alone["plans"])
    shortest_s = min(one["plan"]["time_s"]["p90"] for one in alone["plans"])
    code, out, err = share("--json", "--deadline", f"{1.5 * shortest_s}s")
    assert code == 1
    assert "together" in json.loads(out)["infeasible"]["message"]
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "text", "words"),
    [
        (("--budget", "$3"), "", "--budget cannot be combined with --share"),
        (("--engine", "ray"), "", "--engine cannot be combined with --share"),
        (("--deadline", "soon"), "", "soon"),
        (("--deadline", "-3h"), "", "-10800"),
        (("--explain", "choice"), "", "--share"),
        ((), '[objective]\nminimize = "time"\n', "must agree"),
        ((), "[market.owned]\n", "market"),
        (("nothing.toml",), "", "nothing.toml"),
    ],
)
def test_what_cannot_be_asked_is_one_line(more, text, words, share, folder) -> None:
    file = folder / "c.toml"
    file.write_text(file.read_text() + text)
    code, out, err = share(*more)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_two_machines_of_one_name_are_refused(rigwise, folder) -> None:
    for name, price in (("a", 0.1), ("b", 0.2)):
        file = folder / f"{name}.toml"
        machine = f'[[market.owned]]\nname = "desk"\ndevice = "rtx-3090"\nusd_per_h = {price}\n'
        file.write_text(file.read_text() + machine)
    code, _, err = rigwise(folder / "a.toml", folder / "b.toml", "--share")
    assert code == 2
    assert "'desk'" in err
