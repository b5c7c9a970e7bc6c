"""The Push-T board: keypoints, coverage and reward by hand-computed numbers and against the simulator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.pusht import (
    GOAL_POSE,
    TEE_KEYPOINTS_PX,
    coverage_reward,
    pusht_spec,
    tee_coverage,
    tee_keypoints,
)
from robot_rl.types import EnvSpec


def test_keypoints_of_an_unturned_tee_are_the_local_ones_moved() -> None:
    points = tee_keypoints(np.array([100.0, 200.0, 0.0])).reshape(9, 2)
    np.testing.assert_allclose(points, TEE_KEYPOINTS_PX + np.array((100.0, 200.0)), atol=1e-4)


def test_keypoints_turn_from_x_to_y() -> None:
    points = tee_keypoints(np.array([[0.0, 0.0, np.pi / 2]])).reshape(9, 2)
    np.testing.assert_allclose(points, np.stack((-TEE_KEYPOINTS_PX[:, 1], TEE_KEYPOINTS_PX[:, 0]), axis=1), atol=1e-4)


def test_coverage_at_the_goal_is_one_and_far_away_zero() -> None:
    np.testing.assert_allclose(tee_coverage(np.array([GOAL_POSE, (60.0, 60.0, 0.0)])), [1.0, 0.0], atol=1e-12)


def test_coverage_of_a_tee_moved_along_its_stem() -> None:
    """Moved 30 px down the stem: bar on bar 0, stem on stem 30 x 60, bar on stem 30 x 30, of 6300 px^2 in all."""
    x, y, angle = GOAL_POSE
    moved = (x - 30 * np.sin(angle), y + 30 * np.cos(angle), angle)
    np.testing.assert_allclose(tee_coverage(np.array([moved])), [(30 * 60 + 30 * 30) / 6300], atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.floats(150, 350), st.floats(150, 350), st.floats(-4, 4))
def test_coverage_agrees_with_the_simulator(x: float, y: float, angle: float) -> None:
    shapely = pytest.importorskip("shapely", reason="the extra 'pusht' is not installed")

    def tee(px: float, py: float, turn: float) -> object:
        from shapely import affinity, geometry

        bar = geometry.box(-60, 0, 60, 30)
        stem = geometry.box(-15, 30, 15, 120)
        shape = shapely.unary_union([bar, stem])
        turned = affinity.rotate(shape, turn, origin=(0, 0), use_radians=True)
        return affinity.translate(turned, px, py)

    goal = tee(*GOAL_POSE)
    expected = goal.intersection(tee(x, y, angle)).area / goal.area
    np.testing.assert_allclose(tee_coverage(np.array([[x, y, angle]])), [expected], atol=1e-9)


def test_reward_is_coverage_over_the_coverage_of_success() -> None:
    np.testing.assert_allclose(coverage_reward(np.array([0.0, 0.475, 0.95, 1.0])), [0.0, 0.5, 1.0, 1.0], atol=1e-7)


def test_spec_survives_json_and_has_a_camera_only_with_a_size() -> None:
    assert pusht_spec().cameras == {}
    spec = pusht_spec(96)
    assert spec.cameras["board"].height == 96
    assert EnvSpec.from_json(spec.to_json()) == spec
