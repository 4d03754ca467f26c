"""An ONNX file as a model: walked at a few sizes, solved for its symbols, checked on one more size, folded.

Sizes are freed as far as the file lets them. A batch that the file fixes is tried free too, because exporters
write a 1 there that means nothing; where that does not work out it stays, and the model's card says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from rigwise.errors import CaptureError, RigwiseError, UnsupportedError
from rigwise.graph.capture.fold import fold, fold_parameters
from rigwise.graph.capture.from_onnx import contrib as onnx_contrib
from rigwise.graph.capture.from_onnx import control as onnx_control
from rigwise.graph.capture.from_onnx import elementwise as onnx_elementwise
from rigwise.graph.capture.from_onnx import layout as onnx_layout
from rigwise.graph.capture.from_onnx import matrix as onnx_matrix
from rigwise.graph.capture.from_onnx import ml as onnx_ml
from rigwise.graph.capture.from_onnx import pick as onnx_pick
from rigwise.graph.capture.from_onnx import quant as onnx_quant
from rigwise.graph.capture.from_onnx import reduce as onnx_reduce
from rigwise.graph.capture.from_onnx.file import Const, Net, read_net
from rigwise.graph.capture.from_onnx.inputs import Plan, plan_of
from rigwise.graph.capture.from_onnx.trace import Rule, Tracer
from rigwise.graph.capture.from_onnx.value import Value
from rigwise.graph.capture.solve import WORDS, predicts, solved
from rigwise.graph.capture.subject import REFERENCE_BATCH, ROUND_SIDES, SAMPLES
from rigwise.graph.count import BYTES_OF_DTYPE
from rigwise.graph.graph import Card, Graph, Model
from rigwise.graph.passes.backward import with_training

#: How the operators of each domain are run.
RULES: Mapping[str, Mapping[str, Rule]] = {
    "": {
        **onnx_elementwise.RULES,
        **onnx_layout.RULES,
        **onnx_pick.RULES,
        **onnx_matrix.RULES,
        **onnx_reduce.RULES,
        **onnx_quant.RULES,
        **onnx_control.RULES,
    },
    "com.microsoft": onnx_contrib.RULES,
    "ai.onnx.ml": onnx_ml.RULES,
}

#: Sizes of the walk that checks the others; a model may stop short of the first.
_REFERENCES = ({"s": 1024, "p": 224}, {"s": 512, "p": 256}, {"s": 128, "p": 512}, {"s": 40, "p": 640})

#: For models with few positions.
_SHORT = (17, 31, 29, 19, 37, 23)

#: Operands that are settings or statistics, not weights.
_NO_WEIGHT_TEXT = """
    BatchNormalization.3 BatchNormalization.4 QuantizeLinear.1 QuantizeLinear.2 DequantizeLinear.1 DequantizeLinear.2
    Resize.1 Resize.2 Upsample.1 Clip.1 Clip.2 Pad.2 QLinearConv.1 QLinearConv.4 QLinearConv.6 QLinearMatMul.1
    QLinearMatMul.4 QLinearMatMul.6 MatMulNBits.2 MatMulNBits.3
"""
_NO_WEIGHT = frozenset(_NO_WEIGHT_TEXT.split())

#: Operands that are weights even where a node fills them with one number.
_WEIGHT_TEXT = """
    Conv.1 Conv.2 ConvTranspose.1 ConvTranspose.2 Gemm.1 Gemm.2 MatMul.1 BatchNormalization.1 BatchNormalization.2
    LayerNormalization.1 LayerNormalization.2 LSTM.1 LSTM.2 LSTM.3 GRU.1 GRU.2 GRU.3 Gather.0 PRelu.1
