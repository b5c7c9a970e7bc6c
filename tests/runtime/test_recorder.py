"""Episodes of the loop as they lie in a real store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robot_rl.data.store import EpisodeStore
from robot_rl.errors import EpisodeError
from robot_rl.runtime.random_policy import RandomPolicy
from robot_rl.runtime.recorder import EpisodeRecorder
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import Phase, StepRow
from sim.pusht_env import pusht_env
from tests.runtime.counting import UNIT_M, CountingPolicy, Tape, counting_env


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    return EpisodeStore.create(tmp_path / "data")


def test_an_episode_is_stored_row_by_row(store: EpisodeStore) -> None:
    env, tape = counting_env(7), Tape()
    policy = CountingPolicy(env.spec, 4, 3, records=True)
    recorder = EpisodeRecorder(store, {"task": "reach_x"}, extras=policy.spec.record)
    end = run_episode(env, policy, [recorder, tape], seed=41)
    assert recorder.kept is not None
    episode = store.read(recorder.kept.id)
    episode.validate_spec(env.spec)
    arrays = episode.arrays
    assert (episode.steps, episode.rows, end.length) == (7, 8, 7)
    assert (episode.metadata["seed"], episode.metadata["task"]) == (41, "reach_x")
    assert (episode.metadata["success"], episode.metadata["end_reason"]) == (False, "time_limit")
    np.testing.assert_array_equal(arrays["action_valid"], [True] * 7 + [False])
    np.testing.assert_array_equal(arrays["action/policy"][:7, 0], np.arange(7) * np.float32(UNIT_M))
    np.testing.assert_array_equal(arrays["obs/arm0/tcp_pose"][:, 0], [0, *np.arange(7) * UNIT_M])
    np.testing.assert_array_equal(arrays["policy/base_action"][:, 0], np.arange(8) * UNIT_M + 1)
    np.testing.assert_array_equal(arrays["policy/decision_of_step"], [0, 0, 0, 1, 1, 1, 2, -1])
    np.testing.assert_array_equal(arrays["policy/version"][:7], [1, 1, 1, 2, 2, 2, 3])
    np.testing.assert_array_equal(arrays["decision/step"], [0, 3, 6])
    np.testing.assert_array_equal(arrays["decision/noise"], np.repeat([[1.0], [2.0], [3.0]], 3, axis=1))
    assert arrays["decision/planned"].shape == (3, 4, 4)
    np.testing.assert_array_equal(arrays["rl/truncated"], [False] * 6 + [True, False])
    np.testing.assert_array_equal(arrays["time/t_ns"], np.arange(8) * 50_000_000)


def test_camera_frames_reach_the_store(store: EpisodeStore) -> None:
    env = pusht_env(max_steps=5, image_size_px=32)
    recorder = EpisodeRecorder(store)
    run_episode(env, RandomPolicy(env.spec), [recorder], seed=0, source=Phase.SCRIPTED)
    episode = store.read(store.ids()[0])
    track = episode.cameras["board"]
    np.testing.assert_array_equal(track.frame_of_step, np.arange(6))
    assert track.encoded(3).startswith(b"\xff\xd8")  # JPEG
    np.testing.assert_array_equal(episode.arrays["flags/phase"][:5], int(Phase.SCRIPTED))


def test_only_successes_are_kept_on_demand(store: EpisodeStore) -> None:
    recorder = EpisodeRecorder(store, keep_failures=False)
    lost, won = counting_env(5), counting_env(9, goal_x_m=4 * UNIT_M)
    run_episode(lost, CountingPolicy(lost.spec), [recorder], seed=0)
    assert recorder.kept is None
    run_episode(won, CountingPolicy(won.spec), [recorder], seed=1)
    assert recorder.kept is not None
    assert [info.success for info in store.infos()] == [True]
    assert not list((store.root / "journal").iterdir())


def test_an_episode_is_discarded_on_request(store: EpisodeStore) -> None:
    env, recorder = counting_env(5), EpisodeRecorder(store)

    class Operator(Tape):
        def on_step(self, row: StepRow) -> None:
            if row.observation.step == 2:
                recorder.discard("the cube fell off the table")

    run_episode(env, CountingPolicy(env.spec), [recorder, Operator()], seed=0)
    assert store.ids() == []
    run_episode(env, CountingPolicy(env.spec), [recorder], seed=0)
    assert len(store.ids()) == 1


def test_an_episode_that_breaks_off_is_kept_up_to_its_last_observation(store: EpisodeStore) -> None:
    env, recorder = counting_env(9), EpisodeRecorder(store)
    with pytest.raises(OSError, match="on_step failed"):
        run_episode(env, CountingPolicy(env.spec), [recorder, Tape(fail_at=3)], seed=0)
    episode = store.read(store.ids()[0])
    assert episode.steps == 4
    assert episode.metadata["success"] is None
    assert episode.metadata["end_reason"].startswith("fault: OSError")
    assert not episode.arrays["rl/terminated"].any()


def test_a_row_that_cannot_be_stored_ends_the_episode_before_it(store: EpisodeStore) -> None:
    """The policy's extras turn NaN at step 4: refused by name, what was recorded before is whole."""
    env = counting_env(9)

    class Broken(CountingPolicy):
        def act(self, window, context):  # type: ignore[no-untyped-def]
            chunk = super().act(window, context)
            if context.step[0] == 4:
                chunk.record["base_action"][:] = np.nan
            return chunk

    policy = Broken(env.spec, 2, 2, records=True)
    recorder = EpisodeRecorder(store, extras=policy.spec.record)
    earlier = run_episode(env, CountingPolicy(env.spec, 2, 2, records=True), [recorder], seed=0)
    with pytest.raises(EpisodeError, match=r"policy/base_action.*row 4"):
        run_episode(env, policy, [recorder], seed=1)
    lengths = [info.length for info in store.infos()]
    assert lengths == [earlier.length, 3]  # rows 0 to 3, the last as the final observation
    assert store.verify() == []


def test_a_simulator_faster_than_the_disk_waits(store: EpisodeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that looks at its ring five times a second: the ring fills, with rows and with decisions."""
    monkeypatch.setattr("robot_rl.data.journal_writer.POLL_PERIOD_S", 0.2)
    env = counting_env(400)
    run_episode(env, CountingPolicy(env.spec, execute=1), [EpisodeRecorder(store)], seed=0)
    assert store.infos()[0].length == 400
    assert len(store.read(store.ids()[0]).arrays["decision/step"]) == 400


def test_a_late_step_is_stored_as_not_valid_and_the_episode_goes_on(store: EpisodeStore) -> None:
    env = counting_env(8)

    class Slow(Tape):
        def on_step(self, row: StepRow) -> None:
            if row.observation.step == 2:
                env.clock.wait_until(env.clock.now_ns() + int(2.5 * env.spec.step_period_ns))

    end = run_episode(env, CountingPolicy(env.spec), [EpisodeRecorder(store), Slow()], seed=0)
    arrays = store.read(store.ids()[0]).arrays
    np.testing.assert_array_equal(arrays["action_valid"], [True] * 3 + [False] + [True] * 3 + [False])
    np.testing.assert_array_equal(arrays["flags/overrun"], [False] * 3 + [True] + [False] * 4)
    np.testing.assert_array_equal(np.diff(arrays["time/t_ns"]) // 25_000_000, [2, 2, 2, 5, 1, 2, 2])
    assert end.length == len(arrays["action_valid"]) - 1 == 7  # one step of the eight was missed
