"""Run as a process of its own, by the Python of the environment that is verified: tries one thing there.

python trial.py NAME REQUEST

It needs nothing but that Python and, for what asks it, the framework. The request is JSON. The answer is one line of
JSON: ``rows``, each of what, ``ok``, ``problem`` or ``unknown``, and what was seen; and ``facts``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from importlib import import_module, util
from typing import Any

FRAMEWORKS = ("torch", "jax", "tensorflow")
#: Distributions that put the same package in place, so that one overwrites the other.
SAME = {
    "torch": r"torch", "jaxlib": r"jaxlib", "tensorflow": r"(tensorflow|tensorflow_(cpu|gpu|intel|rocm)|tf_nightly)",
    "onnxruntime": r"onnxruntime(_gpu|_directml|_openvino)?", "numpy": r"numpy",
}  # fmt: skip
#: A batch as networks for pictures get it: 32 of 3 x 224 x 224 in fp32, 19 MB.
BATCH, FLOATS = 32, 3 * 224 * 224
#: Each worker has two batches under way, as PyTorch's default is, and gets this many in all.
EACH = 3
#: What is written to a disk and read back.
WRITTEN_BYTES = 16 * 2**20
#: Processes of an all-reduce, and the most over several GPUs.
RANKS, MOST_RANKS, RANK_LIMIT_S = 2, 8, 100.0
ELEMENTS = 2**20

Row = tuple[str, str, str]
Answer = tuple[list[Row], dict[str, Any]]


def imports(request: dict[str, Any]) -> Answer:
    """Import the framework, the wanted one or the first that is there; count its GPUs."""
    facts: dict[str, Any] = {"python": "{}.{}.{}".format(*sys.version_info[:3]), "framework": request["framework"]}
    there = [name for name in FRAMEWORKS if util.find_spec(name) is not None]
    wanted = request["framework"] or (there[0] if there else "")
    if wanted not in there:
        what = wanted or f"none of {', '.join(FRAMEWORKS)}"
        return [("framework", "problem", f"{what} {'is not' if wanted else 'is'} installed in this environment")], facts
    module = import_module(wanted)
    facts |= {"framework": wanted, "version": str(module.__version__), "gpus": _gpus(wanted, module)}
    return [("framework", "ok", f"{wanted} {module.__version__} imports"), _seen(request["gpus"], facts)], facts


def _seen(expected: int | None, facts: dict[str, Any]) -> Row:
    """Whether as many GPUs are seen as are expected."""
    seen = len(facts["gpus"])
    said = f"{seen} GPUs" + (f": {', '.join(sorted(set(facts['gpus'])))}" if seen else "")
    if expected is None:
        return "GPUs", "ok", said if seen else "none is seen, and none was asked for (--count N asks)"
    return "GPUs", "ok" if seen == expected else "problem", f"{said}; {expected} are expected"


def _gpus(name: str, module: Any) -> list[str]:
    """Names of the GPUs that the framework sees."""
    if name == "jax":
        return [str(device.device_kind) for device in module.devices() if device.platform != "cpu"]
    if name == "tensorflow":
        return [str(device.name) for device in module.config.list_physical_devices("GPU")]
    return [str(module.cuda.get_device_name(place)) for place in range(module.cuda.device_count())]


def builds(_: dict[str, Any]) -> Answer:
    """Whether two builds of one package lie in this environment; nothing is imported."""
    folders = list(dict.fromkeys(os.path.realpath(place) for place in sys.path if os.path.isdir(place)))
    rows: list[Row] = []
    for package, pattern in SAME.items():
        rows += _of_package(package, re.compile(rf"({pattern})-([^-]+)\.(dist|egg)-info", re.IGNORECASE), folders)
    return rows or [("builds", "ok", "no framework is installed twice")], {}


def _of_package(package: str, pattern: re.Pattern[str], folders: list[str]) -> list[Row]:
    """What is wrong with the builds of one package, or that there is one; nothing where there is none."""
    stated = [
        (f"{match[1]} {match[match.re.groups - 1]}", folder)
        for folder in folders
        for name in _names(folder)
        if (match := pattern.fullmatch(name))
    ]
    places = [folder for folder in folders if os.path.isfile(os.path.join(folder, package, "__init__.py"))]
    if not stated:
        return []
    if len(stated) > 1:
        two = " and ".join(f"{name} in {folder}" for name, folder in stated)
        return [(package, "problem", f"is installed {len(stated)} times: {two}; remove all, then install one")]
    if len(places) > 1:
        return [(package, "problem", f"lies in {' and '.join(places)}; the first is imported, remove the other")]
    name, folder = stated[0]
    written = _written(os.path.join(folder, package, "version.py"))
    if written and written.split("+")[0] != name.split()[1].split("+")[0]:
        return [(package, "problem", f"says it is {written}, {name} was installed: one was put over the other")]
    return [(package, "ok", f"one build: {name}")]


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _written(path: str) -> str:
    """``__version__`` in a file, which is read and not run; empty if it has none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            found = re.search(r"(?m)^__version__\s*=\s*['\"]([^'\"\n]+)", stream.read(65536))
    except OSError:
        return ""
    return found[1] if found else ""


