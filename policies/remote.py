"""A generator in another process, of which nothing but chunks from noise can be had: the client of policies.served.

client ── DEALER ⇄ ROUTER ── SamplerServer ── policy
   describe -> sampler {what it reads, plans and draws, and its hash}
   sample {obs/<key>, noise} -> chunks {chunks}          either may be answered by: error {class, what, limit, remedy}
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import zmq
from torch import Tensor

from policies.row_noise import RowNoise
from robot_rl.errors import CheckpointError, ProtocolError, RobotConnectionError
from robot_rl.interfaces import SamplerSpec
from robot_rl.transport.endpoint import connect
from robot_rl.transport.keys import SERVER
from robot_rl.transport.messages import MAX_MESSAGE_BYTES, Message, decode, encode
from robot_rl.transport.refusals import accepted
from robot_rl.types import ActContext, ActionChunk, Array, Arrays, ArraySpec, EnvSpec, PolicySpec, action_spec_from_json


class RemoteSampler:
    """ChunkSampler served at ``address``.

    ``keys`` names this machine's key pair, needed beyond loopback; ``server`` is whose public key to expect there.
    Raises RobotRlError when nothing answers within ``timeout_s``, or what the server raised.
    """

    def __init__(self, address: str, *, keys: str = "", server: str = SERVER, timeout_s: float = 10.0) -> None:
        self.address, self.timeout_s, self._number = address, timeout_s, 0
        self._lock = threading.Lock()
        self._context: zmq.Context[Any] = zmq.Context()
        self._hang_up = weakref.finalize(self, self._context.destroy, linger=0)  # policies are not closed, they end
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        try:
            connect(self._socket, address, keys, server)
            self.spec = sampler_spec(self._ask(Message("describe")))
        except BaseException:
            self.close()
            raise

    def sample(self, obs: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """[B, T_o, ...] observations and [B, *noise_shape] noise -> chunks [B, T_p, A] in physical units."""
        arrays = {f"obs/{key}": obs[key].cpu().numpy() for key in self.spec.observation}
        reply = self._ask(Message("sample", {}, {**arrays, "noise": noise.cpu().numpy()}))
        chunks = reply.arrays.get("chunks")
        shape = (len(noise), self.spec.horizon, self.spec.action.size)
        if chunks is None or chunks.shape != shape or chunks.dtype != np.float32:
            raise ProtocolError(f"{self.address} answered with no chunks {list(shape)}")
        return torch.from_numpy(chunks.copy()).to(noise.device)

    def close(self) -> None:
        """Hang up; idempotent."""
        self._hang_up()

    def _ask(self, message: Message) -> Message:
        with self._lock:
            self._number += 1
            fields = {**message.fields, "request": self._number}
            self._socket.send_multipart(encode(Message(message.kind, fields, message.arrays)))
            return accepted(self._answer())

    def _answer(self) -> Message:
        until_s = time.monotonic() + self.timeout_s
        while self._socket.poll(max(0, round(1000 * (until_s - time.monotonic())))):
            try:
                reply = decode(self._socket.recv_multipart())
            except ProtocolError:
                continue
            if reply.fields.get("request") == self._number:  # an earlier one came too late
                return reply
        raise RobotConnectionError(
            f"no policy answers at {self.address}",
            limit=f"{self.timeout_s} s",
            remedy="Is `robot-rl serve` running there, and reachable from here?",
        )


class RemotePolicy:
    """A served generator acting: Policy, and a checkpoint that refers to its base by hash (``robot-rl serve``).

    Draws the noise that the base itself would act with, so it acts as the base does (at equal batch shape).

    Args:
        env_spec: what is observed and commanded.
        address: where it is served.
        sha256: of what must be served there; '' takes whatever is.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        address: str,
        sha256: str = "",
        *,
        keys: str = "",
        server: str = SERVER,
        timeout_s: float = 10.0,
    ) -> None:
        self.env_spec = env_spec
        self.sampler = RemoteSampler(address, keys=keys, server=server, timeout_s=timeout_s)
        spec = self.sampler.spec
        if sha256 and spec.sha256 != sha256:
            self.sampler.close()
            raise CheckpointError(
                f"{address} serves policy {spec.sha256[:12]}", limit=sha256[:12], remedy="Serve the checkpoint meant"
            )
        self.spec = PolicySpec(spec.observation, spec.action, spec.history, spec.horizon, spec.execute)
        self._noise = RowNoise(spec.seed)

    def reset(self, rows: Array, seeds: Array) -> None:
        """Restart the noise of batch rows ``rows`` [R] at decision 0 of the episodes ``seeds`` [R]."""
        self._noise.reset(rows, seeds)

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """Windows {key: [B, T_o, ...]} -> chunks [B, T_p, A] from the current step on, their noise in ``decision``."""
        noise = self._noise.draw(len(context.step), self.sampler.spec.noise_shape)
        seen = {key: torch.from_numpy(np.ascontiguousarray(window[key])) for key in self.spec.observation}
        chunks = self.sampler.sample(seen, torch.from_numpy(noise))
        return ActionChunk(chunks.numpy(), self.spec.execute, decision={"noise": noise})

    def sha256(self) -> str:
        """Of the parameters of what is served."""
        return self.sampler.spec.sha256

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Weights are where it is served. Raises CheckpointError for any."""
        if state:
            raise CheckpointError(f"a served policy takes no weights, such as '{next(iter(state))}'")


def sampler_message(spec: SamplerSpec) -> Message:
    """What a sampler tells of itself, on its way."""
    return Message("sampler", {"spec": json.loads(json.dumps(dataclasses.asdict(spec)))})


def sampler_spec(message: Message) -> SamplerSpec:
    """Inverse of ``sampler_message``. Raises ProtocolError."""
    try:
        data = dict(message.fields["spec"])
        data["observation"] = {
            str(key): ArraySpec(**{**value, "shape": tuple(value["shape"]), "names": tuple(value["names"])})
            for key, value in data["observation"].items()
        }
        data["action"] = action_spec_from_json(data["action"])
        data["noise_shape"] = tuple(int(size) for size in data["noise_shape"])
        return SamplerSpec(**data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"message '{message.kind}' describes no sampler: {error!r}") from error
