"""Which layout a compiler gives images, and what its kernels that normalise and sum over pixels cost."""

import pytest

from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.columns import columns
from rigwise.estimate.setting import Setting
from rigwise.estimate.streaming import streaming
from rigwise.facts.catalogue import device
from rigwise.graph.graph import Graph
from rigwise.graph.load import load_model
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.workload.case import Case
from rigwise.workload.compiled_layout import compiled_layout
from rigwise.workload.resolve import resolve
from rigwise.workload.table import tabulate


def conv(outputs: int, inputs: int, kernel: int = 3, groups: int = 1, side: int = 28) -> Op:
    weight = Tensor((outputs, inputs // groups, kernel, kernel), role=Role.PARAMETER)
    return Op(
        name="aten.convolution",
        kind=Kind.CONV,
        phase=Phase.FORWARD,
        inputs=(Tensor((8, inputs, side, side)), weight),
        outputs=(Tensor((8, outputs, side, side)),),
        attrs={"groups": groups},
    )


def picked(*convs: Op, task: str = "infer") -> str:
    return compiled_layout(Graph(ops=convs, symbols={}), {}, task)


@pytest.mark.parametrize(
    ("convs", "infer", "train"),
    [
        ((), "nchw", "nchw"),
        ((conv(256, 256),), "nhwc", "nhwc"),
        ((conv(256, 256, groups=4),), "nchw", "nchw"),
        ((conv(256, 256, groups=256), conv(256, 256, 1)), "nhwc", "nhwc"),  # depthwise is no group to it
        ((conv(256, 256, groups=4, side=7), conv(256, 256)), "nhwc", "nchw"),  # little of the work, but there
        ((conv(64, 256), conv(256, 64)), "nhwc", "nchw"),  # half as many channels come out
        ((conv(64, 256, 1), conv(256, 64)), "nhwc", "nhwc"),
        ((conv(32, 64), conv(64, 32)), "nhwc", "nchw"),  # small ones only
    ],
)
def test_the_rule_of_the_compiler(convs: tuple[Op, ...], infer: str, train: str) -> None:
    assert (picked(*convs), picked(*convs, task="train")) == (infer, train)


def test_a_third_of_the_work_in_groups_is_where_it_turns() -> None:
    dense = conv(256, 256, 1)
    groups = conv(256, 256, 1, groups=4)
    assert picked(*[groups] * 3, *[dense] * 2) == "nhwc"  # 27 %
    assert picked(*[groups] * 9, *[dense] * 4) == "nchw"  # 36 %


def test_a_case_says_what_the_compiler_picked() -> None:
    def layout(name: str, **fields: str) -> str:
        return resolve(Case(model=name, device="", task="infer", **fields), load_model(name)).case.layout

    assert layout("resnet50") == "nchw"
    assert layout("resnet50", mode="compiled") == "nhwc"
    assert layout("bert-base", mode="compiled") == "nchw"  # no images
    assert layout("bert-base", mode="compiled", layout="nhwc") == "nhwc"  # what is given in NHWC stays so


def test_few_sums_over_large_images_hold_a_kernel_back() -> None:
    def seconds(images: int, channels: int, side: int, layout: str = "nhwc", *, sums: bool = True) -> float:
        image = Tensor((images, channels, side, side), "float16")
        kernel = Op(
            name="rigwise.fused",
            kind=Kind.NORM,
            phase=Phase.FORWARD,
            inputs=(image,),
            outputs=(image, Tensor((images, channels, 1, 1), "float16")),
            attrs={"members": 3} | ({"sums_pixels": True} if sums else {}),
        )
        calibration = load_calibration()
        where = columns([device("rtx-4090")], calibration)
        setting = Setting(layout=layout, mode="compiled")
        return float(streaming(tabulate([kernel], {"b": 1}), where, calibration, setting)[1][0, 0, 0])

    def slowdown(*shape: int) -> float:
        return seconds(*shape) / seconds(*shape, sums=False)

    assert slowdown(256, 32, 112) > slowdown(256, 144, 56) > 2.0
    assert slowdown(256, 256, 56) == 1.0  # enough of them
    assert seconds(256, 32, 112, "nchw") == seconds(256, 32, 112, "nchw", sums=False)
