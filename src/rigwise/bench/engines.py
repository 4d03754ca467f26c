"""Runtimes that read a network from a file: ONNX Runtime, OpenVINO, TensorRT. Each becomes a call on a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigwise.bench.libraries import needed
from rigwise.bench.types import Context

#: Most images in a batch that an engine of TensorRT is built for.
_MOST_IMAGES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A network that is written as ONNX once, when the first runtime asks for it.

    Attributes:
        torch: The module.
        net: In evaluation mode.
        image: A batch of one.
        context: Folder, target, threads.
    """

    torch: Any
    net: Any
    image: Any
    context: Context

    @property
    def path(self) -> Path:
        """The file, with a free number of images in a batch.

        Raises:
            ImportError: What the export needs is missing.
        """
        path = Path(self.context.folder) / "network.onnx"
        if not path.exists():
            needed("onnxscript", "onnx onnxscript")
            batch = self.torch.export.Dim("batch", max=_MOST_IMAGES)
            program = self.torch.onnx.export(
                self.net, (self.image.repeat(2, 1, 1, 1),), dynamo=True, dynamic_shapes=({0: batch},), verbose=False
            )
            program.save(path)
        return path

    @property
    def is_cuda(self) -> bool:
        """Whether the target is a GPU of NVIDIA."""
        return self.context.target.startswith("cuda")


Engine = Callable[[Exported], Callable[[Any], Any]]


def onnxruntime(exported: Exported) -> Callable[[Any], Any]:
    """ONNX Runtime, on the target.

    Raises:
        ImportError: It is not installed, or not for the GPU.
    """
    return _session(exported, exported.path)


def onnxruntime_int8(exported: Exported) -> Callable[[Any], Any]:
    """ONNX Runtime with weights and activations quantised to 8 bits, on the CPU.

    Raises:
        ImportError: It is not installed, or the target is a GPU, for which it has no such operators.
    """
    needed("onnxruntime", "onnxruntime onnx")
    onnx = needed("onnx")
    if exported.context.target != "cpu":
        raise ImportError("dynamic quantisation is for CPUs")
    quantization = needed("onnxruntime.quantization")
    model = onnx.load(exported.path)
    del model.graph.value_info[:]  # shapes of the weights before they are turned around
    path = exported.path.with_suffix(".int8.onnx")
    quantization.quantize_dynamic(model, path, weight_type=quantization.QuantType.QUInt8)
    return _session(exported, path)


def _session(exported: Exported, path: Path) -> Callable[[Any], Any]:
    ort = needed("onnxruntime", "onnxruntime onnx")
    provider = "CUDAExecutionProvider" if exported.is_cuda else "CPUExecutionProvider"
    if provider not in ort.get_available_providers() or exported.context.target not in ("cpu", "cuda:0"):
        raise ImportError("not here for this GPU: pip install onnxruntime-gpu, for the first one of NVIDIA")
    options = ort.SessionOptions()
    options.intra_op_num_threads = exported.context.threads
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=[provider])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images.cpu().numpy()})[0]


def openvino(exported: Exported) -> Callable[[Any], Any]:
    """OpenVINO on the CPU, tuned for the time of one request, in fp32.

    Raises:
        ImportError: It is not installed, or the target is a GPU.
    """
    if exported.context.target != "cpu":
        raise ImportError("OpenVINO is compared on the CPU: --device cpu")
    ov = needed("openvino")
    core = ov.Core()
    hints = {"INFERENCE_NUM_THREADS": exported.context.threads, "PERFORMANCE_HINT": "LATENCY"}
    hints |= {"INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(core.read_model(exported.path), "CPU", hints)
    return lambda images: model(images.numpy())[0]


def tensorrt(exported: Exported) -> Callable[[Any], Any]:
    """TensorRT on a GPU of NVIDIA, with TF32 off, in buffers of PyTorch.

    Raises:
        ImportError: It is not installed, or there is no such GPU.
        RuntimeError: It cannot read the network or build the engine.
    """
    if not exported.is_cuda:
        raise ImportError("not here: needs a GPU of NVIDIA and pip install tensorrt")
    trt = needed("tensorrt")
    engine = _engine(trt, exported)
    context = engine.create_execution_context()
    inner, outer = engine.get_tensor_name(0), engine.get_tensor_name(1)
    torch, stream = exported.torch, exported.torch.cuda.Stream(exported.context.target)

    def answer(images: Any) -> Any:
        images = images.contiguous()
        context.set_input_shape(inner, tuple(images.shape))
        out = torch.empty(tuple(context.get_tensor_shape(outer)), device=images.device)
        context.set_tensor_address(inner, images.data_ptr())
        context.set_tensor_address(outer, out.data_ptr())
        if not context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError("TensorRT did not run the network")
        stream.synchronize()
        return out

    return answer


def _engine(trt: Any, exported: Exported) -> Any:
    """The network built for this GPU."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(exported.path)):
        raise RuntimeError(f"TensorRT cannot read the network: {parser.get_error(0)}")
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    shape = tuple(exported.image.shape[1:])
    profile.set_shape(network.get_input(0).name, (1, *shape), (16, *shape), (_MOST_IMAGES, *shape))
    config.add_optimization_profile(profile)
    config.clear_flag(trt.BuilderFlag.TF32)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("TensorRT cannot build the network")
    return trt.Runtime(logger).deserialize_cuda_engine(plan)


#: By the name of their figures.
ENGINES: Mapping[str, Engine] = {
    "onnx": onnxruntime,
    "onnx-int8": onnxruntime_int8,
    "openvino": openvino,
    "tensorrt": tensorrt,
}
