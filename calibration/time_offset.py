"""Camera against joints: how late images are stamped, from one motion that both streams saw.

An image stamped t shows the arm as it was at t - offset. Rigid motion is B(t) = P A(t - offset) Q: A is the TCP in the
base, B the board seen by the camera (or the camera in the board), P and Q the unknown mounting. First the angular
velocities, which obey w_B = Q_R^T w_A whatever the lever arms are, are correlated over the lag with the best rotation
for each (Kabsch 1976): that finds the offset without a calibration, and tells whether the motion determines it. Then
offset, P and Q are fitted to the poses themselves, so that nothing noisy is differentiated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation, RotationSpline

from calibration.closed_form import closed_form
from calibration.correlation import ALIKE, CorrelationPeak, correlation_peak
from calibration.rig import Mount
from calibration.samples import ArmSample, BoardPose
from robot_rl.errors import CalibrationError
from robot_rl.types import Array

_FEWEST = 40  # images
_SLOWEST_RAD_S = 0.05
_SHORTEST_S = 3.0
_REPEAT_GRID_S = 0.01
_TURN_S = 0.1  # within which turns are compared: longer ones are sharper, and blur what is faster
_TOO_FAST = 3.0  # of the arm's fastest
_MOST_STARTING = 80  # images from which P and Q are begun
_START_SIGMA = (0.002, 0.005)  # m, rad: weights before the fit's own are known


@dataclass(frozen=True, eq=False)
class TimeOffset:
    """``offset_s`` is to be taken off the stamps of images to have the arm's time; ``deviation_s`` its standard
    deviation, ``residual_mm`` and ``residual_deg`` (root mean square) what the fitted motion leaves unexplained."""

    offset_s: float
    deviation_s: float
    peak: CorrelationPeak
    residual_mm: float
    residual_deg: float
    images: int

    @property
    def disagreement_ms(self) -> float:
        """Between the correlation of speeds and the fit of poses."""
        return 1e3 * abs(self.offset_s - self.peak.lag_s)


def time_offset(
    poses: Sequence[BoardPose],
    arm: Sequence[ArmSample],
    camera_on: Mount,
    *,
    range_s: float = 0.4,
    max_deviation_s: float = 0.0025,
) -> TimeOffset:
    """The offset of one camera's stamps. ``camera_on`` is what the camera is fastened to.

    Raises CalibrationError for motion that is too short, too weak or of one frequency, or that leaves the offset with a
    standard deviation above ``max_deviation_s``.
    """
    motion = _ArmMotion(arm)
    times = np.array([pose.stamp_ns for pose in poses], dtype=np.int64) - motion.zero_ns
    seen = np.array([pose.T_camera_board for pose in poses]).reshape(-1, 4, 4)
    if camera_on is Mount.TCP:
        seen = np.linalg.inv(seen)
    times_s = times * 1e-9
    _check_amount(times_s, motion, range_s)
    inside = (times_s > motion.start_s + range_s) & (times_s < motion.end_s - range_s)
    times_s, seen = times_s[inside], seen[inside]
    peak = correlation_peak(_Turns(times_s, seen, motion), range_s)
    fit = _Mounting(times_s, seen, motion, range_s)
    x, deviation_s, left = _fit(fit, fit.start(peak.lag_s))
    if deviation_s > max_deviation_s:
        raise CalibrationError(
            f"the motion leaves the offset uncertain by {1e3 * deviation_s:.1f} ms (standard deviation)",
            limit=f"{1e3 * max_deviation_s:g} ms",
            remedy="Move faster and longer, with the board larger in the image",
        )
    square = (left**2).mean(axis=0)
    return TimeOffset(
        float(x[0]), deviation_s, peak, 1e3 * float(np.sqrt(square[:3].sum())),
        float(np.degrees(np.sqrt(square[3:].sum()))), len(left),
    )  # fmt: skip


class _ArmMotion:
    """The arm's poses between its samples: cubic in position, C2 in rotation."""

    def __init__(self, arm: Sequence[ArmSample]) -> None:
        stamps = np.array([sample.stamp_ns for sample in arm], dtype=np.int64)
        if len(stamps) < _FEWEST or (np.diff(stamps) <= 0).any():
            raise CalibrationError(
                f"{len(stamps)} samples of the arm, or stamps that do not rise", limit=f"{_FEWEST} in order of time"
            )
        self.zero_ns = int(stamps[0])
        times_s = (stamps - self.zero_ns) * 1e-9
        transforms = np.array([sample.T_base_tcp for sample in arm])
        self._position = CubicSpline(times_s, transforms[:, :3, 3])
        self._rotation = RotationSpline(times_s, Rotation.from_matrix(transforms[:, :3, :3]))
        self.start_s, self.end_s = float(times_s[0]), float(times_s[-1])

    def at(self, times_s: Array) -> tuple[Rotation, Array]:
        """Rotations and positions [n, 3] m."""
        return self._rotation(times_s), self._position(times_s)

    def turns(self, first_s: Array, last_s: Array) -> Array:
        """Rotation vectors [n, 3] from one time to another, in the TCP's own frame."""
        return (self._rotation(first_s).inv() * self._rotation(last_s)).as_rotvec()

    def angular_velocity(self, times_s: Array) -> Array:
        """In the TCP's own frame [n, 3] rad/s."""
        return self._rotation(times_s).apply(self._rotation(times_s, 1), inverse=True)


