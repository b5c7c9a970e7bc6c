"""Geometry against group axioms, finite differences, SciPy and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robot_rl import geometry as g

pytestmark = pytest.mark.robot

RNG = np.random.default_rng(0)
HALF = np.sqrt(0.5)


def random_quaternions(n: int) -> np.ndarray:
    return g.quat_xyzw_normalize(RNG.normal(size=(n, 4)))


def random_poses(n: int) -> np.ndarray:
    return np.concatenate((RNG.normal(size=(n, 3)), random_quaternions(n)), axis=1)


vectors = hnp.arrays(np.float64, 3, elements=st.floats(-3.0, 3.0, allow_nan=False))


def test_quarter_turn_about_z_by_hand() -> None:
    quarter = np.array([0.0, 0.0, HALF, HALF])
    np.testing.assert_allclose(g.quat_xyzw_rotate(quarter, [1.0, 0.0, 0.0]), [0.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(g.rotvec_from_quat_xyzw(quarter), [0.0, 0.0, np.pi / 2], atol=1e-12)
    np.testing.assert_allclose(g.matrix_from_quat_xyzw(quarter), [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(g.rot6d_from_matrix(g.matrix_from_quat_xyzw(quarter)), [0, 1, 0, -1, 0, 0], atol=1e-12)


def test_pose_composition_by_hand() -> None:
    quarter = [0.0, 0.0, HALF, HALF]
    T_a_b = np.array([1.0, 0.0, 0.0, *quarter])
    T_b_c = np.array([2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(g.pose_multiply(T_a_b, T_b_c), [1.0, 2.0, 0.0, *quarter], atol=1e-12)


@pytest.mark.parametrize("name", ["matrix", "rotvec"])
def test_agrees_with_scipy(name: str) -> None:
    rotation = pytest.importorskip(
        "scipy.spatial.transform", reason="parity needs SciPy, which a robot computer lacks"
    ).Rotation
    quats = random_quaternions(200)
    theirs = rotation.from_quat(quats)
    if name == "matrix":
        np.testing.assert_allclose(g.matrix_from_quat_xyzw(quats), theirs.as_matrix(), atol=1e-12)
        np.testing.assert_allclose(
            np.abs(np.sum(g.quat_xyzw_from_matrix(theirs.as_matrix()) * quats, axis=1)), 1.0, atol=1e-12
        )
    else:
        np.testing.assert_allclose(g.rotvec_from_quat_xyzw(quats), theirs.as_rotvec(), atol=1e-9)
        np.testing.assert_allclose(g.matrix_from_rotvec(theirs.as_rotvec()), theirs.as_matrix(), atol=1e-9)


def test_quaternion_product_matches_matrices_and_is_associative() -> None:
    a, b, c = random_quaternions(50), random_quaternions(50), random_quaternions(50)
    product = g.quat_xyzw_multiply(a, b)
    np.testing.assert_allclose(
        g.matrix_from_quat_xyzw(product), g.matrix_from_quat_xyzw(a) @ g.matrix_from_quat_xyzw(b), atol=1e-12
    )
    left = g.quat_xyzw_multiply(product, c)
    np.testing.assert_allclose(left, g.quat_xyzw_multiply(a, g.quat_xyzw_multiply(b, c)), atol=1e-12)
    identity = g.quat_xyzw_multiply(a, g.quat_xyzw_conjugate(a))
    np.testing.assert_allclose(identity, np.tile([0.0, 0.0, 0.0, 1.0], (50, 1)), atol=1e-12)


@given(vectors)
@settings(max_examples=100, deadline=None)
def test_rotation_vector_round_trip(rotvec: np.ndarray) -> None:
    angle = np.linalg.norm(rotvec)
    if angle > np.pi - 1e-3:
        rotvec = rotvec * (np.pi - 1e-3) / angle
    np.testing.assert_allclose(g.rotvec_from_quat_xyzw(g.quat_xyzw_from_rotvec(rotvec)), rotvec, atol=1e-9)
    np.testing.assert_allclose(g.rotvec_from_matrix(g.matrix_from_rotvec(rotvec)), rotvec, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-9, 1e-5, 0.3, 2.5])
def test_left_jacobian_by_finite_differences(scale: float) -> None:
    v = scale * np.array([0.6, -0.7, 0.38])
    step = 1e-6
    numeric = np.zeros((3, 3))
    for i in range(3):
        d = np.zeros(3)
        d[i] = step
        ahead = g.quat_xyzw_multiply(g.quat_xyzw_from_rotvec(v + d), g.quat_xyzw_conjugate(g.quat_xyzw_from_rotvec(v)))
        behind = g.quat_xyzw_multiply(g.quat_xyzw_from_rotvec(v - d), g.quat_xyzw_conjugate(g.quat_xyzw_from_rotvec(v)))
        numeric[:, i] = (g.rotvec_from_quat_xyzw(ahead) - g.rotvec_from_quat_xyzw(behind)) / (2 * step)
    np.testing.assert_allclose(g.so3_left_jacobian(v), numeric, atol=1e-8)


def test_small_angles_stay_accurate() -> None:
    tiny = np.array([1e-9, -2e-9, 3e-9])
    np.testing.assert_allclose(g.rotvec_from_quat_xyzw(g.quat_xyzw_from_rotvec(tiny)), tiny, rtol=1e-9)


def test_half_turn_has_angle_pi() -> None:
    half_turn = np.array([1.0, 0.0, 0.0, 0.0])
    assert g.geodesic_angle(half_turn, [0.0, 0.0, 0.0, 1.0]) == pytest.approx(np.pi)
    assert np.linalg.norm(g.rotvec_from_quat_xyzw(half_turn)) == pytest.approx(np.pi)


def test_se3_exponential_matches_the_matrix_series() -> None:
    linalg = pytest.importorskip("scipy.linalg", reason="parity needs SciPy, which a robot computer lacks")
    twist = np.array([0.3, -0.2, 0.5, 0.4, 1.1, -0.7])
    generator = np.zeros((4, 4))
    generator[:3, :3], generator[:3, 3] = g.skew(twist[3:]), twist[:3]
    np.testing.assert_allclose(g.matrix_from_pose(g.se3_exp(twist)), linalg.expm(generator), atol=1e-12)
    np.testing.assert_allclose(g.se3_log(g.se3_exp(twist)), twist, atol=1e-12)


def test_pose_axioms() -> None:
    poses = random_poses(40)
    identity = g.pose_multiply(poses, g.pose_inverse(poses))
    np.testing.assert_allclose(g.matrix_from_pose(identity), np.broadcast_to(np.eye(4), (40, 4, 4)), atol=1e-12)
    product = g.pose_multiply(poses[:20], poses[20:])
    np.testing.assert_allclose(
        g.matrix_from_pose(product), g.matrix_from_pose(poses[:20]) @ g.matrix_from_pose(poses[20:]), atol=1e-12
    )
    np.testing.assert_allclose(
        g.matrix_from_pose(g.pose_from_matrix(g.matrix_from_pose(poses))), g.matrix_from_pose(poses), atol=1e-12
    )


def test_slerp_is_uniform_and_takes_the_short_arc() -> None:
    a, b = np.array([0.0, 0.0, 0.0, 1.0]), g.quat_xyzw_from_rotvec([0.0, 0.0, 1.2])
    for fraction in (0.0, 0.25, 0.5, 1.0):
        assert g.geodesic_angle(a, g.slerp(a, -b, fraction)) == pytest.approx(1.2 * fraction, abs=1e-9)
    middle = g.pose_interpolate([0.0, 0, 0, *a], [2.0, 0, 0, *b], 0.5)
    np.testing.assert_allclose(middle[:3], [1.0, 0.0, 0.0])


def test_slerp_agrees_with_scipy() -> None:
    transform = pytest.importorskip(
        "scipy.spatial.transform", reason="parity needs SciPy, which a robot computer lacks"
    )
    a, b = random_quaternions(2)
    theirs = transform.Slerp([0.0, 1.0], transform.Rotation.from_quat(np.stack((a, b))))(0.3)
    assert g.geodesic_angle(g.slerp(a, b, 0.3), theirs.as_quat()) < 1e-9


def test_six_d_rotation_orthonormalises_what_a_network_gives() -> None:
    matrix = g.matrix_from_rot6d(RNG.normal(size=(30, 6)))
    np.testing.assert_allclose(matrix @ np.swapaxes(matrix, -1, -2), np.broadcast_to(np.eye(3), (30, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(matrix), 1.0)
    np.testing.assert_allclose(g.matrix_from_rot6d(g.rot6d_from_matrix(matrix)), matrix, atol=1e-12)
    with pytest.raises(ValueError, match="parallel"):
        g.matrix_from_rot6d([1.0, 0, 0, 2.0, 0, 0])
    with pytest.raises(ValueError, match="no direction"):
        g.quat_xyzw_normalize([0.0, 0, 0, 0])


def test_sign_of_a_quaternion_follows_the_reference() -> None:
    q = random_quaternions(20)
    np.testing.assert_allclose(g.quat_xyzw_near(-q, q), q)
    np.testing.assert_allclose(g.quat_xyzw_near(q, q), q)


def test_single_quaternions_give_what_rows_of_an_array_give() -> None:
    """Plain numbers and arrays take ways of their own through the same formulas."""
    rng = np.random.default_rng(8)
    rotvecs = np.concatenate((rng.normal(size=(20, 3)), [[0.0, 0.0, 0.0], [1e-8, 0.0, -1e-8], [0.0, np.pi, 0.0]]))
    quats = g.quat_xyzw_from_rotvec(rotvecs)
    turns = rng.normal(size=quats.shape)
    for row, (rotvec, quat, turn) in enumerate(zip(rotvecs, quats, turns, strict=True)):
        np.testing.assert_allclose(g.quat_xyzw_from_rotvec(rotvec), quat, rtol=0, atol=1e-15)
        product = g.quat_xyzw_multiply(turns, quats)[row]
        np.testing.assert_allclose(g.quat_xyzw_multiply(turn, quat), product, rtol=0, atol=1e-15)
        for sign in (1.0, -1.0):
            back = g.rotvec_from_quat_xyzw(sign * quats)[row]
            np.testing.assert_allclose(g.rotvec_from_quat_xyzw(sign * quat), back, rtol=0, atol=1e-15)
        unit = g.quat_xyzw_normalize(turns)[row]
        np.testing.assert_allclose(g.quat_xyzw_normalize(turn), unit, rtol=0, atol=1e-15)
    for none in (np.zeros(4), np.full(4, np.nan), np.zeros((2, 4))):
        with pytest.raises(ValueError, match="direction"):
            g.quat_xyzw_normalize(none)


def test_steps_of_a_pose_by_hand() -> None:
    """Forwards and a quarter turn about z, twice: both steps are in the outer frame."""
    step = [1.0, 0.0, 0.0, 0.0, 0.0, 0.5 * np.pi]
    poses = g.poses_after([0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], [step, step])
    half = np.sqrt(0.5)
    np.testing.assert_allclose(
        poses, [[1.0, 0.0, 1.0, 0.0, 0.0, half, half], [2.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]], atol=1e-12
    )
    np.testing.assert_allclose(g.pose_step(poses[0], poses[1]), step, atol=1e-12)
    assert g.poses_after(poses[0], np.empty((0, 6))).shape == (0, 7)
