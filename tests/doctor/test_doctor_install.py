"""What to install: driver x compute capability x architectures x Python x glibc."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError
from rigwise.facts.software import builds, cuda_releases, driver_floor, newest_cuda, paired_driver, runs_on, version
from rigwise.machine.doctor.install import FRAMEWORKS, Target, advise, against

DRIVERS = sorted({row.driver for row in cuda_releases() if row.driver} | {"580.65.06", "470.57.02"}, key=version)
CAPABILITIES = ["3.7", "5.2", "6.0", "6.1", "7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0"]


def torch_for(driver, *capabilities, python="3.11", glibc="2.35"):
    return advise("torch", Target(driver=driver, capabilities=capabilities, python=python, glibc=glibc))


@pytest.mark.parametrize(
    ("driver", "capability", "version_", "tag"),
    [
        ("580.65.06", "7.0", "2.14.1", "cu126"),  # V100: cu130 holds no sm_70, though the driver loads it
        ("580.65.06", "6.1", "2.14.1", "cu126"),  # GTX 1080
        ("580.65.06", "9.0", "2.15.0", "cu132"),
        ("550.54.15", "8.0", "2.14.1", "cu126"),  # CUDA 13 needs 580
        ("535.104.05", "12.0", "2.11.0", "cu128"),  # cu126 holds no sm_120
        ("470.57.02", "7.5", "2.5.1", "cu118"),  # CUDA 12 needs 525.60.13
    ],
)
def test_the_newest_build_that_fits(driver, capability, version_, tag) -> None:
    build = torch_for(driver, capability).build
    assert (build.version, build.tag) == (version_, tag)


def test_a_v100_is_not_sent_to_cuda_13() -> None:
    advice = torch_for("580.65.06", "7.0", python="3.12")
    assert "cu126" in advice.command
    refused = dict(advice.refused)
    assert refused["torch 2.15.0+cu132"] == "holds no code for compute capability 7.0"
    assert "not known" in refused["torch 2.14.1+cu132"]


def test_two_gpus_need_one_build() -> None:
    assert torch_for("580.65.06", "7.0", "9.0").build.tag == "cu126"
    assert torch_for("580.65.06", "7.0", "12.0").build.version < "2.15"


def test_python_and_glibc_narrow_the_choice() -> None:
    assert version(torch_for("580.65.06", "8.0", python="3.9").build.version)[:2] == (2, 8)
    assert version(torch_for("580.65.06", "8.0", glibc="2.27").build.version)[:2] == (2, 6)


def test_nothing_is_recommended_where_nothing_is_known() -> None:
    assert torch_for("390.46", "6.1").spec == ""
    assert advise("tensorflow", Target(driver="580.65.06", capabilities=("12.0",), python="3.11")).spec == ""
    assert advise("torch", Target(capabilities=("8.0",))).why == "install the NVIDIA driver first"


def test_without_a_gpu_it_is_the_cpu_build() -> None:
    assert advise("torch", Target(python="3.11", glibc="2.36")).command.endswith("/cpu")


def test_a_gpu_that_is_not_known_gets_no_cpu_build() -> None:
    assert advise("torch", Target(driver="580.65.06", cards=1)).spec == ""
    assert advise("torch", Target(cards=1)).why == "install the NVIDIA driver first"


def test_an_unknown_framework_is_an_error() -> None:
    with pytest.raises(InvalidInputError, match="caffe"):
        advise("caffe", Target())


def test_another_processor_is_said() -> None:
    assert "aarch64" in advise("torch", Target(machine="aarch64")).assumed[0]


@given(
    framework=st.sampled_from(FRAMEWORKS), driver=st.sampled_from(DRIVERS), capability=st.sampled_from(CAPABILITIES),
    python=st.sampled_from(["3.9", "3.11", "3.14"]), glibc=st.sampled_from(["2.17", "2.28", "2.39"]),
)  # fmt: skip
def test_what_is_advised_fits_and_nothing_newer_does(framework, driver, capability, python, glibc) -> None:
    target = Target(driver=driver, capabilities=(capability,), python=python, glibc=glibc)
    advice = advise(framework, target)
    if advice.build is None:
        assert all(against(build, target) for build in builds(framework))
        return
    assert against(advice.build, target) == ""
    floor = advice.build.floor or driver_floor(advice.build.cuda)
    assert version(driver) >= version(floor)
    if framework == "torch":
        assert runs_on(advice.build.archs, capability)
    newer = builds(framework)[: builds(framework).index(advice.build)]
    assert all(against(build, target) for build in newer)


@given(older=st.sampled_from(DRIVERS), newer=st.sampled_from(DRIVERS), capability=st.sampled_from(CAPABILITIES))
def test_a_newer_driver_never_gets_an_older_build(older, newer, capability) -> None:
    low, high = sorted((older, newer), key=version)
    before, after = torch_for(low, capability).build, torch_for(high, capability).build
    if before is not None:
        assert version(after.version) >= version(before.version)


@pytest.mark.parametrize(
    ("archs", "capability", "runs"),
    [
        (["sm_80"], "8.6", True), (["sm_86"], "8.0", False), (["sm_80"], "9.0", False), (["compute_80"], "9.0", True),
        (["sm_90a"], "9.0", True), (["sm_90a"], "10.0", False), (["sm_100f"], "10.3", True),
        (["sm_100f"], "12.0", False), (["sm_120+PTX"], "12.1", True), (["sm_120+PTX"], "10.0", False),
        (["nonsense"], "8.0", False), ([], "8.0", False),
    ],
)  # fmt: skip
def test_binary_and_ptx_compatibility(archs, capability, runs) -> None:
    assert runs_on(archs, capability) is runs


def test_every_row_has_a_source_and_every_build_a_cuda_release_or_none() -> None:
    rows = [*cuda_releases(), *(build for name in FRAMEWORKS for build in builds(name))]
    assert len(rows) > 200
    assert [row for row in rows if not row.source] == []
    assert all(driver_floor(build.cuda) for build in builds("torch"))


def test_drivers_and_cuda_releases_agree() -> None:
    assert newest_cuda(paired_driver("12.4")) == "12.4"
    assert all(
        version(paired_driver(row.cuda)) >= version(row.floor) for row in cuda_releases() if row.floor and row.driver
    )
