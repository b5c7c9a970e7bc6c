"""Who has the arm, tick by tick at 20 Hz, and what the loop makes of it: rows, plans, ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError, SpecMismatchError
from robot_rl.robots.bridge import BridgeRobot
from robot_rl.robots.fake import FakeRobot
from robot_rl.robots.server import RobotServer
from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.handover import Handover
from robot_rl.runtime.recorder import EpisodeRecorder
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import Array, EpisodeEnd, EpisodeEvent, Observation, Phase
from tests.runtime.counting import DELTA, UNIT_M, CountingPolicy, ReachTask, Tape, counting_env
from tests.runtime.pressed import Pressed

ACTION = np.array([0.01, -0.02, 0.0, 0.5])
P, H, HOLD = Phase.POLICY, Phase.HUMAN, Phase.HOLD


def at(*steps: int) -> dict[int, Array]:
    return dict.fromkeys(steps, ACTION)


def sources(device: Pressed, steps: int, **options: Any) -> list[Phase]:
    """Who has the arm in each of ``steps`` control steps of 50 ms."""
    handover = Handover(device, **options)
    handover.reset(0)
    seen = []
    for step in range(steps):
        seen.append(handover.command(Observation(step, 50_000_000 * step, {}), DELTA).source)
        handover.outcome()  # asked at the end of every step, as the loop does
    return seen


def test_a_press_takes_over_in_its_tick_and_letting_go_holds_for_the_debounce() -> None:
    assert sources(Pressed(at(2, 3)), 8) == [P, P, H, H, HOLD, HOLD, P, P]
    assert sources(Pressed(at(2)), 5, hand_back_s=0.0) == [P, P, H, P, P]


def test_a_device_that_flickers_does_not_toss_the_arm() -> None:
    assert sources(Pressed(at(1, 3, 6)), 11) == [P, H, HOLD, H, HOLD, HOLD, H, HOLD, HOLD, P, P]


def test_a_dead_man_that_was_let_go_is_no_hand_back() -> None:
    device = Pressed(at(1, 2, 6), keys={9: EpisodeEvent.HAND_BACK})
    assert sources(device, 12, dead_man=True) == [P, H, H, HOLD, HOLD, HOLD, H, HOLD, HOLD, HOLD, P, P]


def test_handing_back_while_pressing_or_before_taking_over_is_void() -> None:
    early = Pressed(at(2, 3), keys={0: EpisodeEvent.HAND_BACK, 2: EpisodeEvent.HAND_BACK})
    assert sources(early, 7, dead_man=True) == [P, P, H, H, HOLD, HOLD, HOLD]


def test_a_device_that_falls_silent_holds_what_its_person_had() -> None:
    """Lost at 3 to 7, its last reading still says pressed; heard again with nothing pressed, it is let go at 8."""
    device = Pressed(at(1, 2, 3, 4, 5, 6, 7), lost=range(3, 8))
    assert sources(device, 12) == [P, H, H, HOLD, HOLD, HOLD, HOLD, HOLD, HOLD, HOLD, P, P]
    assert sources(Pressed(at(2), lost=[2]), 4) == [P] * 4  # who has nothing takes nothing over


def test_what_is_no_number_moves_nothing() -> None:
    nan = np.full(4, np.nan)
    assert sources(Pressed({1: ACTION, 2: nan, 3: nan}), 7) == [P, H, HOLD, HOLD, HOLD, HOLD, P]


def test_the_action_is_clipped_and_counted_and_its_size_is_checked() -> None:
    handover = Handover(Pressed({0: np.array([9.0, -9.0, 0.01, 2.0]), 1: np.zeros(7)}))
    handover.reset(0)
    command = handover.command(Observation(0, 0, {}), DELTA)
    assert command.action is not None
    np.testing.assert_allclose(command.action, [0.05, -0.05, 0.01, 1.0])
    assert handover.steps == 1
    with pytest.raises(SpecMismatchError, match=r"\[7\]"):
        handover.command(Observation(1, 1, {}), DELTA)


def test_a_person_has_so_many_steps_in_all_episodes() -> None:
    handover = Handover(Pressed(at(*range(9))), most_steps=5)
    taken = []
    for _ in range(2):
        handover.reset(0)
        commands = [handover.command(Observation(step, 50_000_000 * step, {}), DELTA) for step in range(3)]
        taken.append([command.source for command in commands])
    assert taken == [[H, H, H], [H, H, HOLD]]


def test_times_that_make_no_sense_are_refused() -> None:
    wrongs: list[dict[str, Any]] = [{"hand_back_s": -0.1}, {"silent_s": 0.0}]
    for wrong in wrongs:
        with pytest.raises(ConfigError):
            Handover(Pressed(), **wrong)


# --- in the loop


def run(
    env: RobotEnv, device: Pressed, policy: CountingPolicy | None = None, **options: Any
) -> tuple[Tape, EpisodeEnd]:
    tape = Tape()
    policy = policy or CountingPolicy(env.spec, 4, 4, records=True)
    return tape, run_episode(env, policy, [tape], seed=0, human=Handover(device, **options))


def test_rows_of_an_intervention() -> None:
    """Steps 3, 4 and 5 are the person's, 6 and 7 held; the policy goes on in shadow with its base action."""
    policy = CountingPolicy((env := counting_env(12, DELTA)).spec, 10, 10, records=True)
    tape, end = run(env, Pressed(at(3, 4, 5)), policy)
    assert [row.action.source for row in tape.rows] == [P] * 3 + [H] * 3 + [HOLD] * 2 + [P] * 4
    for row in tape.rows[3:6]:
        assert row.action.human is not None
        np.testing.assert_allclose(row.action.human, ACTION, atol=1e-7)
        np.testing.assert_allclose(row.action.commanded, ACTION, atol=1e-7)
    assert all(row.action.human is None for row in tape.rows if row.action.source is not H)
    np.testing.assert_array_equal([row.action.policy[0] for row in tape.rows], np.arange(12) * UNIT_M)
    np.testing.assert_array_equal([row.extras["base_action"][0] for row in tape.rows], np.arange(12) * UNIT_M + 1)
    assert [decision.step for decision in tape.decisions] == [0, 3, 8]  # both edges void the plan
    assert [row.policy_version for row in tape.rows] == [1] * 3 + [2] * 5 + [3] * 4
    assert [bool(context.takeover[0]) for context in policy.contexts] == [False, False, True]
    assert (end.reason, end.judged_by) == ("time_limit", "rule")


