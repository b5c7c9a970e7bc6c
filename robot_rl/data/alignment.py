"""One observation of many streams: all of it as it was at one time, and how far each part is from that.

The anchor is a frame of the reference camera. Frames of other cameras are the nearest, within half of their period;
what can be interpolated is interpolated there (as in UMI, Chi et al. 2024). The same code aligns live and recorded
streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from robot_rl.data.streams import Frames, Samples
from robot_rl.errors import ConfigError, StaleObservationError, valid_choices
from robot_rl.types import Array, Frame

_HALF = 0.55  # of a period, jitter included


@dataclass(frozen=True)
class Aligned:
    """What was measured at ``stamp_ns``; ``skew_ns`` by stream is how far its measurement is from there."""

    stamp_ns: int
    values: Mapping[str, Array]  # float64, as the streams hold them
    frames: Mapping[str, Frame]
    skew_ns: Mapping[str, int]

    @property
    def largest_skew_ns(self) -> int:
        return max(map(abs, self.skew_ns.values()), default=0)


class Alignment:
    """Aligns ``samples`` and ``cameras``; ``reference`` is the camera whose frames are anchors (the first unless
    given). Without cameras the newest of the samples named first is the anchor."""

    def __init__(self, samples: Mapping[str, Samples], cameras: Mapping[str, Frames], reference: str = "") -> None:
        if not samples or (reference and reference not in cameras):
            raise ConfigError(f"no reference camera '{reference}'", remedy=valid_choices(reference, cameras))
        self.samples, self.cameras = samples, cameras
        self.reference = reference or next(iter(cameras), "")
        self._first = next(iter(samples))

    def newest(self) -> int | None:
        """Stamp [ns] of the newest anchor; None before the first."""
        if self.reference:
            frame = self.cameras[self.reference].newest()
            return None if frame is None else frame.stamp_ns
        sample = self.samples[self._first].newest()
        return None if sample is None else sample[0]

    def anchors(self, after_ns: int) -> list[int]:
        """Stamps [ns] of the anchors later than ``after_ns``, the newest first."""
        if not self.reference:
            newest = self.newest()
            return [] if newest is None or newest <= after_ns else [newest]
        stamps = [frame.stamp_ns for frame in self.cameras[self.reference].all()]
        return sorted((stamp for stamp in stamps if stamp > after_ns), reverse=True)

    def at(self, stamp_ns: int, *, strict: bool = True) -> Aligned:
        """All streams at ``stamp_ns``. Raises StaleObservationError that names the streams which have nothing near
        (only those which have nothing at all, unless ``strict``)."""
        values, frames, skew, missing = {}, {}, {}, []
        for name, stream in self.samples.items():
            sample = stream.at(stamp_ns)
            if sample is None:
                missing.append(name)
                continue
            values[name], skew[name] = sample.value, sample.skew_ns
        for name, camera in self.cameras.items():
            frame = camera.nearest(stamp_ns)
            if frame is None:
                missing.append(name)
                continue
            frames[name], skew[name] = frame, frame.stamp_ns - stamp_ns
            if strict and abs(skew[name]) * camera.rate_hz > _HALF * 1e9:
                missing.append(f"{name} ({1e-6 * skew[name]:+.0f} ms)")
        if missing:
            raise StaleObservationError(
                f"nothing was measured near {stamp_ns * 1e-9:.3f} s by {', '.join(missing)}",
                limit="half a frame",
                remedy="Are all streams alive, and at the rates of the arm's description?",
            )
        return Aligned(stamp_ns, values, frames, skew)
