"""From a recording to episodes: streams whose every number is known, in a file as the recorder writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the extra 'ros' is not installed")

import cv2
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import Float64, String

from robot_rl.apps.main import compose, instantiate, main
from robot_rl.data.episode import Episode
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import SpecMismatchError, StoreError
from robot_rl.types import Phase
from robot_rl_bridge.arm_description import TCP, load_arm
from robot_rl_bridge.mcap_file import McapFile
from robot_rl_bridge.mcap_format import McapFormat

ARM = load_arm("sim_panda")
SPEC = ARM.env_spec(TCP, ["front"], ["cube_pose"])
S = 1_000_000_000
BEGIN_S, VERDICT_S, END_S = 1.0, 2.0, 2.5  # of the episode's first step, of its verdict, of the recording
AGE_NS = 4_000_000  # of every header at receipt
SPEED_RAD_S, SPEED_M_S = 0.2, 0.1  # of joint 1, of the set points along x
JPEG = cv2.imencode(".jpg", np.zeros((96, 96, 3), np.uint8))[1].tobytes()
TOPICS = {
    "bridge/spec": "std_msgs/msg/String", "mode": "diagnostic_msgs/msg/DiagnosticStatus",
    "episode/event": "std_msgs/msg/String", "joint_states": "sensor_msgs/msg/JointState",
    "gripper/state": "sensor_msgs/msg/JointState", "front/image_raw/compressed": "sensor_msgs/msg/CompressedImage",
    "object/cube/pose": "geometry_msgs/msg/PoseStamped", "target_pose": "geometry_msgs/msg/PoseStamped",
    "gripper/command": "std_msgs/msg/Float64",
}  # fmt: skip
Timed = tuple[float, str, Any]


def pose(x: float, y: float, z: float) -> PoseStamped:
    message = PoseStamped()
    message.pose.position.x, message.pose.position.y, message.pose.position.z = x, y, z
    message.pose.orientation.x = 1.0
    message.pose.orientation.w = 0.0
    return message


def mode(name: str) -> DiagnosticStatus:
    return DiagnosticStatus(name="mode", message=name)


def event(name: str) -> String:
    return String(data=json.dumps({"event": name, "seed": None}))


def every(rate_hz: float) -> list[float]:
    return [number / rate_hz for number in range(int(END_S * rate_hz))]


def streams() -> list[Timed]:
    """Joint 1 turns evenly, the set points go on evenly, at 1.5 s the gripper is told to close; pictures at 30 Hz."""
    arm = json.loads(json.dumps(asdict(ARM)))
    made: list[Timed] = [(0.0, "bridge/spec", String(data=json.dumps({"spec": SPEC.to_json(), "arm": arm})))]
    made += [(t, "joint_states", joints(t)) for t in every(125.0)]
    made += [(t, "gripper/state", JointState(name=["gripper"], position=[1.0])) for t in every(30.0)]
    made += [(t, "front/image_raw/compressed", CompressedImage(format="jpeg", data=JPEG)) for t in every(30.0)]
    made += [(t, "object/cube/pose", pose(0.5, 0.1 * t, 0.02)) for t in every(30.0)]
    made += [(t, "target_pose", pose(0.4 + SPEED_M_S * t, 0.0, 0.3)) for t in every(100.0)]
    made += [(t, "gripper/command", Float64(data=float(t < 1.5))) for t in every(10.0)]
    return made


def joints(t: float) -> JointState:
    position = list(ARM.home_rad)
    position[0] += SPEED_RAD_S * t
    shuffled = [3, 0, 6, 1, 5, 2, 4]  # readers go by name
    names = ARM.chain.names
    speeds = [SPEED_RAD_S if index == 0 else 0.0 for index in shuffled]
    return JointState(name=[names[i] for i in shuffled], position=[position[i] for i in shuffled], velocity=speeds)


MARKS: list[Timed] = [
    (0.2, "mode", mode("resetting")), (BEGIN_S, "mode", mode("holding")), (1.2, "mode", mode("tracking")),
    (1.6, "mode", mode("teleop")), (VERDICT_S, "episode/event", event("success")),
]  # fmt: skip


def record(path: Path, messages: Sequence[Timed]) -> Path:
    """As the recorder would have written them, measured AGE_NS before they were received."""
    file = McapFile(path, {}, queue_bytes=1 << 30, failed=lambda cause: None)
    for topic, kind in TOPICS.items():
        file.add_topic(f"/arm0/{topic}", kind, "[]")
    origin = file._monotonic_ns
    for seconds, topic, message in sorted(messages, key=lambda each: each[0]):
        has_header = hasattr(message, "header")
        received = origin + round(seconds * S) + (AGE_NS if has_header else 0)
        file.put(f"/arm0/{topic}", serialize_message(message), received, AGE_NS if has_header else 0)
    file.close()
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("recording") / "one.mcap", [*streams(), *MARKS])


def delta() -> Any:
    return instantiate(compose("view", ["task=lift", "action=tcp_position_delta"]).action)


@pytest.fixture(scope="module")
def episode(recording: Path) -> Episode:
    (found,) = McapFormat(action=delta(), task="lift").read(recording).recordings
    assert found.steps == 20  # from 1.0 s to 2.0 s at 20 Hz
    made = found.load()
    made.validate()
    return made


def since_start(episode: Episode) -> np.ndarray:
    """Stamps of the rows on the clock of the streams [s]; the first picture of the file is at 0."""
    first = round(1e9 * BEGIN_S)
    picture = np.round((episode.arrays["time/t_ns"] - episode.arrays["time/t_ns"][0]) / 1e9 * 30) / 30
    newest = np.floor((first / S - AGE_NS / S) * 30) / 30  # received before the first step
    return newest + picture


def test_each_row_is_anchored_at_a_picture_and_everything_else_is_as_it_was_then(episode: Episode) -> None:
    seconds = since_start(episode)
    np.testing.assert_allclose(
        np.diff(episode.arrays["time/t_ns"]) / 1e9 * 30, np.round(np.diff(seconds) * 30), atol=1e-4
    )
    turned = episode.arrays["obs/arm0/joint_position"][:, 0] - ARM.home_rad[0]
    np.testing.assert_allclose(turned, SPEED_RAD_S * seconds, atol=1e-5)
    np.testing.assert_allclose(episode.arrays["obs/arm0/joint_velocity"][:, 0], SPEED_RAD_S, atol=1e-6)
    np.testing.assert_allclose(episode.arrays["obs/object/cube_pose"][:, 1], 0.1 * seconds, atol=1e-5)
    chain = [ARM.chain.pose(q)[:3] for q in episode.arrays["obs/arm0/joint_position"].astype(float)]
    np.testing.assert_allclose(episode.arrays["obs/arm0/tcp_pose"][:, :3], chain, atol=1e-5)
    assert episode.metadata["skew_ms"]["max"] < 17.0


def test_pictures_are_stored_as_they_came_each_once(episode: Episode) -> None:
    track = episode.cameras["front"]
    assert track.encoded(0) == JPEG
    assert len(set(track.frame_of_step)) == len(track.frame_of_step)  # 30 Hz at 20 steps a second: always a new one
    np.testing.assert_array_equal(track.t_ns[track.frame_of_step], episode.arrays["time/t_ns"])


def test_actions_are_the_set_points_that_were_sent(episode: Episode) -> None:
    actions = episode.arrays["action/commanded"]
    np.testing.assert_allclose(actions[:-1, :3].sum(axis=0), [SPEED_M_S * 1.0, 0.0, 0.0], atol=1.1e-3)  # of 1 s
    np.testing.assert_allclose(actions[:-1, 0], SPEED_M_S / 20, atol=1.1e-3)  # set points come at 100 Hz
    assert set(actions[:9, 3]) == {1.0}
    assert set(actions[11:-1, 3]) == {0.0}
    np.testing.assert_array_equal(actions, episode.arrays["action/executed"])


def test_who_was_in_command_is_known_and_held_steps_are_nobodys(episode: Episode) -> None:
    phases = [Phase(value) for value in episode.arrays["flags/phase"]]
    assert phases == [Phase.HOLD] * 4 + [Phase.POLICY] * 8 + [Phase.HUMAN] * 8 + [Phase.HOLD]
    assert episode.arrays["action_valid"].tolist() == [phase is not Phase.HOLD for phase in phases]


def test_the_key_judges(episode: Episode) -> None:
    assert episode.metadata["success"] is True
    assert episode.metadata["judged_by"] == "human"
    assert episode.arrays["rl/reward"].tolist() == [0.0] * 19 + [1.0, 0.0]
    assert episode.arrays["rl/terminated"][-2]


def test_the_command_imports_it_once(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    words = ["dataset", "import", "format=mcap", f"source={recording.parent}", "name=raw", "format.task=lift",
             "+action@format.action=tcp_position_delta"]  # fmt: skip
    assert main(words) == 0
    assert main(words) == 0
    (info,) = EpisodeStore.open(tmp_path / "data" / "raw").infos()
    assert (info.length, info.success) == (20, True)
    assert main([*words[:-1], "name=absolute"]) == 0  # as the set points were sent: poses
    store = EpisodeStore.open(tmp_path / "data" / "absolute")
    assert store.read(store.ids()[0]).arrays["action/commanded"].shape == (21, 8)


LATE_VERDICT = [(1.9, "mode", mode("stopped")), (2.2, "episode/event", event("failure"))]
BY_START = [(0.1, "mode", mode("holding")), (1.5, "episode/event", event("start")), MARKS[4]]
ENDS: dict[str, tuple[list[Timed], list[tuple[int, bool | None]]]] = {
    "discarded": ([*MARKS[:4], (2.0, "episode/event", event("discard"))], []),
    "a verdict after the stop": ([*MARKS[:4], *LATE_VERDICT], [(18, False)]),
    "a fault": ([*MARKS[:4], (1.5, "mode", mode("fault"))], [(10, None)]),
    "nobody says": (MARKS[:4], [(29, None)]),  # the last joint state of the file ends it
    "by the key start": (BY_START, [(10, True)]),
}


@pytest.mark.parametrize("name", ENDS)
def test_where_episodes_begin_and_end(name: str, tmp_path: Path) -> None:
    marks, expected = ENDS[name]
    path = record(tmp_path / "marks.mcap", [*streams(), *marks])
    if not expected:
        with pytest.raises(StoreError, match="no episode"):
            McapFormat().read(path)
        return
    found = McapFormat().read(path).recordings
    assert [(each.steps, each.load().metadata["success"]) for each in found] == expected


def test_what_cannot_be_told_is_refused(recording: Path, tmp_path: Path) -> None:
    joint = instantiate(compose("view", ["task=lift", "action=joint_delta"]).action)
    with pytest.raises(SpecMismatchError, match="arm0/joints"):
        McapFormat(action=joint).read(recording)
    with pytest.raises(StoreError, match="does not say what arm"):
        McapFormat().read(record(tmp_path / "bare.mcap", MARKS))
    whole = recording.read_bytes()
    (tmp_path / "crashed.mcap").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="mcap recover"):
        McapFormat().read(tmp_path / "crashed.mcap")
