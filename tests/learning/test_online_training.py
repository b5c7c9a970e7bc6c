"""Targets through the real path: writer -> journal or episode file -> replay -> RLPD, each worked out by hand.

Target critics say 0.5 everywhere and the discount is 0.5, so that what is left of it tells how many steps a target
spans.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.gaussian import GaussianPolicy
from policies.q_ensemble import QEnsemble
from robot_rl.data.replay_union import ReplayUnion
from robot_rl.data.sampling import Stream
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError
from robot_rl.interfaces import LearnerTransport
from robot_rl.learning.offline_training import Provenance
from robot_rl.learning.online_training import OnlineReplay, OnlineSchedule, OnlineTraining
from robot_rl.learning.rlpd import Rlpd
from robot_rl.learning.training_run import TrainingRun, read_rows
from robot_rl.learning.update_ratio import UpdateRatio
from robot_rl.transport.local import LocalTransport
from robot_rl.types import Array, EpisodeEnd, Phase, ReplayView
from tests.data.recorded_rows import make_row, make_spec

SPEC = make_spec(cameras={})
AHEAD = 0.5  # what the target critics say of every state
END = EpisodeEnd("time_limit", None, 0)


def make_learner(**options: Any) -> Rlpd:
    """Tiny RLPD whose target critics say ``AHEAD`` everywhere."""
    policy = GaussianPolicy(SPEC, hidden=(8,), seed=1)
    policy.fit_normalizer({"obs/arm0/joint_position": np.ones((4, 4), np.float32)})
    critic = functools.partial(QEnsemble, hidden=(8,))
    learner = Rlpd(policy, critic, discount=0.5, **{"demonstrations": False, **options})
    with torch.no_grad():
        for name, value in learner.target.named_parameters():
            if name.startswith("out"):
                value.fill_(AHEAD if name.endswith("bias") else 0.0)
    return learner


def record(
    store: EpisodeStore,
    steps: int,
    *,
    success: bool = False,
    terminated: bool = False,
    human: Any = (),
    end: bool = True,
) -> Any:
    """An episode without reward but for a success at its end; ``human`` names steps."""
    writer = store.begin(SPEC)
    for t in range(steps + 1):
        row, last = make_row(SPEC, 0, t, final=t == steps), t == steps - 1
        row = replace(row, reward=float(success and last), success=success and last, terminated=terminated and last)
        if t in human:
            row = replace(row, action=replace(row.action, source=Phase.HUMAN, human=row.action.commanded))
        writer.append(row)
    writer.flush()
    return writer.end(END) if end else writer


def targets(store: EpisodeStore, learner: Rlpd) -> dict[int, float]:
    """Target of every transition of the view ``online``, by its row."""
    replay = OnlineReplay(learner.views, store, None, batch=1)
    replay.refresh()
    assert replay.online is not None
    found = {}
    for part in replay.online.parts:
        for number in range(len(part)):
            batch = part.gather(np.array([number]))
            found[int(batch["row"][0])] = target(learner, batch)
    return found


def target(learner: Rlpd, batch: dict[str, Array]) -> float:
    tensors = {key: torch.from_numpy(value) for key, value in batch.items()}
    features = learner.policy.features(learner._observed(tensors, "next/"))
    noise, chosen = torch.zeros(1, learner.policy.action_size), torch.tensor([0, 1])
    found = learner.losses.target_of(
        tensors["reward"], tensors["bootstrap"], features, noise, chosen, learner.log_temperature
    )
    return float(found)


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    return EpisodeStore.create(tmp_path / "session", spec=SPEC)


def test_a_success_ends_the_target_and_a_time_limit_bootstraps(store: EpisodeStore) -> None:
    record(store, 3, success=True, terminated=True)
    assert targets(store, make_learner()) == pytest.approx({0: 0.25, 1: 0.25, 2: 1.0})


def test_a_time_limit_bootstraps_from_the_final_observation(store: EpisodeStore) -> None:
    record(store, 3)
    assert targets(store, make_learner()) == pytest.approx({0: 0.25, 1: 0.25, 2: 0.25})


def test_three_steps_are_summed_and_fewer_where_the_episode_ends(store: EpisodeStore) -> None:
    """Rows 0 and 1 span three steps: 0.5^3 * 0.5; row 2 earns 0.5^2 * 1 and ends, row 3 0.5, row 4 1."""
    record(store, 5, success=True, terminated=True)
    expected = {0: 0.0625, 1: 0.0625, 2: 0.25, 3: 0.5, 4: 1.0}
    assert targets(store, make_learner(n_step=3)) == pytest.approx(expected)


def test_three_steps_before_a_time_limit_bootstrap_at_their_real_length(store: EpisodeStore) -> None:
    record(store, 4)
    expected = {0: 0.0625, 1: 0.0625, 2: 0.125, 3: 0.25}
    assert targets(store, make_learner(n_step=3)) == pytest.approx(expected)


def test_windows_are_cut_where_a_human_takes_over_and_hands_back(store: EpisodeStore) -> None:
    """Steps 2 and 3 are human: row 0 spans 0-1, row 1 one step, row 2 spans 2-3, row 3 one, then three steps again."""
    record(store, 7, human=(2, 3))
    expected = {0: 0.125, 1: 0.25, 2: 0.125, 3: 0.25, 4: 0.0625, 5: 0.125, 6: 0.25}
    assert targets(store, make_learner(n_step=3)) == pytest.approx(expected)


def test_a_running_episode_gives_the_targets_of_its_rows_so_far(store: EpisodeStore) -> None:
    writer = record(store, 3, end=False)
    assert targets(store, make_learner()) == pytest.approx({0: 0.25, 1: 0.25, 2: 0.25})
    writer.discard("test")


def test_minus_one_per_step_until_success_is_shift_and_scale(store: EpisodeStore) -> None:
    """r' = r - 1: with 0.5 clipped to the attainable 0, rows cost 1 and the success nothing."""
    record(store, 2, success=True, terminated=True)
    learner = make_learner(reward_shift=-1.0)
    with torch.no_grad():
        for name, value in learner.target.named_parameters():
            if name.endswith("out.bias"):
                value.fill_(-1.5)
    assert targets(store, learner) == pytest.approx({0: -1.75, 1: 0.0})


