"""A row of an episode as a fixed number of bytes: what the control thread fills and the journal holds.

All float32 fields lie together in front, so that one pass over them finds a value that is not finite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from robot_rl.errors import EpisodeError, valid_choices
from robot_rl.types import Array, Arrays, ArraySpec, EnvSpec, Phase, StepRow

# flags/intervention: 0 policy, 1 human, 2 scripted or reset, 3 hold
INTERVENTION = {Phase.POLICY: 0, Phase.HUMAN: 1, Phase.RESET: 2, Phase.SCRIPTED: 2, Phase.HOLD: 3}
_SCALARS: Mapping[str, str] = {
    "rl/reward": "float32",
    "time/t_ns": "int64",
    "time/obs_ready_ns": "int64",
    "time/action_sent_ns": "int64",
    "policy/version": "int32",
    "policy/decision_of_step": "int32",
    "rl/terminated": "bool",
    "rl/truncated": "bool",
    "rl/success": "bool",
    "action_valid": "bool",
    "flags/intervention": "uint8",
    "flags/phase": "uint8",
    "flags/overrun": "bool",
    "has_human": "bool",  # of the journal only: action/human is stored when any row has it
}
_FRAME = "frame_of_step/"  # of the journal only: becomes images/<camera>/frame_of_step


class RowLayout:
    """Names, dtypes and shapes of one row of episodes recorded under ``spec`` with the declared ``extras``."""

    def __init__(self, spec: EnvSpec, extras: Mapping[str, ArraySpec]) -> None:
        self.observation = dict(spec.observation)
        self.action_size = spec.action.size
        self.extras = dict(extras)
        self.cameras = dict(spec.cameras)
        fields = [(f"obs/{name}", _type(name, s.dtype), s.shape) for name, s in self.observation.items()]
        kinds = ("commanded", "executed", "policy", "human")
        fields += [(f"action/{kind}", "float32", (self.action_size,)) for kind in kinds]
        fields += [(f"policy/{name}", _type(name, s.dtype), s.shape) for name, s in self.extras.items()]
        fields += [(name, dtype, ()) for name, dtype in _SCALARS.items()]
        fields += [(_FRAME + name, "int32", ()) for name in self.cameras]
        fields.sort(key=lambda field: (field[1] != "float32", -np.dtype(field[1]).itemsize))
        self.dtype = np.dtype([(name, np.dtype(dtype).newbyteorder("<"), shape) for name, dtype, shape in fields])
        self._floats = sum(int(np.prod(shape)) for _, dtype, shape in fields if dtype == "float32")
        self._wide = [name for name, dtype, _ in fields if dtype == "float64"]
        self._shapes = {name: (tuple(shape), np.dtype(dtype)) for name, dtype, shape in fields}

    def pack(self, row: StepRow, frame_of_step: Mapping[str, int], place: tuple[str, int]) -> bytes:
        """Check ``row`` and return its bytes; ``place`` is (episode, row) for EpisodeError."""
        out = np.zeros(1, self.dtype)
        cells = out[0]
        self._put_all(cells, "obs/", row.observation.state, self.observation, place)
        self._put_all(cells, "policy/", row.extras, self.extras, place)
        action = row.action
        self._put(cells, "action/commanded", action.commanded, place)
        self._put(cells, "action/executed", action.executed, place)
        self._put(cells, "action/policy", action.policy, place)
        if action.human is not None:
            self._put(cells, "action/human", action.human, place)
            cells["has_human"] = True
        _put_scalars(cells, row)
        for camera, index in frame_of_step.items():
            cells[_FRAME + camera] = index
        self._check_finite(out, place)
        return out.tobytes()

    def unpack(self, rows: Iterable[bytes | memoryview]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Arrays [N, ...] by path and frame_of_step [N] by camera; the inverse of ``pack`` over all rows."""
        table = np.frombuffer(b"".join(rows), self.dtype)
        arrays = {name: table[name].copy() for name in self.dtype.names or ()}
        if not arrays.pop("has_human").any():
            del arrays["action/human"]
        frames = {name: arrays.pop(_FRAME + name) for name in self.cameras}
        return arrays, frames

    def _put_all(
        self, cells: Any, prefix: str, values: Arrays, wanted: Mapping[str, Any], place: tuple[str, int]
    ) -> None:
        if values.keys() != wanted.keys():
            self._refuse_names(prefix, values, wanted, place)
        for name, value in values.items():
            self._put(cells, prefix + name, value, place)

    def _put(self, cells: Any, name: str, value: Array, place: tuple[str, int]) -> None:
        shape, dtype = self._shapes[name]
        if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype != dtype:
            found = f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
            raise EpisodeError(f"is {found}", episode=place[0], array=name, row=place[1], limit=f"{dtype}{list(shape)}")
        cells[name] = value

    def _check_finite(self, out: Array, place: tuple[str, int]) -> None:
        block = out.view(np.uint8)[: 4 * self._floats].view(np.float32)
        names = [] if np.isfinite(block).all() else list(self._shapes)
        for name in names + self._wide:
            value = out[name][0]
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise EpisodeError(f"holds {value}", episode=place[0], array=name, row=place[1], limit="finite values")

    @staticmethod
    def _refuse_names(prefix: str, values: Arrays, wanted: Mapping[str, Any], place: tuple[str, int]) -> None:
        for name in wanted:
            if name not in values:
                raise EpisodeError("missing", episode=place[0], array=prefix + name, row=place[1])
        name = next(name for name in values if name not in wanted)
        raise EpisodeError(
            "was not declared", episode=place[0], array=prefix + name, row=place[1], remedy=valid_choices(name, wanted)
        )


def _put_scalars(cells: Any, row: StepRow) -> None:
    observation, action = row.observation, row.action
    cells["rl/reward"] = row.reward
    cells["time/t_ns"] = observation.stamp_ns
    cells["time/obs_ready_ns"] = row.obs_ready_ns
    cells["time/action_sent_ns"] = row.action_sent_ns
    cells["policy/version"] = row.policy_version
    cells["policy/decision_of_step"] = row.decision
    cells["rl/terminated"] = row.terminated
    cells["rl/truncated"] = row.truncated
    cells["rl/success"] = row.success
    cells["action_valid"] = action.valid
    cells["flags/intervention"] = INTERVENTION[Phase(action.source)]
    cells["flags/phase"] = action.source
    cells["flags/overrun"] = row.overrun


def _type(name: str, dtype: str) -> str:
    kind = np.dtype(dtype)
    if kind.kind not in "fiub":
        raise EpisodeError(f"dtype {dtype}", array=name, limit="numbers and bool")
    return kind.name
