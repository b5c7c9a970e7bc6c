"""Acting states on their way: one blob per version, taken in chunks by whoever wants it, checked before use.

Actors ask; nothing is queued for them. So a late joiner or a slow actor gets the newest version and never a backlog,
and finishes what it began even when newer versions come faster than it can take one.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from robot_rl.errors import ConfigError, ProtocolError
from robot_rl.interfaces import Weights
from robot_rl.transport.messages import MAX_ARRAYS, Message, decode, encode
from robot_rl.types import Array, Arrays

CHUNK_BYTES = 256 * 1024
MAX_WEIGHTS_BYTES = 2**30
ASK_AGAIN_S = 2.0
_COUNT, _SIZE = struct.Struct("<I"), struct.Struct("<Q")


def pack_weights(weights: Weights) -> bytes:
    """``weights`` as bytes: number of frames, their sizes, and the frames of a message. Raises ProtocolError."""
    frames = encode(Message("weights", {"version": weights.version, "meta": dict(weights.meta)}, weights.tensors))
    sizes = b"".join(_SIZE.pack(len(frame)) for frame in frames)
    return b"".join([_COUNT.pack(len(frames)), sizes, *frames])


def unpack_weights(blob: bytes | memoryview) -> Weights:
    """Inverse of ``pack_weights``; the tensors are read-only views of ``blob``. Raises ProtocolError."""
    view = memoryview(blob).toreadonly()
    try:
        (count,) = _COUNT.unpack_from(view)
        if not 1 <= count <= MAX_ARRAYS + 1:
            raise ProtocolError(f"weights of {count} frames", limit=f"1 to {MAX_ARRAYS + 1}")
        sizes = [_SIZE.unpack_from(view, _COUNT.size + n * _SIZE.size)[0] for n in range(count)]
        position, frames = _COUNT.size + count * _SIZE.size, []
        if position + sum(sizes) != len(view):
            raise ProtocolError(f"weights of {len(view)} bytes tell of {position + sum(sizes)}")
        for size in sizes:
            frames.append(view[position : position + size])
            position += size
        message = decode(frames, max_bytes=MAX_WEIGHTS_BYTES)
        return Weights(int(message.fields["version"]), message.arrays, message.fields["meta"])
    except (struct.error, KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"weights are garbled: {error!r}") from error


def copied(version: int, tensors: Arrays, meta: Mapping[str, Any]) -> Weights:
    """A Weights that shares nothing with what it was made of."""
    own = {name: np.array(value) for name, value in tensors.items()}
    for value in own.values():
        value.flags.writeable = False
    return Weights(version, own, dict(meta))


@dataclass(frozen=True)
class _Blob:
    version: int
    content: memoryview

    @cached_property
    def sha256(self) -> str:
        """Its sum, made when the first actor asks for it: not every version is asked for."""
        return hashlib.sha256(self.content).hexdigest()


class WeightsShelf:
    """The learner's newest acting state, and those that actors are in the middle of taking."""

    def __init__(self, learner: str) -> None:
        self._learner = learner
        self._newest: _Blob | None = None
        self._taken: dict[bytes, _Blob] = {}

    @property
    def version(self) -> int | None:
        """The newest version, None before the first."""
        return None if self._newest is None else self._newest.version

    def publish(self, weights: Weights) -> None:
        """Offer ``weights``, which are packed here; any thread. Raises ConfigError when the version does not rise."""
        newest = self._newest
        if newest is not None and weights.version <= newest.version:
            raise ConfigError(
                f"version {weights.version} was published after {newest.version}", limit="rising versions"
            )
        content = pack_weights(weights)
        if len(content) > MAX_WEIGHTS_BYTES:
            raise ConfigError(f"an acting state of {len(content)} bytes", limit=f"{MAX_WEIGHTS_BYTES} bytes")
        self._newest = _Blob(weights.version, memoryview(content))

    def chunk(self, peer: bytes, version: int, offset: int) -> Message | None:
        """What ``peer`` asks for; the start of the newest version where it cannot have that; None before the first."""
        blob = self._taken.get(peer)
        if blob is None or blob.version != version or not 0 < offset < len(blob.content):
            blob, offset = self._newest, 0
            if blob is None:
                return None
            self._taken[peer] = blob
        data = blob.content[offset : offset + CHUNK_BYTES]
        if offset + len(data) == len(blob.content):
            del self._taken[peer]
        fields = {
            "learner": self._learner, "version": blob.version, "offset": offset, "size": len(blob.content),
            "sha256": blob.sha256,
        }  # fmt: skip
        return Message("chunk", fields, {"data": np.frombuffer(data, np.uint8)})

    def forget(self, peer: bytes) -> None:
        """``peer`` has gone."""
        self._taken.pop(peer, None)


