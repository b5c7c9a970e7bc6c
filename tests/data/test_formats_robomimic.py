"""robomimic HDF5: round trips that lose nothing but pixel noise, foreign files, splits."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from robot_rl.data.formats.camera_tracks import decoded_steps
from robot_rl.data.formats.robomimic import RobomimicFormat
from robot_rl.data.formats.transfer import import_recordings
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import StoreError
from tests.data.demonstrations import arm_spec, demonstration, psnr_db, recordings


@pytest.mark.parametrize("next_obs", [False, True])
def test_round_trip_keeps_every_array_bit_for_bit(tmp_path: Path, next_obs: bool) -> None:
    spec = arm_spec(["front"])
    episodes = [demonstration(f"e{i}", 5 + i, seed=i, cameras=["front"]) for i in range(3)]
    form = RobomimicFormat(next_obs=next_obs)
    assert form.write(recordings(episodes, spec, ["train", "valid"]), tmp_path / "out.hdf5") == []
    back = form.read(tmp_path / "out.hdf5")
    assert back.spec == spec
    assert [recording.split for recording in back.recordings] == ["train", "valid", ""]
    for before, recording in zip(episodes, back.recordings, strict=True):
        after = recording.load()
        after.validate()
        assert set(after.arrays) == set(before.arrays)
        for name, value in before.arrays.items():
            assert after.arrays[name].dtype == value.dtype, name
            np.testing.assert_array_equal(after.arrays[name], value, err_msg=name)


def test_observations_beyond_the_spec_and_episodes_without_a_step_survive(tmp_path: Path) -> None:
    empty, more = demonstration("a", 0, 0), demonstration("b", 3, 1)
    more = replace(more, arrays={**more.arrays, "obs/extra": np.arange(8, dtype=np.float32).reshape(4, 2)})
    RobomimicFormat().write(recordings([empty, more], arm_spec()), tmp_path / "out.hdf5")
    back = [recording.load() for recording in RobomimicFormat().read(tmp_path / "out.hdf5").recordings]
    assert [episode.steps for episode in back] == [0, 3]
    np.testing.assert_array_equal(back[1].arrays["obs/extra"], more.arrays["obs/extra"])


@pytest.mark.parametrize(
    ("steps", "rewards", "message"), [(0, (0,), "has no steps"), (3, (3, 1), r"rewards of shape \[3, 1\].*\[3\]")]
)
def test_a_demonstration_that_cannot_be_an_episode_is_left_out_on_demand(
    tmp_path: Path, steps: int, rewards: tuple[int, ...], message: str
) -> None:
    with h5py.File(tmp_path / "in.hdf5", "w") as file:
        for name, count, shape in (("demo_0", 4, (4,)), ("demo_1", steps, rewards)):
            file[f"data/{name}/actions"], file[f"data/{name}/rewards"] = np.zeros((count, 2)), np.zeros(shape)
            file[f"data/{name}/obs/x"] = np.zeros((count, 2))
    found = RobomimicFormat().read(tmp_path / "in.hdf5")
    store = EpisodeStore.create(tmp_path / "data", spec=found.spec)
    summary = import_recordings(store, found, skip_invalid=True)
    assert summary.imported == 1
    (reason,) = summary.invalid
    assert re.search(message, reason)


def test_a_file_without_an_action_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.hdf5", "w") as file:
        file["data/demo_0/actions"], file["data/demo_0/obs/x"] = np.zeros((0, 2)), np.zeros((0, 2))
    with pytest.raises(StoreError, match="no episode of the source has an action"):
        RobomimicFormat().read(tmp_path / "in.hdf5")


def test_round_trip_keeps_metadata_and_says_where_it_came_from(tmp_path: Path) -> None:
    before = demonstration("a", 4, 0)
    RobomimicFormat().write(recordings([before], arm_spec()), tmp_path / "out.hdf5")
    after = RobomimicFormat().read(tmp_path / "out.hdf5").recordings[0].load()
    kept = {"task", "robot", "success", "end_reason", "operator"}
    assert {key: after.metadata[key] for key in kept} == {key: before.metadata[key] for key in kept}
    assert after.metadata["source_format"] == "robomimic"
    assert "stamps" not in after.metadata  # they are the measured ones
    assert after.id != before.id


@pytest.mark.parametrize("steps", [7, 8])  # the last row shares its frame, or has one of its own
def test_round_trip_keeps_frames_their_stamps_and_who_shares_them(tmp_path: Path, steps: int) -> None:
    before = demonstration("a", steps, 0, ["front"])
    stamped = replace(before.cameras["front"], t_dev_ns=before.cameras["front"].t_ns + 7)
    before = replace(before, cameras={"front": stamped})
    RobomimicFormat().write(recordings([before], arm_spec(["front"])), tmp_path / "out.hdf5")
    after = RobomimicFormat().read(tmp_path / "out.hdf5").recordings[0].load()
    original, track = before.cameras["front"], after.cameras["front"]
    np.testing.assert_array_equal(track.frame_of_step, original.frame_of_step)
    np.testing.assert_array_equal(track.t_ns, original.t_ns)
    np.testing.assert_array_equal(track.t_dev_ns, stamped.t_dev_ns)
    assert psnr_db(*(decoded_steps(t, steps + 1, "front") for t in (original, track))) > 38.0


def test_export_reads_as_robomimic_does(tmp_path: Path) -> None:
    """Groups, attributes and names that robomimic's SequenceDataset and filter keys look for."""
    env_args = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {}})
    episodes = [demonstration(f"e{i}", 3 + i, seed=i, cameras=["front"]) for i in range(2)]
    form = RobomimicFormat(next_obs=True, env_args=env_args)
    form.write(recordings(episodes, arm_spec(["front"]), ["train"]), tmp_path / "out.hdf5")
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert file["data"].attrs["total"] == 7
        assert json.loads(file["data"].attrs["env_args"])["env_name"] == "Lift"
        assert file["mask/train"][:].tolist() == [b"demo_0"]
        demo = file["data/demo_1"]
        assert demo.attrs["num_samples"] == 4
        assert demo["actions"].shape == (4, 4)
        assert demo["dones"][:].tolist() == [0, 0, 0, 1]
        assert demo["rewards"][:].tolist() == [0, 0, 0, 1]
        keys = {"robot0_joint_pos", "robot0_eef_pos", "robot0_eef_quat", "object__cube_pose", "front_image"}
        assert set(demo["obs"]) == set(demo["next_obs"]) == keys
        assert demo["obs/front_image"].shape == (4, 32, 32, 3)
        pose = episodes[1].arrays["obs/arm0/tcp_pose"]
        np.testing.assert_array_equal(demo["obs/robot0_eef_quat"][:], pose[:-1, 3:])
        np.testing.assert_array_equal(demo["next_obs/robot0_eef_pos"][:], pose[1:, :3])


