from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.symmetry import CanonicalReflection
from robot_rl.errors import ConfigError
from robot_rl.types import ActContext
from tests.policies.tiny import make_policy, make_rows, make_window

# The plane mirrored at x = 0.5; angles turn the other way.
MIRROR = {"matrix": [[-1, 0], [0, 1]], "offset": [1, 0]}
MAPS = {"bead/position": MIRROR, "wire/angle": {"matrix": [[-1]], "offset": [0]}, "action": MIRROR}


def make_symmetry() -> CanonicalReflection:
    return CanonicalReflection(MAPS, side_key="bead/position", side_normal=[1, 0], side_threshold=0.5)


def mirrored(window: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    position = window["bead/position"] * np.array([-1, 1], dtype=np.float32) + np.array([1, 0], dtype=np.float32)
    return {"bead/position": position, "wire/angle": -window["wire/angle"]}


def test_reflection_by_hand() -> None:
    symmetry = make_symmetry()
    seen = {
        "bead/position": torch.tensor([[[0.2, 3.0], [0.9, 4.0]], [[0.9, 3.0], [0.2, 4.0]]]),
        "wire/angle": torch.tensor([[[0.1], [0.2]], [[0.3], [0.4]]]),
    }
    where = symmetry.reflected(seen)
    assert where.tolist() == [True, False]  # the current step decides
    found = symmetry.observation(seen, where)
    torch.testing.assert_close(found["bead/position"][0], torch.tensor([[0.8, 3.0], [0.1, 4.0]]))
    torch.testing.assert_close(found["wire/angle"][0], torch.tensor([[-0.1], [-0.2]]))
    assert torch.equal(found["bead/position"][1], seen["bead/position"][1])
    chunk = torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]])
    torch.testing.assert_close(symmetry.action(chunk, where), torch.tensor([[[1.0, 1.0]], [[0.0, 1.0]]]))
    torch.testing.assert_close(symmetry.action(symmetry.action(chunk, where), where), chunk)


def test_a_policy_with_a_symmetry_plans_the_mirror_image_of_the_mirrored_scene() -> None:
    policy = make_policy(symmetry=make_symmetry())
    policy.fit_normalizer(make_rows())
    with torch.no_grad():
        draw = torch.Generator().manual_seed(2)
        for value in policy.module.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=draw))
    window, plans = make_window(6), []
    for seen in (window, mirrored(window)):
        policy.reset(np.arange(6), np.arange(6))
        plans.append(policy.act(seen, ActContext.start(6)).actions)
    expected = plans[0] * np.array([-1, 1]) + np.array([1, 0])
    np.testing.assert_allclose(plans[1], expected, atol=1e-5)


def test_training_on_a_scene_is_training_on_its_mirror_image() -> None:
    policy = make_policy(symmetry=make_symmetry())
    policy.fit_normalizer(make_rows())
    window = make_window(16)
    action = np.random.default_rng(1).uniform(-1, 1, (16, 8, 2)).astype(np.float32)
    losses = []
    for seen, chunk in ((window, action), (mirrored(window), action * [-1, 1] + [1, 0])):
        batch = {f"obs/{key}": torch.from_numpy(value) for key, value in seen.items()}
        batch["action/commanded"] = torch.from_numpy(chunk.astype(np.float32))
        losses.append(policy.loss(batch, torch.Generator().manual_seed(0)).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_what_is_no_reflection_is_refused() -> None:
    with pytest.raises(ConfigError, match="'action'"):
        CanonicalReflection({"bead/position": MIRROR}, "bead/position", [1, 0], 0.5)
    turn = {"matrix": [[0, -1], [1, 0]], "offset": [0, 0]}
    with pytest.raises(ConfigError, match="its own inverse"):
        CanonicalReflection({**MAPS, "action": turn}, "bead/position", [1, 0], 0.5)
