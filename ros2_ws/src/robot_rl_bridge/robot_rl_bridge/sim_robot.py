"""A simulated arm on the topics of a real one: MuJoCo in real time, with the cameras and objects of a task's scene.

    python -m robot_rl_bridge.sim_robot --ros-args -r __ns:=/arm0 -p arm:=sim_panda -p task:=lift

Physics has a thread, cameras another one; the executor's only leaves set points in a mailbox. An arm whose controller
takes poses listens on ``target_pose``, one that takes joints on ``forward_position_controller/commands``.
"""

from __future__ import annotations

import array
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, JointState
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import Trigger

from robot_rl.apps.main import compose, instantiate
from robot_rl.errors import ConfigError, RobotRlError, valid_choices
from robot_rl.types import Array, ResetRequest
from robot_rl_bridge.parameters import Declared, declare
from robot_rl_bridge.simulated_arm import Measured, SimulatedArm, stream_gains
from robot_rl_bridge.simulated_cameras import SimulatedCameras, pinhole
from robot_rl_bridge.spinning import EVENTS, IMAGES, LATCHED, NEWEST, Diagnostics, Spinning, run, stamped, status
from sim.arms.arm import Arm

SLOW_HZ = 31.25  # of what is not the arm's joints
INTERFACES = {"tcp": "target_pose", "joints": "forward_position_controller/commands"}
INJECTIONS = ("", "arm_fault", "joint_states_silent", "camera_frozen", "camera_silent", "callback_raises")
PARAMETERS = (
    Declared("arm", "sim_panda", "option of the group robot/ with a simulated arm"),
    Declared("interface", "", "what the arm's controller takes; empty: tcp for a Panda, joints for others",
             choices=("", *INTERFACES)),
    Declared("task", "lift", "option of the group task/ whose scene is simulated"),
    Declared("scene", "", "option of the group scene/ in its place"),
    Declared("camera", "front_wrist", "option of the group camera/; none: no images"),
    Declared("camera_rate_hz", 30.0, "images per second of each camera", low=1.0, high=60.0),
    Declared("image_px", 0, "height and width of the images; 0: as the camera option says", low=0, high=1024),
    Declared("image_noise", 0.0, "standard deviation of the images' noise, of 255", low=0.0, high=50.0),
    Declared("state_rate_hz", 125, "joint states per second; a part of 250", low=25, high=250),
    Declared("command_timeout_s", 0.1, "without a command for so long the arm comes to rest", low=0.02, high=1.0),
    Declared("inject", "", "a fault for tests", choices=INJECTIONS, settable=True),
    Declared("clock_offset_s", 0.0, "added to the stamps of all messages, for tests", settable=True),
)  # fmt: skip


