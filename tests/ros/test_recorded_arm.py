"""A simulated arm behind its bridge, commanded by a client and recorded by the node recorder, becomes an episode."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the extra 'ros' is not installed")

from robot_rl.apps.main import compose, instantiate
from robot_rl.robots.bridge import BridgeRobot
from robot_rl.types import Phase, ResetRequest, TargetChunk
from robot_rl_bridge.mcap_format import McapFormat
from tests.ros.graph import Process, node_command, own_domain

NAMESPACE = ("-r", "__ns:=/arm0")
STEPS = 20


def move(robot: BridgeRobot) -> None:
    """One second towards the left at 0.05 m/s, then a stop."""
    spec = robot.connect()
    seen = robot.reset(ResetRequest(tcp_pose=np.array([0.48, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0])))
    start, period_ns = seen.state["arm0/tcp_pose"].astype(float), spec.step_period_ns
    begin_ns = robot.clock.now_ns()
    for step in range(STEPS):
        seen = robot.read()
        ahead = np.tile(start, (4, 1))
        ahead[:, 1] += 0.05 * (step + 1 + np.arange(4)) / spec.step_rate_hz
        targets = {"arm0/tcp": ahead, "arm0/gripper": np.ones((4, 1))}
        robot.command(TargetChunk(targets, seen.step, seen.stamp_ns, frame="base"))
        robot.clock.wait_until(begin_ns + (step + 1) * period_ns)
    robot.stop()


def test_what_a_client_does_over_the_bridge_is_in_the_recording(tmp_path: Path) -> None:
    with own_domain() as domain:
        words = ("cameras:=none", "objects:=cube_pose", "auto_activate:=true", "address:=tcp://127.0.0.1:*")
        parameters = [word for each in words for word in ("-p", each)]
        nodes = [
            Process(node_command("sim_robot", *NAMESPACE, "-p", "camera:=none"), domain),
            Process(node_command("bridge", *NAMESPACE, *parameters), domain),
            Process(node_command("recorder", *NAMESPACE, "-p", f"folder:={tmp_path}"), domain),
        ]
        try:
            for node in nodes:
                node.wait_for("ready")
            address = re.search(r"tcp://127\.0\.0\.1:\d+", nodes[1].output)
            assert address is not None
            with BridgeRobot(address[0]) as robot:
                move(robot)
            assert nodes[2].end() == 0, nodes[2].output
            assert nodes[1].end() == 0, nodes[1].output
            assert nodes[0].end() == 0, nodes[0].output
        finally:
            for node in nodes:
                node.kill()
    action = instantiate(compose("view", ["task=lift", "action=tcp_position_delta"]).action)
    recordings = McapFormat(action=action, task="lift").read(tmp_path).recordings
    episode = recordings[0].load()
    episode.validate()
    assert episode.steps >= STEPS - 4
    path = episode.arrays["obs/arm0/tcp_pose"][:, 1]
    assert path.max() - path[0] > 0.02  # of 0.05 m: a loaded machine may hold the arm now and then
    executed = episode.arrays["action/executed"][: episode.steps, 1].astype(float)
    assert executed.sum() == pytest.approx(path[-1] - path[0], abs=0.01)  # set points lead to where the arm is
    assert Phase.POLICY in episode.arrays["flags/phase"]
    assert episode.metadata["end_reason"] in ("stopped", "holding", "idle")
