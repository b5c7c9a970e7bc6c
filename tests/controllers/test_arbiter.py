import numpy as np
import pytest

from controllers.arbiter import Arbiter
from robot_rl.types import Phase, TargetChunk

pytestmark = pytest.mark.robot


def plan(value: float, rows: int = 3, first: int = 0, source: Phase = Phase.POLICY) -> TargetChunk:
    return TargetChunk({"arm0/gripper": value + np.arange(rows)[:, None] / 10.0}, first, 0, source=source)


def value(arbiter: Arbiter, step: int) -> float | None:
    row = arbiter.decide(step).row
    return None if row is None else float(row["arm0/gripper"][0])


def test_a_plan_runs_row_by_row_and_then_holds():
    arbiter = Arbiter(10)
    arbiter.submit(plan(0.0), 0)
    assert [value(arbiter, step) for step in range(4)] == [0.0, 0.1, 0.2, None]
    following = arbiter.decide(0).following
    assert following is not None
    assert following["arm0/gripper"] == [0.1]
    assert arbiter.decide(2).following is None
    assert arbiter.decide(3).source is Phase.HOLD


def test_the_newest_plan_of_a_channel_counts_and_starts_at_its_first_step():
    arbiter = Arbiter(10)
    arbiter.submit(plan(0.0), 0)
    arbiter.submit(plan(5.0, first=2), 1)
    assert [value(arbiter, step) for step in range(1, 6)] == [None, 5.0, 5.1, 5.2, None]


def test_nothing_runs_longer_than_the_open_loop_limit():
    arbiter = Arbiter(2)
    arbiter.submit(plan(0.0, rows=5), 0)
    assert [value(arbiter, step) for step in range(3)] == [0.0, 0.1, None]


@pytest.mark.parametrize("policy", [Phase.POLICY, Phase.SCRIPTED])
def test_a_person_comes_before_the_policy_and_the_policy_before_the_reset(policy):
    arbiter = Arbiter(10)
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
