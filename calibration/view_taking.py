"""Taking views of a board: the arm drives itself from one best pose to the next, or a person moves it and is told
how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from calibration.arm_drive import ArmDrive
from calibration.arm_stream import ArmStream, Stillness
from calibration.boards import MIN_CORNERS, CharucoBoard
from calibration.camera_model import Intrinsics
from calibration.display import Display
from calibration.hand_eye_start import hand_eye_start
from calibration.pose_plan import Mounting, PosePlan, Room, advice, apart, first_poses
from calibration.rig import Mount, Rig
from calibration.samples import BoardView, pair
from robot_rl.data.frame_encoding import encode_frame
from robot_rl.errors import CalibrationError
from robot_rl.runtime.frame_codec import decode
from robot_rl.types import Array, Frame

_ENOUGH_CORNERS = MIN_CORNERS + 2
_FIRST = 5  # views from which the mounting is guessed
_ATTEMPTS = 3  # poses tried for each view that is wanted, at most
_SAME_PX = 1.0  # by which corners may move between two images of an arm that stands
_LOOK_S = 2.0
_AFTER_S = 0.25  # of the arm's stream behind an image
_ENDINGS = {"raw": "png", "jpeg": "jpg"}
_OTHER = 0.25  # difference of poses, below which a view tells nothing new


@dataclass(frozen=True)
class Sight:
    """Which board is looked at through which camera; ``camera_on`` is what the camera is fastened to, the board is on
    the other. ``lens`` is what is known of the camera, nominal values before it is calibrated."""

    camera: str
    camera_on: Mount
    board_name: str
    board: CharucoBoard
    lens: Intrinsics

    def rig(self) -> Rig:
        """For one camera and one board."""
        board_on = Mount.BASE if self.camera_on is Mount.TCP else Mount.TCP
        return Rig(
            {self.camera: self.camera_on}, {self.board_name: board_on}, {self.camera: self.lens},
            {self.board_name: self.board},
        )  # fmt: skip


@dataclass
class ViewTaker:
    """Takes ``wanted`` views of an arm that stands; they and their images are kept here."""

    stream: ArmStream
    sight: Sight
    display: Display
    wanted: int
    stillness: Stillness = field(default_factory=Stillness)
    seed: int = 0
    views: list[BoardView] = field(default_factory=list)
    images: dict[str, bytes] = field(default_factory=dict)

    def drive(self, drive: ArmDrive, room: Callable[[Array], Room]) -> None:
        """Let the arm take all views by itself. ``room`` is asked where it may go, given its start [4, 4].

        Raises CalibrationError where the board is not in view at the start, or no further pose shows it.
        """
        start = drive.start()
        plan = self._begin(room(start))
        for pose in first_poses(start, plan.room)[1:]:
            if len(self.views) < min(_FIRST, self.wanted):
                self._try(drive, plan, pose)
        attempts = _ATTEMPTS * self.wanted
        while len(self.views) < self.wanted and attempts:
            attempts -= 1
            pose = plan.next_pose(self.mounting())
            if pose is None:
                break
            self._try(drive, plan, pose)
        if len(self.views) < self.wanted:
            raise CalibrationError(
                f"{len(self.views)} of {self.wanted} views were taken: no further pose shows the board",
                remedy="Put the board nearer to the middle of the workspace, or ask for fewer views",
            )
        drive.move(start)

    def guide(self, room: Callable[[Array], Room], timeout_s: float = 600.0) -> None:
        """Let a person move the arm; a view is taken wherever it stands and shows something new. Raises
        CalibrationError for views that are still missing after ``timeout_s``."""
        end_ns = self.stream.here.stamp_ns + round(1e9 * timeout_s)
        self.display.tell("Bring the board into view and let the arm stand")
        plan: PosePlan | None = None
        while len(self.views) < self.wanted:
            if self.stream.step().stamp_ns > end_ns:
                raise CalibrationError(
                    f"{len(self.views)} of {self.wanted} views within {timeout_s:.0f} s", remedy="Ask for fewer views"
                )
            here = self.stream.here.T_base_tcp
            if not self.stream.still(self.stillness):
                continue
            if plan is None:
                if len(self._glance().corner_ids) >= _ENOUGH_CORNERS:
                    plan = self._begin(room(here))
                    self._advise(plan)
                else:
                    image = decode(self.stream.frame(self.sight.camera))
                    why = self.sight.board.why_not(image) or "only a few of its corners"
                    self.display.tell(f"the camera does not see the board: {why}")
            elif apart(here, np.array(plan.taken)).min() > _OTHER and self._take(plan):
                self._advise(plan)

    def mounting(self) -> Mounting:
        """Camera and board as far as the views tell by now. Raises CalibrationError where they do not."""
        rig = self.sight.rig()
        captures = pair(self.views, self.stream.samples, max_gap_ms=1e3 / self.stream.spec.step_rate_hz)
        bodies = hand_eye_start(captures, rig, rig.board_poses(captures))
        return Mounting(self.sight.camera_on, bodies[self.sight.camera], bodies[self.sight.board_name])

    def _begin(self, room: Room) -> PosePlan:
        """A plan with the view from here as its first."""
        view, image = self.look()
        if len(view.corner_ids) < _ENOUGH_CORNERS:
            raise CalibrationError(
                f"camera '{self.sight.camera}' does not see the board at the start: {self.sight.board.why_not(image)}",
                limit=f"{_ENOUGH_CORNERS} corners",
                remedy="Put the board where the camera sees it whole, and check its squares and dictionary",
            )
        plan = PosePlan(room, self.sight.lens, self.sight.board, self._seen_at(view), seed=self.seed)
        self._keep(plan, view)
        return plan

    def _try(self, drive: ArmDrive, plan: PosePlan, pose: Array) -> None:
        self.display.tell("moving to the next pose")
        arrived = drive.move(pose)
        if not self._take(plan) or not arrived:
            plan.drop(pose)

    def _take(self, plan: PosePlan) -> bool:
        """Keep the view from here, if the arm stands and the board is seen."""
        view, image = self.look()
        if len(view.corner_ids) < _ENOUGH_CORNERS:
            why = self.sight.board.why_not(image) or f"{len(view.corner_ids)} corners only"
            self.display.tell(f"no view from here: {why}")
            return False
        if not self.stream.still(self.stillness):
            self.display.tell("no view from here: the arm does not stand still")
            return False
        self._keep(plan, view)
        return True

    def _keep(self, plan: PosePlan, view: BoardView) -> None:
        self.views.append(view)
        plan.take(self.stream.here.T_base_tcp, view.corners_px)
        self.display.progress(len(self.views), self.wanted, plan.seen)

    def _advise(self, plan: PosePlan) -> None:
        """Tell the person which view would add most."""
        if len(self.views) < _FIRST:
            self.display.tell("Turn the tool by 10 to 20 deg about another axis, with the board in view")
            return
        try:
            there = plan.next_pose(self.mounting())
        except CalibrationError as error:
            self.display.tell(f"{error.what}. {error.remedy or ''}")
            return
        best = "anywhere that is different" if there is None else advice(self.stream.here.T_base_tcp, there)
        self.display.tell(f"next best view: {best}")

    def look(self) -> tuple[BoardView, Array]:
        """The view of an arm that stands, and its image: two images in a row show the corners at one place."""
        end_ns = self.stream.here.stamp_ns + round(1e9 * _LOOK_S)
        before = self._glance()
        while True:
            self.stream.step()
            view = self._glance()
            if self._same(before, view) or self.stream.here.stamp_ns > end_ns:
                break
            before = view
        frame = self.stream.frame(self.sight.camera)
        until_ns = self.stream.here.stamp_ns + round(1e9 * _AFTER_S)
        while self.stream.here.stamp_ns < until_ns:
            self.stream.step()
        if len(view.corner_ids) >= _ENOUGH_CORNERS:
            self.images[view.image] = encoded(frame)
        return view, decode(frame)

    def _glance(self) -> BoardView:
        frame = self.stream.frame(self.sight.camera)
        name = image_name(self.sight.camera, len(self.views), frame)
        return detected(self.sight, frame, name)

    def _same(self, one: BoardView, other: BoardView) -> bool:
        if one.stamp_ns == other.stamp_ns:
            return False
        _, first, second = np.intersect1d(one.corner_ids, other.corner_ids, return_indices=True)
        moved = np.linalg.norm(one.corners_px[first] - other.corners_px[second], axis=1)
        return len(moved) == 0 or float(np.median(moved)) < _SAME_PX

    def _seen_at(self, view: BoardView) -> Array:
        return self.sight.lens.board_pose(view, self.sight.board)


def detected(sight: Sight, frame: Frame, name: str = "") -> BoardView:
    """The corners that a frame shows."""
    return sight.board.detect(
        decode(frame), camera=sight.camera, stamp_ns=frame.stamp_ns, board=sight.board_name, name=name
    )


def encoded(frame: Frame) -> bytes:
    """As it arrived, or lossless where it is raw."""
    return encode_frame(frame, "png") if frame.codec == "raw" else frame.data


def image_name(camera: str, number: int, frame: Frame) -> str:
    """Of its file."""
    return f"{camera}_{number:03d}.{ {'raw': 'png', 'jpeg': 'jpg'}.get(frame.codec, frame.codec) }"
