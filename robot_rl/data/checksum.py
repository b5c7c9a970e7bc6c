"""CRC32C (Castagnoli) of any buffer, without a copy."""

from __future__ import annotations

from typing import Any

import google_crc32c
import numpy as np


def crc32c(buffer: Any, start: int = 0) -> int:
    """CRC32C of a contiguous ``buffer``, continued from ``start``."""
    if not isinstance(buffer, bytes):
        if len(buffer) == 0:
            return start
        buffer = np.frombuffer(buffer, dtype=np.uint8)  # the library takes no memoryview, but takes an array
    return google_crc32c.extend(start, buffer)
