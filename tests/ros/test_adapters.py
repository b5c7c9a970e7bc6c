"""What an arm says of itself counts as long as it says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the extra 'ros' is not installed")

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile
from std_msgs.msg import String

from robot_rl.errors import ConfigError
from robot_rl_bridge.adapters import ControllerSwitch, ModeFault, StringFault
from robot_rl_bridge.arm_description import load_arm
from robot_rl_bridge.ros_port import RosPort
from robot_rl_bridge.spinning import LATCHED
from tests.ros.graph import Graph, own_domain

pytestmark = pytest.mark.robot


@pytest.fixture(scope="module")
def graph() -> Iterator[Graph]:
    with own_domain() as domain:
        graph = Graph(domain)
        yield graph
        graph.close()


def test_a_source_that_falls_silent_is_a_fault(graph: Graph) -> None:
    fault = StringFault(graph.node, "renewed", timeout_s=0.3)
    assert (fault.fault(), "nothing was heard" in fault.missing()) == ("", True)
    publisher = graph.node.create_publisher(String, "renewed", QoSProfile(depth=1))

    def heard() -> bool:
        publisher.publish(String())
        return not fault.missing()

    graph.poll(heard, "it is heard")
    assert fault.fault() == ""
    graph.poll(lambda: "'renewed' is silent" in fault.fault(), "silence")
    graph.poll(heard, "it is heard again")
    assert fault.fault() == ""


def test_a_source_that_tells_of_changes_counts_until_it_is_gone(graph: Graph) -> None:
    fault = ModeFault(graph.node, DiagnosticStatus, "changed", "values_of", (1, 2), 0.0)
    fault._hear(SimpleNamespace(values_of=1))
    publisher = graph.node.create_publisher(DiagnosticStatus, "changed", LATCHED)
    graph.poll(lambda: not fault.fault(), "it is there")
    fault._hear(SimpleNamespace(values_of=7))
    assert fault.fault() == "values_of 7"
    fault._hear(SimpleNamespace(values_of=2))
    graph.node.destroy_publisher(publisher)
    graph.poll(lambda: "no publisher" in fault.fault(), "it is gone")


def test_a_controller_manager_that_answers_no_more_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    switch: Any = object.__new__(ControllerSwitch)
    switch._active, switch._states = ["arm"], None
    answer = SimpleNamespace(controller=[SimpleNamespace(name="arm", state="active")])
    switch._hear(SimpleNamespace(result=lambda: answer))
    assert switch.fault() == ""
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s + 3.5)
    assert "has not answered for 3.5 s" in switch.fault()


def test_opening_the_port_again_after_it_failed_makes_nothing_twice(graph: Graph) -> None:
    adapters = {"fault": {"use": "string_topic", "topic": "fault"}, "gripper": {"use": "no_such_adapter"}}
    port = RosPort(graph.node, replace(load_arm("sim_panda"), adapters=adapters))
    counts = []
    for _ in range(3):
        with pytest.raises(ConfigError, match="no_such_adapter"):
            port.open()
        counts.append((len(list(graph.node.publishers)), len(list(graph.node.subscriptions))))
    assert counts == [counts[0]] * 3
