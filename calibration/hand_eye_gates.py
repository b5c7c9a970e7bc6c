"""What hand-eye samples must have before they are solved, and a solution before it is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from calibration.closed_form import differences
from calibration.rig import Rig
from calibration.rotation_spread import rotation_spread
from calibration.samples import Capture
from robot_rl.errors import CalibrationError
from robot_rl.types import Array

_FEWEST, _ENOUGH = 5, 15  # captures of a camera
_NARROWEST_DEG, _WIDE_DEG = 15.0, 30.0  # turns about the second axis
_EXPECTED_M, _EXPECTED_DEG = 0.05, 15.0


def check_poses(captures: Sequence[Capture], rig: Rig) -> tuple[dict[str, Sequence[float]], list[str]]:
    """How far the arm turned for each camera [deg], and what is weak about it. Raises CalibrationError where captures
    are too few, or turn too little or about one axis only."""
    turns, weak = {}, []
    for camera in rig.cameras:
        own = [capture for capture in captures if capture.view.camera == camera]
        if len(own) < _FEWEST:
            raise CalibrationError(
                f"{len(own)} captures of camera '{camera}'", limit=f">= {_FEWEST}", remedy=f"{_ENOUGH} are good"
            )
        spread = rotation_spread(np.array([capture.arm.T_base_tcp for capture in own]))
        turns[camera] = [float(value) for value in spread.spans_deg]
        first, second = turns[camera][:2]
        if second < _NARROWEST_DEG:
            if first >= _NARROWEST_DEG:
                what = f"the poses turn by {first:.0f} deg about one axis only, {spread.axis_name} of the tcp"
            else:
                what = f"the poses turn by {first:.0f} deg at most"
            raise CalibrationError(
                f"camera '{camera}': {what} ({second:.0f} deg about a second one)",
                limit=f"{_NARROWEST_DEG:g} deg about two axes",
                remedy=f"Tilt the tool about other axes, too; {_WIDE_DEG:g} deg are good",
            )
        if len(own) < _ENOUGH:
            weak.append(f"{len(own)} captures of camera '{camera}'; {_ENOUGH} are good")
        if second < _WIDE_DEG:
            weak.append(f"camera '{camera}' turns by {second:.0f} deg about a second axis; {_WIDE_DEG:g} deg are good")
    return turns, weak


def check_expected(transforms: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    """Raise CalibrationError for a transform that is far from the one expected under its name."""
    for name, value in expected.items():
        if name not in transforms:
            raise CalibrationError(f"'{name}' is expected but not solved for", remedy=f"Solved: {sorted(transforms)}")
        far_m, far_rad = differences(value, transforms[name])
        if far_m <= _EXPECTED_M and np.degrees(far_rad) <= _EXPECTED_DEG:
            continue
        inverse_m, inverse_rad = differences(np.linalg.inv(value), transforms[name])
        inverted = inverse_m <= _EXPECTED_M and np.degrees(inverse_rad) <= _EXPECTED_DEG
        raise CalibrationError(
            f"{name} is {1e3 * far_m:.0f} mm and {np.degrees(far_rad):.0f} deg from what was expected",
            limit=f"{1e3 * _EXPECTED_M:g} mm, {_EXPECTED_DEG:g} deg",
            remedy="What was expected is inverted"
            if inverted
            else "Is the arm's pose that of the tcp, not of the flange, and in the base?",
        )


def contradiction(what: str, limit: str | None = None) -> CalibrationError:
    """The error of captures that no mounting explains and whose cause has no sign of its own."""
    return CalibrationError(
        what,
        limit=limit,
        remedy="In this order: is the pose that of the tcp in the base (effector frame), was the board fastened, were "
        "the images those the intrinsics hold for (raw, not rectified), did the robot stand still",
    )
