"""Boards on paper at true scale: a PDF of vectors or a PNG that knows its resolution.

Both carry a bar of 100 mm below the board: measure it after printing, printers like to "fit to page".
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from calibration.boards import CharucoBoard
from robot_rl.errors import ConfigError, valid_choices

PAPERS_M = {"a4": (0.297, 0.210), "a3": (0.420, 0.297), "a2": (0.594, 0.420), "letter": (0.2794, 0.2159)}
_POINTS_PER_M = 72.0 / 0.0254
_MARGIN_M, _BELOW_M = 0.005, 0.012
_BAR_M, _BAR_HEIGHT_M = 0.1, 0.002


def print_board(board: CharucoBoard, path: Path, *, paper: str = "a4", dpi: int = 600) -> Path:
    """Write ``path``, whose ending is .pdf or .png (of ``dpi``), the board in the middle of a landscape ``paper``.

    Raises ConfigError where the board does not fit on it.
    """
    if paper not in PAPERS_M:
        raise ConfigError(f"paper '{paper}'", remedy=valid_choices(paper, PAPERS_M))
    page, (width, height) = PAPERS_M[paper], board.size_m
    if width > page[0] - 2.0 * _MARGIN_M or height > page[1] - 2.0 * _BELOW_M:
        raise ConfigError(
            f"a board of {1e3 * width:.0f} x {1e3 * height:.0f} mm on {paper}",
            limit=f"{1e3 * (page[0] - 2 * _MARGIN_M):.0f} x {1e3 * (page[1] - 2 * _BELOW_M):.0f} mm",
            remedy="Take a larger paper, smaller squares or fewer of them",
        )
    if path.suffix not in (".pdf", ".png"):
        raise ConfigError(f"a board as '{path.name}'", limit="a name that ends in .pdf or .png")
    left, top = 0.5 * (page[0] - width), 0.5 * (page[1] - height)
    drawn = [(left + x, top + y, w, h, black) for x, y, w, h, black in board.rectangles()]
    drawn.append((left, top + height + 0.5 * _BELOW_M, _BAR_M, _BAR_HEIGHT_M, True))
    caption = (
        f"{board.columns} x {board.rows} squares of {1e3 * board.square_m:g} mm, markers {1e3 * board.marker_m:g} mm, "
        f"{board.dictionary}{', legacy pattern' if board.legacy else ''}. The bar is 100 mm: measure it."
    )
    data = _pdf(drawn, page, caption) if path.suffix == ".pdf" else _png(drawn, page, dpi)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


_Rectangles = list[tuple[float, float, float, float, bool]]


def _pdf(drawn: _Rectangles, page: tuple[float, float], caption: str) -> bytes:
    """One page of PDF 1.4 (ISO 32000-1): its unit is the point, its y axis upwards."""
    lines = []
    for x, y, width, height, black in drawn:
        box = " ".join(f"{_POINTS_PER_M * v:.5f}" for v in (x, page[1] - y - height, width, height))
        lines.append(f"{0 if black else 1} g {box} re f")
    bar_x, bar_y = drawn[-1][0] + _BAR_M + 0.004, page[1] - drawn[-1][1] - _BAR_HEIGHT_M
    lines.append(f"0 g BT /F 7 Tf {_POINTS_PER_M * bar_x:.3f} {_POINTS_PER_M * bar_y:.3f} Td ({caption}) Tj ET")
    stream = "\n".join(lines).encode("ascii")
    size = " ".join(f"{_POINTS_PER_M * v:.5f}" for v in page)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R/ViewerPreferences<</PrintScaling/None>>>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {size}]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>".encode(),
        b"<</Length %d>>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    count, start = len(objects) + 1, len(data)
    trailer = b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (count, start)
    return data + b"xref\n0 %d\n0000000000 65535 f \n" % count + table + trailer


def _png(drawn: _Rectangles, page: tuple[float, float], dpi: int) -> bytes:
    """A PNG whose pHYs chunk tells pixels per metre."""
    per_m = round(dpi / 0.0254)
    image = np.full((round(per_m * page[1]), round(per_m * page[0])), 255, dtype=np.uint8)
    for x, y, width, height, black in drawn:
        left, top, right, bottom = (round(per_m * v) for v in (x, y, x + width, y + height))
        image[top:bottom, left:right] = 0 if black else 255
    data = cv2.imencode(".png", image)[1].tobytes()
    body = b"pHYs" + struct.pack(">IIB", per_m, per_m, 1)
    chunk = struct.pack(">I", 9) + body + struct.pack(">I", zlib.crc32(body))
    header = 33  # signature and IHDR
    return data[:header] + chunk + data[header:]
