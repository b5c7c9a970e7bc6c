"""Camera encoders of another run: a frozen one keeps them, the layer that reads out may differ, misfits are named."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.conv_encoder import ConvEncoder
from policies.gaussian import GaussianPolicy
from policies.q_ensemble import QEnsemble
from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.learning.camera_encoders import take_camera_encoders
from robot_rl.learning.checkpoint import save_checkpoint
from robot_rl.learning.rlpd import Rlpd
from robot_rl.learning.targets import build
from tests.learning.judged_episodes import CONFIG, SIDE, SPEC


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of camera 'front': two convolutions of 8 channels, read out into 16."""
    folder = tmp_path_factory.mktemp("runs") / "judge"
    state = build({**CONFIG, "seed": 5}, env_spec=SPEC).state_dict()
    return save_checkpoint(folder, weights=state, config=CONFIG, env_spec=SPEC)


def make(channels: tuple[int, ...] = (8, 8), **options: Any) -> GaussianPolicy:
    eye: Any = functools.partial(ConvEncoder, height=SIDE, width=SIDE, channels=channels, shift=1, size=12, **options)
    return GaussianPolicy(SPEC, observation={}, cameras={"front": eye}, hidden=(8,))


def test_a_frozen_encoder_keeps_the_weights_of_another_run_while_the_rest_learns(run: Path) -> None:
    policy = make(frozen=True)
    assert take_camera_encoders(policy, run) == 4  # two convolutions; the read-out is of another size
    taken = {name: value.clone() for name, value in policy.state_dict().items() if "convolutions" in name}
    stored = build({**CONFIG, "seed": 5}, env_spec=SPEC).state_dict()
    assert len(taken) == 4 and all(torch.equal(value, stored[name]) for name, value in taken.items())
    learner = Rlpd(policy, functools.partial(QEnsemble, hidden=(8,)), demonstrations=False, augmentations=2)
    before = learner.acting_state()
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (1, 4, 1, SIDE, SIDE, 3), np.uint8))
    batch = {"images/front": image, "next/images/front": image, "action": torch.zeros(1, 4, 1, 3)}
    learner.update({"online": {**batch, "reward": torch.ones(1, 4), "bootstrap": torch.zeros(1, 4)}})
    after = learner.acting_state()
    assert all(torch.equal(after[name], value) for name, value in taken.items())
    read_out = "module.encoder.cameras.front.out.0.weight"
    assert not torch.equal(after[read_out], before[read_out])


def test_random_views_differ(run: Path) -> None:
    """Copies of one image are moved each on its own, so that a target is the mean over unlike views."""
    learner = Rlpd(make(), functools.partial(QEnsemble, hidden=(8,)), demonstrations=False, augmentations=2)
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (8, 1, SIDE, SIDE, 3), np.uint8))
    features = learner._features({"images/front": image}, "", torch.Generator().manual_seed(0))
    assert features.shape == (16, 12) and not torch.allclose(features[:8], features[8:])


def test_what_does_not_fit_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'front' has no frozen 'convolutions.0.weight' of shape \[4, 3, 3, 3\]"):
        take_camera_encoders(make((4, 4), frozen=True), run)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        take_camera_encoders(make(), tmp_path / "nothing")
    with pytest.raises(ConfigError, match="without cameras"):
        take_camera_encoders(GaussianPolicy(SPEC, hidden=(8,)), run)
