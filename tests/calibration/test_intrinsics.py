"""Intrinsics from synthetic views whose lens is known: what is found, how sure it is, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest

from calibration.camera_model import Distortion, Intrinsics
from calibration.intrinsics import calibrate_intrinsics, coverage_map
from calibration.samples import BoardView
from robot_rl.errors import CalibrationError, InvalidArrayError
from tests.calibration.truth import BOARD, LENS, corner_views

BOARDS = {"board": BOARD}
RATIONAL = Intrinsics(
    LENS.matrix,
    np.array([-0.35, 0.12, 0.0008, -0.0004, 0.01, -0.1, 0.03, 0.002]),
    LENS.image_size_px,
    Distortion.RATIONAL,
)


@pytest.mark.parametrize("lens", [LENS, RATIONAL], ids=lambda lens: str(lens.model))
def test_projection_is_that_of_opencv(lens: Intrinsics) -> None:
    points = np.random.default_rng(0).uniform([-0.3, -0.2, 0.6], [0.3, 0.2, 1.2], size=(50, 3))
    theirs, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), lens.matrix, lens.coefficients)
    np.testing.assert_allclose(lens.project(points), theirs[:, 0], atol=1e-9)


@pytest.mark.parametrize("lens", [LENS, RATIONAL], ids=lambda lens: str(lens.model))
def test_a_lens_is_found_within_its_deviations(lens: Intrinsics) -> None:
    report = calibrate_intrinsics(corner_views(lens, 30, seed=3), BOARDS, model=lens.model)
    found = report.intrinsics
    for name, index in (("fx", (0, 0)), ("fy", (1, 1)), ("cx", (0, 2)), ("cy", (1, 2))):
        assert abs(found.matrix[index] - lens.matrix[index]) < 4.0 * report.deviation[name]
    # what counts is where points are seen, parameters trade off against each other
    points = np.random.default_rng(0).uniform([-0.2, -0.15, 0.5], [0.2, 0.15, 0.5], size=(50, 3))
    assert np.abs(found.project(points) - lens.project(points)).max() < 2.0
    assert report.rms_px == pytest.approx(0.3 * np.sqrt(2.0), rel=0.15)  # 0.3 px along each axis
    assert report.held_out_px == pytest.approx(report.rms_px, rel=0.2)
    assert not report.outliers and report.covered > 0.8 and not report.weak


def test_deviations_are_those_that_occur() -> None:
    scores = []
    for seed in range(8):
        report = calibrate_intrinsics(corner_views(LENS, 14, seed=seed), BOARDS)
        scores.append((report.intrinsics.matrix[0, 0] - LENS.matrix[0, 0]) / report.deviation["fx"])
    assert 0.5 < np.sqrt(np.mean(np.square(scores))) < 1.6


def test_a_view_with_mislabelled_corners_is_left_out_and_listed() -> None:
    views = corner_views(LENS, 20)
    views[7] = replace(
        views[7], corner_ids=views[7].corner_ids[::-1].copy(), corners_px=np.roll(views[7].corners_px, 1, 0)
    )
    report = calibrate_intrinsics(views, BOARDS)
    assert report.outliers == [7] and report.view_rms_px[7] > 10.0
    assert report.intrinsics.matrix[0, 0] == pytest.approx(LENS.matrix[0, 0], rel=0.01)


def refused(views: Sequence[BoardView], match: str) -> None:
    with pytest.raises(CalibrationError, match=match):
        calibrate_intrinsics(views, BOARDS)


def test_few_views_are_refused() -> None:
    refused(corner_views(LENS, 6), "6 of 6 views.*>= 10")


def test_views_without_tilt_are_refused_for_the_focal_length() -> None:
    refused(corner_views(LENS, 15, tilt_rad=0.01), r"focal length is known to .* only.*Tilt the board")


def test_views_of_one_place_are_refused_naming_where_to_go() -> None:
    views = [
        replace(view, corner_ids=view.corner_ids[near], corners_px=view.corners_px[near])
        for view in corner_views(LENS, 60)
        if (near := (view.corners_px < [300, 250]).all(axis=1)).sum() >= 12
    ]
    refused(views, r"corners cover .* Show the board at the .*(right|bottom)")


def test_views_of_two_sizes_are_refused() -> None:
    views = corner_views(LENS, 12)
    small = replace(views[5], image_size_px=(320, 240), corners_px=0.5 * views[5].corners_px)
    refused([*views, small], "320 x 240 px.*640 x 480 px")


def test_views_of_a_bent_board_are_refused() -> None:
    rng = np.random.default_rng(0)
    views = [
        replace(view, corners_px=np.clip(view.corners_px + rng.normal(scale=3.0, size=view.corners_px.shape), 0, 479))
        for view in corner_views(LENS, 15)
    ]
    refused(views, "no lens explains the views")


def test_coverage_by_hand() -> None:
    view = BoardView("wrist", 0, (80, 60), np.array([0, 1, 2]), np.array([[1.0, 1.0], [2.0, 3.0], [79.0, 59.0]]))
    count = coverage_map([view])
    assert count.shape == (6, 8) and count[0, 0] == 2 and count[5, 7] == 1 and count.sum() == 3


def test_a_matrix_of_zeros_is_refused() -> None:
    with pytest.raises(CalibrationError, match="not calibrated: K has the focal lengths 0 and 0 px"):
        Intrinsics(np.zeros((3, 3)), np.zeros(5), (640, 480))
    with pytest.raises(InvalidArrayError, match=r"\[5\] for plumb_bob"):
        Intrinsics(LENS.matrix, np.zeros(8), (640, 480))


def test_another_size_of_image_is_refused_and_a_resized_one_scales() -> None:
    with pytest.raises(CalibrationError, match=r"320 x 240 px, its calibration is for 640 x 480.*scaled"):
        LENS.check_size((320, 240), "the camera")
    with pytest.raises(CalibrationError, match="cropped"):
        LENS.check_size((640, 360), "the camera")
    points = np.random.default_rng(0).uniform([-0.2, -0.1, 0.6], [0.2, 0.1, 0.8], size=(20, 3))
    halved = LENS.scaled((320, 240)).project(points)
    # the centre of the first pixel is (0, 0), its outer corner (-0.5, -0.5), in both
    np.testing.assert_allclose(halved + 0.5, 0.5 * (LENS.project(points) + 0.5), atol=1e-9)
