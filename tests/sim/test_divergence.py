"""A simulation that blows up ends its episode, is told with its last states, and the run goes on."""

from collections.abc import Iterator

import numpy as np
import pytest

from robot_rl.data.store import EpisodeStore
from robot_rl.errors import SimulationDivergedError
from robot_rl.runtime.evaluation import evaluate
from robot_rl.runtime.recorder import EpisodeRecorder
from robot_rl.runtime.rollout import run_episode
from robot_rl.runtime.score_table import score_table
from robot_rl.types import ResetRequest, StepRow
from sim.mujoco_robot import MujocoRobot
from sim.objects import SceneObject
from sim.scene import Scene
from tests.sim.lift_env import configured

STEP_NS = 50_000_000


class Saboteur:
    """A listener that writes nonsense into the simulator's state in one step of some episodes."""

    def __init__(self, robot: MujocoRobot, seeds: set[int], value: float = np.nan, step: int = 5) -> None:
        self._robot, self._seeds, self._value, self._step = robot, seeds, value, step
        self.last: list[StepRow] = []

    def on_reset(self, observation, spec, seed: int) -> None:
        self._armed = seed in self._seeds

    def on_decision(self, decision) -> None: ...

    def on_step(self, row: StepRow) -> None:
        if self._armed and row.observation.step == self._step:
            self._robot.physics.data.qvel[2] = self._value

    def on_end(self, final: StepRow, end) -> None:
        self.last.append(final)


@pytest.fixture(scope="module")
def reach() -> Iterator[tuple]:
    env, expert = configured("reach")
    yield env, expert
    env.close()


@pytest.fixture(autouse=True)
def dumps(reach, tmp_path, monkeypatch):
    """Each test has a folder of its own for last states, and a guard that has written none."""
    guard = reach[0].robot._simulation._guard
    monkeypatch.setattr(guard, "_folder", str(tmp_path / "dumps"))
    monkeypatch.setattr(guard, "_dumps", 0)
    return tmp_path / "dumps"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e5])
def test_the_episode_ends_truncated_and_says_why_and_the_next_one_runs(reach, dumps, value):
    env, expert = reach
    saboteur = Saboteur(env.robot, {1}, value)
    ends = [run_episode(env, expert, [saboteur], seed=seed) for seed in range(3)]
    assert [end.success for end in ends] == [True, False, True]
    assert ends[1].reason.startswith("fault: physics diverged in step 6: ")
    assert "not all positions and velocities are finite" in ends[1].reason
    assert "reset to go on" in ends[1].reason
    assert ends[1].length == 7
    assert ends[1].total_reward == 0.0
    final = saboteur.last[1].observation
    assert all(np.isfinite(value).all() for value in final.state.values())
    assert final.mode == "fault: simulation diverged"
    (dump,) = dumps.iterdir()
    with np.load(dump, allow_pickle=False) as states:
        assert states["qpos"].shape[0] == 7
        assert np.isfinite(states["qpos"]).all()


def test_evaluation_counts_it_as_a_failure_and_names_it(reach):
    env, expert = reach
    report = evaluate(env, expert, range(4), listeners=[Saboteur(env.robot, {2})])
    assert [episode.success for episode in report.episodes] == [True, True, False, True]
    assert report.episodes[2].reason.startswith("fault: physics diverged")
    assert [episode.seed for episode in report.faults] == [2]
    assert report.to_json()["faults"] == 1
    assert "1 episodes ended by a fault; seed 2: fault: physics diverged" in str(score_table(report).caption)


def test_lockstep_loses_the_one_episode_alone(reach):
    env, expert = reach
    other, _ = configured("reach")
    step = env.step
    calls = []

    def sabotaged(plan):
        calls.append(plan)
        if len(calls) == 4:
            env.robot.physics.data.qpos[0] = np.nan
        return step(plan)

    env.step = sabotaged
    try:
        report = evaluate([env, other], expert, range(4))
    finally:
        env.step = step
        other.close()
    assert [episode.success for episode in report.episodes] == [False, True, True, True]


def test_a_recording_goes_on_and_keeps_what_was_recorded_of_it_on_demand(reach, tmp_path):
    env, expert = reach
    store = EpisodeStore.open_or_create(tmp_path / "data", spec=env.spec, name="reach")
    recorder = EpisodeRecorder(store, {"task": "reach"}, extras=expert.spec.record, keep_failures=True)
    for seed in range(3):
        run_episode(env, expert, [recorder, Saboteur(env.robot, {1})], seed=seed)
    assert len(store.ids()) == 3
    assert [info.metadata["seed"] for info in store.infos()] == [0, 1, 2]
    assert [info.success for info in store.infos()] == [True, False, True]
    lost = store.infos()[1]
    assert lost.length == 7
    assert str(lost.metadata["end_reason"]).startswith("fault: physics diverged")
    assert store.verify() == []


def test_last_states_are_bounded_in_size_and_number(dumps):
    with MujocoRobot(Scene(), dump_folder=str(dumps)) as robot:
        for attempt in range(7):
            robot.reset(ResetRequest())
            for _ in range(45):
                robot.clock.wait_until(robot.clock.now_ns() + STEP_NS)
            robot.physics.data.qvel[0] = np.nan
            with pytest.raises(SimulationDivergedError, match="are in" if attempt < 5 else "this one is not"):
                robot.clock.wait_until(robot.clock.now_ns() + STEP_NS)
    files = sorted(dumps.iterdir())
    assert len(files) == 5
    with np.load(files[0], allow_pickle=False) as states:
        assert states["qpos"].shape[0] == 40


def test_speeds_that_nothing_on_a_table_has_are_not_believed(dumps):
    with MujocoRobot(Scene([SceneObject("cube", "box", (0.02,) * 3)]), dump_folder=str(dumps)) as robot:
        robot.reset(ResetRequest(simulator_state={"object/cube_pose": np.array([0.5, 0.2, 0.02, 0, 0, 0, 1])}))
        robot.physics.data.joint("cube").qvel[2] = 2000.0
        with pytest.raises(SimulationDivergedError, match="velocities up to 2e"):
            robot.clock.wait_until(robot.clock.now_ns() + STEP_NS)


def test_mujocos_own_warnings_are_logged_and_not_written_to_a_file(caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with MujocoRobot(Scene(), dump_folder=str(tmp_path)) as robot:
        robot.reset(ResetRequest())
        robot.physics.data.qvel[0] = np.nan
        with pytest.raises(SimulationDivergedError):
            robot.clock.wait_until(robot.clock.now_ns() + STEP_NS)
    assert "huge value in QVEL" in caplog.text
    assert list(tmp_path.glob("*.TXT")) == []


def test_what_mujoco_calls_bad_is_not_believed(dumps):
    """An acceleration that is huge for one tick, and gone at the end of the step."""
    with MujocoRobot(Scene(), dump_folder=str(dumps)) as robot:
        robot.reset(ResetRequest())
        data = robot.physics.data
        before = data.qpos.copy()
        data.qfrc_applied[0] = 1e12
        robot.clock.wait_until(robot.clock.now_ns() + 2_000_000)
        data.qfrc_applied[0] = 0.0
        data.qpos[:], data.qvel[:], data.qacc_warmstart[:] = before, 0.0, 0.0
        with pytest.raises(SimulationDivergedError, match="MuJoCo found a bad acceleration"):
            robot.clock.wait_until(robot.clock.now_ns() + STEP_NS)
