"""robot-rl calibrate over ROS as its launch file starts it: a simulated arm that sees a board on its table drives
itself through the bridge, in real processes and real time, and what is found is what is known."""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import signal
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the extra 'ros' is not installed")

import mujoco
import numpy as np
from geometry_msgs.msg import PoseStamped

from calibration.camera_model import Intrinsics
from calibration.closed_form import differences
from calibration.storage import Calibration, load_calibration, save_calibration
from robot_rl.apps.main import compose, instantiate
from robot_rl.types import Array
from robot_rl_bridge.simulated_cameras import pinhole
from sim.cameras import CameraRig, Profile
from sim.scene import TCP_SITE, build_scene
from tests.ros.graph import Graph, Process, own_domain
from tests.ros.launch_stand_in import executed
from tests.teleop.pseudo_terminal import PseudoTerminal, pseudo_terminal

VIEWS = 6


@dataclass(frozen=True, eq=False)
class Truth:
    """What the launched arm is to find."""

    lens: Intrinsics
    T_tcp_wrist: Array
    T_base_board: Array


@pytest.fixture(scope="module")
def truth() -> Truth:
    robot = compose("view", ["task=lift", "robot=sim_panda", "camera=wrist", "scene=board"]).env.robot
    scene, arm, rig = instantiate(robot.scene), instantiate(robot.arm), instantiate(robot.cameras)
    model = build_scene(scene, arm, rig.cameras, look=Profile.FAST).model
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    site, camera = model.site(TCP_SITE).id, model.camera("wrist").id
    flip = np.diag([1.0, -1.0, -1.0])
    T_base_tcp = transform(data.site_xmat[site].reshape(3, 3), data.site_xpos[site])
    T_base_camera = transform(data.cam_xmat[camera].reshape(3, 3) @ flip, data.cam_xpos[camera])
    return Truth(lens(rig), np.linalg.inv(T_base_tcp) @ T_base_camera, scene.fixtures[0].board.transform)


def transform(rotation: Array, position: Array) -> Array:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, position
    return matrix


def lens(rig: CameraRig) -> Intrinsics:
    (camera,) = rig.cameras
    return Intrinsics(np.reshape(pinhole(camera), (3, 3)), np.zeros(5), (camera.width, camera.height))


@dataclass(frozen=True, eq=False)
class Launched:
    """Simulated arm, bridge and command; the terminal of the person at the arm; a node that hears where the arm is."""

    command: Process
    terminal: PseudoTerminal
    graph: Graph
    poses: deque[Any]


@pytest.fixture
def launched(tmp_path: Path, truth: Truth) -> Iterator[Launched]:
    """With a site that knows the lens."""
    known = tmp_path / "calibration" / "sim_panda" / "wrist_camera.yaml"
    save_calibration(known, Calibration("sim_panda", {}, {"wrist": truth.lens}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    environment = {"ROBOT_RL_SITE": str(tmp_path), "ROBOT_RL_ROOT": str(tmp_path)}
    processes = {}
    with own_domain() as domain, pseudo_terminal() as terminal:
        person = f"teleop=keyboard teleop.device.terminal={terminal.path}"
        words = f"procedure.views={VIEWS} name=eye robot.timeout_s=5 {person}"
        graph = Graph(domain)
        try:
            given = {"what": "hand_eye", "address": address, "options": words}
            for started in executed("calibrate.launch.py", given, tmp_path).started:
                process = Process(started.command, domain, started.name, **{**started.environment, **environment})
                processes[started.name] = process
                if started.name == "bridge":
                    process.wait_for("ready")
            yield Launched(processes["robot-rl calibrate"], terminal, graph, graph.hear(PoseStamped, "tcp_pose"))
            graph.close()
            interrupted(list(processes.values()))
        finally:
            for process in processes.values():
                process.kill()


def interrupted(processes: list[Process]) -> None:
    """All at once, as launch does; each ends with exit code 0."""
    for process in processes:
        if process.child.poll() is None:
            process.send(signal.SIGINT)
    for process in processes:
        assert process.child.wait(timeout=60) == 0, process.output


def test_hand_and_eye_are_found_over_ros(launched: Launched, truth: Truth, tmp_path: Path) -> None:
    """The arm moves when a person has said so, pauses when they press a key, and goes on from there."""
    command, terminal = launched.command, launched.terminal
    terminal.until("Start (Enter)", 90.0)
    terminal.type(b"\r")
    terminal.until("it moves")
    command.wait_for("moving to the next pose")
    terminal.type(b"w")
    terminal.until("paused")
    launched.graph.wait(lambda: travelled_m(launched.poses) < 2e-4, "the arm stands")
    where = launched.poses[-1]
    launched.graph.wait(lambda: stamp_s(launched.poses[-1]) > stamp_s(where) + 0.5, "half a second")
    assert travelled_m(launched.poses) < 2e-4
    terminal.type(b"\r")
    terminal.until("it moves on")
    assert command.child.wait(timeout=240) == 0, command.output
    found = load_calibration(tmp_path / "calibration" / "sim_panda" / "wrist_hand_eye.yaml").transforms
    for name, true in (("T_tcp_wrist", truth.T_tcp_wrist), ("T_base_wrist_board", truth.T_base_board)):
        far_m, far_rad = differences(true, found[name].matrix)
        assert far_m < 0.003, command.output
        assert np.degrees(far_rad) < 0.3, command.output
    assert (tmp_path / "runs" / "eye" / "report.html").is_file()


def stamp_s(message: PoseStamped) -> float:
    return message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec


def travelled_m(poses: Sequence[PoseStamped]) -> float:
    """Within the last half second."""
    recent = [m.pose.position for m in list(poses) if stamp_s(m) > stamp_s(poses[-1]) - 0.5]
    return float(np.ptp([[p.x, p.y, p.z] for p in recent], axis=0).max())
