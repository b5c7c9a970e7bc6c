"""A tip held on a point while the arm turns about it."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.samples import ArmSample
from calibration.tool import tool_point
from robot_rl.errors import CalibrationError
from robot_rl.geometry import matrix_from_rotvec
from robot_rl.types import Array
from tests.calibration.truth import pose

TIP, POINT = np.array([0.012, -0.03, 0.11]), np.array([0.5, 0.1, 0.02])


def pivoted(turns: Array, noise_m: float = 0.0, seed: int = 0) -> list[ArmSample]:
    """Poses that keep the tip on the point, turned from tool-down by rotation vectors [n, 3]."""
    rng, samples = np.random.default_rng(seed), []
    for number, turn in enumerate(turns):
        T_base_tcp = pose(0.0, 0.0, 0.0, np.pi, 0.0, 0.0)
        T_base_tcp[:3, :3] = T_base_tcp[:3, :3] @ matrix_from_rotvec(turn)
        T_base_tcp[:3, 3] = POINT - T_base_tcp[:3, :3] @ TIP + rng.normal(0.0, noise_m, 3)
        samples.append(ArmSample(number, np.zeros(7), T_base_tcp))
    return samples


def turns(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (count, 3))


def test_a_quarter_turn_each_way_is_solved_by_hand() -> None:
    """Four tilts by 90 deg about x and y: with p = (0, 0, l) the TCP stands l from the point on either side."""
    tilts = 0.5 * np.pi * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]] * 2)
    samples = []
    for number, tilt in enumerate(tilts):
        T_base_tcp = np.eye(4)
        T_base_tcp[:3, :3] = matrix_from_rotvec(tilt)
        T_base_tcp[:3, 3] = [-0.2 * np.sin(tilt[1]), 0.2 * np.sin(tilt[0]), 0.0]
        samples.append(ArmSample(number, np.zeros(7), T_base_tcp))
    found = tool_point(samples)
    assert found.position_m == pytest.approx([0.0, 0.0, 0.2], abs=1e-12)
    assert found.point_base_m == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)


def test_the_tip_is_found_within_half_a_millimetre_and_within_its_deviation() -> None:
    errors, shares = [], []
    for seed in range(10):
        found = tool_point(pivoted(turns(24, seed), 2e-4, seed))
        errors.append(1e3 * np.linalg.norm(found.position_m - TIP))
        shares.append(np.abs(found.position_m - TIP) / found.deviation_m)
        assert found.rms_mm == pytest.approx(0.2 * np.sqrt(3.0), rel=0.25)
        assert not found.outliers
    assert max(errors) < 0.5
    assert 0.4 < np.mean(shares) < 1.3  # 0.8 where deviations are right


def test_poses_where_the_tip_slipped_do_not_count() -> None:
    samples = pivoted(turns(20), 2e-4)
    for number in (3, 11):
        samples[number].T_base_tcp[:3, 3] += [0.01, -0.004, 0.0]
    found = tool_point(samples)
    assert found.outliers == (3, 11)
    assert found.residuals_mm[3] > 5.0
    assert found.position_m == pytest.approx(TIP, abs=5e-4)
    assert found.held_out_mm < 1.0


def slipping() -> list[ArmSample]:
    return pivoted(turns(20), 4e-3)


def elsewhere() -> list[ArmSample]:
    samples, rng = pivoted(turns(20), 2e-4), np.random.default_rng(5)
    for sample in samples[::3]:
        sample.T_base_tcp[:3, 3] += rng.choice([-1.0, 1.0], 3) * 0.01
    return samples


REFUSED = {
    "few": (lambda: pivoted(turns(5)), "5 poses"),
    "small turns": (lambda: pivoted(0.2 * turns(20)), "turned by .* deg only"),
    "one axis": (lambda: pivoted(turns(20) * [1.0, 0.0, 0.0]), r"about one axis only, \(-?1.00, -?0.00, -?0.00\)"),
    "slipping": (slipping, "did not stay in place"),
    "elsewhere": (elsewhere, "the tip was elsewhere in 7 of 20 poses"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_poses_that_do_not_tell_are_refused_by_cause(name: str) -> None:
    samples, cause = REFUSED[name]
    with pytest.raises(CalibrationError, match=cause):
        tool_point(samples())
