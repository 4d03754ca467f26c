"""What of a framework the monitor reads, and callbacks that are made when they are asked for.

No framework is loaded for this: what has not been imported by the training process is not there to be asked.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rigwise.errors import MissingExtraError

if TYPE_CHECKING:
    from rigwise.launch.monitor import Monitor


def memory_bytes() -> float:
    """The most memory that this process has had at one time.

    On Linux of this program alone: what ``getrusage`` says may be that of the program that started it.
    Source: proc(5), VmHWM; getrusage(2).
    """
    with suppress(OSError, IndexError, ValueError), open("/proc/self/status", "rb") as stream:
        return float(stream.read().partition(b"VmHWM:")[2].split()[0]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return float(psutil.Process().memory_info().rss)
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes)


def gpu_bytes() -> float:
    """The most memory that PyTorch has held on this process's GPU; 0 where it uses none."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return float(cuda.max_memory_reserved()) if cuda is not None and cuda.is_initialized() else 0.0


def usable_cores() -> int:
    """Cores that this process may keep busy, by its affinity and its control groups.

    Two threads of one core count once, as libraries of arithmetic count them.
    """
    import psutil

    from rigwise.machine.probe.limits import limits
    from rigwise.machine.probe.source import Root

    allowed = limits(Root())["usable_cpus"].value
    usable = max(1, int(allowed)) if isinstance(allowed, int | float) else os.cpu_count() or 1
    return min(usable, psutil.cpu_count(logical=False) or usable)


