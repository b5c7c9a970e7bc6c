"""What every adapter has in common, on a simulator whose numbers are known: a counter that is moved by its action."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from robot_rl.errors import CommandRefusedError, ConfigError, InvalidArrayError, ResetError, SimulationDivergedError
from robot_rl.runtime.frame_codec import decode
from robot_rl.runtime.random_policy import RandomPolicy
from robot_rl.runtime.replay import Restoring
from robot_rl.runtime.rollout import run_episode
from robot_rl.runtime.video import Rendering
from robot_rl.types import (
    ActionKind,
    ActionPart,
    ActionSpec,
    Arrays,
    ArraySpec,
    CameraSpec,
    EnvSpec,
    Phase,
    TargetChunk,
)
from sim.adapted_env import AdaptedEnv, Outcome, Seen

RAW = ActionPart("action", ActionKind.RAW, (-1.0, 0.5), (1.0, 2.0))
JOINTS = ActionPart("arm0/joints", ActionKind.JOINT_DELTA, (-1.0,), (1.0,), unit="rad")


class Counter:
    """Adds its action to its state; succeeds at a sum of 3 in the first number."""

    def __init__(self, *parts: ActionPart, camera: bool = False) -> None:
        self.spec = EnvSpec(
            robot="counter",
            task="count",
            step_rate_hz=10.0,
            observation={"arm0/joint_position": ArraySpec((1,), unit="rad"), "total": ArraySpec((2,))},
            action=ActionSpec(parts),
            cameras={"eye": CameraSpec(8, 8, 10.0)} if camera else {},
        )
        self.truncates, self.closed, self.joints, self.total = False, 0, np.zeros(1), np.zeros(2)

    def reset(self, seed: int) -> Seen:
        self.joints, self.total = np.full(1, float(seed)), np.zeros(2)
        return self._seen()

    def step(self, targets: Arrays) -> Outcome:
        self.joints = np.asarray(targets.get("arm0/joints", self.joints))
        self.total = self.total + targets.get("action", 0.0)
        success = bool(self.total[0] >= 3.0)
        return Outcome(self._seen(), float(self.total[0]), success, success, self.truncates, {"sum": self.total.sum()})

    def close(self) -> None:
        self.closed += 1

    def _seen(self) -> Seen:
        image = np.full((8, 8, 3), 200, np.uint8)
        return Seen({"arm0/joint_position": self.joints, "total": self.total}, dict.fromkeys(self.spec.cameras, image))


class Full(Counter):
    """A counter that can be drawn and put to a state."""

    def render(self) -> np.ndarray:
        return np.zeros((4, 4, 3), np.uint8)

    def restore(self, state: Arrays) -> Seen:
        self.total = np.asarray(state["total"], dtype=np.float64)
        return self._seen()


def raw_plan(env: AdaptedEnv, *rows: Sequence[float]) -> TargetChunk:
    return env.anchor(np.array(rows), env.reset(0))


def test_a_raw_action_is_held_at_zero_or_the_limit_next_to_it() -> None:
    env = AdaptedEnv(Counter(RAW), max_steps=5)
    env.reset(0)
    hold = env.hold()
    np.testing.assert_array_equal(hold.targets["action"], [[0.0, 0.5]])
    result = env.step(hold)
    assert result.action.source is Phase.HOLD
    np.testing.assert_array_equal(result.observation.state["total"], [0.0, 0.5])


def test_a_target_is_held_where_it_was_put_and_at_the_measured_state_before() -> None:
    env = AdaptedEnv(Counter(JOINTS), max_steps=5)
    first = env.reset(7)
    np.testing.assert_array_equal(env.hold().targets["arm0/joints"], [[7.0]])
    env.step(env.anchor(np.array([[0.25]]), first))
    np.testing.assert_array_equal(env.hold().targets["arm0/joints"], [[7.25]])


def test_deltas_are_anchored_once_and_come_back_as_deltas() -> None:
    env = AdaptedEnv(Counter(JOINTS), max_steps=5)
    plan = env.anchor(np.array([[0.5], [0.25], [-1.0]]), env.reset(1))
    np.testing.assert_allclose(plan.targets["arm0/joints"][:, 0], [1.5, 1.75, 0.75])
    results = [env.step(plan) for _ in range(3)]
    np.testing.assert_allclose([r.action.commanded[0] for r in results], [0.5, 0.25, -1.0])
    assert results[-1].observation.state["arm0/joint_position"][0] == 0.75


def test_parts_that_a_plan_leaves_out_are_held() -> None:
    env = AdaptedEnv(Counter(JOINTS, RAW), max_steps=5)
    first = env.reset(2)
    result = env.step(TargetChunk({"action": np.array([[1.0, 1.0]])}, first.step, first.stamp_ns))
    np.testing.assert_array_equal(result.action.commanded, [0.0, 1.0, 1.0])
    assert result.observation.state["arm0/joint_position"][0] == 2.0


def test_success_terminates_also_in_the_last_step_and_only_then_reward_is_one() -> None:
    env = AdaptedEnv(Counter(RAW), max_steps=3)
    plan = raw_plan(env, *[[1.0, 0.5]] * 3)
    results = [env.step(plan) for _ in range(3)]
    assert [(r.reward, r.success, r.terminated, r.truncated) for r in results] == [
        (1.0, False, False, False),
        (2.0, False, False, False),
        (3.0, True, True, False),
    ]
    assert results[-1].info == {"sum": 4.5}


def test_a_limit_of_the_simulator_truncates_as_ours_does() -> None:
    simulator = Counter(RAW)
    env = AdaptedEnv(simulator, max_steps=2)
    plan = raw_plan(env, [0.0, 0.5], [0.0, 0.5])
    assert not env.step(plan).truncated
    assert env.step(plan).truncated  # ours
    env.reset(0)
    simulator.truncates = True
    result = env.step(env.hold())
    assert (result.terminated, result.truncated) == (False, True)  # its own


def test_no_step_before_a_reset_after_an_end_a_stop_or_without_a_set_point() -> None:
    env = AdaptedEnv(Counter(RAW), max_steps=1)
    with pytest.raises(CommandRefusedError, match="not been reset"):
        env.hold()
    plan = raw_plan(env, [1.0, 1.0])
    env.step(plan)
    with pytest.raises(CommandRefusedError, match="has ended"):
        env.step(env.hold())
    env.reset(0)
    env.stop()
    with pytest.raises(CommandRefusedError, match="is stopped"):
        env.step(env.hold())
    first = env.reset(0)
    with pytest.raises(CommandRefusedError, match="set point for step 0"):
        env.step(TargetChunk({"action": np.zeros((0, 2))}, first.step, first.stamp_ns))


def test_a_target_that_is_not_finite_never_reaches_the_simulator() -> None:
    env = AdaptedEnv(Counter(RAW), max_steps=5)
    first = env.reset(0)
    with pytest.raises(InvalidArrayError, match="nan"):
        env.step(TargetChunk({"action": np.array([[np.nan, 1.0]])}, first.step, first.stamp_ns))
    np.testing.assert_array_equal(env.step(env.hold()).observation.state["total"], [0.0, 0.5])


def test_a_state_that_is_not_finite_is_a_divergence_and_a_reset_goes_on() -> None:
    simulator = Counter(RAW)
    env = AdaptedEnv(simulator, max_steps=5)
    env.reset(0)
    simulator.total = np.array([np.inf, 0.0])
    with pytest.raises(SimulationDivergedError, match="'total' holds"):
        env.step(env.hold())
    with pytest.raises(CommandRefusedError, match="has diverged"):
        env.step(env.hold())
    env.reset(0)
    assert not env.step(env.hold()).terminated


def test_a_reset_that_fails_leaves_no_episode_to_step_in() -> None:
    class Failing(Counter):
        def reset(self, seed: int) -> Seen:
            if seed == 13:
                raise ResetError("no start for seed 13")
            return super().reset(seed)

    env = AdaptedEnv(Failing(RAW), max_steps=5)
    env.reset(0)
    with pytest.raises(ResetError, match="seed 13"):
        env.reset(13)
    with pytest.raises(CommandRefusedError, match="was not reset to the end"):
        env.step(env.hold())
    env.reset(0)
    assert env.step(env.hold()).action.valid


def test_it_draws_and_restores_only_where_its_simulator_can() -> None:
    plain, full = AdaptedEnv(Counter(RAW), max_steps=5), AdaptedEnv(Full(RAW), max_steps=5)
    assert not isinstance(plain, Rendering)
    assert not isinstance(plain, Restoring)
    assert isinstance(full, Rendering)
    assert isinstance(full, Restoring)
    seen = full.restore({"total": np.array([2.0, 0.0])})
    assert seen.step == 0
    assert full.step(full.anchor(np.array([[1.0, 1.0]]), seen)).success


def test_images_come_as_jpeg_with_the_observations_stamp() -> None:
    env = AdaptedEnv(Counter(RAW, camera=True), max_steps=5)
    first = env.reset(0)
    second = env.step(env.hold()).observation
    frame = second.frames["eye"]
    assert (frame.codec, frame.stamp_ns, frame.sequence) == ("jpeg", second.stamp_ns, 1)
    assert first.frames["eye"].sequence == 0
    assert abs(int(decode(frame).mean()) - 200) <= 2


def test_closing_is_idempotent_and_final() -> None:
    simulator = Counter(RAW)
    env = AdaptedEnv(simulator, max_steps=5)
    env.close()
    env.close()
    assert simulator.closed == 1
    with pytest.raises(CommandRefusedError, match="is closed"):
        env.reset(0)


def test_a_limit_below_one_step_is_refused_and_closes_the_simulator() -> None:
    simulator = Counter(RAW)
    with pytest.raises(ConfigError, match="max_steps=0"):
        AdaptedEnv(simulator, max_steps=0)
    assert simulator.closed == 1


def test_the_loop_runs_it() -> None:
    """Four steps of 0.9 to 1 reach a sum of 3, three cannot."""
    env = AdaptedEnv(Counter(ActionPart("action", ActionKind.RAW, (0.9, 0.0), (0.999, 1.0))), max_steps=10)
    end = run_episode(env, RandomPolicy(env.spec), seed=0)
    assert (end.length, end.reason) == (4, "success")