def test_a_relabelled_episode_changes_rewards_and_end(store: EpisodeStore) -> None:
    won, lost = record(store, 2, success=True, terminated=True), record(store, 2)
    store.annotate(won.id, success=False)
    store.annotate(lost.id, success=True)
    replay = OnlineReplay(make_learner().views, store, None, batch=1)
    replay.refresh()
    assert replay.online is not None
    batch = replay.online.committed.gather(np.arange(4))
    assert batch["reward"].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert batch["bootstrap"].tolist() == [0.5, 0.5, 0.5, 0.0]


def make_training(
    store: EpisodeStore, folder: Path, learner: Rlpd, transport: LearnerTransport, **schedule: int
) -> OnlineTraining:
    replay = OnlineReplay(learner.views, store, None, batch=4)
    ratio = UpdateRatio(2.0, 2.0, start=4)
    options = OnlineSchedule(**{"group": 2, "log_every": 5, "diagnose_every": 5, **schedule})
    provenance = Provenance({"_target_": "policies.gaussian.GaussianPolicy", "hidden": [8]}, SPEC, {})
    return OnlineTraining(learner, replay, ratio, TrainingRun(folder), options, provenance, transport)


def test_updates_follow_the_received_steps_and_weights_go_out(store: EpisodeStore, tmp_path: Path) -> None:
    transport = LocalTransport(store)
    training = make_training(store, tmp_path / "run", make_learner(), transport)
    training.replay.refresh()
    assert training.work() == 0  # nothing there
    writer = store.begin(SPEC)
    made, versions = [], []
    for t in range(8):
        writer.append(make_row(SPEC, 0, t))
        writer.flush()
        made.append(training.work())
        weights = transport.latest()
        versions.append(weights.version if weights else None)
    # steps received: 0 ... 7; from the fourth on two each, those before included
    assert made == [0, 0, 0, 0, 8, 2, 2, 2]
    assert training.work() == 0  # starved: it waits
    assert versions == [None, None, None, None, 8, 10, 12, 14]
    published, state = transport.latest(), training.learner.acting_state()
    assert published is not None
    assert all(np.array_equal(state[name].numpy(), value) for name, value in published.tensors.items())
    writer.append(make_row(SPEC, 0, 8, final=True))
    writer.end(END)
    assert training.work() == 2
    training.run.close()


