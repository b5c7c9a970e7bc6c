"""A simulated arm is the same over the bridge: chain, limits and specs, so that checkpoints fit without a word."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.types import compare_specs
from robot_rl_bridge.arm_description import TCP, load_arm
from tests.contracts.options import build_robot


@pytest.mark.parametrize("name", ["sim_panda", "sim_ur5e"])
def test_description_and_simulation_agree(name: str) -> None:
    arm, robot = load_arm(name), build_robot(name)
    ours = robot.connect()
    spec = arm.env_spec(TCP, [], ["target_position"])
    assert compare_specs(ours, spec) == ([], [])
    for _ in range(20):
        q = np.random.default_rng(0).uniform(arm.chain.lower, arm.chain.upper)
        np.testing.assert_allclose(arm.chain.pose(q), robot.servo.chain.pose(q), atol=1e-6)
    np.testing.assert_allclose(arm.home, robot._arm.home_rad, atol=1e-7)
    assert arm.safety_limits.spheres == robot._outfit.limits.spheres
    robot.close()
