"""ChArUco boards: where their corners lie, what they look like, and finding them in images.

The frame of a board has its origin at the outer corner of the first square: x along the columns, y down the rows, z
into the print. OpenCV numbers the inner corners row by row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from calibration.samples import BoardView
from robot_rl.errors import ConfigError, InvalidArrayError, valid_choices
from robot_rl.types import Array

MIN_CORNERS = 6
_WHITE, _BLACK = 255, 0
DICTIONARIES = {name: getattr(cv2.aruco, name) for name in dir(cv2.aruco) if name.startswith("DICT_")}


@dataclass(frozen=True)
class CharucoBoard:
    """``columns`` x ``rows`` squares with edges of ``square_m``, every second one with a marker of ``marker_m``.

    ``legacy`` is the pattern of boards printed by OpenCV before 4.6: with an even number of rows, markers sit on the
    other squares (opencv_contrib issue 3291). Raises ConfigError for a board that cannot be.
    """

    columns: int = 8
    rows: int = 6
    square_m: float = 0.03
    marker_m: float = 0.022
    dictionary: str = "DICT_5X5_100"
    legacy: bool = False

    def __post_init__(self) -> None:
        if self.dictionary not in DICTIONARIES:
            raise ConfigError(
                f"markers of dictionary '{self.dictionary}'", remedy=valid_choices(self.dictionary, DICTIONARIES)
            )
        if not (2 <= self.columns <= 50 and 2 <= self.rows <= 50) or self.columns * self.rows < 6:
            raise ConfigError(f"a board of {self.columns} x {self.rows} squares", limit="2 to 50 each, 6 in all")
        if not 0.0 < self.marker_m < self.square_m < 1.0:
            raise ConfigError(
                f"markers of {self.marker_m} m in squares of {self.square_m} m", limit="0 < marker < square < 1 m"
            )
        markers, there = self.columns * self.rows // 2, len(self._dictionary.bytesList)
        if markers > there:
            raise ConfigError(
                f"a board of {markers} markers from {self.dictionary}", limit=f"{there} in that dictionary"
            )

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height."""
        return self.columns * self.square_m, self.rows * self.square_m

    @property
    def corner_count(self) -> int:
        """Inner corners, numbered from 0."""
        return (self.columns - 1) * (self.rows - 1)

    def points(self, corner_ids: Array) -> Array:
        """Corners [n, 3] m in the board's frame. Raises InvalidArrayError for a corner that it lacks."""
        ids = np.asarray(corner_ids, dtype=np.int64)
        if ids.size and (ids.min() < 0 or ids.max() >= self.corner_count):
            raise InvalidArrayError(f"corner {ids.max()} of a board", limit=f"0 to {self.corner_count - 1}")
        row, column = np.divmod(ids, self.columns - 1)
        return np.stack((column + 1.0, row + 1.0, np.zeros(len(ids))), axis=-1) * self.square_m

    def rectangles(self) -> list[tuple[float, float, float, float, bool]]:
        """What is printed, one upon the other: x, y, width, height [m] in the board's frame, whether it is black."""
        markers = np.array(self._board.getObjPoints(), dtype=np.float64)[:, 0, :2]  # upper left corners
        taken = {(int(y // self.square_m), int(x // self.square_m)) for x, y in markers + 1e-6}
        size, drawn = self.square_m, []
        for row in range(self.rows):
            for column in range(self.columns):
                if (row, column) not in taken:
                    drawn.append((column * size, row * size, size, size, True))
        modules = self._dictionary.markerSize + 2
        module = self.marker_m / modules
        for number, (x, y) in zip(self._board.getIds().ravel(), markers, strict=True):
            drawn.append((x, y, self.marker_m, self.marker_m, True))
            bits = self._dictionary.generateImageMarker(int(number), modules)
            drawn += [
                (x + column * module, y + row * module, module, module, False) for row, column in np.argwhere(bits > 0)
            ]
        return drawn

    def picture(self, square_px: int = 60) -> Array:
        """The board without a margin, grey uint8 [rows * square_px, columns * square_px]; its corners lie on borders
        of pixels."""
        image = np.full((self.rows * square_px, self.columns * square_px), _WHITE, dtype=np.uint8)
        scale = square_px / self.square_m
        for x, y, width, height, black in self.rectangles():
            left, top, right, bottom = (round(scale * v) for v in (x, y, x + width, y + height))
            image[top:bottom, left:right] = _BLACK if black else _WHITE
        return image

    def detect(self, image: Array, *, camera: str, stamp_ns: int, board: str = "board", name: str = "") -> BoardView:
        """The corners that an image uint8 [h, w] or RGB [h, w, 3] shows: none where the board is not found."""
        corners, ids, _, _ = self._detector.detectBoard(_grey(image))
        if ids is None:
            ids, corners = np.empty(0), np.empty((0, 2))
        size = (image.shape[1], image.shape[0])
        return BoardView(camera, stamp_ns, size, np.ravel(ids), np.reshape(corners, (-1, 2)), board, name)

    def why_not(self, image: Array) -> str:
        """What keeps the board from being found in an image, in words; empty where nothing does."""
        grey = _grey(image)
        found = self.detect(grey, camera="", stamp_ns=0)
        if len(found.corner_ids) >= MIN_CORNERS:
            return ""
        other = replace(self, legacy=not self.legacy)
        if len(other.detect(grey, camera="", stamp_ns=0).corner_ids) >= MIN_CORNERS:
            return f"the board has the {'new' if self.legacy else 'legacy'} pattern: set legacy={other.legacy}"
        _, ids, _ = cv2.aruco.ArucoDetector(self._dictionary).detectMarkers(grey)
        seen = set() if ids is None else {int(number) for number in np.ravel(ids)}
        own = {int(number) for number in self._board.getIds().ravel()}
        if not seen:
            return f"no marker of {self.dictionary}: too small, blurred or dark, or of another dictionary"
        if seen - own:
            return f"markers {sorted(seen - own)} are not of this board: another one, or other numbers of squares"
        return f"{len(seen)} of {len(own)} markers and {len(found.corner_ids)} corners: hidden, too slanted or blurred"

    def to_dict(self) -> dict[str, Any]:
        """Its arguments, for files."""
        return asdict(self)

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> CharucoBoard:
        """Inverse of ``to_dict``. Raises ConfigError for others."""
        unknown = set(fields) - set(CharucoBoard.__dataclass_fields__)
        if unknown:
            raise ConfigError(
                f"a board with {sorted(unknown)}",
                remedy=valid_choices(min(unknown), CharucoBoard.__dataclass_fields__),
            )
        return CharucoBoard(**fields)

    @cached_property
    def _dictionary(self) -> Any:
        return cv2.aruco.getPredefinedDictionary(DICTIONARIES[self.dictionary])

    @cached_property
    def _board(self) -> Any:
        board = cv2.aruco.CharucoBoard((self.columns, self.rows), self.square_m, self.marker_m, self._dictionary)
        board.setLegacyPattern(self.legacy)
        return board

    @cached_property
    def _detector(self) -> Any:
        return cv2.aruco.CharucoDetector(self._board)


def _grey(image: Array) -> Array:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise InvalidArrayError(f"an image is {image.dtype}{list(image.shape)}", limit="uint8 [h, w] or RGB [h, w, 3]")
    grey = image if image.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return np.ascontiguousarray(grey)