def test_the_log_tells_of_learning_traffic_and_values(store: EpisodeStore, tmp_path: Path) -> None:
    training = make_training(store, tmp_path / "run", make_learner(), LocalTransport(store))
    record(store, 12, success=True, terminated=True)
    training.work()
    training.run.close()
    (row,) = read_rows(tmp_path / "run" / "metrics.jsonl")
    wanted = {"q", "target", "critic_loss", "actor_loss", "entropy", "temperature", "head", "update_ratio"}
    wanted |= {"staleness_updates", "staleness_s", "q_minus_return", "dormant_actor", "dormant_critic"}
    assert wanted <= row.keys()
    assert (row["step"], row["head"], row["updates"], row["update_ratio"]) == (12, 13.0, 24.0, 2.0)


def test_a_relabel_by_another_process_counts_from_the_next_update_on(store: EpisodeStore, tmp_path: Path) -> None:
    """The session goes on with the same running episode, and nothing arrives."""
    training = make_training(store, tmp_path / "run", make_learner(), LocalTransport(store))
    ended = record(store, 4)
    running = record(store, 3, end=False)
    training.work()
    committed = training.replay.online.committed

    def bootstraps() -> list[float]:
        return committed.gather(np.arange(len(committed)))["bootstrap"].tolist()

    assert bootstraps() == [0.5] * 4
    EpisodeStore.open(store.root, recover=False).annotate(ended.id, success=True, success_step=1)
    assert training.replay.relabelled
    training.work()
    assert bootstraps() == [0.5, 0.0]
    assert not training.replay.relabelled
    running.discard("test")
    training.run.close()


def test_batches_fill_the_same_memory_with_what_fresh_arrays_would_hold(store: EpisodeStore) -> None:
    demonstrations = EpisodeStore.create(store.root.parent / "shown", spec=SPEC)
    record(demonstrations, 9)
    record(store, 7, human=(1, 2))
    running = record(store, 6, human=(4,), end=False)
    replay = OnlineReplay(make_learner(demonstrations=True).views, store, demonstrations, batch=16)
    replay.refresh()
    places = []
    for first in (0, 5):
        batches = replay.batches(first, 3)
        for name, union in replay.unions.items():
            for group in range(3):
                fresh = union.batch(first + group)
                assert fresh.keys() == batches[name].keys()
                for key, value in fresh.items():
                    np.testing.assert_array_equal(batches[name][key][group].numpy(), value)
                _is_drawn_by_number(union, fresh, first + group)
        places.append(
            {(name, key): value.data_ptr() for name, batch in batches.items() for key, value in batch.items()}
        )
    assert places[0] == places[1]
    running.discard("test")


def _is_drawn_by_number(union: ReplayUnion, batch: dict[str, Array], step: int) -> None:
    """Each row is the transition with the number that the stream says, one part's numbers after the other's."""
    everything = np.concatenate([part.gather(np.arange(len(part)))["action"] for part in union._parts if len(part)])
    numbers = Stream(len(union), union.seed).at(np.arange(8 * step, 8 * step + 8))
    np.testing.assert_array_equal(batch["action"], everything[numbers])


