"""A policy's episode over the bridge in which a person takes the arm by the bridge's own channel, leaves it without a
word, and hands it back later: loop, client, server and bridge together, in real time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from robot_rl.robots.bridge import BridgeRobot
from robot_rl.robots.server import RobotServer
from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import (
    ActContext,
    ActionChunk,
    Array,
    Arrays,
    EnvSpec,
    Judgement,
    Observation,
    Phase,
    PolicySpec,
    ResetRequest,
    StepRow,
)
from robot_rl_bridge.bridged_arm import BridgedArm
from tests.ros.driven_arm import bridged
from tests.runtime.counting import DELTA, Tape

pytestmark = pytest.mark.robot
SIDEWAYS = np.array([0.0, 0.1, 0.0, 0.0, 0.0, 0.0])


class Nothing:
    """A task without a goal, from home."""

    name, requires = "nothing", frozenset[str]()

    def reset_request(self, seed: int) -> ResetRequest:
        return ResetRequest(gripper_opening=1.0)

    def judge(self, observation: Observation, action: Array, next_observation: Observation) -> Judgement:
        return Judgement(0.0)


@dataclass
class Forward:
    """Plans of eight steps of 2 mm along x; remembers when it was asked."""

    env_spec: EnvSpec
    asked: list[int] = field(default_factory=list)

    @property
    def spec(self) -> PolicySpec:
        observed = {"arm0/tcp_pose": self.env_spec.observation["arm0/tcp_pose"]}
        return PolicySpec(observed, self.env_spec.action, 1, 8, 8)

    def reset(self, rows: Array, seeds: Array) -> None: ...

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        self.asked.append(int(context.step[0]))
        actions = np.zeros((1, 8, self.env_spec.action.size), dtype=np.float32)
        actions[..., 0], actions[..., -1] = 0.002, 1.0
        return ActionChunk(actions, 8)


@dataclass
class Person(Tape):
    """Steers sideways in the steps 6 to 9, and hands back in step 30."""

    arm: BridgedArm | None = None

    def on_step(self, row: StepRow) -> None:
        super().on_step(row)
        assert self.arm is not None
        if 6 <= row.observation.step < 10:
            self.arm.control.human.hear(SIDEWAYS, "base", self.arm.clock.now_ns())
        elif 30 <= row.observation.step < 32:
            self.arm.hand_back()


def test_an_arm_that_was_left_is_held_until_it_is_handed_back_and_the_episode_goes_on() -> None:
    with bridged() as (arm, _), RobotServer(arm) as server:
        env = RobotEnv(BridgeRobot(server.address), Nothing(), DELTA, 60)
        policy, person = Forward(env.spec), Person(arm=arm)
        end = run_episode(env, policy, [person], seed=0)
        env.close()
    assert end.reason == "time_limit"
    rows = person.rows
    source = {row.observation.step: row.action.source for row in rows}
    place = {row.observation.step: row.observation.state["arm0/tcp_pose"][:2] for row in rows}
    steps = sorted(source)
    human = [step for step in steps if source[step] is Phase.HUMAN]
    assert human and min(human) >= 6 and max(human) < 20
    left = [step for step in steps if max(human) + 6 < step < 30]  # at rest, and not yet handed back
    assert len(left) > 5
    assert {source[step] for step in left} == {Phase.HOLD}
    assert not any(row.action.valid for row in rows if row.observation.step in left)
    np.testing.assert_allclose([place[step] for step in left], np.tile(place[left[0]], (len(left), 1)), atol=1e-3)
    assert place[left[0]][1] - place[steps[0]][1] > 0.01  # where the person has brought it
    assert set(left[1:]) <= set(policy.asked)  # it plans anew at every step, from where it is held
    after = [step for step in steps if source[step] is Phase.POLICY and step > 32]
    assert len(after) > 10
    assert place[after[-1]][0] - place[left[-1]][0] > 0.02  # and goes on once it may
