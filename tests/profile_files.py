"""Files as profilers write them, made by hand after the documented formats: no GPU ran."""

import json
import sqlite3
from pathlib import Path
from typing import Any

#: Names of the kernels of one step, as CUDA libraries call theirs.
GEMM, POINTWISE = "ampere_sgemm_128x64_tn", "void at::native::vectorized_elementwise_kernel<4, relu>"
REDUCE, UPDATE = "void at::native::reduce_kernel<512, 1>", "void at::native::multi_tensor_apply_kernel<sgd>"
NCCL = "ncclDevKernel_AllReduce_Sum_f32_RING_LL"
STEP_US = 1000.0


class Recording:
    """A PyTorch trace, event by event; times in microseconds."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._link = 0
        self._outer = 0

    def mark(self, name: str, start: float, took: float, thread: int = 1) -> None:
        self._add("user_annotation", name, start, took, thread, {})

    def op(self, name: str, start: float, took: float, *dims: list[int], thread: int = 1) -> None:
        self._outer += 1
        args = {"External id": self._outer} | ({"Input Dims": [*dims, []]} if dims else {})
        self._add("cpu_op", name, start, took, thread, args)

    def call(self, name: str, start: float, took: float, thread: int = 1) -> None:
        self._add("cuda_runtime", name, start, took, thread, {"correlation": 0})

    def kernel(self, asked: float, name: str, start: float, took: float, *, stream: int = 7, thread: int = 1) -> None:
        self._link += 1
        self._add("cuda_runtime", "cudaLaunchKernel", asked, 3.0, thread, {"correlation": self._link})
        args = {"device": 0, "stream": stream, "correlation": self._link, "External id": self._outer}
        self._add("kernel", name, start, took, stream, args, pid=0)

    def copy(self, asked: float, start: float, took: float, copied: int) -> None:
        self._link += 1
        self._add("cuda_runtime", "cudaMemcpyAsync", asked, 3.0, 1, {"correlation": self._link})
        args = {"device": 0, "stream": 7, "correlation": self._link, "bytes": copied}
        self._add("gpu_memcpy", "Memcpy HtoD (Pageable -> Device)", start, took, 7, args, pid=0)

    def _add(
        self, category: str, name: str, start: float, took: float, thread: int, args: dict[str, Any], pid: int = 42
    ) -> None:
        event = {"ph": "X", "cat": category, "name": name, "pid": pid, "tid": thread, "ts": start, "dur": took}
        self.events.append({**event, "args": args})

    def document(self) -> dict[str, Any]:
        devices = [{"id": 0, "name": "NVIDIA A100-SXM4-40GB"}]
        note = "made by hand after the format of PyTorch's profiler; no GPU ran"
        return {"schemaVersion": 1, "note": note, "deviceProperties": devices, "traceEvents": self.events}

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(self.document()))
        return path


def cuda_like(steps: int = 3) -> Recording:
    """Steps of a perceptron with two layers on one GPU of a data-parallel job, 1 ms each."""
    made = Recording()
    for number in range(steps):
        _step(made, number, 5000.0 + number * STEP_US)
    return made


def _step(made: Recording, number: int, t: float) -> None:
    made.mark(f"ProfilerStep#{number}", t, STEP_US)
    made.mark("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", t, 100)
    made.op("aten::to", t + 100, 40, [8, 16])
    made.copy(t + 110, t + 115, 60, 600_000)
    made.op("aten::linear", t + 150, 40, [8, 16], [32, 16], [32])
    made.op("aten::addmm", t + 155, 30, [32], [8, 16], [16, 32])
    made.kernel(t + 160, GEMM, t + 180, 100)
    made.op("aten::relu", t + 195, 20, [8, 32])
    made.kernel(t + 200, POINTWISE, t + 282, 20)
    made.op("aten::linear", t + 220, 30, [8, 32], [4, 32], [4])
    made.op("aten::addmm", t + 222, 26, [4], [8, 32], [32, 4])
    made.kernel(t + 230, GEMM, t + 304, 80)
    made.op("aten::mse_loss", t + 255, 20, [8, 4], [8, 4])
    made.kernel(t + 260, REDUCE, t + 386, 6)
    made.op("autograd::engine::evaluate_function: AddmmBackward0", t + 450, 70, thread=2)
    made.op("aten::mm", t + 460, 20, [8, 4], [4, 32], thread=2)
    made.kernel(t + 470, GEMM, t + 475, 90, thread=2)
    made.op("aten::mm", t + 490, 20, [4, 8], [8, 32], thread=2)
    made.kernel(t + 500, GEMM, t + 567, 90, thread=2)
    made.op("c10d::allreduce_", t + 525, 8, [132], thread=2)
    made.kernel(t + 530, NCCL, t + 600, 100, stream=20, thread=2)
    made.op("autograd::engine::evaluate_function: ReluBackward0", t + 534, 14, thread=2)
    made.op("aten::threshold_backward", t + 536, 10, [8, 32], [8, 32], thread=2)
    made.kernel(t + 540, POINTWISE, t + 659, 10, thread=2)
    made.mark("Optimizer.step#SGD.step", t + 550, 90)
    made.op("aten::_foreach_add_", t + 560, 60)
    made.kernel(t + 600, UPDATE, t + 702, 30)
    made.op("aten::item", t + 650, 90)
    made.call("cudaStreamSynchronize", t + 652, 88)


#: The tables of an export that are read, with the columns of Nsight Systems 2021.5.
_TABLES = {
    "StringIds": "id INTEGER PRIMARY KEY, value TEXT NOT NULL",
    "CUPTI_ACTIVITY_KIND_KERNEL": "start INT NOT NULL, end INT NOT NULL, deviceId INT NOT NULL, contextId INT,"
    " streamId INT NOT NULL, correlationId INT, globalPid INT, demangledName INT NOT NULL, shortName INT NOT NULL",
    "CUPTI_ACTIVITY_KIND_MEMCPY": "start INT NOT NULL, end INT NOT NULL, deviceId INT NOT NULL, streamId INT NOT NULL,"
    " correlationId INT, globalPid INT, bytes INT NOT NULL, copyKind INT NOT NULL, srcKind INT, dstKind INT",
    "CUPTI_ACTIVITY_KIND_RUNTIME": "start INT NOT NULL, end INT NOT NULL, globalTid INT, correlationId INT, nameId INT",
    "NVTX_EVENTS": "start INT NOT NULL, end INT, eventType INT, text TEXT, globalTid INT, textId INT",
    "TARGET_INFO_GPU": "id INT, name TEXT",
}
_COPY_KIND, _PAGEABLE, _DEVICE = 1, 1, 3


def nsight_export(path: Path, recording: Recording, *, operators: bool = True) -> Path:
    """The same run as Nsight Systems exports it; without ``operators`` as it is without NVTX."""
    names: dict[str, int] = {}
    process = 42 << 24
    rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _TABLES}
    for event in recording.events:
        start, end = round(event["ts"] * 1000), round((event["ts"] + event["dur"]) * 1000)
        name = names.setdefault(event["name"], len(names) + 1)
        args, thread = event["args"], process | event["tid"]
        match event["cat"]:
            case "kernel":
                row = (start, end, 0, 1, args["stream"], args["correlation"], process, name, name)
                rows["CUPTI_ACTIVITY_KIND_KERNEL"].append(row)
            case "gpu_memcpy":
                row = (start, end, 0, 7, args["correlation"], process, args["bytes"], _COPY_KIND, _PAGEABLE, _DEVICE)
                rows["CUPTI_ACTIVITY_KIND_MEMCPY"].append(row)
            case "cuda_runtime":
                rows["CUPTI_ACTIVITY_KIND_RUNTIME"].append((start, end, thread, args["correlation"], name))
            case "cpu_op" if operators:
                text = f"{event['name']}, seq = 3, sizes = {json.dumps(args.get('Input Dims', []))}"
                rows["NVTX_EVENTS"].append((start, end, 59, text, thread, None))
            case "user_annotation" if operators:
                rows["NVTX_EVENTS"].append((start, end, 59, None, thread, name))
    rows["StringIds"] = [(number, name) for name, number in names.items()]
    rows["TARGET_INFO_GPU"] = [(0, "NVIDIA A100-SXM4-40GB")]
    with sqlite3.connect(path) as connection:
        for table, columns in _TABLES.items():
            if not rows[table]:
                continue  # tables are made as they are needed
            connection.execute(f"CREATE TABLE {table} ({columns.replace(' end ', ' [end] ')})")
            marks = ", ".join("?" * len(rows[table][0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows[table])
    connection.close()
    return path
