"""Messages: round trips bit for bit, and whatever is not a message is a ProtocolError, never a crash."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.errors import ProtocolError
from robot_rl.transport import messages
from robot_rl.transport.messages import Message, decode, encode
from robot_rl.types import CommandReport, Frame, Observation, Phase, ResetRequest, TargetChunk

pytestmark = pytest.mark.robot


def wire(message: Message) -> Message:
    return decode([bytes(frame) for frame in encode(message)])


def test_arrays_of_every_shape_survive() -> None:
    arrays = {
        "scalar": np.float64(2.5),
        "empty": np.zeros((0, 3), np.float32),
        "image": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        "strided": np.arange(10.0)[::2],
    }
    back = wire(Message("state", {"a": 1, "b": "x"}, arrays))
    assert (back.kind, back.fields) == ("state", {"a": 1, "b": "x"})
    for name, value in arrays.items():
        assert back.arrays[name].dtype == np.asarray(value).dtype
        np.testing.assert_array_equal(back.arrays[name], value)


def test_observation_round_trip() -> None:
    report = CommandReport(
        3,
        Phase.HUMAN,
        {"arm0/tcp": np.arange(7.0)},
        {"arm0/tcp": np.ones(7)},
        {"arm0/tcp": np.zeros(7)},
        True,
        {"box": 2},
    )
    observation = Observation(
        4,
        123456789,
        {"arm0/tcp_pose": np.arange(7, dtype=np.float32)},
        {"front": Frame(b"\xff\xd8jpeg", 120, 9, 96, 128, 3, "jpeg", 77)},
        report,
        "fault: silent",
    )
    back = messages.observation_from(wire(messages.observation_message(observation)))
    assert back.frames == observation.frames
    assert (back.step, back.stamp_ns, back.mode) == (4, 123456789, "fault: silent")
    np.testing.assert_array_equal(back.state["arm0/tcp_pose"], observation.state["arm0/tcp_pose"])
    assert back.report is not None
    assert (back.report.source, back.report.interventions) == (Phase.HUMAN, {"box": 2})
    np.testing.assert_array_equal(back.report.commanded["arm0/tcp"], np.arange(7.0))
    assert back.report.human is not None


def test_targets_and_reset_round_trip() -> None:
    chunk = TargetChunk({"arm0/gripper": np.ones((4, 1))}, 7, 99, Phase.SCRIPTED, "base")
    back = messages.targets_from(wire(messages.targets_message(chunk)))
    assert (back.first_step, back.stamp_ns, back.source, back.frame) == (7, 99, Phase.SCRIPTED, "base")
    request = ResetRequest(tcp_pose=np.arange(7.0), simulator_state={"object/cube_pose": np.zeros(7)}, seed=5)
    again = messages.reset_from(wire(messages.reset_message(request)))
    assert again.joint_position is None
    assert (again.seed, again.timeout_s) == (5, 20.0)
    np.testing.assert_array_equal(again.simulator_state["object/cube_pose"], np.zeros(7))


@given(st.lists(st.binary(max_size=64), max_size=4))
@settings(max_examples=300, deadline=None)
def test_garbage_is_a_protocol_error(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        decode(frames)


HEADERS = {
    "version": (99, "state", {}, []),
    "lying about size": (1, "state", {}, [("a", "float64", [1_000_000_000])]),
    "negative": (1, "state", {}, [("a", "float64", [-1])]),
    "object dtype": (1, "state", {}, [("a", "object", [1])]),
    "missing buffer": (1, "state", {}, [("a", "uint8", [1]), ("b", "uint8", [1])]),
    "not a layout": (1, "state", {}, "abc"),
    "huge rank": (1, "state", {}, [("a", "uint8", [1] * 40)]),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_lie_are_refused(name: str) -> None:
    with pytest.raises(ProtocolError):
        decode([msgpack.packb(HEADERS[name]), b"\0"])


def test_limits_hold_before_allocation() -> None:
    with pytest.raises(ProtocolError, match="limit: 1 frame to 1000 bytes"):
        decode([b"", b"x" * 2000], max_bytes=1000)
    with pytest.raises(ProtocolError, match="header of"):
        encode(Message("big", {"text": "x" * 400_000}))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_flipped_byte_of_an_observation_never_crashes(data: st.DataObject) -> None:
    """What still decodes is an Observation; everything else is a ProtocolError."""
    observation = Observation(1, 2, {"a": np.zeros(3, np.float32)}, {"c": Frame(b"12", 1, 1, 1, 1)})
    frames = [bytearray(frame) for frame in encode(messages.observation_message(observation))]
    frame = data.draw(st.sampled_from([f for f in frames if f]))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        back = messages.observation_from(decode(frames))
    except ProtocolError:
        return
    assert isinstance(back, Observation)
