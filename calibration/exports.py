"""Calibrations as ROS, URDF and MuJoCo read them."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

import numpy as np
import yaml
from scipy.spatial.transform import Rotation

from calibration.camera_model import Intrinsics
from calibration.storage import FrameTransform
from robot_rl.geometry import pose_from_matrix
from robot_rl.types import Array

_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # optical axes to OpenGL's, which MuJoCo's cameras have
_YAML_HEADER = "%YAML 1.0\n---\n"  # without it OpenCV's FileStorage does not take a file for YAML


def camera_info_yaml(camera: Intrinsics, name: str) -> str:
    """The file of ROS' camera_info_manager; K and D of it hold for raw images. OpenCV's FileStorage reads it, too."""
    width, height = camera.image_size_px
    projection = np.hstack([camera.matrix, np.zeros((3, 1))])
    document = {
        "image_width": width,
        "image_height": height,
        "camera_name": name,
        "camera_matrix": _array_fields(camera.matrix),
        "distortion_model": str(camera.model),
        "distortion_coefficients": _array_fields(camera.coefficients[None]),
        "rectification_matrix": _array_fields(np.eye(3)),
        "projection_matrix": _array_fields(projection),
    }
    return _YAML_HEADER + yaml.safe_dump(document, sort_keys=False, default_flow_style=None)


def static_transform_publisher(item: FrameTransform) -> str:
    """The command that publishes it on /tf_static."""
    values = dict(zip(("x", "y", "z", "qx", "qy", "qz", "qw"), pose_from_matrix(item.matrix).tolist(), strict=True))
    words = " ".join(f"--{key} {value:.9g}" for key, value in values.items())
    return f"ros2 run tf2_ros static_transform_publisher {words} --frame-id {item.parent} --child-frame-id {item.child}"


def urdf_fragment(item: FrameTransform) -> str:
    """A link and the fixed joint that holds it, to be put into the robot's URDF."""
    rpy = Rotation.from_matrix(item.matrix[:3, :3]).as_euler("xyz")
    return (
        f"<link name={quoteattr(item.child)}/>\n"
        f'<joint name={quoteattr(item.child + "_joint")} type="fixed">\n'
        f"  <parent link={quoteattr(item.parent)}/>\n"
        f"  <child link={quoteattr(item.child)}/>\n"
        f'  <origin xyz="{_words(item.matrix[:3, 3])}" rpy="{_words(rpy)}"/>\n'
        "</joint>\n"
    )


def mjcf_camera(item: FrameTransform, camera: Intrinsics, name: str) -> str:
    """A camera element, to be put into the body ``item.parent`` of a MuJoCo model. MuJoCo knows no distortion: it
    draws what an undistorted image shows."""
    x, y, z, qx, qy, qz, qw = pose_from_matrix(item.matrix @ _FLIP).tolist()
    (width, height), matrix = camera.image_size_px, camera.matrix
    # MuJoCo counts it from the centre of the image, to the left and upwards; the size of its sensor is arbitrary
    principal = np.array([0.5 * (width - 1) - matrix[0, 2], 0.5 * (height - 1) - matrix[1, 2]])
    return (
        f'<camera name={quoteattr(name)} pos="{_words([x, y, z])}" quat="{_words([qw, qx, qy, qz])}" '
        f'resolution="{width} {height}" sensorsize="{_words([1e-5 * width, 1e-5 * height])}" '
        f'focalpixel="{_words([matrix[0, 0], matrix[1, 1]])}" principalpixel="{_words(principal)}"/>\n'
    )


def _array_fields(array: Array) -> dict[str, object]:
    rows, columns = array.shape
    return {"rows": rows, "cols": columns, "data": array.ravel().tolist()}


def _words(values: object) -> str:
    return " ".join(f"{value:.9g}" for value in np.ravel(np.asarray(values, dtype=np.float64)))
