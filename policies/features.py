"""Low-dimensional observation features: each turns named physical values [..., D] into a vector [..., F].

Features are small callables with the keys they read and the size they give, composed in configuration. They work on
torch tensors with any leading axes and have no parameters; what they return is normalised afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from robot_rl.errors import ConfigError, SpecMismatchError, valid_choices
from robot_rl.types import ArraySpec

POSE_SIZE = 7  # x y z qx qy qz qw


class Feature(Protocol):
    """Observation values -> one vector per step."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The observation names it reads."""
        ...

    def __call__(self, observation: Mapping[str, Tensor]) -> Tensor:
        """{key: [..., D]} -> [..., F]."""
        ...


class Raw:
    """The values as they are, or the components listed."""

    def __init__(self, key: str, components: Sequence[int] | None = None) -> None:
        self.keys, self.components = (key,), None if components is None else list(components)

    def __call__(self, observation: Mapping[str, Tensor]) -> Tensor:
        value = observation[self.keys[0]]
        return value if self.components is None else value[..., self.components]


class Position:
    """The first three components of a pose."""

    def __init__(self, key: str) -> None:
        self.keys = (key,)

    def __call__(self, observation: Mapping[str, Tensor]) -> Tensor:
        return observation[self.keys[0]][..., :3]


class Rot6d:
    """A pose (x y z qx qy qz qw) as position and the first two columns of its rotation matrix (Zhou et al. 2019)."""

    def __init__(self, key: str) -> None:
        self.keys = (key,)

    def __call__(self, observation: Mapping[str, Tensor]) -> Tensor:
        pose = observation[self.keys[0]]
        matrix = _rotation_matrix(pose[..., 3:])
        return torch.cat((pose[..., :3], matrix[..., :, 0], matrix[..., :, 1]), dim=-1)


class SinCos:
    """Angles [rad] at ``components`` become cosine and sine; the other components come first, as they are."""

    def __init__(self, key: str, components: Sequence[int]) -> None:
        self.keys, self.components = (key,), list(components)

    def __call__(self, observation: Mapping[str, Tensor]) -> Tensor:
        value = observation[self.keys[0]]
        rest = [i for i in range(value.shape[-1]) if i not in self.components]
        angles = value[..., self.components]
        return torch.cat((value[..., rest], angles.cos(), angles.sin()), dim=-1)


class Difference:
    """First ``size`` components of ``key`` minus those of ``reference``: relative position in the shared frame."""

    def __init__(self, key: str, reference: str, size: int = 3) -> None:
        self.keys, self.size = (key, reference), size

    def __call__(self, observation: Mapping[str, Tensor]) -> Tensor:
        value, reference = (observation[key][..., : self.size] for key in self.keys)
        return value - reference


class InFrame:
    """Position of ``key`` in the frame of the pose ``frame`` [7]."""

    def __init__(self, key: str, frame: str) -> None:
        self.keys = (key, frame)

    def __call__(self, observation: Mapping[str, Tensor]) -> Tensor:
        value, frame = (observation[key] for key in self.keys)
        matrix = _rotation_matrix(frame[..., 3:])
        return (matrix.transpose(-1, -2) @ (value[..., :3] - frame[..., :3]).unsqueeze(-1)).squeeze(-1)


class PlanarPoints:
    """Points [[x, y], ...] fixed in a body with planar pose ``key`` (x, y, angle [rad]), in the plane's frame."""

    def __init__(self, key: str, points: Sequence[Sequence[float]]) -> None:
        self.keys, self.points = (key,), torch.tensor(points, dtype=torch.float32)

    def __call__(self, observation: Mapping[str, Tensor]) -> Tensor:
        pose = observation[self.keys[0]]
        points = self.points.to(pose)
        cos, sin = pose[..., 2:3].cos(), pose[..., 2:3].sin()
        x = pose[..., 0:1] + cos * points[:, 0] - sin * points[:, 1]
        y = pose[..., 1:2] + sin * points[:, 0] + cos * points[:, 1]
        return torch.stack((x, y), dim=-1).flatten(-2)


class InPlanarFrame:
    """Position of ``key`` (x, y) in the frame of the planar pose ``frame`` (x, y, angle [rad])."""

    def __init__(self, key: str, frame: str) -> None:
        self.keys = (key, frame)

    def __call__(self, observation: Mapping[str, Tensor]) -> Tensor:
        value, frame = (observation[key] for key in self.keys)
        away = value[..., :2] - frame[..., :2]
        cos, sin = frame[..., 2].cos(), frame[..., 2].sin()
        return torch.stack((cos * away[..., 0] + sin * away[..., 1], cos * away[..., 1] - sin * away[..., 0]), dim=-1)


class NearGoal:
    """tanh((feature - goal) / scale): resolution where it counts, near the goal; ``scale`` in the feature's unit."""

    def __init__(self, feature: Feature, goal: Sequence[float], scale: float) -> None:
        self.keys, self.feature, self.scale = feature.keys, feature, scale
        self.goal = torch.tensor(goal, dtype=torch.float32)

    def __call__(self, observation: Mapping[str, Tensor]) -> Tensor:
        value = self.feature(observation)
        return torch.tanh((value - self.goal.to(value)) / self.scale)


NAMED = {"raw": Raw, "position": Position, "rot6d": Rot6d}


def named_features(observation: Mapping[str, str], specs: Mapping[str, ArraySpec]) -> list[Feature]:
    """Features from {key: raw | position | rot6d}. Raises SpecMismatchError for a key that is not observed."""
    features: list[Feature] = []
    for key, name in observation.items():
        if name not in NAMED:
            raise ConfigError(f"no representation '{name}' of '{key}'", remedy=valid_choices(name, NAMED))
        features.append(NAMED[name](key))
    check_keys(features, specs)
    return features


def every_feature(specs: Mapping[str, ArraySpec], *, privileged: bool = True) -> list[Feature]:
    """All that is observed, or only what is not ``privileged``: poses as rot6d, everything else raw."""
    return [
        Rot6d(key) if key.endswith("_pose") and spec.shape == (POSE_SIZE,) else Raw(key)
        for key, spec in specs.items()
        if privileged or not spec.privileged
    ]


def check_keys(features: Sequence[Feature], specs: Mapping[str, ArraySpec]) -> None:
    """Raise SpecMismatchError for the first key that is not observed."""
    for feature in features:
        for key in feature.keys:
            if key not in specs:
                raise SpecMismatchError(f"no observation '{key}'", remedy=valid_choices(key, specs))


def _rotation_matrix(quat_xyzw: Tensor) -> Tensor:
    """Unit quaternions [..., 4] -> [..., 3, 3] whose last two axes are (row, column)."""
    x, y, z, w = quat_xyzw.unbind(-1)
    columns = (
        torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)), dim=-1),
        torch.stack((2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)), dim=-1),
        torch.stack((2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)), dim=-1),
    )
    return torch.stack(columns, dim=-1)
