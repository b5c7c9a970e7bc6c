"""Success by camera: the verdicts step by step, what is recorded, and that a late score holds nothing up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robot_rl.data.store import EpisodeStore
from robot_rl.errors import RobotRlError
from robot_rl.interfaces import Env
from robot_rl.runtime.classified_env import EXTRAS, NOT_SCORED, ClassifiedEnv, ScoreRecorder
from robot_rl.runtime.clock import WallClock
from robot_rl.runtime.random_policy import RandomPolicy
from robot_rl.runtime.recorder import EpisodeRecorder
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import Arrays, StepResult
from tests.learning.judged_episodes import SPEC
from tests.runtime.lamp_env import LampEnv, LampJudge


def run(env: ClassifiedEnv, steps: int = 5000) -> list[StepResult]:
    """Steps up to the end of an episode."""
    env.reset(0)
    results = []
    while len(results) < steps and not (results and (results[-1].terminated or results[-1].truncated)):
        results.append(env.step(env.hold()))
    return results


def test_the_third_lit_frame_in_a_row_ends_the_episode_as_a_success() -> None:
    """Lit in observations 2, 3 and 5, 6, 7: step 6, which ends in observation 7, is the success."""
    results = run(ClassifiedEnv(LampEnv((2, 3, 5, 6, 7)), LampJudge()))
    assert [result.success for result in results] == [False] * 6 + [True]
    assert (results[-1].reward, results[-1].terminated, results[-1].truncated) == (1.0, True, False)
    assert sum(result.reward for result in results[:-1]) == 0.0


def test_what_the_rule_calls_a_success_neither_pays_nor_ends() -> None:
    results = run(ClassifiedEnv(LampEnv(rule_step=4, max_steps=6), LampJudge()))
    assert [(result.reward, result.terminated, result.truncated) for result in results] == [
        *[(0.0, False, False)] * 5, (0.0, False, True),
    ]  # fmt: skip


def test_an_episode_that_the_rule_would_have_ended_in_the_last_step_is_a_time_out() -> None:
    last = run(ClassifiedEnv(LampEnv(rule_step=5, max_steps=6), LampJudge()))[-1]
    assert (last.success, last.terminated, last.truncated) == (False, False, True)


def test_a_failure_ends_the_episode() -> None:
    results = run(ClassifiedEnv(LampEnv(failed_step=2), LampJudge()))
    assert len(results) == 3 and results[-1].terminated and not results[-1].success


def test_a_lost_frame_is_left_out_of_the_row() -> None:
    """Lit from observation 2 on, 3 is lost: 2, 4 and 5 are the three, so step 4 is the success."""
    results = run(ClassifiedEnv(LampEnv(range(2, 10), lost=[3]), LampJudge()))
    assert len(results) == 5 and results[-1].success


def test_an_episode_does_not_inherit_frames_of_the_last() -> None:
    env = ClassifiedEnv(LampEnv((0, 1)), LampJudge())
    run(env, steps=1)  # two lit frames
    assert not run(env, steps=1)[-1].success


def test_in_real_time_no_step_waits_for_a_score_and_the_success_comes_late() -> None:
    """The judge is stuck while five steps are made; frames that waited behind the first are left out."""
    judge = LampJudge()
    env = ClassifiedEnv(LampEnv(range(10), clock=WallClock()), judge)
    judge.may_go.clear()
    assert not any(result.success for result in run(env, steps=5))
    assert env.extras(2)["success_score"] == NOT_SCORED
    judge.may_go.set()
    env.close()


def test_in_real_time_a_success_is_noticed_once_its_scores_are_there() -> None:
    env = ClassifiedEnv(LampEnv(range(5000), clock=WallClock(), max_steps=5000), LampJudge())
    results = run(env)
    assert results[-1].success and results[-1].terminated and len(results) >= 3


def test_an_error_of_the_judge_is_told_by_the_next_step() -> None:
    class Broken(LampJudge):
        def probability(self, window: Arrays) -> np.ndarray:
            raise ValueError("no such weights")

    with pytest.raises(RobotRlError, match="frames cannot be scored: no such weights"):
        run(ClassifiedEnv(LampEnv(), Broken()))


def test_scores_version_and_the_rules_word_are_recorded(tmp_path: Path) -> None:
    store = EpisodeStore.create(tmp_path / "lamp", spec=SPEC)
    env = ClassifiedEnv(LampEnv((3, 4, 5), rule_step=1), LampJudge(), version=0xABC)
    recorder = ScoreRecorder(EpisodeRecorder(store, extras=EXTRAS), env)
    end = run_episode(env, RandomPolicy(SPEC), [recorder], seed=0)
    assert (end.reason, end.success, end.length) == ("success", True, 5)
    episode = store.read(store.ids()[0])
    np.testing.assert_allclose(episode.arrays["policy/success_score"], [0.1, 0.1, 0.1, 0.9, 0.9, 0.9])
    assert set(episode.arrays["policy/success_version"].tolist()) == {0xABC}
    assert episode.arrays["policy/rule_success"].tolist() == [False, True, False, False, False, False]
    assert episode.arrays["rl/success"].tolist() == [False] * 4 + [True, False]
    assert episode.metadata["judged_by"] == "classifier 0000abc"
    assert recorder.verdicts == {(True, True): 1}


def test_it_is_an_env_and_closes_what_it_wraps() -> None:
    inner = LampEnv()
    env = ClassifiedEnv(inner, LampJudge())
    assert isinstance(env, Env) and env.spec is SPEC and env.max_steps == 10
    env.stop()
    env.close()
    assert inner.stopped and inner.closed
