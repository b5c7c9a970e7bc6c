"""Boards: corners where they are printed, both patterns, true scale on paper, and why one is not found."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.board_print import print_board
from calibration.boards import CharucoBoard
from calibration.samples import BoardView
from robot_rl.errors import ConfigError, InvalidArrayError
from robot_rl.types import Array

BOARD = CharucoBoard(columns=8, rows=6, square_m=0.03, marker_m=0.022)


def seen(board: CharucoBoard, image: Array) -> BoardView:
    return board.detect(image, camera="wrist", stamp_ns=0)


def framed(image: Array) -> Array:
    return np.pad(image, 40, constant_values=255)


def test_corners_by_hand() -> None:
    np.testing.assert_allclose(BOARD.points(np.array([0, 6, 7, 34])), [
        [0.03, 0.03, 0.0], [0.21, 0.03, 0.0], [0.03, 0.06, 0.0], [0.21, 0.15, 0.0],
    ])  # fmt: skip
    with pytest.raises(InvalidArrayError, match="0 to 34"):
        BOARD.points(np.array([35]))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(("columns", "rows"), [(8, 6), (7, 5)])
def test_corners_are_found_where_they_are_drawn(columns: int, rows: int, legacy: bool) -> None:
    board = CharucoBoard(columns, rows, legacy=legacy)
    view = seen(board, framed(board.picture(square_px=60)))
    assert len(view.corner_ids) == board.corner_count
    # corners lie between pixels, whose centres are whole numbers
    expected = board.points(view.corner_ids)[:, :2] / board.square_m * 60 + 40 - 0.5
    np.testing.assert_allclose(view.corners_px, expected, atol=0.05)


def test_the_picture_is_that_of_opencv() -> None:
    for legacy in (False, True):
        board = CharucoBoard(legacy=legacy)
        theirs = cv2.aruco.CharucoBoard((8, 6), 0.03, 0.022, cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_100))
        theirs.setLegacyPattern(legacy)
        apart = np.abs(theirs.generateImage((480, 360)).astype(int) - board.picture(square_px=60))
        assert np.mean(apart > 64) < 0.05  # borders of the modules are rounded otherwise


def test_a_board_that_is_not_found_says_why() -> None:
    image = framed(BOARD.picture())
    assert BOARD.why_not(image) == ""
    assert "set legacy=False" in CharucoBoard(legacy=True).why_not(image)
    assert "are not of this board" in CharucoBoard(columns=4, rows=3).why_not(image)
    assert "no marker of DICT_5X5_100" in BOARD.why_not(np.full((300, 300), 200, np.uint8))
    assert "of 24 markers" in BOARD.why_not(image[:110, :240])


def test_boards_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="DICT_5X5_100"):
        CharucoBoard(dictionary="DICT_5X5_10")
    with pytest.raises(ConfigError, match="marker < square"):
        CharucoBoard(square_m=0.02, marker_m=0.02)
    with pytest.raises(ConfigError, match="50 in that dictionary"):
        CharucoBoard(columns=12, rows=9, dictionary="DICT_5X5_50")


def test_fields_round_trip_and_a_mistyped_one_is_named() -> None:
    assert CharucoBoard.from_dict(BOARD.to_dict()) == BOARD
    with pytest.raises(ConfigError, match="Did you mean 'square_m'"):
        CharucoBoard.from_dict({"square": 0.03})


def square_px(view: BoardView) -> float:
    """Mean edge of a square in the image."""
    where = dict(zip(view.corner_ids.tolist(), view.corners_px, strict=True))
    return float(np.linalg.norm(where[6] - where[0]) / 6.0)


def test_png_has_true_scale(tmp_path: Path) -> None:
    path = print_board(BOARD, tmp_path / "board.png", dpi=150)
    data = path.read_bytes()
    per_m = struct.unpack(">II", data[data.index(b"pHYs") + 4 :][:8])
    assert per_m == (5906, 5906)  # 150 / 0.0254
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None and image.shape == (round(0.21 * 5906), round(0.297 * 5906))
    assert square_px(seen(BOARD, image)) / per_m[0] == pytest.approx(0.03, rel=2e-4)


def test_pdf_has_true_scale(tmp_path: Path) -> None:
    text = print_board(BOARD, tmp_path / "board.pdf").read_bytes().decode("ascii")
    width, height = (float(v) for v in re.search(r"MediaBox\[0 0 (\S+) (\S+)\]", text).groups())
    assert (width / 72 * 0.0254, height / 72 * 0.0254) == pytest.approx((0.297, 0.210), abs=1e-6)
    offsets = re.findall(r"^(\d{10}) 00000 n", text, re.MULTILINE)
    assert [text[int(offset) :][:7] for offset in offsets] == [f"{n} 0 obj" for n in range(1, 6)]
    image = drawn(text, width, height, scale=2.0)
    assert square_px(seen(BOARD, image)) / 2.0 / 72 * 0.0254 == pytest.approx(0.03, rel=1e-3)


def drawn(text: str, width: float, height: float, scale: float) -> Array:
    """What the page shows: its rectangles, y upwards."""
    image = np.full((round(scale * height), round(scale * width)), 255, np.uint8)
    for grey, *box in re.findall(r"^([01]) g (\S+) (\S+) (\S+) (\S+) re f", text, re.MULTILINE):
        x, y, w, h = (scale * float(v) for v in box)
        image[round(scale * height - y - h) : round(scale * height - y), round(x) : round(x + w)] = 255 * int(grey)
    return image


def test_a_board_larger_than_the_paper_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="480 x 360 mm on a4"):
        print_board(CharucoBoard(square_m=0.06, marker_m=0.045), tmp_path / "board.pdf")
    assert print_board(CharucoBoard(square_m=0.06, marker_m=0.045), tmp_path / "b.pdf", paper="a2").exists()
