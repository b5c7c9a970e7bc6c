"""Raw robosuite demonstrations, replayed; checked against the kinematics of the file's own model."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import h5py
import numpy as np
import pytest

from robot_rl.data.formats.camera_tracks import decoded_steps
from robot_rl.data.formats.interchange import RecordingSet
from robot_rl.data.formats.robosuite_demos import RobosuiteDemosFormat
from robot_rl.data.formats.robosuite_replay import RobosuiteReplay
from robot_rl.data.formats.transfer import import_recordings
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError, RobotRlError, StoreError
from robot_rl.geometry import geodesic_angle, quat_xyzw_from_matrix
from tests.shared_data import shared_data

pytest.importorskip("robosuite", reason="the extra 'sim' is not installed")


@pytest.fixture(scope="module")
def lift_file() -> Path:
    return shared_data("robosuite_human") / "v1.4.1" / "lift" / "demo.hdf5"


@pytest.fixture(scope="module")
def lift(lift_file: Path) -> RecordingSet:
    return RobosuiteDemosFormat().read(lift_file)


def model_without_meshes(xml: str):
    """The demonstration's own model, its looks stripped: kinematics need no meshes."""
    import mujoco

    root = ET.fromstring(xml)
    asset = root.find("asset")
    assert asset is not None
    for element in [*asset.findall("mesh"), *asset.findall("texture"), *asset.findall("material")]:
        asset.remove(element)
    for body in root.iter("body"):
        for geom in [g for g in body.findall("geom") if g.get("mesh") or g.get("type") == "mesh"]:
            body.remove(geom)
    text = re.sub(r' material="[^"]*"', "", ET.tostring(root, encoding="unicode"))
    return mujoco.MjModel.from_xml_string(text)


def test_lift_comes_in_with_observations_and_success(lift: RecordingSet) -> None:
    assert [recording.steps for recording in lift.recordings] == [482, 510, 392]
    assert (lift.spec.robot, lift.spec.task, lift.spec.step_rate_hz) == ("robosuite_panda", "robosuite_lift", 20.0)
    assert lift.spec.observation["object/cube_pose"].privileged
    episode = lift.recordings[0].load()
    episode.validate()
    reward = episode.arrays["rl/reward"]
    assert reward[:400].sum() == 0
    assert reward[-2] == 1
    assert episode.metadata["success"] is True
    cube = episode.arrays["obs/object/cube_pose"]
    assert cube[-1, 2] - cube[0, 2] > 0.04
    assert np.diff(episode.arrays["time/t_ns"]) == pytest.approx(50e6, abs=10)  # the simulator's own clock
    assert "stamps" not in episode.metadata
    opening = episode.arrays["obs/arm0/gripper_opening"]
    assert opening.min() >= 0.0
    assert opening.max() <= 1.0


def test_replayed_poses_agree_with_the_files_own_model(lift: RecordingSet, lift_file: Path) -> None:
    import mujoco

    episode = lift.recordings[1].load()
    with h5py.File(lift_file) as file:
        states = file["data/demo_2/states"][:]
        model = model_without_meshes(file["data/demo_2"].attrs["model_file"])
    data = mujoco.MjData(model)
    base = np.array([-0.56, 0.0, 0.912])
    for row in range(0, len(states), 60):
        data.qpos[:] = states[row, 1 : 1 + model.nq]
        mujoco.mj_forward(model, data)
        site = data.site("gripper0_grip_site")
        pose = episode.arrays["obs/arm0/tcp_pose"][row]
        np.testing.assert_allclose(pose[:3], site.xpos - base, atol=1e-5)
        assert geodesic_angle(pose[3:], quat_xyzw_from_matrix(site.xmat.reshape(3, 3))) < 1e-3
        cube = episode.arrays["obs/object/cube_pose"][row, :3]
        np.testing.assert_allclose(cube, data.body("cube_main").xpos - base, atol=1e-5)


def test_objects_have_the_sizes_of_each_demonstration(lift: RecordingSet, lift_file: Path) -> None:
    replay = RobosuiteReplay("Lift", ["Panda"], None, cameras=False)
    with h5py.File(lift_file) as file:
        models = [file[f"data/demo_{number}"].attrs["model_file"] for number in (1, 2)]
    for xml in models:
        replay.place(xml)
        (told,) = (geom.get("size") for geom in ET.fromstring(xml).iter("geom") if geom.get("name") == "cube_g0")
        model = replay._env.sim.model
        size = np.array(str(told).split(), dtype=float)
        geom = model.geom_name2id("cube_g0")
        np.testing.assert_allclose(model.geom_size[geom], size, atol=1e-9)
        np.testing.assert_allclose(model.geom_rbound[geom], np.linalg.norm(size), atol=1e-9)  # compiled anew with it
    replay.close()
    assert all(recording.load().metadata["success"] for recording in lift.recordings)


def test_actions_are_the_measured_pose_plus_the_scaled_delta(lift: RecordingSet, lift_file: Path) -> None:
    """OSC_POSE scales 1.0 to 0.05 m and 0.5 rad; the gripper opens at -1."""
    episode = lift.recordings[0].load()
    with h5py.File(lift_file) as file:
        raw = file["data/demo_1/actions"][:]
    pose, action = episode.arrays["obs/arm0/tcp_pose"][:-1], episode.arrays["action/commanded"][:-1]
    np.testing.assert_allclose(action[:, :3] - pose[:, :3], 0.05 * np.clip(raw[:, :3], -1, 1), atol=1e-6)
    angle = geodesic_angle(pose[:, 3:], action[:, 3:7])
    np.testing.assert_allclose(angle, 0.5 * np.linalg.norm(np.clip(raw[:, 3:6], -1, 1), axis=1), atol=1e-3)
    np.testing.assert_array_equal(action[:, 7], raw[:, 6] <= 0)
    assert (np.sum(action[1:, 3:7] * action[:-1, 3:7], axis=1) > 0).all()  # no jumps of sign
    assert (action >= lift.spec.action.low).all()
    assert (action <= lift.spec.action.high).all()


