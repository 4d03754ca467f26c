"""What a training loop is told to do, and what it is found to have done, in one process."""

import json
import math
import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise import monitor
from rigwise.errors import InvalidInputError
from rigwise.launch import agreement
from rigwise.launch.agreement import Agreement, apart
from rigwise.launch.measured import lost_s, measured, steady, weighted_quantile
from rigwise.launch.steps import Save, Session, StepFile, file_name, session, sessions


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RIGWISE_RUN", str(tmp_path))
    return tmp_path


def steps_of(folder: Path) -> Session:
    (found,) = sessions(folder)
    return found


def test_steps_samples_and_waiting_are_counted(folder) -> None:
    def loader():
        for number in range(6):
            time.sleep(0.02)
            yield number

    with monitor(samples=4) as m:
        for _ in m.batches(loader()):
            time.sleep(0.01)
            m.step()
    found = steps_of(folder)
    assert (found.steps, found.samples, found.ended) == (6, 24.0, "ok")
    assert found.wait_s >= 6 * 0.02
    assert found.work_s >= found.wait_s + 6 * 0.01
    assert math.isclose(sum(time_s for time_s, _ in found.times_s), found.work_s, rel_tol=1e-3)
    assert found.memory_bytes > 1e6


def test_pauses_and_checkpoints_belong_to_no_step(folder) -> None:
    with monitor() as m:
        m.step()
        with m.pause():
            time.sleep(0.2)
        m.step()
        with m.checkpoint():
            time.sleep(0.2)
        m.step()
    found = steps_of(folder)
    assert found.work_s < 0.2
    (save,) = found.saves
    assert save.step == 2
    assert save.took_s >= 0.2


def test_a_checkpoint_is_due_after_the_interval_and_not_before(folder, monkeypatch) -> None:
    monkeypatch.setenv("RIGWISE_CHECKPOINT_S", "0.1")
    with monitor() as m:
        assert m.interval_s == 0.1
        m.step()
        assert not m.checkpoint_due()
        time.sleep(0.11)
        assert m.checkpoint_due()
        assert not m.checkpoint_due()


def test_told_to_end_a_loop_saves_once_and_stops(folder) -> None:
    with monitor() as m:
        m.step()
        assert not m.stopping
        os.kill(os.getpid(), signal.SIGTERM)
        assert m.checkpoint_due()
        assert not m.checkpoint_due()
        assert m.stopping
    assert steps_of(folder).ended == "stopped"


def test_a_loop_that_never_asks_ends_as_it_would_without(folder) -> None:
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        with monitor() as m:
            m.step()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        assert heard == [1]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_error_is_noted_and_passed_on(folder) -> None:
    def loop() -> None:
        with monitor() as m:
            m.step()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop()
    assert steps_of(folder).ended == "ZeroDivisionError"


def test_outside_a_run_a_summary_is_printed(monkeypatch, capsys) -> None:
    monkeypatch.delenv("RIGWISE_RUN", raising=False)
    with monitor(samples=2) as m:
        for _ in range(3):
            m.step()
        assert m.summary.steps in (0, 3)
    assert "3 steps" in capsys.readouterr().err
    with monitor():
        pass
    assert "no step was reported" in capsys.readouterr().err


def test_a_full_disk_costs_figures_and_not_the_run(folder, capsys, monkeypatch) -> None:
    def full(handle: int, text: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monitor() as m:
        monkeypatch.setattr(os, "write", full)
        m.step()
    monkeypatch.undo()
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert said.count("\n") <= 2


@pytest.mark.parametrize("options", [{"samples": -1}, {"first_step": -1}, {"checkpoint_every_s": 0.0}])
def test_numbers_that_mean_nothing_are_refused(options) -> None:
    with pytest.raises(InvalidInputError):
        monitor(**options)


@pytest.mark.parametrize("text", ["soon", "nan", "inf", "-1"])
def test_an_interval_of_the_environment_is_checked(text, monkeypatch) -> None:
    monkeypatch.setenv("RIGWISE_CHECKPOINT_S", text)
    with pytest.raises(InvalidInputError):
        monitor()


def test_many_steps_make_a_small_file(folder) -> None:
    with monitor() as m:
        for _ in range(200_000):
            m.step()
    found = steps_of(folder)
    assert found.steps == 200_000
    assert sum(weight for _, weight in found.times_s) == pytest.approx(200_000, rel=0.02)
    assert (folder / file_name(1, 0, os.getpid())).stat().st_size < 500_000


def test_lines_that_are_torn_or_strange_are_passed_over(folder) -> None:
    with monitor() as m:
        m.step()
    path = next(folder.glob("steps-*"))
    with path.open("ab") as stream:
        stream.write(b'[1]\n{"is": "steps", "n": "x"}\n{"is": "save"}\n\xff\n{"is": "steps", "at": 1, "n": 99')
    assert steps_of(folder).steps == 1


@given(st.lists(st.floats(0, 1e6), min_size=1), st.sampled_from([0.1, 0.5, 0.9]))
def test_a_quantile_is_one_of_the_values_and_splits_them(values, q) -> None:
    found = weighted_quantile([(value, 1) for value in values], q)
    assert found in values
    assert sum(value <= found for value in values) >= q * len(values) - 1e-6
    assert sum(value < found for value in values) <= q * len(values)


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 5)), min_size=1, max_size=30))
def test_a_weight_is_so_many_equal_values(pairs) -> None:
    plain = [(value, 1) for value, weight in pairs for _ in range(weight)]
    assert weighted_quantile(pairs, 0.5) == weighted_quantile(plain, 0.5)


