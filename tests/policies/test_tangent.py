"""Corrections of actions: which components, how far, and rotations turned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.tangent import Tangent
from robot_rl.errors import ConfigError
from robot_rl.geometry import quat_xyzw_from_rotvec, quat_xyzw_multiply
from robot_rl.types import ActionKind, ActionPart, ActionSpec

GRIPPER = ActionPart("arm0/gripper", ActionKind.GRIPPER, (0.0,), (1.0,))
DELTA = ActionPart("arm0/tcp", ActionKind.TCP_DELTA, (-0.02,) * 3 + (-0.1,) * 3, (0.02,) * 3 + (0.1,) * 3)
POSE = ActionPart("arm0/tcp", ActionKind.TCP_POSE, (-2.0,) * 3 + (-1.0,) * 4, (2.0,) * 3 + (1.0,) * 4)


def test_a_correction_is_a_share_of_the_limits_but_no_less_than_the_floor_and_leaves_the_gripper() -> None:
    """Half ranges 0.02 m and 0.1 rad: a tenth is 0.002 m, below the floor of 0.004, and 0.01 rad."""
    tangent = Tangent(ActionSpec((GRIPPER, DELTA)), 0.1, 0.004)
    assert tangent.scale.tolist() == pytest.approx([0.004] * 3 + [0.01] * 3)
    base = torch.tensor([[0.7, 0.01, 0.0, -0.01, 0.05, 0.0, 0.02]])
    moved = tangent.corrected(base, torch.tensor([[1.0, -0.5, 0.0, 0.2, 0.0, -1.0]]))
    expected = [0.7, 0.014, -0.002, -0.01, 0.052, 0.0, 0.01]
    torch.testing.assert_close(moved[0], torch.tensor(expected))
    torch.testing.assert_close(tangent.between(base, moved), torch.tensor([[1.0, -0.5, 0.0, 0.2, 0.0, -1.0]]))
    far = tangent.between(base, base + torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    assert far.tolist() == [[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]  # as near as it can


def test_an_absolute_rotation_is_turned_in_the_base_frame() -> None:
    tangent = Tangent(ActionSpec((POSE, GRIPPER)), 0.5, 0.0)
    assert tangent.size == 6
    rng = np.random.default_rng(0)
    start = quat_xyzw_from_rotvec(rng.normal(size=3))
    by = rng.uniform(-1, 1, 6).astype(np.float32)
    base = torch.tensor([[0.4, 0.1, 0.2, *start, 0.3]], dtype=torch.float32)
    moved = tangent.corrected(base, torch.from_numpy(by)[None])[0].numpy()
    np.testing.assert_allclose(moved[:3], base[0, :3].numpy() + by[:3], atol=1e-6)  # half of 2 m
    turned = quat_xyzw_multiply(quat_xyzw_from_rotvec(0.5 * by[3:]), start)
    np.testing.assert_allclose(moved[3:7], turned, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(moved[3:7]), 1.0, atol=1e-6)
    assert moved[7] == np.float32(0.3)
    back = tangent.between(base, torch.from_numpy(moved)[None])[0].numpy()
    np.testing.assert_allclose(back, by, atol=1e-5)


@pytest.mark.parametrize("part", [DELTA, POSE], ids=["delta", "pose"])
def test_nothing_changes_nothing_and_yet_has_a_gradient(part: ActionPart) -> None:
    """An untrained residual is zero: it could not learn without a slope there."""
    tangent = Tangent(ActionSpec((part,)), 0.2, 0.0)
    base = torch.randn((5, part.size), generator=torch.Generator().manual_seed(0))
    by = torch.zeros((5, tangent.size), requires_grad=True)
    moved = tangent.corrected(base, by)
    assert torch.equal(moved, base)
    (moved * torch.randn(moved.shape)).sum().backward()
    assert by.grad is not None and torch.isfinite(by.grad).all() and (by.grad != 0).all()


def test_impossible_corrections_are_refused() -> None:
    with pytest.raises(ConfigError, match="fraction=0"):
        Tangent(ActionSpec((DELTA,)), 0.0, 0.0)
    with pytest.raises(ConfigError, match="grippers alone"):
        Tangent(ActionSpec((GRIPPER,)), 0.1, 0.0)
