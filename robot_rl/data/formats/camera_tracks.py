"""Raw images to camera tracks and back: JPEG of quality 95 without chroma subsampling, RGB in memory."""

from __future__ import annotations

import numpy as np

from robot_rl.data.episode import CameraTrack
from robot_rl.data.frame_encoding import JPEG_QUALITY, encode_frame
from robot_rl.data.frames import decode_frame
from robot_rl.errors import EpisodeError
from robot_rl.types import Array, Frame


def jpeg_track(images: Array, t_ns: Array, frame_of_step: Array) -> CameraTrack:
    """Encode RGB or grey ``images`` uint8 [F, H, W, C]; 4:4:4 keeps coloured edges (7 dB over 4:2:0 at 128 px)."""
    _, height, width, channels = images.shape
    if channels not in (1, 3):
        raise EpisodeError(f"images with {channels} channels", limit="[F, H, W, 3] or [F, H, W, 1]")
    encoded = [_encode(image) for image in images]
    offset = np.concatenate(([0], np.cumsum([len(item) for item in encoded]))).astype(np.int64)
    return CameraTrack(
        data=np.frombuffer(b"".join(encoded), dtype=np.uint8),
        offset=offset,
        t_ns=t_ns.astype(np.int64),
        frame_of_step=frame_of_step.astype(np.int32),
        height=height,
        width=width,
        channels=channels,
        codec="jpeg",
        attributes={"quality": JPEG_QUALITY, "subsampling": "4:4:4", "colour_order": "rgb"},
    )


def decoded_steps(track: CameraTrack, steps: int, name: str) -> Array:
    """RGB images uint8 [steps, H, W, C] of the first ``steps`` rows. Raises EpisodeError for a dropped frame."""
    images = np.empty((steps, track.height, track.width, track.channels), dtype=np.uint8)
    for row, frame in enumerate(track.frame_of_step[:steps]):
        if frame < 0:
            raise EpisodeError("no frame", array=f"images/{name}", row=row, remedy="Export with format.images=false")
        same = row > 0 and frame == track.frame_of_step[row - 1]
        images[row] = images[row - 1] if same else decode_frame(track, int(frame))
    return images


def to_uint8(images: Array, scale: float) -> Array:
    """Images of any number type as uint8 [..., C]; ``scale`` is 255 for values in [0, 1], else 1.

    Raises EpisodeError for values beyond 255, e.g. depth in mm: clipping would make them worthless.
    """
    if images.dtype == np.uint8:
        return images
    if images.size and images.max() * scale > 255.5:
        raise EpisodeError(f"images with values up to {images.max()}", limit="255", remedy="Leave that camera out")
    return np.clip(np.rint(images * scale), 0, 255).astype(np.uint8)


def brightness_scale(images: Array) -> float:
    """255 when float ``images`` lie in [0, 1], else 1."""
    return 255.0 if images.dtype.kind == "f" and images.size and float(images.max()) <= 1.0 else 1.0


def _encode(image: Array) -> bytes:
    height, width, channels = image.shape
    raw = Frame(image.tobytes(), stamp_ns=0, sequence=0, height=height, width=width, channels=channels, codec="raw")
    return encode_frame(raw, "jpeg")
