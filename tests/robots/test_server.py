"""The served robot: who may move it, and what a dead, second or babbling client does to it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import zmq

from robot_rl.errors import CommandRefusedError, ConfigError, ProtocolError, RobotConnectionError, SpecMismatchError
from robot_rl.robots.bridge import BridgeRobot
from robot_rl.robots.fake import FakeRobot
from robot_rl.robots.server import RobotServer
from robot_rl.transport.messages import MAX_MESSAGE_BYTES, Message, decode, encode, reset_message
from robot_rl.types import Observation, ResetRequest, TargetChunk

pytestmark = pytest.mark.robot

# A client that resets the arm, starts a long plan and then keeps renewing it until it is killed.
DRIVER = """
import sys, numpy as np
from robot_rl.robots.bridge import BridgeRobot
from robot_rl.types import ResetRequest, TargetChunk
with BridgeRobot(sys.argv[1]) as robot:
    robot.connect()
    seen = robot.reset(ResetRequest())
    print("driving", flush=True)
    while True:
        robot.command(TargetChunk({"arm0/gripper": np.zeros((100, 1))}, seen.step, seen.stamp_ns))
        robot.clock.wait_until(seen.stamp_ns + 50_000_000)
        seen = robot.read()
"""


@pytest.fixture
def server() -> Iterator[RobotServer]:
    with RobotServer(FakeRobot(clock="wall"), lease_s=1.0) as server:
        yield server


def wait_for(condition: object, limit_s: float = 10.0) -> None:
    until = time.monotonic() + limit_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, "condition not met in time"
        time.sleep(0.005)


def test_a_killed_client_loses_the_lease_and_the_arm_is_stopped(server: RobotServer) -> None:
    with subprocess.Popen([sys.executable, "-c", DRIVER, server.address], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "driving\n"
        with BridgeRobot(server.address) as watcher:
            assert watcher.read().mode == "tracking"
            with pytest.raises(CommandRefusedError, match="another client holds the lease"):
                watcher.command(TargetChunk({"arm0/gripper": np.ones((1, 1))}, 0, 0))
            driver.send_signal(signal.SIGKILL)
            wait_for(lambda: watcher.read().mode == "stopped")
            assert server.counts["lease_expired"] == 1
            watcher.reset(ResetRequest())  # the lease is free again


def test_a_second_client_may_read_and_stop_but_not_move(server: RobotServer) -> None:
    with BridgeRobot(server.address) as first, BridgeRobot(server.address) as second:
        first.reset(ResetRequest())
        with pytest.raises(CommandRefusedError, match="lease"):
            second.reset(ResetRequest())
        second.stop()
        assert first.read().mode == "stopped"


def test_a_stalled_control_thread_loses_the_lease(server: RobotServer) -> None:
    with BridgeRobot(server.address) as robot:
        robot.reset(ResetRequest())
        wait_for(lambda: server.counts["lease_expired"] == 1)
        assert robot.read().mode == "stopped"


def test_garbage_is_counted_and_the_server_lives_on(server: RobotServer) -> None:
    rng = np.random.default_rng(0)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(server.address)
        for _ in range(200):
            socket.send_multipart([rng.bytes(int(n)) for n in rng.integers(0, 200, rng.integers(1, 4))])
        wait_for(lambda: server.counts["garbage"] == 200)
    with BridgeRobot(server.address) as robot:
        assert robot.reset(ResetRequest()).mode == "tracking"


def test_an_unknown_request_is_answered_by_an_error(server: RobotServer) -> None:
    with BridgeRobot(server.address) as robot, pytest.raises(ProtocolError, match="unknown request 'dance'"):
        robot._ask(Message("dance"))


def test_only_loopback_is_bound_without_keys() -> None:
    with pytest.raises(ConfigError, match="without keys"):
        RobotServer(FakeRobot(), "tcp://0.0.0.0:0")


class Jammed(FakeRobot):
    """An arm whose stop fails, as when its cable was pulled."""

    def stop(self) -> None:
        raise RobotConnectionError("cable pulled")

    def close(self) -> None:
        """Nothing to let go of."""


def test_a_robot_that_cannot_stop_does_not_end_the_server() -> None:
    server = RobotServer(Jammed(clock="wall"), lease_s=0.1)
    with server, BridgeRobot(server.address) as robot:
        robot.reset(ResetRequest())
        wait_for(lambda: server.counts["lease_expired"] == 1)
        assert robot.read().mode == "tracking"  # still answered
        with pytest.raises(RobotConnectionError, match="cable pulled"):
            robot.stop()
    assert server.counts["stop_failed"] >= 2  # at the lease's end, and on closing
    assert not any(thread.is_alive() for thread in server._threads)


def test_a_clock_that_fails_does_not_end_the_server(server: RobotServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with BridgeRobot(server.address) as robot:
        robot.reset(ResetRequest())
        with monkeypatch.context() as patch:
            patch.setattr(type(server.robot.clock), "now_ns", lambda clock: 1 // 0)
            wait_for(lambda: server.counts["failed"] > 0)
        robot.stop()


def test_a_message_above_the_limit_is_cut_off_before_it_is_allocated(server: RobotServer) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        with socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
            socket.connect(server.address)
            socket.send(bytes(MAX_MESSAGE_BYTES + 1))
            assert monitor.poll(10_000)
            socket.disable_monitor()


def test_nobody_may_keep_the_server_waiting(server: RobotServer) -> None:
    with BridgeRobot(server.address) as robot, pytest.raises(ProtocolError, match="wait until"):
        robot._ask(Message("wait", {"until_ns": server.robot.clock.now_ns() + 10**12}))


def test_a_taken_address_is_named(server: RobotServer) -> None:
    with pytest.raises(RobotConnectionError, match="cannot listen on"):
        RobotServer(FakeRobot(), server.address)


def test_nobody_there_is_said_within_the_limit() -> None:
    robot = BridgeRobot("tcp://127.0.0.1:9", timeout_s=0.2)
    with pytest.raises(RobotConnectionError, match="did not answer 'connect'"):
        robot.connect()
    robot.close()


def test_a_client_goes_on_with_a_server_that_was_restarted() -> None:
    with RobotServer(FakeRobot(clock="wall")) as first:
        address = first.address
        robot = BridgeRobot(address, timeout_s=0.3)
        robot.connect()
        assert robot.reset(ResetRequest()).mode == "tracking"
    with pytest.raises(RobotConnectionError, match="did not answer"):
        robot.read()
    with RobotServer(FakeRobot(clock="wall"), address):

        def back() -> bool:
            try:
                return robot.read().mode == "stopped"  # nothing was reset there yet
            except RobotConnectionError:
                return False

        wait_for(back)
        assert robot.reset(ResetRequest()).mode == "tracking"
        robot.close()


def test_another_robot_at_the_same_address_is_not_taken_for_the_old_one() -> None:
    with RobotServer(FakeRobot(clock="wall")) as first:
        address = first.address
        robot = BridgeRobot(address, timeout_s=0.3)
        robot.connect()
    with RobotServer(FakeRobot(clock="wall", step_rate_hz=10.0), address):

        def refused() -> bool:
            try:
                robot.read()
            except RobotConnectionError:
                return False
            except SpecMismatchError as error:
                return "another robot answers" in str(error)
            raise AssertionError("it was taken for the old one")

        wait_for(refused)
        robot.close()


def test_what_is_no_longer_waited_for_is_not_carried_out(server: RobotServer) -> None:
    with BridgeRobot(server.address) as robot:
        line, before = robot._line_in_use(), robot.clock.now_ns()
        with pytest.raises(RobotConnectionError):
            line.ask(reset_message(ResetRequest()), 0.2, before - 1)
        assert server.counts["expired"] == 1
        assert robot.read().mode == "stopped"


class Patient(FakeRobot):
    """A robot that may be read while it is reset, and holds for a silent client."""

    concurrent = True

    def __init__(self) -> None:
        super().__init__(clock="wall")
        self.may_go_on, self.held, self.beats, self.resets = threading.Event(), list[str](), 0, 0

    def reset(self, request: ResetRequest) -> Observation:
        self.resets += 1
        self.may_go_on.wait(10.0)
        return super().reset(request)

    def hold(self, cause: str) -> None:
        self.held.append(cause)

    def heartbeat(self) -> None:
        self.beats += 1


def test_a_concurrent_robot_is_read_while_it_is_reset_and_held_for_a_silent_client() -> None:
    patient = Patient()
    with (
        RobotServer(patient, lease_s=0.1) as server,
        BridgeRobot(server.address) as client,
        BridgeRobot(server.address) as watcher,
    ):
        thread = threading.Thread(target=lambda: client.reset(ResetRequest()))
        thread.start()
        wait_for(lambda: patient.beats > 0)
        assert watcher.read().mode == "stopped"
        patient.may_go_on.set()
        thread.join(timeout=10)
        wait_for(lambda: patient.held == ["client silent"])
        assert watcher.read().mode == "tracking"
        server.lease.take("other")
        with pytest.raises(CommandRefusedError, match="another client"):
            server.lease.take("third")


def reset_in_thread(client: BridgeRobot, refused: list[Exception]) -> threading.Thread:
    def reset() -> None:
        try:
            client.reset(ResetRequest())
        except CommandRefusedError as error:
            refused.append(error)

    thread = threading.Thread(target=reset)
    thread.start()
    return thread


def test_who_is_answered_beside_a_reset_does_not_cost_its_client_the_lease() -> None:
    patient = Patient()
    with (
        RobotServer(patient, lease_s=0.1) as server,
        BridgeRobot(server.address) as client,
        BridgeRobot(server.address) as watcher,
    ):
        thread = reset_in_thread(client, [])
        wait_for(server._moving.is_set)
        watcher.clock.synchronise(stepped=False)
        watcher.read()
        beats = patient.beats
        wait_for(lambda: patient.beats > beats + 10)  # 0.2 s on, still renewed
        assert (server.counts["lease_expired"], patient.held) == (0, [])
        patient.may_go_on.set()
        thread.join(timeout=10)


@pytest.mark.parametrize("why", ["expired", "stopped", "stopped by another way"])
def test_a_reset_that_waits_behind_another_is_not_carried_out_once_given_up_or_stopped(why: str) -> None:
    patient = Patient()
    with RobotServer(patient) as server, BridgeRobot(server.address) as client, BridgeRobot(server.address) as other:
        thread = reset_in_thread(client, [])
        wait_for(server._moving.is_set)
        line = client._line_in_use()
        name, expires = line._client, patient.clock.now_ns() + (50_000_000 if why == "expired" else 10**10)
        fields = {**reset_message(ResetRequest()).fields, "request": 7, "client": name, "expires_ns": expires}
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(server.address)
            socket.send_multipart(encode(Message("reset", fields)))
            wait_for(lambda: not server._requests.empty())
            if why == "stopped":
                other.stop()
            elif why.startswith("stopped"):
                server.refuse_waiting()
            else:
                wait_for(lambda: patient.clock.now_ns() > expires)
            patient.may_go_on.set()
            thread.join(timeout=10)
            if why.startswith("stopped"):
                assert socket.poll(10_000)
                assert "before the robot's stop" in str(decode(socket.recv_multipart()).fields)
            else:
                wait_for(lambda: server.counts["expired"] == 1)
        assert patient.resets == 1


def test_an_answer_that_cannot_be_told_stops_the_robot_and_ends_nothing(server: RobotServer) -> None:
    with BridgeRobot(server.address, timeout_s=0.3) as robot:
        robot.reset(ResetRequest())
        told, server._id = server._id, object()  # type: ignore[assignment]  # of no kind that a message holds
        with pytest.raises(RobotConnectionError, match="did not answer"):
            robot.reset(ResetRequest(timeout_s=0.2))
        server._id = told
        assert robot.read().mode == "stopped"
        assert not server._moving.is_set()


def test_the_lease_lasts_as_long_as_a_motion_of_another_way() -> None:
    with RobotServer(FakeRobot(clock="wall"), lease_s=0.05) as server, BridgeRobot(server.address) as client:
        with server.leased("ros"):
            until_s = server.lease._heard_s + 4 * server.lease.limit_s
            wait_for(lambda: server.lease._heard_s > until_s)  # renewed, never taken again
            with pytest.raises(CommandRefusedError, match="lease"):
                client.reset(ResetRequest())
        wait_for(lambda: server.counts["lease_expired"] == 1)
        client.reset(ResetRequest())


def test_a_client_without_a_name_needs_the_lease_like_any_other(server: RobotServer) -> None:
    with BridgeRobot(server.address) as holder, BridgeRobot(server.address) as nameless:
        nameless._line_in_use()._client = ""
        nameless.reset(ResetRequest())
        with pytest.raises(CommandRefusedError, match="another client"):
            holder.reset(ResetRequest())
