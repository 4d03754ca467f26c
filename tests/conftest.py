"""What holds for every test."""

from collections.abc import Iterator

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
