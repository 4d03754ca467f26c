"""Every formula says where it comes from. (That public things have docstrings at all is ruff's D rules.)"""

import ast
import re

import pytest

#: Modules whose public functions are formulas.
FORMULAS = re.compile(
    r"^(graph/count\.py|estimate/(?!__init__).*\.py|search/bounds\.py|market/(money|spot|break_even)\.py)$"
)

#: Modules among those that compute nothing of their own, and what they do instead.
NO_FORMULA = {
    "estimate/calibration.py": "reads a file",
    "estimate/columns.py": "lays facts out as arrays",
    "estimate/cases.py": "reads a file of cases",
}


def unsourced(module) -> list[str]:
    """Public functions with no ``Source:`` in their own docstring, their class's or the module's."""
    if "Source:" in (ast.get_docstring(module.tree) or ""):
        return []
    owners = {
        id(function): node
        for node in module.classes()
        for function in node.body
        if isinstance(function, ast.FunctionDef)
    }
    nested = {id(inner) for f in module.functions() for inner in ast.walk(f) if inner is not f}
    return [
        f"{module.path}:{function.name}"
        for function in module.functions()
        if not function.name.startswith("_")
        and id(function) not in nested
        and "Source:" not in (ast.get_docstring(function) or "")
        and "Source:" not in (ast.get_docstring(owners[id(function)]) or "" if id(function) in owners else "")
    ]


def test_every_formula_names_its_source(modules) -> None:
    formulas = [m for m in modules if FORMULAS.match(m.path) and m.path not in NO_FORMULA]
    assert formulas
    assert [name for module in formulas for name in unsourced(module)] == []


@pytest.mark.parametrize("path", NO_FORMULA)
def test_modules_without_formulas_exist(path: str, modules) -> None:
    assert path in {module.path for module in modules}
