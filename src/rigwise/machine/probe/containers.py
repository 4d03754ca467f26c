"""What this process runs inside of: container, virtual machine, cloud, notebook service."""

from __future__ import annotations

from rigwise.machine.probe.source import Root, Unreadable, attempt
from rigwise.machine.snapshot import Field, unknown

DMI = "/sys/class/dmi/id"
#: A word of the firmware's maker or product -> what the machine is.
HOSTS = {
    "amazon": "AWS", "google": "Google Cloud", "microsoft": "Azure or Hyper-V", "openstack": "OpenStack",
    "oracle": "Oracle", "digitalocean": "DigitalOcean", "hetzner": "Hetzner", "ovh": "OVH",
    "alibaba": "Alibaba Cloud", "vmware": "VMware",
    "innotek": "VirtualBox", "qemu": "QEMU", "xen": "Xen", "nvidia dgx": "DGX", "dgx": "DGX",
}  # fmt: skip
#: A path or a variable -> the container it is the sign of; the first that is there wins.
SIGNS = {"/var/run/secrets/kubernetes.io": "kubernetes", "/run/.containerenv": "podman"}
SIGNS |= {"/.dockerenv": "docker", "/.singularity.d": "apptainer"}
ENVIRONMENTS = {"KUBERNETES_SERVICE_HOST": "kubernetes", "APPTAINER_CONTAINER": "apptainer"}
ENVIRONMENTS |= {"SINGULARITY_CONTAINER": "apptainer", "COLAB_RELEASE_TAG": "colab", "KAGGLE_KERNEL_RUN_TYPE": "kaggle"}


def container(root: Root) -> dict[str, Field]:
    """Container, host and what the environment hides of the devices."""
    variables = root.variables()
    return {
        "kind": _kind(root, variables),
        "wsl": attempt("/proc/sys/kernel/osrelease", lambda: "microsoft" in _release(root).lower()),
        "host": _host(root),
        "engines": attempt("programs on the path", lambda: _engines(root) or None),
        "variables": attempt("environment", lambda: dict(sorted(variables.items())) or None),
        "nvidia_devices": attempt("/dev", lambda: root.names("/dev", r"nvidia\d+$|nvidiactl$|nvidia-uvm$") or None),
        "other_devices": attempt("/dev", lambda: root.names("/dev", r"(kfd|dxg)$") or None),
    }


def _release(root: Root) -> str:
    return root.text("/proc/sys/kernel/osrelease")


def _engines(root: Root) -> list[str]:
    names = ("docker", "podman", "apptainer", "singularity", "enroot", "nvidia-ctk", "kubectl")
    return [name for name in names if root.has_program(name)]


def _kind(root: Root, variables: dict[str, str]) -> Field:
    for key, kind in ENVIRONMENTS.items():
        if key in variables:
            return Field(value=kind, source=f"variable {key}")
    for path, kind in SIGNS.items():
        if root.exists(path):
            return Field(value=kind, source=path)
    try:
        groups = root.text("/proc/1/cgroup")
    except Unreadable as error:
        return unknown("/proc/1/cgroup", str(error))
    word = next((kind for kind in ("kubepods", "docker", "lxc", "libpod") if kind in groups), "")
    return Field(
        value={"kubepods": "kubernetes", "libpod": "podman"}.get(word, word) or "none", source="/proc/1/cgroup"
    )


def _host(root: Root) -> Field:
    """The maker of the machine, as its firmware says."""
    maker, product = (root.field(f"{DMI}/{name}") for name in ("sys_vendor", "product_name"))
    said = f"{maker.value or ''} {product.value or ''}".strip()
    if not said:
        return unknown(DMI, maker.reason)
    return Field(value=next((host for word, host in HOSTS.items() if word in said.lower()), said[:80]), source=DMI)
