"""A person's device on the human channel of the bridge: velocities while the person commands, nothing otherwise.

    python -m robot_rl_bridge.teleop --ros-args -r __ns:=/arm0 -p device:=keyboard

Silence lets go: the bridge holds the arm 0.25 s after the last message, so that a node that dies or a cable that breaks
needs no further care, and the policy gets it back by ``episode/hand_back`` alone. A device without a dead-man says so
when the person lets go; with one the person presses HAND_BACK. Keys of the episode call the bridge's services; the
key stop does so before anything else.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState
from sensor_msgs.msg import Joy as JoyMessage
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from robot_rl.errors import RobotRlError
from robot_rl.teleop.cue import BELL, on_screen
from robot_rl.teleop.device import EVENTS, Device, Key
from robot_rl.teleop.gamepad import Gamepad
from robot_rl.teleop.joy import AXES, DEAD_MAN, KEYS, Joy
from robot_rl.teleop.keyboard import Keyboard
from robot_rl.teleop.pad import layout_of
from robot_rl.teleop.spacemouse import SpaceMouse
from robot_rl.teleop.steering import FRAMES, Speed, opening_after
from robot_rl.teleop.terminal import TERMINAL
from robot_rl.types import Array
from robot_rl_bridge.parameters import Declared, declare
from robot_rl_bridge.spinning import NEWEST, Diagnostics, Spinning, run, stamped, status

DEVICES = ("keyboard", "gamepad", "spacemouse", "joy")
GRIPPER_KEYS = (Key.GRIPPER, Key.OPEN, Key.CLOSE)
HAND_BACK_S = 0.25  # without a command the person has let go
PARAMETERS = (
    Declared("device", "keyboard", "what the person holds; joy: any sensor_msgs/Joy", choices=DEVICES),
    Declared("path", "", "terminal of the keyboard, or joystick of the gamepad; empty: the usual one"),
    Declared("bridge", "bridge", "name of the bridge, whose services the keys call"),
    Declared("rate_hz", 50.0, "velocities per second", low=20.0, high=200.0),
    Declared("max_speed_m_s", 0.1, "of a full axis", low=0.001, high=1.0),
    Declared("max_rate_rad_s", 0.5, "of a full axis", low=0.001, high=3.0),
    Declared("dead_zone", 0.1, "share of an axis around its rest that counts for nothing", low=0.0, high=0.9),
    Declared("frame", "base", "in which the axes are", choices=FRAMES),
    Declared("joy_axes", list(AXES), "joy: which axis is which, -<number> reverses it"),
    Declared("joy_keys", list(KEYS), "joy: which button is which key"),
    Declared("joy_dead_man", DEAD_MAN, "joy: the button to be held, -1 for none", low=-1, high=99),
)  # fmt: skip


class Teleop(Node):
    """Asks the device at its own rate, in a thread of its own."""

    def __init__(self, spinning: Spinning) -> None:
        super().__init__("teleop")
        values = declare(self, PARAMETERS)
        self._spinning, self._period_s = spinning, 1.0 / values["rate_hz"]
        self.device = _device(values)
        self.speed = Speed(values["max_speed_m_s"], values["max_rate_rad_s"], values["dead_zone"], values["frame"])
        self._show = on_screen(values["path"] if values["device"] == "keyboard" and values["path"] else TERMINAL)
        self._opening: float | None = None  # as the person wants it
        self._measured = 1.0
        self._active = False
        self._commanded_s: float | None = None  # when the person did last, until handed back
        self._twist = self.create_publisher(TwistStamped, "teleop/target", NEWEST)
        self._gripper = self.create_publisher(Float64, "teleop/gripper", NEWEST)
        self._joy = self.create_publisher(JoyMessage, "teleop/joy", NEWEST)
        self.create_subscription(JointState, "gripper/state", self._on_gripper, NEWEST)
        if isinstance(self.device, Joy):
            self.create_subscription(JoyMessage, "joy", self._on_joy, NEWEST)
        bridge = values["bridge"]
        self._called = {
            key: self.create_client(Trigger, f"{bridge}/stop" if key is Key.STOP else f"episode/{key.value}")
            for key in EVENTS
        }
        self._thread = threading.Thread(target=spinning.guarded(self._run, "the device"), name="device", daemon=True)
        Diagnostics(self, self._diagnose)

    def begin(self) -> None:
        """The device is opened first: what is wrong with it is said at once."""
        self.device.poll()
        self._show("\n".join([*self.device.legend, ""]))
        self._thread.start()
        self.get_logger().info("ready")

    def end(self, fault: str) -> None:
        """Silence lets go of the arm."""
        if self._thread.is_alive():
            self._thread.join()
        self.device.close()

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._spinning.ending:
            self._tick()
            due_s = max(due_s + self._period_s, time.monotonic() - self._period_s)
            self._spinning.wait(max(0.0, due_s - time.monotonic()))

    def _tick(self) -> None:
        grasp = self._take(self.device.poll())
        axes = self.device.motion(time.monotonic_ns())
        twist = None if axes is None else self.speed.twist(axes)
        commands = twist is not None and (self.device.dead_man or bool(twist.any()))
        if grasp is not None and (commands or not self.device.dead_man):
            self._opening = opening_after(grasp, self._measured if self._opening is None else self._opening)
            self._gripper.publish(Float64(data=self._opening))
        if commands and twist is not None:
            self._publish(twist)
        self._hand_back_when_released(commands or grasp is not None)
        if commands is not self._active:
            self._active = commands
            self._show(f"{BELL}  {'you have the arm' if commands else 'let go'}\n")
        buttons = [int(commands), int(grasp is not None)]
        joy = JoyMessage(axes=[0.0] * 6 if axes is None else [float(axis) for axis in axes], buttons=buttons)
        self._joy.publish(stamped(joy, self.get_clock().now().nanoseconds))

    def _hand_back_when_released(self, commands: bool) -> None:
        """Only a person who lets go hands back: a device that is lost has the arm held."""
        now_s = time.monotonic()
        if self.device.age_s > 0.0:
            self._commanded_s = None
        elif commands:
            self._commanded_s = now_s
        elif self._commanded_s is not None and now_s - self._commanded_s > HAND_BACK_S:
            self._commanded_s = None
            if not self.device.dead_man:
                self._call(Key.HAND_BACK)

    def _publish(self, twist: Array) -> None:
        message = stamped(TwistStamped(), self.get_clock().now().nanoseconds, self.speed.frame)
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = (float(value) for value in twist)
        self._twist.publish(message)

    def _take(self, keys: Sequence[Key]) -> Key | None:
        """Act on the keys; the last one of the gripper."""
        if Key.STOP in keys:
            self.device.release()
            self._commanded_s = None
            self._call(Key.STOP)
        for key in keys:
            if key in EVENTS and key is not Key.STOP:
                self._call(key)
            else:
                self.speed.press(key)
        return next((key for key in reversed(keys) if key in GRIPPER_KEYS), None)

    def _call(self, key: Key) -> None:
        client = self._called[key]
        if not client.service_is_ready():
            self._show(f"{BELL}  {key.value}: nobody answers at {client.srv_name}\n")
            return

        def done(future: Any) -> None:
            answer = future.result()
            self._show(f"{BELL}  {key.value}: {answer.message or ('done' if answer.success else 'refused')}\n")

        client.call_async(Trigger.Request()).add_done_callback(done)

    def _on_gripper(self, message: JointState) -> None:
        if message.position:
            self._measured = message.position[0]

    def _on_joy(self, message: JoyMessage) -> None:
        assert isinstance(self.device, Joy)
        self.device.tell(message.axes, message.buttons)

    def _diagnose(self) -> list[DiagnosticStatus]:
        lost = self.device.age_s
        level = DiagnosticStatus.ERROR if lost else DiagnosticStatus.OK
        told = [("commands", self._active), ("frame", self.speed.frame), ("speed", self.speed.scale)]
        return [status(f"{self.get_name()}: device", level, f"lost for {lost:.1f} s" if lost else "ok", told)]


def _device(values: dict[str, Any]) -> Device:
    match values["device"]:
        case "gamepad":
            return Gamepad(values["path"] or None)
        case "spacemouse":
            return SpaceMouse()
        case "joy":
            return Joy(layout_of(values["joy_axes"], values["joy_keys"], values["joy_dead_man"]))
    return Keyboard(terminal=values["path"] or TERMINAL)


def main() -> int:
    try:
        return run(Teleop)
    except RobotRlError as error:
        print(f"teleop: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
