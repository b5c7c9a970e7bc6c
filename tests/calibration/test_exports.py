"""What calibration writes for others, read back by them: rclpy's messages, OpenCV, a URDF parser, MuJoCo, a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

import cv2
import mujoco
import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from calibration.camera_model import Distortion, Intrinsics
from calibration.exports import camera_info_yaml, mjcf_camera, static_transform_publisher, urdf_fragment
from calibration.imports import check_direction, read_camera_info, read_transform
from calibration.storage import FrameTransform
from robot_rl.errors import CalibrationError
from sim.offscreen import Offscreen
from tests.calibration.truth import IN_HAND, LENS, MOUNTINGS, Truth, arm_poses, corner_captures, pose, pose_captures

RATIONAL = Intrinsics(LENS.matrix, np.arange(8) * 0.01, (640, 480), Distortion.RATIONAL)
ITEM = FrameTransform("tcp", "wrist_optical", pose(0.06, -0.02, 0.035, 0.4, -1.1, 0.7), 0.3, 0.02)


@pytest.fixture(params=[LENS, RATIONAL], ids=lambda lens: str(lens.model))
def camera_info(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Intrinsics, Path]:
    path = tmp_path / "wrist.yaml"
    path.write_text(camera_info_yaml(request.param, "wrist"))
    return request.param, path


def test_camera_info_fills_the_ros_message(camera_info: tuple[Intrinsics, Path]) -> None:
    messages = pytest.importorskip("sensor_msgs.msg", reason="the extra 'ros' is not installed")
    lens, path = camera_info
    fields = yaml.safe_load(path.read_text())
    message = messages.CameraInfo(
        width=fields["image_width"],
        height=fields["image_height"],
        distortion_model=fields["distortion_model"],
        d=fields["distortion_coefficients"]["data"],
        k=fields["camera_matrix"]["data"],
        r=fields["rectification_matrix"]["data"],
        p=fields["projection_matrix"]["data"],
    )
    assert (message.width, message.height, message.distortion_model) == (640, 480, str(lens.model))
    np.testing.assert_array_equal(np.reshape(message.k, (3, 3)), lens.matrix)
    np.testing.assert_array_equal(np.reshape(message.p, (3, 4))[:, :3], lens.matrix)
    assert list(message.d) == lens.coefficients.tolist()


def test_camera_info_is_read_by_opencv_and_undistorts(camera_info: tuple[Intrinsics, Path]) -> None:
    lens, path = camera_info
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)

    def values(key: str) -> np.ndarray:
        data = storage.getNode(key).getNode("data")
        return np.array([data.at(i).real() for i in range(data.size())])

    matrix, coefficients = values("camera_matrix").reshape(3, 3), values("distortion_coefficients")
    storage.release()
    rays = np.random.default_rng(0).uniform([-0.2, -0.15, 1.0], [0.2, 0.15, 1.0], size=(20, 3))
    undistorted = cv2.undistortPoints(lens.project(rays)[:, None], matrix, coefficients)
    np.testing.assert_allclose(undistorted[:, 0], rays[:, :2], atol=1e-5)


def test_camera_info_comes_back(camera_info: tuple[Intrinsics, Path]) -> None:
    lens, path = camera_info
    read = read_camera_info(path, image_size_px=(640, 480))
    assert read.model is lens.model and read.image_size_px == lens.image_size_px
    np.testing.assert_array_equal(read.matrix, lens.matrix)
    np.testing.assert_array_equal(read.coefficients, lens.coefficients)
    with pytest.raises(CalibrationError, match="320 x 240 px, its calibration is for 640 x 480 px"):
        read_camera_info(path, image_size_px=(320, 240))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"camera_matrix": {"data": [0.0] * 9}}, "not calibrated: K has the focal lengths 0 and 0 px"),
        ({"distortion_model": "equidistant"}, "distortion model 'equidistant'.*plumb_bob"),
        ({"camera_matrix": {"data": [1.0]}}, "no camera_info file"),
        ({"image_width": None}, "no camera_info file"),
    ],
)
def test_camera_info_that_cannot_be_used_is_refused(tmp_path: Path, change: dict[str, object], told: str) -> None:
    path = tmp_path / "wrist.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(camera_info_yaml(LENS, "wrist")) | change))
    with pytest.raises(CalibrationError, match=told):
        read_camera_info(path)


def test_urdf_is_read_by_a_parser() -> None:
    urdf = pytest.importorskip("urdf_parser_py.urdf", reason="the extra 'dev' is not installed")
    robot = urdf.URDF.from_xml_string(f'<robot name="arm"><link name="tcp"/>{urdf_fragment(ITEM)}</robot>')
    (joint,) = robot.joints
    assert (joint.type, joint.parent, joint.child) == ("fixed", "tcp", "wrist_optical")
    np.testing.assert_allclose(joint.origin.xyz, ITEM.matrix[:3, 3], atol=1e-9)
    # URDF: fixed axes x, y, z in this order
    np.testing.assert_allclose(Rotation.from_euler("xyz", joint.origin.rpy).as_matrix(), ITEM.matrix[:3, :3], atol=1e-8)
    assert robot.get_root() == "tcp"


def test_static_transform_has_the_options_of_tf2() -> None:
    words = shlex.split(static_transform_publisher(ITEM))
    assert words[:4] == ["ros2", "run", "tf2_ros", "static_transform_publisher"]
    options = dict(zip(words[4::2], words[5::2], strict=True))
    assert options["--frame-id"] == "tcp" and options["--child-frame-id"] == "wrist_optical"
    quat_xyzw = [float(options[f"--q{axis}"]) for axis in "xyzw"]
    np.testing.assert_allclose(Rotation.from_quat(quat_xyzw).as_matrix(), ITEM.matrix[:3, :3], atol=1e-8)
    np.testing.assert_allclose([float(options[f"--{axis}"]) for axis in "xyz"], ITEM.matrix[:3, 3], atol=1e-9)


def test_mujoco_draws_a_point_where_the_camera_sees_it() -> None:
    """With its principal point aside and axes flipped as it should be: everything a sign could spoil."""
    lens = Intrinsics(np.array([[150.0, 0, 95.0], [0, 140.0, 40.0], [0, 0, 1]]), np.zeros(5), (160, 120))
    camera = mjcf_camera(ITEM, lens, "wrist")
    T_tcp_ball = ITEM.matrix @ pose(0.03, 0.05, 0.5)
    x, y, z = T_tcp_ball[:3, 3]
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><visual><headlight ambient="1 1 1"/></visual><worldbody><body name="tcp">{camera}</body>'
        f'<geom type="sphere" size="0.015" pos="{x} {y} {z}" rgba="1 1 1 1"/></worldbody></mujoco>'
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    canvas = Offscreen(model, 120, 160)
    image = canvas.colour(data, 0, 120, 160)
    canvas.close()
    rows, columns = np.nonzero(image.sum(axis=2) > 300)
    seen = lens.project(np.array([0.03, 0.05, 0.5]))
    np.testing.assert_allclose([columns.mean(), rows.mean()], seen, atol=0.6)


# --- transforms of other tools --------------------------------------------------------------------------------------

EASY_HANDEYE = """
parameters: {eye_on_hand: true, tracking_base_frame: camera_link}
transformation: {qw: 0.5, qx: 0.5, qy: 0.5, qz: 0.5, x: 0.1, y: 0.2, z: 0.3}
"""
EASY_HANDEYE2 = """
parameters: {calibration_type: eye_in_hand}
transform: {translation: {x: 0.1, y: 0.2, z: 0.3}, rotation: {x: 0.5, y: 0.5, z: 0.5, w: 0.5}}
"""
PLAIN = "{parent: tcp, child: wrist, xyz: [0.1, 0.2, 0.3], xyzw: [0.5, 0.5, 0.5, 0.5]}"


@pytest.mark.parametrize("text", [EASY_HANDEYE, EASY_HANDEYE2, PLAIN])
def test_transforms_of_other_tools_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(text)
    expected = np.array([[0, 0, 1, 0.1], [1, 0, 0, 0.2], [0, 1, 0, 0.3], [0, 0, 0, 1]])
    np.testing.assert_allclose(read_transform(path), expected, atol=1e-12)


def test_files_without_a_transform_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    for text, told in (
        ("{a: 1}", "holds no transform"),
        ("[1]", "no mapping"),
        ("{xyz: [0, 0, 0], xyzw: [0, 0, 0, 0]}", "zero"),
    ):
        path.write_text(text)
        with pytest.raises(CalibrationError, match=told):
            read_transform(path)


@pytest.mark.parametrize("truth", MOUNTINGS.values(), ids=MOUNTINGS)
def test_an_inverted_transform_is_noticed_by_samples_and_may_be_turned_round(truth: Truth) -> None:
    for make in (pose_captures, corner_captures):
        captures, rig = make(truth, arm_poses(truth, 6)), truth.rig()
        np.testing.assert_array_equal(
            check_direction(truth.T_mount_camera, "camera", rig, captures), truth.T_mount_camera
        )
        inverted = np.linalg.inv(truth.T_mount_camera)
        with pytest.raises(CalibrationError, match=rf"what is given as {rig.transform_name('camera')} is inverted"):
            check_direction(inverted, "camera", rig, captures)
        turned = check_direction(inverted, "camera", rig, captures, invert=True)
        np.testing.assert_allclose(turned, truth.T_mount_camera, atol=1e-12)


def test_a_direction_needs_captures_to_be_checked_by() -> None:
    with pytest.raises(CalibrationError, match="2 captures"):
        check_direction(np.eye(4), "camera", IN_HAND.rig(), pose_captures(IN_HAND, arm_poses(IN_HAND, 2)))
