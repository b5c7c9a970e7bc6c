"""The first thing a plan meets: finite, of the right shape, in metres and unit quaternions, in a frame we know."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from robot_rl.errors import CommandRefusedError, valid_choices
from robot_rl.types import ActionKind, ActionPart, ActionSpec, Array, Phase, TargetChunk, all_finite

_FAR_M = 5.0  # a position further away than this was not given in metres
_UNIT_TOLERANCE = 0.01
_WHOLE = (int, np.integer)
_SOURCES = frozenset(int(phase) for phase in Phase)


def checked_targets(chunk: TargetChunk, action: ActionSpec, frame: str = "base") -> TargetChunk:
    """The chunk in float64 with unit quaternions; ``action`` is what the robot takes. Raises CommandRefusedError that
    names the part and what is wrong with it."""
    if chunk.frame not in ("", frame):
        raise CommandRefusedError(f"targets in frame '{chunk.frame}'", remedy=f"The robot takes frame '{frame}'")
    if not isinstance(chunk.first_step, _WHOLE):
        raise CommandRefusedError(f"the plan starts at step {chunk.first_step}", limit="a whole number")
    if not isinstance(chunk.stamp_ns, int | np.integer):
        raise CommandRefusedError(f"the plan has the stamp {chunk.stamp_ns}", limit="a whole number of ns")
    if chunk.source not in _SOURCES:
        raise CommandRefusedError(f"targets from source {chunk.source}", remedy=f"Valid: {[*Phase.__members__]}")
    targets = {name: _checked_rows(name, value, action.by_name) for name, value in chunk.targets.items()}
    checked = TargetChunk(targets, int(chunk.first_step), chunk.stamp_ns, Phase(chunk.source), chunk.frame)
    if checked.length == 0:
        raise CommandRefusedError("the plan has no rows left", remedy="Send at least the set point of this step")
    return checked


def _checked_rows(name: str, value: Any, parts: Mapping[str, ActionPart]) -> Array:
    if name not in parts:
        raise CommandRefusedError(f"the robot takes no '{name}'", remedy=valid_choices(name, parts))
    try:
        rows = np.asarray(value)
    except ValueError as error:  # rows of different length
        raise CommandRefusedError(f"'{name}' is no array: {error}", limit=f"[H, {parts[name].size}]") from error
    if rows.dtype.kind not in "fiu":
        raise CommandRefusedError(f"'{name}' holds values of type {rows.dtype}", limit="real numbers")
    if rows.ndim != 2 or rows.shape[1] != parts[name].size:
        raise CommandRefusedError(f"'{name}' has shape {list(rows.shape)}", limit=f"[H, {parts[name].size}]")
    if not all_finite(rows):
        raise CommandRefusedError(f"'{name}' holds a value that is not finite", remedy="Check the policy's output")
    rows = np.array(rows, dtype=np.float64)
    if parts[name].kind is ActionKind.TCP_POSE and len(rows):
        _check_poses(name, rows)
    return rows


def _check_poses(name: str, rows: Array) -> None:
    """Refuse what was not given in metres; bring the quaternions of ``rows`` [H, 7] to unit length in place."""
    for row, (x, y, z, *quat) in enumerate(rows.tolist()):  # for few rows plain numbers are the fastest
        furthest, length = max(abs(x), abs(y), abs(z)), math.hypot(*quat)
        if furthest > _FAR_M:
            raise CommandRefusedError(
                f"'{name}' has a target {furthest:.1f} m away", limit=f"{_FAR_M} m", remedy="Positions are in metres"
            )
        if abs(length - 1.0) > _UNIT_TOLERANCE:
            raise CommandRefusedError(
                f"'{name}' has a quaternion of length {length:.4g}", limit=f"1 within {_UNIT_TOLERANCE}"
            )
        rows[row, 3:] /= length
