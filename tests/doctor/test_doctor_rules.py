"""Every rule fires where it should, stays quiet on a near neighbour, and no clean machine raises an alarm."""

import tomllib
from pathlib import Path

import pytest

from rigwise.machine.doctor.rules import function_of, rules
from rigwise.machine.doctor.types import Severity, Status

FAULTS = tomllib.loads((Path(__file__).parent.parent / "data" / "doctor" / "faults.toml").read_text("utf-8"))
CLEAN = ("laptop", "gaming", "dgx", "wsl2", "cloud")


def machine_of(trees, description):
    return trees.merged(
        trees.clean(description["base"]), {k: v for k, v in description.items() if k not in ("base", "also")}
    )


def found(checkup, rule):
    return next(finding for finding in checkup.findings if finding.rule == rule)


def fired(checkup) -> set[str]:
    return {finding.rule for finding in checkup.findings if finding.status is Status.PROBLEM}


def test_no_rule_is_without_both_fixtures() -> None:
    assert set(FAULTS) == set(rules())
    assert all(set(both) == {"fires", "quiet"} for both in FAULTS.values())


@pytest.mark.parametrize("rule", FAULTS)
def test_a_rule_fires_and_no_other_does(rule, trees, checkup_of) -> None:
    description = FAULTS[rule]["fires"]
    checkup = checkup_of(machine_of(trees, description))
    assert found(checkup, rule).status is Status.PROBLEM, found(checkup, rule).evidence
    assert fired(checkup) == {rule, *description.get("also", ())}


@pytest.mark.parametrize("rule", FAULTS)
def test_a_rule_is_quiet_on_a_near_neighbour(rule, trees, checkup_of) -> None:
    finding = found(checkup_of(machine_of(trees, FAULTS[rule]["quiet"])), rule)
    assert (finding.status, finding.applies) == (Status.OK, True), finding.evidence


@pytest.mark.parametrize("name", CLEAN)
def test_no_false_alarm_on_a_clean_machine(name, trees, checkup_of) -> None:
    checkup = checkup_of(trees.clean(name))
    assert [(f.rule, f.evidence) for f in checkup.findings if f.status is not Status.OK] == []
    assert not checkup.has_problems


def test_every_rule_names_a_test_and_says_what_to_do() -> None:
    for name, rule in rules().items():
        assert callable(function_of(rule)), name
        assert all((rule.fix, rule.explanation, rule.source, rule.title)), name


def test_findings_are_sorted_by_weight(trees, checkup_of) -> None:
    machine = trees.merged(trees.clean("laptop"), FAULTS["no-avx"]["fires"] | {"base": "laptop"})
    machine = trees.merged(machine, {"files": FAULTS["huge-pages"]["fires"]["files"]})
    order = [f.severity for f in checkup_of(machine).findings if f.status is Status.PROBLEM]
    assert order == [Severity.ERROR, Severity.NOTE]


def test_a_driver_that_hangs_is_a_problem(trees, checkup_of) -> None:
    said = {"nvidia-smi_-q_-x": "", "nvidia-smi_-L": "", "cuda-attributes": ""}
    hung = {"mute": True, "commands": said, "exits": dict.fromkeys(said, "hang")}
    checkup = checkup_of(trees.merged(trees.clean("gaming"), hung))
    assert fired(checkup) == {"cuda-start"}
    assert "did not answer" in found(checkup, "cuda-start").evidence


def test_a_snapshot_of_tools_that_hang_is_a_problem(trees, tmp_path) -> None:
    from rigwise.machine.doctor.checkup import check_snapshot
    from rigwise.machine.inspect import inspect
    from rigwise.machine.probe.source import open_root

    said = {"nvidia-smi_-q_-x": ""}
    files = {"proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t NVIDIA GeForce RTX 4090\n"}
    hung = {"mute": True, "files": files, "commands": said, "exits": dict.fromkeys(said, "hang")}
    hung = trees.merged(trees.clean("gaming"), hung)
    checkup = check_snapshot(inspect(open_root(trees.build(tmp_path / "tree", hung))), "hung.json")
    assert "tool-answers" in fired(checkup)
    assert "did not answer" in found(checkup, "tool-answers").evidence


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch", Status.PROBLEM),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", Status.OK),
    ],
)
def test_tools_that_fail_where_no_card_is(said, status, trees, checkup_of) -> None:
    failing = {"commands": {"nvidia-smi_-q_-x": said}, "exits": {"nvidia-smi_-q_-x": "18"}}
    checkup = checkup_of(trees.merged(trees.clean("laptop"), failing))
    assert found(checkup, "tool-answers").status is status
    assert fired(checkup) == ({"tool-answers"} if status is Status.PROBLEM else set())
    assert said.split(".")[0] in found(checkup, "tool-answers").evidence


def test_a_tree_that_cannot_be_read_is_unknown_not_wrong(trees, checkup_of, monkeypatch) -> None:
    from rigwise.machine.probe.source import Root, Unreadable

    def denied(root, called):
        raise Unreadable("permission denied")

    monkeypatch.setattr(Root, "_recorded", denied)
    variables = {"environment": {"CUDA_VISIBLE_DEVICES": "0,1"}, "cards": [], "gpus": []}
    checkup = checkup_of(trees.merged(trees.clean("gaming"), variables))
    assert found(checkup, "cuda-start").status is not Status.PROBLEM
    assert found(checkup, "visible-devices").status is Status.UNKNOWN
    assert fired(checkup) <= {"tool-answers"}


def test_an_empty_machine_is_unknown_not_wrong(tmp_path) -> None:
    from rigwise.machine.doctor.checkup import check
    from rigwise.machine.probe.source import open_root

    (tmp_path / "proc").mkdir()
    checkup = check(open_root(tmp_path))
    assert fired(checkup) == set()
    assert any(finding.status is Status.UNKNOWN for finding in checkup.findings)


def test_the_reference_lists_every_rule() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "reference" / "doctor.md").read_text("utf-8")
    rows = [f"| `{name}` | {rule.title} | {rule.severity} |" for name, rule in rules().items()]
    assert [row for row in rows if row not in page] == []
