"""Camera frames as pixels: policies and recorder see the same JPEG, in simulation too.

OpenCV is imported on first use, so that a loop without cameras runs on the base dependencies.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from robot_rl.data.frame_encoding import encode_frame, read_image, resized
from robot_rl.errors import InvalidArrayError
from robot_rl.types import DEPTH_CODEC, Array, Frame


def compressed(frame: Frame) -> Frame:
    """A raw frame of a simulator as the JPEG that a camera would send; other frames unchanged."""
    return frame if frame.codec != "raw" else replace(frame, data=encode_frame(frame, "jpeg"), codec="jpeg")


def decode(frame: Frame) -> Array:
    """The pixels of a frame [h, w, c]: uint8 RGB or grey, uint16 mm of depth. Raises InvalidArrayError for others."""
    shape = (frame.height, frame.width, frame.channels)
    if frame.codec == "raw":
        if len(frame.data) != frame.height * frame.width * frame.channels:
            raise InvalidArrayError(f"raw frame of {len(frame.data)} bytes", limit=f"uint8 {list(shape)}")
        return np.frombuffer(frame.data, dtype=np.uint8).reshape(shape)
    image = read_image(np.frombuffer(frame.data, dtype=np.uint8), frame.codec, frame.channels)
    if image is None or image.shape[:2] != shape[:2]:
        found = "nothing that can be decoded" if image is None else f"{list(image.shape[:2])} pixels"
        raise InvalidArrayError(
            f"a frame of {len(frame.data)} bytes holds {found}", limit=f"{frame.codec} {list(shape)}"
        )
    return image.reshape(shape)


def scaled(image: Array, shape: tuple[int, ...]) -> Array:
    """``image`` [h, w, c] at the size of ``shape`` (h, w, c), resized as in training."""
    return image if image.shape == shape else resized(image, *shape[:2])


def depth_m(frame: Frame) -> Array:
    """Distance along the optical axis, float32 [h, w] m, of a depth frame; NaN where nothing was measured.

    Raises InvalidArrayError for a frame of another codec.
    """
    if frame.codec != DEPTH_CODEC:
        raise InvalidArrayError(f"a frame in '{frame.codec}' holds no depth", limit=DEPTH_CODEC)
    depth_mm = decode(frame)[..., 0]
    return np.where(depth_mm > 0, depth_mm * np.float32(1e-3), np.float32(np.nan))
