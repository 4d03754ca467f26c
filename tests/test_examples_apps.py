"""The worked examples run, and every item comes through."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rigwise.application.reader import read_application
from rigwise.cli.main import root

EXAMPLES = Path(__file__).parents[1] / "examples"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="worker processes inherit pipes, as on POSIX")


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """A copy of an example's folder, as the current folder."""
    before = set(sys.modules)

    def enter(name: str) -> Path:
        shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("shards", "__pycache__"))
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.syspath_prepend(str(tmp_path / name))
        return tmp_path / name

    yield enter
    for module in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]


def run(*arguments: str) -> dict:
    result = CliRunner().invoke(root, ["run", *arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_the_classifier_classifies_every_jpeg(inside, monkeypatch):
    pytest.importorskip("PIL")
    pytest.importorskip("torch")
    folder = inside("classify-shards")
    runpy.run_path(str(folder / "make_shards.py"))["make"](folder / "shards", shards=2, images=6)
    found = run("app.toml", "--items", "24")
    assert [(c["name"], c["items_in"], c["waiting"]) for c in found["components"]] == [
        ("read", 0, 0), ("decode", 24, 0), ("resize", 24, 0), ("classify", 24, 0), ("count", 24, 0),
    ]  # fmt: skip
    assert found["components"][3]["batch_max"] == 16
    import stages

    assert sum(stages.counts.values()) == 24
    assert set(stages.counts) <= set(range(stages.CLASSES))


def test_without_shards_the_message_says_how_to_make_them(inside):
    pytest.importorskip("PIL")
    pytest.importorskip("torch")
    app = inside("classify-shards") / "app.toml"
    lines = app.read_text(encoding="utf-8").splitlines()
    app.write_text("\n".join(line for line in lines if not line.startswith("model =")))  # its cost is stated, too
    result = CliRunner().invoke(root, ["run", "app.toml", "--items", "2"])
    assert result.exception.exit_code == 1
    assert "run python make_shards.py" in str(result.exception)


def test_both_detectors_answer_for_every_frame(inside, monkeypatch):
    inside("camera-detectors")
    import detectors

    events: list[dict] = []
    monkeypatch.setattr(detectors, "alarm", events.append)
    found = run("app.toml", "--items", "10")
    components = {component["name"]: component for component in found["components"]}
    assert components["inspect"]["items_in"] == 40
    assert components["inspect"]["run"] == "process"
    assert components["gather"]["ratio"] == {"stated": 0.25, "measured": 0.25}
    assert components["combine"]["unmatched"] == 0
    assert len(events) == 10
    # each frame's answers are joined with that frame's, not with another's
    frames = detectors.camera()
    inspect = detectors.Inspect()
    for event in events:
        frame = next(frames)
        assert event["spots"] == detectors.find_spots(frame)
        assert event["score"] == pytest.approx(max(inspect(list(detectors.zones(frame)))))


@pytest.mark.parametrize("name", ["classify-shards", "camera-detectors"])
def test_an_example_is_an_application_whose_readme_names_its_parts(name):
    application = read_application(str(EXAMPLES / name / "app.toml"))
    readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    assert application.name == name
    assert [part for part in application.components if part not in readme] == []
    flags = {
        flag for command in ("run", "plan", "show") for p in root.get_command(None, command).params for flag in p.opts
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", readme)) <= flags


def test_costs_of_the_examples_are_measured_ones():
    for name in ("classify-shards", "camera-detectors"):
        application = read_application(str(EXAMPLES / name / "app.toml"))
        for component in application.components.values():
            assert component.costs["cpu"].source.startswith("measured alone")
