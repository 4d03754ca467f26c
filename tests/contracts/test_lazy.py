"""Starting rigwise costs nothing that the question does not need."""

import subprocess
import sys

import pytest

HEAVY = {
    "torch", "transformers", "onnx", "jax", "numpy", "pydantic", "altair", "vl_convert", "plotly", "rich",
    "ray", "sqlalchemy", "fastapi", "textual",
}  # fmt: skip

HELP = "import contextlib, rigwise.cli.main as m\nwith contextlib.suppress(SystemExit): m.main(['--help'])"


def loaded_by(code: str) -> set[str]:
    """Top-level names of the heavy packages that a fresh interpreter has loaded after ``code``."""
    report = "\nimport sys; print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(run.stdout.rpartition("LOADED")[2].split()) & HEAVY


@pytest.mark.parametrize("code", ["import rigwise", HELP], ids=["import", "help"])
def test_start_loads_nothing_heavy(code: str) -> None:
    assert loaded_by(code) == set()


def test_the_check_sees_a_heavy_import() -> None:
    assert "numpy" in loaded_by("import numpy")


def test_every_public_name_exists_and_is_listed() -> None:
    import rigwise

    for name in rigwise.__all__:
        assert getattr(rigwise, name) is not None
        assert name in dir(rigwise)
    with pytest.raises(AttributeError, match="no_such_name"):
        rigwise.no_such_name  # noqa: B018
