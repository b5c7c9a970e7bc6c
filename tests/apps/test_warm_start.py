"""robot-rl warm_start: which lists are tried, which one is found, and the command as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from robot_rl.apps.main import main
from robot_rl.apps.warm_start import falling, shortest
from tests.apps.checkpoints import pusht_checkpoint


def test_timesteps_lie_closer_towards_clean_data_by_hand() -> None:
    """5 (1/3)^1.5 = 0.96, 5 (2/3)^1.5 = 2.72. Where rounding makes two of them equal, 0.5 and 0, all differ by one."""
    assert falling(4, 5) == [5, 3, 1, 0]
    assert falling(3, 2) == [2, 1, 0]
    assert falling(1, 7) == [7]
    assert falling(5, 4) == [4, 3, 2, 1, 0]


def test_the_best_list_of_the_first_length_that_keeps_the_score() -> None:
    def score(timesteps: Sequence[int]) -> float:
        return 0.1 * len(timesteps) + 0.01 * timesteps[0]

    found, scores = shortest(score, 0.34, fewest_calls=2, most_calls=4, first=[1, 2, 5])
    assert found == [5, 2, 0]
    assert list(scores) == [(1, 0), (2, 0), (5, 0), (2, 1, 0), (5, 2, 0)]
    assert shortest(score, 0.9, fewest_calls=2, most_calls=2, first=[1])[0] is None


def test_the_command_finds_a_list_and_prints_how_to_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two envs of 16 steps. Whatever an untrained policy reaches is enough for the first length."""
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    run = pusht_checkpoint(tmp_path)
    words = ["task=pusht", "env.max_steps=16", "episodes=2", "batch=2", "first_timesteps=[2]", "allowed_drop=1.0"]
    assert main(["warm_start", f"checkpoint={run}", "name=found", "+changes.execute=4", *words]) == 0
    told = json.loads((tmp_path / "runs" / "found" / "warm_start.json").read_text())
    assert told["timesteps"] == [2, 0] and len(told["scores"]) == 1
    assert "policy=warm_started policy.timesteps=[2,0]" in capsys.readouterr().out
    logs = {json.loads(path.read_text().splitlines()[0])["key"] for path in (tmp_path / "runs/found").glob("*.jsonl")}
    assert len(logs) == 2  # full denoising and the list
