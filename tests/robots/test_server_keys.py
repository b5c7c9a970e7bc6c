"""A served robot beyond loopback: keys at both ends, and none without."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_rl.errors import ConfigError, RobotConnectionError
from robot_rl.robots.bridge import BridgeRobot
from robot_rl.robots.fake import FakeRobot
from robot_rl.robots.server import RobotServer
from robot_rl.transport.keys import KeyRing

pytestmark = pytest.mark.robot


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyRing:
    monkeypatch.setenv("ROBOT_RL_SITE", str(tmp_path))
    ring = KeyRing(tmp_path / "keys")
    for name in ("server", "robot1", "robot2"):
        ring.new(name)
    return ring


def test_a_served_robot_takes_listed_clients_until_they_are_revoked(ring: KeyRing) -> None:
    with RobotServer(FakeRobot(), "tcp://0.0.0.0:0", keys="server") as server:
        address = "tcp://127.0.0.1:" + server.address.rpartition(":")[2]
        with BridgeRobot(address, keys="robot1", timeout_s=20.0) as robot:
            assert robot.read().step >= 0
            ring.revoke("robot1")
            robot.timeout_s = 0.2
            with pytest.raises(RobotConnectionError):
                robot.read()
        with BridgeRobot(address, keys="robot2", timeout_s=20.0) as robot:
            assert robot.read().step >= 0
        with pytest.raises(RobotConnectionError):
            BridgeRobot(address, timeout_s=0.2).connect()
        assert server.counts["garbage"] > 0


def test_without_keys_only_this_machine(ring: KeyRing) -> None:
    with pytest.raises(ConfigError, match="without keys"):
        RobotServer(FakeRobot(), "tcp://0.0.0.0:0")
    with pytest.raises(ConfigError, match="without keys"):
        BridgeRobot("tcp://192.168.1.7:5556").connect()
