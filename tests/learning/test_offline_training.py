"""The loop: a killed run that goes on ends with the numbers of one that was never killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.learning.bc import BehaviourCloning
from robot_rl.learning.checkpoint import find_checkpoint, load_checkpoint, load_training_state
from robot_rl.learning.ema import ExponentialMovingAverage
from robot_rl.learning.offline_training import OfflineSchedule, OfflineTraining, Provenance
from robot_rl.learning.targets import build
from robot_rl.learning.training_plots import action_labels, plot_losses, plot_samples
from robot_rl.learning.training_run import TrainingRun, read_rows
from robot_rl.types import ActionKind, ActionPart, ActionSpec, Array
from tests.policies.tiny import CONFIG, SPEC, make_batch, make_rows

STEPS = 20


class TinyBatches:
    """Windows by step, as a WindowSampler gives them."""

    def __len__(self) -> int:
        return 32

    def batch(self, step: int) -> dict[str, Array]:
        return make_batch(8, seed=step)

    def gather(self, windows: Array) -> dict[str, Array]:
        return {key: value[np.asarray(windows)] for key, value in make_batch(32).items()}


class KillAt(TinyBatches):
    """Dies without warning when the batch of a step is asked for."""

    def __init__(self, step: int) -> None:
        self.step = step

    def batch(self, step: int) -> dict[str, Array]:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(step)


def make_training(folder: Path, batches: TinyBatches, *, resume: bool = False, **schedule: int) -> OfflineTraining:
    torch.set_num_threads(1)
    policy = build(CONFIG, env_spec=SPEC)
    policy.fit_normalizer(make_rows())
    learner = BehaviourCloning(policy, steps=STEPS, warmup_steps=3)
    settings = {"steps": STEPS, "log_every": 1, "checkpoint_every": 5, **schedule}
    training = OfflineTraining(
        learner,
        batches,
        TrainingRun(folder, resume=resume),
        OfflineSchedule(**settings),
        Provenance(CONFIG, SPEC, {"data": "beads"}),
        evaluate=lambda step, state: {"score": 1.0 - abs(step - 10) / 20},
        quiet=True,
    )
    if resume:
        training.resume()
    return training


def state_of(folder: Path) -> Mapping[str, Tensor]:
    return {**load_training_state(folder)[0], **load_checkpoint(folder, SPEC).state_dict()}


def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = make_training(tmp_path / "whole", TinyBatches())
    whole.train()
    script = (
        "from pathlib import Path; from tests.learning.test_offline_training import KillAt, make_training;"
        f"make_training(Path({str(tmp_path / 'killed')!r}), KillAt(13)).train()"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    resumed = make_training(tmp_path / "killed", TinyBatches(), resume=True)
    assert resumed.step == 10
    resumed.train()
    expected, found = state_of(tmp_path / "whole"), state_of(tmp_path / "killed")
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(value, found[key]), key
    told = [(row["step"], row["loss"]) for row in read_rows(tmp_path / "killed" / "metrics.jsonl")]
    assert told == [(row["step"], row["loss"]) for row in read_rows(tmp_path / "whole" / "metrics.jsonl")]


def test_groups_see_the_batches_that_single_steps_see(tmp_path: Path) -> None:
    make_training(tmp_path / "one", TinyBatches()).train()
    make_training(tmp_path / "four", TinyBatches(), group=4).train()
    for key, value in state_of(tmp_path / "one").items():
        assert torch.equal(value, state_of(tmp_path / "four")[key]), key


def test_checkpoints_are_rotated_and_the_best_stays(tmp_path: Path) -> None:
    make_training(tmp_path, TinyBatches(), checkpoint_every=2, evaluate_every=2).train()
    names = sorted(path.name for path in (tmp_path / "checkpoints").glob("step_*"))
    assert names == ["step_00000010", "step_00000018", "step_00000020"]
    assert find_checkpoint(tmp_path).name == "step_00000020"
    assert find_checkpoint(tmp_path, "best").name == "step_00000010"
    assert [row["score"] for row in read_rows(tmp_path / "evaluations.jsonl")][4] == 1.0


def test_an_interrupted_run_saves_before_it_ends(tmp_path: Path) -> None:
    class Interrupt(TinyBatches):
        def batch(self, step: int) -> dict[str, Array]:
            if step == 7:
                raise KeyboardInterrupt
            return super().batch(step)

    with pytest.raises(KeyboardInterrupt):
        make_training(tmp_path, Interrupt()).train()
    assert find_checkpoint(tmp_path).name == "step_00000007"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_amid_a_gradient_step_waits_for_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Saved in between, step and weights would not belong together and a resumed run would not be the same."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command does
    training = make_training(tmp_path / "run", TinyBatches())
    moved = ExponentialMovingAverage.update

    def interrupted(average: ExponentialMovingAverage, parameters: Mapping[str, Tensor]) -> None:
        if average.step == 7:
            signal.raise_signal(number)
        moved(average, parameters)

    monkeypatch.setattr(ExponentialMovingAverage, "update", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            training.train()
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, previous)
    state, manifest = load_training_state(tmp_path / "run")
    assert manifest["step"] == int(state["step"]) == 8


def test_a_finished_run_that_goes_on_names_its_last_checkpoint(tmp_path: Path) -> None:
    last = make_training(tmp_path, TinyBatches()).train()
    assert last.name == "step_00000020"
    assert make_training(tmp_path, TinyBatches(), resume=True).train() == last


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    class Fail(TinyBatches):
        def batch(self, step: int) -> dict[str, Array]:
            if step == 3:
                raise RuntimeError
            return super().batch(step)

    with pytest.raises(RuntimeError):
        make_training(tmp_path, Fail()).train()
    make_training(tmp_path, TinyBatches()).train()
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == list(range(1, STEPS + 1))


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    make_training(tmp_path, TinyBatches(), steps=5).train()
    with pytest.raises(ConfigError, match="resume=true"):
        make_training(tmp_path, TinyBatches())


def test_a_torn_line_of_the_log_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1, "loss": 0.5}) + '\n{"step": 2, "lo')
    assert read_rows(path) == [{"step": 1, "loss": 0.5}]


def test_axes_name_part_component_and_unit() -> None:
    parts = (
        ActionPart("arm0/tcp", ActionKind.TCP_DELTA, (-1.0,) * 6, (1.0,) * 6, unit="m, rad", frame="base"),
        ActionPart("arm0/gripper", ActionKind.GRIPPER, (0.0,), (1.0,), unit="opening"),
        ActionPart("arm0/joints", ActionKind.JOINT_POSITION, (-1.0,) * 2, (1.0,) * 2, unit="rad"),
        ActionPart("adapted", ActionKind.RAW, (0.0,), (1.0,)),
    )
    assert action_labels(ActionSpec(parts)) == [
        "arm0/tcp dx [m]", "arm0/tcp dy [m]", "arm0/tcp dz [m]",
        "arm0/tcp rx [rad]", "arm0/tcp ry [rad]", "arm0/tcp rz [rad]",
        "arm0/gripper [opening]", "arm0/joints 1 [rad]", "arm0/joints 2 [rad]", "adapted",
    ]  # fmt: skip
    assert action_labels(SPEC.action) == ["bead/target x [m]", "bead/target y [m]"]


def test_plots_are_written(tmp_path: Path) -> None:
    make_training(tmp_path, TinyBatches(), evaluate_every=10).train()
    policy = load_checkpoint(tmp_path, SPEC)
    for path in (plot_losses(tmp_path), plot_samples(policy, TinyBatches(), tmp_path / "samples.png")):
        assert path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 10_000
