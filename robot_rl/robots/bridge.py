"""A Robot in another process: the client of a RobotServer, which the ROS 2 bridge also is.

Holds the address and time limits only; everything about the arm comes with the EnvSpec at connect. Every call renews
the lease to move, so a control thread that stalls or dies loses it and the arm stops. A server that was gone is greeted
anew before the next request: its arm must be the same one, and what was asked in vain is not carried out later.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Self

import zmq

from robot_rl.errors import ProtocolError, RobotConnectionError, RobotRlError, SpecMismatchError
from robot_rl.transport.endpoint import connect
from robot_rl.transport.keys import SERVER
from robot_rl.transport.messages import (
    MAX_MESSAGE_BYTES,
    Message,
    decode,
    encode,
    observation_from,
    reset_message,
    targets_message,
)
from robot_rl.transport.refusals import accepted
from robot_rl.types import EnvSpec, Observation, ResetRequest, TargetChunk

_ROUND_TRIPS = 5  # to measure a clock by


class BridgeRobot:
    """Robot contract over ZMQ. Raises RobotConnectionError when the server does not answer within ``timeout_s``.

    ``keys`` names this machine's key pair, needed beyond loopback; ``server`` is whose public key to expect there.
    """

    def __init__(self, address: str, *, timeout_s: float = 2.0, keys: str = "", server: str = SERVER) -> None:
        self.address, self.timeout_s = address, timeout_s
        self._keys, self._server = keys, server
        self._clock = RemoteClock(self)
        self._context: zmq.Context | None = None
        self._main: _Line | None = None
        self._stop: _Line | None = None  # a line of its own, so that stop overtakes a request under way
        self._spec: EnvSpec | None = None
        self._operator_s = 0.0  # that an operator may take to confirm a reset
        self._lost = False
        self._server_id: object = None

    @property
    def clock(self) -> RemoteClock:
        """The served robot's clock."""
        return self._clock

    def connect(self) -> EnvSpec:
        """Reach the server and learn what robot it serves."""
        if self._context is None:
            self._context = zmq.Context()
            client = f"{os.getpid()}-{time.monotonic_ns():x}"
            try:
                self._main = self._line(client)
                self._stop = self._line(client)
            except BaseException:  # an interrupt too: no half a connection is left
                self._hang_up()
                raise
        try:
            self._lost, self._spec = False, None
            return self._greet()
        except BaseException:  # what is not understood ends the connection as well
            self._hang_up()
            raise

    def read(self) -> Observation:
        """The newest observation."""
        return observation_from(self._ask(Message("read")))

    def command(self, chunk: TargetChunk) -> None:
        """Replace the plan in force."""
        self._ask(targets_message(chunk))

    def reset(self, request: ResetRequest) -> Observation:
        """Move to the start of an episode; waits for the request's own limit and the line's."""
        limit_s = request.timeout_s + self._operator_s + self.timeout_s
        return observation_from(self._ask(reset_message(request), limit_s))

    def stop(self) -> None:
        """Controlled stop; overtakes whatever is under way and needs no lease."""
        if self._stop is not None:
            accepted(self._stop.ask(Message("stop"), self.timeout_s))

    def close(self) -> None:
        """Stop, give the lease back and hang up; idempotent, also when the server is gone."""
        if self._context is None:
            return
        try:
            self._ask(Message("release"))
        except RobotRlError:
            pass  # the server is gone, or its lease watch stops the arm
        finally:
            self._hang_up()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _line(self, client: str) -> _Line:
        assert self._context is not None
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing is kept for a server that is not there
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        try:
            connect(socket, self.address, self._keys, self._server)
        except BaseException:  # keys that cannot be read, an address that is none, an interrupt
            socket.close()
            raise
        return _Line(socket, self.address, client)

    def _hang_up(self) -> None:
        if self._context is not None:
            for line in (self._main, self._stop):
                if line is not None:
                    line.close()
            self._context.term()
        self._context = self._main = self._stop = None

    def _greet(self) -> EnvSpec:
        """Learn what the server's robot is. Raises SpecMismatchError when it is another one than before."""
        reply = accepted(self._line_in_use().ask(Message("connect"), self.timeout_s))
        spec = EnvSpec.from_json(reply.fields["spec"])
        if self._spec is not None and spec != self._spec:
            raise SpecMismatchError(f"another robot answers at {self.address}", remedy="Start this process again")
        self._spec, self._operator_s = spec, float(reply.fields.get("operator_s", 0.0))
        self._server_id = reply.fields.get("server")
        self._clock.synchronise(bool(reply.fields["stepped"]))
        return spec

    def _line_in_use(self) -> _Line:
        if self._main is None:
            raise RobotConnectionError(f"robot at {self.address} is not connected", remedy="Call connect() first")
        return self._main

    def _ask(self, message: Message, timeout_s: float | None = None) -> Message:
        line, limit_s = self._line_in_use(), self.timeout_s if timeout_s is None else timeout_s
        try:
            if self._lost:
                self._greet()
                self._lost = False
            reply = line.ask(message, limit_s, self._clock.expiry_ns(limit_s))
            if reply.fields.get("server") != self._server_id:
                self._greet()
            return accepted(reply)
        except RobotConnectionError:
            self._lost = True
            raise


