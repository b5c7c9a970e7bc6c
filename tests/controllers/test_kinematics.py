import numpy as np
import pytest

from controllers.inverse_kinematics import inverse_kinematics
from controllers.kinematics import SerialChain
from robot_rl.errors import ConfigError
from robot_rl.geometry import quat_xyzw_conjugate, quat_xyzw_multiply, rotvec_from_quat_xyzw
from tests.controllers.panda import HOME_RAD, ROWS, TCP_POSE, panda_chain

pytestmark = pytest.mark.robot


def planar_chain() -> SerialChain:
    """Two links of 1 m and 0.5 m that turn about z."""
    link = {"quat_xyzw": [0, 0, 0, 1], "axis": [0, 0, 1], "lower_rad": -3.0, "upper_rad": 3.0}
    rows = [{**link, "name": "shoulder", "position": [0, 0, 0]}, {**link, "name": "elbow", "position": [1, 0, 0]}]
    return SerialChain.from_table(rows, [0.5, 0, 0, 0, 0, 0, 1])


def test_planar_arm_by_hand():
    chain, q = planar_chain(), np.array([np.pi / 2, -np.pi / 2])
    half = np.sqrt(0.5)
    np.testing.assert_allclose(chain.pose(np.zeros(2)), [1.5, 0, 0, 0, 0, 0, 1], atol=1e-15)
    np.testing.assert_allclose(chain.pose(q), [0.5, 1.0, 0, 0, 0, 0, 1], atol=1e-15)
    np.testing.assert_allclose(chain.pose(np.array([np.pi / 2, 0.0]))[3:], [0, 0, half, half], atol=1e-15)
    expected = np.zeros((6, 2))
    expected[:2] = [[-1.0, 0.0], [0.5, 0.5]]
    expected[5] = 1.0
    np.testing.assert_allclose(chain.jacobian(q), expected, atol=1e-15)


def test_panda_home_points_the_tool_down():
    pose = panda_chain().pose(np.array(HOME_RAD))
    np.testing.assert_allclose(pose[:3], [0.48, 0.0, 0.2], atol=1e-5)
    assert abs(pose[3]) > 0.999999


def test_jacobian_agrees_with_finite_differences():
    chain, rng, step = panda_chain(), np.random.default_rng(0), 1e-6
    for _ in range(20):
        q = rng.uniform(chain.lower, chain.upper)
        jacobian = chain.jacobian(q)
        for joint in range(chain.dof):
            offset = np.zeros(chain.dof)
            offset[joint] = step
            ahead, behind = chain.pose(q + offset), chain.pose(q - offset)
            turn = quat_xyzw_multiply(ahead[3:], quat_xyzw_conjugate(behind[3:]))
            numeric = np.concatenate((ahead[:3] - behind[:3], rotvec_from_quat_xyzw(turn))) / (2 * step)
            np.testing.assert_allclose(jacobian[:, joint], numeric, atol=1e-8)


def test_inverse_kinematics_returns_to_a_reachable_pose():
    chain, rng = panda_chain(), np.random.default_rng(2)
    for _ in range(20):
        pose = chain.pose(np.array(HOME_RAD) + rng.uniform(-0.3, 0.3, size=7))
        found = inverse_kinematics(chain, pose, np.array(HOME_RAD))
        assert found is not None
        assert ((chain.lower <= found) & (found <= chain.upper)).all()
        np.testing.assert_allclose(chain.pose(found)[:3], pose[:3], atol=1e-5)


def test_inverse_kinematics_begins_anew_where_it_gets_stuck():
    """From a stretched elbow, which lies on a singularity, in poses all over the planar arm's reach."""
    chain, rng = planar_chain(), np.random.default_rng(3)
    for _ in range(20):
        q = rng.uniform(-2.9, 2.9, size=2)
        found = inverse_kinematics(chain, chain.pose(q), np.zeros(2))
        assert found is not None
        np.testing.assert_allclose(found, q, atol=1e-5)  # position and rotation leave one solution


def test_inverse_kinematics_of_an_arm_that_cannot_move_every_way():
    """A planar arm told to reach 1 mm above its plane stops below the target, if that component may be missed."""
    chain, q = planar_chain(), np.array([0.4, 0.7])
    above = chain.pose(q) + np.array([0, 0, 0.001, 0, 0, 0, 0])
    assert inverse_kinematics(chain, above, np.array([0.3, 0.3])) is None
    found = inverse_kinematics(chain, above, np.array([0.3, 0.3]), axes=(True, True, False, False, False, True))
    assert found is not None
    np.testing.assert_allclose(found, q, atol=1e-4)


def test_inverse_kinematics_admits_what_is_out_of_reach():
    assert inverse_kinematics(panda_chain(), np.array([2.0, 0, 0.2, 1, 0, 0, 0]), np.array(HOME_RAD)) is None
    assert inverse_kinematics(planar_chain(), np.array([1.2, 0, 0, 0, 0, 0, 1]), np.array([0.3, 0.3])) is None
    assert inverse_kinematics(planar_chain(), np.array([1.4, 0, 0.1, 0, 0, 0, 1]), np.array([0.3, 0.3])) is None


def test_a_wrong_table_is_refused():
    with pytest.raises(ConfigError, match="lacks 'axis'"):
        SerialChain.from_table([{key: value for key, value in ROWS[0].items() if key != "axis"}], TCP_POSE)
    with pytest.raises(ConfigError, match="unit length"):
        SerialChain.from_table([{**ROWS[0], "axis": [0, 0, 2]}], TCP_POSE)
    with pytest.raises(ConfigError, match="lower limit"):
        SerialChain.from_table([{**ROWS[0], "lower_rad": 3.0, "upper_rad": -3.0}], TCP_POSE)
    with pytest.raises(ConfigError, match="shape"):
        panda_chain().pose(np.zeros(6))
