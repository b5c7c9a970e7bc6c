"""From axes to actions, by hand-computed numbers, and a person at the fake arm in the real loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from robot_rl.errors import ConfigError
from robot_rl.interfaces import Intervention
from robot_rl.robots.fake import FakeRobot
from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.rollout import run_episode
from robot_rl.runtime.still import StillPolicy
from robot_rl.teleop.device import Key
from robot_rl.teleop.steering import Speed, Steering, steered
from robot_rl.types import (
    ActionKind,
    ActionPart,
    ActionSpec,
    EpisodeEvent,
    Observation,
    Phase,
    StepRow,
)
from tests.runtime.counting import ReachTask, Tape
from tests.teleop.handheld import Handheld

GRIPPER = ActionPart("arm0/gripper", ActionKind.GRIPPER, (0.0,), (1.0,))
DELTA = ActionSpec((ActionPart("arm0/tcp", ActionKind.TCP_DELTA, (-0.1,) * 6, (0.1,) * 6, "m, rad", "base"), GRIPPER))
POSITION = ActionSpec(
    (ActionPart("arm0/tcp", ActionKind.TCP_POSITION_DELTA, (-0.1,) * 3, (0.1,) * 3, "m", "base"), GRIPPER)
)
POSE = ActionSpec(
    (ActionPart("arm0/tcp", ActionKind.TCP_POSE, (-2.0,) * 7, (2.0,) * 7, "m, quat_xyzw", "base"), GRIPPER)
)
DOWN = np.array([0.4, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])


def seen(opening: float = 1.0) -> Observation:
    return Observation(0, 0, {"arm0/tcp_pose": DOWN, "arm0/gripper_opening": np.array([opening])})


def steering(device: Handheld, action: ActionSpec = DELTA, **speed: float | str) -> Steering:
    """0.2 m/s and 1 rad/s at 20 Hz: 0.01 m and 0.05 rad a step."""
    made = Steering(device, action, 20.0, Speed(**{"max_speed_m_s": 0.2, "max_rate_rad_s": 1.0, **speed}))  # type: ignore[arg-type]
    made.reset(0)
    return made


def action(steered: Steering, opening: float = 1.0) -> list[float]:
    asked = steered.action(seen(opening))
    assert asked is not None
    return np.round(asked.astype(float), 6).tolist()


def test_an_axis_is_a_speed() -> None:
    device = Handheld()
    arm = steering(device)
    assert isinstance(arm, Intervention)
    assert arm.action(seen()) is None
    device.push(1.0, -0.5, 0.0, 0.0, 0.0, 1.0)
    assert action(arm) == [0.01, -0.005, 0.0, 0.0, 0.0, 0.05, 1.0]
    device.push(7.0)  # no device may exceed its range
    assert action(arm)[0] == 0.01


def test_around_its_rest_an_axis_says_nothing_and_beyond_it_begins_at_zero() -> None:
    device = Handheld()
    arm = steering(device, dead_zone=0.2)
    device.push(0.2, -0.15)
    assert arm.action(seen()) is None
    device.push(0.6, -0.15)
    assert action(arm)[:2] == [0.005, 0.0]


def test_in_the_tools_frame_up_is_where_the_tool_points_from() -> None:
    """The tool is turned by 180 degrees about x: its y and z are the base's, reversed."""
    device = Handheld()
    arm = steering(device, frame="tool")
    device.push(1.0, 1.0, 1.0, 0.0, 0.0, 1.0)
    assert action(arm) == [0.01, -0.01, -0.01, 0.0, 0.0, -0.05, 1.0]
    device.keys = [Key.FRAME]
    assert action(arm) == [0.01, 0.01, 0.01, 0.0, 0.0, 0.05, 1.0]


def test_any_action_that_moves_a_tcp_is_served() -> None:
    device = Handheld()
    arm = steering(device, POSITION)
    device.push(0.0, 0.0, 1.0, 0.0, 0.0, 1.0)
    assert action(arm) == [0.0, 0.0, 0.01, 1.0]
    arm = steering(device, POSE)
    device.push(0.0, 0.0, 1.0)
    assert action(arm) == [0.4, 0.0, 0.31, 1.0, 0.0, 0.0, 0.0, 1.0]
    joints = ActionSpec((ActionPart("arm0/joints", ActionKind.JOINT_DELTA, (-0.1,) * 7, (0.1,) * 7),))
    with pytest.raises(ConfigError, match="moves a TCP"):
        steering(device, joints)


