"""A camera that is late by a known time, seen through noisy poses of a board."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from calibration.rig import Mount
from calibration.samples import ArmSample, BoardPose
from calibration.time_offset import TimeOffset, time_offset
from robot_rl.errors import CalibrationError
from robot_rl.geometry import matrix_from_rotvec
from robot_rl.types import Array
from tests.calibration.truth import IN_HAND, MOUNTINGS, Truth, pose

START_NS = 5_000_000_000
HZ, PHASE = np.array([0.31, 0.47, 0.23, 0.37, 0.53, 0.41]), 1.3 * np.arange(6)
SWING = np.array([0.06, 0.05, 0.04, 0.2, 0.25, 0.15])  # m, rad


def irregular(time_s: float) -> Array:
    waves = np.sin(2.0 * np.pi * HZ * time_s + PHASE) + 0.3 * np.sin(3.4 * np.pi * HZ * time_s + 2.0 * PHASE)
    return SWING * waves


def one_frequency(time_s: float) -> Array:
    return SWING * np.sin(2.0 * np.pi * 0.5 * time_s + PHASE)


def weak(time_s: float) -> Array:
    return 0.02 * irregular(time_s)


def shifts_only(time_s: float) -> Array:
    return irregular(time_s) * [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


def measured(
    truth: Truth, delay_s: float, *, seed: int = 0, motion: Callable[[float], Array] = irregular, length_s: float = 12.0
) -> TimeOffset:
    """A 30 Hz camera and a 100 Hz arm: images stamped t show the arm at t - delay, with 1 mm and 0.3 deg of noise."""
    rng = np.random.default_rng(seed)

    def tcp(time_s: float) -> Array:
        swing = motion(time_s)
        return pose(0.45, 0.0, 0.3, np.pi, 0.0, 0.0) @ pose(*swing[:3].tolist(), *swing[3:].tolist())

    arm = [ArmSample(START_NS + round(1e9 * t), np.zeros(7), tcp(t)) for t in np.arange(0.0, length_s, 0.01).tolist()]
    images = []
    for t in (np.arange(0.5, length_s - 0.5, 1.0 / 30.0) + rng.normal(0.0, 5e-4)).tolist():
        seen = truth.T_camera_board(tcp(t - delay_s))
        seen[:3, :3] = seen[:3, :3] @ matrix_from_rotvec(rng.normal(0.0, np.radians(0.3), 3))
        seen[:3, 3] += rng.normal(0.0, 0.001, 3)
        images.append(BoardPose("camera", START_NS + round(1e9 * t), seen))
    return time_offset(images, arm, truth.camera_on)


@pytest.mark.parametrize(
    ("mounting", "delay_s"), [("eye_in_hand", 0.0373), ("eye_in_hand", -0.052), ("eye_to_hand", 0.171)]
)
def test_the_delay_is_found_within_two_milliseconds(mounting: str, delay_s: float) -> None:
    found = measured(MOUNTINGS[mounting], delay_s)
    assert found.offset_s == pytest.approx(delay_s, abs=0.002)
    assert abs(found.offset_s - delay_s) < 4.0 * found.deviation_s < 0.004
    assert found.peak.value > 0.8
    assert found.disagreement_ms < 5.0
    # per axis 1 mm and 0.3 deg of a camera's pose; seen from the board, its rotation moves it as well
    assert found.residual_deg == pytest.approx(0.3 * np.sqrt(3.0), rel=0.1)


def test_of_poses_without_noise_the_delay_is_exact() -> None:
    times = np.arange(0.0, 8.0, 0.005).tolist()
    poses = {t: pose(0.45, 0.0, 0.3, np.pi, 0.0, 0.0) @ pose(*irregular(t).tolist()) for t in times}
    arm = [ArmSample(round(1e9 * t), np.zeros(7), poses[t]) for t in times]
    images = [BoardPose("camera", round(1e9 * (t + 0.1)), IN_HAND.T_camera_board(poses[t])) for t in times[100:1500:7]]
    found = time_offset(images, arm, Mount.TCP)
    assert found.offset_s == pytest.approx(0.1, abs=1e-6)
    assert found.residual_mm < 1e-3


def test_a_board_that_jumps_in_some_images_does_not_move_the_offset() -> None:
    rng, found = np.random.default_rng(3), []
    for spoiled in (False, True):
        times = np.arange(0.0, 10.0, 0.01).tolist()
        arm = [ArmSample(round(1e9 * t), np.zeros(7), pose(*irregular(t).tolist())) for t in times]
        images = []
        for number, t in enumerate(np.arange(0.5, 9.5, 1.0 / 30.0).tolist()):
            seen = IN_HAND.T_camera_board(pose(*irregular(t - 0.08).tolist()))
            seen[:3, 3] += rng.normal(0.0, 0.001, 3)
            if spoiled and number % 20 == 7:
                seen = seen @ pose(0.05, 0.0, 0.0, 0.4, 0.0, 0.0)
            images.append(BoardPose("camera", round(1e9 * t), seen))
        found.append(time_offset(images, arm, Mount.TCP).offset_s)
    assert found == pytest.approx([0.08, 0.08], abs=0.002)


REFUSED = {
    "one frequency": ({"motion": one_frequency}, "one frequency: it repeats itself every 2.00 s"),
    "weak": ({"motion": weak}, "the motion is weak"),
    "without rotation": ({"motion": shifts_only}, "the motion is weak: the tool turns at 0.000 rad/s"),
    "short": ({"length_s": 3.0}, "images with a board within"),
    "late by more than is searched": ({"delay_s": 0.6}, "the streams"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_motion_that_does_not_tell_is_refused_by_cause(name: str) -> None:
    arguments, cause = REFUSED[name]
    with pytest.raises(CalibrationError, match=cause):
        measured(IN_HAND, **{"delay_s": 0.05, **arguments})


def test_stamps_of_the_arm_that_do_not_rise_are_refused() -> None:
    arm = [ArmSample(0, np.zeros(7), np.eye(4))] * 50
    with pytest.raises(CalibrationError, match="stamps that do not rise"):
        time_offset([], arm, Mount.TCP)
