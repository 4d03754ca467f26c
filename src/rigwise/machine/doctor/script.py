"""What a training script says of itself, read as text and never run."""

from __future__ import annotations

import ast
from typing import Any

from rigwise.edge import read_text
from rigwise.errors import InvalidInputError

LIMIT_BYTES = 2 * 2**20


def read_script(path: str) -> dict[str, Any]:
    """Facts of a script: where it sets ``CUDA_VISIBLE_DEVICES``, where it first uses CUDA, and its data loaders.

    Raises:
        InvalidInputError: It cannot be read, or is no Python.
    """
    text = read_text(path, limit_bytes=LIMIT_BYTES)
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        raise InvalidInputError(f"{path} is no Python" + (f": line {line}" if line else "")) from None
    return script_facts(tree, path)


def script_facts(tree: ast.AST, path: str) -> dict[str, Any]:
    """The same of a parsed script.

    >>> script_facts(ast.parse("DataLoader(data, num_workers=4)"), "t.py")["script.loaders"]
    [{'line': 1, 'workers': 4, 'persistent': False}]
    """
    found: dict[str, Any] = {"script": path, "script.loaders": []}
    for node in ast.walk(tree):
        line = getattr(node, "lineno", None)
        if _sets_visible(node):
            found.setdefault("script.visible_line", line)
        elif isinstance(node, ast.Call):
            if _uses_cuda(node):
                found["script.cuda_line"] = min(line or 0, found.get("script.cuda_line", line or 0))
            if ast.unparse(node.func).rpartition(".")[2] == "DataLoader":
                found["script.loaders"].append(_loader(node))
    return found


def _sets_visible(node: ast.AST) -> bool:
    """``os.environ["CUDA_VISIBLE_DEVICES"] = ...``."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(
        isinstance(target, ast.Subscript)
        and ast.unparse(target.value).endswith("environ")
        and isinstance(target.slice, ast.Constant)
        and target.slice.value == "CUDA_VISIBLE_DEVICES"
        for target in targets
    )


def _uses_cuda(node: ast.Call) -> bool:
    name = ast.unparse(node.func)
    words = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
    asks = name.endswith((".to", "torch.device")) and any(str(word).startswith("cuda") for word in words)
    return name.endswith(".cuda") or (name.startswith("torch.cuda.") and not name.endswith("manual_seed")) or asks


def _loader(node: ast.Call) -> dict[str, Any]:
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    unpacked = None in given
    workers = given.get("num_workers")
    number = workers.value if isinstance(workers, ast.Constant) else None
    persistent = given.get("persistent_workers")
    known_off = isinstance(persistent, ast.Constant) and not persistent.value
    return {
        "line": node.lineno,
        "workers": 0 if workers is None and not unpacked else number,
        "persistent": unpacked or (persistent is not None and not known_off),
    }
