"""The targets in force: what the next delta is added to."""

from __future__ import annotations

import math

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.types import ActionKind, ActionPart, ActionSpec, Array, Arrays, ArraySpec, Observation, Phase, target_kind

SET_POINT = "_set_point"
_MEASURED_BY = {
    ActionKind.TCP_POSE: "tcp_pose",
    ActionKind.JOINT_POSITION: "joint_position",
    ActionKind.GRIPPER: "gripper_opening",
    ActionKind.POINT: "position",
}


class SetPoints:
    """Targets in force of the parts of ``action``.

    Args:
        max_lead_m: how far the position of a TCP's target may be ahead of the measured one when a step begins. Without
            a limit deltas add up while something holds the arm, and it dashes off when that gives way.
    """

    def __init__(self, action: ActionSpec, max_lead_m: float = math.inf) -> None:
        if not max_lead_m > 0.0:
            raise ConfigError(f"max_lead_m={max_lead_m}", limit="above 0")
        self._action, self._max_lead_m = action, max_lead_m
        self._limited = [
            part.name
            for part in action.parts
            if target_kind(part.kind) is ActionKind.TCP_POSE and math.isfinite(max_lead_m)
        ]

    @property
    def requires(self) -> frozenset[str]:
        """The observations by which the lead is limited."""
        return frozenset(_measured(name, ActionKind.TCP_POSE) for name in self._limited)

    def in_force(self, observation: Observation, source: Phase = Phase.POLICY) -> Arrays:
        """What the robot is held at when ``observation`` is made and ``source`` commands next: {part: [k]}."""
        targets = targets_in_force(self._action, observation, source)
        if not self._limited:
            return targets
        led = dict(targets)
        for name in self._limited:
            measured = observation.state[_measured(name, ActionKind.TCP_POSE)]
            led[name] = _led(led[name], measured, self._max_lead_m)
        return led

    def observed(self, observation: Observation) -> dict[str, Array]:
        """The same as the policy may see it: {``<part>_set_point``: float32 [k]}."""
        targets = self.in_force(observation)
        return {f"{part.name}{SET_POINT}": targets[part.name].astype(np.float32) for part in self._action.parts}

    def specs(self, offered: ActionSpec) -> dict[str, ArraySpec]:
        """Shapes and units of ``observed`` for a robot that takes the parts of ``offered``."""
        taken = {part.name: part for part in offered.parts}
        return {f"{part.name}{SET_POINT}": _spec(taken[part.name]) for part in self._action.parts}


def targets_in_force(action: ActionSpec, observation: Observation, source: Phase = Phase.POLICY) -> Arrays:
    """What the robot is held at when ``observation`` is made and ``source`` commands next: {part: [k]}.

    The safety chain's last set points, so that a limited command does not wind up; the measured state where command
    changes between a human and the policy, and after a reset whose set points are not reported.
    """
    report = observation.report
    if report is None or (report.source is Phase.HUMAN) is not (source is Phase.HUMAN):
        return measured_targets(action, observation)
    for part in action.parts:
        if part.name not in report.executed:
            return {**measured_targets(action, observation), **report.executed}
    return report.executed


def measured_targets(action: ActionSpec, observation: Observation) -> dict[str, Array]:
    """The measured state as absolute targets {part: [k]} of the parts of ``action``."""
    state, targets = observation.state, {}
    for part in action.parts:
        name = _measured(part.name, target_kind(part.kind))
        if name in state:
            targets[part.name] = np.asarray(state[name], dtype=np.float64)
    return targets


def _measured(part: str, kind: ActionKind) -> str:
    return f"{part.split('/')[0]}/{_MEASURED_BY.get(kind, '')}"


def _led(target: Array, measured: Array, limit_m: float) -> Array:
    """Pose ``target`` [7] with its position at most ``limit_m`` from that of ``measured`` [7]."""
    ahead = target[:3] - measured[:3]
    distance = math.sqrt(float(ahead @ ahead))
    if distance <= limit_m:
        return target
    led = np.array(target)
    led[:3] = measured[:3] + ahead * (limit_m / distance)
    return led


def _spec(part: ActionPart) -> ArraySpec:
    unit = part.unit or ("m, quat_xyzw" if target_kind(part.kind) is ActionKind.TCP_POSE else "")
    return ArraySpec((len(part.low),), unit=unit, frame=part.frame)