class _Turns:
    """Correlation of what the camera and the arm turned by, over the lag."""

    def __init__(self, times_s: Array, seen: Array, motion: _ArmMotion) -> None:
        turned, frame_s = seen[:, :3, :3], float(np.median(np.diff(times_s)))
        fastest = float(np.linalg.norm(motion.angular_velocity(times_s), axis=1).max())
        kept = _without_jumps(times_s, turned, fastest)
        if len(kept) < _FEWEST:
            raise CalibrationError(
                f"the board's pose jumps at {len(times_s) - len(kept)} of {len(times_s)} images, faster than the arm",
                remedy="Bring the board closer and tilt it; is it one board, and the camera's lens calibrated?",
            )
        times_s, turned = times_s[kept], turned[kept]
        last = np.searchsorted(times_s, times_s + max(_TURN_S, frame_s) - 0.5 * frame_s)
        first = np.flatnonzero(last < len(times_s))
        near = times_s[last[first]] - times_s[first] < _TURN_S + 1.5 * frame_s  # not across images without a board
        first, last = first[near], last[first][near]
        self._seen = _turns(turned[first], turned[last])
        self._first, self._last, self._motion = times_s[first], times_s[last], motion

    def __call__(self, lag_s: float) -> float:
        turned = self._motion.turns(self._first - lag_s, self._last - lag_s)
        u, singular, vt = np.linalg.svd(turned.T @ self._seen)
        common = singular[0] + singular[1] + singular[2] * np.sign(np.linalg.det(u @ vt))
        return float(common / np.sqrt((self._seen**2).sum() * (turned**2).sum()))


def _turns(first: Array, last: Array) -> Array:
    """Rotation vectors [n, 3] from rotations [n, 3, 3] to others."""
    return (Rotation.from_matrix(first).inv() * Rotation.from_matrix(last)).as_rotvec()


def _without_jumps(times_s: Array, turned: Array, fastest_rad_s: float) -> Array:
    """Images [k] at whose sides nothing turns much faster than the arm: others show a board taken for another."""
    speed = np.linalg.norm(_turns(turned[:-1], turned[1:]), axis=1) / np.diff(times_s)
    jump = np.concatenate(([False], speed > _TOO_FAST * fastest_rad_s, [False]))
    return np.flatnonzero(~(jump[:-1] | jump[1:]))


def _check_amount(times_s: Array, motion: _ArmMotion, range_s: float) -> None:
    inside = times_s[(times_s > motion.start_s + range_s) & (times_s < motion.end_s - range_s)]
    if len(inside) < _FEWEST or inside[-1] - inside[0] < _SHORTEST_S or (np.diff(times_s) <= 0).any():
        span = float(np.ptp(inside)) if len(inside) else 0.0
        raise CalibrationError(
            f"{len(inside)} images with a board within {span:.1f} s of the arm's motion",
            limit=f"{_FEWEST} in order of time, {_SHORTEST_S:g} s, and {range_s:g} s of the arm before and after them",
            remedy="Move for longer and keep the board in view",
        )
    speed = float(np.sqrt((motion.angular_velocity(inside) ** 2).sum(axis=1).mean()))
    if speed < _SLOWEST_RAD_S:
        raise CalibrationError(
            f"the motion is weak: the tool turns at {speed:.3f} rad/s",
            limit=f"{_SLOWEST_RAD_S} rad/s (root mean square)",
            remedy="Turn the tool to and fro about two axes, faster",
        )
    _check_repeats(motion, inside)