class WeightsFetch:
    """The actor's side: asks for the newest version chunk by chunk, one request at a time."""

    def __init__(self, max_bytes: int = MAX_WEIGHTS_BYTES) -> None:
        self._max_bytes = max_bytes
        self._offered: tuple[str, int] | None = None
        self._have: tuple[str, int] | None = None
        self._coming: tuple[str, int, int, str] | None = None  # learner, version, size, sha256
        self._content = np.empty(0, np.uint8)
        self._filled = 0
        self._asked_s = -math.inf

    def offered(self, learner: str, version: int | None) -> None:
        """The learner tells of its newest version. Another learner's (it was restarted) counts as newer."""
        if self._offered is None or self._offered[0] != learner:
            self._coming, self._asked_s = None, -math.inf
        self._offered = None if version is None else (learner, version)

    def request(self, now_s: float) -> Message | None:
        """What to ask for now; None while an answer is awaited or nothing newer is offered."""
        if self._offered is None or now_s - self._asked_s < ASK_AGAIN_S:
            return None
        if self._coming is None and self._have is not None:
            same = self._have[0] == self._offered[0]
            if same and self._have[1] >= self._offered[1]:
                return None
        self._asked_s = now_s
        version, offset = (self._coming[1], self._filled) if self._coming else (self._offered[1], 0)
        return Message("weights", {"version": version, "offset": offset})

    def heard(self, message: Message) -> Weights | None:
        """Take a chunk in; the weights once they are whole and their sum is right. Raises ProtocolError."""
        learner, version, offset, size, sha256, data = _chunk_fields(message)
        if size > self._max_bytes:
            raise ProtocolError(f"weights of {size} bytes", limit=f"{self._max_bytes} bytes")
        if offset == 0 and self._is_news(learner, version):
            self._coming, self._filled = (learner, version, size, sha256), 0
            self._content = np.empty(size, np.uint8)  # no memory is touched until it is filled
        if self._coming != (learner, version, size, sha256) or offset != self._filled:
            return None  # late or repeated: another transfer is under way
        if offset + data.size > size:
            self._coming = None
            raise ProtocolError(f"a chunk ends at byte {offset + data.size}", limit=f"{size} bytes")
        self._content[offset : offset + data.size] = data
        self._filled += data.size
        self._asked_s = -math.inf  # the next chunk may be asked for at once
        return self._finish(learner, version, sha256) if self._filled == size else None

    def pause(self, now_s: float) -> None:
        """What came was wrong: ask again, but not at once."""
        self._asked_s = now_s

    def _is_news(self, learner: str, version: int) -> bool:
        if self._offered is None or self._offered[0] != learner:
            return False
        return self._have is None or self._have[0] != learner or version > self._have[1]

    def _finish(self, learner: str, version: int, sha256: str) -> Weights:
        content, self._content, self._coming = self._content.data, np.empty(0, np.uint8), None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ProtocolError(f"weights of version {version} differ from their sum")
        weights = unpack_weights(content)
        if weights.version != version:
            raise ProtocolError(f"weights of version {weights.version} came as {version}")
        self._have = (learner, version)
        return weights


def _chunk_fields(message: Message) -> tuple[str, int, int, int, str, Array]:
    """Learner, version, offset, size, sum and data of a chunk. Raises ProtocolError."""
    fields, data = message.fields, message.arrays.get("data")
    learner, sha256 = fields.get("learner"), fields.get("sha256")
    if not (isinstance(learner, str) and isinstance(sha256, str) and data is not None and data.dtype == np.uint8):
        raise ProtocolError("a chunk of weights lacks learner, sum or data")
    numbers = [fields.get(name) for name in ("version", "offset", "size")]
    version, offset, size = (n if type(n) is int and n >= 0 else -1 for n in numbers)
    if min(version, offset, size) < 0:
        raise ProtocolError(f"a chunk of weights has version, offset and size {numbers}")
    return learner, version, offset, size, sha256, data
