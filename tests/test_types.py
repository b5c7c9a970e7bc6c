"""Specs: round trips through JSON, what is refused and what is listed, limits and names in every message."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot_rl.errors import InvalidArrayError, RobotRlError, SpecMismatchError, valid_choices
from robot_rl.types import (
    ActionKind,
    ActionPart,
    ActionSpec,
    ArraySpec,
    CameraSpec,
    EnvSpec,
    Offsets,
    TargetChunk,
    check_finite,
    compare_specs,
)

pytestmark = pytest.mark.robot


def make_spec() -> EnvSpec:
    return EnvSpec(
        robot="fake",
        step_rate_hz=20.0,
        observation={"arm0/tcp_pose": ArraySpec((7,), unit="m", frame="base", names=tuple("xyzabcd"))},
        action=ActionSpec(
            (
                ActionPart("arm0/tcp", ActionKind.TCP_POSITION_DELTA, (-0.02,) * 3, (0.02,) * 3, "m", "base"),
                ActionPart("arm0/gripper", ActionKind.GRIPPER, (0.0,), (1.0,)),
            )
        ),
        cameras={"front": CameraSpec(96, 96, 20.0)},
        task="lift",
        limits={"max_speed_m_s": 0.25},
    )


def test_spec_round_trips_through_json() -> None:
    spec = make_spec()
    again = EnvSpec.from_json(spec.to_json())
    assert again == spec
    assert again.sha256() == spec.sha256()
    assert EnvSpec.from_json({**spec.to_json(), "added_by_a_newer_version": 1}) == spec


def test_action_layout() -> None:
    action = make_spec().action
    assert action.size == 4
    assert action.slices == {"arm0/tcp": slice(0, 3), "arm0/gripper": slice(3, 4)}
    np.testing.assert_array_equal(action.low, np.float32([-0.02, -0.02, -0.02, 0.0]))
    with pytest.raises(SpecMismatchError, match="Did you mean 'arm0/gripper'"):
        action.part("arm0/griper")


@pytest.mark.parametrize(
    ("low", "high", "reason"), [((0.0,), (1.0, 1.0), "lower and"), ((1.0,), (1.0,), "at or above")]
)
def test_bad_limits_are_refused(low: tuple, high: tuple, reason: str) -> None:
    with pytest.raises(InvalidArrayError, match=reason):
        ActionPart("arm0/gripper", ActionKind.GRIPPER, low, high)


def test_size_of_a_pose_is_seven() -> None:
    with pytest.raises(InvalidArrayError, match="7 of each for tcp_pose"):
        ActionPart("arm0/tcp", ActionKind.TCP_POSE, (0.0,) * 6, (1.0,) * 6)


CHANGES = {
    "rate": ({"step_rate_hz": 10.0}, "step_rate_hz: expected 20.0, found 10.0"),
    "task": ({"task": "reach"}, "task: expected lift, found reach"),
    "parts": ({"arm_parts": ("arm0", "arm1")}, "arm_parts"),
    "unit": ({"observation": {"arm0/tcp_pose": ArraySpec((7,), unit="mm", frame="base")}}, "arm0/tcp_pose"),
    "missing": ({"observation": {}}, "'arm0/tcp_pose' is missing"),
    "camera": ({"cameras": {}}, "camera 'front' is missing"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_refused(name: str) -> None:
    change, reason = CHANGES[name]
    refused, _ = compare_specs(make_spec(), replace(make_spec(), **change))
    assert len(refused) == 1
    assert reason in refused[0]


def test_what_is_listed() -> None:
    other = replace(
        make_spec(), robot="other", limits={"max_speed_m_s": 0.1}, cameras={"front": CameraSpec(480, 640, 30.0)}
    )
    refused, listed = compare_specs(make_spec(), other)
    assert refused == []
    assert [line.split(":")[0] for line in listed] == ["robot", "limits", "camera 'front'"]


def test_array_spec_names_what_is_wrong() -> None:
    spec = ArraySpec((2,))
    spec.check("obs/x", np.zeros(2, np.float32))
    with pytest.raises(InvalidArrayError, match=r"'obs/x' is float64\[3\] \(limit: float32\[2\]\)"):
        spec.check("obs/x", np.zeros(3))
    with pytest.raises(InvalidArrayError, match=r"holds nan at \[1, 0\]"):
        check_finite("plan", np.array([[0.0, 1.0], [np.nan, 0.0]]))


def test_remaining_targets() -> None:
    chunk = TargetChunk({"arm0/gripper": np.arange(4.0)[:, None]}, first_step=10, stamp_ns=5)
    assert chunk.remaining(10) is chunk
    rest = chunk.remaining(12)
    assert (rest.first_step, rest.length) == (12, 2)
    assert rest.targets["arm0/gripper"][0, 0] == 2.0
    assert chunk.remaining(20).length == 0


def test_offsets_count_their_rows() -> None:
    assert Offsets(-1, 1).length == 2
    assert Offsets(0, 16, 4).length == 4


def test_every_error_says_what_limit_and_remedy() -> None:
    error = RobotRlError("tcp at 0.9 m", limit="0.8 m", remedy="Move it back")
    assert str(error) == "tcp at 0.9 m (limit: 0.8 m). Move it back"
    assert valid_choices("lft", ["lift", "reach"]) == "Did you mean 'lift'? Valid: lift, reach"
