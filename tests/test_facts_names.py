"""What people, drivers and clouds call a device."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.errors import AmbiguousNameError, UnknownNameError
from rigwise.facts import catalogue
from rigwise.facts.names import Names, squash, words

RESOLVES = {
    # torch.cuda.get_device_name()
    "NVIDIA H100 80GB HBM3": "h100-sxm5-80gb",
    "NVIDIA H100 PCIe": "h100-pcie-80gb",
    "NVIDIA H100 NVL": "h100-nvl-94gb",
    "NVIDIA A100-SXM4-80GB": "a100-sxm4-80gb",
    "NVIDIA A100-SXM4-40GB": "a100-sxm4-40gb",
    "NVIDIA A100-PCIE-40GB": "a100-pcie-40gb",
    "NVIDIA A100 80GB PCIe": "a100-pcie-80gb",
    "Tesla T4": "t4",
    "NVIDIA GeForce RTX 3090": "rtx-3090",
    "NVIDIA GeForce RTX 3080 Laptop GPU": "rtx-3080-mobile",
    "NVIDIA A10G": "a10g",
    "NVIDIA A10": "a10",
    "NVIDIA L4": "l4",
    "NVIDIA L40S": "l40s",
    "NVIDIA H200": "h200-sxm-141gb",
    "NVIDIA B200": "b200",
    "NVIDIA GH200 480GB": "gh200-96gb",
    "NVIDIA RTX 6000 Ada Generation": "rtx-6000-ada",
    "NVIDIA RTX A2000 12GB": "rtx-a2000-12gb",
    "Tesla V100-SXM2-16GB": "v100-sxm2-16gb",
    "Tesla P100-PCIE-16GB": "p100-pcie-16gb",
    "Tesla K80": "tesla-k80-per-gpu",
    "Tesla M40 24GB": "tesla-m40-24gb",
    "TITAN X (Pascal)": "titan-x-pascal",
    "NVIDIA GeForce GTX TITAN X": "gtx-titan-x-maxwell",
    "NVIDIA TITAN Xp": "titan-xp",
    "NVIDIA TITAN RTX": "titan-rtx",
    "Quadro RTX 8000": "quadro-rtx-8000",
    "NVIDIA GeForce GTX 1060 6GB": "gtx-1060-6gb",
    "AMD Instinct MI210": "mi210",
    "AMD Instinct MI300X": "mi300x",
    "AMD Radeon RX 7900 XTX": "rx-7900-xtx",
    "Intel(R) Data Center GPU Max 1550": "max-1550",
    "Intel(R) Arc(TM) B580 Graphics": "arc-b580",
    # clouds
    "nvidia-tesla-t4": "t4",
    "H100 SXM": "h100-sxm5-80gb",
    "H100-SXM": "h100-sxm5-80gb",
    "RTX 6000 Ada": "rtx-6000-ada",
    "RTX6000-Ada": "rtx-6000-ada",
    "tpu-v5e": "tpu-v5e",
    "TPU v5e": "tpu-v5e",
    "Trainium": "trainium-1",
    "K80": "tesla-k80-per-gpu",
    # people
    "4090": "rtx-4090",
    "rtx4090": "rtx-4090",
    "RTX_3060_TI": "rtx-3060-ti",
    "1080 ti": "gtx-1080-ti",
    "7900 xtx": "rx-7900-xtx",
    "M2 Max": "apple-m2-max-38c",
    # CPUs, as /proc/cpuinfo has them
    "Intel(R) Core(TM) i9-10940X CPU @ 3.30GHz": "core-i9-10940x",
    "AMD EPYC 7742 64-Core Processor": "epyc-7742",
    "Intel(R) Xeon(R) Platinum 8480+": "xeon-platinum-8480p",
}


@pytest.mark.parametrize(("text", "identifier"), RESOLVES.items())
def test_a_common_name_resolves(text, identifier):
    assert catalogue.resolve_device(text).id == identifier


def test_every_id_and_every_marketing_name_resolves_to_its_own_device():
    for row in (*catalogue.devices(), *catalogue.cpus()):
        assert catalogue.resolve_device(row.id).id == row.id
        assert catalogue.resolve_device(row.name).id == row.id
        assert catalogue.resolve_device(row.id.upper().replace("-", " ")).id == row.id


@pytest.mark.parametrize(
    ("text", "variants"),
    [
        ("H100", ["h100-pcie-80gb", "h100-sxm5-80gb", "h100-nvl-94gb"]),
        ("A100", ["a100-pcie-40gb", "a100-sxm4-80gb"]),
        ("A100-80GB", ["a100-pcie-80gb", "a100-sxm4-80gb"]),
        ("3080", ["rtx-3080-10gb", "rtx-3080-12gb"]),
        ("NVIDIA GeForce RTX 3080", ["rtx-3080-10gb", "rtx-3080-12gb"]),
        ("V100 SXM2", ["v100-sxm2-16gb", "v100-sxm2-32gb"]),
        ("RTX-PRO-6000", ["rtx-pro-6000-blackwell-server", "rtx-pro-6000-blackwell-max-q"]),
        ("RTX 6000", ["quadro-rtx-6000", "rtx-6000-ada"]),
        ("580", ["geforce-gtx-580", "rx-580"]),
        ("MI250X/MI250", ["mi250", "mi250x"]),
    ],
)
def test_a_name_with_several_variants_lists_them(text, variants):
    with pytest.raises(AmbiguousNameError) as caught:
        catalogue.resolve_device(text)
    assert all(variant in str(caught.value) for variant in variants)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("rtx-490", "rtx-4090"),
        ("MI300", "mi300x"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "a100-sxm4-40gb"),
        ("server", "rtx-pro-6000-blackwell-server"),
        ("94GB", "h100-nvl-94gb"),
        ("", "rigwise devices lists them"),
    ],
)
def test_an_unknown_name_lists_near_ones(text, near):
    with pytest.raises(UnknownNameError, match="there is no device") as caught:
        catalogue.resolve_device(text)
    assert near in str(caught.value)


def test_a_cpu_is_no_accelerator():
    with pytest.raises(UnknownNameError):
        catalogue.device("epyc-7742")


def test_an_alias_on_two_devices_is_ambiguous():
    names = Names("device")
    names.add("k40c", ["Tesla K40"])
    names.add("k40m", ["Tesla K40"])
    assert names.candidates("nvidia tesla k40") == ("k40c", "k40m")


@given(st.text(max_size=40))
def test_any_text_has_an_answer_or_one_of_two_errors(text):
    with contextlib.suppress(AmbiguousNameError, UnknownNameError):
        assert catalogue.resolve_device(text).id


@given(st.sampled_from([d.name for d in catalogue.devices()]), st.sampled_from([" ", "-", "_", "   "]))
def test_case_spaces_and_dashes_do_not_matter(name, gap):
    assert squash(name.replace(" ", gap).swapcase()) == squash(name)


def test_makers_words_decide_between_like_names():
    assert catalogue.device("Tesla M4").id == "tesla-m4"
    assert catalogue.device("Apple M4").id == "apple-m4-10c"
    with pytest.raises(AmbiguousNameError):
        catalogue.device("M4")


def test_words_keep_what_tells_devices_apart():
    assert words("NVIDIA A100 80 GB PCIe") == ["a100", "80gb", "pcie"]
