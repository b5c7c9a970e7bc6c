"""Lift with the gripper left to its reflex: the arm alone is commanded, and the cube is lifted all the same."""

from __future__ import annotations

from robot_rl.apps.main import compose, instantiate
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import EpisodeEnd, Observation


def test_the_expert_lifts_with_the_arm_alone() -> None:
    config = compose("record", ["task=lift_arm_only"])
    env, expert = instantiate(config.env), instantiate(config.teleop)
    ends: list[EpisodeEnd] = [run_episode(env, expert, seed=seed) for seed in range(6)]
    assert [end.reason for end in ends] == ["success"] * 6
    assert [part.name for part in env.spec.action.parts] == ["arm0/tcp"]
    assert env.spec.task == "lift_arm_only"
    opened: Observation = env.reset(6)  # the fingers of a new episode are open again
    assert opened.state["arm0/gripper_opening"][0] > 0.95
    env.close()