def test_own_successes_are_drawn_as_demonstrations_until_they_are_revoked(store: EpisodeStore) -> None:
    demonstrations = EpisodeStore.create(store.root.parent / "demonstrations", spec=SPEC)
    record(demonstrations, 3, success=True, terminated=True)
    learner = make_learner(demonstrations=True)
    replay = OnlineReplay(learner.views, store, demonstrations, batch=2, successes=True)
    replay.refresh()
    assert len(replay.unions["demonstrations"]) == 3
    record(store, 4)
    won = record(store, 5, success=True, terminated=True)
    store.annotate(won.id, success=True)
    replay.refresh()
    assert (len(replay.unions["demonstrations"]), len(replay.unions["online"])) == (3 + 5, 4 + 5)
    store.annotate(won.id, success=False)
    replay.refresh()
    assert (len(replay.unions["demonstrations"]), len(replay.unions["online"])) == (3, 4 + 5)


def test_a_learner_that_needs_demonstrations_says_so(store: EpisodeStore) -> None:
    learner = make_learner(demonstrations=True)
    with pytest.raises(ConfigError, match="demos="):
        OnlineReplay(learner.views, store, None, batch=4)
    with pytest.raises(ConfigError, match="multiple of 2"):
        OnlineReplay(learner.views, store, store, batch=5)


class Noting:
    """A learner that notes of what its batches were, and when."""

    pretrains = True

    def __init__(self) -> None:
        view = ReplayView(observation=("obs/arm0/joint_position",))
        self.views = {"online": view, "demonstrations": view}
        self.seen: list[tuple[str, ...]] = []

    def update(self, batches: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, float]:
        self.seen.append(tuple(batches))
        return {"loss": 0.0}

    def acting_state(self) -> dict[str, torch.Tensor]:
        return {"updates": torch.tensor(float(len(self.seen)))}

    def state_dict(self) -> dict[str, Any]:
        return self.acting_state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def beginning(
    store: EpisodeStore, folder: Path, demonstrations: EpisodeStore | None, learner: Any, resume: bool = False
) -> OnlineTraining:
    replay = OnlineReplay(learner.views, store, demonstrations, batch=4, corrections_only=demonstrations is None)
    return OnlineTraining(
        learner,
        replay,
        UpdateRatio(2.0, 2.0),
        TrainingRun(folder, resume=resume),
        OnlineSchedule(group=2, pretrain=6),
        Provenance({"_target_": "policies.gaussian.GaussianPolicy", "hidden": [8]}, SPEC, {}),
        LocalTransport(store),
    )


def test_a_new_run_learns_from_demonstrations_first_and_owes_nothing(store: EpisodeStore, tmp_path: Path) -> None:
    demonstrations = EpisodeStore.create(tmp_path / "demos", spec=SPEC)
    record(demonstrations, 5, success=True, terminated=True)
    learner = Noting()
    training = beginning(store, tmp_path / "run", demonstrations, learner)
    training.begin()
    assert learner.seen == [("demonstrations",)] * 3  # six critic steps by groups of two
    published = training.transport.latest()  # type: ignore[attr-defined]
    assert (published.tensors["updates"], published.version, training.ratio.updates) == (3.0, 0, 0)
    record(store, 2)
    assert training.work() == 4
    assert learner.seen[3:] == [("online", "demonstrations")] * 2
    training.save({})
    training.run.close()

    resumed = Noting()
    again = beginning(store, tmp_path / "run", demonstrations, resumed, resume=True)
    again.resume()
    again.begin()
    assert resumed.seen == []
    again.run.close()


def test_what_cannot_be_learnt_from_demonstrations_alone_is_refused(store: EpisodeStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pretrain=2.*demonstrations alone"):
        make_training(store, tmp_path / "run", make_learner(), LocalTransport(store), pretrain=2)
    training = beginning(store, tmp_path / "none", None, Noting())
    with pytest.raises(ConfigError, match="without demonstrations"):
        training.begin()
    training.run.close()
