"""Camera frames as bytes and back; encoding is done off the control thread. Needs OpenCV, imported on first use."""

from __future__ import annotations

from typing import Any

import numpy as np

from robot_rl.data import jpegxl
from robot_rl.errors import RobotRlError, StoreError
from robot_rl.types import DEPTH_CODEC, Array, Frame

JPEG_QUALITY = 95
_DEEPEST_MM = 65535


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise RobotRlError(
            "encoded camera frames need OpenCV, which is not installed", remedy="pip install 'robot-rl[learn]'"
        ) from error
    return cv2


def encode_frame(frame: Frame, codec: str, smallest: bool = False) -> bytes:
    """The bytes of a raw RGB or grey uint8 ``frame`` in ``codec``: jpeg (quality 95, 4:4:4), png or raw.

    4:2:0 would cost 7 dB on small frames with coloured objects for a fifth of the size. ``smallest`` fits a JPEG's
    Huffman tables to its image: the same pixels in 5 % fewer bytes, for 2.5 instead of 1.1 ms at 640x480.
    """
    if codec in (frame.codec, "raw"):
        return frame.data
    cv2 = _opencv()
    image = np.frombuffer(frame.data, np.uint8).reshape(frame.height, frame.width, frame.channels)
    if frame.channels == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if codec == "jpeg":
        factor = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
        options += [cv2.IMWRITE_JPEG_OPTIMIZE, int(smallest)]
        done, encoded = cv2.imencode(".jpg", image, options)
    elif codec == "png":
        done, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    else:
        raise StoreError(f"raw frames cannot be encoded as '{codec}'", limit="jpeg, png or raw")
    if not done:
        raise StoreError(f"a {frame.width}x{frame.height}x{frame.channels} frame could not be encoded as {codec}")
    return encoded.tobytes()


def read_image(data: Array, codec: str, channels: int) -> Array | None:
    """Pixels of encoded bytes uint8 [n]: uint8 RGB or grey, uint16 for DEPTH_CODEC; None for bytes that are none."""
    cv2 = _opencv()
    if not data.size:
        return None
    if codec == jpegxl.CODEC:
        data = np.frombuffer(jpegxl.restored_jpeg(data), np.uint8)
    if codec == DEPTH_CODEC:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        return image if image is not None and image.dtype == np.uint16 else None
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB)


def resized(image: Array, height: int, width: int) -> Array:
    """``image`` [h, w, c] at another size: colours by area, depth by the nearest pixel, since no distance lies between
    two objects."""
    cv2 = _opencv()
    way = cv2.INTER_NEAREST if image.dtype == np.uint16 else cv2.INTER_AREA
    return cv2.resize(image, (width, height), interpolation=way).reshape(height, width, image.shape[2])


def encode_depth(depth_m: Array) -> bytes:
    """Distances [h, w] in m as the bytes of a frame with DEPTH_CODEC: a 16-bit PNG of whole mm, rounded; 0 where
    ``depth_m`` is not finite, not positive or beyond 65.535 m."""
    cv2 = _opencv()
    with np.errstate(invalid="ignore", over="ignore"):
        depth_mm = np.rint(1e3 * np.asarray(depth_m, dtype=np.float64))
        measured = (depth_mm > 0) & (depth_mm <= _DEEPEST_MM)
    image = np.where(measured, depth_mm, 0).astype(np.uint16)
    done, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise StoreError(f"depth of shape {list(image.shape)} could not be encoded", limit="[h, w]")
    return encoded.tobytes()
