"""Keys of the JSON documents, read off documents that the commands print, with their types and units; see ``build_reference.py``."""

from __future__ import annotations

import datetime
import importlib
import inspect
import json
import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))

ROOT = Path(__file__).parents[1]
#: Prices age: all documents are those of one day.
DAY = datetime.date(2026, 11, 21)
OWNED = '[[owned]]\nname = "box"\ndevice = "rtx-3090"\nusd_per_kwh = 0.3\n'
JOB = '[workload]\nmodel = "resnet18"\nsamples = "1M"\n[market]\ndevices = ["rtx-4090", "t4"]\n'
CARDS = ["--device", "rtx-4090", "--device", "t4"]
WORK = ["resnet18", "--samples", "1M", *CARDS]
#: What is asked of the commands; several answers of one kind show more of what a document may hold.
ASKED: tuple[tuple[str, ...], ...] = (
    ("predict", "resnet50", "--device", "rtx-4090", "--batch", "64"),
    ("predict", "llama-3.1-8b", "--device", "h100-sxm5-80gb", "--task", "decode", "--batch", "4"),
    ("predict", "gpt2", "--device", "rtx-3090", "--batch", "8", "--explain", "memory"),
    ("predict", "gpt2", "--device", "rtx-3090", "--batch", "64", "--count", "1,2,4", "--explain", "scaling"),
    ("predict", "llama-3.1-8b", "--device", "l40s", "--explain", "serving", "--batch", "1,8"),
    ("compare", "resnet50", "--device", "rtx-4090,t4", "--batch", "64"),
    ("plan", *WORK, "--deadline", "12h"),
    ("plan", *WORK, "--deadline", "1s"),
    ("plan", "stages.toml"),
    ("plan", "a.toml", "missing.toml"),
    ("plan", "a.toml", "b.toml", "--share", "--own", "machines.toml"),
    ("plan", "llama-3.1-8b", "--task", "serve", "--rate", "2/s", "--prompt", "1k", "--output", "100", "--device", "l40s"),
    ("plan", *WORK, "--spot", "--explain", "spot"),
    ("plan", *WORK, "--explain", "choice"),
    ("plan", *WORK, "--explain", "change"),
    ("plan", "resnet18", "--samples", "1e9", "--explain", "buying", "--max-price-age", "5000d"),
    ("plan", "examples/camera-detectors/app.toml"),
    ("plan", "verify", "plan.json"),
    ("rig", "check", "examples/rigs/alienware-aurora-r12.toml", "--for", "resnet18"),
    ("rig", "build", "--budget", "$900", "--for", "resnet18"),
    ("setup",),
    ("setup", "pip", "--device", "rtx-4090", "--driver", "550.54.15"),
    ("show", "resnet18", "--device", "rtx-4090", "--batch", "8"),
    ("trace", "trace.json", "--model", "resnet50", "--device", "rtx-4090", "--batch", "64"),
    ("inspect", "--root", "machine"),
    ("doctor", "--root", "machine"),
    ("doctor", "--root", "machine", "--error", "CUDA out of memory"),
    ("doctor", "--root", "machine", "--install", "torch"),
    ("devices", "--limit", "0"),
    ("cpus", "--limit", "0"),
    ("offers", "--limit", "200"),
    ("parts", "--limit", "0"),
    ("models",),
    ("offers", "lint", "--limit", "0"),
)  # fmt: skip
#: Objects whose keys are data, by the name they stand under.
MAPS = {
    "terms", "terms_s", "cost_terms", "pruned", "reasons", "placement", "rates_per_s", "busy_frac", "services", "refused",
    "memory_bytes", "files", "peak_flops_per_s", "basis", "binds", "sizes", "idle_s", "extra_links", "tasks", "by",
}  # fmt: skip
#: Of these, the keys of what stands inside are data as well.
NESTED = {"services", "refused"}
#: What the user wrote is not described again.
AS_WRITTEN = {"application"}
#: Objects that occur in many places are told once: what to call them, the keys by which they are known, and their anchor.
SHARED: tuple[tuple[str, frozenset[str]], ...] = tuple(
    (name, frozenset(keys.split()))
    for name, keys in {
        "case": "model device batch dtype parallel runtime",
        "result": "case step_time_s by_kind",
        "job": "model amount unit deadline_s",
        "plan": "rank kind provider instance",
        "infeasible": "type message hint",
        "division": "data tensor pipeline zero",
        "field": "value source confidence",
        "finding": "rule severity fix source",
        "part": "kind count name price_usd condition",
        "node": "path operators own children",
        "purchase": "device price_usd tax_frac resale_frac",
    }.items()
)
#: Types whose docstrings say what keys mean: of objects that are told once, and of elements of a list of some document.
DEFINED = {
    "plan": "rigwise.search.types:Plan", "job": "rigwise.workload.job:Job", "division": "rigwise.workload.case:Parallel",
    "devices[]": "rigwise.facts.device:Device", "cpus[]": "rigwise.facts.cpu:Cpu", "offers[]": "rigwise.facts.offer:Offer",
    "parts[]": "rigwise.facts.part:Part", "rigwise.plan/1 certificate": "rigwise.search.types:Certificate",
}  # fmt: skip
UNITS = (
    ("_bytes_per_unit", "B"),
    ("_flops_per_s", "FLOP/s"), ("_bytes_per_s", "B/s"), ("_per_s", "1/s"), ("_usd_per_h", "$/h"), ("usd_per_h", "$/h"),
    ("_usd_h", "$/h"), ("_usd_per_kwh", "$/kWh"), ("_usd", "$"), ("_bytes", "B"), ("_flops", "FLOP"), ("_frac", "fraction"),
    ("_gbps", "Gbit/s"), ("_hz", "Hz"), ("_w", "W"), ("_j", "J"), ("_s", "s"), ("_g", "g"), ("_c", "°C"), ("_v", "V"),
)  # fmt: skip
WHOLE = {
    "cost_terms": "$",
    "usd_per_million_tokens": "$",
    "flops": "FLOP",
    "macs": "multiply-adds",
    "bytes": "B",
    "flops_per_byte": "FLOP/B",
}
HEAD = """# Keys of the documents

This page is written by `python tools/build_reference.py` from documents that the commands print; what the keys mean stands in
[JSON](json.md). A type is what was met there: `null` only where it occurred. `[]` is an element of a list, `*` any key of an object
whose keys are data, `quantiles` is `{"p10", "p50", "p90"}`. The unit follows from the end of the name. Objects that occur in several
places are told once, at the end. What a key means comes from the type in the code, where there is one; keys that its docstring tells
together share a sentence. Documents of this machine alone (`watch`, `bench`, `run`, `history`, `calibrate`, `judge`,
`setup verify`) differ from machine to machine and are not here.
"""
QUANTILES = {"p10", "p50", "p90"}


