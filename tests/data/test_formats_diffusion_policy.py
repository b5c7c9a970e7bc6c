"""The replay buffer layout: the published Push-T demonstrations, round trips, and readers with zarr 2."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from robot_rl.data.formats.camera_tracks import decoded_steps
from robot_rl.data.formats.diffusion_policy import DiffusionPolicyFormat
from robot_rl.data.formats.interchange import RecordingSet
from robot_rl.data.pusht import pusht_spec
from robot_rl.errors import EpisodeError, RobotRlError, StoreError
from tests.data.demonstrations import arm_spec, demonstration, psnr_db, recordings
from tests.shared_data import shared_data

ZARR2 = Path(__file__).parents[2] / ".venv-zarr2" / "bin" / "python"


@pytest.fixture
def human_pusht() -> Path:
    return shared_data("pusht_human206") / "pusht_cchi_v7_replay.zarr"


def made_buffer(path: Path, ends: list[int], **arrays: np.ndarray) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for name, value in {"meta/episode_ends": np.array(ends, dtype=np.int64)}.items():
        group.create_array(name, data=value)
    for name, value in arrays.items():
        group.create_array(f"data/{name}", data=value)
    return path


def test_human_pusht_comes_in_whole(human_pusht: Path) -> None:
    found = DiffusionPolicyFormat().read(human_pusht)
    assert (len(found.recordings), found.steps) == (206, 25650)
    assert found.spec == pusht_spec()
    assert set(found.dropped) == {"data/img", "data/n_contacts"}
    source = zarr.open_group(human_pusht, mode="r")
    start = 0
    for recording in found.recordings:
        rows = slice(start, start + recording.steps)
        start += recording.steps
        if recording is found.recordings[0] or recording is found.recordings[-1]:
            episode = recording.load()
            episode.validate()
            state, arrays = source["data/state"][rows], episode.arrays
            np.testing.assert_array_equal(arrays["action/commanded"][:-1], source["data/action"][rows])
            np.testing.assert_array_equal(arrays["obs/agent/position"][:-1], state[:, :2])
            np.testing.assert_array_equal(arrays["obs/tee/pose"][:-1], state[:, 2:])
            np.testing.assert_array_equal(
                arrays["obs/tee/keypoints"][:-1].reshape(-1, 9, 2), source["data/keypoint"][rows]
            )


def test_human_pusht_rewards_follow_the_rule_of_the_task(human_pusht: Path) -> None:
    """Reward t is the coverage seen after action t; demonstrators stopped between 0.77 and 0.91 of coverage."""
    episode = DiffusionPolicyFormat().read(human_pusht).recordings[0].load()
    reward = episode.arrays["rl/reward"]
    assert reward[-2] == pytest.approx(episode.metadata["last_coverage"] / 0.95, abs=1e-5)
    assert reward[-1] == 0.0
    assert reward.max() == pytest.approx(0.8733, abs=1e-3)
    assert episode.metadata["success"] is True
    assert episode.arrays["rl/terminated"].nonzero()[0].tolist() == [episode.steps - 1]
    assert not episode.arrays["action_valid"][-1]
    assert "synthetic" in episode.metadata["stamps"]
    assert "repeated" in episode.metadata["final_observation"]


def test_human_pusht_images_become_frames_close_to_the_pixels(human_pusht: Path) -> None:
    found = DiffusionPolicyFormat(images=True).read(human_pusht)
    assert found.spec == pusht_spec(96)
    track = found.recordings[0].load().cameras["board"]
    pixels = zarr.open_group(human_pusht, mode="r")["data/img"][:161].astype(np.uint8)
    assert psnr_db(decoded_steps(track, 161, "board"), pixels) > 38.0
    assert track.frame_of_step[-2:].tolist() == [160, 160]  # the final row sees the last frame again


@pytest.mark.parametrize("name", ["out.zarr", "out.zarr.zip"])
def test_round_trip_of_an_arm_is_bit_exact_but_for_pixels(tmp_path: Path, name: str) -> None:
    spec = arm_spec(["front"])
    episodes = [demonstration(f"e{i}", 5 + i, seed=i, cameras=["front"]) for i in range(3)]
    form = DiffusionPolicyFormat(images=True)
    left = form.write(recordings(episodes, spec), tmp_path / name)
    assert "stamps" in left
    assert "images" not in left
    back = form.read(tmp_path / name)
    assert back.spec == spec
    for before, recording in zip(episodes, back.recordings, strict=True):
        after = recording.load()
        after.validate()
        for key in ("obs/arm0/joint_position", "obs/arm0/tcp_pose", "obs/object/cube_pose", "action/commanded"):
            np.testing.assert_array_equal(after.arrays[key][:-1], before.arrays[key][:-1])
        steps = before.steps
        frames = [decoded_steps(episode.cameras["front"], steps, "front") for episode in (before, after)]
        assert psnr_db(*frames) > 38.0
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_exported_pusht_has_the_keys_its_training_code_reads(human_pusht: Path, tmp_path: Path) -> None:
    found = DiffusionPolicyFormat(images=True).read(human_pusht)
    few = RecordingSet(found.spec, found.recordings[:2])
    DiffusionPolicyFormat(images=True).write(few, tmp_path / "few.zarr")
    before, after = (zarr.open_group(path, mode="r") for path in (human_pusht, tmp_path / "few.zarr"))
    assert after["meta/episode_ends"][:].tolist() == before["meta/episode_ends"][:2].tolist()
    for key in ("state", "action", "keypoint"):
        value = after[f"data/{key}"][:]
        np.testing.assert_array_equal(value, before[f"data/{key}"][: len(value)])
    assert after["data/img"].chunks == (1, 96, 96, 3)


READ_WITH_ZARR_2 = """
import json, sys, zarr
group = zarr.open(sys.argv[1], mode="r")
data = {name: [list(array.shape), float(array[:].sum())] for name, array in group["data"].arrays()}
print(json.dumps({"zarr": zarr.__version__, "ends": group["meta/episode_ends"][:].tolist(), "data": data}))
"""


@pytest.mark.parametrize("name", ["out.zarr", "out.zarr.zip"])
def test_exports_open_with_zarr_2(tmp_path: Path, name: str) -> None:
    if not ZARR2.exists():
        pytest.skip("no environment with zarr 2; make .venv-zarr2/.ready")
    episodes = [demonstration("a", 4, 0, ["front"]), demonstration("b", 6, 1, ["front"])]
    DiffusionPolicyFormat(images=True).write(recordings(episodes, arm_spec(["front"])), tmp_path / name)
    done = subprocess.run(
        [str(ZARR2), "-c", READ_WITH_ZARR_2, str(tmp_path / name)], capture_output=True, text=True, check=True
    )
    seen = json.loads(done.stdout)
    assert seen["zarr"].startswith("2.16")
    assert seen["ends"] == [4, 10]
    assert seen["data"]["front_rgb"][0] == [10, 32, 32, 3]
    total = sum(float(episode.arrays["action/commanded"].sum(dtype=np.float32)) for episode in episodes)
    assert seen["data"]["action"][1] == pytest.approx(total, rel=1e-4)


def test_a_foreign_buffer_gets_its_keys_as_names(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    source = made_buffer(
        tmp_path / "umi.zarr",
        [3, 7],
        action=random.normal(size=(7, 2)),
        robot0_eef_pos=random.normal(size=(7, 3)),
        camera0_rgb=random.random((7, 8, 8, 3)).astype(np.float32),
    )
    found = DiffusionPolicyFormat(images=True, step_rate_hz=60.0).read(source)
    assert set(found.spec.observation) == {"robot0_eef_pos"}
    assert set(found.spec.cameras) == {"camera0_rgb"}
    episode = found.recordings[1].load()
    assert (np.diff(episode.arrays["time/t_ns"]) == 16_666_667).all()
    assert episode.metadata["success"] is None
    assert episode.arrays["rl/truncated"][-2]
    assert decoded_steps(episode.cameras["camera0_rgb"], 4, "camera0_rgb").mean() > 50.0  # [0, 1] was scaled up


def test_a_mapping_names_and_cuts_foreign_columns(tmp_path: Path) -> None:
    source = made_buffer(tmp_path / "b.zarr", [2], action=np.eye(2), state=np.arange(10.0).reshape(2, 5))
    form = DiffusionPolicyFormat(observation={"arm0/tcp": "state[0:2] + state[4:]"}, robot="ur5", task="insert")
    found = form.read(source)
    assert found.recordings[0].load().arrays["obs/arm0/tcp"].tolist() == [[0, 1, 4], [5, 6, 9], [5, 6, 9]]
    assert (found.spec.robot, found.spec.task) == ("ur5", "insert")
    with pytest.raises(StoreError, match=r"no array 'stat'.*Did you mean 'state'"):
        DiffusionPolicyFormat(observation={"x": "stat"}).read(source)


@pytest.mark.parametrize(("action", "left"), [("arm + grip", {"state"}), ("arm[0:1]", {"state", "grip"})])
def test_what_the_action_is_made_of_is_no_observation(tmp_path: Path, action: str, left: set[str]) -> None:
    source = made_buffer(tmp_path / "b.zarr", [2], arm=np.eye(2), grip=np.eye(2), state=np.eye(2))
    assert set(DiffusionPolicyFormat(action=action).read(source).spec.observation) == left


def test_what_is_left_out_is_listed(tmp_path: Path) -> None:
    """Text and folders cannot come in; a name that is part of another is still a name of its own."""
    source = made_buffer(
        tmp_path / "b.zarr", [2], action=np.eye(2), state=np.eye(2), act=np.eye(2), text=np.array([b"a", b"b"])
    )
    zarr.open_group(source / "data", mode="a", zarr_format=2).create_group("more")
    found = DiffusionPolicyFormat(observation={"x": "state"}).read(source)
    assert set(found.dropped) == {"data/act", "data/text", "data/more"}
    assert set(DiffusionPolicyFormat().read(source).spec.observation) == {"state", "act"}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3, 16, 16), np.uint8), "images with 16 channels"),
        (np.zeros((2, 16, 16, 4), np.uint8), "images with 4 channels"),
        (np.full((2, 16, 16, 1), 900, np.uint16), "values up to 900"),
        (np.linspace(0, 1, 2 * 768).reshape(2, 16, 16, 3) * 600, "values up to 600"),
    ],
)
def test_images_that_jpeg_cannot_hold_are_refused(tmp_path: Path, images: np.ndarray, message: str) -> None:
    source = made_buffer(tmp_path / "b.zarr", [2], action=np.eye(2), state=np.eye(2), front=images)
    with pytest.raises(EpisodeError, match=message):
        DiffusionPolicyFormat(images=True).read(source).recordings[0].load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observation": {"x": "state[7:9]"}}, r"'state\[7:9\]' selects nothing \(limit: 2 columns\)"),
        ({"cameras": {"front": "state"}}, "no images 'state'. Valid: img"),
        ({"cameras": {"front": "imgg"}}, "no images 'imgg'. Did you mean 'img'"),
    ],
)
def test_a_mapping_that_fits_nothing_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    source = made_buffer(tmp_path / "b.zarr", [2], action=np.eye(2), state=np.eye(2), img=images)
    with pytest.raises(RobotRlError, match=message):
        DiffusionPolicyFormat(images=True, **options).read(source)


def test_a_buffer_of_actions_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no array but the action"):
        DiffusionPolicyFormat().read(made_buffer(tmp_path / "b.zarr", [2], action=np.eye(2)))


def test_source_ids_tell_content_apart_and_stay_the_same(tmp_path: Path) -> None:
    state = np.arange(8.0).reshape(4, 2)
    first = made_buffer(tmp_path / "a.zarr", [2, 4], action=np.ones((4, 2)), state=state)
    again = made_buffer(tmp_path / "b.zarr", [2, 4], action=np.ones((4, 2)), state=state)
    other = made_buffer(tmp_path / "c.zarr", [2, 4], action=np.ones((4, 2)), state=state + 1)
    ids = [[r.source_id for r in DiffusionPolicyFormat().read(path).recordings] for path in (first, again, other)]
    assert ids[0] == ids[1]
    assert len({*ids[0], *ids[2]}) == 4


@pytest.mark.parametrize(
    ("ends", "rows", "message"),
    [([], 0, "no episodes"), ([2, 5], 4, "has 4 rows"), ([3, 3], 3, "does not rise at episode 1")],
)
def test_a_damaged_buffer_is_named(tmp_path: Path, ends: list[int], rows: int, message: str) -> None:
    source = made_buffer(tmp_path / "bad.zarr", ends, action=np.zeros((rows, 2)), state=np.zeros((rows, 2)))
    with pytest.raises(StoreError, match=message):
        DiffusionPolicyFormat().read(source)


def test_nan_in_the_source_is_named_by_array_and_row(tmp_path: Path) -> None:
    action = np.zeros((4, 2))
    action[2, 1] = np.nan
    source = made_buffer(tmp_path / "nan.zarr", [4], action=action, state=np.zeros((4, 2)))
    found = DiffusionPolicyFormat().read(source)
    with pytest.raises(EpisodeError, match="array 'action/commanded', row 2"):
        found.recordings[0].load().validate()


def test_a_camera_that_dropped_frames_cannot_be_exported_and_nothing_is_left(tmp_path: Path) -> None:
    episode = demonstration("a", 4, 0, ["front"])
    episode.cameras["front"].frame_of_step[2] = -1
    with pytest.raises(EpisodeError, match="images/front', row 2"):
        DiffusionPolicyFormat(images=True).write(recordings([episode], arm_spec(["front"])), tmp_path / "out.zarr")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_export_is_replaced_only_on_demand(tmp_path: Path) -> None:
    target = tmp_path / "out.zarr"
    for steps, overwrite in ((3, False), (5, True)):
        form = DiffusionPolicyFormat(overwrite=overwrite)
        form.write(recordings([demonstration("a", steps, 0)], arm_spec()), target)
    assert DiffusionPolicyFormat().read(target).steps == 5
    with pytest.raises(StoreError, match="exists already"):
        DiffusionPolicyFormat().write(recordings([demonstration("a", 2, 0)], arm_spec()), target)


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    source = made_buffer(
        tmp_path / "bad.zarr",
        [4],
        action=random.normal(size=(4, 2)),
        img=random.integers(0, 255, (4, 8, 8, 3), dtype=np.uint8),
    )
    (source / "data" / "img" / "0.0.0.0").write_bytes(b"no chunk")
    found = DiffusionPolicyFormat(images=True, observation={"a": "action"})
    with pytest.raises(StoreError, match="array 'data/img' cannot be read"):
        found.read(source).recordings[0].load()


def test_an_episode_without_frames_is_named(tmp_path: Path) -> None:
    episodes = [demonstration("seen", 3, 0, ["front"]), demonstration("blind", 3, 1)]
    with pytest.raises(EpisodeError, match="episode blind, array 'images/front': no frames"):
        DiffusionPolicyFormat(images=True).write(recordings(episodes, arm_spec(["front"])), tmp_path / "out.zarr")