class SimRobot(Node):
    """Topics, services and parameters around a SimulatedArm."""

    def __init__(self, spinning: Spinning) -> None:
        super().__init__("sim_robot")
        self._spinning = spinning
        values = declare(self, PARAMETERS)
        parts = _configured(values)
        self._arm_model, scene = parts["arm"], parts["scene"]
        joints = (values["interface"] or ("tcp" if self._arm_model.name == "panda" else "joints")) == "joints"
        gains, limits = stream_gains(joints), parts["limits"]
        self.arm = SimulatedArm(scene, self._arm_model, limits, gains, timeout_s=values["command_timeout_s"])
        self.cameras = SimulatedCameras(
            scene,
            self._arm_model,
            parts["cameras"],
            values["camera_rate_hz"],
            values["image_px"],
            values["image_noise"],
        )
        self._periods_ns = (round(1e9 / values["state_rate_hz"]), round(1e9 / SLOW_HZ))
        self._due_ns, self._silent, self._offset_ns, self._raises = [0, 0], False, 0, False
        self._publish_topics(list(self.arm.world.things))
        self._subscribe(joints)
        self._threads: list[threading.Thread] = []
        self._inject(values["inject"])
        self._offset_ns = round(values["clock_offset_s"] * 1e9)
        self.add_on_set_parameters_callback(self._on_parameters)
        Diagnostics(self, self._diagnose)

    # --- life -------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Physics runs from here on."""
        spinning, ending = self._spinning, self._spinning.wait
        if self.cameras.rig.cameras:
            self.cameras.open()
        self._start("physics", lambda: self.arm.run(lambda: spinning.ending, self._publish_state))
        if self.cameras.rig.cameras:
            self._start("cameras", lambda: self.cameras.run(ending, self.arm.view, self._publish_images))
        takes = "joints" if self.arm.joints else "tcp"
        self.get_logger().info(f"ready: {self._arm_model.name} takes {takes} on '{INTERFACES[takes]}'")

    def end(self, fault: str) -> None:
        """Wait for both threads; physics just stands still."""
        for thread in self._threads:
            thread.join()

    def _start(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._spinning.guarded(work, name), name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    # --- wiring -----------------------------------------------------------------------------------------------------

    def _publish_topics(self, things: Iterable[str]) -> None:
        self._joints = self.create_publisher(JointState, "joint_states", NEWEST)
        self._tcp = self.create_publisher(PoseStamped, "tcp_pose", NEWEST)
        self._gripper = self.create_publisher(JointState, "gripper/state", NEWEST)
        self._fault = self.create_publisher(String, "fault", LATCHED)
        self._extremes = self.create_publisher(String, "sim/extremes", EVENTS)
        self._reset_result = self.create_publisher(String, "sim/reset_result", EVENTS)
        self._objects = {
            name: self.create_publisher(PoseStamped, f"object/{name.split('/')[1].rsplit('_', 1)[0]}/pose", NEWEST)
            for name in things
        }
        names = [camera.name for camera in self.cameras.rig.cameras]
        self._images = {
            name: self.create_publisher(CompressedImage, f"{name}/image_raw/compressed", IMAGES) for name in names
        }
        self._infos = {name: self.create_publisher(CameraInfo, f"{name}/camera_info", IMAGES) for name in names}

    def _subscribe(self, joints: bool) -> None:
        if joints:
            self.create_subscription(Float64MultiArray, INTERFACES["joints"], self._on_joints, NEWEST)
        else:
            self.create_subscription(PoseStamped, INTERFACES["tcp"], self._on_pose, NEWEST)
        self.create_subscription(Float64, "gripper/command", self._on_gripper, NEWEST)
        self.create_subscription(String, "sim/reset", self._on_reset, EVENTS)
        self.create_service(Trigger, "~/recover", self._on_recover)
        self.create_timer(0.1, self._report)

    # --- callbacks: they only leave something behind ------------------------------------------------------------------

    def _on_pose(self, message: PoseStamped) -> None:
        if self._raises:
            raise RuntimeError("as injected")
        p, q = message.pose.position, message.pose.orientation
        if message.header.frame_id in ("base", ""):
            self.arm.follow(np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w]))
        else:
            self.arm.counts["malformed"] += 1

    def _on_joints(self, message: Float64MultiArray) -> None:
        if self._raises:
            raise RuntimeError("as injected")
        self.arm.follow(np.array(message.data))

    def _on_gripper(self, message: Float64) -> None:
        self.arm.open_gripper(message.data)

    def _on_reset(self, message: String) -> None:
        told: dict[str, Any] = {}
        try:
            told = json.loads(message.data)
            request = _request(told)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            number = told.get("number") if isinstance(told, dict) else None
            self._tell_reset(number, f"not a reset: {error}")
            return
        self.arm.reset(request, lambda problem: self._tell_reset(told.get("number"), problem))

    def _tell_reset(self, number: Any, problem: str) -> None:
        self._reset_result.publish(String(data=json.dumps({"number": number, "ok": not problem, "error": problem})))

    def _on_recover(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, self.arm.fault or "there was no fault"
        self.arm.recover()
        return response

    def _on_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        for parameter in changed:
            value: Any = parameter.value
            if parameter.name == "inject":
                if value not in INJECTIONS:
                    return SetParametersResult(successful=False, reason=valid_choices(value, INJECTIONS))
                self._inject(value)
            elif parameter.name == "clock_offset_s":
                self._offset_ns = round(value * 1e9)
        return SetParametersResult(successful=True)

    def _inject(self, what: str) -> None:
        self._silent = what == "joint_states_silent"
        self.cameras.frozen, self.cameras.silent = what == "camera_frozen", what == "camera_silent"
        self._raises = what == "callback_raises"
        if what == "arm_fault":
            self.arm.fail("reflex: as injected")

    # --- publishing: each from one thread -----------------------------------------------------------------------------

    def _stamp(self, time_ns: int) -> int:
        """A moment of the monotonic clock on that of ROS."""
        return self.get_clock().now().nanoseconds - (time.monotonic_ns() - time_ns) + self._offset_ns

    def _publish_state(self, seen: Measured) -> None:
        states, slow = (self._due(which, seen.time_ns) for which in range(2))
        if states and not self._silent:
            state, stamp_ns = seen.state, self._stamp(seen.time_ns)
            message = JointState(
                name=self._arm_model.joints,
                position=state["arm0/joint_position"].tolist(),
                velocity=state["arm0/joint_velocity"].tolist(),
                effort=self.arm.servo.arrays.arm.torque.tolist(),
            )
            self._joints.publish(stamped(message, stamp_ns, "base"))
        if slow:
            self._publish_slowly(seen.state, self._stamp(seen.time_ns))

    def _due(self, which: int, now_ns: int) -> bool:
        """Whether one of the two rates has something to be published now."""
        due = now_ns >= self._due_ns[which]
        if due:
            self._due_ns[which] = max(self._due_ns[which] + self._periods_ns[which], now_ns - self._periods_ns[which])
        return due

    def _publish_slowly(self, state: Mapping[str, Array], stamp_ns: int) -> None:
        gripper = JointState(name=["gripper"], position=state["arm0/gripper_opening"].tolist())
        self._gripper.publish(stamped(gripper, stamp_ns))
        self._tcp.publish(stamped(_pose_message(state["arm0/tcp_pose"]), stamp_ns, "base"))
        for name, publisher in self._objects.items():
            publisher.publish(stamped(_pose_message(state[name]), stamp_ns, "base"))

    def _publish_images(self, time_ns: int, images: Mapping[str, bytes]) -> None:
        stamp_ns = self._stamp(time_ns)
        for camera in self.cameras.rig.cameras:
            frame = f"{camera.name}_optical"
            data = array.array("B")
            data.frombytes(images[camera.name])
            image = CompressedImage(format="jpeg", data=data)
            self._images[camera.name].publish(stamped(image, stamp_ns, frame))
            k = pinhole(camera)
            info = CameraInfo(height=camera.height, width=camera.width, distortion_model="plumb_bob", d=[0.0] * 5, k=k)
            info.r[0] = info.r[4] = info.r[8] = 1.0
            info.p = [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
            self._infos[camera.name].publish(stamped(info, stamp_ns, frame))

    def _report(self) -> None:
        """What the plant did in the last 0.1 s, and whether it is at fault."""
        extremes = {**asdict(self.arm.take_extremes()), "counts": dict(self.arm.counts)}
        if np.isfinite(extremes["lower_m"]).all():  # something was measured
            self._extremes.publish(String(data=json.dumps(extremes)))
        self._fault.publish(String(data=self.arm.fault))

    def _diagnose(self) -> list[DiagnosticStatus]:
        arm = self.arm
        level = DiagnosticStatus.ERROR if arm.fault else DiagnosticStatus.OK
        return [status(f"{self.get_name()}: arm", level, arm.fault or "ok", sorted(arm.counts.items()))]


def _configured(values: Mapping[str, Any]) -> dict[str, Any]:
    """Scene, arm, cameras and limits as the commands of the stack compose them, $ROBOT_RL_SITE included."""
    overrides = [f"task={values['task']}", f"robot={values['arm']}", f"camera={values['camera']}"]
    overrides += [f"scene={values['scene']}"] if values["scene"] else []
    robot = compose("view", overrides).env.robot
    if "arm" not in robot:
        raise ConfigError(f"'{values['arm']}' is no simulated arm", remedy="Choose one of sim_panda, sim_ur5e")
    arm: Arm = instantiate(robot.arm)
    limits = arm.safety_limits(robot.box_lower_m, robot.box_upper_m, robot.limits)
    return {"arm": arm, "scene": instantiate(robot.scene), "cameras": instantiate(robot.cameras), "limits": limits}


def _request(told: Mapping[str, Any]) -> ResetRequest:
    joints, tcp = told.get("joint_position"), told.get("tcp_pose")
    return ResetRequest(
        joint_position=None if joints is None else np.array(joints, dtype=np.float64),
        tcp_pose=None if tcp is None else np.array(tcp, dtype=np.float64),
        gripper_opening=float(told.get("gripper_opening", 1.0)),
        simulator_state={name: np.array(pose, dtype=np.float64) for name, pose in told["simulator_state"].items()},
    )


def _pose_message(pose: Array) -> PoseStamped:
    """Of a pose [7] or a position [3]."""
    message = PoseStamped()
    p, q = message.pose.position, message.pose.orientation
    p.x, p.y, p.z = (float(v) for v in pose[:3])
    if len(pose) == 7:
        q.x, q.y, q.z, q.w = (float(v) for v in pose[3:])
    return message


def main() -> int:
    try:
        return run(SimRobot)
    except RobotRlError as error:
        print(f"sim_robot: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