def test_speed_is_scaled_within_its_limits() -> None:
    device = Handheld()
    arm = steering(device)
    device.push(1.0)
    device.keys = [Key.SLOWER]
    assert action(arm)[0] == 0.008
    device.keys = [Key.FASTER] * 9
    assert action(arm)[0] == 0.01
    device.keys = [Key.SLOWER] * 99
    assert action(arm)[0] == 0.001


def test_the_gripper_is_told_once_and_stays() -> None:
    device = Handheld()
    arm = steering(device)
    device.keys = [Key.GRIPPER]
    assert action(arm) == [0.0] * 6 + [0.0]  # it was open
    assert arm.action(seen()) is None
    device.push(1.0)
    assert action(arm)[-1] == 0.0
    device.keys = [Key.GRIPPER]
    assert action(arm, opening=0.3)[-1] == 1.0  # what it holds keeps it from closing: it counts as closed
    device.keys = [Key.CLOSE]
    assert action(arm)[-1] == 0.0
    device.keys = [Key.OPEN]
    assert action(arm)[-1] == 1.0


def test_a_dead_man_commands_to_stay_while_pressed_and_nothing_counts_without_it() -> None:
    device = Handheld(dead_man=True)
    arm = steering(device)
    device.keys = [Key.GRIPPER]
    assert arm.action(seen()) is None
    device.push()
    assert action(arm) == [0.0] * 6 + [1.0]


def test_what_was_pressed_before_the_episode_is_void() -> None:
    device = Handheld()
    arm = steering(device)
    device.push(1.0)
    device.keys = [Key.SUCCESS, Key.CLOSE]
    arm.reset(1)
    assert arm.action(seen()) is None
    assert list(arm.events()) == []


def test_space_stops_at_once_whatever_else_is_pressed() -> None:
    device = Handheld()
    arm = steering(device)
    device.push(1.0)
    device.keys = [Key.STOP]
    assert arm.action(seen()) is None
    assert list(arm.events()) == [EpisodeEvent.STOP]


def test_numbers_that_make_no_sense_are_refused() -> None:
    for wrong in ({"max_speed_m_s": 0.0}, {"max_rate_rad_s": -1.0}, {"dead_zone": 1.0}, {"frame": "world"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Speed(**wrong)  # type: ignore[arg-type]


# --- in the loop


@dataclass
class Person(Tape):
    """Presses keys, or pushes the axes, by the number of steps that have run; keeps what the loop tells."""

    device: Handheld = field(default_factory=Handheld)
    script: Mapping[int, list[Key] | tuple[float, ...]] = field(default_factory=dict)

    def on_step(self, row: StepRow) -> None:
        self.rows.append(row)
        done = self.script.get(len(self.rows))
        if isinstance(done, list):
            self.device.keys = done
        elif done is not None:
            self.device.push(*done)


def demonstrate(script: Mapping[int, list[Key] | tuple[float, ...]]) -> tuple[Person, RobotEnv]:
    """Twelve steps at most; 0.01 m a step."""
    env, person = RobotEnv(FakeRobot(), ReachTask(), DELTA, 12), Person(script=script)
    human = steered(person.device, env.spec, max_speed_m_s=0.2, max_rate_rad_s=1.0, keeps_arm=True)
    run_episode(env, StillPolicy(env.spec), [person], seed=0, human=human)
    human.close()
    assert person.device.closed
    return person, env


def test_a_demonstration_is_the_persons_throughout_and_pauses_are_commands_to_stay() -> None:
    person, _ = demonstrate({2: (1.0,), 4: (0.0,), 6: [Key.CLOSE]})
    actions = np.array([row.action.commanded for row in person.rows])
    assert person.ends[0][1].reason == "time_limit"
    assert [row.action.source for row in person.rows] == [Phase.HUMAN] * 12
    assert all(row.action.valid for row in person.rows)
    np.testing.assert_allclose(actions[:, 0], [0, 0, 0.01, 0.01, *[0] * 8], atol=1e-6)
    np.testing.assert_allclose(actions[:, 6], [1] * 6 + [0] * 6)


def test_stopping_ends_the_episode_and_leaves_the_arm_stopped() -> None:
    person, env = demonstrate({1: (1.0,), 4: [Key.STOP, Key.SUCCESS]})
    end = person.ends[0][1]
    assert (end.reason, end.success, len(person.rows)) == ("operator", None, 5)
    assert env.robot.read().mode == "stopped"
    assert person.rows[-1].action.source is Phase.HOLD
    assert person.rows[-1].truncated
    assert not person.rows[-1].terminated


def test_recording_again_cuts_the_episode() -> None:
    person, _ = demonstrate({3: [Key.RERECORD]})
    assert (person.ends[0][1].reason, len(person.rows)) == ("rerecorded", 4)
