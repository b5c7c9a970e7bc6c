"""An episode in memory: named arrays over N rows, encoded camera tracks and metadata. Checked before it is stored.

Row t holds the observation at t, the action from t to t + 1 and its reward; the last row holds only the final
observation (``action_valid`` False, action zeros), so N = control steps + 1. Array names are the paths in the file:

    obs/<name>  f32 [N, D]       action/{commanded,executed,policy,human}  f32 [N, A]     action_valid  bool [N]
    time/{t_ns,obs_ready_ns,action_sent_ns}  i64 [N]             rl/{reward f32, terminated, truncated, success} [N]
    flags/{intervention u8, overrun bool, phase u8} [N]                   policy/version  i32 [N]
    policy/<extra>  [N, ...]   policy/decision_of_step  i32 [N]   decision/{step i32, planned, <extra>}  [D, ...]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robot_rl.errors import EpisodeError
from robot_rl.types import Array, Arrays, EnvSpec

SCHEMA = "robot_rl/episode"
SCHEMA_VERSION = "1.0"

REQUIRED_ARRAYS: Mapping[str, str] = {
    "action/commanded": "float32",
    "action_valid": "bool",
    "time/t_ns": "int64",
    "rl/reward": "float32",
    "rl/terminated": "bool",
    "rl/truncated": "bool",
}
OPTIONAL_ARRAYS: Mapping[str, str] = {
    "action/executed": "float32",
    "action/policy": "float32",
    "action/human": "float32",
    "time/obs_ready_ns": "int64",
    "time/action_sent_ns": "int64",
    "flags/intervention": "uint8",
    "flags/phase": "uint8",
    "flags/overrun": "bool",
    "policy/version": "int32",
    "policy/decision_of_step": "int32",
    "decision/step": "int32",
    "rl/success": "bool",
}


@dataclass(frozen=True)
class CameraTrack:
    """Encoded frames of one camera; it keeps its own rate, ``frame_of_step`` maps rows to frames (-1: dropped)."""

    data: Array  # u8 [bytes]; frame f = data[offset[f]:offset[f + 1]]
    offset: Array  # i64 [F + 1]
    t_ns: Array  # i64 [F] host monotonic at arrival
    frame_of_step: Array  # i32 [N]
    height: int
    width: int
    channels: int = 3
    codec: str = "jpeg"
    t_dev_ns: Array | None = None  # i64 [F] device clock
    attributes: Mapping[str, Any] = field(default_factory=dict)  # quality, subsampling, colour order

    @property
    def frames(self) -> int:
        return len(self.offset) - 1

    def encoded(self, index: int) -> bytes:
        """The bytes of frame ``index``."""
        return self.data[self.offset[index] : self.offset[index + 1]].tobytes()


@dataclass(frozen=True)
class Episode:
    """Arrays, cameras and metadata of one episode. ``validate`` raises EpisodeError naming episode, array and row."""

    id: str
    arrays: Arrays
    metadata: Mapping[str, Any]
    cameras: Mapping[str, CameraTrack] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """N, the final observation included."""
        return len(self.arrays["time/t_ns"])

    @property
    def steps(self) -> int:
        """Control steps: rows whose action counts."""
        return max(self.rows - 1, 0)

    def validate(self) -> None:
        """Check presence, dtype, length, finite values, rising stamps and camera offsets."""
        for name, dtype in REQUIRED_ARRAYS.items():
            if name not in self.arrays:
                raise EpisodeError("missing", episode=self.id, array=name, remedy="Every episode must have it")
            self._check_dtype(name, dtype)
        for name, dtype in OPTIONAL_ARRAYS.items():
            if name in self.arrays:
                self._check_dtype(name, dtype)
        for name, value in self.arrays.items():
            self._check_values(name, value)
        self._check_stamps()
        for name, camera in self.cameras.items():
            self._check_camera(name, camera)

    def validate_spec(self, spec: EnvSpec) -> None:
        """Check that observations, actions and cameras are those of ``spec``; arrays beyond it are allowed."""
        wanted = {f"obs/{name}": (s.dtype, s.shape) for name, s in spec.observation.items()}
        wanted["action/commanded"] = ("float32", (spec.action.size,))
        for name, (dtype, shape) in wanted.items():
            if name not in self.arrays:
                raise EpisodeError("missing", episode=self.id, array=name, limit="the spec of the store")
            self._check_dtype(name, dtype)
            if self.arrays[name].shape[1:] != shape:
                found = list(self.arrays[name].shape)
                raise EpisodeError(f"shape {found}", episode=self.id, array=name, limit=f"[N, {str(list(shape))[1:]}")
        for name, camera in self.cameras.items():
            known = spec.cameras.get(name)
            size = (camera.height, camera.width, camera.channels)
            if known is None or size != (known.height, known.width, known.channels):
                limit = "no such camera in the spec" if known is None else f"{known}"
                raise EpisodeError(f"images of {size}", episode=self.id, array=f"images/{name}", limit=limit)

    def _check_dtype(self, name: str, dtype: str) -> None:
        found = self.arrays[name].dtype
        if found != np.dtype(dtype):
            raise EpisodeError(f"dtype {found}", episode=self.id, array=name, limit=dtype)

    def _check_shape(self, name: str, value: Array) -> None:
        """Fixed arrays hold one value per row, all actions [N, A] alike; decisions have a length of their own."""
        fixed = name in REQUIRED_ARRAYS or name in OPTIONAL_ARRAYS
        limit, axes = ("[N, A] as action/commanded", 2) if name.startswith("action/") else ("[N]", 1)
        if value.ndim == 0 or (fixed and value.ndim != axes):
            raise EpisodeError(f"shape {list(value.shape)}", episode=self.id, array=name, limit=limit)
        if name.startswith("action/") and value.shape[1:] != self.arrays["action/commanded"].shape[1:]:
            raise EpisodeError(f"shape {list(value.shape)}", episode=self.id, array=name, limit=limit)
        like = "decision/step" if name.startswith("decision/") else "time/t_ns"
        length = len(self.arrays.get(like, value))
        if len(value) != length:
            raise EpisodeError(f"{len(value)} rows", episode=self.id, array=name, limit=f"{length} as in {like}")

    def _check_values(self, name: str, value: Array) -> None:
        self._check_shape(name, value)
        if value.dtype.kind == "f":
            finite = np.isfinite(value).all(axis=tuple(range(1, value.ndim)))
            if not finite.all():
                row = int(np.argmin(finite))
                raise EpisodeError(f"holds {value[row]}", episode=self.id, array=name, row=row, limit="finite values")

    def _check_stamps(self) -> None:
        if self.rows == 0:
            raise EpisodeError("no rows", episode=self.id, limit="at least the final observation")
        rising = np.diff(self.arrays["time/t_ns"]) > 0
        if not rising.all():
            row = int(np.argmin(rising)) + 1
            raise EpisodeError(
                "stamp does not rise", episode=self.id, array="time/t_ns", row=row, remedy="Use one monotonic clock"
            )

    def _check_camera(self, name: str, camera: CameraTrack) -> None:
        array = f"images/{name}"
        if len(camera.frame_of_step) != self.rows:
            raise EpisodeError(
                f"frame_of_step has {len(camera.frame_of_step)} rows",
                episode=self.id,
                array=array,
                limit=str(self.rows),
            )
        stamps = [camera.t_ns] if camera.t_dev_ns is None else [camera.t_ns, camera.t_dev_ns]
        if any(len(stamp) != camera.frames for stamp in stamps) or (np.diff(camera.offset) < 0).any():
            raise EpisodeError("frame offsets and stamps disagree", episode=self.id, array=array)
        if int(camera.offset[0]) != 0 or int(camera.offset[-1]) != len(camera.data):
            raise EpisodeError("offsets do not span the frame bytes", episode=self.id, array=array)
        if camera.frame_of_step.max(initial=-1) >= camera.frames or camera.frame_of_step.min(initial=0) < -1:
            raise EpisodeError("frame_of_step points outside the frames", episode=self.id, array=array)
