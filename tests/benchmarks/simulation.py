"""Speed of the simulated arm against robosuite's and against bare physics: ``python -m tests.benchmarks.simulation``.

Ours and robosuite's Lift with a Panda under operational-space control of the whole pose, 20 Hz control and 500 Hz
physics on either side, no renderer, no cameras, no resets in the time. Ours runs the actions its expert chose,
robosuite's (defaults of 1.5, its "lite physics") random ones of half the range. All are measured in turns in one run;
values are medians over the turns. What runs in one thread is measured in time of its
processor, the vector against the clock.

Keys of the JSON line:
  steps_per_s_lift           control steps per second of one env: plan anchored, stepped, judged; without the expert
  steps_per_s_robosuite_lift the same of robosuite's env.step
  ratio_vs_robosuite         the first over the second (median of the turns' ratios)
  fraction_of_bare_physics   time of bare mj_step from the states those steps began with over time of those steps.
                             These hold all that an env does: plan anchored and checked, arbiter, safety chain and law
                             at 500 Hz, measurement, judgement, actions expressed for the record. Bare physics runs
                             right after each episode, not between its steps, where each would run from cold caches
  fraction_default_action    the same under the action that lift has by default, which turns nothing
  fraction_with_expert       the first fraction with the expert's time added to that of the steps
  expert_us                  what the scripted expert takes for one step, in microseconds
  vector_steps_per_s         control steps per second of all envs of one ThreadedVectorEnv
  vector_envs, vector_threads  how many envs, on how many threads (one per core)
  vector_ratio               vector_steps_per_s over that of one env alone in the same steps
  control_us                 what law and safety chain add to one 500 Hz tick while the arm moves, in microseconds
  python_us                  what is left of a step besides physics and control, in microseconds
  render_fps_fast            images per second of one core, two cameras at 96 px, fast profile
  render_fps_full            the same with the full profile
  spread                     key -> [smallest, largest] over the turns
  expert_success             with an argument ``experts=<seeds>``: task -> share of episodes that its expert solves
"""

# pyright: reportAttributeAccessIssue=false, reportMissingImports=false
from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from robot_rl.apps.main import compose, instantiate
from robot_rl.data.formats.robosuite_view import quiet_robosuite
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import ActContext, Array, Observation
from sim.physics import Physics
from sim.vector_env import ThreadedVectorEnv
from tests.contracts.options import options

TURNS, EPISODES, ROBOSUITE_STEPS = 7, 6, 80
TICKS = 25  # of physics in a control step
VECTOR_ENVS, VECTOR_STEPS = 8, 20  # no episode of the expert ends within so few steps
CAMERAS = ("camera=front_wrist",)
STATE = ("qpos", "qvel", "qacc_warmstart", "ctrl", "mocap_pos", "mocap_quat")


def build(task: str, *overrides: str) -> tuple[Any, Any]:
    config = compose("record", [f"task={task}", *overrides])
    return instantiate(config.env), instantiate(config.teleop)


# --- one env, bare physics, the servo -----------------------------------------------------------------------------


class Stopwatch:
    """Calls a function and adds up how long it keeps the processor busy: on idle cores that is how long it takes, and
    on busy ones the wait for a core does not count."""

    def __init__(self, function: Callable[..., Any], clock: Callable[[], float] = time.thread_time) -> None:
        self._function, self._clock, self.total_s = function, clock, 0.0

    def __call__(self, *arguments: Any) -> Any:
        start = self._clock()
        try:
            return self._function(*arguments)
        finally:
            self.total_s += self._clock() - start


def single(env: Any, expert: Any, seeds: range) -> dict[str, float]:
    """Mean microseconds of a control step and of its parts: ``step``, ``expert``, ``advance`` (physics with the servo),
    ``bare`` (physics alone, after each episode, from the states that its steps began with)."""
    physics, spare = env.robot.physics, Physics(env.robot.physics.built)
    act, step = Stopwatch(partial(chosen, expert)), Stopwatch(partial(stepped, env))
    bare, advance = Stopwatch(partial(spare.coast, TICKS)), Stopwatch(physics.advance)
    count = 0
    for seed in seeds:
        observation, done, begun = env.reset(seed), False, []
        physics.advance = advance
        while not done:
            begun.append([getattr(physics.data, name).copy() for name in STATE])
            result = step(act(observation), observation)
            observation, done = result.observation, result.terminated or result.truncated
        del physics.advance  # resets are not counted
        for state in begun:
            for name, value in zip(STATE, state, strict=True):
                getattr(spare.data, name)[:] = value
            bare()
        count += len(begun)
    watches = {"step": step, "expert": act, "advance": advance, "bare": bare}
    return {name: 1e6 * watch.total_s / count for name, watch in watches.items()}


def chosen(expert: Any, observation: Observation) -> Array:
    """The expert's plan [1, A]."""
    window = {name: observation.state[name][None, None] for name in expert.spec.observation}
    return expert.act(window, ActContext.start(1)).actions[0]


def stepped(env: Any, plan: Array, observation: Observation) -> Any:
    return env.step(env.anchor(plan, observation))


# --- many envs ----------------------------------------------------------------------------------------------------


def recorded(env: Any, expert: Any, seed: int) -> Array:
    """The expert's first actions [T, A] of an episode."""
    observation, actions = env.reset(seed), []
    for _ in range(VECTOR_STEPS):
        actions.append(chosen(expert, observation)[0])
        observation = stepped(env, actions[-1][None], observation).observation
    return np.array(actions)


