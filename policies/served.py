"""A policy as a process that exposes nothing but chunks from noise (messages: policies.remote)."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
import zmq

from policies.black_box import as_sampler
from policies.remote import sampler_message
from robot_rl.errors import InvalidArrayError, ProtocolError, RobotRlError
from robot_rl.transport.endpoint import listen
from robot_rl.transport.messages import MAX_MESSAGE_BYTES, Message, decode, encode
from robot_rl.transport.refusals import refusal
from robot_rl.types import check_finite

MAX_ROWS = 65536  # of one request
_WAIT_MS = 50  # how long closing may go unnoticed

_log = logging.getLogger(__name__)


class SamplerServer:
    """``base`` behind a ZMQ ROUTER socket, one request at a time; ``keys`` names this machine's pair, needed beyond
    loopback. Garbage and strangers are counted in ``counts`` and dropped, wrong requests answered with what is wrong.

    Raises ConfigError for address and keys, and RobotConnectionError when the address is taken.
    """

    def __init__(self, base: Any, address: str = "tcp://127.0.0.1:0", *, keys: str = "") -> None:
        self._sampler = as_sampler(base)
        self.spec = self._sampler.spec
        self.counts: Counter[str] = Counter()
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        try:
            self._guard = listen(self._context, self._socket, address, keys)
        except BaseException:  # keys, address, interrupt: no socket stays
            self._context.destroy(linger=0)
            raise
        self.address: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._closing = threading.Event()

    def serve(self) -> None:
        """Answer until ``close`` is called from another thread, or an interrupt."""
        try:
            while not self._closing.is_set():
                if self._socket.poll(_WAIT_MS):
                    self._receive(self._socket.recv_multipart(copy=False))
        finally:
            self._guard.close()
            self._context.destroy(linger=0)

    def close(self) -> None:
        """Have ``serve`` return; idempotent."""
        self._closing.set()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve, name="sampler-server", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        self._thread.join(timeout=10.0)

    def _receive(self, parts: Sequence[zmq.Frame]) -> None:
        client = parts[0].bytes
        try:
            if len(parts) < 2 or not self._guard.admits(parts[1]):
                raise ProtocolError("nobody on the list sent this")
            message = decode([part.buffer for part in parts[1:]])
            number = message.fields["request"]
            if type(number) is not int:
                raise ProtocolError("the request has no number")
        except (ProtocolError, KeyError):
            self.counts["garbage"] += 1
            return
        reply = self._answer(message)
        self.counts[reply.kind] += 1
        numbered = Message(reply.kind, {**reply.fields, "request": number}, reply.arrays)
        self._socket.send_multipart([client, *encode(numbered)])

    def _answer(self, message: Message) -> Message:
        try:
            if message.kind == "describe":
                return sampler_message(self.spec)
            if message.kind == "sample":
                return self._sampled(message)
            raise ProtocolError(f"no request '{message.kind}'", limit="describe, sample: chunks are all that is served")
        except RobotRlError as error:
            return refusal(error)
        except Exception as error:  # a network raises what it likes; the next request may be sound
            _log.exception("sampling failed")
            return refusal(RobotRlError(f"sampling failed: {' '.join(str(error).split())[:300]}"))

    def _sampled(self, message: Message) -> Message:
        noise = message.arrays.get("noise")
        rows = 0 if noise is None or not noise.ndim else len(noise)
        if not 1 <= rows <= MAX_ROWS:
            raise InvalidArrayError(f"{rows} rows of noise", limit=f"1 to {MAX_ROWS}")
        wanted: dict[str, tuple[tuple[int, ...], str]] = {
            f"obs/{key}": ((rows, self.spec.history, *value.shape), value.dtype)
            for key, value in self.spec.observation.items()
        }
        wanted["noise"] = (rows, *self.spec.noise_shape), "float32"
        for name, (shape, dtype) in wanted.items():
            value = message.arrays.get(name)
            if value is None or value.shape != shape or value.dtype.name != dtype:
                found = "nothing" if value is None else f"{value.dtype.name}{list(value.shape)}"
                raise InvalidArrayError(f"'{name}' is {found}", limit=f"{dtype}{list(shape)}")
            if dtype.startswith("float"):
                check_finite(name, value)
        given = {name: torch.from_numpy(message.arrays[name].copy()) for name in wanted}
        obs = {key: given[f"obs/{key}"] for key in self.spec.observation}
        chunks = self._sampler.sample(obs, given["noise"])
        return Message("chunks", {}, {"chunks": np.ascontiguousarray(chunks.cpu().numpy())})
