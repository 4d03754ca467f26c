"""A pasted error text: known, with causes in the order of the machine it came from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError
from rigwise.machine.doctor.checkup import with_diagnoses
from rigwise.machine.doctor.errors import diagnose, known_errors, matches
from rigwise.machine.doctor.rules import rules

#: Texts as people paste them -> the error that must be found.
PASTED = {
    "RuntimeError: CUDA error: no kernel image is available for execution on the device": "no-kernel-image",
    "RTX 5090 with CUDA capability sm_120 is not compatible with the current PyTorch installation.": "no-kernel-image",
    "AssertionError: Torch not compiled with CUDA enabled": "not-compiled-with-cuda",
    "RuntimeError: Found no NVIDIA driver on your system.": "no-driver",
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.": "no-driver",
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 12040)": "driver-too-old",
    "Error 804: forward compatibility was attempted on non supported HW": "forward-compatibility",
    "Error 803: system has unsupported display driver / cuda driver combination": "version-mismatch",
    "Failed to initialize NVML: Driver/library version mismatch": "version-mismatch",
    "Error 802: system not yet initialized": "fabric",
    "CUDA unknown error - this may be due to an incorrectly set up environment": "cuda-unknown",
    "RuntimeError: No CUDA GPUs are available": "no-device",
    "CUDA error: all CUDA-capable devices are busy or unavailable": "busy",
    "RuntimeError: device >= 0 && device < num_gpus INTERNAL ASSERT FAILED": "internal-assert",
    "Could not load library libcudnn_ops_infer.so.8. Error: libcudnn_ops_infer.so.8": "cudnn",
    "libcusparse.so.12: undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12": "nvjitlink",
    "ImportError: libstdc++.so.6: version `GLIBCXX_3.4.30' not found": "glibcxx",
    "/lib64/libc.so.6: version `GLIBC_2.28' not found": "glibc",
    "RuntimeError: operator torchvision::nms does not exist": "torchvision",
    "A module that was compiled using NumPy 1.x cannot be run in NumPy 2.0.0": "numpy",
    "Illegal instruction (core dumped)": "illegal-instruction",
    "RuntimeError: DataLoader worker (pid 9) is killed by signal: Bus error.": "bus-error",
    "Bus error (core dumped)": "bus-error",
    "slurmstepd: error: Detected 1 oom_kill event in StepId=11300781.0. Some of the step tasks have been OOM Killed.":
        "worker-killed",
    "srun: error: node1: task 0: Out Of Memory": "worker-killed",
    "Out of memory: Killed process 1234 (python) total-vm:1kB": "worker-killed",
    "ImportError: libcudart.so.11.0: cannot open shared object file: No such file or directory": "cuda-library",
    "OSError: libcublas.so.12: cannot open shared object file: No such file or directory": "cuda-library",
    "flash_attn_2_cuda.so: undefined symbol: _ZN3c104cuda9SetDeviceEi": "extension-symbol",
    "undefined symbol: _ZN2at4_ops9_pad_enum4callERKNS_6TensorEN3c108ArrayRef": "extension-symbol",
    "This DataLoader will create 6 worker processes in total. Our suggested max number of worker is 2":
        "too-many-workers",
    "RuntimeError: received 0 items of ancdata": "too-many-files",
    'could not select device driver "" with capabilities: [[gpu]]': "docker-gpu",
    "Failed to initialize NVML: Unknown Error": "container-lost-gpu",
    "WARNING: Could not find any nv files on this host!": "apptainer",
    "srun: fatal: cpus-per-task set by two different environment variables": "slurm-cpus",
    "gres/gpu count reported lower than configured (0 < 1)": "slurm-gres",
    "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1)": "nccl",
    "NVRM: Xid (PCI:0000:01:00): 79, pid=0, GPU has fallen off the bus.": "off-the-bus",
    "RuntimeError: CUDA error: uncorrectable ECC error encountered": "ecc",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB": "out-of-memory",
    "CUDA error: an illegal memory access was encountered": "illegal-access",
    "Unable to open /dev/kfd read-write: Permission denied": "kfd",
    "Cannot dlopen some GPU libraries. Please make sure": "tensorflow-libraries",
    "INVALID_ARGUMENT: Mismatched PJRT plugin PJRT API version": "jax-plugin",
    "bitsandbytes: No compatible CUDA library found": "bitsandbytes",
    "the provided PTX was compiled with an unsupported PTX version": "ptx",
    "OSError: [Errno 28] No space left on device": "disk",
}  # fmt: skip


@pytest.mark.parametrize(("text", "error"), PASTED.items())
def test_a_pasted_text_is_known(text, error) -> None:
    assert error in [found for found, _ in matches(text)]


def test_the_file_is_consistent() -> None:
    for name, error in known_errors().items():
        assert sum(cause.share_frac for cause in error.causes) == pytest.approx(1), name
        assert {rule for cause in error.causes for rule in cause.rules} <= set(rules()), name
        assert error.source, name


def test_the_machine_reorders_causes(trees, checkup_of) -> None:
    text = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
    old = {"name": "Tesla V100-SXM2-32GB", "bus": "0000:01:00.0", "cc": "7.0", "memory": 32768}
    wrong = with_diagnoses(checkup_of(trees.merged(trees.clean("gaming"), {"gpus": [old]}), "v100"), text).diagnoses[0]
    right = with_diagnoses(checkup_of(trees.clean("gaming"), "4090"), text).diagnoses[0]
    assert wrong.causes[0].text == "PyTorch holds no code for this GPU"
    assert wrong.causes[0].share_frac > 0.95
    assert "cu126" in wrong.causes[0].fix
    assert "7.0" in wrong.causes[0].evidence[0][1]
    assert right.causes[0].text.startswith("an extension")
    for diagnosis in (wrong, right):
        assert sum(cause.share_frac for cause in diagnosis.causes) == pytest.approx(1)


def test_an_error_of_a_gpu_where_there_is_none_comes_from_another_machine(trees, checkup_of) -> None:
    here = with_diagnoses(checkup_of(trees.clean("laptop")), "no kernel image is available for execution on the device")
    (found,) = here.diagnoses
    assert found.elsewhere
    assert found.causes[0].text == "PyTorch holds no code for this GPU"
    assert found.causes[0].fix.endswith("on the machine with the GPU")
    assert found.causes[0].speaks is None
    there = with_diagnoses(checkup_of(trees.clean("gaming"), "b"), "no kernel image is available")
    assert not there.diagnoses[0].elsewhere
    assert "pip install torch" in " ".join(cause.fix for cause in there.diagnoses[0].causes)
    plain = with_diagnoses(checkup_of(trees.clean("laptop"), "c"), "version `GLIBC_2.28' not found")
    assert not plain.diagnoses[0].elsewhere


def test_a_traceback_gives_the_line_and_several_errors_their_order() -> None:
    text = "Traceback (most recent call last):\n  File x\nFailed to initialize NVML: Unknown Error\nCUDA out of memory"
    found = diagnose(text, ())
    assert [diagnosis.error for diagnosis in found] == ["container-lost-gpu", "out-of-memory"]
    assert found[0].line == "Failed to initialize NVML: Unknown Error"


def test_text_that_is_no_known_error() -> None:
    assert diagnose("KeyError: 'weight'", ()) == ()
    with pytest.raises(InvalidInputError, match="empty"):
        diagnose(" \n ", ())


@given(st.text(max_size=400))
def test_no_text_breaks_the_matching(text) -> None:
    if text.strip() and text.split():
        for error, line in matches(text):
            assert error in known_errors()
            assert line


def test_a_long_log_ends_soon_and_its_end_counts() -> None:
    log = "step 1 loss 0.5 " * 100 + "\n"
    assert [name for name, _ in matches(log * 2000 + "CUDA out of memory\n")] == ["out-of-memory"]
    assert matches("gpu" * 200_000) == []
