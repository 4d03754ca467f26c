"""What holds for every test."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def captures_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor fill the cache of whoever runs them, nor read what that person measured or imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIGWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("RIGWISE_CALIBRATION", "none")
        patch.setenv("RIGWISE_OFFERS", "none")
        patch.setenv("RIGWISE_STORE", str(tmp_path_factory.mktemp("store") / "measurements.sqlite"))
        yield


@pytest.fixture(scope="session")
def slurm() -> Iterator[Any]:
    """A real Slurm of a few nodes, as ``slurm_cluster.py`` makes it; skipped where none is installed."""
    spec = importlib.util.spec_from_file_location("slurm_cluster", Path(__file__).parent / "slurm_cluster.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    yield from module.session()