def product(request: dict[str, Any]) -> Answer:
    """A matrix product on the CPU and on every other device, in every number format."""
    check, name = _check(), request["framework"]
    if name != "torch":
        faults = check.CHECKS[name](None)
        return [(name, "problem", fault) for fault in faults] or [(name, "ok", "agrees with fp64 to 2e-2")], {}
    torch = import_module("torch")
    places = ["cpu", *(f"cuda:{place}" for place in range(torch.cuda.device_count()))]
    for kind in ("xpu", "mps"):
        module = getattr(torch, kind, None)
        if module is not None and getattr(module, "is_available", lambda: False)():
            places += [f"{kind}:{place}" for place in range(module.device_count())]
    return [
        (f"{place} {form}", status, text)
        for place in places
        for form, status, text in check.products_of_torch(torch, place)
        if not (place == "cpu" and form == "tf32")
    ], {}


def _check() -> Any:
    """``check.py`` beside this file, without its folder on the search path."""
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "check.py")
    spec = util.spec_from_file_location("rigwise_check", place)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.say = lambda _: None  # type: ignore[attr-defined]  # its lines are for people
    return module


def all_reduce(request: dict[str, Any]) -> Answer:
    """A sum over two processes by gloo, and over one for each GPU by NCCL where there are several."""
    rows, seen = [_summed("gloo", RANKS)], int(request["seen"])
    if seen < RANKS:
        return [*rows, ("nccl", "unknown", f"needs two GPUs, {seen} {'is' if seen == 1 else 'are'} seen")], {}
    return [*rows, _summed("nccl", min(seen, MOST_RANKS))], {}


def _summed(library: str, ranks: int) -> Row:
    """Start the processes; all of them are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="rigwise-") as folder:
        told = {"library": library, "ranks": ranks, "meeting": os.path.join(folder, "meeting")}
        loopback = "lo0" if sys.platform == "darwin" else "lo"
        here = {"GLOO_SOCKET_IFNAME": loopback, "OMP_NUM_THREADS": "1", **os.environ}
        words = [sys.executable, os.path.abspath(__file__), "rank"]
        started = [
            subprocess.Popen(
                [*words, json.dumps({**told, "rank": rank})], env=here, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            )
            for rank in range(ranks)
        ]  # fmt: skip
        try:
            said = [process.communicate(timeout=RANK_LIMIT_S) for process in started]
        except subprocess.TimeoutExpired:
            return library, "problem", f"{ranks} processes did not meet within {RANK_LIMIT_S:.0f} s"
        finally:
            for process in started:
                process.kill()
    for process, (_, errors) in zip(started, said):  # noqa: B905  the environment may have an older Python
        if process.returncode:
            sys.stderr.write(errors)
            last = (errors.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            return library, "problem", f"a process of {ranks} failed: {last[:300]}"
    return library, "ok", f"{ranks} processes added {ELEMENTS:,} numbers up, every sum is right"


def rank(request: dict[str, Any]) -> Answer:
    """One of the processes of an all-reduce; any fault ends it with an exit code."""
    torch = import_module("torch")
    if not torch.distributed.is_available():
        raise SystemExit("this PyTorch was built without torch.distributed")
    mine, ranks = int(request["rank"]), int(request["ranks"])
    place = f"cuda:{mine}" if request["library"] == "nccl" else "cpu"
    if place != "cpu":
        torch.cuda.set_device(place)
    torch.distributed.init_process_group(
        request["library"], init_method=f"file://{request['meeting']}", rank=mine, world_size=ranks
    )
    total = torch.full((ELEMENTS,), float(mine + 1), device=place)
    torch.distributed.all_reduce(total)
    right = bool((total == ranks * (ranks + 1) / 2).all())
    torch.distributed.destroy_process_group()
    if not right:
        raise SystemExit("the sum is wrong")
    return [("sum", "ok", "right")], {}


class Numbered:
    """Pictures that hold their own number, and the worker that made them."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> tuple[Any, int]:
        torch = import_module("torch")
        return torch.full((FLOATS,), float(place)), torch.utils.data.get_worker_info().id


