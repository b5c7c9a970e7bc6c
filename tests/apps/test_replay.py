"""robot-rl replay: what was recorded comes out again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robot_rl.apps.main import main
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ResetError
from robot_rl.runtime.random_policy import RandomPolicy
from robot_rl.runtime.replay import Deviation, ReplayPolicy, from_recording
from robot_rl.runtime.rollout import run_episode
from sim.pusht_env import pusht_env
from tests.runtime.counting import UNIT_M, CountingPolicy, Tape, counting_env


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    return tmp_path


def deviations(said: str) -> dict[str, float]:
    rows = [line.split("│") for line in said.splitlines() if "/" in line and line.count("│") >= 4]
    return {cells[1].strip(): float(cells[3]) for cells in rows}


def test_a_recorded_episode_is_reproduced(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["record", "task=pusht", "teleop=random", "episodes=2", "keep_failures=true", "env.max_steps=40"])
    capsys.readouterr()
    assert main(["replay", "data=pusht", "episode=1", "show=video"]) == 0
    said = capsys.readouterr().out
    assert deviations(said) == {"agent/position": 0.0, "tee/keypoints": 0.0, "tee/pose": 0.0}
    assert "replayed 40 steps" in said
    (video,) = (root / "runs" / "replay").glob("*.mp4")
    assert str(video) in said


def test_an_arm_in_mujoco_follows_its_recording(capsys: pytest.CaptureFixture[str]) -> None:
    """Commands repeat the motion. What was executed is a path within the limits already: given as one plan it is
    followed to what blending its rows anew changes."""
    main(["record", "task=reach", "teleop=scripted", "episodes=1"])
    found = {}
    for play in ([], ["play=executed"]):
        capsys.readouterr()
        assert main(["replay", "data=reach", *play]) == 0
        found[bool(play)] = deviations(capsys.readouterr().out)["arm0/tcp_pose"]
    assert found[False] < 1e-6
    assert 0.0 < found[True] < 1e-4


def test_an_episode_without_a_seed_starts_from_its_first_observation(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = pusht_env(max_steps=20)
    tape = Tape()
    run_episode(env, RandomPolicy(env.spec), [tape], seed=8)
    first = tape.rows[0].observation.state
    restored, seed = from_recording(env, None, first)
    recorded = {name: np.array([row.observation.state[name] for row in tape.rows]) for name in first}
    deviation = Deviation(recorded)
    actions = np.array([row.action.executed for row in tape.rows])
    run_episode(restored, ReplayPolicy(actions, env.spec), [deviation], seed=seed)
    assert max(deviation.largest.values()) < 1e-3
    with pytest.raises(ResetError, match="no reset seed"):
        from_recording(counting_env(), None, first)


def test_plans_begin_and_look_ahead_as_recorded() -> None:
    env, tape = counting_env(10), Tape()
    actions = np.tile(np.arange(10)[:, None] * UNIT_M, (1, 4)).astype(np.float32)
    run_episode(env, ReplayPolicy(actions, env.spec, starts=[0, 3, 7], horizon=4), [tape], seed=0)
    assert [decision.step for decision in tape.decisions] == [0, 3, 7]
    assert {len(decision.planned) for decision in tape.decisions} == {4}
    np.testing.assert_array_equal([row.action.policy for row in tape.rows], actions)


def test_deviation_names_the_largest_and_where() -> None:
    env = counting_env(4)
    recorded = {"arm0/tcp_pose": np.zeros((5, 7), np.float32)}
    recorded["arm0/tcp_pose"][:, [2, 3]] = [0.25, 1.0]
    recorded["arm0/tcp_pose"][0, 2] = 0.3
    deviation = Deviation(recorded)
    run_episode(env, CountingPolicy(env.spec, 4, 4), [deviation], seed=0)
    assert deviation.at_step["arm0/tcp_pose"] == 4
    assert deviation.largest["arm0/tcp_pose"] == np.float32(3 * UNIT_M)
    assert deviation.mean("arm0/tcp_pose") == pytest.approx((0 + 0 + 1 + 2 + 3) * UNIT_M / 5)


def test_mistakes_end_in_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "data=nothing"]) == 2
    assert "no dataset 'nothing'" in capsys.readouterr().err
    main(["record", "task=pusht", "teleop=random", "episodes=1", "keep_failures=true", "env.max_steps=3"])
    capsys.readouterr()
    assert main(["replay", "data=pusht", "episode=7"]) == 2
    assert "no episode '7'" in capsys.readouterr().err
    assert main(["replay", "data=pusht", "play=policy"]) == 2
    assert "commanded, executed" in capsys.readouterr().err
    assert main(["replay", "data=pusht", "task=reach"]) == 2
    assert "another env" in capsys.readouterr().err
    id = EpisodeStore.open(root / "data" / "pusht").ids()[0]
    assert main(["replay", "data=pusht", f"episode={id[:20]}"]) == 0
