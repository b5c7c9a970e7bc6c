"""What the launch files start, started for real: every node and every command gets to work beside a simulated arm, ends
by SIGINT with exit code 0 and leaves nothing behind. One after the other: recorded episodes are what is trained on."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the extra 'ros' is not installed")

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import String

from robot_rl.apps.environment import make_env
from robot_rl.apps.main import compose
from robot_rl.learning.checkpoint import save_checkpoint
from robot_rl.learning.targets import build
from tests.apps.checkpoints import CONFIG
from tests.ros.graph import Graph, Process, own_domain, running, session_of
from tests.ros.launch_stand_in import LAUNCH, executed
from tests.ros.limits import check_within_limits

ARM = ("sim_robot", "bridge")


@dataclass
class Launched:
    """A simulated arm and its bridge, as every launch file starts them, and a root for data and runs."""

    domain: int
    folder: Path
    address: str
    graph: Graph
    extremes: deque[Any]

    @contextmanager
    def beside(self, file: str, **arguments: str) -> Iterator[dict[str, Process]]:
        """What ``file`` starts beside the arm."""
        given = {"address": self.address, "cameras": "none", **arguments}
        processes = {}
        try:
            for started in executed(file, given, self.folder).started:
                if started.name not in ARM:
                    environment = {**started.environment, "ROBOT_RL_ROOT": str(self.folder)}
                    processes[started.name] = Process(started.command, self.domain, started.name, **environment)
            yield processes
        finally:
            for process in processes.values():
                process.kill()


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    folder = tmp_path_factory.mktemp("launched")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with own_domain() as domain:
        processes = []
        try:
            for started in executed("sim.launch.py", {"address": address, "cameras": "none"}, folder).started:
                processes.append(Process(started.command, domain, started.name, **started.environment))
            for process in processes:
                process.wait_for("ready")
            graph = Graph(domain)
            yield Launched(domain, folder, address, graph, graph.hear(String, "sim/extremes"))
            graph.close()
            for process in reversed(processes):
                ends_cleanly(process)
        finally:
            for process in processes:
                process.kill()


def ends_cleanly(process: Process) -> None:
    """By SIGINT, with exit code 0, without a traceback, and leaving nothing behind."""
    assert process.end(timeout_s=60.0) == 0, process.output
    assert "Traceback" not in process.output


def words_of(pid: int) -> list[str]:
    """Of the command that a process runs."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def test_teleop_and_recorder(launched: Launched) -> None:
    with launched.beside("teleop.launch.py", device="joy", mcap=str(launched.folder / "mcap")) as processes:
        assert set(processes) == {"teleop", "recorder"}
        for process in processes.values():
            process.wait_for("ready")
        launched.graph.hear(DiagnosticArray, "/diagnostics")
        launched.graph.next("/diagnostics", has_recorded)
        for process in processes.values():
            ends_cleanly(process)
    (recording,) = (launched.folder / "mcap").glob("*.mcap")
    assert recording.stat().st_size > 10_000


def has_recorded(message: DiagnosticArray) -> bool:
    """Whether the recorder tells of a hundred messages."""
    told = {
        value.key: value.value for status in message.status if status.name.endswith(": file") for value in status.values
    }
    return int(told.get("messages", 0)) > 100


def test_record_then_train(launched: Launched) -> None:
    """Two episodes of the scripted expert, and a session that begins with them, whose learner is killed."""
    with launched.beside("record.launch.py", name="lift", device="scripted", episodes="2") as processes:
        process = processes["robot-rl record"]
        assert process.child.wait(timeout=120) == 0
        assert "2 episodes recorded" in process.output
    assert len(list((launched.folder / "data" / "lift" / "episodes").iterdir())) == 2
    with launched.beside("train.launch.py", demos="lift") as processes:
        process = processes["robot-rl session"]
        process.wait_for("episode    1", 120.0)
        (learner,) = (pid for pid in running() if session_of(pid) == process.child.pid and "learner" in words_of(pid))
        os.kill(learner, signal.SIGKILL)  # the arm goes on with the weights there are, and the learner comes back
        process.wait_for("the learner ended (SIGKILL) and is started again")
        process.wait_for("episode    2", 120.0)
        ends_cleanly(process)
    check_within_limits(launched.extremes)


def untrained(launched: Launched) -> Path:
    """A checkpoint for the arm behind the bridge, of a policy that has learned nothing."""
    env = make_env(compose("record", ["task=lift", "robot=bridge", f"robot.address={launched.address}"]).env)
    spec = env.spec
    env.close()
    config = {**CONFIG, "observation": {"arm0/tcp_pose": "raw"}, "horizon": 8, "execute": 4}
    policy = build(config, env_spec=spec)
    random = np.random.default_rng(0)
    rows = {"obs/arm0/tcp_pose": (7,), "action/commanded": (spec.action.size,)}
    policy.fit_normalizer({key: random.normal(0, 0.01, (64, *shape)).astype(np.float32) for key, shape in rows.items()})
    folder = launched.folder / "runs" / "untrained"
    save_checkpoint(folder, weights=policy.state_dict(), config=config, env_spec=spec)
    return folder


def test_deploy_as_a_dry_run(launched: Launched) -> None:
    given = {"checkpoint": str(untrained(launched)), "options": "dry_run=true dry_steps=4"}
    with launched.beside("deploy.launch.py", **given) as processes:
        process = processes["robot-rl deploy"]
        assert process.child.wait(timeout=120) == 0, process.output
        assert "nothing has moved" in process.output


def test_record_ends_by_a_signal_in_the_middle_of_an_episode(launched: Launched) -> None:
    with launched.beside("record.launch.py", name="cut", device="scripted", episodes="50") as processes:
        process = processes["robot-rl record"]
        episodes = launched.folder / "data" / "cut" / "episodes"
        launched.graph.poll(lambda: any(episodes.glob("*.zarr.zip")), "an episode is recorded", 120.0)
        ends_cleanly(process)


def test_calibrate_gets_as_far_as_the_board_that_is_not_there(launched: Launched) -> None:
    with launched.beside("calibrate.launch.py", what="joints") as processes:
        process = processes["robot-rl calibrate"]
        assert process.child.wait(timeout=60) == 2
        assert "has no camera" in process.output  # this bridge passes no images on
        assert "Traceback" not in process.output


@pytest.mark.parametrize("file", ["sim.launch.py", "teleop.launch.py"])
def test_launch_itself_runs_and_ends_the_file(file: str, tmp_path: Path) -> None:
    """With launch and launch_ros, where a ROS installation and a built workspace are sourced."""
    pytest.importorskip("launch_ros", reason="launch is not on PyPI: runs beside a ROS installation")
    ros2 = shutil.which("ros2")
    if ros2 is None:
        pytest.skip("no ros2 command")
    arguments = ["cameras:=none", "device:=joy"] if file == "teleop.launch.py" else ["cameras:=none"]
    with own_domain() as domain:
        process = Process([ros2, "launch", str(LAUNCH / file), *arguments], domain, file, HOME=str(tmp_path))
        try:
            process.wait_for("is active", 120.0)
            ends_cleanly(process)
        finally:
            process.kill()
    assert process.output.count("process has finished cleanly") == len(executed(file, {}, tmp_path).started)
