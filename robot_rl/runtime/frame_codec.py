"""Camera frames as pixels: policies and recorder see the same JPEG, in simulation too.

OpenCV is imported on first use, so that a loop without cameras runs on the base dependencies.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from robot_rl.data.frame_encoding import encode_frame
from robot_rl.errors import InvalidArrayError
from robot_rl.types import Array, Frame


def compressed(frame: Frame) -> Frame:
    """A raw frame of a simulator as the JPEG that a camera would send; other frames unchanged."""
    return frame if frame.codec != "raw" else replace(frame, data=encode_frame(frame, "jpeg"), codec="jpeg")


def decode(frame: Frame) -> Array:
    """The pixels of a frame, uint8 [h, w, c], RGB. Raises InvalidArrayError for bytes that are no such image."""
    shape = (frame.height, frame.width, frame.channels)
    if frame.codec == "raw":
        if len(frame.data) != frame.height * frame.width * frame.channels:
            raise InvalidArrayError(f"raw frame of {len(frame.data)} bytes", limit=f"uint8 {list(shape)}")
        return np.frombuffer(frame.data, dtype=np.uint8).reshape(shape)
    import cv2

    flag = cv2.IMREAD_GRAYSCALE if frame.channels == 1 else cv2.IMREAD_COLOR_RGB
    image = cv2.imdecode(np.frombuffer(frame.data, dtype=np.uint8), flag) if frame.data else None
    if image is None or image.shape[:2] != shape[:2]:
        found = "nothing that can be decoded" if image is None else f"{list(image.shape[:2])} pixels"
        raise InvalidArrayError(
            f"a frame of {len(frame.data)} bytes holds {found}", limit=f"{frame.codec} {list(shape)}"
        )
    return image.reshape(shape)


def scaled(image: Array, shape: tuple[int, ...]) -> Array:
    """``image`` [h, w, c] resized by area to ``shape`` (h, w, c), as in training."""
    if image.shape == shape:
        return image
    import cv2

    return cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA).reshape(shape)