def foreign_file(path: Path, *, next_obs: bool = True, reward: float = 1.0) -> Path:
    """What robomimic itself publishes: float64, robosuite's names, masks."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Can", "env_kwargs": {"control_freq": 10, "robots": "Panda"}})
        for i in (0, 1, 10, 2):
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = 3
            demo["actions"] = np.full((3, 7), i / 10.0)
            demo["rewards"] = np.array([0.0, 0.0, reward])
            demo["dones"] = np.array([0, 0, 1])
            demo["states"] = np.zeros((3, 11))
            for group in ("obs", "next_obs") if next_obs else ("obs",):
                shift = 0.0 if group == "obs" else 1.0
                demo[f"{group}/robot0_eef_pos"] = np.arange(9.0).reshape(3, 3) + shift
                demo[f"{group}/robot0_eef_quat"] = np.tile([0.0, 0.0, 0.0, 1.0], (3, 1))
                demo[f"{group}/robot0_joint_pos_cos"] = np.zeros((3, 7))
                demo[f"{group}/object"] = np.ones((3, 14))
                demo[f"{group}/agentview_image"] = np.full((3, 16, 16, 3), 90, dtype=np.uint8)
        names = {"train": [b"demo_0", b"demo_1"], "valid": [b"demo_2"], "20_percent": [b"demo_1"]}
        for key, value in names.items():
            file[f"mask/{key}"] = np.array(value)
    return path


def test_a_published_file_gets_our_names_rate_and_splits(tmp_path: Path) -> None:
    found = RobomimicFormat().read(foreign_file(tmp_path / "can.hdf5"))
    assert (found.spec.robot, found.spec.task, found.spec.step_rate_hz) == ("panda", "can", 10.0)
    assert found.spec.observation["arm0/tcp_pose"].shape == (7,)
    assert set(found.spec.observation) == {"arm0/tcp_pose", "object/state", "robot0_joint_pos_cos"}
    assert set(found.spec.cameras) == {"agentview"}
    assert [recording.split for recording in found.recordings] == ["train", "train", "valid", ""]
    assert [r.load().arrays["action/commanded"][0, 0] for r in found.recordings] == pytest.approx([0, 0.1, 0.2, 1.0])
    assert found.recordings[1].load().metadata["filter_keys"] == ["20_percent", "train"]
    assert "states" in found.dropped


def test_a_published_file_ends_with_its_next_observation(tmp_path: Path) -> None:
    episode = RobomimicFormat().read(foreign_file(tmp_path / "can.hdf5")).recordings[0].load()
    episode.validate()
    assert episode.arrays["obs/arm0/tcp_pose"][-1, :3].tolist() == [7, 8, 9]
    assert episode.metadata["success"] is True
    assert episode.arrays["rl/terminated"][-2]
    other = foreign_file(tmp_path / "no_next.hdf5", next_obs=False, reward=0.0)
    episode = RobomimicFormat().read(other).recordings[0].load()
    assert episode.arrays["obs/arm0/tcp_pose"][-1, :3].tolist() == [6, 7, 8]
    assert episode.metadata["success"] is False
    assert episode.arrays["rl/truncated"][-2]
    assert "repeated" in episode.metadata["final_observation"]


def test_what_is_no_such_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.hdf5").write_text("no HDF5")
    whole = foreign_file(tmp_path / "can.hdf5")
    (tmp_path / "cut.hdf5").write_bytes(whole.read_bytes()[:5000])
    with h5py.File(tmp_path / "empty.hdf5", "w") as file:
        file.create_group("data")
    with h5py.File(tmp_path / "raw.hdf5", "w") as file:
        file["data/demo_1/actions"] = np.zeros((2, 7))
    cases = {
        "text": "cannot be opened as HDF5",
        "cut": "cannot be opened as HDF5",
        "empty": "no demonstrations",
        "raw": "robosuite_demos",
        "absent": "no HDF5 file",
    }
    for name, message in cases.items():
        with pytest.raises(StoreError, match=message):
            RobomimicFormat().read(tmp_path / f"{name}.hdf5")


def test_a_flipped_chunk_or_a_missing_array_is_an_error_with_the_files_name(tmp_path: Path) -> None:
    lacking = foreign_file(tmp_path / "lacking.hdf5")
    with h5py.File(lacking, "r+") as file:
        del file["data/demo_1/actions"]
        file["data"].attrs["env_args"] = "{not JSON"
    with pytest.raises(StoreError, match=r"lacking.hdf5': attribute 'env_args' is no JSON"):
        RobomimicFormat().read(lacking)
    with h5py.File(lacking, "r+") as file:
        file["data"].attrs["env_args"] = "{}"
    with pytest.raises(StoreError, match=r"lacking.hdf5' is damaged or incomplete.*actions"):
        RobomimicFormat().read(lacking)


def test_episodes_with_and_without_frames_go_together(tmp_path: Path) -> None:
    episodes = [demonstration("seen", 3, 0, ["front"]), demonstration("blind", 3, 1)]
    RobomimicFormat().write(recordings(episodes, arm_spec(["front"])), tmp_path / "out.hdf5")
    back = [recording.load() for recording in RobomimicFormat().read(tmp_path / "out.hdf5").recordings]
    assert [sorted(episode.cameras) for episode in back] == [["front"], []]
