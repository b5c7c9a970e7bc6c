from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from policies.features import (
    Difference,
    InFrame,
    InPlanarFrame,
    NearGoal,
    PlanarPoints,
    Position,
    Raw,
    Rot6d,
    SinCos,
    every_feature,
    named_features,
)
from robot_rl.errors import ConfigError, SpecMismatchError
from robot_rl.geometry import matrix_from_quat_xyzw, pose_inverse, pose_multiply, rot6d_from_matrix
from robot_rl.types import ArraySpec

QUARTER = [0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5)]  # 90 degrees about z


def one(**values: list[float]) -> dict[str, torch.Tensor]:
    return {key: torch.tensor(value) for key, value in values.items()}


def test_features_by_hand() -> None:
    seen = one(pose=[1.0, 2.0, 3.0, *QUARTER], other=[2.0, 2.0, 5.0, 0.0, 0.0, 0.0, 1.0], flat=[4.0, 5.0, math.pi / 2])
    cases = [
        (Raw("flat"), [4, 5, math.pi / 2]),
        (Raw("flat", [2, 0]), [math.pi / 2, 4]),
        (Position("pose"), [1, 2, 3]),
        (Rot6d("pose"), [1, 2, 3, 0, 1, 0, -1, 0, 0]),
        (SinCos("flat", [2]), [4, 5, 0, 1]),
        (Difference("other", "pose"), [1, 0, 2]),
        (InFrame("other", "pose"), [0, -1, 2]),
        (PlanarPoints("flat", [[0, 0], [2, 1]]), [4, 5, 3, 7]),
        (InPlanarFrame("pose", "flat"), [-3, 3]),
        (NearGoal(Raw("flat", [0]), [3.0], 2.0), [math.tanh(0.5)]),
    ]
    for feature, expected in cases:
        found = feature(seen)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), atol=1e-6, rtol=0)


def test_pose_features_agree_with_the_geometry_module() -> None:
    random = np.random.default_rng(0)
    poses = random.normal(size=(20, 2, 7))
    poses[..., 3:] /= np.linalg.norm(poses[..., 3:], axis=-1, keepdims=True)
    seen = {"a": torch.tensor(poses[:, 0]), "b": torch.tensor(poses[:, 1])}
    expected = rot6d_from_matrix(matrix_from_quat_xyzw(poses[:, 0, 3:]))
    np.testing.assert_allclose(Rot6d("a")(seen)[:, 3:].numpy(), expected, atol=1e-12)
    relative = pose_multiply(pose_inverse(poses[:, 1]), poses[:, 0])
    np.testing.assert_allclose(InFrame("a", "b")(seen).numpy(), relative[:, :3], atol=1e-12)


def test_features_keep_leading_axes() -> None:
    pose = torch.rand(5, 2, 3)
    assert PlanarPoints("tee", [[0, 0], [1, 1], [2, 0]])({"tee": pose}).shape == (5, 2, 6)
    assert SinCos("tee", [2])({"tee": pose}).shape == (5, 2, 4)


def test_names_choose_representations_and_poses_become_rot6d_by_themselves() -> None:
    specs = {"arm0/tcp_pose": ArraySpec((7,)), "arm0/gripper_opening": ArraySpec((1,))}
    kinds = [type(feature) for feature in every_feature(specs)]
    assert kinds == [Rot6d, Raw]
    chosen = named_features({"arm0/gripper_opening": "raw", "arm0/tcp_pose": "position"}, specs)
    assert [feature.keys for feature in chosen] == [("arm0/gripper_opening",), ("arm0/tcp_pose",)]
    with pytest.raises(SpecMismatchError, match="Did you mean 'arm0/tcp_pose'"):
        named_features({"arm0/tcp_pos": "raw"}, specs)
    with pytest.raises(ConfigError, match="rot6d"):
        named_features({"arm0/tcp_pose": "rot6"}, specs)
