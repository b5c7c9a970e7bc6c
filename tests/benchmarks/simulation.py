"""Speed and faithfulness of the simulated arm: ``python -m tests.benchmarks.simulation [seeds]``.

Keys of the JSON line:
  steps_per_s_lift       20 Hz control steps per second of the lift env under its expert, without cameras or resets
  physics_steps_per_s    bare mj_step per second from the states those episodes went through, torque held for a step
  fraction_of_bare_physics  steps_per_s_lift * 25 / physics_steps_per_s, the two measured in turns
  control_us             what the servo adds to one 500 Hz tick at rest, in microseconds (median over turns)
  render_fps_fast        images per second, two cameras at 96 px, fast profile (collision meshes, no shadows)
  render_fps_full        the same with visual meshes, shadows and multisampling
  expert_success         share of lift episodes the scripted expert solves, seeds from 0
  expert_reach_success   the same for reach
  expert_steps           mean length of the lift episodes
  tracking_error_mm      largest distance between reference and TCP on a circle of 10 cm at 0.25 m/s
  settle_error_mm        distance 0.5 s after a jump of 2 cm
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

from robot_rl.apps.main import compose, instantiate
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import ActContext, Observation, ResetRequest, TargetChunk

STEP_NS = 50_000_000
TURNS = 7


def build(task: str, *overrides: str) -> tuple[Any, Any]:
    config = compose("record", [f"task={task}", *overrides])
    return instantiate(config.env), instantiate(config.teleop)


def expert_steps(env: Any, expert: Any, episodes: int = 20) -> tuple[float, float]:
    """Control steps per second without resets, and bare physics steps per second from the same states."""
    spent, bare, steps = 0.0, 0.0, 0
    for seed in range(episodes):
        observation, done, states = env.reset(seed), False, []
        while not done:
            states.append(state(env.robot.physics.data))
            window = {name: observation.state[name][None, None] for name in expert.spec.observation}
            start = time.perf_counter()
            plan = env.anchor(expert.act(window, ActContext.start(1)).actions[0], observation)
            result = env.step(plan)
            spent += time.perf_counter() - start
            observation, done = result.observation, result.terminated or result.truncated
            steps += 1
        bare += sum(coasting_s(env.robot.physics, before) for before in states)
    return steps / spent, 25 * steps / bare


def state(data: Any) -> tuple[np.ndarray, ...]:
    return data.qpos.copy(), data.qvel.copy(), data.qacc_warmstart.copy(), data.ctrl.copy()


def coasting_s(physics: Any, before: tuple[np.ndarray, ...]) -> float:
    """Seconds that one control step of bare physics takes from a state."""
    data = physics.data
    for array, value in zip((data.qpos, data.qvel, data.qacc_warmstart, data.ctrl), before, strict=True):
        array[:] = value
    start = time.perf_counter()
    physics.coast(25)
    return time.perf_counter() - start


def control_s(env: Any, ticks: int = 5000) -> float:
    """Seconds that the servo adds to one tick, at rest beside the cube."""
    env.reset(0)
    physics, servo = env.robot.physics, env.robot.servo.arrays
    start = time.perf_counter()
    physics.advance(servo, ticks)
    with_servo = (time.perf_counter() - start) / ticks
    start = time.perf_counter()
    physics.coast(ticks)
    return with_servo - (time.perf_counter() - start) / ticks


def success(task: str, seeds: int) -> tuple[float, float]:
    env, expert = build(task)
    ends = [run_episode(env, expert, seed=seed) for seed in range(seeds)]
    env.close()
    return float(np.mean([bool(end.success) for end in ends])), float(np.mean([end.length for end in ends]))


def follow(robot: Any, observation: Observation, positions: np.ndarray) -> tuple[Observation, list[float]]:
    """Errors [m] at the end of each step of a plan of positions [H, 3]."""
    pose = np.repeat(observation.state["arm0/tcp_pose"][None].astype(float), len(positions), axis=0)
    pose[:, 3:] = [1.0, 0.0, 0.0, 0.0]
    pose[:, :3] = positions
    errors = []
    first = observation.step
    for row in range(len(positions)):
        chunk = TargetChunk({"arm0/tcp": pose[row : row + 8]}, first + row, observation.stamp_ns)
        robot.command(chunk)
        robot.clock.wait_until(observation.stamp_ns + STEP_NS)
        observation = robot.read()
        report = observation.report
        assert report is not None
        errors.append(float(np.linalg.norm(report.executed["arm0/tcp"][:3] - observation.state["arm0/tcp_pose"][:3])))
    return observation, errors


def tracking(env: Any) -> tuple[float, float]:
    robot = env.robot
    observation = robot.reset(ResetRequest())
    centre, radius, speed = observation.state["arm0/tcp_pose"][:3] + np.array([0.1, 0, 0]), 0.1, 0.25
    time_s = np.arange(1, 121) * 0.05
    angle = speed / radius * np.where(time_s < 1.0, 0.5 * time_s**2, time_s - 0.5)  # one second to get up to speed
    circle = centre - radius * np.stack((np.cos(angle), np.sin(angle), 0 * angle), axis=1)
    _, errors = follow(robot, observation, circle)
    observation = robot.reset(ResetRequest())
    goal = observation.state["arm0/tcp_pose"][:3] + np.array([0.0, 0.0, 0.02])
    observation, _ = follow(robot, observation, np.repeat(goal[None], 10, axis=0))
    return max(errors), float(np.linalg.norm(observation.state["arm0/tcp_pose"][:3] - goal))


def render_fps(profile: str, images: int) -> float:
    env, _ = build("lift", "camera=front_wrist", f"camera.profile={profile}")
    robot = env.robot
    observation = env.reset(0)
    start, seen = time.perf_counter(), 0
    while seen < images:
        robot.renderer.pixels(robot.physics.data)
        seen += len(observation.frames)
    fps = seen / (time.perf_counter() - start)
    env.close()
    return fps


def main(seeds: int = 100) -> dict[str, float]:
    env, expert = build("lift")
    expert_steps(env, expert, 2)  # warm
    turns = [(*expert_steps(env, expert), control_s(env)) for _ in range(TURNS)]
    steps, physics, control = np.median(turns, axis=0)
    error, settled = tracking(env)
    env.close()
    lift, length = success("lift", seeds)
    return {
        "steps_per_s_lift": round(float(steps), 1),
        "physics_steps_per_s": round(float(physics)),
        "fraction_of_bare_physics": round(float(np.median([25 * turn[0] / turn[1] for turn in turns])), 3),
        "control_us": round(float(control) * 1e6, 2),
        "render_fps_fast": round(render_fps("fast", 400), 1),
        "render_fps_full": round(render_fps("full", 20), 1),
        "expert_success": lift,
        "expert_reach_success": success("reach", seeds)[0],
        "expert_steps": round(length, 1),
        "tracking_error_mm": round(1e3 * error, 2),
        "settle_error_mm": round(1e3 * settled, 2),
    }


if __name__ == "__main__":
    print(json.dumps(main(*(int(word) for word in sys.argv[1:2]))))