def facts() -> dict[str, Any]:
    """Versions of the frameworks in use, the device, threads, and whether a model was compiled."""
    found: dict[str, Any] = {"python": sys.version.split()[0]}
    for name in ("torch", "lightning", "transformers", "keras", "tensorflow", "jax"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            found[name] = str(version)
    found["ranks"] = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        found["threads"] = torch.get_num_threads()
        found["cores"] = usable_cores()
        found["compiled"] = _is_compiled()
        if torch.cuda.is_initialized():
            found["device"] = torch.cuda.get_device_name()
            found["cuda"] = str(torch.version.cuda or torch.version.hip)
    return found


def _is_compiled() -> bool:
    """Whether ``torch.compile`` has made a graph in this process."""
    utilities = sys.modules.get("torch._dynamo.utils")
    counters = getattr(utilities, "counters", {})
    return bool(counters.get("stats", {}).get("unique_graphs"))


class OptimizerHook:
    """The monitor of a loop that only shows its optimizer."""

    def __init__(self, monitor: Monitor, optimizer: Any) -> None:
        self.monitor = monitor.__enter__()
        self._handle = optimizer.register_step_post_hook(lambda *_: monitor.step())
        atexit.register(self.close)

    def close(self) -> None:
        """Stop measuring."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
            self.monitor.__exit__(None, None, None)


def on_optimizer(monitor: Monitor, optimizer: Any) -> OptimizerHook:
    """Each step of a PyTorch optimizer is a step."""
    return OptimizerHook(monitor, optimizer)


class _Loop:
    """What the callbacks of all frameworks share: the time between two batches is waiting for input."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.is_open = False
        self._ended_s: float | None = None
        self._paused_s = 0.0

    def begin(self, first_step: int = 0) -> None:
        if not self.is_open:
            self.is_open = True
            self.monitor._first_step = first_step or self.monitor._first_step
            self.monitor.__enter__()
            self._ended_s = time.perf_counter()

    def batch(self) -> None:
        if self._ended_s is not None:
            self.monitor.waited(time.perf_counter() - self._ended_s)
            self._ended_s = None

    def batch_done(self) -> None:
        """A batch whose gradients wait for those of the next one."""
        self._ended_s = time.perf_counter()

    def step(self) -> None:
        self.monitor.step()
        self.batch_done()

    def save_and_stop(self, save: Callable[[], object] | None, stop: Callable[[], object]) -> None:
        """After a step: save if that is due and there is a way to, and end if that is wanted."""
        if self.monitor.checkpoint_due() and save is not None:
            with self.monitor.checkpoint():
                save()
        if self.monitor.stopping:
            stop()

    def pause(self) -> None:
        self._paused_s = time.perf_counter()

    def go_on(self) -> None:
        self.monitor.skip(time.perf_counter() - self._paused_s)

    def end(self, error: BaseException | None = None) -> None:
        if self.is_open:
            self.is_open = False
            self.monitor.__exit__(type(error) if error else None, error, None)


def lightning(monitor: Monitor, checkpoint: str) -> Any:
    """A callback for Lightning.

    Raises:
        MissingExtraError: Lightning is not installed.
    """
    base, loop = _lightning_callback(), _Loop(monitor)

    class Watch(base):  # type: ignore[misc, valid-type]
        """Reports the steps of a fit, as its optimizer makes them."""

        _done = 0

        def on_train_start(self, trainer: Any, *_: Any) -> None:
            self._done = int(trainer.global_step)
            loop.begin(self._done)

        def on_train_batch_start(self, *_: Any) -> None:
            loop.batch()

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if int(trainer.global_step) == self._done:
                loop.batch_done()
                return
            self._done = int(trainer.global_step)
            loop.step()
            save = partial(trainer.save_checkpoint, checkpoint) if checkpoint else None
            loop.save_and_stop(save, partial(self._stop, trainer))

        @staticmethod
        def _stop(trainer: Any) -> None:
            trainer.should_stop = True
            trainer.limit_val_batches = 0  # it would validate once more, while the machine is being taken away

        def on_validation_start(self, *_: Any) -> None:
            loop.pause()

        def on_validation_end(self, *_: Any) -> None:
            loop.go_on()

        def on_train_end(self, *_: Any) -> None:
            loop.end()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            loop.end(exception)

    return Watch()


def _lightning_callback() -> Any:
    for package in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return import_module(f"{package}.callbacks").Callback
        except ImportError:
            continue
    raise MissingExtraError("lightning", "torch")


def transformers(monitor: Monitor) -> Any:
    """A callback for the Trainer of Hugging Face.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    try:
        base = import_module("transformers").TrainerCallback
    except ImportError:
        raise MissingExtraError("transformers", "torch") from None
    loop = _Loop(monitor)

    class Watch(base):  # type: ignore[misc, valid-type]
        """Reports the steps of a training."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            loop.begin(int(state.global_step))

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            loop.batch()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            loop.step()
            control.should_save = control.should_save or monitor.checkpoint_due()
            control.should_training_stop = control.should_training_stop or monitor.stopping
            return control

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            control.should_evaluate = control.should_evaluate and not monitor.stopping
            return control

        def on_save(self, *_: Any, **__: Any) -> None:
            monitor.saved()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            loop.end()

    return Watch()


def keras(monitor: Monitor, checkpoint: str) -> Any:
    """A callback for ``fit`` of Keras.

    Raises:
        MissingExtraError: Keras is not installed.
    """
    try:
        base = import_module("keras.callbacks").Callback
    except ImportError:
        raise MissingExtraError("keras", "torch") from None
    loop = _Loop(monitor)

    class Watch(base):  # type: ignore[misc, valid-type]
        """Reports the batches of a fit."""

        def on_train_begin(self, logs: Any = None) -> None:
            loop.begin()

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            loop.batch()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            loop.step()
            save = partial(self.model.save, checkpoint) if checkpoint else None
            loop.save_and_stop(save, lambda: setattr(self.model, "stop_training", True))

        def on_test_begin(self, logs: Any = None) -> None:
            loop.pause()

        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            if monitor.stopping:
                self.model.stop_evaluating = True

        def on_test_end(self, logs: Any = None) -> None:
            loop.go_on()

        def on_train_end(self, logs: Any = None) -> None:
            loop.end()

    return Watch()
