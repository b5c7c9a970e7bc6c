"""One look at the board before a robot is used: does the camera still see it where the calibration has it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.arm_stream import arm_sample
from calibration.boards import MIN_CORNERS, CharucoBoard
from calibration.closed_form import differences
from calibration.storage import Calibration, load_calibration
from robot_rl.errors import CalibrationError
from robot_rl.interfaces import Robot
from robot_rl.runtime.calibration_in_use import calibration_folder
from robot_rl.runtime.frame_codec import decode
from robot_rl.types import Array, EnvSpec, Observation

_TCP = "tcp"


@dataclass(frozen=True)
class QuickView:
    """Compares where ``camera`` sees the board with where its hand-eye calibration has both. The board must lie, or be
    mounted, as it was when that was made."""

    board: CharucoBoard
    camera: str = "wrist"
    max_apart_mm: float = 5.0
    max_apart_deg: float = 1.0

    def __call__(self, robot: Robot, spec: EnvSpec) -> Sequence[str]:
        """What is wrong, in sentences; nothing is moved. ``robot`` is connected and stands."""
        folder = calibration_folder(spec.robot)
        path = None if folder is None else folder / f"{self.camera}_hand_eye.yaml"
        if path is None or not path.is_file():
            return [f"camera '{self.camera}' of robot '{spec.robot}' has no hand-eye calibration to be checked"]
        return self.compare(load_calibration(path), robot.read())

    def compare(self, calibration: Calibration, seen: Observation) -> Sequence[str]:
        """The same for one observation."""
        if self.camera not in seen.frames:
            return [f"the robot gives no image of camera '{self.camera}': its calibration is not checked"]
        frame = seen.frames[self.camera]
        image = decode(frame)
        view = self.board.detect(image, camera=self.camera, stamp_ns=frame.stamp_ns)
        if len(view.corner_ids) < MIN_CORNERS:
            why = self.board.why_not(image)
            return [f"camera '{self.camera}' sees no board, so its calibration is not checked: {why}"]
        lens = calibration.cameras[self.camera].scaled(view.image_size_px)
        there = lens.board_pose(view, self.board)
        apart_m, apart_rad = differences(self._expected(calibration, arm_sample(seen).T_base_tcp), there)
        mm, deg = 1e3 * float(apart_m), float(np.degrees(apart_rad))
        if mm <= self.max_apart_mm and deg <= self.max_apart_deg:
            return []
        return [
            f"camera '{self.camera}' sees the board {mm:.0f} mm and {deg:.1f} deg away from where its calibration of "
            f"{calibration.date[:10]} has it (limit: {self.max_apart_mm:g} mm, {self.max_apart_deg:g} deg). One of "
            "them was moved. Put the board back, or: robot-rl calibrate hand_eye"
        ]

    def _expected(self, calibration: Calibration, T_base_tcp: Array) -> Array:
        """T_camera_board by the calibration."""
        in_base = {}
        for item in calibration.transforms.values():
            in_base[item.child] = T_base_tcp @ item.matrix if item.parent == _TCP else item.matrix
        camera, board = f"{self.camera}_optical", f"{self.camera}_board"
        if camera not in in_base or board not in in_base:
            raise CalibrationError(
                f"the calibration holds {sorted(in_base)}", limit=f"{camera} and {board}", remedy="Calibrate hand_eye"
            )
        return np.linalg.inv(in_base[camera]) @ in_base[board]
