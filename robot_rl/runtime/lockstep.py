"""Many envs stepped side by side in one process, for one batched policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from robot_rl.interfaces import Env, Policy
from robot_rl.runtime.chunk_execution import ChunkExecution
from robot_rl.runtime.scores import EpisodeScore
from robot_rl.runtime.tally import EpisodeTally
from robot_rl.runtime.window import ObservationWindow, check_inputs
from robot_rl.types import ActContext, Array


class _Lane:
    """One env of a lockstep evaluation and its row of the batch."""

    def __init__(self, env: Env, policy: Policy) -> None:
        self.env, self.window = env, ObservationWindow(policy.spec)
        self.running = False

    def start(self, seed: int, *, running: bool) -> None:
        self.seed, self.running = seed, running
        self.execution = ChunkExecution(self.env)
        self.observation = self.env.reset(seed)
        self.window.reset()
        self.window.push(self.observation)
        self.tally = EpisodeTally()

    def due(self) -> bool:
        return self.running and self.execution.observe(self.observation)

    def step(self) -> None:
        result = self.env.step(self.execution.plan(self.observation))
        self.observation = result.observation
        self.window.push(result.observation)
        self.tally.add(result)
        self.running = not self.tally.reason

    def score(self) -> EpisodeScore:
        tally = self.tally
        return EpisodeScore(self.seed, tally.success, tally.best_reward, tally.total_reward, tally.length, tally.reason)


def run_in_lockstep(envs: Sequence[Env], policy: Policy, seeds: Sequence[int]) -> Iterator[EpisodeScore]:
    """One episode per seed, ``len(envs)`` at a time, with one policy call per replanning round.

    The batch always has ``len(envs)`` rows; those of finished episodes stay in it, so that the numbers of a row do not
    depend on when the others end. Scores come in the order of the seeds, a group at a time.
    """
    check_inputs(policy.spec, envs[0].spec)
    lanes = [_Lane(env, policy) for env in envs]
    for first in range(0, len(seeds), len(lanes)):
        group = seeds[first : first + len(lanes)]
        padded = [*group, *[group[-1]] * (len(lanes) - len(group))]
        policy.reset(np.arange(len(lanes)), np.array(padded))
        for index, (lane, seed) in enumerate(zip(lanes, padded, strict=True)):
            lane.start(seed, running=index < len(group))
        try:
            while any(lane.running for lane in lanes):
                _round(lanes, policy)
        except BaseException:
            for lane in lanes:
                lane.env.stop()
            raise
        yield from (lane.score() for lane in lanes[: len(group)])


def _round(lanes: Sequence[_Lane], policy: Policy) -> None:
    """One control step of every running lane, after one policy call for those that need a new chunk."""
    due = [lane.due() for lane in lanes]
    if any(due):
        chunk = policy.act(_stacked(lanes), _context(lanes))
        for row, lane in enumerate(lanes):
            if due[row]:
                lane.execution.accept(chunk, lane.observation, row)
    for lane in lanes:
        if lane.running:
            lane.step()


def _stacked(lanes: Sequence[_Lane]) -> dict[str, Array]:
    windows = [lane.window.arrays() for lane in lanes]
    return {name: np.concatenate([window[name] for window in windows]) for name in windows[0]}


def _context(lanes: Sequence[_Lane]) -> ActContext:
    step = np.array([lane.observation.step for lane in lanes])
    executed = np.array([lane.execution.executed_since_plan(lane.observation.step) for lane in lanes])
    return ActContext(
        step, executed, np.zeros(len(lanes), dtype=np.int64), np.array([lane.execution.takeover for lane in lanes])
    )
