"""robot-rl session mode=processes teleop=scripted_human: help at the actor is learnt as corrections by the learner."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robot_rl.data.store import EpisodeStore
from robot_rl.learning.training_run import read_rows
from tests.processes.robot_rl_processes import ARM, LEARNING, WAIT_S, recorded, running

SESSION = [
    "session", "mode=processes", *ARM, *LEARNING, "update_ratio=0.2", "lowest_ratio=0.2", "steps=100", "log_every=20",
    "diagnose_every=0", "evaluate_every=0", "checkpoint_every=0", "teleop=scripted_human",
    "teleop.device.patience_s=0.2", "teleop.device.least_s=0.1", "teleop.device.most_s=0.3",
]  # fmt: skip


def test_what_a_person_commands_at_the_actor_is_learnt_as_a_correction(tmp_path: Path) -> None:
    """Demonstrations are not drawn, so that there is no update before there are corrections. How long help lasts
    depends on the weights that have arrived by then: six steps at most in each episode, and two at least while they are
    those that it began with; later ones may get on by themselves."""
    root, said = recorded(tmp_path), tmp_path / "said.txt"
    with running(*SESSION, f"root={root}", "name=helped", "draw_demos=false", said=said) as it:
        assert it.wait(timeout=WAIT_S) == 0, said.read_text()
    store = EpisodeStore.open(root / "runs" / "helped" / "store")
    episodes = [store.read(id).arrays for id in store.ids()]
    whole = [arrays for arrays in episodes if len(arrays["action_valid"]) == 21]
    assert len(whole) >= 4 and not whole[0]["policy/version"].any()
    for arrays in whole:
        helped = (arrays["flags/intervention"] == 1) & arrays["action_valid"]
        assert (0 if arrays["policy/version"].any() else 2) <= helped.sum() <= 6
        if helped.any():  # without any help there is no such array
            np.testing.assert_array_equal(arrays["action/human"][helped], arrays["action/commanded"][helped])
    last = read_rows(root / "runs" / "helped" / "metrics.jsonl")[-1]
    ended, begun = divmod(last["step"], 20)  # help comes early, and the last episode may just have begun
    most = (6 * ended + min(6, begun)) / last["step"]
    assert 0.0 < last["human_share"] <= most and last["updates"] > 0
