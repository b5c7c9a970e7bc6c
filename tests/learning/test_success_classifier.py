"""A lamp that is lit when the task is done: labels, the threshold by hand, checkpoints, and judging again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl.data.labelled_frames import LabelledFrames, held_out
from robot_rl.data.replay import ReplaySampler
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import CheckpointError, RobotRlError, StoreError
from robot_rl.learning.bc import BehaviourCloning
from robot_rl.learning.checkpoint import load_checkpoint, save_checkpoint
from robot_rl.learning.success_classifier import (
    Relabelled,
    Trial,
    choose_threshold,
    load_classifier,
    relabel,
    success_bounds,
    trials,
)
from robot_rl.learning.targets import build
from robot_rl.runtime.success_rule import SuccessRule
from robot_rl.types import ReplayView
from tests.learning.judged_episodes import CONFIG, SPEC, lamp_observation, record_lamp

STATES = ["arm0/tcp_pose"]


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    return EpisodeStore.create(tmp_path / "lamp", spec=SPEC)


def test_labels_of_successes_failures_and_what_nobody_judged(store: EpisodeStore) -> None:
    """Step 7 of 11 succeeds, in observation 8: it and the one before show it, two before those are not said; nothing
    is said of what follows, nor of an episode without a verdict."""
    record_lamp(store, lit=range(7, 12), success_step=7)
    record_lamp(store, lit=(), success=False)
    record_lamp(store, lit=())
    frames = LabelledFrames(store, ["front"], batch=4, positives=2, unsure=2)
    wanted = [0, 0, 0, 0, 0, -1, -1, 1, 1, -1, -1, -1]
    assert frames.labels.tolist() == wanted + [0] * 12 + [-1] * 12
    assert len(frames) == 7 + 12


def test_labels_obey_annotations(store: EpisodeStore) -> None:
    moved, revoked = record_lamp(store, lit=(), success_step=7), record_lamp(store, lit=(), success_step=7)
    store.annotate(moved, success=True, success_step=3)
    store.annotate(revoked, success=False)
    frames = LabelledFrames(store, ["front"], batch=4, positives=1, unsure=0)
    assert frames.labels.tolist() == [0, 0, 0, 0, 1, *[-1] * 7, *[0] * 12]


def test_half_of_every_batch_shows_success_and_a_step_always_gives_the_same(store: EpisodeStore) -> None:
    record_lamp(store, lit=range(7, 12), success_step=7)
    record_lamp(store, lit=(), success=False)
    frames = LabelledFrames(store, ["front"], batch=6, positives=2, unsure=0)
    batch, again = frames.batch(3), frames.batch(3)
    assert batch["success"].tolist() == [1, 1, 1, 0, 0, 0]
    assert batch["images/front"].shape == (6, 1, 16, 16, 3)
    assert (batch["images/front"][:, 0, 8, 8, 0] > 100).tolist() == [True] * 3 + [False] * 3
    np.testing.assert_array_equal(batch["images/front"], again["images/front"])


def test_data_without_failures_or_successes_is_refused(store: EpisodeStore) -> None:
    record_lamp(store, lit=(), success=False)
    with pytest.raises(StoreError, match="no frame shows success"):
        LabelledFrames(store, ["front"], batch=4)


def test_the_same_share_of_successes_and_failures_is_held_out(store: EpisodeStore) -> None:
    for number in range(10):
        record_lamp(store, lit=(), rows=4, success_step=2 if number < 4 else None, success=False)
    infos = store.infos()
    outside = held_out(infos, 0.5)
    assert sorted(bool(info.success) for info in infos if info.id in outside) == [False] * 3 + [True] * 2
    assert held_out(infos[::-1], 0.5) == outside


# --- the threshold


def failures(*levels: float) -> list[Trial]:
    return [Trial(True, level) for level in levels]


def successes(*levels: tuple[float, float]) -> list[Trial]:
    return [Trial(False, wrong, right) for wrong, right in levels]


def test_the_threshold_lies_half_way_between_failures_and_successes() -> None:
    """Failures reach 0.6, successes 0.8, 0.9 and 1 (median 0.9): 0.75. None of 10 failures passes, so their rate is
    below 1 - 0.025^(1/10) = 30.8 %, and ln 0.025 / ln 0.99 = 367.04 failures are needed to show 1 %."""
    choice = choose_threshold([*failures(0.6, *[0.1] * 9), *successes((0.2, 0.8), (0.3, 0.9), (0.1, 1.0))])
    assert choice.threshold == pytest.approx(0.75)
    assert (choice.failures, choice.false_successes, choice.successes, choice.early, choice.found) == (10, 0, 3, 0, 3)
    assert choice.false_upper_95 == pytest.approx(0.3085, abs=1e-4)
    assert "it takes 368 without a false success to show 1%" in choice.caution


def test_one_failure_in_a_hundred_may_pass() -> None:
    """Of 200 failures the two worst may be called successes: the third worst, 0.7, counts."""
    choice = choose_threshold([*failures(0.99, 0.98, 0.7, *[0.0] * 197), *successes(*[(0.0, 0.9)] * 5)])
    assert choice.threshold == pytest.approx(0.8)
    assert (choice.false_successes, choice.found) == (2, 5)


def test_successes_called_too_early_raise_the_threshold() -> None:
    choice = choose_threshold([*failures(*[0.1] * 10), *successes((0.8, 0.9), (0.1, 1.0), (0.0, 0.95))])
    assert choice.threshold == pytest.approx(0.5 * (0.8 + 0.95))
    assert (choice.early, choice.found) == (0, 3)


def test_enough_failures_need_no_caution_and_clear_ones_the_least_threshold() -> None:
    choice = choose_threshold([*failures(*[0.01] * 400), *successes((0.0, 0.9))])
    assert (choice.threshold, choice.caution) == (0.5, "")


def test_too_few_failures_and_failures_as_sure_as_successes_are_refused() -> None:
    with pytest.raises(RobotRlError, match="9 failed, 1 successful"):
        choose_threshold([*failures(*[0.1] * 9), *successes((0.0, 1.0))])
    with pytest.raises(RobotRlError, match="as sure as"):
        choose_threshold([*failures(*[1.0] * 10), *successes((0.0, 1.0))])


# --- training, checkpoints, judging again


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a classifier that knows the lamp; its successes had the TCP at x = 0.5 m."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("classifier")
    store = EpisodeStore.create(root / "data", spec=SPEC)
    for _ in range(4):
        record_lamp(store, lit=range(6, 12), success_step=7)
    for _ in range(10):
        record_lamp(store, lit=(), success=False)
    judge = build(CONFIG, env_spec=SPEC)
    frames = LabelledFrames(store, ["front"], batch=32, states=STATES)
    learner = BehaviourCloning(judge, steps=60, warmup_steps=5, learning_rate=3e-3, ema_maximum=0.9)
    for step in range(60):
        batch = {key: torch.from_numpy(value[None]) for key, value in frames.batch(step).items()}
        learner.update({"demonstrations": batch})
    judge.load_state_dict(learner.acting_state())
    judge.rule = success_bounds(judge, frames, 0.02)
    choice = choose_threshold(trials(judge, frames))
    assert (choice.false_successes, choice.early, choice.found) == (0, 0, 4)
    judge.rule = choice.applied_to(judge.rule)
    return save_checkpoint(root / "checkpoint", weights=judge.state_dict(), config=CONFIG, env_spec=SPEC)


def test_a_classifier_comes_back_from_its_checkpoint_with_its_rule(trained: Path) -> None:
    judge, version = load_classifier(trained, SPEC)
    assert judge.rule.threshold < 1.0 and judge.rule.consecutive == 3
    np.testing.assert_allclose(judge.rule.lower_m, [0.48, -0.02, 0.18], atol=1e-6)
    np.testing.assert_allclose(judge.rule.upper_m, [0.52, 0.02, 0.22], atol=1e-6)
    assert load_classifier(trained)[1] == version > 0
    with pytest.raises(CheckpointError, match="is no policy"):
        load_checkpoint(trained, SPEC)


def test_until_a_threshold_is_chosen_nothing_is_a_success() -> None:
    assert build(CONFIG, env_spec=SPEC).rule == SuccessRule(1.0, 3)


def test_scores_tell_the_lamp(trained: Path) -> None:
    judge, _ = load_classifier(trained, SPEC)
    frames = [lamp_observation(lit, 90 + lit).frames["front"].data for lit in (False, True)]
    window = {"images/front": np.stack([np.frombuffer(data, np.uint8).reshape(1, 16, 16, 3) for data in frames])}
    dark, bright = judge.probability(window)
    assert dark < judge.rule.threshold < bright


def test_judging_again_revokes_moves_and_grants(store: EpisodeStore, trained: Path) -> None:
    """Three lit frames in a row make a success in the third: rows 4, 5, 6 by control step 5."""
    wrong = record_lamp(store, lit=(), success_step=7)
    late = record_lamp(store, lit=(4, 5, 6), success_step=9)
    missed = record_lamp(store, lit=(4, 5, 6), success=False)
    flicker = record_lamp(store, lit=(2, 3, 5, 6), success=False)
    elsewhere = record_lamp(store, lit=(4, 5, 6), success=False, x_m=0.7)
    right = record_lamp(store, lit=(4, 5, 6), success_step=5)
    record_lamp(store, lit=())
    before = {path.name: path.read_bytes() for path in (store.root / "episodes").iterdir()}
    judge, _ = load_classifier(trained, SPEC)
    assert relabel(store, judge, "me") == Relabelled(unchanged=3, revoked=1, granted=1, moved=1, failed=1)
    found = {info.id: (info.success, info.success_step) for info in store.infos()}
    assert (found[wrong], found[late], found[missed]) == ((False, None), (True, 5), (True, 5))
    assert (found[flicker], found[elsewhere], found[right]) == ((False, None), (False, None), (True, None))
    assert {path.name: path.read_bytes() for path in (store.root / "episodes").iterdir()} == before
    assert relabel(store, judge, "me") == Relabelled(unchanged=7)


def test_replay_sees_what_was_judged_again(store: EpisodeStore, trained: Path) -> None:
    """gamma 0.5. Revoked at step 7: no reward, 11 steps that bootstrap. Granted at step 5: it pays and ends."""
    view = ReplayView(observation=("obs/arm0/tcp_pose",), discount_per_control_step=0.5)
    record_lamp(store, lit=(), success_step=7)
    record_lamp(store, lit=(4, 5, 6), success=False)
    replay = ReplaySampler(store, view, batch=1)
    assert len(replay) == 8 + 11
    relabel(store, load_classifier(trained)[0], "me")
    replay.refresh()
    batch = replay.gather(np.arange(len(replay)))
    assert (batch["reward"].tolist(), batch["bootstrap"].tolist()) == ([0] * 16 + [1], [0.5] * 16 + [0])
