"""A task, a policy and a listener whose numbers show which step and which decision an action came from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from robot_rl.robots.fake import FakeRobot
from robot_rl.runtime.env import RobotEnv
from robot_rl.types import (
    ActContext,
    ActionChunk,
    ActionKind,
    ActionPart,
    ActionSpec,
    Array,
    Arrays,
    ArraySpec,
    Decision,
    EnvSpec,
    EpisodeEnd,
    Judgement,
    Observation,
    PolicySpec,
    ResetRequest,
    StepRow,
)

GRIPPER = ActionPart("arm0/gripper", ActionKind.GRIPPER, (0,), (1,))
POSITION = ActionSpec((ActionPart("arm0/tcp", ActionKind.TCP_POSITION, (-1,) * 3, (1,) * 3, "m", "base"), GRIPPER))
DELTA = ActionSpec(
    (ActionPart("arm0/tcp", ActionKind.TCP_POSITION_DELTA, (-0.05,) * 3, (0.05,) * 3, "m", "base"), GRIPPER)
)
UNIT_M = 1 / 1024  # steps and decisions are counted in it: exact in float32


@dataclass(frozen=True)
class ReachTask:
    """Success, which ends, once the TCP is at or beyond ``goal_x_m``; the reward is 0 or 1."""

    goal_x_m: float = 10.0
    name: str = "reach_x"
    requires: frozenset[str] = frozenset({"arm0/tcp_pose"})

    def reset_request(self, seed: int) -> ResetRequest:
        return ResetRequest(tcp_pose=np.array([0.0, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0]), seed=seed)

    def judge(self, observation: Observation, action: Array, next_observation: Observation) -> Judgement:
        reached = bool(next_observation.state["arm0/tcp_pose"][0] >= self.goal_x_m)
        return Judgement(float(reached), success=reached, terminated=reached)


@dataclass
class CountingPolicy:
    """Row j of decision d made at step s commands x = s + j and y = d, in ``UNIT_M``; remembers its contexts."""

    env_spec: EnvSpec
    horizon: int = 4
    execute: int = 2
    history: int = 1
    records: bool = False
    contexts: list[ActContext] = field(default_factory=list)
    windows: list[Arrays] = field(default_factory=list)

    @property
    def spec(self) -> PolicySpec:
        record = {"base_action": ArraySpec((self.env_spec.action.size,))} if self.records else {}
        observed = {name: self.env_spec.observation[name] for name in ("arm0/tcp_pose",)}
        return PolicySpec(observed, self.env_spec.action, self.history, self.horizon, self.execute, record)

    def reset(self, rows: Array, seeds: Array) -> None:
        self.contexts.clear()
        self.windows.clear()

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        actions = np.zeros((len(context.step), self.horizon, self.env_spec.action.size), dtype=np.float32)
        actions[..., 0] = (context.step[:, None] + np.arange(self.horizon)) * UNIT_M
        actions[..., 1] = len(self.contexts) * UNIT_M
        actions[..., 2] = 0.25
        self.contexts.append(context)
        self.windows.append(window)
        noise = np.full((len(context.step), 3), len(self.contexts), dtype=np.float32)
        record = {"base_action": actions + np.float32(1.0)} if self.records else {}
        return ActionChunk(actions, self.execute, record, {"noise": noise}, version=len(self.contexts))


@dataclass
class Tape:
    """Listener that keeps everything; ``fail_at`` raises in that step, ``fail_at_end`` in on_end."""

    fail_at: int | None = None
    fail_at_reset: bool = False
    fail_at_end: bool = False
    rows: list[StepRow] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    ends: list[tuple[StepRow, EpisodeEnd]] = field(default_factory=list)

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None:
        if self.fail_at_reset:
            raise OSError("on_reset failed")

    def on_decision(self, decision: Decision) -> None:
        self.decisions.append(decision)

    def on_step(self, row: StepRow) -> None:
        if row.observation.step == self.fail_at:
            raise OSError("on_step failed")
        self.rows.append(row)

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None:
        self.ends.append((final, end))
        if self.fail_at_end:
            raise OSError("on_end failed")


def counting_env(max_steps: int = 12, action: ActionSpec = POSITION, goal_x_m: float = 10.0) -> RobotEnv:
    """The fake arm at 20 simulated Hz under ReachTask."""
    return RobotEnv(FakeRobot(), ReachTask(goal_x_m), action, max_steps)