def test_raw_actions_stay_what_they_were(lift_file: Path) -> None:
    found = RobosuiteDemosFormat(action="raw").read(lift_file)
    with h5py.File(lift_file) as file:
        raw = file["data/demo_3/actions"][:].astype(np.float32)
    np.testing.assert_array_equal(found.recordings[2].load().arrays["action/commanded"][:-1], raw)


def test_two_arms_come_in_as_two_parts() -> None:
    source = shared_data("robosuite_human") / "v1.4.1" / "handover" / "panda_panda" / "demo.hdf5"
    found = RobosuiteDemosFormat().read(source)
    assert found.spec.arm_parts == ("arm0", "arm1")
    assert found.spec.action.size == 16
    assert (len(found.recordings), found.steps) == (7, 2775)
    shortest = min(found.recordings, key=lambda recording: recording.steps).load()
    shortest.validate()
    assert shortest.metadata["success"] is True


def test_a_file_of_another_version_is_refused_with_its_reason() -> None:
    for task, reason in {"lift": "no joint 'cube_jnt0'", "wipe": "link 'robot0_base'"}.items():
        source = shared_data("robosuite_human") / "v1.0.1" / task / "panda" / "demo.hdf5"
        with pytest.raises(StoreError, match=reason):
            RobosuiteDemosFormat().read(source)


def test_an_arm_of_other_measures_is_refused(lift_file: Path, tmp_path: Path) -> None:
    longer = tmp_path / "longer.hdf5"
    longer.write_bytes(lift_file.read_bytes())
    with h5py.File(longer, "r+") as file:
        attributes = file["data/demo_1"].attrs
        attributes["model_file"] = attributes["model_file"].replace('pos="0 -0.316 0"', 'pos="0 -0.336 0"')
    with pytest.raises(StoreError, match="link 'robot0_link3'"):
        RobosuiteDemosFormat().read(longer)


def test_a_demonstration_without_actions_or_too_few_states_is_left_out_on_demand(
    lift_file: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "odd.hdf5"
    odd.write_bytes(lift_file.read_bytes())
    with h5py.File(odd, "r+") as file:
        names = sorted(file["data"])
        for name in names[3:]:
            del file["data"][name]
        for name, states, actions in ((names[0], 4, 4), (names[1], 0, 0), (names[2], 3, 4)):
            for key, count in (("states", states), ("actions", actions)):
                kept = file["data"][name][key][:count]
                del file["data"][name][key]
                file["data"][name][key] = kept
    found = RobosuiteDemosFormat().read(odd)
    store = EpisodeStore.create(tmp_path / "data", spec=found.spec)
    summary = import_recordings(store, found, skip_invalid=True)
    assert (summary.imported, summary.steps) == (1, 4)
    empty, short = summary.invalid
    assert f"{names[1]}: 0 states and 0 actions" in empty
    assert f"{names[2]}: 3 states and 4 actions" in short


def test_files_of_another_kind_and_exports_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "mimic.hdf5", "w") as file:
        file["data/demo_0/actions"] = np.zeros((2, 7))
        file["data/demo_0/obs/object"] = np.zeros((2, 7))
    with pytest.raises(StoreError, match="format=robomimic"):
        RobosuiteDemosFormat().read(tmp_path / "mimic.hdf5")
    with pytest.raises(RobotRlError, match="only be imported"):
        RobosuiteDemosFormat().write(None, tmp_path / "x")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Did you mean 'tcp_pose'"):
        RobosuiteDemosFormat(action="tcp_pos")


def test_cameras_are_rendered_on_demand(lift_file: Path, tmp_path: Path) -> None:
    with h5py.File(lift_file) as whole, h5py.File(tmp_path / "short.hdf5", "w") as short:
        short.create_group("data").attrs.update(whole["data"].attrs)
        demo = short.create_group("data/demo_1")
        demo.attrs.update(whole["data/demo_1"].attrs)
        for key in ("states", "actions"):
            demo[key] = whole[f"data/demo_1/{key}"][:2]
    found = RobosuiteDemosFormat(cameras={"front": "agentview"}, image_size_px=64).read(tmp_path / "short.hdf5")
    assert found.spec.cameras["front"].height == 64
    episode = found.recordings[0].load()
    episode.validate()
    image = decoded_steps(episode.cameras["front"], 2, "front")[0].astype(int)
    red = (image[..., 0] > 100) & (image[..., 1] < 80)
    assert 5 < red.sum() < 500  # the cube


def test_an_unknown_camera_is_refused_before_anything_is_imported() -> None:
    replay = RobosuiteReplay("Lift", ["Panda"], None, cameras=False)
    with pytest.raises(StoreError, match=r"no camera 'agentvew'.*Did you mean 'agentview'"):
        replay.check_camera("agentvew")
    with pytest.raises(StoreError, match=r"no environment 'Lft'.*Did you mean 'Lift'"):
        RobosuiteReplay("Lft", ["Panda"], None, cameras=False)
