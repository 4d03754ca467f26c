"""Every formula says where it comes from. (That public things have docstrings at all is ruff's D rules.)"""

import ast
import re

import pytest

#: Where formulas stand.
FORMULAS = re.compile(r"(graph/count|estimate/(?!__init__)\w+|search/bounds|market/(money|spot|break_even))\.py")

#: A function named after a unit computes a quantity.
QUANTITY = re.compile(r"\w*(_s|_bytes|_frac|_factor|_w|_j|_usd|_hz|macs|flops|_time|_bound)")

#: Modules there that compute nothing of their own, and what they do instead.
NO_FORMULA = {
    "estimate/calibration.py": "reads a file",
    "estimate/cases.py": "reads a file of cases",
    "estimate/columns.py": "lays facts out as arrays",
    "estimate/compare.py": "asks predict for several devices",
    "estimate/setting.py": "what of a case decides the times",
}


def unsourced(module) -> list[str]:
    """Public functions that compute a quantity without ``Source:`` in their docstring or the module's."""
    if "Source:" in (ast.get_docstring(module.tree) or ""):
        return []
    return [
        f"{module.path}:{function.name}"
        for function in module.functions()
        if not function.name.startswith("_")
        and QUANTITY.fullmatch(function.name)
        and "Source:" not in (ast.get_docstring(function) or "")
    ]


@pytest.fixture(scope="module")
def formulas(modules) -> list:
    found = [module for module in modules if FORMULAS.fullmatch(module.path) and module.path not in NO_FORMULA]
    assert found
    return found


def test_every_quantity_names_its_source(formulas) -> None:
    assert [name for module in formulas for name in unsourced(module)] == []


def test_every_module_of_formulas_names_a_source(formulas) -> None:
    assert [module.path for module in formulas if "Source:" not in module.text] == []


def test_modules_without_formulas_exist(modules) -> None:
    assert set(NO_FORMULA) <= {module.path for module in modules}


def test_the_check_sees_a_missing_source(modules) -> None:
    bare = ast.parse('"""Doc."""\ndef step_s():\n    """Time."""\ndef _hidden_s(): ...\ndef names(): ...')
    assert unsourced(type(modules[0])("x.py", "", bare)) == ["x.py:step_s"]
