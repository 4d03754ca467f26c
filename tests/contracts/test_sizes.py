"""Files to 400 lines, functions to 50, six parameters; exceptions stand in pyproject.toml with a reason."""

import ast
import tomllib

import pytest

FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 50, 6


@pytest.fixture(scope="module")
def exceptions(root) -> dict[str, str]:
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return settings["tool"]["rigwise"]["size-exceptions"]


@pytest.fixture(scope="module")
def oversized(modules) -> dict[str, str]:
    """``path`` or ``path:function`` of everything too large, and how large it is."""
    found = {}
    for module in modules:
        if (lines := module.text.count("\n")) > FILE_LINES:
            found[module.path] = f"{lines} lines"
        for function in module.functions():
            name = f"{module.path}:{function.name}"
            start = function.body[1] if len(function.body) > 1 and has_docstring(function) else function.body[0]
            if (lines := function.end_lineno - start.lineno + 1) > FUNCTION_LINES:
                found[name] = f"{lines} lines of code"
            arguments = function.args
            named = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            count = len([a for a in named if a not in ("self", "cls")])
            if count > PARAMETERS and not is_command(function):
                found[name] = f"{count} parameters"
    return found


def has_docstring(function) -> bool:
    return ast.get_docstring(function) is not None


def is_command(function) -> bool:
    """A command has as many parameters as it has flags."""
    return any(".option" in ast.unparse(d) or ".argument" in ast.unparse(d) for d in function.decorator_list)


def test_nothing_is_larger_than_agreed(oversized, exceptions) -> None:
    assert {name: size for name, size in oversized.items() if name not in exceptions} == {}


def test_every_exception_is_needed_and_has_a_reason(oversized, exceptions) -> None:
    assert [name for name, reason in exceptions.items() if name not in oversized or len(reason) < 10] == []
