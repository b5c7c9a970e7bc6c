"""A policy that decides on what a robot sees, while the robot stays where it is."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from robot_rl.geometry import geodesic_angle
from robot_rl.interfaces import Env, Policy, Robot
from robot_rl.runtime.set_points import measured_targets
from robot_rl.runtime.window import ObservationWindow, check_inputs
from robot_rl.types import ActContext, ActionKind, Array, Arrays, Observation, target_kind


@dataclass(frozen=True)
class DryRun:
    """What was seen and decided. The first decision, which may load and compile, is told apart."""

    observed_hz: float
    late: int  # observations that were not there a step later
    frames_hz: dict[str, float]
    first_ms: float
    latency_p50_ms: float
    latency_max_ms: float
    jump_m: float  # from what is measured to the first target, the largest
    jump_rad: float
    at_limits: float  # share of components of actions at or beyond the limits
    finite: bool


def dry_run(env: Env, robot: Robot, policy: Policy, steps: int) -> DryRun:
    """Let ``policy`` decide at ``steps`` observations of ``robot``, the arm of ``env``, and send nothing.

    Raises SpecMismatchError when policy and env do not fit, and what the robot raises when it cannot be read.
    """
    check_inputs(policy.spec, env.spec)
    window, period_ns = ObservationWindow(policy.spec), env.spec.step_period_ns
    first_ms = _decide(policy, window, robot.read(), 0)[0]  # loads and compiles: not part of what is measured
    window.reset()
    seen: list[Observation] = []
    decisions: list[tuple[float, Array]] = []
    jumps: list[tuple[float, float]] = []
    due_ns, late = env.clock.now_ns(), 0
    for step in range(steps):
        observation = robot.read()
        late += bool(seen) and observation.stamp_ns <= seen[-1].stamp_ns
        seen.append(observation)
        latency_ms, actions = _decide(policy, window, observation, step)
        decisions.append((latency_ms, actions))
        jumps.append(_jump(env, actions, observation) if np.isfinite(actions).all() else (np.inf, np.inf))
        due_ns = max(due_ns, env.clock.now_ns() - period_ns) + period_ns
        env.clock.wait_until(due_ns)
    latencies = np.array([ms for ms, _ in decisions])
    actions = np.concatenate([each for _, each in decisions])
    low, high = env.spec.action.bounds
    span_s = max(1e-9 * (seen[-1].stamp_ns - seen[0].stamp_ns), 1e-9)
    return DryRun(
        observed_hz=(steps - 1 - late) / span_s,
        late=late,
        frames_hz={name: _frames(seen, name) / span_s for name in env.spec.cameras},
        first_ms=first_ms,
        latency_p50_ms=float(np.median(latencies)),
        latency_max_ms=float(latencies.max()),
        jump_m=max(metres for metres, _ in jumps),
        jump_rad=max(radians for _, radians in jumps),
        at_limits=float(((actions <= low) | (actions >= high)).mean()),
        finite=bool(np.isfinite(actions).all()),
    )


def _decide(policy: Policy, window: ObservationWindow, observation: Observation, step: int) -> tuple[float, Array]:
    """How long a decision took [ms], and its plan [H, A]."""
    window.push(observation)
    context = ActContext.start(1)
    context.step[0] = step
    if step == 0:
        policy.reset(np.array([0]), np.array([0]))
    began = time.perf_counter()
    actions = policy.act(window.arrays(), context).actions[0]
    return 1e3 * (time.perf_counter() - began), actions


def _frames(seen: list[Observation], camera: str) -> int:
    """How many new pictures there were after the first."""
    return len({o.frames[camera].sequence for o in seen if camera in o.frames}) - 1


def _jump(env: Env, actions: Array, observation: Observation) -> tuple[float, float]:
    """How far the first target is from what is measured [m, rad]."""
    measured = measured_targets(env.spec.action, observation)
    targets: Arrays = env.anchor(actions[:1], observation).targets
    metres = radians = 0.0
    for part in env.spec.action.parts:
        kind = target_kind(part.kind)
        if part.name not in measured:
            continue
        here, there = measured[part.name], targets[part.name][0]
        if kind is ActionKind.TCP_POSE:
            metres = max(metres, float(np.linalg.norm(there[:3] - here[:3])))
            radians = max(radians, float(geodesic_angle(here[3:], there[3:])))
        elif kind is ActionKind.JOINT_POSITION:
            radians = max(radians, float(np.abs(there - here).max()))
    return metres, radians
