import numpy as np
import pytest

from robot_rl.errors import CommandRefusedError
from robot_rl.robots.target_check import checked_targets
from robot_rl.types import ActionKind, ActionPart, ActionSpec, TargetChunk

pytestmark = pytest.mark.robot
SPEC = ActionSpec(
    (
        ActionPart("arm0/tcp", ActionKind.TCP_POSE, (-1,) * 7, (1,) * 7),
        ActionPart("arm0/gripper", ActionKind.GRIPPER, (0,), (1,)),
    )
)
POSE = np.array([[0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0]])


def test_a_good_plan_passes_as_float64_with_unit_quaternions():
    pose = (POSE * [1, 1, 1, 1.004, 1, 1, 1]).astype(np.float32)
    checked = checked_targets(TargetChunk({"arm0/tcp": pose}, 3, 7), SPEC)
    assert checked.targets["arm0/tcp"].dtype == np.float64
    np.testing.assert_allclose(checked.targets["arm0/tcp"], POSE, atol=1e-6)
    assert (checked.first_step, checked.stamp_ns) == (3, 7)


@pytest.mark.parametrize(
    ("targets", "frame", "message"),
    [
        ({"arm0/tcp": POSE * np.nan}, "", "not finite"),
        ({"arm0/tcp": POSE[:, :6]}, "", "shape"),
        ({"arm0/tcp": POSE[0]}, "", "shape"),
        ({"arm0/tpc": POSE}, "", "Did you mean 'arm0/tcp'"),
        ({"arm0/tcp": POSE[:0]}, "", "no rows left"),
        ({}, "", "no rows left"),
        ({"arm0/tcp": POSE * [1000, 1000, 1000, 1, 1, 1, 1]}, "", "metres"),
        ({"arm0/tcp": POSE * [1, 1, 1, 0.5, 1, 1, 1]}, "", "quaternion of length 0.5 "),
        ({"arm0/tcp": POSE}, "camera", "frame 'base'"),
        ({"arm0/tcp": POSE * [1, 1, 1, 0, 1, 1, 1]}, "", "quaternion of length 0 "),
        ({"arm0/tcp": POSE * [1, 1, 1, 1e200, 1, 1, 1]}, "", "quaternion of length 1e\\+200"),
        ({"arm0/gripper": np.full((1, 1), np.inf)}, "base", "not finite"),
        ({"arm0/gripper": np.float64(1.0)}, "", "shape"),
        ({"arm0/gripper": [["open"]]}, "", "real numbers"),
        ({"arm0/gripper": np.array([[None]])}, "", "real numbers"),
        ({"arm0/gripper": np.array([[1j]])}, "", "real numbers"),
        ({"arm0/gripper": [[1.0], [0.5, 0.5]]}, "", "no array"),
    ],
)
def test_a_bad_plan_is_refused_with_the_reason(targets, frame, message):
    with pytest.raises(CommandRefusedError, match=message):
        checked_targets(TargetChunk(targets, 0, 0, frame=frame), SPEC)


@pytest.mark.parametrize(("first_step", "source", "message"), [(-0.5, 0, "step -0.5"), (0, 9, "source 9")])
def test_a_plan_of_no_step_or_no_known_source_is_refused(first_step, source, message):
    with pytest.raises(CommandRefusedError, match=message):
        checked_targets(TargetChunk({"arm0/tcp": POSE}, first_step, 0, source=source), SPEC)


@pytest.mark.parametrize("stamp", [float("nan"), 1.5, None])
def test_a_stamp_that_cannot_be_ordered_is_refused(stamp):
    """Nothing is older than NaN: plans behind it would come in any order."""
    with pytest.raises(CommandRefusedError, match="stamp"):
        checked_targets(TargetChunk({"arm0/gripper": np.zeros((1, 1))}, 0, stamp), SPEC)
