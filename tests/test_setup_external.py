"""What SkyPilot and dstack themselves say of their files; each in an environment of its own, where it is installed."""

import os
import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest

from rigwise.facts.environments import setup_facts

SHARED = runpy.run_path(str(Path(__file__).with_name("setup_places.py")))
files_of, places = SHARED["files_of"], SHARED["places"]
NAMES = ["one", "node", "nodes", "cpu"]


@pytest.mark.skipif(find_spec("sky") is None, reason="SkyPilot is not installed")
@pytest.mark.filterwarnings("default")
def test_skypilot_reads_its_tasks(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(os.environ, "SKYPILOT_DISABLE_USAGE_COLLECTION", "1")
    import sky

    for name in NAMES:
        (tmp_path / "task.yaml").write_text(files_of("skypilot", places()[name])["task.yaml"])
        task = sky.Task.from_yaml(str(tmp_path / "task.yaml"))
        assert task.num_nodes == places()[name].nodes
    (tmp_path / "task.yaml").write_text("resources:\n  acelerators: T4:1\n")
    with pytest.raises(ValueError, match="accelerators"):
        sky.Task.from_yaml(str(tmp_path / "task.yaml"))


@pytest.mark.skipif(find_spec("dstack") is None, reason="dstack is not installed")
@pytest.mark.filterwarnings("default")
def test_dstack_reads_its_tasks() -> None:
    import yaml
    from dstack._internal.core.models.configurations import parse_run_configuration

    for name in NAMES:
        place = places()[name]
        task = parse_run_configuration(yaml.safe_load(files_of("dstack", place)["job.dstack.yml"]))
        assert (task.nodes or 1) == place.nodes
        assert not place.has_gpu or task.resources.gpu.count.min == place.gpus_per_node
    from gpuhunt._internal.constraints import KNOWN_NVIDIA_GPUS

    assert set(setup_facts().accelerators.dstack.values()) <= {gpu.name for gpu in KNOWN_NVIDIA_GPUS}
    with pytest.raises(Exception, match="comands"):
        parse_run_configuration({"type": "task", "comands": ["true"]})
