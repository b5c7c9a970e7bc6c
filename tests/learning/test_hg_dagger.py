"""HG-DAgger: the rows it sees, and that it learns what was shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from policies.gaussian import GaussianPolicy
from robot_rl.data.store import EpisodeStore
from robot_rl.learning.hg_dagger import HgDagger
from robot_rl.learning.online_training import OnlineReplay
from robot_rl.types import ActionKind, ActionPart, ActionSpec, EpisodeEnd, Phase
from tests.data.recorded_rows import make_row, make_spec

SPEC = replace(
    make_spec(cameras={}), action=ActionSpec((ActionPart("arm0/joints", ActionKind.RAW, (-1,) * 3, (1,) * 3),))
)


def make_policy() -> GaussianPolicy:
    policy = GaussianPolicy(SPEC, hidden=(32,), seed=1)
    policy.fit_normalizer({"obs/arm0/joint_position": np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)})
    return policy


def test_it_learns_the_actions_it_is_shown_at_the_limits_too() -> None:
    """Action = (x0 / 2, -x0 / 2, +-1): the last saturates."""
    learner = HgDagger(make_policy(), learning_rate=3e-3)
    losses = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        seen = torch.rand(2, 64, 1, 4, generator=generator) * 2 - 1
        x = seen[:, :, 0, :1]
        action = torch.cat([x / 2, -x / 2, x.sign()], dim=-1)[:, :, None]
        batch = {"obs/arm0/joint_position": seen, "action": action}
        losses.append(learner.update({"demonstrations": batch})["loss"])
    assert losses[-1] < 0.1 * losses[0]
    seen = torch.linspace(-0.9, 0.9, 10)[:, None, None].expand(10, 1, 4)
    features = learner.policy.features({"arm0/joint_position": seen})
    mean, _ = learner.policy.sample(features, torch.zeros(10, 3))
    x = seen[:, 0, 0]
    assert (mean[:, 0] - x / 2).abs().max() < 0.1
    assert ((mean[:, 2] * x.sign()) > 0.8).all()


def record(store: EpisodeStore, steps: int, human: range, seed: int) -> None:
    writer = store.begin(SPEC)
    for t in range(steps + 1):
        row = make_row(SPEC, seed, t, final=t == steps)
        if t in human:
            row = replace(row, action=replace(row.action, source=Phase.HUMAN, human=row.action.commanded))
        writer.append(row)
    writer.end(EpisodeEnd("time_limit", None, steps))


def test_only_demonstrations_and_corrections_are_imitated(tmp_path: Path) -> None:
    """All three steps of the demonstration, and of the session's nine those at which the person commanded."""
    demonstrations, session = (EpisodeStore.create(tmp_path / name, spec=SPEC) for name in ("demos", "session"))
    record(demonstrations, 3, range(0), seed=1)
    replay = OnlineReplay(HgDagger(make_policy()).views, session, demonstrations, batch=8)
    replay.refresh()
    assert replay.ready and replay.online.steps == 0
    record(session, 9, range(4, 7), seed=0)
    replay.refresh()
    assert replay.online.steps == 9  # what the update ratio counts
    drawn = {float(action[0, 0]) for action in replay.batches(0, 40)["demonstrations"]["action"].reshape(-1, 1, 3)}
    assert drawn == {1000.0, 1010.0, 1020.0, 40.0, 50.0, 60.0}


def test_corrections_can_take_the_place_of_demonstrations(tmp_path: Path) -> None:
    """Nothing can be drawn before the first correction, and then only these."""
    demonstrations, session = (EpisodeStore.create(tmp_path / name, spec=SPEC) for name in ("demos", "session"))
    record(demonstrations, 3, range(0), seed=1)
    replay = OnlineReplay(HgDagger(make_policy()).views, session, demonstrations, batch=8, corrections_only=True)
    record(session, 5, range(0), seed=0)
    replay.refresh()
    assert not replay.ready
    record(session, 5, range(2, 4), seed=2)
    replay.refresh()
    assert replay.ready
    drawn = {float(action[0, 0]) for action in replay.batches(0, 20)["demonstrations"]["action"].reshape(-1, 1, 3)}
    assert drawn == {2020.0, 2030.0}