def _check_repeats(motion: _ArmMotion, times_s: Array) -> None:
    """Raise CalibrationError for motion that is its own copy some time later."""
    velocity = motion.angular_velocity(np.arange(times_s[0], times_s[-1], _REPEAT_GRID_S))
    lags = range(len(velocity) // 2)
    alike = np.array([_cosine(velocity[lag:], velocity[: len(velocity) - lag]) for lag in lags])
    again = np.flatnonzero((alike > ALIKE) & np.maximum.accumulate(np.diff(alike, prepend=1.0) > 0.0))
    if len(again):
        lag = again[0] + int(np.argmax(alike[again[0] : again[0] + again[0] // 4 + 1]))
        raise CalibrationError(
            f"the motion is of one frequency: it repeats itself every {lag * _REPEAT_GRID_S:.2f} s",
            limit=f"{ALIKE} alike at most, it is {alike[lag]:.2f}",
            remedy="Move irregularly, slow and fast, about several axes",
        )


def _cosine(left: Array, right: Array) -> float:
    return float((left * right).sum() / np.sqrt((left**2).sum() * (right**2).sum()))


class _Mounting:
    """B(t) = P A(t - offset) Q as residuals of x [13]: offset, rotation of P and of Q, translation of P and of Q."""

    def __init__(self, times_s: Array, seen: Array, motion: _ArmMotion, range_s: float) -> None:
        self._times, self._motion, self._range_s = times_s, motion, range_s
        self._turned, self._place = Rotation.from_matrix(seen[:, :3, :3]), seen[:, :3, 3]
        self._arm: tuple[float, tuple[Rotation, Array]] | None = None  # of the offset asked for last

    def residuals(self, x: Array) -> Array:
        """[n, 6]: position in m, rotation in rad."""
        turned, moved = self._at(float(np.clip(x[0], -self._range_s, self._range_s)))
        outer, inner = Rotation.from_rotvec(x[1:4]), Rotation.from_rotvec(x[4:7])
        place = outer.apply(turned.apply(x[10:13]) + moved) + x[7:10]
        turn = ((outer * turned * inner).inv() * self._turned).as_rotvec()
        return np.concatenate((place - self._place, turn), axis=1)

    def _at(self, offset_s: float) -> tuple[Rotation, Array]:
        if self._arm is None or self._arm[0] != offset_s:
            self._arm = offset_s, self._motion.at(self._times - offset_s)
        return self._arm[1]

    def start(self, lag_s: float) -> Array:
        """x in closed form, given the offset: A Q B^-1 = P^-1, as hand and eye."""
        some = np.linspace(0, len(self._times) - 1, min(len(self._times), _MOST_STARTING)).astype(int)
        turned, moved = self._at(lag_s)
        arm, seen = _transforms(turned, moved)[some], _transforms(self._turned, self._place)[some]
        inner, outer_inverse = closed_form(arm, np.linalg.inv(seen))
        outer = np.linalg.inv(outer_inverse)
        rotvecs = [Rotation.from_matrix(one[:3, :3]).as_rotvec() for one in (outer, inner)]
        return np.concatenate(([lag_s], *rotvecs, outer[:3, 3], inner[:3, 3]))


def _transforms(turned: Rotation, places: Array) -> Array:
    """[n, 4, 4]"""
    transforms = np.tile(np.eye(4), (len(places), 1, 1))
    transforms[:, :3, :3], transforms[:, :3, 3] = turned.as_matrix(), places
    return transforms


def _fit(mounting: _Mounting, start: Array) -> tuple[Array, float, Array]:
    """x, the standard deviation of the offset [s] and the residuals [n, 6], by least squares with a robust loss. The
    weights of positions and rotations are those that the residuals themselves ask for."""
    x, left, deviation_s, sigma = start, np.empty((0, 6)), np.inf, np.array(_START_SIGMA)
    for _ in range(2):
        weights = np.repeat(1.0 / sigma, 3)
        fitted = least_squares(
            lambda x, weights=weights: (mounting.residuals(x) * weights).ravel(), x, loss="soft_l1", x_scale="jac"
        )
        x, left = fitted.x, mounting.residuals(fitted.x)
        spread = np.median(np.abs(left), axis=0) / 0.6745
        scale = float(np.median(np.abs(left * weights))) / 0.6745
        # what the mounting cannot imitate of a change of the offset
        own = fitted.jac[:, 0] - fitted.jac[:, 1:] @ np.linalg.lstsq(fitted.jac[:, 1:], fitted.jac[:, 0], rcond=1e-9)[0]
        deviation_s = scale / max(float(np.linalg.norm(own)), 1e-12)
        sigma = np.maximum(np.sqrt([(spread[:3] ** 2).mean(), (spread[3:] ** 2).mean()]), 1e-7)
    return x, deviation_s, left