def loader(request: dict[str, Any]) -> Answer:
    """Start a data loader with its workers and look at every batch; the batches pass through shared memory."""
    torch = import_module("torch")
    workers, usable = int(request["workers"]), request["usable"]
    count = BATCH * EACH * workers
    batches = torch.utils.data.DataLoader(
        Numbered(count), batch_size=BATCH, num_workers=workers, pin_memory=torch.cuda.is_available()
    )
    seen: set[int] = set()
    expected = 0
    for pictures, makers in batches:
        wanted = torch.arange(expected, expected + BATCH, dtype=torch.float32)
        if not bool((pictures == wanted[:, None]).all()):
            return [("workers", "problem", f"the batch from picture {expected} on holds other numbers")], {}
        expected += BATCH
        seen |= {int(maker) for maker in makers}
    if (expected, len(seen)) != (count, workers):
        return [("workers", "problem", f"{len(seen)} of {workers} workers made {expected} of {count} pictures")], {}
    size = BATCH * FLOATS * 4 / 1e6
    done = f"{workers} workers made {EACH * workers} batches of {size:.0f} MB, every number is right"
    return [("workers", "ok", done), within_limit(workers, usable)], {}


def within_limit(workers: int, usable: float | None) -> Row:
    """Whether there are no more workers than CPUs that this process may use."""
    if usable is None:
        return "limit", "unknown", "how many CPUs this process may use is not known"
    said = f"{workers} workers, {usable:g} CPUs may be used (affinity and control group)"
    return "limit", "problem" if workers > usable else "ok", said


def room(request: dict[str, Any]) -> Answer:
    """See whether a folder has room, write to it and read it back."""
    folder, least = request["folder"], request["least_bytes"]
    if not os.path.isdir(folder):
        return [("room", "unknown", f"there is no {folder}")], {}
    total, _, free = shutil.disk_usage(folder)
    have, kind = (total, "") if request["of"] == "size" else (free, " free")
    least = least if least is not None else min(0.05 * total, 20 * 2**30)
    said = f"{folder} has {_size(have)}{kind}, {_size(least)} are needed"
    return [("room", "ok" if have >= least else "problem", said), _written_and_read(folder, free)], {}


def _size(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def _written_and_read(folder: str, free: int) -> Row:
    """A file in a folder, which is gone afterwards; smaller where there is little room."""
    content = os.urandom(2**16)
    count = max(1, min(WRITTEN_BYTES, free // 2) // len(content))
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".rigwise-") as written:
            for _ in range(count):
                written.write(content)
            written.flush()
            os.fsync(written.fileno())
            written.seek(0)
            same = all(written.read(len(content)) == content for _ in range(count))
    except OSError as error:
        return "files", "problem", f"{folder} cannot be written: {error.strerror}"
    size = _size(count * len(content))
    return "files", "ok" if same else "problem", f"{size} were written and read{' back' if same else ', and differ'}"


TRIALS = {
    "imports": imports, "builds": builds, "product": product, "all-reduce": all_reduce, "rank": rank,
    "loader": loader, "disk": room, "shared-memory": room,
}  # fmt: skip


def main(name: str, request: str) -> int:
    """Do it and write the answer; what a framework prints goes to stderr."""
    here = os.path.realpath(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [place for place in sys.path if os.path.realpath(place or ".") != here]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if name != "rank":  # which ends with the group of the process that started it
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        rows, facts = TRIALS[name](json.loads(request))
    except Exception as error:  # whatever a library raises is the answer
        if name == "rank":
            raise
        import traceback

        traceback.print_exc()
        first = next(iter(str(error).strip().splitlines()), "")
        rows, facts = [(name, "problem", f"{type(error).__name__}: {first[:300]}")], {}
    answers.write(json.dumps({"rows": rows, "facts": facts}) + "\n")
    answers.flush()
    return 0


def _end_with_parent() -> None:
    """Wait until nobody holds the other end of stdin, then end with all that was started."""
    while os.read(0, 65536):  # not through sys.stdin: its lock would pass into the workers of a loader
        pass
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, 9)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