def vector_rates(envs: ThreadedVectorEnv, env: Any, actions: Array) -> tuple[float, float]:
    """Control steps per second of the vector and of one env alone, over the same episodes ``actions`` [N, T, A]."""
    envs.reset(seed=0)
    start = time.perf_counter()
    for step in range(VECTOR_STEPS):
        _, _, terminations, truncations, _ = envs.step(actions[:, step])
        assert not (terminations | truncations).any()
    together, alone = time.perf_counter() - start, Stopwatch(partial(stepped, env), time.perf_counter)
    for seed in range(len(actions)):
        observation = env.reset(seed)
        for action in actions[seed]:
            observation = alone(action[None], observation).observation
    count = len(actions) * VECTOR_STEPS
    return count / together, count / alone.total_s


# --- robosuite ----------------------------------------------------------------------------------------------------


def robosuite_lift() -> Any:
    """robosuite's Lift as users make it, without pictures."""
    with quiet_robosuite():
        import robosuite

        env = robosuite.make(
            "Lift", robots="Panda", has_renderer=False, has_offscreen_renderer=False, use_camera_obs=False,
            control_freq=20, ignore_done=True,
        )  # fmt: skip
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)  # it tells of every model it loads
    env.reset()
    assert env.sim.model.opt.timestep == 1.0 / (20 * TICKS)
    assert env.robots[0].part_controllers["right"].name == "OSC_POSE"
    return env


def robosuite_rate(env: Any, rng: np.random.Generator) -> float:
    """Control steps per second under random actions of half the range, from a fresh start."""
    env.reset()
    low, high = env.action_spec
    step = Stopwatch(env.step)
    for _ in range(ROBOSUITE_STEPS):
        step(rng.uniform(0.5 * low, 0.5 * high))
    return ROBOSUITE_STEPS / step.total_s


# --- pictures -----------------------------------------------------------------------------------------------------


def render_fps(profile: str, images: int) -> float:
    """Images per second of one core: software OpenGL may use several, so their time counts where it is longer."""
    env, _ = build("lift", *CAMERAS, f"camera.profile={profile}")
    robot, cameras = env.robot, len(env.reset(0).frames)
    robot.renderer.pixels(robot.physics.data)  # warm
    start, worked = time.perf_counter(), time.process_time()
    for _ in range(0, images, cameras):
        robot.renderer.pixels(robot.physics.data)
    spent_s = max(time.perf_counter() - start, time.process_time() - worked)
    env.close()
    return images / spent_s


# --- experts ------------------------------------------------------------------------------------------------------


def expert_success(seeds: int) -> dict[str, float]:
    """Share of episodes that each task's scripted expert solves, seeds from 0."""
    rates = {}
    for task in options("task"):
        if compose("record", [f"task={task}", "teleop=scripted"]).get("expert") is None:
            continue
        env, expert = build(task, "teleop=scripted")
        rates[task] = float(np.mean([bool(run_episode(env, expert, seed=seed).success) for seed in range(seeds)]))
        env.close()
    return rates


def main(experts: int = 0) -> dict[str, Any]:
    (env, expert), (plain, its_expert) = build("lift", "action=tcp_delta"), build("lift")
    theirs = robosuite_lift()
    envs = ThreadedVectorEnv([lambda: build("lift", "action=tcp_delta")[0]] * VECTOR_ENVS)
    actions = np.array([recorded(env, expert, seed) for seed in range(VECTOR_ENVS)])
    rng, turns = np.random.default_rng(0), []
    for turn in range(TURNS + 1):  # the first one warms up
        seeds = range(turn * EPISODES, (turn + 1) * EPISODES)
        mean_us, by_default = single(env, expert, seeds), single(plain, its_expert, seeds)
        together, alone = vector_rates(envs, env, actions)
        turn_figures = figures(mean_us, robosuite_rate(theirs, rng), together, alone)
        turns.append({**turn_figures, "fraction_default_action": by_default["bare"] / by_default["step"]})
    for part in (env, plain, envs, theirs):
        part.close()
    turns = turns[1:]
    result: dict[str, Any] = {key: _rounded(np.median([turn[key] for turn in turns])) for key in turns[0]}
    result |= {"vector_envs": VECTOR_ENVS, "vector_threads": os.cpu_count()}
    result |= {
        "render_fps_fast": _rounded(render_fps("fast", 400)),
        "render_fps_full": _rounded(render_fps("full", 20)),
    }
    result["spread"] = {key: [_rounded(f(turn[key] for turn in turns)) for f in (min, max)] for key in turns[0]}
    return result | ({"expert_success": expert_success(experts)} if experts else {})


def figures(mean_us: dict[str, float], robosuite: float, together: float, alone: float) -> dict[str, float]:
    """The keys of one turn."""
    step, bare = mean_us["step"], mean_us["bare"]
    return {
        "steps_per_s_lift": 1e6 / step,
        "steps_per_s_robosuite_lift": robosuite,
        "ratio_vs_robosuite": 1e6 / step / robosuite,
        "fraction_of_bare_physics": bare / step,
        "fraction_with_expert": bare / (step + mean_us["expert"]),
        "expert_us": mean_us["expert"],
        "vector_steps_per_s": together,
        "vector_ratio": together / alone,
        "control_us": (mean_us["advance"] - bare) / TICKS,
        "python_us": step - mean_us["advance"],
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


if __name__ == "__main__":
    print(json.dumps(main(**{key: int(value) for key, value in (word.split("=") for word in sys.argv[1:])})))