"""
_WEIGHT = frozenset(_WEIGHT_TEXT.split())


def model(request: Mapping[str, Any]) -> Model:
    """The model of a request: ``path``, ``where`` and ``name``."""
    net = read_net(Path(request["path"]), request["where"])
    return with_training(_Capture(net, plan_of(net, request["where"]), request["where"], request["name"]).model())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """Which sizes to leave free, at which sizes to walk, and what it means for the model."""

    free: Mapping[str, tuple[int, ...]]
    fixed: Mapping[str, int]
    plan: Plan
    note: str = ""


class _Capture:
    """One file on its way to a model."""

    def __init__(self, net: Net, plan: Plan, where: str, name: str) -> None:
        self.net, self.plan, self.where, self.name = net, plan, where, name
        self.notes: dict[str, None] = {}
        self.last: Tracer | None = None

    def model(self) -> Model:
        graphs = {task: self.task(task) for task in self.plan.tasks}
        parameters, buffer_bytes = self._parameters()
        notes = (*self.net.notes, *self.plan.notes, *self.notes)
        card = Card(
            title=self.name,
            source=self.where,
            causal="decode" in graphs,
            assumed=tuple(note[:1000] for note in notes[:100]),
        )
        made_by = {"onnx": onnx.__version__, "opset": str(self.net.opsets.get("", 0))}
        if self.net.producer:
            made_by["producer"] = self.net.producer
        return Model(
            name=self.name,
            card=card,
            parameters=fold_parameters(parameters),
            graphs=graphs,
            buffer_bytes=buffer_bytes,
            captured_with=made_by,
        )

    def task(self, task: str) -> Graph:
        """The folded symbolic graph of one task."""
        faults: list[RigwiseError] = []
        for attempt in _attempts(self.plan, task):
            try:
                graph = self._solved(task, attempt)
            except UnsupportedError:
                raise
            except RigwiseError as error:
                faults.append(error)
            else:
                if attempt.note:
                    self.notes[attempt.note] = None
                return graph
        raise faults[-1]

    def walk(self, task: str, attempt: _Attempt, sizes: Mapping[str, int], base: Any = None) -> tuple[Graph, Tracer]:
        """One pass at given sizes."""
        whole = {**attempt.fixed, **sizes}
        tracer = Tracer(self.net, self.where, RULES, base)
        tracer.net_size = lambda dim: attempt.plan.size(dim, whole)
        graph, outputs = tracer.run(attempt.plan.values(task, whole), sizes)
        if base is not None:
            _check_growth(outputs, sizes["b"], self.plan.fixed_batch, self.where)
        return graph, tracer

    def _solved(self, task: str, attempt: _Attempt) -> Graph:
        """The graph with these symbols free, proven on a walk at another size."""
        check, attempt, base = self._checked(task, attempt)
        if not attempt.free:
            return fold(check)

        def prove(graph: Graph) -> Graph:
            predicts(graph, check)
            return replace(fold(graph), symbols=dict(check.symbols))

        what = f"{self.name} ({task})"
        return solved(lambda sizes: self.walk(task, attempt, sizes, base)[0], attempt.free, prove, what)

    def _checked(self, task: str, attempt: _Attempt) -> tuple[Graph, _Attempt, Any]:
        """A walk at usual sizes, the attempt with sizes for what it fixes, and the shapes of the file's own batch."""
        faults: list[RigwiseError] = []
        for reference in _REFERENCES:
            usual = {**reference, "b": REFERENCE_BATCH, "c": reference["s"]}
            fixed = {**{symbol: usual[symbol] for symbol in WORDS}, **attempt.fixed}
            now = replace(attempt, fixed=fixed)
            sizes = {symbol: usual[symbol] for symbol in attempt.free}
            base = None
            try:
                if attempt.plan is not self.plan:
                    own = replace(now, plan=self.plan)
                    base = self.walk(task, own, {k: v for k, v in sizes.items() if k != "b"})[1].values
                graph, tracer = self.walk(task, now, sizes, base)
            except RigwiseError as error:
                faults.append(error)
                if not {"s", "p", "c"} & set(attempt.free) and not attempt.note:
                    break
                continue
            self.last = tracer
            self.notes.update(tracer.notes)
            return graph, now, base
        raise faults[0]

    # Weights.

    def _parameters(self) -> tuple[list[tuple[str, tuple[int, ...], bool]], float]:
        """Name and shape of every weight that is read, and the bytes of all other constants."""
        tracer, parameters, buffer_bytes = self.last, [], 0.0
        if tracer is None:
            return [], 0.0
        for name, readers in tracer.readers.items():
            const = tracer.constants[name]
            elements = math.prod(const.shape)
            if name in tracer.weights or _is_weight(const, set(readers)):
                shape = tracer.weights.get(name) or const.shape
                parameters.append((_path(const, tracer.places[name]), shape, True))
            else:
                buffer_bytes += elements * float(BYTES_OF_DTYPE.get(const.dtype, 8))
        return parameters, buffer_bytes


def _is_weight(const: Const, readers: set[str]) -> bool:
    """Whether a constant is a weight, by its type and by what reads it."""
    if "float" not in const.dtype or math.prod(const.shape) < 2:
        return False
    return bool(readers & _WEIGHT) if const.filled else not readers <= _NO_WEIGHT


def _path(const: Const, place: str) -> str:
    """The name of a weight where that is a path, else where it is read."""
    name = const.name
    told = "." in name and not any(mark in name for mark in ("::", "/", ":")) and name.isprintable()
    return (name if told else place)[:250]


def _check_growth(outputs: list[Value], batch: int, fixed: int, where: str) -> None:
    """Every result must have grown with the batch, or the batch is not what its first axis is."""
    for value in outputs:
        if value.base is None or value.constant:
            continue
        if value.elements * fixed != value.base.elements * batch:
            raise CaptureError(f"{where}: its results do not grow with the batch")


def _attempts(plan: Plan, task: str) -> Iterator[_Attempt]:
    """All sizes free first, then fewer."""
    freed = [plan.with_free_batch()] if plan.fixed_batch else []
    for chosen in (*freed, plan):
        symbols, fixed = chosen.tasks[task]
        batch = f"the batch is fixed at {plan.fixed_batch}" if freed and chosen is plan else ""
        free = {symbol: SAMPLES[symbol] for symbol in symbols}
        yield _Attempt(free=free, fixed=fixed, plan=chosen, note=batch)
        if "p" in free:
            note = "image sides are multiples of 64"
            yield _Attempt(free={**free, "p": ROUND_SIDES}, fixed=fixed, plan=chosen, note=_both(batch, note))
        if "s" in free or "c" in free:
            short = {symbol: _SHORT if symbol in "sc" else sample for symbol, sample in free.items()}
            yield _Attempt(free=short, fixed=fixed, plan=chosen, note=batch)
    for chosen in (*freed, plan):
        symbols, fixed = chosen.tasks[task]
        free = {symbol: SAMPLES[symbol] for symbol in symbols if symbol == "b"}
        if len(free) < len(symbols):
            named = ", ".join(WORDS[symbol] for symbol in symbols if symbol != "b")
            yield _Attempt(free=free, fixed=fixed, plan=chosen, note=f"fixed: {named}")
    symbols, fixed = plan.tasks[task]
    if symbols:
        yield _Attempt(free={}, fixed=fixed, plan=plan, note=f"fixed: {', '.join(WORDS[s] for s in symbols)}")


def _both(first: str, second: str) -> str:
    return f"{first}; {second}" if first else second
