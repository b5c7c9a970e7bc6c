"""What people and other nodes ask of the bridge: stop, faults, pauses, resets, the keys of an episode."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from robot_rl.errors import CommandRefusedError, RobotRlError
from robot_rl.robots.server import RobotServer
from robot_rl.types import EpisodeEvent, ResetRequest
from robot_rl_bridge.bridged_arm import BridgedArm
from robot_rl_bridge.modes import Mode
from robot_rl_bridge.ros_commands import CLIENT
from robot_rl_bridge.spinning import EVENTS

_CLEAR_S = 1.0  # between two clearings of faults


class BridgeServices:
    """Services of ``node``. Whoever may stop the arm may not move it: that needs ``may_command``. ``fail`` ends the
    node for what nobody expects."""

    def __init__(
        self, node: Node, arm: BridgedArm, server: RobotServer, may_command: bool, fail: Callable[[str], None]
    ) -> None:
        self._node, self._arm, self._server, self._may_command, self._fail = node, arm, server, may_command, fail
        self._cleared_s = 0.0
        self._events = node.create_publisher(String, "episode/event", EVENTS)
        for name, act in (
            ("~/stop", lambda: self._stop("stopped over ROS")),
            ("~/clear_fault", self._clear_fault),
            ("~/confirm_reset", arm.confirmed),
            ("~/reset_home", self._reset_home),
        ):
            self._trigger(name, act)
        for event in [event for event in EpisodeEvent if event is not EpisodeEvent.STOP]:  # which ~/stop is
            self._trigger(f"episode/{event}", lambda event=event: self._tell_event(event))
        self._switch("~/set_enabled", self._set_enabled)
        self._switch("~/pause", self._pause)

    def _trigger(self, name: str, act: Callable[[], None]) -> None:
        self._node.create_service(Trigger, name, lambda request, response: _answered(response, act))

    def _switch(self, name: str, act: Callable[[bool], None]) -> None:
        def serve(request: Any, response: Any) -> Any:
            return _answered(response, lambda: act(bool(request.data)))

        self._node.create_service(SetBool, name, serve)

    def _stop(self, cause: str, *, keep: bool = False) -> None:
        """What clients asked for before is not carried out afterwards."""
        self._server.refuse_waiting()
        self._arm.stop(cause, keep=keep)

    def _clear_fault(self) -> None:
        if time.monotonic() - self._cleared_s < _CLEAR_S:
            raise CommandRefusedError("faults are cleared one at a time", limit=f"one per {_CLEAR_S} s")
        self._cleared_s = time.monotonic()
        self._node.get_logger().warning(f"clearing '{self._arm.control.modes.text}'")
        self._arm.clear_fault()

    def _set_enabled(self, enabled: bool) -> None:
        if not enabled:
            return self._stop("disabled over ROS")
        self._check_may_command()
        return self._arm.enable()

    def _pause(self, paused: bool) -> None:
        """A stop that is undone by its end, but hands nothing back; one of others, or of a reset, is not."""
        with self._arm.lock:
            modes = self._arm.control.modes
            if paused and modes.mode is not Mode.STOPPED:
                self._stop("paused" if modes.enabled else "stopped by a pause", keep=True)
            elif not paused and modes.text != "stopped: paused":
                raise CommandRefusedError(
                    f"the robot is in mode '{modes.text}'", remedy="Only a pause is ended by this"
                )
            elif not paused:
                self._arm.enable("resumed", keep=True)

    def _reset_home(self) -> None:
        self._check_may_command()
        self._server.lease.take(CLIENT)
        threading.Thread(target=self._run_reset, name="reset", daemon=True).start()

    def _run_reset(self) -> None:
        try:
            with self._server.leased(CLIENT):
                self._arm.reset(ResetRequest())
        except RobotRlError as error:
            self._node.get_logger().error(str(error))
        except Exception as error:
            self._fail(f"the reset raised {error!r}")

    def _check_may_command(self) -> None:
        if not self._may_command:
            raise CommandRefusedError("ROS does not command this arm", remedy="Start with accept_ros_commands:=true")

    def _tell_event(self, event: EpisodeEvent) -> None:
        if event is EpisodeEvent.START:
            self._arm.confirmed()
        elif event is EpisodeEvent.HAND_BACK:
            self._arm.hand_back()
        self._events.publish(String(data=json.dumps({"event": str(event), "seed": None})))


def _answered(response: Any, act: Callable[[], None]) -> Any:
    """Act, and say how it went; what is refused is no fault."""
    try:
        act()
        response.success = True
    except RobotRlError as error:
        response.success, response.message = False, str(error)
    return response
