"""Streams of sensors as they arrive: when a message was measured, what was between two of them, how well they flow.

A sensor's stamp is the monotonic time of its arrival less the age that its header tells: two clocks meet once, at
receipt, and nothing later depends on the wall clock. Streams are filled by one thread and read by any.
"""

from __future__ import annotations

import bisect
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robot_rl.errors import StaleObservationError
from robot_rl.geometry import slerp
from robot_rl.types import Array, Frame

OLDEST_NS, YOUNGEST_NS = 500_000_000, -5_000_000  # ages of headers that are believed
_NEVER = -(2**62)
_WIDEST_NS = 100_000_000  # between two samples that are interpolated
_KEPT = 512
_RECENT = 256  # arrivals that statistics are made of


class Arrivals:
    """Stamps of one stream's messages, which rise, and how they arrive. ``rejected`` counts what was not believed."""

    def __init__(self) -> None:
        self.rejected: Counter[str] = Counter()
        self.count = 0
        self.received_ns = 0  # monotonic, of the newest that was believed
        self.offset_ns = 0  # age of the newest header, believed or not
        self._header_ns, self._newest_ns = _NEVER, _NEVER  # of the newest: its header, its stamp
        self._stamps: deque[int] = deque(maxlen=_RECENT)
        self._ages: deque[int] = deque(maxlen=_RECENT)

    def stamp(self, header_ns: int, now_ns: int, received_ns: int) -> int | None:
        """Monotonic time [ns] of a message whose header says ``header_ns``, read when its clock said ``now_ns`` and the
        monotonic one ``received_ns``; None (and counted) for one too old, from the future, or not newer than the last.
        """
        age = self.offset_ns = now_ns - header_ns
        if not YOUNGEST_NS <= age <= OLDEST_NS:
            self.rejected["age"] += 1
            return None
        stamp = received_ns - age
        if header_ns == self._header_ns or stamp <= self._newest_ns:  # clocks may be set back, this one is not
            self.rejected["order"] += 1
            return None
        self._header_ns, self._newest_ns, self.received_ns = header_ns, stamp, received_ns
        self.count += 1
        self._stamps.append(stamp)
        self._ages.append(age)
        return stamp

    def restart(self) -> None:
        """The source began anew, its stamps with it."""
        self._header_ns, self._newest_ns = _NEVER, _NEVER

    def age_s(self, now_ns: int) -> float:
        """Since the newest message was received; inf before the first."""
        return (now_ns - self.received_ns) * 1e-9 if self.count else float("inf")

    def statistics(self) -> dict[str, float]:
        """Rate, the 99th percentiles of jitter and transport, and what was rejected."""
        stamps, ages = np.array(self._stamps, dtype=np.int64), np.array(self._ages)
        told: dict[str, float] = {"received": self.count, **{f"rejected_{k}": v for k, v in self.rejected.items()}}
        if len(stamps) > 2:
            steps = np.diff(stamps) * 1e-9
            told |= {
                "rate_hz": 1.0 / max(float(steps.mean()), 1e-9),
                "jitter_p99_ms": 1e3 * float(np.percentile(np.abs(steps - np.median(steps)), 99)),
                "transport_p50_ms": 1e-6 * float(np.percentile(ages, 50)),
                "transport_p99_ms": 1e-6 * float(np.percentile(ages, 99)),
                "gaps": float((steps > 1.5 * np.median(steps)).sum()),
            }
        return told


@dataclass(frozen=True)
class Sample:
    """A value at a time that was asked for, and how far the measurements it is made of are from there."""

    value: Array
    skew_ns: int


class Samples:
    """Vectors [k] by rising stamp. ``poses`` (x y z qx qy qz qw) are interpolated on the sphere; ``kept`` None keeps
    all."""

    def __init__(self, poses: bool = False, kept: int | None = _KEPT) -> None:
        self._poses, self._kept = poses, kept
        self._stamps: list[int] = []
        self._values: list[Array] = []
        self._lock = threading.Lock()

    def append(self, stamp_ns: int, value: Sequence[float] | Array) -> None:
        """Add the newest; an older one is put in its place."""
        vector = np.array(value, dtype=np.float64)
        with self._lock:
            if self._stamps and stamp_ns <= self._stamps[-1]:
                place = bisect.bisect_left(self._stamps, stamp_ns)
                self._stamps.insert(place, stamp_ns)
                self._values.insert(place, vector)
            else:
                self._stamps.append(stamp_ns)
                self._values.append(vector)
            if self._kept is not None and len(self._stamps) >= 2 * self._kept:
                del self._stamps[: -self._kept], self._values[: -self._kept]

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._stamps.clear()
            self._values.clear()

    def newest(self) -> tuple[int, Array] | None:
        """Stamp and value of the newest; None before the first."""
        with self._lock:
            return (self._stamps[-1], self._values[-1]) if self._stamps else None

    def at(self, stamp_ns: int) -> Sample | None:
        """The value at ``stamp_ns``: between its neighbours; the nearest where there is no neighbour on one side, or
        where they are too far apart. None without any."""
        with self._lock:
            if not self._stamps:
                return None
            place = bisect.bisect_left(self._stamps, stamp_ns)
            if place == len(self._stamps):
                return Sample(self._values[-1], stamp_ns - self._stamps[-1])
            after, value = self._stamps[place], self._values[place]
            if place == 0 or after == stamp_ns:
                return Sample(value, stamp_ns - after)
            before, start = self._stamps[place - 1], self._values[place - 1]
        if after - before > _WIDEST_NS:
            late = stamp_ns - before < after - stamp_ns
            return Sample(start, stamp_ns - before) if late else Sample(value, stamp_ns - after)
        share = (stamp_ns - before) / (after - before)
        between = start + share * (value - start)
        if self._poses:
            between[3:] = slerp(start[3:], value[3:], share)
        return Sample(between, 0)


class Frames:
    """Camera frames by rising stamp, ``kept`` of them (None: all)."""

    def __init__(self, rate_hz: float, kept: int | None = 32) -> None:
        self.rate_hz = rate_hz
        self._frames: deque[Frame] = deque(maxlen=kept)
        self._lock = threading.Lock()

    def append(self, frame: Frame) -> None:
        """Add the newest."""
        with self._lock:
            self._frames.append(frame)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._frames.clear()

    def newest(self) -> Frame | None:
        """The newest; None before the first."""
        with self._lock:
            return self._frames[-1] if self._frames else None

    def nearest(self, stamp_ns: int) -> Frame | None:
        """The frame nearest to ``stamp_ns``; None before the first."""
        with self._lock:
            return min(self._frames, key=lambda frame: abs(frame.stamp_ns - stamp_ns), default=None)

    def all(self) -> list[Frame]:
        """All that are kept."""
        with self._lock:
            return list(self._frames)


def silent(what: str, age_s: float, limit_s: float) -> StaleObservationError:
    """The error of a stream that was last heard ``age_s`` ago."""
    heard = "has not been heard yet" if age_s == float("inf") else f"is silent for {age_s:.2f} s"
    return StaleObservationError(
        f"stream '{what}' {heard}", limit=f"{limit_s} s", remedy="Is its publisher running? robot-rl doctor ros"
    )
