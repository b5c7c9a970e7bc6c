"""A device as an Intervention: its axes become actions of any kind that moves a TCP."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from robot_rl.errors import ConfigError, valid_choices
from robot_rl.geometry import poses_after, quat_xyzw_rotate
from robot_rl.runtime.action_targets import express
from robot_rl.runtime.handover import Handover
from robot_rl.runtime.set_points import targets_in_force
from robot_rl.teleop.device import EVENTS, Device, Key
from robot_rl.types import ActionKind, ActionSpec, Array, EnvSpec, EpisodeEvent, Observation, Phase, target_kind

FRAMES = ("base", "tool")
_FASTER, _LEAST = 1.25, 0.1


class Speed:
    """Normalised axes to a twist [6], m/s and rad/s, in the base frame; shared by loop and ROS node.

    Args:
        max_speed_m_s, max_rate_rad_s: of a full axis.
        dead_zone: share of an axis around its rest that counts for nothing; the rest of it is spread over 0..1.
        frame: in which the axes are, ``base`` or ``tool``; the key FRAME changes it, FASTER and SLOWER scale.
    """

    def __init__(
        self, max_speed_m_s: float = 0.1, max_rate_rad_s: float = 0.5, dead_zone: float = 0.0, frame: str = "base"
    ) -> None:
        if not (0.0 < max_speed_m_s < math.inf and 0.0 < max_rate_rad_s < math.inf and 0.0 <= dead_zone < 1.0):
            raise ConfigError(
                f"max_speed_m_s={max_speed_m_s}, max_rate_rad_s={max_rate_rad_s}, dead_zone={dead_zone}",
                limit="above 0, above 0, 0 up to 1",
            )
        if frame not in FRAMES:
            raise ConfigError(f"frame={frame}", remedy=valid_choices(frame, FRAMES))
        self.frame, self.scale = frame, 1.0
        self._most = np.repeat([max_speed_m_s, max_rate_rad_s], 3)
        self._dead_zone = dead_zone

    def press(self, key: Key) -> None:
        """Take a key that concerns speed or frame; any other changes nothing."""
        if key is Key.FRAME:
            self.frame = FRAMES[1 - FRAMES.index(self.frame)]
        elif key is Key.FASTER:
            self.scale = min(1.0, self.scale * _FASTER)
        elif key is Key.SLOWER:
            self.scale = max(_LEAST, self.scale / _FASTER)

    def twist(self, axes: Array) -> Array:
        """The twist [6] of ``axes`` [6], in ``frame``."""
        beyond = np.clip(np.abs(axes), 0.0, 1.0) - self._dead_zone
        return np.sign(axes) * np.maximum(beyond, 0.0) / (1.0 - self._dead_zone) * self._most * self.scale

    def in_base(self, twist: Array, tool_xyzw: Array) -> Array:
        """``twist`` [6] of ``frame`` in the base frame, the tool being turned by ``tool_xyzw`` [4]."""
        if self.frame == "base":
            return twist
        return np.concatenate([quat_xyzw_rotate(tool_xyzw, twist[:3]), quat_xyzw_rotate(tool_xyzw, twist[3:])])


class Steering:
    """An Intervention by a device. Raises ConfigError for an action that moves no TCP.

    ``step_rate_hz`` is the control rate: an axis held for a step moves the target in force by its speed times that
    step. A press of a gripper key opens or closes as of the measured opening.
    """

    def __init__(self, device: Device, action: ActionSpec, step_rate_hz: float, speed: Speed) -> None:
        self.device, self.speed = device, speed
        self._action, self._period_s = action, 1.0 / step_rate_hz
        self._tcp = _part(action, ActionKind.TCP_POSE)
        self._gripper = _part(action, ActionKind.GRIPPER)
        if self._tcp is None:
            raise ConfigError(
                f"no part of the action moves a TCP: {[part.name for part in action.parts]}",
                remedy="A device needs action=tcp_delta or the like",
            )
        self._events: list[EpisodeEvent] = []
        self._grasp: Key | None = None  # pressed since the last action
        self._opening: float | None = None  # as the person wants it; None: as it is

    @property
    def age_s(self) -> float:
        return self.device.age_s

    def reset(self, seed: int) -> None:
        """Whatever was pressed before is void."""
        self.device.poll()
        self.device.release()
        self._events, self._grasp, self._opening = [], None, None

    def events(self) -> Sequence[EpisodeEvent]:
        """Keys about the episode since the last call."""
        self._poll()
        told, self._events = self._events, []
        return told

    def action(self, observation: Observation) -> Array | None:
        """The action [A] of this step; None while nothing is pressed."""
        self._poll()
        axes, grasp = self.device.motion(observation.stamp_ns), self._grasp
        self._grasp = None
        if axes is None and (grasp is None or self.device.dead_man):
            return None
        twist = self.speed.twist(np.zeros(6) if axes is None else axes)
        if grasp is None and not self.device.dead_man and not twist.any():
            return None
        targets = dict(in_force := targets_in_force(self._action, observation, Phase.HUMAN))
        assert self._tcp is not None
        pose = in_force[self._tcp]
        step = self._period_s * self.speed.in_base(twist, pose[3:])
        targets[self._tcp] = poses_after(pose, step[None])[0]
        if self._gripper is not None:
            self._take_grip(grasp, in_force[self._gripper])
            if self._opening is not None:
                targets[self._gripper] = np.array([self._opening])
        return express(self._action, targets, in_force)

    def wait(self, timeout_s: float) -> None:
        """Until something is pressed, at most so long; may return early."""
        self.device.wait(timeout_s)

    def close(self) -> None:
        """Let go of the device."""
        self.device.close()

    def _poll(self) -> None:
        for key in self.device.poll():
            if key is Key.STOP:
                self.device.release()
            if key in EVENTS:
                self._events.append(EVENTS[key])
            elif key in (Key.GRIPPER, Key.OPEN, Key.CLOSE):
                self._grasp = key
            else:
                self.speed.press(key)

    def _take_grip(self, key: Key | None, in_force: Array) -> None:
        if key is not None:
            self._opening = opening_after(key, float(in_force[0]) if self._opening is None else self._opening)


def opening_after(key: Key, opening: float) -> float:
    """What a gripper of that opening shall have after a gripper key: 1 open, 0 closed."""
    if key is Key.GRIPPER:
        return 0.0 if opening > 0.5 else 1.0
    return float(key is Key.OPEN)


def steered(
    device: Device,
    spec: EnvSpec,
    *,
    max_speed_m_s: float = 0.1,
    max_rate_rad_s: float = 0.5,
    dead_zone: float = 0.0,
    frame: str = "base",
    hand_back_s: float = 0.1,
    dead_man: bool = False,
    silent_s: float = 0.25,
    most_steps: int | None = None,
    keeps_arm: bool = False,
) -> Handover:
    """A person with ``device`` at the arm of ``spec``; arguments as of Speed and Handover."""
    speed = Speed(max_speed_m_s, max_rate_rad_s, dead_zone, frame)
    return Handover(
        Steering(device, spec.action, spec.step_rate_hz, speed),
        hand_back_s=hand_back_s,
        dead_man=dead_man,
        silent_s=silent_s,
        most_steps=most_steps,
        keeps_arm=keeps_arm,
    )


def _part(action: ActionSpec, kind: ActionKind) -> str | None:
    return next((part.name for part in action.parts if target_kind(part.kind) is kind), None)
