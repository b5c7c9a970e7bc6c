"""The named limits of one arm's safety chain: validated, and only ever made tighter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np

from robot_rl.errors import ConfigError, valid_choices
from robot_rl.geometry import quat_xyzw_normalize, quat_xyzw_rotate
from robot_rl.types import Array

# A limit on the norm of a vector acts per axis at this share of it, which keeps the axes independent.
_AXIS = 1.0 / math.sqrt(3.0)
_NO_WALL_M = 10.0
_BEHIND_M, _BEHIND_RAD = 0.002, 0.02


FORCE_SOURCES = ("none", "simulated", "measured")


class LimitArrays(NamedTuple):
    """Limits as kernels read them."""

    box: Array  # [2, 3] m
    upright: Array  # [4] reference rotation of the workspace
    tilt: Array  # [1] rad, geodesic
    jump: Array  # [2] m, rad per step
    lead: Array  # [2] m, rad of a set point ahead of the measured TCP
    speed: Array  # [6] per axis
    acceleration: Array  # [6] per axis
    jerk: Array  # [6] per axis
    path: Array  # [6] acceleration that a path may set in with and be followed within millimetres, per axis
    walls: Array  # [2, 3] m, for the spheres
    spheres: Array  # [k, 4] centre in the TCP frame [m], radius [m]
    contact: Array  # [2] N, N m of what others exert on the TCP
    joint: Array  # [2, n] rad, margin taken off
    joint_speed: Array  # [n] rad/s
    torque: Array  # [2, n] N m and N m/s
    joint_motion: Array  # [4] rad/s^2, rad/s^3 of each joint, rad per step, rad ahead of the measured joint


@dataclass(frozen=True)
class SafetyLimits:
    """Limits of one arm. Positions and rotations are of the TCP in the base frame.

    ``spheres`` (name -> centre in the TCP frame and radius, m) enclose fingers and camera; they stay between
    ``walls_lower_m`` and ``walls_upper_m``, the TCP itself in its box. What others exert on the TCP beyond
    ``max_contact_force_n`` or ``max_contact_torque_n_m`` stops the arm, unless ``force_source`` says that nobody knows.
    """

    box_lower_m: tuple[float, float, float]
    box_upper_m: tuple[float, float, float]
    upright_quat_xyzw: tuple[float, float, float, float]
    joint_lower_rad: tuple[float, ...]
    joint_upper_rad: tuple[float, ...]
    joint_speed_rad_s: tuple[float, ...]
    torque_n_m: tuple[float, ...]
    force_source: str  # of what others exert on the arm: none, simulated or measured; has to be written out
    max_rotation_rad: float = 1.57  # beyond pi/2 the ball is not convex: the way between two poses inside may leave it
    max_jump_m: float = 0.1
    max_jump_rad: float = 0.5
    max_lead_m: float = 0.1  # of a set point ahead of the measured TCP: an arm that is held back winds up no way
    max_lead_rad: float = 0.5
    max_speed_m_s: float = 1.2
    max_acceleration_m_s2: float = 8.0
    max_speed_rad_s: float = 2.5
    max_acceleration_rad_s2: float = 10.0
    max_jerk_m_s3: float = 6000.0
    max_jerk_rad_s3: float = 12000.0
    max_contact_force_n: float = 100.0
    max_contact_torque_n_m: float = 40.0
    joint_margin_rad: float = 0.1
    torque_rate_n_m_s: float = 8000.0
    max_joint_acceleration_rad_s2: float = 7.5  # this and the next three where joints are commanded
    max_joint_jerk_rad_s3: float = 3000.0
    max_joint_jump_rad: float = 0.3
    max_joint_lead_rad: float = 0.3
    walls_lower_m: tuple[float, float, float] = (-_NO_WALL_M, -_NO_WALL_M, -_NO_WALL_M)
    walls_upper_m: tuple[float, float, float] = (_NO_WALL_M, _NO_WALL_M, _NO_WALL_M)
    spheres: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _numeric():
            value = _numbers(name, getattr(self, name))
            if not np.isfinite(value).all():
                raise ConfigError(f"safety limit {name} is {value.tolist()}", limit="finite")
            if value.ndim == 0 and value <= 0.0:
                raise ConfigError(f"safety limit {name} is {value}", limit="> 0")
            if value.ndim == 1:
                object.__setattr__(self, name, tuple(value.tolist()))
        if self.force_source not in FORCE_SOURCES:
            raise ConfigError(
                f"no force source '{self.force_source}'", remedy=valid_choices(self.force_source, FORCE_SOURCES)
            )
        object.__setattr__(self, "spheres", _checked_spheres(self.spheres))
        if not np.less(self.box_lower_m, self.box_upper_m).all():
            raise ConfigError(f"workspace box {self.box_lower_m} to {self.box_upper_m} m is empty")
        self._check_room()
        self._check_joints()

    def _check_room(self) -> None:
        """The upright tool finds room for its spheres and its TCP."""
        if not 0.0 < self.max_rotation_rad <= 0.5 * math.pi:
            raise ConfigError(f"max_rotation_rad is {self.max_rotation_rad}", limit="0 to pi / 2")
        for name, sphere in self.spheres.items():
            centre = quat_xyzw_rotate(quat_xyzw_normalize(self.upright_quat_xyzw), sphere[:3])
            lower = np.maximum(self.box_lower_m, np.add(self.walls_lower_m, sphere[3]) - centre)
            upper = np.minimum(self.box_upper_m, np.subtract(self.walls_upper_m, sphere[3]) - centre)
            if not (lower < upper).all():
                raise ConfigError(
                    f"sphere '{name}' {list(sphere)} leaves the upright tool no room",
                    limit=f"box {self.box_lower_m} to {self.box_upper_m} m, walls {self.walls_lower_m} to "
                    f"{self.walls_upper_m} m",
                )

    def _check_joints(self) -> None:
        per_joint = (self.joint_lower_rad, self.joint_upper_rad, self.joint_speed_rad_s, self.torque_n_m)
        if len({len(limit) for limit in per_joint}) != 1:
            raise ConfigError("joint, speed and torque limits differ in length")
        span = np.subtract(self.joint_upper_rad, self.joint_lower_rad) - 2.0 * self.joint_margin_rad
        if not (span > 0.0).all() or min(*self.torque_n_m, *self.joint_speed_rad_s) <= 0.0:
            raise ConfigError("joint limits leave no room, or a speed or torque limit is not positive")

    def tightened(
        self,
        spheres: Mapping[str, object] | None = None,
        force_source: str | None = None,
        **limits: float | tuple[float, ...],
    ) -> SafetyLimits:
        """These limits with some made tighter, further ``spheres``, and a ``force_source`` where there was none. Raises
        ConfigError for an unknown name or a looser value."""
        names = [name for name in _numeric() if name != "upright_quat_xyzw"]
        source = self.force_source if force_source is None else force_source
        if source != self.force_source and self.force_source != "none":
            raise ConfigError(f"force_source is {source!r}", limit=f"'{self.force_source}', as the arm says")
        for name, value in limits.items():
            if name not in names:
                raise ConfigError(
                    f"no safety limit '{name}'", remedy=valid_choices(name, [*names, "spheres", "force_source"])
                )
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
        more = self._with_spheres(_checked_spheres(spheres or {}))
        numbers: dict[str, Any] = {name: _frozen(value) for name, value in limits.items()}
        return replace(self, spheres=more, force_source=source, **numbers)

    def _with_spheres(self, more: Mapping[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
        for name, sphere in more.items():
            ours = self.spheres.get(name, sphere)
            if sphere[:3] != ours[:3] or sphere[3] < ours[3]:
                raise ConfigError(
                    f"sphere '{name}' is {list(sphere)}",
                    limit=f"centre {list(ours[:3])} m, radius at least {ours[3]} m",
                    remedy="Limits of the arm can only be made tighter; give another sphere another name",
                )
        return {**self.spheres, **more}

    def scalars(self) -> dict[str, float]:
        """The scalar limits and the box by name, for EnvSpec.limits."""
        result = {f.name: float(getattr(self, f.name)) for f in fields(self) if f.type == "float"}
        for side, box in (("lower", self.box_lower_m), ("upper", self.box_upper_m)):
            result |= {f"box_{side}_{axis}_m": float(value) for axis, value in zip("xyz", box, strict=True)}
        return result

    def _path_acceleration(self) -> Array:
        """A reference with jerk J comes up to an acceleration A that sets in at once A^3 / (6 J^2) behind."""
        acceleration = np.repeat([self.max_acceleration_m_s2, self.max_acceleration_rad_s2], 3) * _AXIS
        jerk = np.repeat([self.max_jerk_m_s3, self.max_jerk_rad_s3], 3) * _AXIS
        return np.minimum(acceleration, np.cbrt(np.repeat([_BEHIND_M, _BEHIND_RAD], 3) * jerk**2))

    def _contact(self) -> Array:
        if self.force_source == "none":
            return np.full(2, np.inf)
        return np.array([self.max_contact_force_n, self.max_contact_torque_n_m])

    def arrays(self) -> LimitArrays:
        """The limits as kernels read them."""
        n = len(self.torque_n_m)
        return LimitArrays(
            np.array([self.box_lower_m, self.box_upper_m]),
            quat_xyzw_normalize(self.upright_quat_xyzw),
            np.array([self.max_rotation_rad]),
            np.array([self.max_jump_m, self.max_jump_rad]),
            np.array([self.max_lead_m, self.max_lead_rad]),
            np.repeat([self.max_speed_m_s, self.max_speed_rad_s], 3) * _AXIS,
            np.repeat([self.max_acceleration_m_s2, self.max_acceleration_rad_s2], 3) * _AXIS,
            np.repeat([self.max_jerk_m_s3, self.max_jerk_rad_s3], 3) * _AXIS,
            self._path_acceleration(),
            np.array([self.walls_lower_m, self.walls_upper_m]),
            np.array(list(self.spheres.values()), dtype=np.float64).reshape(-1, 4),
            self._contact(),
            np.array([self.joint_lower_rad, self.joint_upper_rad])
            + np.array([[self.joint_margin_rad], [-self.joint_margin_rad]]),
            np.array(self.joint_speed_rad_s),
            np.array([self.torque_n_m, np.full(n, self.torque_rate_n_m_s)]),
            np.array([
                self.max_joint_acceleration_rad_s2, self.max_joint_jerk_rad_s3, self.max_joint_jump_rad,
                self.max_joint_lead_rad,
            ]),
        )  # fmt: skip


def _numeric() -> list[str]:
    return [limit.name for limit in fields(SafetyLimits) if limit.name not in ("spheres", "force_source")]


def _checked_spheres(spheres: object) -> dict[str, tuple[float, ...]]:
    if not isinstance(spheres, Mapping):
        raise ConfigError(f"spheres are {spheres!r}", limit="name: [x, y, z, radius] in m")
    checked = {}
    for name, sphere in spheres.items():
        numbers = _numbers(f"spheres.{name}", sphere)
        if numbers.shape != (4,) or not np.isfinite(numbers).all() or numbers[3] <= 0.0:
            raise ConfigError(f"sphere '{name}' is {sphere!r}", limit="[x, y, z, radius] in m, radius > 0")
        checked[str(name)] = tuple(numbers.tolist())
    return checked


def _numbers(name: str, value: object) -> Array:
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"safety limit {name} is {value!r}", limit="numbers") from error


def _frozen(value: float | tuple[float, ...]) -> float | tuple[float, ...]:
    return float(value) if np.ndim(value) == 0 else tuple(float(v) for v in value)  # type: ignore[union-attr]
