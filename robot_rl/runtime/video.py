"""Episodes as mp4 (H.264), from a camera or from the env's own rendering."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import av
import av.error
import numpy as np

from robot_rl.errors import ConfigError, InvalidArrayError, valid_choices
from robot_rl.interfaces import Env
from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.frame_codec import decode
from robot_rl.types import Array, Decision, EnvSpec, EpisodeEnd, Frame, Observation, StepRow

_LEAST_WIDTH_PX = 384


@runtime_checkable
class Rendering(Protocol):
    """An env that can draw itself, apart from what its cameras see."""

    def render(self) -> Array:
        """RGB image [h, w, 3] uint8 of the present."""
        ...


class VideoListener:
    """Writes one mp4 per episode; ``{seed}`` in the path is replaced.

    Shows ``camera``, or what ``render`` draws. Camera frames stay encoded until the episode is over, so that the
    loop does no image work; drawing is for simulators, where time waits.
    """

    def __init__(
        self,
        path: Path | str,
        camera: str | None = None,
        render: Callable[[], Array] | None = None,
        *,
        overlay: bool = True,
    ) -> None:
        if (camera is None) == (render is None):
            raise ConfigError("a video shows either a camera or the env's rendering", remedy="Name one of them")
        self._path, self._camera, self._render, self._overlay = Path(path), camera, render, overlay
        self._pictures: list[Frame | Array] = []
        self._captions: list[str] = []
        self._rate_hz, self._seed = 1.0, 0
        self.written: list[Path] = []

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None:
        if self._camera is not None and self._camera not in spec.cameras:
            raise ConfigError(
                f"no camera '{self._camera}' for the video", remedy=valid_choices(self._camera, spec.cameras)
            )
        self._pictures, self._captions = [], []
        self._rate_hz, self._seed = spec.step_rate_hz, seed
        self._take(observation, f"seed {seed}")

    def on_decision(self, decision: Decision) -> None: ...

    def on_step(self, row: StepRow) -> None:
        if self._render is not None:
            self._take(row.observation, f"{row.observation.step + 1}  reward {row.reward:.2f}")
        elif row.observation.step > 0:
            self._take(row.observation, f"{row.observation.step}  {row.action.source.name.lower()}")

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None:
        """Encode and write the file; its path is added to ``written``."""
        if self._camera is not None and final.observation.step > 0:
            self._take(final.observation, f"{final.observation.step}")
        self._captions[-1:] = [f"{caption}  {end.reason}" for caption in self._captions[-1:]]
        path = Path(str(self._path).replace("{seed}", str(self._seed)))
        write_mp4(path, self._images(), self._rate_hz)
        self.written.append(path)
        self._pictures, self._captions = [], []

    def _take(self, observation: Observation, caption: str) -> None:
        picture = self._render() if self._render is not None else observation.frames.get(self._camera or "")
        if picture is not None:
            self._pictures.append(picture)
            self._captions.append(caption)

    def _images(self) -> Iterable[Array]:
        for picture, caption in zip(self._pictures, self._captions, strict=True):
            image = _enlarged(decode(picture) if isinstance(picture, Frame) else picture)
            yield _captioned(image, caption) if self._overlay else image


def video_of(env: Env, path: Path) -> VideoListener | None:
    """A video of what ``env`` or its robot draws of itself, else of its first camera; None when there is neither."""
    drawn = env.robot if isinstance(env, RobotEnv) else env
    if isinstance(drawn, Rendering):
        return VideoListener(path, render=drawn.render)
    camera = next(iter(env.spec.cameras), None)
    return None if camera is None else VideoListener(path, camera)


def write_mp4(path: Path, images: Iterable[Array], rate_hz: float) -> None:
    """Write uint8 images [h, w, 3] as H.264 yuv420p at ``rate_hz``; odd sizes lose a line.

    Raises InvalidArrayError when there is no image or no file can be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    try:
        with av.open(str(temporary), "w", format="mp4") as container:
            _encode(container, images, rate_hz)
        temporary.replace(path)
    except av.error.FFmpegError as error:
        raise InvalidArrayError(f"cannot write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _encode(container: Any, images: Iterable[Array], rate_hz: float) -> None:
    stream = None
    for image in images:
        height, width = (side // 2 * 2 for side in image.shape[:2])
        if stream is None:
            rate = Fraction(rate_hz).limit_denominator(1000)
            stream = container.add_stream("libx264", rate=rate, options={"crf": "23"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        pixels = np.ascontiguousarray(np.broadcast_to(image[:height, :width], (height, width, 3)))
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
    if stream is None:
        raise InvalidArrayError("a video without images", limit="at least one")
    container.mux(stream.encode())


def _enlarged(image: Array) -> Array:
    """Small camera images in whole multiples of their pixels, so that a caption can be read."""
    factor = max(1, _LEAST_WIDTH_PX // image.shape[1])
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _captioned(image: Array, caption: str) -> Array:
    import cv2

    image = np.array(np.broadcast_to(image, (*image.shape[:2], 3)))
    scale = max(0.3, image.shape[1] / 640)
    place = (4, image.shape[0] - 6)
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):  # an outline reads on any background
        cv2.putText(image, caption, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
    return image
