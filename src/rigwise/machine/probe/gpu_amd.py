"""AMD GPUs from the kernel driver's files; the name they are sold under from amdsmi, if it is installed."""

from __future__ import annotations

import re
from collections.abc import Callable

from rigwise.machine.probe.pcie import generation_of
from rigwise.machine.probe.source import Root, Unreadable, attempt
from rigwise.machine.snapshot import Field, Value, unknown

CARDS = "/sys/class/drm"
NODES = "/sys/class/kfd/kfd/topology/nodes"
AMD = "0x1002"


def gpus(root: Root) -> list[dict[str, Field]]:
    """One entry for every AMD GPU; each half of an MI250 is one, as frameworks see it."""
    cards = [name for name in root.names(CARDS, r"card\d+$") if _vendor(root, name) == AMD]
    nodes = _compute_nodes(root)
    return [_gpu(root, place, name, nodes) for place, name in enumerate(cards)]


def _vendor(root: Root, name: str) -> str:
    try:
        return root.text(f"{CARDS}/{name}/device/vendor")
    except Unreadable:
        return ""


def _compute_nodes(root: Root) -> list[dict[str, int]]:
    """Properties of every node of the compute driver that has SIMDs."""
    nodes = []
    for name in root.names(NODES, r"\d+$"):
        try:
            nodes.append(node_properties(root.text(f"{NODES}/{name}/properties")))
        except Unreadable:
            continue
    return [node for node in nodes if node.get("simd_count", 0) > 0]


def node_properties(text: str) -> dict[str, int]:
    r"""Names and numbers of a node of the compute driver.

    >>> node_properties("simd_count 440\nsimd_per_cu 4")
    {'simd_count': 440, 'simd_per_cu': 4}
    """
    return {key: int(number) for key, number in re.findall(r"(?m)^(\w+) (\d{1,20})$", text)}


def node_address(node: dict[str, int]) -> str:
    """Where a node lies on PCI: bus in the upper byte of its location, device and function in the lower.

    >>> node_address({"location_id": 0x7500, "domain": 0})
    '0000:75:00.0'
    """
    place = node.get("location_id", 0)
    return f"{node.get('domain', 0):04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7}"


def _gpu(root: Root, place: int, name: str, nodes: list[dict[str, int]]) -> dict[str, Field]:
    device = f"{CARDS}/{name}/device"
    bus = root.field(f"{device}/uevent", lambda text: re.findall(r"PCI_SLOT_NAME=([0-9a-f:.]+)", text)[0])
    node = next((node for node in nodes if node_address(node) == bus.value), {})

    def stated(file: str, convert: Callable[[str], Value]) -> Field:
        return root.field(f"{device}/{file}", convert)

    def compute(read: Callable[[], Value]) -> Field:
        return attempt(f"{NODES}/*/properties", read)

    power = next(
        (f"hwmon/{hwmon}/power1_cap" for hwmon in root.names(f"{device}/hwmon", r"hwmon\d+$")), "hwmon/power1_cap"
    )
    return {
        "index": Field(value=place, source=CARDS),
        "vendor": Field(value="AMD", source=f"{device}/vendor"),
        "name": _name(root, device, place),
        "bus": bus,
        "device": stated("device", str),
        "driver": root.field("/sys/module/amdgpu/version"),
        "architecture": compute(lambda: gfx_name(node["gfx_target_version"])),
        "sm_count": compute(lambda: node["simd_count"] // node["simd_per_cu"]),
        "max_clock_hz": compute(lambda: 1e6 * node["max_engine_clk_fcompute"]),
        "memory_bytes": stated("mem_info_vram_total", int),
        "memory_used_bytes": stated("mem_info_vram_used", int),
        "power_limit_w": stated(power, lambda text: int(text) / 1e6),
        "power_default_w": stated(f"{power}_default", lambda text: int(text) / 1e6),
        "power_max_w": stated(f"{power}_max", lambda text: int(text) / 1e6),
        "pcie_width": stated("current_link_width", int),
        "pcie_width_max": stated("max_link_width", int),
        "pcie_generation": stated("current_link_speed", generation_of),
        "pcie_generation_max": stated("max_link_speed", generation_of),
        "ecc_uncorrected": stated("ras/umc_err_count", lambda text: int(re.findall(r"ue: (\d{1,12})", text)[0])),
        "compute_driver": attempt("/dev/kfd", lambda: root.exists("/dev/kfd")),
    }


def gfx_name(version: int) -> str:
    """The architecture of AMD's compilers from the number in the kernel: major, minor and stepping, two digits each.

    >>> gfx_name(90402), gfx_name(110000), gfx_name(90010)
    ('gfx942', 'gfx1100', 'gfx90a')
    """
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def _name(root: Root, device: str, place: int) -> Field:
    """What the card calls itself; amdsmi is asked only about this computer, where it is installed."""
    stated = root.field(f"{device}/product_name")
    if stated.value or not root.live:
        return stated
    try:
        import amdsmi  # type: ignore[import-not-found,unused-ignore]

        amdsmi.amdsmi_init()
        handle = amdsmi.amdsmi_get_processor_handles()[place]
        return Field(value=str(amdsmi.amdsmi_get_gpu_asic_info(handle)["market_name"]), source="amdsmi")
    except Exception as error:  # the package raises its own errors, and fails in other ways without a driver
        return unknown("amdsmi", f"{stated.reason}; amdsmi: {type(error).__name__}")
