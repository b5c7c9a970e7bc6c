"""Camera frames as bytes: policies and recorder see the same JPEG, in simulation too."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from robot_rl.errors import InvalidArrayError
from robot_rl.types import Array, Frame

JPEG_QUALITY = 95
_JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    JPEG_QUALITY,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]


def encode_jpeg(image: Array) -> bytes:
    """RGB [h, w, 3] or grey [h, w, 1] uint8 -> JPEG, quality 95 without chroma subsampling."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise InvalidArrayError(f"image is {image.dtype}{list(image.shape)}", limit="uint8 [h, w, 3] RGB or [h, w, 1]")
    ordered = image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", ordered, _JPEG)
    if not done:
        raise InvalidArrayError(f"image of shape {list(image.shape)} cannot be encoded as JPEG")
    return data.tobytes()


def decode(frame: Frame) -> Array:
    """The pixels of a frame, uint8 [h, w, c], RGB. Raises InvalidArrayError for bytes that are no such image."""
    shape = (frame.height, frame.width, frame.channels)
    if frame.codec == "raw":
        if len(frame.data) != frame.height * frame.width * frame.channels:
            raise InvalidArrayError(f"raw frame of {len(frame.data)} bytes", limit=f"{list(shape)} uint8")
        return np.frombuffer(frame.data, dtype=np.uint8).reshape(shape)
    flags = cv2.IMREAD_GRAYSCALE if frame.channels == 1 else cv2.IMREAD_COLOR
    image = cv2.imdecode(np.frombuffer(frame.data, dtype=np.uint8), flags) if frame.data else None
    if image is None:
        raise InvalidArrayError(f"a frame of {len(frame.data)} bytes is not a {frame.codec} image")
    image = image[..., None] if frame.channels == 1 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if image.shape != shape:
        raise InvalidArrayError(f"decoded frame has shape {list(image.shape)}", limit=str(list(shape)))
    return image


def compressed(frame: Frame) -> Frame:
    """A raw frame of a simulator as the JPEG that a camera would send; other frames unchanged."""
    return replace(frame, data=encode_jpeg(decode(frame)), codec="jpeg") if frame.codec == "raw" else frame
