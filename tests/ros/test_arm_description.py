"""Descriptions of arms: each file loads, agrees with what is known of its arm, and says what is wrong with a key."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from robot_rl.errors import ConfigError
from robot_rl.types import Array
from robot_rl_bridge.arm_description import GRIPPER, JOINTS, TCP, GripperTopics, arm_from, find_arm, load_arm
from robot_rl_bridge.arm_state import distance, observed_state

pytestmark = pytest.mark.robot

ARMS = ("fr3", "ur5e", "sim_panda", "sim_ur5e")


def turn(axis: str, angle: float) -> Array:
    """Homogeneous rotation [4, 4] about an axis."""
    c, s = math.cos(angle), math.sin(angle)
    i, j = {"x": (1, 2), "z": (0, 1)}[axis]
    matrix = np.eye(4)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def shift(x: float = 0.0, z: float = 0.0) -> Array:
    matrix = np.eye(4)
    matrix[0, 3], matrix[2, 3] = x, z
    return matrix


@pytest.mark.parametrize("name", ARMS)
def test_the_home_of_every_arm_is_inside_its_workspace_with_the_tool_down(name: str) -> None:
    arm = load_arm(name)
    limits, pose = arm.safety_limits, arm.chain.pose(arm.home)
    assert (np.array(limits.box_lower_m) < pose[:3]).all() and (pose[:3] < np.array(limits.box_upper_m)).all()
    assert distance(TCP, pose, np.array([*pose[:3], *limits.upright_quat_xyzw]))[1] < 0.01
    lower, upper = limits.arrays().joint
    assert (lower < arm.home).all() and (arm.home < upper).all()


def test_the_fr3_is_the_arm_of_its_data_sheet() -> None:
    """Modified Denavit-Hartenberg parameters (Craig) of the FR3: a, d, alpha of each joint, flange at 0.107 m."""
    table = [
        (0.0, 0.333, 0.0), (0.0, 0.0, -math.pi / 2), (0.0, 0.316, math.pi / 2), (0.0825, 0.0, math.pi / 2),
        (-0.0825, 0.384, -math.pi / 2), (0.0, 0.0, math.pi / 2), (0.088, 0.0, math.pi / 2),
    ]  # fmt: skip
    arm, q = load_arm("fr3"), np.array([0.3, -0.5, 0.2, -2.1, -0.4, 1.9, 0.6])
    matrix = np.eye(4)
    for (a, d, alpha), angle in zip(table, q, strict=True):
        matrix = matrix @ turn("x", alpha) @ shift(x=a) @ turn("z", angle) @ shift(z=d)
    matrix = matrix @ shift(z=0.107) @ turn("z", -math.pi / 4) @ shift(z=0.1034)
    np.testing.assert_allclose(arm.chain.pose(q)[:3], matrix[:3, 3], atol=1e-6)


def test_the_ur5e_is_the_arm_of_its_data_sheet() -> None:
    """Denavit-Hartenberg parameters of the UR5e: a, d, alpha of each joint; base_link is turned by half a turn."""
    table = [
        (0.0, 0.1625, math.pi / 2), (-0.425, 0.0, 0.0), (-0.3922, 0.0, 0.0), (0.0, 0.1333, math.pi / 2),
        (0.0, 0.0997, -math.pi / 2), (0.0, 0.0996, 0.0),
    ]  # fmt: skip
    arm, q = load_arm("ur5e"), np.array([0.3, -1.2, 1.4, -1.6, -1.3, 0.6])
    matrix = turn("z", math.pi)
    for (a, d, alpha), angle in zip(table, q, strict=True):
        matrix = matrix @ turn("z", angle) @ shift(z=d) @ shift(x=a) @ turn("x", alpha)
    matrix = matrix @ shift(z=0.163)
    np.testing.assert_allclose(arm.chain.pose(q)[:3], matrix[:3, 3], atol=1e-6)


def test_specs_tell_joints_parts_cameras_and_objects() -> None:
    arm = load_arm("sim_panda")
    spec = arm.env_spec(TCP, ["front"], ["cube_pose", "target_position"])
    assert [part.name for part in spec.action.parts] == [TCP, GRIPPER]
    assert spec.observation["arm0/joint_position"].names == arm.chain.names
    assert spec.observation["object/cube_pose"].shape == (7,) and spec.observation["object/cube_pose"].privileged
    assert spec.observation["object/target_position"].shape == (3,)
    assert spec.cameras["front"].frame == "front_optical"
    joints = arm.env_spec(JOINTS, [], []).action.part(JOINTS)
    np.testing.assert_allclose(joints.high, arm.chain.upper - 0.1, atol=1e-9)


def test_states_follow_from_joints() -> None:
    arm, upright = load_arm("sim_panda"), np.array([1.0, 0.0, 0.0, 0.0])
    velocity = np.array([0.1, 0, 0, 0, 0, 0, 0])
    state = observed_state(arm.chain, upright, arm.home, velocity, 0.5)
    np.testing.assert_allclose(state["arm0/tcp_velocity"], [0, 0.048, 0, 0, 0, 0.1], atol=1e-6)  # x = 0.48 m
    assert state["arm0/tcp_pose"][3:] @ upright > 0 and state["arm0/tcp_pose"].dtype == np.float32


def test_openings_are_those_of_the_gripper_in_its_own_unit() -> None:
    robotiq = GripperTopics(closed=0.8, open=0.0)
    assert robotiq.opening(0.8) == 0.0 and robotiq.opening(0.2) == pytest.approx(0.75)
    assert robotiq.value(0.75) == pytest.approx(0.2) and robotiq.opening(-1.0) == 1.0


def described(**changes: Any) -> dict[str, Any]:
    return {**yaml.safe_load(find_arm("fr3").read_text()), **changes}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"joint": []}, "no key 'joint'.*'joints'"),
        ({"command": {"interface": "effort", "topic": "t", "timeout_s": 0.1}}, "Only position-type interfaces"),
        ({"command": {"interface": "tcp_pose", "topic": "t", "timeout_s": 0.0}}, "nothing would hold the arm"),
        ({"command": {"interface": "tcp_pose", "topic": "t", "timeout_s": 0.5}}, "so long nobody brakes"),
        ({"command": {"topic": "t", "timeout_s": 0.1}}, "command lacks interface"),
        ({"reference_camera": "wirst"}, "wrist"),
        ({"reset": {"by": "simulator"}}, "on hardware"),
        ({"external_torque_topic": ""}, "force_source is 'measured'"),
        ({"control_rate_hz": 70.0}, "multiple of step_rate_hz"),
        ({"stream_timeout_s": 1.0}, "0 to 0.25"),
        ({"home_rad": [0.0]}, "home_rad has 1"),
        ({"robot": 3}, "robot=3"),
    ],
)
def test_what_is_wrong_in_a_description_is_told_with_its_place(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        arm_from(described(**changes), "arm")


def test_limits_have_no_default_for_the_source_of_forces() -> None:
    limits = {key: value for key, value in described()["limits"].items() if key != "force_source"}
    with pytest.raises(ConfigError, match="limits lacks force_source"):
        arm_from(described(limits=limits), "arm")


def test_descriptions_of_the_site_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fr3.yaml").write_text(yaml.safe_dump(described(robot="ours")))
    monkeypatch.setenv("ROBOT_RL_SITE", str(tmp_path))
    assert load_arm("fr3").robot == "ours"
    assert load_arm("ur5e").robot == "ur5e"
    with pytest.raises(ConfigError, match="Did you mean 'ur5e'"):
        load_arm("ur5")
