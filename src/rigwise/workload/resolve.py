"""A case with every default filled in and named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rigwise.errors import UnsupportedError
from rigwise.facts.catalogue import torch_year
from rigwise.graph.graph import Graph, Model
from rigwise.graph.op import Role
from rigwise.graph.summary import WORD_OF_SYMBOL, check_sizes
from rigwise.workload.case import Case, check, with_data_parallel
from rigwise.workload.compiled_layout import compiled_layout

#: Language models above this many parameters are run in 16 bits unless a case says otherwise.
LARGE_MODEL_PARAMETERS = 1e9
DEFAULT_SEQUENCE = 1024
#: PyTorch 1.12 came out in this year; timm's tables for later versions were measured with its fast normalisation.
FAST_NORM_YEAR = 2022.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A case without open ends.

    Attributes:
        case: Every field that has a usual form holds it.
        sizes: Symbol sizes of one micro-batch of one replica.
        assumed: What was filled in, in words.
    """

    case: Case
    sizes: dict[str, int]
    assumed: tuple[str, ...]


def resolve(case: Case, model: Model) -> Resolved:
    """Fill in what the case leaves open.

    Raises:
        InvalidInputError: The case contradicts itself.
        UnsupportedError: It names a size that the model does not have.
    """
    check(case)
    graph = model.graph(case.task)
    symbols = graph.symbols
    assumed: list[str] = list(model.card.assumed)
    if case.task == "train" and "train" in model.captured_with:
        assumed.append("the backward pass is derived from inference, which has no dropout")
    filled: dict[str, Any] = {}
    for name, symbol, usual in (
        ("seq", "s", symbols.get("s") if not model.card.causal else DEFAULT_SEQUENCE),
        ("context", "c", DEFAULT_SEQUENCE),
        ("image_size", "p", symbols.get("p")),
    ):
        given = getattr(case, name)
        if symbol in symbols and given is None:
            filled[name] = usual
            assumed.append(f"{name.replace('_', ' ')} {usual}")
        elif symbol not in symbols and given is not None and not _belongs_elsewhere(model, symbol):
            fixed = _image_size(graph) if symbol == "p" else None
            if given != fixed:
                raise UnsupportedError(_no_such_axis(model.name, case.task, name, fixed), hint=_axes(symbols))
    if case.batch != 1 and "b" not in symbols:
        raise UnsupportedError(
            f"{model.name} has one batch only, so batch {case.batch} cannot be answered",
            hint=f"leave batch away: a step is what the {case.task} graph holds",
        )
    if case.dtype is None:
        large = model.parameter_count > LARGE_MODEL_PARAMETERS and model.card.causal
        filled["dtype"] = "bf16" if large else "fp32"
        assumed.append(f"dtype {filled['dtype']}")
    if case.optimizer is None:
        filled["optimizer"] = "adamw" if case.task == "train" else "none"
        if case.task == "train":
            assumed.append("optimizer adamw")
    filled["software"] = replace(case.software, fast_norm=_keeps_norms_narrow(case, model))
    assumed += _said_of_norms(case, filled)
    assumed += _said_of_input(case)
    full = with_data_parallel(replace(case, **filled))
    micro = full.parallel.micro_batch or 1
    by_symbol = {"b": micro, "s": full.seq, "c": full.context, "p": full.image_size}
    sizes = {symbol: int(value) for symbol in symbols if (value := by_symbol.get(symbol)) is not None}
    check_sizes(model.name, graph, sizes)
    return Resolved(case=_laid_out(full, graph, sizes), sizes=sizes, assumed=tuple(assumed))


def _laid_out(case: Case, graph: Graph, sizes: Mapping[str, int]) -> Case:
    """The case with the memory layout that a compiler gives its images."""
    if case.mode != "compiled" or case.layout != "nchw":
        return case
    return replace(case, layout=compiled_layout(graph, sizes, case.task))


def _keeps_norms_narrow(case: Case, model: Model) -> bool:
    """Whether group normalisation is kept out of autocast's hands: as said, or as the network is usually run."""
    if case.software.fast_norm is not None:
        return case.software.fast_norm
    is_recent = case.software.torch is None or torch_year(case.software.torch) > FAST_NORM_YEAR
    has_groups = any(op.name == "aten.native_group_norm" for op in model.graph(case.task).ops)
    return "timm" in model.captured_with and is_recent and has_groups


def _said_of_norms(case: Case, filled: Mapping[str, Any]) -> list[str]:
    is_autocast = (filled.get("dtype") or case.dtype or "").startswith("amp")
    taken = filled["software"].fast_norm and case.software.fast_norm is None
    return ["group normalisation in 16 bits, as in timm's benchmarks"] if taken and is_autocast else []


def _said_of_input(case: Case) -> list[str]:
    """What of an input pipeline is not in the answer."""
    if case.input is None:
        return []
    if case.input.read_bytes_per_s is None:
        return ["loading of input is not counted, as its read_bytes_per_s is not given"]
    return ["decoding of input is not counted, only reading"] if case.input.decode != "none" else []


def _belongs_elsewhere(model: Model, symbol: str) -> bool:
    """Whether another task of the model has this axis: ``seq`` may stand beside ``context``."""
    return any(symbol in graph.symbols for graph in model.graphs.values())


def _image_size(graph: Graph) -> int | None:
    """Height of the images that a graph of one fixed size takes, None if it takes none."""
    images = (t for op in graph.ops for t in op.inputs if t.role is Role.INPUT and len(t.shape) == 4)
    height = next((t.shape[2] for t in images), None)
    return height if isinstance(height, int) else None


def _no_such_axis(model: str, task: str, name: str, fixed: int | None) -> str:
    words = name.replace("_", " ")
    return f"{model} takes images of {fixed} only" if fixed else f"{model} has no {words} in its {task} graph"


def _axes(symbols: Iterable[str]) -> str:
    return "it varies with: " + ", ".join(WORD_OF_SYMBOL[s] for s in symbols)
