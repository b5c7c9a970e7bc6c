"""The node teleop as a real process: keys on a real terminal, Joy messages over DDS; what reaches the human channel."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("rclpy", reason="the extra 'ros' is not installed")

from geometry_msgs.msg import TwistStamped
from sensor_msgs.msg import Joy
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from tests.ros.graph import Graph, Process, node_command, own_domain
from tests.teleop.pseudo_terminal import PseudoTerminal, pseudo_terminal


@contextmanager
def teleop(*arguments: str, number: signal.Signals = signal.SIGINT) -> Iterator[tuple[Graph, Process]]:
    """The node with these parameters, and a graph that hears what it sends."""
    with own_domain() as domain:
        words = [word for argument in arguments for word in ("-p", argument)]
        process = Process(node_command("teleop", "-r", "__ns:=/arm0", *words), domain)
        try:
            process.wait_for("ready")
            graph = Graph(domain)
            for kind, topic in ((TwistStamped, "teleop/target"), (Float64, "teleop/gripper"), (Joy, "teleop/joy")):
                graph.hear(kind, topic)
            graph.wait(lambda: graph.heard["teleop/joy"], "the node is matched")
            yield graph, process
            graph.close()
            assert process.end(number) == 0, process.output
        finally:
            process.kill()


@pytest.fixture
def terminal() -> Iterator[PseudoTerminal]:
    with pseudo_terminal() as opened:
        yield opened


def test_keys_become_velocities_that_end_and_episode_keys_call_services(terminal: PseudoTerminal) -> None:
    before = terminal.modes()
    with teleop("device:=keyboard", f"path:={terminal.path}", "max_speed_m_s:=0.2") as (graph, _):
        called: list[str] = []
        for name in ("bridge/stop", "episode/start", "episode/success"):
            served(graph, name, called)
        terminal.type(b"w")
        twists = graph.heard["teleop/target"]
        graph.wait(lambda: twists, "a velocity")
        terminal.until("let go")
        sent = [(message.header.frame_id, message.twist.linear.x, message.twist.angular.z) for message in twists]
        assert 1 <= len(sent) <= 6  # 0.1 s at 50 Hz
        assert set(sent) == {("base", 0.2, 0.0)}
        terminal.type(b"tg")
        graph.wait(lambda: graph.heard["teleop/gripper"], "the gripper")
        assert graph.heard["teleop/gripper"][-1].data == 0.0  # it counts as open until it tells
        terminal.type(b"j")
        graph.wait(lambda: twists[-1].header.frame_id == "tool" and twists[-1].twist.angular.z > 0.0, "a turn")
        for key, name in ((b"\r", "start"), (b"y", "success"), (b" ", "stop")):
            while name not in (seen := _answer(terminal, key)):
                assert "nobody answers" in seen  # discovery of the services may take its time
        assert called[-3:] == ["episode/start", "episode/success", "bridge/stop"]
    assert terminal.modes() == before


def served(graph: Graph, name: str, called: list[str] | None = None) -> list[str]:
    """A service that agrees; where its calls are noted."""
    called = [] if called is None else called

    def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        called.append(name)
        response.success = True
        return response

    graph.node.create_service(Trigger, name, answer)
    return called


def test_letting_go_of_a_device_without_a_dead_man_hands_back(terminal: PseudoTerminal) -> None:
    with teleop("device:=keyboard", f"path:={terminal.path}") as (graph, _):
        called, twists = served(graph, "episode/hand_back"), graph.heard["teleop/target"]

        def handed_back() -> bool:  # once the service is discovered
            twists.clear()
            terminal.type(b"w")
            graph.wait(lambda: twists, "a velocity")
            terminal.until("hand_back: ")
            return bool(called)

        graph.poll(handed_back, "the arm is handed back")
        assert len(called) == 1  # once for each time that the person has let go


def _answer(terminal: PseudoTerminal, key: bytes) -> str:
    """What is shown after a key: a result, or that nobody answers."""
    terminal.type(key)
    line = terminal.until("\n")
    while ":" not in line:
        line = terminal.until("\n")
    return line if "nobody" in line else line.partition(":")[0]


def test_any_joy_commands_while_its_dead_man_is_held_and_heard() -> None:
    words = ("device:=joy", "joy_axes:=['x=-2','z=0']", "joy_keys:=['gripper=1']", "joy_dead_man:=0")
    with teleop(*words, number=signal.SIGTERM) as (graph, _):
        joy = graph.publisher(Joy, "joy")
        pushed = {"axes": [0.5, 0.0, -1.0], "buttons": [0, 1]}
        handed_back = served(graph, "episode/hand_back")
        twists = graph.heard["teleop/target"]
        joy.publish(Joy(**pushed))
        graph.next("teleop/joy")
        assert not twists  # nobody holds the dead-man
        assert not graph.heard["teleop/gripper"]

        def held() -> bool:
            joy.publish(Joy(axes=[0.5, 0.0, -1.0], buttons=[1, 0]))
            return bool(twists)

        graph.poll(held, "a velocity")
        linear = twists[-1].twist.linear
        assert linear.x == pytest.approx(0.1)
        assert linear.z == pytest.approx(0.1 * 0.4 / 0.9)  # 0.5 less the dead-zone of 0.1, spread over the rest
        graph.next("teleop/joy", lambda message: message.buttons[0] == 0)  # 0.5 s of silence let go
        joy.publish(Joy(axes=[0.5, 0.0, -1.0], buttons=[1, 0]))  # and pressed and let go, it hands nothing back either
        graph.next("teleop/joy", lambda message: message.buttons[0] == 1)
        joy.publish(Joy(axes=[0.0, 0.0, 0.0], buttons=[0, 0]))
        for _ in range(25):  # 0.5 s
            graph.next("teleop/joy", lambda message: message.buttons[0] == 0)
        assert not handed_back


def test_without_its_device_it_says_so_and_ends() -> None:
    with own_domain() as domain:
        process = Process(node_command("teleop", "-p", "path:=/nowhere/tty"), domain)
        assert process.child.wait(60) == 1
        process.kill()
        assert "no terminal at /nowhere/tty" in process.output
