"""The collectives of a sharded Hugging Face model as a graph that holds nothing else.

Each is one operator ``collective.KIND`` on a message of so many elements; ``attrs`` hold its ``group``, the
``group_size`` and how many operators were issued before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rigwise.graph.capture.from_torch import hf_config
from rigwise.graph.capture.from_torch.fake import fake_tensors
from rigwise.graph.capture.from_torch.sharded import Collective, Layout, collectives
from rigwise.graph.count import BYTES_OF_DTYPE
from rigwise.graph.graph import Card, Graph, Model
from rigwise.graph.op import Attr, Kind, Op, Tensor


def model(request: Mapping[str, Any]) -> Model:
    """The model of a request: ``config``, ``name`` and ``where``, ``layout`` and ``sizes``."""
    layout, name = Layout(**request["layout"]), request["name"]
    with fake_tensors():
        subject = hf_config.subject(request["config"], name=name, where=request["where"])
        found = collectives(subject, request["sizes"], layout)
    ops = tuple(_op(one) for one in found)
    axes = ", ".join(f"{axis} {getattr(layout, axis)}" for axis in ("data", "tensor"))
    card = Card(title=f"collectives of {name}, {axes}", source=request["where"])
    return Model(name=name, card=card, parameters=(), graphs={"train": Graph(ops=ops, symbols={})})


def _op(one: Collective) -> Op:
    message = Tensor((round(one.message_bytes / BYTES_OF_DTYPE[one.dtype]),), one.dtype)
    attrs: dict[str, Attr] = {"group": one.group, "group_size": one.group_size, "position": one.position}
    return Op(
        name=f"collective.{one.kind}",
        kind=Kind.COLLECTIVE,
        phase=one.phase,
        inputs=(message,),
        outputs=(message,),
        attrs=attrs,
        module=one.module,
    )