class RemoteClock:
    """The served robot's clock: a simulator advances there, real time passes here too and is waited for here."""

    def __init__(self, robot: BridgeRobot) -> None:
        self._robot = robot
        self._offset_ns = 0
        self._stepped = True

    @property
    def stepped(self) -> bool:
        """True when the served robot's time advances only when asked to."""
        return self._stepped

    def synchronise(self, stepped: bool) -> None:
        """Measure the offset between the robot's clock and ours: at the middle of the shortest of a few round trips."""
        self._stepped, shortest_ns = stepped, 0
        for _ in range(1 if stepped else _ROUND_TRIPS):
            before = time.monotonic_ns()
            reply = accepted(self._robot._line_in_use().ask(Message("now"), self._robot.timeout_s))
            there = int(reply.fields["now_ns"])
            after = time.monotonic_ns()
            if not shortest_ns or after - before < shortest_ns:
                shortest_ns, self._offset_ns = after - before, there - (before + after) // 2

    def expiry_ns(self, limit_s: float) -> int | None:
        """When an answer is no longer waited for, in the robot's time; None on a stepped clock, which waits for us."""
        return None if self._stepped else time.monotonic_ns() + self._offset_ns + round(limit_s * 1e9)

    def now_ns(self) -> int:
        """Time of the robot [ns]."""
        if self._stepped:
            return int(self._robot._ask(Message("now")).fields["now_ns"])
        return time.monotonic_ns() + self._offset_ns

    def wait_until(self, stamp_ns: int) -> int:
        """Return at or after ``stamp_ns`` of the robot's time [ns]."""
        if self._stepped:
            return int(self._robot._ask(Message("wait", {"until_ns": int(stamp_ns)})).fields["now_ns"])
        while (left_ns := stamp_ns - self.now_ns()) > 0:
            time.sleep(left_ns / 1e9)
        return self.now_ns()


class _Line:
    """A DEALER socket on which answers are matched to requests by number; late answers are dropped."""

    def __init__(self, socket: zmq.Socket[Any], address: str, client: str) -> None:
        self._socket, self._address, self._client, self._number = socket, address, client, 0
        self._lock = threading.Lock()

    def close(self) -> None:
        self._socket.close()

    def ask(self, message: Message, timeout_s: float, expires_ns: int | None = None) -> Message:
        """Send and wait for the answer, which may tell an error. Raises RobotConnectionError."""
        with self._lock:
            self._number += 1
            fields = {**message.fields, "request": self._number, "client": self._client}
            if expires_ns is not None:
                fields["expires_ns"] = expires_ns
            until_s = time.monotonic() + timeout_s
            if not self._socket.poll(round(1000 * timeout_s), zmq.POLLOUT):  # nobody is there to send it to
                raise self._silence(message.kind, timeout_s)
            self._socket.send_multipart(encode(Message(message.kind, fields, message.arrays)))
            return self._answer(message.kind, until_s, timeout_s)

    def _answer(self, kind: str, until_s: float, timeout_s: float) -> Message:
        while self._socket.poll(max(0, round(1000 * (until_s - time.monotonic())))):
            try:
                reply = decode(self._socket.recv_multipart())
            except ProtocolError:
                continue
            if reply.fields.get("request") == self._number:
                return reply
        raise self._silence(kind, timeout_s)

    def _silence(self, kind: str, timeout_s: float) -> RobotConnectionError:
        return RobotConnectionError(
            f"robot at {self._address} did not answer '{kind}'",
            limit=f"{timeout_s} s",
            remedy="Is its server running, and reachable from here?",
        )