def test_deltas_of_a_person_add_up() -> None:
    tape, _ = run(counting_env(8, DELTA), Pressed(at(0, 1, 2, 3, 4, 5, 6, 7)))
    x_m, y_m = tape.ends[0][0].observation.state["arm0/tcp_pose"][:2]
    np.testing.assert_allclose([x_m, y_m], [0.08, -0.16], atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(pressed=st.sets(st.integers(0, 19)), horizon=st.integers(1, 6))
def test_whoever_commands_what_was_commanded_is_where_the_arm_went(pressed: set[int], horizon: int) -> None:
    env = counting_env(20, DELTA)
    tape, _ = run(env, Pressed(at(*pressed)), CountingPolicy(env.spec, horizon, horizon))
    x_m = tape.ends[0][0].observation.state["arm0/tcp_pose"][0]
    np.testing.assert_allclose(x_m, sum(float(row.action.commanded[0]) for row in tape.rows), atol=1e-6)
    assert {row.observation.step for row in tape.rows if row.action.source is H} == pressed


KEYS: Mapping[EpisodeEvent, tuple[str, bool, float, bool]] = {  # reason, success, reward, terminated
    EpisodeEvent.SUCCESS: ("success", True, 1.0, True),
    EpisodeEvent.FAILURE: ("failure", False, 0.0, True),
    EpisodeEvent.DISCARD: ("discarded", False, 0.0, False),
}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_ends_the_episode(key: EpisodeEvent) -> None:
    reason, success, reward, terminated = KEYS[key]
    tape, end = run(counting_env(12), Pressed(keys={4: key}))
    assert end == EpisodeEnd(reason, success, 5, reward, judged_by="human")
    last = tape.rows[-1]
    assert (last.success, last.reward, last.terminated, last.truncated) == (success, reward, terminated, not terminated)
    assert not any(row.terminated or row.truncated for row in tape.rows[:-1])


def test_the_person_outweighs_the_rule() -> None:
    """The rule says success at step 6, the person failure in the same step."""
    _, end = run(counting_env(12, goal_x_m=6 * UNIT_M), Pressed(keys={6: EpisodeEvent.FAILURE}))
    assert end == EpisodeEnd("failure", False, 7, 0.0, judged_by="human")


def test_keys_pressed_between_episodes_are_void() -> None:
    device = Pressed(keys={-1: EpisodeEvent.DISCARD})
    _, end = run(counting_env(3), device)
    assert end.reason == "time_limit"


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    return EpisodeStore.create(tmp_path / "session")


def recorded(store: EpisodeStore, device: Pressed, steps: int = 8) -> EpisodeEnd:
    env = counting_env(steps, DELTA)
    policy = CountingPolicy(env.spec, 2, 2, records=True)
    recorder = EpisodeRecorder(store, extras=policy.spec.record)
    return run_episode(env, policy, [recorder], seed=0, human=Handover(device))


def test_what_is_stored_of_an_intervention(store: EpisodeStore) -> None:
    recorded(store, Pressed(at(2, 3), keys={7: EpisodeEvent.SUCCESS}))
    (info,) = store.infos()
    arrays = store.read(info.id).arrays
    assert (info.success, info.metadata["judged_by"], info.metadata["end_reason"]) == (True, "human", "success")
    assert arrays["flags/intervention"][:-1].tolist() == [0, 0, 1, 1, 3, 3, 0, 0]
    assert arrays["action_valid"][:-1].tolist() == [True] * 4 + [False] * 2 + [True] * 2  # held: nobody's action
    np.testing.assert_allclose(arrays["action/human"][2:4], [ACTION, ACTION], atol=1e-7)
    np.testing.assert_array_equal(arrays["policy/base_action"][:, 0], np.arange(9, dtype=np.float32) * UNIT_M + 1)
    assert arrays["rl/terminated"][-2] and not arrays["rl/truncated"].any()


def test_a_discarded_episode_leaves_nothing(store: EpisodeStore) -> None:
    recorded(store, Pressed(keys={3: EpisodeEvent.DISCARD}))
    assert not store.ids(excluded=True)
    assert not list((store.root / "journal").iterdir())


def test_an_intervention_reaches_an_arm_in_another_process_like_one_here() -> None:
    """The same rows over ZMQ, bit for bit."""

    def rows(robot: Any) -> Sequence[Any]:
        env = RobotEnv(robot, ReachTask(), DELTA, 10)
        tape, _ = run(env, Pressed(at(2, 3, 6)))
        env.close()
        return [
            (row.action.source, row.action.commanded.tolist(), None if (h := row.action.human) is None else h.tolist())
            for row in tape.rows
        ]

    with RobotServer(FakeRobot(lag=0.3)) as server:
        there = rows(BridgeRobot(server.address))
    assert there == rows(FakeRobot(lag=0.3))
    assert [source for source, *_ in there] == [P, P, H, H, HOLD, HOLD, H, HOLD, HOLD, P]


def test_a_person_who_is_never_there_changes_nothing() -> None:
    env = counting_env(12)
    alone, with_nobody = Tape(), Tape()
    run_episode(env, CountingPolicy(env.spec), [alone], seed=0)
    run_episode(env, CountingPolicy(env.spec), [with_nobody], seed=0, human=Handover(Pressed()))
    for one, other in zip(alone.rows, with_nobody.rows, strict=True):
        assert replace(one, observation=None, action=None, obs_ready_ns=0, action_sent_ns=0) == replace(  # type: ignore[arg-type]
            other,
            observation=None,
            action=None,
            obs_ready_ns=0,
            action_sent_ns=0,  # type: ignore[arg-type]
        )
        np.testing.assert_array_equal(one.action.commanded, other.action.commanded)
