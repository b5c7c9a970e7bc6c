"""Any ``sensor_msgs/Joy`` as a Device: the messages are put in here by whoever hears them; ROS itself is not needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence

from robot_rl.teleop.device import Key
from robot_rl.teleop.pad import Layout, Pad
from robot_rl.types import Array

AXES = ("x=1", "y=0", "z=3", "rz=2")  # as the node joy/game_controller_node numbers them: left stick, right stick
KEYS = (
    "success=0", "failure=1", "discard=2", "rerecord=3", "stop=4", "hand_back=5", "start=6", "slower=7", "frame=8",
    "gripper=10",
)  # fmt: skip
DEAD_MAN = 9  # left shoulder


class Joy:
    """A Device that is told messages. Without one for ``silent_s`` (drivers repeat theirs) it counts as lost."""

    def __init__(self, layout: Layout, silent_s: float = 0.5) -> None:
        self._pad, self._silent_s = Pad(layout), silent_s
        self._told_s = time.monotonic()
        self._changed = threading.Condition()
        self._news = False

    @property
    def dead_man(self) -> bool:
        return self._pad.layout.dead_man is not None

    @property
    def legend(self) -> Sequence[str]:
        layout = self._pad.layout
        keys = "   ".join(f"{key}: button {button}" for button, key in layout.keys.items())
        return (f"dead-man: button {layout.dead_man}   {keys}",)

    @property
    def offers(self) -> Collection[Key]:
        return self._pad.layout.keys.values()

    @property
    def age_s(self) -> float:
        age_s = time.monotonic() - self._told_s
        return age_s if age_s > self._silent_s else 0.0

    def tell(self, axes: Sequence[float], buttons: Sequence[int]) -> None:
        """Take a message, from any thread."""
        with self._changed:
            for number, value in enumerate(axes):
                self._pad.turn(number, value)
            for number, down in enumerate(buttons):
                self._pad.press(number, bool(down))
            self._told_s, self._news = time.monotonic(), True
            self._changed.notify_all()

    def poll(self) -> Sequence[Key]:
        """Keys pressed since the last call."""
        with self._changed:
            self._news = False
            return self._pad.keys()

    def motion(self, now_ns: int) -> Array | None:
        """The axes [6] of the newest message while the dead-man is pressed; None once it fell silent."""
        with self._changed:
            return None if self.age_s else self._pad.motion()

    def release(self) -> None:
        """The dead-man must be pressed anew."""
        with self._changed:
            self._pad.release()

    def wait(self, timeout_s: float) -> None:
        """Until a message comes, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._news, timeout_s)

    def close(self) -> None:
        """Nothing was opened."""
