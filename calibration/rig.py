"""Which cameras and boards there are and what each is fastened to: the unknown transforms of hand-eye calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from calibration.boards import CharucoBoard
from calibration.camera_model import Intrinsics
from calibration.samples import BoardPose, BoardView, Capture
from robot_rl.errors import CalibrationError, ConfigError, valid_choices
from robot_rl.types import Array


class Mount(StrEnum):
    """What a camera or a board is fastened to."""

    TCP = "tcp"
    BASE = "base"


@dataclass(frozen=True)
class Rig:
    """Cameras and boards by name with their mounts; intrinsics and patterns of those that are seen by their corners.

    Eye-in-hand is a camera on the tcp and a board on the base, eye-to-hand the reverse; both, and several of each, may
    be solved at once. Raises ConfigError for names that do not match.
    """

    cameras: Mapping[str, Mount]
    boards: Mapping[str, Mount]
    intrinsics: Mapping[str, Intrinsics] = field(default_factory=dict)
    patterns: Mapping[str, CharucoBoard] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, mounts, known in (
            ("camera", self.cameras, self.intrinsics),
            ("board", self.boards, self.patterns),
        ):
            for name, mount in mounts.items():
                if mount not in list(Mount):
                    raise ConfigError(f"{kind} '{name}' on '{mount}'", remedy=valid_choices(str(mount), list(Mount)))
            for name in set(known) - set(mounts):
                raise ConfigError(f"{kind} '{name}' has no mount", remedy=valid_choices(name, mounts))
        both = set(self.cameras) & set(self.boards)
        if both:
            raise ConfigError(f"{sorted(both)} name a camera and a board")

    @property
    def bodies(self) -> tuple[str, ...]:
        """The unknowns: cameras, then boards."""
        return (*self.cameras, *self.boards)

    def mount(self, body: str) -> Mount:
        """What a camera or board is fastened to."""
        return Mount({**self.cameras, **self.boards}[body])

    def transform_name(self, body: str) -> str:
        """Of its unknown pose, such as T_tcp_wrist."""
        return f"T_{self.mount(body)}_{body}"

    def check(self, captures: Sequence[Capture]) -> None:
        """Raise CalibrationError for a view of an unknown camera or board, of another size of image, or of corners
        without intrinsics or pattern."""
        for capture in captures:
            view = capture.view
            for name, there in ((view.camera, self.cameras), (view.board, self.boards)):
                if name not in there:
                    raise CalibrationError(f"{view}: '{name}' is not of the rig", remedy=valid_choices(name, there))
            if not isinstance(view, BoardView):
                continue
            if view.camera not in self.intrinsics or view.board not in self.patterns:
                raise CalibrationError(
                    f"{view} shows corners, but the camera's intrinsics or the pattern of '{view.board}' are missing",
                    remedy="Calibrate the camera first and declare the board",
                )
            self.intrinsics[view.camera].check_size(view.image_size_px, str(view))

    def board_poses(self, captures: Sequence[Capture]) -> Array:
        """T_camera_board [n, 4, 4] of each capture: as measured, or from its corners."""
        return np.array([self._board_pose(capture.view) for capture in captures]).reshape(-1, 4, 4)

    def _board_pose(self, view: BoardView | BoardPose) -> Array:
        if isinstance(view, BoardPose):
            return view.T_camera_board
        return self.intrinsics[view.camera].board_pose(view, self.patterns[view.board])
