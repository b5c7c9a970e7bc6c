"""The chain of every simulated arm against MuJoCo, finite differences and its own inverse."""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np
import pytest

from controllers.inverse_kinematics import inverse_kinematics
from robot_rl.geometry import quat_xyzw_conjugate, quat_xyzw_multiply, rotvec_from_quat_xyzw
from tests.contracts.options import build_robot, options

ARMS = [name for name in options("robot") if name.startswith("sim_") and name != "sim_calibration"]  # a Panda, too


@pytest.fixture(params=ARMS, scope="module")
def robot(request: pytest.FixtureRequest) -> Iterator[Any]:
    with build_robot(request.param) as robot:
        yield robot


def positions(robot: Any, count: int, share: float = 1.0) -> np.ndarray:
    """Joint positions [count, n] rad, within ``share`` of the range around home."""
    chain, home, rng = robot.servo.chain, np.array(robot.physics.built.arm.home_rad), np.random.default_rng(0)
    drawn = rng.uniform(chain.lower, chain.upper, size=(count, chain.dof))
    return np.clip(home + share * (drawn - home), chain.lower, chain.upper)


def test_pose_and_jacobian_agree_with_the_simulator(robot: Any) -> None:
    chain, model = robot.servo.chain, robot.physics.model
    data, jacobian, quat = mujoco.MjData(model), np.zeros((6, model.nv)), np.empty(4)
    site = next(i for i in range(model.nsite) if model.site(i).name.endswith("tcp"))
    for q in positions(robot, 20):
        data.qpos[: chain.dof] = q
        mujoco.mj_forward(model, data)
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
        mujoco.mju_mat2Quat(quat, data.site_xmat[site])
        pose = chain.pose(q)
        np.testing.assert_allclose(pose[:3], data.site_xpos[site], atol=1e-12)
        assert abs(pose[[6, 3, 4, 5]] @ quat) == pytest.approx(1.0, abs=1e-12)
        np.testing.assert_allclose(chain.jacobian(q), jacobian[:, : chain.dof], atol=1e-12)


def test_jacobian_agrees_with_finite_differences(robot: Any) -> None:
    chain, step = robot.servo.chain, 1e-6
    for q in positions(robot, 5):
        for joint, offset in enumerate(np.eye(chain.dof) * step):
            ahead, behind = chain.pose(q + offset), chain.pose(q - offset)
            turn = rotvec_from_quat_xyzw(quat_xyzw_multiply(ahead[3:], quat_xyzw_conjugate(behind[3:])))
            numeric = np.concatenate((ahead[:3] - behind[:3], turn)) / (2 * step)
            np.testing.assert_allclose(chain.jacobian(q)[:, joint], numeric, atol=1e-8)


def test_inverse_kinematics_finds_every_pose_around_home(robot: Any) -> None:
    chain, arm = robot.servo.chain, robot.physics.built.arm
    home = np.array(arm.home_rad)
    for q in positions(robot, 20, share=0.3):
        wanted = chain.pose(q)
        found = inverse_kinematics(chain, wanted, home, axes=arm.axes)
        assert found is not None
        assert ((chain.lower <= found) & (found <= chain.upper)).all()
        np.testing.assert_allclose(chain.pose(found)[:3], wanted[:3], atol=1e-5)
        assert abs(chain.pose(found)[3:] @ wanted[3:]) == pytest.approx(1.0, abs=1e-9)
