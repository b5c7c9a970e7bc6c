"""Serves any Robot over ZMQ, so that the process that learns may crash, stall or run another Python without harm.

    client ── DEALER ⇄ ROUTER ── I/O thread ──(one request at a time)── motion thread ── Robot
                                  └── stop: answered at once, whatever the motion thread does

One client at a time holds the lease to move (commands, resets, the clock). Every message of its control thread renews
the lease; there is no heartbeat beside that thread, which would keep a stalled loop in command. After ``lease_s`` of
silence on the robot's clock the robot is stopped (one that can ``hold`` holds, and goes on with its client) and the
lease is free. Everybody may read and stop; a robot that is ``concurrent`` is read in a thread of its own, also during
resets. Only loopback addresses are bound without keys (robot_rl.transport.endpoint).
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import zmq

from robot_rl.errors import CommandRefusedError, ProtocolError, RobotRlError
from robot_rl.interfaces import Robot
from robot_rl.robots.lease import Lease
from robot_rl.transport.endpoint import listen
from robot_rl.transport.messages import (
    MAX_MESSAGE_BYTES,
    Message,
    decode,
    encode,
    observation_message,
    reset_from,
    targets_from,
)
from robot_rl.transport.refusals import refusal

MAX_WAIT_S = 60.0
MOVES = ("command", "reset", "wait")
READS = ("connect", "read", "now")

_Request = tuple[bytes, int, Message, int]  # client, number, message, stops before it came

_log = logging.getLogger(__name__)


class RobotServer:
    """A Robot behind a ZMQ ROUTER socket. ``start`` returns once it listens; ``close`` stops the robot and ends it.

    ``keys`` names this machine's key pair, needed for addresses beyond loopback. Raises ConfigError for address and
    keys, RobotConnectionError when the address is taken, and what ``robot.connect`` raises.
    """

    def __init__(
        self, robot: Robot, address: str = "tcp://127.0.0.1:0", *, lease_s: float = 0.25, keys: str = ""
    ) -> None:
        self.robot = robot
        self.lease = Lease(lease_s, lambda: robot.clock.now_ns(), getattr(robot, "heartbeat", None))
        self._id = f"{os.getpid()}-{time.monotonic_ns():x}"  # by which clients notice a restart
        self.counts: Counter[str] = Counter()  # dropped garbage, refused moves, lease expiries
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)  # checked before a frame is allocated
        try:
            self._guard = listen(self._context, self._socket, address, keys)
        except BaseException:  # keys, address, interrupt: no socket stays
            self._context.destroy(linger=0)
            raise
        try:
            self._spec = robot.connect()
        except BaseException:  # drivers raise what they like
            self._hang_up()
            raise
        self.address: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._wake_in, self._wake_out = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        self._wake_in.bind("inproc://wake")
        self._wake_out.connect("inproc://wake")
        self._requests: queue.Queue[_Request] = queue.Queue(maxsize=64)
        self._replies: queue.Queue[list[bytes | memoryview]] = queue.Queue()
        self._moving = threading.Event()
        self._stops = 0
        self._closing = threading.Event()
        self._waking = threading.Lock()
        self._threads = [
            threading.Thread(target=self._serve, name="robot-server-io", daemon=True),
            threading.Thread(target=self._move, args=(self._requests,), name="robot-server-motion", daemon=True),
        ]
        self._reads = self._requests
        if getattr(robot, "concurrent", False):
            self._reads = queue.Queue(maxsize=64)
            reader = threading.Thread(target=self._move, args=(self._reads,), name="robot-server-reads", daemon=True)
            self._threads.append(reader)

    def start(self) -> Self:
        """Begin to answer."""
        for thread in self._threads:
            thread.start()
        return self

    def close(self) -> None:
        """Stop the robot, end both threads and release the address; idempotent."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._halt()
        try:
            for thread in self._threads:
                if thread.is_alive():
                    thread.join(timeout=5.0)
            self.robot.close()
        finally:
            self._hang_up()

    def _hang_up(self) -> None:
        self._guard.close()
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- I/O thread: never runs the robot's own work except stop ----------------------------------------------------

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake_in, zmq.POLLIN)
        while not self._closing.is_set():
            ready = dict(poller.poll(timeout=20))
            if self._wake_in in ready:
                self._wake_in.recv()
            while not self._replies.empty():
                self._socket.send_multipart(self._replies.get())
            try:
                if self._socket in ready:
                    self._receive(self._socket.recv_multipart(copy=False))
                self._watch_lease()
            except Exception:  # this thread is the one that others stop the robot by: it goes on
                self.counts["failed"] += 1
                _log.exception("serving a request failed; the robot is stopped")
                self._halt()

    def _receive(self, parts: Sequence[zmq.Frame]) -> None:
        client = parts[0].bytes
        try:
            if len(parts) < 2 or not self._guard.admits(parts[1]):
                raise ProtocolError("nobody on the list sent this")
            message = decode([part.buffer for part in parts[1:]])
            number, name = message.fields["request"], message.fields["client"]
            if type(number) is not int or not isinstance(name, str):
                raise ProtocolError("request number or client name is missing")
        except (ProtocolError, KeyError):
            self.counts["garbage"] += 1
            return
        if message.kind == "stop":
            self._answer(client, number, self._stop)
        else:
            self._accept(client, name, number, message)

    def _accept(self, client: bytes, name: str, number: int, message: Message) -> None:
        if self._expired(message):
            self.counts["expired"] += 1
            return
        try:
            if name == self.lease.holder:
                self.lease.renew()
            elif message.kind in MOVES:
                self.lease.take(name)
        except CommandRefusedError as busy:
            self.counts["refused"] += 1
            self._reply(client, number, refusal(busy))
            return
        try:
            (self._reads if message.kind in READS else self._requests).put_nowait(
                (client, number, message, self._stops)
            )
        except queue.Full:
            self.counts["overload"] += 1
            self._reply(
                client, number, refusal(CommandRefusedError("server is overloaded", limit="64 waiting requests"))
            )

    def _expired(self, message: Message) -> bool:
        """Whether its sender no longer waits for an answer: what was held up on the way must not move the robot."""
        until_ns = message.fields.get("expires_ns")
        return type(until_ns) is int and self.robot.clock.now_ns() > until_ns

    @contextmanager
    def leased(self, name: str) -> Iterator[None]:
        """The lease for as long as a motion of another way lasts. Raises CommandRefusedError."""
        self.lease.take(name)
        self._moving.set()
        try:
            yield
        finally:
            self._moving.clear()

    def _watch_lease(self) -> None:
        if self._moving.is_set():  # the holder waits for an answer
            self.lease.renew()
        elif self.lease.expired():
            self.counts["lease_expired"] += 1
            self._halt(getattr(self.robot, "hold", None))

    def _halt(self, hold: Callable[[str], None] | None = None) -> None:
        """Stop the robot, or ``hold`` it; one that cannot even stop must not end the threads that others stop it by."""
        try:
            self.robot.stop() if hold is None else hold("client silent")
        except Exception:  # drivers raise what they like
            self.counts["stop_failed"] += 1
            _log.exception("the robot could not be stopped")

    def refuse_waiting(self) -> None:
        """What waits for its turn is not carried out: the robot was stopped, here or by another way."""
        self._stops += 1

    def _stop(self) -> Message:
        self.refuse_waiting()
        self.robot.stop()
        return Message("done")

    # --- motion thread ------------------------------------------------------------------------------------------------

    def _move(self, requests: queue.Queue[_Request]) -> None:
        while not self._closing.is_set():
            try:
                request = requests.get(timeout=0.02)
            except queue.Empty:
                continue
            moves = request[2].kind in MOVES
            try:
                if moves:
                    self._moving.set()
                self._carry_out(*request)
            except Exception:  # an answer that cannot be told must not end the thread
                self.counts["failed"] += 1
                _log.exception("answering a request failed; the robot is stopped")
                self._halt()
            finally:
                if moves:
                    self._moving.clear()

    def _carry_out(self, client: bytes, number: int, message: Message, stops: int) -> None:
        if self._expired(message):  # while it waited for its turn
            self.counts["expired"] += 1
        elif message.kind in ("command", "reset") and stops != self._stops:
            self._reply(client, number, refusal(CommandRefusedError(f"'{message.kind}' came before the robot's stop")))
        else:
            self._answer(client, number, lambda: self._handle(message))

    def _handle(self, message: Message) -> Message:
        robot = self.robot
        match message.kind:
            case "connect":
                fields = {"spec": self._spec.to_json(), "stepped": robot.clock.stepped}
                return Message("spec", {**fields, "operator_s": getattr(robot, "operator_s", 0.0)})
            case "read":
                return observation_message(robot.read())
            case "command":
                robot.command(targets_from(message))
                return Message("done")
            case "reset":
                return observation_message(robot.reset(reset_from(message)))
            case "now":
                return Message("time", {"now_ns": robot.clock.now_ns()})
            case "wait":
                return Message("time", {"now_ns": self._wait(message.fields.get("until_ns"))})
            case "release":
                if self.lease.give_back(message.fields["client"]):
                    robot.stop()
                return Message("done")
        raise ProtocolError(f"unknown request '{message.kind}'")

    def _wait(self, until_ns: object) -> int:
        """Only stepped time passes here, and not for long: the holder keeps its lease while it is answered."""
        clock = self.robot.clock
        if not clock.stepped or type(until_ns) is not int or until_ns - clock.now_ns() > MAX_WAIT_S * 1e9:
            raise ProtocolError(f"wait until {until_ns}", limit=f"{MAX_WAIT_S:.0f} s ahead on a stepped clock")
        return clock.wait_until(until_ns)

    def _answer(self, client: bytes, number: int, work: Callable[[], Message]) -> None:
        try:
            reply = work()
        except RobotRlError as error:
            reply = refusal(error)
        except Exception as error:  # a bug below must reach the client as an error, not as silence
            self.counts["failed"] += 1
            self._halt()
            reply = refusal(RobotRlError(f"the robot failed with {error!r}; it was stopped"))
        self._reply(client, number, reply)

    def _reply(self, client: bytes, number: int, reply: Message) -> None:
        numbered = Message(reply.kind, {**reply.fields, "request": number, "server": self._id}, reply.arrays)
        self._replies.put([client, *encode(numbered)])
        if threading.current_thread() is not self._threads[0]:
            with self._waking:
                self._wake_out.send(b"")
