"""Evaluation on fixed seeds, side by side and one by one, and paired comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robot_rl.errors import ConfigError, RobotRlError
from robot_rl.interfaces import Env
from robot_rl.runtime.evaluation import compare, evaluate
from robot_rl.runtime.scores import EpisodeScore, EvaluationReport, ScoreLog
from robot_rl.types import ActContext, ActionChunk, Array, Arrays, PolicySpec
from sim.pusht_env import pusht_env
from tests.runtime.counting import UNIT_M, CountingPolicy, Tape, counting_env


def score(seed: int, success: bool, best: float = 0.5) -> EpisodeScore:
    return EpisodeScore(seed, success, best, total_reward=1.0, length=10 + seed, reason="")


def test_the_report_counts_and_bounds() -> None:
    report = EvaluationReport("p", "t", tuple(score(seed, seed < 8, 0.1 * seed) for seed in range(10)))
    assert (report.successes, report.success_rate) == (8, 0.8)
    assert report.success_interval == pytest.approx((0.4439, 0.9748), abs=1e-4)  # published table, 8 of 10
    assert report.best_reward_mean == pytest.approx(0.45)
    assert report.mean_length == 14.5


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    report = EvaluationReport("p", "t", (score(3, True), score(4, False)), {"checkpoint": "x"})
    report.save(tmp_path / "deep" / "r.json")
    assert EvaluationReport.load(tmp_path / "deep" / "r.json") == report
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"bad\.json"):
        EvaluationReport.load(tmp_path / "bad.json")


def test_one_env_is_evaluated_seed_by_seed_with_its_listeners() -> None:
    env, tape = counting_env(9, goal_x_m=4 * UNIT_M), Tape()
    report = evaluate(env, CountingPolicy(env.spec), [7, 5, 7], listeners=[tape], name="counting")
    assert [episode.seed for episode in report.episodes] == [7, 5]
    assert report.episodes[0] == EpisodeScore(7, True, 1.0, 1.0, 5, "success")
    assert len(tape.ends) == 2
    assert report.task == "reach_x"


class Seeded:
    """Goes where its row's seed says, and notes the shape and the row count of every call."""

    def __init__(self, env: Env) -> None:
        observation = {"agent/position": env.spec.observation["agent/position"]}
        self.spec = PolicySpec(observation, env.spec.action, history=2, horizon=6, execute=4)
        self.calls: list[tuple[int, ...]] = []
        self.seeds: Array = np.zeros(0)

    def reset(self, rows: Array, seeds: Array) -> None:
        if len(self.seeds) <= rows.max():
            self.seeds = np.zeros(rows.max() + 1)
        self.seeds[rows] = seeds

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        self.calls.append(window["agent/position"].shape)
        random = [np.random.default_rng([int(s), int(t)]) for s, t in zip(self.seeds, context.step, strict=True)]
        return ActionChunk(np.stack([r.uniform(100, 400, (6, 2)) for r in random]), execute=4)


def test_side_by_side_gives_the_same_episodes_in_a_batch_of_constant_size() -> None:
    envs = [pusht_env(max_steps=10) for _ in range(4)]
    together, alone = Seeded(envs[0]), Seeded(envs[0])
    heard: list[int] = []
    many = evaluate(envs, together, range(10), on_episode=lambda episode: heard.append(episode.seed))
    one = evaluate(envs[0], alone, range(10))
    assert many.episodes == one.episodes
    assert heard == list(range(10))
    assert set(together.calls) == {(4, 2, 2)}  # the last group has two seeds, its batch still four rows
    assert len(together.calls) == 9  # three groups of three decisions, at steps 0, 4 and 8
    assert len(alone.calls) == 30


def test_envs_that_end_early_stop_while_the_others_go_on() -> None:
    envs = [counting_env(9, goal_x_m=goal * UNIT_M) for goal in (2, 50, 5)]
    report = evaluate(envs, CountingPolicy(envs[0].spec), [0, 1, 2])
    assert [(e.length, e.success, e.reason) for e in report.episodes] == [
        (3, True, "success"), (9, False, "time_limit"), (6, True, "success"),
    ]  # fmt: skip


def test_an_interrupted_evaluation_goes_on(tmp_path: Path) -> None:
    env = counting_env(3)
    log = ScoreLog(tmp_path / "scores.jsonl", key="checkpoint a")
    log.start()

    class Killed(CountingPolicy):
        def reset(self, rows: Array, seeds: Array) -> None:
            if seeds[0] == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(env, Killed(env.spec), range(4), on_episode=log.append)
    with (tmp_path / "scores.jsonl").open("a") as file:
        file.write('{"seed": 2, "succ')  # torn by the kill
    finished = log.read()
    assert list(finished) == [0, 1]
    fresh: list[int] = []
    report = evaluate(
        env, CountingPolicy(env.spec), range(4), finished=finished, on_episode=lambda e: fresh.append(e.seed)
    )
    assert fresh == [2, 3]
    assert [episode.seed for episode in report.episodes] == [0, 1, 2, 3]
    assert ScoreLog(tmp_path / "scores.jsonl", key="checkpoint b").read() == {}


def test_what_cannot_be_evaluated_is_refused() -> None:
    env = counting_env()
    with pytest.raises(ConfigError, match="at least one seed"):
        evaluate(env, CountingPolicy(env.spec), [])
    with pytest.raises(ConfigError, match="one env at a time"):
        evaluate([env, counting_env()], CountingPolicy(env.spec), [0], listeners=[Tape()])


def test_pairs_are_counted_by_seed() -> None:
    wins = {True: [0, 1, 2, 3, 4, 5], False: [6, 7]}
    first = EvaluationReport("a", "t", tuple(score(s, s in wins[True], 0.6) for s in range(8)))
    second = EvaluationReport("b", "t", tuple(score(s, s == 5, 0.5) for s in (7, 6, 5, 4, 3, 2, 1, 0, 99)))
    result = compare(first, second)
    assert (result.pairs, result.both, result.only_first, result.only_second, result.neither) == (8, 1, 5, 0, 2)
    assert result.p_success == pytest.approx(2 / 32)
    assert result.success_difference == pytest.approx(5 / 8)
    assert result.best_reward_difference == pytest.approx(0.1)
    assert result.best_reward_interval_95 == pytest.approx((0.1, 0.1))
    assert result.p_best_reward == pytest.approx(2 / 256)
    assert result.to_json()["success_difference"] == pytest.approx(5 / 8)


def test_evaluations_that_cannot_be_paired_are_refused() -> None:
    first = EvaluationReport("a", "t", (score(1, True),))
    with pytest.raises(RobotRlError, match="share no seed"):
        compare(first, EvaluationReport("b", "t", (score(2, True),)))
    with pytest.raises(RobotRlError, match="on t, 'b' on u"):
        compare(first, EvaluationReport("b", "u", (score(1, True),)))
