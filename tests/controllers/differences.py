"""What a reference did, from its poses alone: the differences of ticks that limits are about."""

import numpy as np

from controllers.safety_limits import SafetyLimits
from controllers.workspace import sphere_room
from robot_rl.geometry import geodesic_angle, quat_xyzw_conjugate, quat_xyzw_multiply, rotvec_from_quat_xyzw

DT = 0.002


def differences(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates [T, 6], accelerations and jerks of poses [T + 1, 7] that were at rest before the first."""
    poses = np.concatenate((np.repeat(poses[:1], 3, axis=0), poses))
    turns = rotvec_from_quat_xyzw(quat_xyzw_multiply(poses[1:, 3:], quat_xyzw_conjugate(poses[:-1, 3:])))
    rates = np.concatenate((np.diff(poses[:, :3], axis=0), turns), axis=1) / DT
    changes = np.diff(rates, axis=0) / DT
    return rates[2:], changes[1:], np.diff(changes, axis=0) / DT


def assert_within(limits: SafetyLimits, poses: np.ndarray) -> None:
    """Every limit holds for the poses [T, 7] of a reference that began at rest; rounding of positions is 1e-16 m,
    which the third difference makes 1e-8 m/s^3."""
    arrays = limits.arrays()
    assert np.isfinite(poses).all()
    assert (poses[:, :3] >= arrays.box[0] - 1e-8).all()
    assert (poses[:, :3] <= arrays.box[1] + 1e-8).all()
    assert geodesic_angle(poses[:, 3:], arrays.upright).max() <= limits.max_rotation_rad + 1e-6
    assert min(sphere_room(arrays, pose) for pose in poses) >= -1e-8
    for values, per_axis, norms in zip(
        differences(poses),
        (arrays.speed, arrays.acceleration, arrays.jerk),
        (
            (limits.max_speed_m_s, limits.max_speed_rad_s),
            (limits.max_acceleration_m_s2, limits.max_acceleration_rad_s2),
            (limits.max_jerk_m_s3, limits.max_jerk_rad_s3),
        ),
        strict=True,
    ):
        assert (np.abs(values) / per_axis).max() <= 1.0 + 1e-6
        assert np.linalg.norm(values[:, :3], axis=1).max() <= norms[0] * (1.0 + 1e-6)
        assert np.linalg.norm(values[:, 3:], axis=1).max() <= norms[1] * (1.0 + 1e-6)
