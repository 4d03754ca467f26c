"""The pages that explain name files and functions; what they name is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "rigwise"
PAGES = sorted((ROOT / "docs" / "how").glob("*.md"))
#: "`estimate/gemm.py`: `products`, `wave_cost`" and "`estimate/gemm.py` (`blend`)".
NAMED = re.compile(r"`(\w+(?:/\w+)*\.py)`(?::? \(?((?:`\w+`(?:, | and )?)+))?")


def named(text: str) -> list[tuple[str, str]]:
    """Each file with each of the functions that stand behind it; a file alone with nothing."""
    found = []
    for file, functions in NAMED.findall(" ".join(text.split())):
        found += [(file, name) for name in re.findall(r"`(\w+)`", functions)] or [(file, "")]
    return found


def place_of(file: str) -> Path:
    """Where a file named in a page lies: below the package, or in the checkout."""
    return SOURCE / file if (SOURCE / file).exists() else ROOT / file


def defined(path: Path) -> set[str]:
    """Names of functions, classes and constants of a module."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    targets = [t for node in body if isinstance(node, ast.Assign) for t in node.targets]
    targets += [node.target for node in body if isinstance(node, ast.AnnAssign)]
    names = {t.id for t in targets if isinstance(t, ast.Name)}
    return names | {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_is_there(page: Path) -> None:
    found = named(page.read_text(encoding="utf-8"))
    assert found
    missing = {file for file, _ in found if not place_of(file).exists()}
    assert missing == set()
    assert [(file, name) for file, name in found if name and name not in defined(place_of(file))] == []


def test_a_file_or_function_that_is_not_there_is_seen() -> None:
    found = named("see `estimate/gemm.py`: `products`,\n`gone`; `estimate/gone.py` too")
    assert found == [("estimate/gemm.py", "products"), ("estimate/gemm.py", "gone"), ("estimate/gone.py", "")]
    assert "products" in defined(place_of("estimate/gemm.py"))
    assert "gone" not in defined(place_of("estimate/gemm.py"))
    assert not place_of("estimate/gone.py").exists()
