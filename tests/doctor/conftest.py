"""Machines for the doctor's tests."""

import importlib.util
from pathlib import Path

import pytest


def _trees():
    spec = importlib.util.spec_from_file_location("doctor_trees", Path(__file__).parent / "trees.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def trees():
    """The builder of captured trees."""
    return _trees()


@pytest.fixture
def checkup_of(trees, tmp_path):
    """A checkup of a described machine."""
    from rigwise.machine.doctor.checkup import check
    from rigwise.machine.doctor.script import read_script
    from rigwise.machine.probe.source import open_root

    def run(machine, name="tree"):
        script = None
        if "script" in machine:
            (tmp_path / "train.py").write_text(machine["script"])
            script = read_script(str(tmp_path / "train.py"))
        return check(open_root(trees.build(tmp_path / name, machine)), script=script)

    return run
