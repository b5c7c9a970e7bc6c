"""A session judged by a classifier, in both modes: it ends training episodes, the rule says how evaluations went."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from robot_rl.apps.main import main
from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import save_checkpoint
from robot_rl.learning.targets import build
from robot_rl.learning.training_run import read_rows
from tests.learning.judged_episodes import CONFIG, SPEC, record_lamp

SESSION = [
    "session", "+env._target_=tests.runtime.lamp_env.LampEnv", "+env.max_steps=6", "demos=lamp", "batch=8", "start=4",
    "steps=8", "policy.hidden=[8]", "algorithm.critic.hidden=[8]", "log_every=4", "diagnose_every=0",
    "checkpoint_every=0", "evaluate_every=8", "evaluate_episodes=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demonstration, and a classifier that calls every third frame in a row a success."""
    root = tmp_path_factory.mktemp("root")
    record_lamp(EpisodeStore.create(root / "data" / "lamp", spec=SPEC), lit=())
    state = build(CONFIG, env_spec=SPEC).state_dict() | {"rule.threshold": torch.tensor(1e-9, dtype=torch.float64)}
    save_checkpoint(root / "runs" / "easy", weights=state, config=CONFIG, env_spec=SPEC)
    return root


@pytest.mark.parametrize("mode", ["lockstep", "processes"])
def test_the_classifier_ends_training_episodes_and_the_rule_judges_evaluations(
    root: Path, mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Three frames are seen after two steps."""
    assert main([*SESSION, f"mode={mode}", f"name={mode}", "classifier=easy", f"root={root}"]) == 0
    store = EpisodeStore.open(root / "runs" / mode / "store")
    episodes = [store.read(id) for id in store.ids()]
    assert len(episodes) >= 4
    for episode in episodes[:4]:
        assert (episode.steps, episode.metadata["success"]) == (2, True)
        assert episode.metadata["judged_by"].startswith("classifier ")
        assert (episode.arrays["policy/success_score"] > 0.0).all()
        assert not episode.arrays["policy/rule_success"].any()
    assert {row["success"] for row in read_rows(root / "runs" / mode / "evaluations.jsonl")} == {0.0}
    assert "by the classifier alone: " in capfd.readouterr().out
    run = root / "runs" / mode
    for judge, success in (("null", False), ("easy", True)):  # an evaluation asks whom it is told to
        words = [f"checkpoint={run}", f"classifier={judge}", f"name={mode}-{judge}", f"root={root}"]
        assert main(["evaluate", *SESSION[1:3], *words, "episodes=1", "videos=0"]) == 0
        (report,) = (root / "runs" / f"{mode}-{judge}").glob("*.json")
        assert [episode["success"] for episode in json.loads(report.read_text())["episodes"]] == [success]
