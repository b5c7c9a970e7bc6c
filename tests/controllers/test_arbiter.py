import numpy as np
import pytest

from controllers.arbiter import Arbiter
from robot_rl.errors import CommandRefusedError, ConfigError
from robot_rl.types import Phase, TargetChunk

pytestmark = pytest.mark.robot


def plan(value: float, rows: int = 3, first: int = 0, source: Phase = Phase.POLICY) -> TargetChunk:
    return TargetChunk({"arm0/gripper": value + np.arange(rows)[:, None] / 10.0}, first, 0, source=source)


def value(arbiter: Arbiter, step: int) -> float | None:
    row = arbiter.decide(step).row
    return None if row is None else float(row["arm0/gripper"][0])


def test_a_plan_runs_row_by_row_and_then_holds():
    arbiter = Arbiter(10, 10)
    arbiter.submit(plan(0.0), 0)
    assert [value(arbiter, step) for step in range(4)] == [0.0, 0.1, 0.2, None]
    following = arbiter.decide(0).following
    assert following is not None
    assert following["arm0/gripper"] == [0.1]
    assert arbiter.decide(2).following is None
    assert arbiter.decide(3).source is Phase.HOLD


def test_the_newest_plan_of_a_channel_counts_and_starts_at_its_first_step():
    arbiter = Arbiter(10, 10)
    arbiter.submit(plan(0.0), 0)
    arbiter.submit(plan(5.0, first=2), 1)
    assert [value(arbiter, step) for step in range(1, 6)] == [None, 5.0, 5.1, 5.2, None]


def test_nothing_runs_longer_than_the_open_loop_limit():
    arbiter = Arbiter(2, 2)
    arbiter.submit(plan(0.0, rows=5), 0)
    assert [value(arbiter, step) for step in range(3)] == [0.0, 0.1, None]


def test_what_a_person_sent_runs_shorter_than_a_plan_of_the_policy():
    arbiter = Arbiter(6, 3, hand_back_steps=1)
    arbiter.submit(plan(0.0, rows=9), 0)
    arbiter.submit(plan(5.0, rows=9, first=1, source=Phase.HUMAN), 1)
    assert [value(arbiter, step) for step in range(1, 7)] == [5.0, 5.1, 5.2, None, 0.5, None]


@pytest.mark.parametrize("policy", [Phase.POLICY, Phase.SCRIPTED])
def test_a_person_comes_before_the_policy_and_the_policy_before_the_reset(policy):
    arbiter = Arbiter(10, 10)
    arbiter.submit(plan(3.0, source=Phase.RESET), 0)
    assert arbiter.decide(0).source is Phase.RESET
    arbiter.submit(plan(2.0, source=policy), 0)
    assert (value(arbiter, 0), arbiter.decide(0).source) == (2.0, policy)
    arbiter.submit(plan(1.0, source=Phase.HUMAN), 0)
    verdict = arbiter.decide(0)
    assert (value(arbiter, 0), verdict.source) == (1.0, Phase.HUMAN)
    assert verdict.human is not None
    arbiter.withdraw(Phase.HUMAN)
    assert arbiter.decide(0).source is policy
    arbiter.reset()
    assert arbiter.decide(0).row is None


def stamped(value: float, stamp_ns: int, source: Phase = Phase.POLICY) -> TargetChunk:
    return TargetChunk({"arm0/gripper": np.full((5, 1), value)}, 0, stamp_ns, source=source)


def test_an_older_plan_never_replaces_a_newer_one_of_its_channel():
    arbiter = Arbiter(10, 10)
    arbiter.submit(stamped(2.0, 200), 0)
    with pytest.raises(CommandRefusedError, match="a plan of scripted"):
        arbiter.submit(stamped(1.0, 100, Phase.SCRIPTED), 1)
    assert (value(arbiter, 1), arbiter.refused["older"]) == (2.0, 1)
    arbiter.submit(stamped(3.0, 200), 2)  # the same plan, sent once more
    arbiter.submit(stamped(9.0, 50, Phase.HUMAN), 2)  # a channel of its own
    assert value(arbiter, 2) == 9.0
    arbiter.withdraw(Phase.HUMAN)
    with pytest.raises(CommandRefusedError, match="newest"):
        arbiter.submit(stamped(8.0, 40, Phase.HUMAN), 3)
    assert value(arbiter, 3) == 3.0


def test_a_hold_does_not_keep_out_the_plan_that_was_thought_of_before_it():
    arbiter = Arbiter(10, 10)
    arbiter.submit(stamped(0.0, 300, Phase.HOLD), 0)
    arbiter.submit(stamped(1.0, 200), 1)
    assert value(arbiter, 1) == 1.0


def test_plans_from_before_the_reset_and_from_the_future_are_refused():
    arbiter = Arbiter(10, 10)
    arbiter.submit(stamped(1.0, 900), 0)
    arbiter.reset(1000)
    assert arbiter.silent
    with pytest.raises(CommandRefusedError, match="reset"):
        arbiter.submit(stamped(1.0, 999), 0)
    with pytest.raises(CommandRefusedError, match="now"):
        arbiter.submit(stamped(1.0, 60_000_000), 0, now_ns=9_000_000)
    arbiter.submit(stamped(1.0, 59_000_000), 0, now_ns=9_000_000)
    assert (arbiter.refused["before_reset"], arbiter.refused["future"]) == (1, 1)
    arbiter.reset(2000)
    arbiter.submit(stamped(1.0, 2000), 0)
    assert not arbiter.silent


def test_a_gap_in_the_human_stream_is_held_and_no_hand_over():
    arbiter = Arbiter(10, 10, hand_back_steps=2)
    arbiter.submit(TargetChunk({"arm0/gripper": np.zeros((20, 1))}, 0, 0), 0)
    verdicts = []
    for step in range(7):
        if step in (1, 3):
            arbiter.submit(plan(1.0, rows=1, first=step, source=Phase.HUMAN), step)
        verdicts.append(arbiter.decide(step))
    assert [verdict.source for verdict in verdicts] == [Phase.POLICY] + [Phase.HUMAN] * 5 + [Phase.POLICY]
    assert [verdict.row is None for verdict in verdicts] == [False, False, True, False, True, True, False]


def test_the_settings_of_an_arbiter_are_checked():
    for steps, human, back in ((0, 1, 2), (5, 0, 2), (5, 5, -1)):
        with pytest.raises(ConfigError):
            Arbiter(steps, human, hand_back_steps=back)
