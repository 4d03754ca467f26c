"""The callbacks inside whole trainers: Lightning, the Trainer of Hugging Face and ``fit`` of Keras."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from rigwise.launch.steps import Session, sessions

LIGHTNING = """
    import lightning, torch
    from rigwise import monitor

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(8, 1)
        def training_step(self, batch, _):
            return self.layer(batch[0]).mean()
        def validation_step(self, batch, _):
            import time; time.sleep(0.01)
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(STEPS * 4, 8)), batch_size=2)
    trainer = lightning.Trainer(
        max_epochs=1, accumulate_grad_batches=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, val_check_interval=0.5,
        callbacks=[monitor.lightning("net.ckpt", checkpoint_every_s=1e-6, samples=4)],
    )
    trainer.fit(Net(), data, data)
"""
TRANSFORMERS = """
    import torch
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
    from rigwise import monitor

    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50)
    row = {"input_ids": torch.arange(8), "labels": torch.tensor(1)}
    arguments = TrainingArguments(
        output_dir="out", max_steps=STEPS, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        save_strategy="no", eval_strategy="epoch", report_to=[], disable_tqdm=True, use_cpu=True,
    )
    watch = monitor.transformers(checkpoint_every_s=1e-6, samples=4)
    net, unseen = BertForSequenceClassification(config), [row] * (STEPS * 40)
    seen = [row] * (STEPS * 4)  # one epoch: no validation is under way when the machine is taken away
    Trainer(net, arguments, train_dataset=seen, eval_dataset=unseen, callbacks=[watch]).train()
"""
KERAS = """
    import keras, numpy
    from rigwise import monitor

    net = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(1)])
    net.compile(optimizer="sgd", loss="mse")
    x, y = numpy.zeros((STEPS * 4, 8), "float32"), numpy.zeros((STEPS * 4, 1), "float32")
    watch = monitor.keras("net.keras", checkpoint_every_s=1e-6, samples=4)
    net.fit(x, y, batch_size=4, epochs=1, verbose=0, validation_data=(x, y), callbacks=[watch])
"""
TRAINERS = {"lightning": LIGHTNING, "transformers": TRANSFORMERS, "keras": KERAS}
SAVED = {"lightning": "net.ckpt", "transformers": "out/checkpoint-*", "keras": "net.keras"}


def start(name: str, steps: int, folder: Path) -> subprocess.Popen[bytes]:
    """A whole training in a process of its own, told to report into ``folder``."""
    if find_spec(name) is None:
        pytest.skip(f"needs {name}")
    source = textwrap.dedent(TRAINERS[name]).replace("STEPS", str(steps))
    (folder / "train.py").write_text(source)
    environment = os.environ | {"RIGWISE_RUN": str(folder), "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "train.py"]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[bytes], folder: Path) -> Session:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()[-3000:]
    (found,) = sessions(folder)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINERS)
def test_a_whole_training_is_measured_and_saved(name: str, tmp_path: Path) -> None:
    found = ended(start(name, 10, tmp_path), tmp_path)
    assert (found.steps, found.samples, found.ended) == (10, 40.0, "ok")
    assert found.saves
    assert list(tmp_path.glob(SAVED[name]))
    assert found.work_s > 0
    assert min(time_s for time_s, _ in found.times_s) >= 0  # Lightning validates before the first step
    assert name in found.facts


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINERS)
def test_a_whole_training_saves_and_ends_when_the_machine_is_taken_away(name: str, tmp_path: Path) -> None:
    process = start(name, 50_000, tmp_path)
    ends_s = time.monotonic() + 120
    while process.poll() is None and not any(one.steps for one in sessions(tmp_path)) and time.monotonic() < ends_s:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    found = ended(process, tmp_path)
    assert found.ended == "stopped"
    assert 0 < found.steps < 50_000
    assert found.saves[-1].step == found.first_step + found.steps
    assert list(tmp_path.glob(SAVED[name]))