def test_warm_up_is_left_out_and_ranks_add_up() -> None:
    times = [(1.0, 1)] * 3 + [(0.1, 1)] * 12
    ranks = [
        Session(rank=rank, attempt=1, pid=rank, steps=15, times_s=times, samples=30.0, work_s=4.2, wait_s=2.1)
        for rank in (0, 1)
    ]
    found = measured(ranks)
    assert len(steady(ranks[0])) == 12
    assert found.step_time_s == {"p10": 0.1, "p50": 0.1, "p90": 0.1}
    assert found.samples_per_step == 4.0
    assert found.throughput_per_s == pytest.approx(40.0)
    assert found.wait_frac == pytest.approx(0.5)
    assert found.ranks == 2


def test_work_is_lost_from_the_last_checkpoint_on() -> None:
    one = Session(rank=0, attempt=2, pid=1, began_s=100.0, saves=(Save(step=3, at_s=130.0, took_s=1.0),))
    assert lost_s([one], 2, 142.0) == 12.0
    assert lost_s([one], 1, 142.0) is None


def test_ranks_agree_on_the_most_of_what_each_wants(monkeypatch) -> None:
    class Two(Agreement):
        """A rank beside another that says the given things."""

        others = iter([[1.0, 0.0, -1.0], [0.0, 1.0, -3.0]])

        def is_shared(self) -> bool:
            return True

        def _most(self, values):
            return [max(mine, other) for mine, other in zip(values, next(self.others), strict=True)]

    one = Two()
    assert one.on(0.0, 600.0, 0.005, stop=False).due
    answer = one.on(0.0, 600.0, 0.005, stop=False)
    assert (answer.due, answer.stop) == (False, True)
    assert not one.on(0.0, 600.0, 0.005, stop=False).due  # and the others were not asked again


@given(st.floats(1.0, 1e5), st.floats(1e-4, 100.0))
def test_questions_are_never_far_apart(every_s, step_s) -> None:
    steps = apart(every_s, step_s)
    assert 1 <= steps <= 100
    assert steps == 1 or steps * step_s <= min(1.0, 0.01 * every_s) + step_s * 1e-6
    assert agreement.apart(every_s, 0.0) == 1


def test_a_file_without_a_path_keeps_its_lines() -> None:
    kept = StepFile(None)
    kept.write({"is": "begin", "at": 1.0, "step": 7})
    assert session(kept.lines).first_step == 7
    assert json.dumps(kept.lines)


def test_an_optimizer_is_followed(folder) -> None:
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    hook = monitor.optimizer(optimizer)
    for _ in range(3):
        weight.sum().backward()
        optimizer.step()
    hook.close()
    optimizer.step()
    found = steps_of(folder)
    assert (found.steps, found.ended) == (3, "ok")
    assert found.facts["torch"] == torch.__version__


def test_lightning_is_followed(folder, tmp_path) -> None:
    """The callback as its framework calls it, without a trainer, which takes seconds."""
    pytest.importorskip("lightning")
    watch = monitor.lightning(str(tmp_path / "c.ckpt"), checkpoint_every_s=1e-6)

    class Trainer:
        global_step = 5
        should_stop = False

        def save_checkpoint(self, path: str) -> None:
            Path(path).write_text("saved")

    trainer = Trainer()
    watch.on_train_start(trainer, None)
    for number in range(2):
        watch.on_train_batch_start(trainer, None, None, number)
        trainer.global_step += 1
        watch.on_train_batch_end(trainer, None, None, None, number)
    watch.on_train_end(trainer, None)
    found = steps_of(folder)
    assert (found.first_step, found.steps, len(found.saves)) == (5, 2, 2)
    assert (tmp_path / "c.ckpt").exists()


def test_a_trainer_of_transformers_is_followed_and_told_to_end(folder) -> None:
    pytest.importorskip("transformers")
    from transformers import TrainerControl, TrainerState

    watch, state, control = monitor.transformers(), TrainerState(global_step=7), TrainerControl()
    watch.on_train_begin(None, state, control)
    watch.on_step_begin(None, state, control)
    watch.on_step_end(None, state, control)
    assert not control.should_save
    os.kill(os.getpid(), signal.SIGTERM)
    watch.on_step_begin(None, state, control)
    watch.on_step_end(None, state, control)
    assert control.should_save
    assert control.should_training_stop
    watch.on_save(None, state, control)
    watch.on_train_end(None, state, control)
    found = steps_of(folder)
    assert (found.first_step, found.steps, len(found.saves), found.ended) == (7, 2, 1, "stopped")


def test_a_fit_of_keras_is_followed(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip("keras")

    class Model:
        stop_training = False

        def save(self, path: str) -> None:
            Path(path).write_text("saved")

    watch = monitor.keras(str(tmp_path / "m.keras"), checkpoint_every_s=1e-6)
    watch.set_model(Model())
    watch.on_train_begin()
    watch.on_train_batch_begin(0)
    watch.on_train_batch_end(0)
    watch.on_test_begin()
    time.sleep(0.05)
    watch.on_test_end()
    watch.on_train_batch_begin(1)
    watch.on_train_batch_end(1)
    watch.on_train_end()
    found = steps_of(folder)
    assert (found.steps, len(found.saves), found.ended) == (2, 2, "ok")
    assert found.work_s < 0.05
    assert (tmp_path / "m.keras").exists()
