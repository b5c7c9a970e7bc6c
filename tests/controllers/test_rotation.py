import numpy as np
import pytest

from controllers import rotation
from robot_rl import geometry

pytestmark = pytest.mark.robot


def random_quats(count: int) -> np.ndarray:
    quats = np.random.default_rng(1).normal(size=(count, 4))
    return geometry.quat_xyzw_normalize(quats)


def test_kernels_agree_with_the_geometry_of_the_stack():
    out, turn = np.empty(4), np.empty(3)
    for a, b in zip(random_quats(20), random_quats(40)[20:], strict=True):
        rotation.multiply(a, b, out)
        np.testing.assert_allclose(out, geometry.quat_xyzw_multiply(a, b), atol=1e-14)
        rotation.difference(a, b, turn)
        expected = geometry.rotvec_from_quat_xyzw(geometry.quat_xyzw_multiply(b, geometry.quat_xyzw_conjugate(a)))
        np.testing.assert_allclose(turn, expected, atol=1e-12)
        rotation.rotate_by(turn, a, out)
        assert geometry.geodesic_angle(out, b) < 1e-7
        rotation.exponential(turn, out)
        np.testing.assert_allclose(out, geometry.quat_xyzw_from_rotvec(turn), atol=1e-14)


def test_matrices_of_every_pivot_become_quaternions():
    out = np.empty(4)
    quarter = np.sqrt(0.5)
    for quat in (
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
        [quarter, 0, 0, quarter],
        [0.5, 0.5, -0.5, 0.5],
    ):
        rotation.from_matrix(geometry.matrix_from_quat_xyzw(np.array(quat, dtype=float)), out)
        assert geometry.geodesic_angle(out, np.array(quat, dtype=float)) < 1e-7


def test_a_quaternion_without_direction_is_told():
    for bad in ([0.0] * 4, [np.nan, 0, 0, 1], [np.inf, 0, 0, 1]):
        quat = np.array(bad, dtype=float)
        assert not rotation.normalize(quat)
        np.testing.assert_array_equal(quat, np.array(bad, dtype=float))
    quat = np.array([0.0, 0.0, 0.0, 2.0])
    assert rotation.normalize(quat)
    np.testing.assert_array_equal(quat, [0, 0, 0, 1])


def test_small_turns_keep_their_precision():
    turn, out = np.array([1e-11, 0.0, 0.0]), np.empty(4)
    rotation.exponential(turn, out)
    np.testing.assert_allclose(out, [5e-12, 0, 0, 1], rtol=1e-9)
