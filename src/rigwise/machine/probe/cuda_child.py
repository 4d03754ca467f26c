"""Run as a process of its own: asks the CUDA driver for what no other interface tells, one line for each GPU.

It imports nothing but the standard library, creates no context and allocates nothing.
Source: CUDA Driver API, "Device Management", for the numbers of the attributes.
"""

from __future__ import annotations

import ctypes

ATTRIBUTES = {
    "sm_count": 16,
    "clock_khz": 13,
    "memory_clock_khz": 36,
    "bus_bits": 37,
    "l2_bytes": 38,
    "major": 75,
    "minor": 76,
}


def main() -> int:
    """Print the attributes of every GPU that CUDA shows; the code of the first call that fails, else 0."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        print("libcuda.so.1 cannot be loaded")
        return 3
    code = int(cuda.cuInit(0))
    if code:
        print(f"cuInit answers {code}")
        return 4
    count = ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    for device in range(count.value):
        address = ctypes.create_string_buffer(64)
        cuda.cuDeviceGetPCIBusId(address, 64, device)
        values = [f"bus={address.value.decode()}"]
        for name, number in ATTRIBUTES.items():
            value = ctypes.c_int()
            if int(cuda.cuDeviceGetAttribute(ctypes.byref(value), number, device)) == 0:
                values.append(f"{name}={value.value}")
        print(" ".join(values))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
