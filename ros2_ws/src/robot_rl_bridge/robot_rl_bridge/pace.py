"""How well a loop of fixed rate holds it."""

from __future__ import annotations

from collections import deque

import numpy as np

_RECENT_S = 10.0


class Pace:
    """Cycles of a loop with ``period_ns``, and how late they began."""

    def __init__(self, period_ns: int) -> None:
        self.period_ns = period_ns
        self._begun: deque[int] = deque(maxlen=round(_RECENT_S * 1e9 / period_ns))
        self._late: deque[int] = deque(maxlen=self._begun.maxlen)

    def cycle(self, due_ns: int, begun_ns: int) -> None:
        """One cycle was due and began."""
        self._begun.append(begun_ns)
        self._late.append(begun_ns - due_ns)

    @property
    def last_ns(self) -> int:
        """When the last cycle began; 0 before the first."""
        return self._begun[-1] if self._begun else 0

    def held(self, now_ns: int, for_s: float = 1.0, most_late_s: float = 0.1) -> bool:
        """Whether the rate was held within 5 % for the last ``for_s``, no cycle later than ``most_late_s``."""
        since = now_ns - round(for_s * 1e9)
        recent = [late for begun, late in zip(list(self._begun), list(self._late), strict=False) if begun >= since]
        wanted = for_s * 1e9 / self.period_ns
        return len(recent) >= 0.95 * wanted and max(recent) < most_late_s * 1e9

    def statistics(self) -> dict[str, float]:
        """Rate and jitter of the last ten seconds."""
        begun, late = np.array(list(self._begun), dtype=np.int64), np.array(list(self._late), dtype=np.float64)
        if len(begun) < 3:
            return {}
        return {
            "rate_hz": float(1e9 * (len(begun) - 1) / (begun[-1] - begun[0])),
            "late_p50_ms": float(np.percentile(late, 50)) * 1e-6,
            "late_p99_ms": float(np.percentile(late, 99)) * 1e-6,
            "late_max_ms": float(late.max()) * 1e-6,
        }
