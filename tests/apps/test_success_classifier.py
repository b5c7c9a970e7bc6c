"""From judged episodes to a classifier that judges: train, relabel, record, as a user runs them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from robot_rl.apps.main import compose, instantiate, main
from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import find_checkpoint, read_config, read_weights, save_checkpoint
from robot_rl.learning.success_classifier import load_classifier
from robot_rl.learning.targets import build
from tests.learning.judged_episodes import CONFIG, SPEC, record_lamp

SMALL = [f"encoder.{word}" for word in ("height=16", "width=16", "channels=[8,8]", "size=16", "shift=1")] + [
    "held_out=0.5"
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a dataset of the lamp and a classifier trained on it."""
    root = tmp_path_factory.mktemp("root")
    store = EpisodeStore.create(root / "data" / "lamp", spec=SPEC)
    for number in range(26):
        lit = range(6, 12) if number < 6 else ()
        record_lamp(store, lit=lit, success_step=7 if number < 6 else None, success=False)
    words = ["train", "algorithm=success_classifier", "data=lamp", "name=judge", f"root={root}", "steps=60", "batch=32"]
    assert main([*words, *(f"judge.{word}" for word in SMALL)]) == 0
    return root


def test_training_ends_with_a_threshold_and_says_what_the_failures_show(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge, _ = load_classifier(root / "runs" / "judge", SPEC)
    assert 0.5 <= judge.rule.threshold < 1.0
    assert read_config(find_checkpoint(root / "runs" / "judge"))["positives"] == 3
    assert main(["train", "algorithm=success_classifier", "data=lamp", "name=judge", f"root={root}"]) == 2
    assert "exists" in capsys.readouterr().err


def test_relabel_judges_a_dataset_and_a_session_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (root / "data" / "wrong", root / "runs" / "tried" / "store"):
        store = EpisodeStore.create(place, spec=SPEC)
        record_lamp(store, lit=(), success_step=5)
        record_lamp(store, lit=(4, 5, 6), success=False)
    for which in ("name=wrong", "session=tried"):
        assert main(["dataset", "subcommand=relabel", which, "classifier=judge", f"root={root}"]) == 0
        assert "1 successes revoked, 1 granted, 0 moved" in capsys.readouterr().out
    store = EpisodeStore.open(root / "data" / "wrong")
    assert [(info.success, info.success_step) for info in store.infos()] == [(False, None), (True, 5)]
    assert main(["dataset", "subcommand=relabel", "session=nothing", "classifier=judge", f"root={root}"]) == 2


def test_a_recording_is_judged_by_the_classifier_and_the_rule_is_told_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A classifier without a threshold says no to everything; the rule does not agree."""
    task = ["task=reach_image", "task.tolerance_m=0.05"]
    env = instantiate(compose("record", task).env)
    env.close()
    judge = build(CONFIG, env_spec=env.spec)
    save_checkpoint(tmp_path / "judge", weights=judge.state_dict(), config=CONFIG, env_spec=env.spec)
    words = ["record", *task, "env.max_steps=15", "episodes=1", "name=seen", "keep_failures=true", f"root={tmp_path}"]
    assert main([*words, f"classifier={tmp_path / 'judge'}"]) == 0
    assert "by the rule alone: 1, by neither: 0" in capsys.readouterr().out
    store = EpisodeStore.open(tmp_path / "data" / "seen")
    episode = store.read(store.ids()[0])
    assert episode.metadata["success"] is False and episode.metadata["judged_by"].startswith("classifier ")
    scores = episode.arrays["policy/success_score"]
    assert ((scores > 0) & (scores < 1)).all() and episode.arrays["policy/rule_success"].any()
    assert main([*words, "classifier=nowhere"]) == 2


def test_training_begins_with_the_encoders_of_another_run(root: Path) -> None:
    """Frozen ones keep them, in a classifier and in a policy that imitates."""

    def convolutions(run: str) -> dict[str, torch.Tensor]:
        stored = read_weights(find_checkpoint(root / "runs" / run))
        return {name: value for name, value in stored.items() if "convolutions" in name}

    words = ["train", "data=lamp", "batch=8", "steps=2", "encoders=judge", f"root={root}"]
    judge = [*(f"judge.{word}" for word in SMALL), "+judge.encoder.frozen=true", "judge.dropout=0.0"]
    eye = [f"+policy.cameras.front.{word.removeprefix('encoder.')}" for word in SMALL[:-1]]
    eye += ["+policy.cameras.front._target_=policies.conv_encoder.ConvEncoder", "+policy.cameras.front._partial_=true"]
    policy = [*eye, "+policy.cameras.front.frozen=true", "policy.network.width=8", "policy.network.blocks=1"]
    assert main([*words, "name=again", "algorithm=success_classifier", *judge, "steps=60"]) == 0
    assert main([*words, "name=imitated", *policy]) == 0
    wanted = convolutions("judge")
    for run in ("again", "imitated"):
        taken = convolutions(run)
        assert len(taken) == 4 and all(torch.equal(value, wanted[name]) for name, value in taken.items())
