"""The named limits of one arm's safety chain: validated, and only ever made tighter."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np

from robot_rl.errors import ConfigError, valid_choices
from robot_rl.geometry import quat_xyzw_normalize
from robot_rl.types import Array

# A limit on the norm of a vector acts per axis at this share of it, which keeps the axes independent.
_AXIS = 1.0 / math.sqrt(3.0)


class LimitArrays(NamedTuple):
    """Limits as kernels read them."""

    box: Array  # [2, 3] m
    upright: Array  # [4] reference rotation of the workspace
    tilt: Array  # [1] rad, geodesic
    jump: Array  # [2] m, rad per step
    speed: Array  # [6] per axis
    acceleration: Array  # [6] per axis
    joint: Array  # [2, n] rad, margin taken off
    joint_speed: Array  # [n] rad/s
    torque: Array  # [2, n] N m and N m/s
    joint_motion: Array  # [3] rad/s^2, rad/s^3 of each joint, rad per step


@dataclass(frozen=True)
class SafetyLimits:
    """Limits of one arm. Positions and rotations are of the TCP in the base frame."""

    box_lower_m: tuple[float, float, float]
    box_upper_m: tuple[float, float, float]
    upright_quat_xyzw: tuple[float, float, float, float]
    joint_lower_rad: tuple[float, ...]
    joint_upper_rad: tuple[float, ...]
    joint_speed_rad_s: tuple[float, ...]
    torque_n_m: tuple[float, ...]
    max_rotation_rad: float = 1.57  # beyond pi/2 the ball is not convex: the way between two poses inside may leave it
    max_jump_m: float = 0.1
    max_jump_rad: float = 0.5
    max_speed_m_s: float = 1.2
    max_acceleration_m_s2: float = 12.0
    max_speed_rad_s: float = 2.5
    max_acceleration_rad_s2: float = 20.0
    joint_margin_rad: float = 0.1
    torque_rate_n_m_s: float = 8000.0
    max_joint_acceleration_rad_s2: float = 15.0  # this and the next two where joints are commanded
    max_joint_jerk_rad_s3: float = 5000.0
    max_joint_jump_rad: float = 0.3

    def __post_init__(self) -> None:
        for field in fields(self):
            value = _numbers(field.name, getattr(self, field.name))
            if not np.isfinite(value).all():
                raise ConfigError(f"safety limit {field.name} is {value.tolist()}", limit="finite")
            if value.ndim == 0 and value <= 0.0:
                raise ConfigError(f"safety limit {field.name} is {value}", limit="> 0")
            if value.ndim == 1:
                object.__setattr__(self, field.name, tuple(value.tolist()))
        if not np.less(self.box_lower_m, self.box_upper_m).all():
            raise ConfigError(f"workspace box {self.box_lower_m} to {self.box_upper_m} m is empty")
        per_joint = (self.joint_lower_rad, self.joint_upper_rad, self.joint_speed_rad_s, self.torque_n_m)
        if len({len(limit) for limit in per_joint}) != 1:
            raise ConfigError("joint, speed and torque limits differ in length")
        span = np.subtract(self.joint_upper_rad, self.joint_lower_rad) - 2.0 * self.joint_margin_rad
        if not (span > 0.0).all() or min(*self.torque_n_m, *self.joint_speed_rad_s) <= 0.0:
            raise ConfigError("joint limits leave no room, or a speed or torque limit is not positive")
        if not 0.0 < self.max_rotation_rad <= 0.5 * math.pi:
            raise ConfigError(f"max_rotation_rad is {self.max_rotation_rad}", limit="0 to pi / 2")

    def tightened(self, **limits: float | tuple[float, ...]) -> SafetyLimits:
        """These limits with some made tighter. Raises ConfigError for an unknown name or a looser value."""
        names = [field.name for field in fields(self) if field.name != "upright_quat_xyzw"]
        for name, value in limits.items():
            if name not in names:
                raise ConfigError(f"no safety limit '{name}'", remedy=valid_choices(name, names))
            given, ours = _numbers(name, value), np.asarray(getattr(self, name), dtype=np.float64)
            if given.shape != ours.shape:
                raise ConfigError(f"safety limit {name} is {value}", limit=f"{ours.size} numbers")
            larger_is_tighter = "lower" in name or name == "joint_margin_rad"
            loosened = given < ours if larger_is_tighter else given > ours
            if loosened.any() or not np.isfinite(given).all():
                raise ConfigError(
                    f"safety limit {name} is {value}",
                    limit=f"{'at least' if larger_is_tighter else 'at most'} {ours.tolist()}",
                    remedy="Limits of the arm can only be made tighter",
                )
        return replace(self, **{name: _frozen(value) for name, value in limits.items()})  # type: ignore[arg-type]

    def scalars(self) -> dict[str, float]:
        """The scalar limits and the box by name, for EnvSpec.limits."""
        result = {f.name: float(getattr(self, f.name)) for f in fields(self) if f.type == "float"}
        for side, box in (("lower", self.box_lower_m), ("upper", self.box_upper_m)):
            result |= {f"box_{side}_{axis}_m": float(value) for axis, value in zip("xyz", box, strict=True)}
        return result

    def arrays(self) -> LimitArrays:
        n = len(self.torque_n_m)
        return LimitArrays(
            np.array([self.box_lower_m, self.box_upper_m]),
            quat_xyzw_normalize(self.upright_quat_xyzw),
            np.array([self.max_rotation_rad]),
            np.array([self.max_jump_m, self.max_jump_rad]),
            np.repeat([self.max_speed_m_s, self.max_speed_rad_s], 3) * _AXIS,
            np.repeat([self.max_acceleration_m_s2, self.max_acceleration_rad_s2], 3) * _AXIS,
            np.array([self.joint_lower_rad, self.joint_upper_rad])
            + np.array([[self.joint_margin_rad], [-self.joint_margin_rad]]),
            np.array(self.joint_speed_rad_s),
            np.array([self.torque_n_m, np.full(n, self.torque_rate_n_m_s)]),
            np.array([self.max_joint_acceleration_rad_s2, self.max_joint_jerk_rad_s3, self.max_joint_jump_rad]),
        )


def _numbers(name: str, value: object) -> Array:
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"safety limit {name} is {value!r}", limit="numbers") from error


def _frozen(value: float | tuple[float, ...]) -> float | tuple[float, ...]:
    return float(value) if np.ndim(value) == 0 else tuple(float(v) for v in value)  # type: ignore[union-attr]