def unit_of(key: str) -> str:
    """The unit that a name ends in.

    >>> unit_of("step_time_s"), unit_of("memory_bytes_per_s"), unit_of("count"), unit_of("macs")
    ('s', 'B/s', '', 'multiply-adds')
    """
    if key in WHOLE:
        return WHOLE[key]
    return next((unit for suffix, unit in UNITS if key.endswith(suffix)), "")


def kinds(value: Any) -> str:
    """What JSON calls a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return {str: "string", list: "list", dict: "object"}[type(value)]


def is_map(path: str, value: Mapping[str, Any]) -> bool:
    """Whether the keys of an object are data: names that are no identifiers, or one of the known ones."""
    if not value:
        return True
    last = path.replace(".*", "").rpartition(".")[2].removesuffix("[]")
    named = last in NESTED or (last in MAPS and not path.endswith("*"))
    return named or any(re.fullmatch(r"[a-z][a-z0-9_]*", key) is None for key in value)


Paths = dict[str, set[str]]


def walk(path: str, value: Any, found: Paths, shared: dict[str, Paths]) -> None:
    """Note the type of everything in a document, path by path; objects that occur again are noted apart."""
    name = next((name for name, keys in SHARED if isinstance(value, dict) and keys <= set(value)), "")
    if name and path:
        found.setdefault(path, set()).add(f"[{name}](#object-{name})")
        path, found = "", shared.setdefault(name, {})
    elif path:
        quantiles = isinstance(value, dict) and set(value) == QUANTILES
        found.setdefault(path, set()).add("quantiles" if quantiles else kinds(value))
        if quantiles:
            return
    if path in AS_WRITTEN:
        return
    if isinstance(value, list):
        for one in value:
            walk(f"{path}[]", one, found, shared)
    elif isinstance(value, dict):
        plain = not is_map(path, value)
        for key, one in value.items():
            walk(f"{path}.{key if plain else '*'}".lstrip("."), one, found, shared)


def places() -> Iterator[Path]:
    """A folder with the files that the questions name."""
    from doc_run import in_process

    before = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("a.toml", "b.toml"):
            (folder / name).write_text(JOB, encoding="utf-8")
        stages = "".join(
            f'[[stage]]\nname = "{name}"\nmodel = "resnet18"\nsamples = "1M"\n' for name in ("try", "train")
        )
        (folder / "stages.toml").write_text(f'{stages}[market]\ndevices = ["t4"]\n', encoding="utf-8")
        (folder / "machines.toml").write_text(OWNED, encoding="utf-8")
        (folder / "examples").symlink_to(ROOT / "examples")
        (folder / "trace.json").symlink_to(ROOT / "tests/data/trace/cuda-like.json")
        tree(ROOT / "tests/data/roots/dgx-h100.toml", folder / "machine")
        os.chdir(folder)
        own = {"RIGWISE_OFFERS": "none", "RIGWISE_CALIBRATION": "none", "RIGWISE_STORE": str(folder / "store.sqlite")}
        try:
            with mock.patch.dict(os.environ, own):
                (folder / "plan.json").write_text(in_process(["plan", *WORK, "--json"], DAY)[1], encoding="utf-8")
                yield folder
        finally:
            os.chdir(before)


def tree(table: Path, folder: Path) -> None:
    """A captured machine as files, from the table that the tests keep it in."""
    for name, content in tomllib.loads(table.read_text(encoding="utf-8")).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif "hex" in content:
            path.write_bytes(bytes.fromhex(content["hex"]))
        else:
            path.symlink_to(content["link"])


def documents() -> tuple[dict[str, tuple[list[str], Paths]], dict[str, Paths]]:
    """Schema -> the commands that print it, and the type of every path; objects that occur in several places."""
    from doc_run import in_process

    found: dict[str, tuple[list[str], Paths]] = {}
    shared: dict[str, Paths] = {}
    for _ in places():
        for words in ASKED:
            code, out, err = in_process([*words, "--json"], DAY)
            if code > 1 or not out:
                raise SystemExit(f"rigwise {' '.join(words)}: exit code {code}: {err}")
            document = json.loads(out)
            asked, paths = found.setdefault(document.pop("schema"), ([], {}))
            asked.append("rigwise " + " ".join(f"'{word}'" if "$" in word else word for word in words))
            walk("", document, paths, shared)
    return found, shared


def rows(paths: Paths, name: str = "") -> list[str]:
    """Lines of the table of a document or object; a list and its elements are one line."""
    lines = []
    for path, types in paths.items():
        if path.endswith("[]") or (types == {"object"} and any(other.startswith(f"{path}.") for other in paths)):
            continue
        words, (head, _, key) = type_words(path, paths), path.rpartition(".")
        last = next((part for part in reversed(path.split(".")) if part != "*"), "").removesuffix("[]")
        unit = unit_of(last) if re.search(r"number|quantiles|null", words) else ""
        owner = DEFINED.get(head or name) or DEFINED.get(f"{name} {head}")
        meaning = meanings(owner).get(key, "") if owner else ""
        lines.append(f"| `{path}` | {words} | {unit} | {meaning} |")
    return lines


@cache
def meanings(place: str) -> Mapping[str, str]:
    """Attribute -> what the docstring of a type, as ``module:name``, says of it."""
    module, _, name = place.partition(":")
    text = inspect.cleandoc(getattr(importlib.import_module(module), name).__doc__ or "")
    _, _, attributes = text.partition("Attributes:\n")
    found = {}
    for entry in re.findall(r"^ {4}(\w[^\n]*(?:\n {8}[^\n]*)*)", attributes, re.M):
        names, _, words = " ".join(entry.split()).partition(": ")
        words = words.replace("``", "`").replace("|", "&#124;").replace("<", "&lt;")
        found |= dict.fromkeys(re.split(r", ", names), "" if words.startswith("As in") else words)
    return found


def type_words(path: str, paths: Paths) -> str:
    """What a value is, a list with its elements.

    >>> type_words("a", {"a": {"list", "null"}, "a[]": {"number"}})
    'list of number or null'
    """
    words = paths[path] - {"list"}
    if "list" in paths[path]:
        words |= {f"list of {type_words(path + '[]', paths)}" if f"{path}[]" in paths else "list, empty here"}
    return " or ".join(sorted(words, key=lambda one: (one == "null", one)))


def keys_page(found: tuple[Mapping[str, tuple[Sequence[str], Paths]], Mapping[str, Paths]] | None = None) -> str:
    """The whole page."""
    by_schema, shared = documents() if found is None else found
    parts = [HEAD.rstrip()]
    for schema, (asked, paths) in by_schema.items():
        anchor = re.sub(r"[^a-z0-9]+", "-", schema.removeprefix("rigwise.").rpartition("/")[0])
        asked_words = "Of " + ", ".join(f"`{one}`" for one in asked) + "."
        parts += [f"## {schema} {{ #{anchor} }}", asked_words, table(paths, schema)]
    for name, paths in sorted(shared.items()):
        parts += [f"## object: {name} {{ #object-{name} }}", table(paths, name)]
    return "\n\n".join(parts) + "\n"


def table(paths: Paths, name: str) -> str:
    """The keys of one document or object; the column of meanings where there is one."""
    lines = ["| key | type | unit | |", "|---|---|---|---|", *rows(paths, name)]
    if all(line.endswith("|  |") for line in lines[2:]):
        lines = ["| key | type | unit |", "|---|---|---|", *(line.removesuffix("  |") for line in lines[2:])]
    return "\n".join(lines)
