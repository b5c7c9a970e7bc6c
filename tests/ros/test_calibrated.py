"""robot-rl calibrate over ROS as its launch file starts it: a simulated arm that sees a board on its table drives
itself through the bridge, in real processes and real time, and what is found is what is known."""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="the extra 'ros' is not installed")

import mujoco
import numpy as np

from calibration.camera_model import Intrinsics
from calibration.closed_form import differences
from calibration.storage import Calibration, load_calibration, save_calibration
from robot_rl.apps.main import compose, instantiate
from robot_rl.types import Array
from robot_rl_bridge.simulated_cameras import pinhole
from sim.cameras import CameraRig, Profile
from sim.scene import TCP_SITE, build_scene
from tests.ros.graph import Process, own_domain
from tests.ros.launch_stand_in import executed

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


@pytest.fixture
def launched(tmp_path: Path, truth: Truth) -> Iterator[dict[str, Process]]:
    """Simulated arm, bridge and command, with a site that knows the lens."""
    known = tmp_path / "calibration" / "sim_panda" / "wrist_camera.yaml"
    save_calibration(known, Calibration("sim_panda", {}, {"wrist": truth.lens}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    words = f"procedure.views={VIEWS} name=eye robot.timeout_s=5"
    given = {"what": "hand_eye", "address": address, "options": words}
    environment = {"ROBOT_RL_SITE": str(tmp_path), "ROBOT_RL_ROOT": str(tmp_path)}
    processes = {}
    with own_domain() as domain:
        try:
            for started in executed("calibrate.launch.py", given, tmp_path).started:
                process = Process(started.command, domain, started.name, **{**started.environment, **environment})
                processes[started.name] = process
                if started.name == "bridge":
                    process.wait_for("ready")
            yield processes
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


def test_hand_and_eye_are_found_over_ros(launched: dict[str, Process], truth: Truth, tmp_path: Path) -> None:
    command = launched["robot-rl calibrate"]
    assert command.child.wait(timeout=240) == 0, command.output
    found = load_calibration(tmp_path / "calibration" / "sim_panda" / "wrist_hand_eye.yaml").transforms
    for name, true in (("T_tcp_wrist", truth.T_tcp_wrist), ("T_base_wrist_board", truth.T_base_board)):
        far_m, far_rad = differences(true, found[name].matrix)
        assert far_m < 0.003, command.output
        assert np.degrees(far_rad) < 0.3, command.output
    assert (tmp_path / "runs" / "eye" / "report.html").is_file()
