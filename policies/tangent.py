"""Corrections of actions: which components they change, by how much at most, and how they are added.

A correction is a vector [R] in [-1, 1]. Positions and joint angles are added to; rotations are turned, by a rotation
vector in the base frame; grippers are left alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.types import ActionKind, ActionSpec

_ROTATION_LIMIT_RAD = 1.0  # stands in for the limits of an absolute rotation, which are those of a quaternion


class Tangent:
    """Corrections of actions of ``spec``.

    Args:
        fraction: the largest correction of a component, as a share of half its range in the spec.
        least: the largest correction is no smaller than this, in the component's unit.

    Raises ConfigError when nothing is left to be corrected.
    """

    def __init__(self, spec: ActionSpec, fraction: float, least: float) -> None:
        if not 0.0 < fraction <= 1.0 or least < 0.0:
            raise ConfigError(f"fraction={fraction}, least={least}", limit="above 0 and at most 1, at least 0")
        self._added: list[tuple[int, int]] = []  # (component of the action, of the correction)
        self._turned: list[tuple[int, int]] = []  # first components of a quaternion and of a rotation vector
        largest: list[float] = []
        for part in spec.parts:
            at, reach = spec.slices[part.name].start, [(b - a) / 2 for a, b in zip(part.low, part.high, strict=True)]
            if part.kind is ActionKind.GRIPPER:
                continue
            added = 3 if part.kind is ActionKind.TCP_POSE else part.size
            self._added += [(at + i, len(largest) + i) for i in range(added)]
            largest += reach[:added]
            if part.kind is ActionKind.TCP_POSE:
                self._turned.append((at + 3, len(largest)))
                largest += [_ROTATION_LIMIT_RAD] * 3
        if not largest:
            raise ConfigError("an action of grippers alone has nothing to correct")
        self.size = len(largest)
        self.scale = torch.tensor([max(fraction * value, least) for value in largest])
        self._place = torch.zeros(self.size, spec.size)  # a product with it costs less than indexing, and is exact
        for component, step in self._added:
            self._place[step, component] = 1.0

    def corrected(self, action: Tensor, by: Tensor) -> Tensor:
        """Physical actions [..., A] moved by corrections [..., R]."""
        step = by * self.scale.to(by)
        moved = action + step @ self._place.to(by)
        for q, r in self._turned:
            turned = _product(_exponential(step[..., r : r + 3]), action[..., q : q + 4])
            moved = torch.cat((moved[..., :q], turned, moved[..., q + 4 :]), dim=-1)
        return moved

    def between(self, action: Tensor, target: Tensor) -> Tensor:
        """The corrections [..., R], clipped to [-1, 1], that bring actions [..., A] as near to targets as they can."""
        step = (target - action) @ self._place.to(action).T
        for q, r in self._turned:
            inverse = action[..., q : q + 4] * action.new_tensor([-1.0, -1.0, -1.0, 1.0])
            vector = _logarithm(_product(target[..., q : q + 4], inverse))
            step = torch.cat((step[..., :r], vector, step[..., r + 3 :]), dim=-1)
        return (step / self.scale.to(action)).clamp(-1.0, 1.0)


def _exponential(vector: Tensor) -> Tensor:
    """Rotation vectors [..., 3] [rad] -> quaternions xyzw [..., 4], differentiable at 0."""
    squared = vector.square().sum(dim=-1, keepdim=True)
    small = squared < 1e-8
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    factor = torch.where(small, 0.5 - squared / 48.0, torch.sin(angle / 2) / angle)
    real = torch.where(small, 1.0 - squared / 8.0, torch.cos(angle / 2))
    return torch.cat((vector * factor, real), dim=-1)


def _logarithm(quat_xyzw: Tensor) -> Tensor:
    """Inverse of ``_exponential``, by the shorter way."""
    quat = torch.where(quat_xyzw[..., 3:] < 0.0, -quat_xyzw, quat_xyzw)
    length = quat[..., :3].norm(dim=-1, keepdim=True)
    angle = 2.0 * torch.atan2(length, quat[..., 3:])
    return quat[..., :3] * torch.where(length < 1e-6, torch.full_like(length, 2.0), angle / length.clamp(min=1e-12))


def _product(left_xyzw: Tensor, right_xyzw: Tensor) -> Tensor:
    x, y, z, w = left_xyzw.unbind(dim=-1)
    a, b, c, d = right_xyzw.unbind(dim=-1)
    return torch.stack(
        (
            w * a + x * d + y * c - z * b,
            w * b - x * c + y * d + z * a,
            w * c + x * b - y * a + z * d,
            w * d - x * a - y * b - z * c,
        ),
        dim=-1,
    )
