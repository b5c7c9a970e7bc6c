"""Episodes as rerun recordings (.rrd): the scene in 3D, what the cameras saw, actions, rewards, states.

Everything lies on the timelines ``time`` (since the reset) and ``step``. Needs the extra ``viz``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.runtime.frame_codec import decode
from robot_rl.runtime.rerun_geometry import BodyGeometry
from robot_rl.types import DEPTH_CODEC, Array, Decision, EnvSpec, EpisodeEnd, Frame, Observation, StepRow

_WORLD = "world"
_PATH_RGB = (230, 120, 20)


class RerunLog:
    """Listener that writes one recording per episode; ``{seed}`` in the path is replaced.

    ``physics`` (with MuJoCo's ``model`` and ``data``) gives the 3D scene, ``render`` a picture per step. Raises
    ConfigError when rerun is not installed.
    """

    def __init__(self, path: Path | str, physics: Any = None, render: Callable[[], Array] | None = None) -> None:
        try:
            import rerun
        except ImportError as error:
            raise ConfigError("rerun is not installed", remedy="pip install 'robot-rl[viz]', or show=video") from error
        self._rerun, self._path, self._physics, self._render = rerun, Path(path), physics, render
        self._geometry = None if physics is None else BodyGeometry(physics.model, _WORLD)
        self._spec: EnvSpec | None = None
        self._recording: Any = None
        self._start_ns = 0
        self._way: dict[str, list[Array]] = {}  # of every TCP, so far
        self.written: list[Path] = []

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None:
        """Open the file of this episode and lay out how it is shown."""
        rr, path = self._rerun, Path(str(self._path).replace("{seed}", str(seed)))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._spec, self._start_ns, self._way = spec, observation.stamp_ns, {}
        self._recording = rr.RecordingStream("robot_rl", recording_id=f"{spec.task or 'task'}-seed{seed}")
        self._recording.save(path, default_blueprint=self._layout(spec))
        for clock in (self._recording.set_log_time_enabled, self._recording.set_log_tick_enabled):
            clock(False)
        self.written.append(path)
        self._log_names(spec)
        if self._geometry is not None:
            self._geometry.log_shapes(self._recording)
        self._set_time(observation)
        self._log_world()

    def on_decision(self, decision: Decision) -> None:
        self._recording.log("policy/latency_ms", self._rerun.Scalars([1e3 * decision.latency_s]))

    def on_step(self, row: StepRow) -> None:
        """The observation and what was done then, and the world that it led to."""
        rr, log, spec = self._rerun, self._recording.log, self._open()
        self._set_time(row.observation)
        self._log_observation(row.observation)
        for name, part in spec.action.slices.items():
            log(f"action/{name}", rr.Scalars(row.action.commanded[part].astype(np.float64)))
        log("reward", rr.Scalars([row.reward]))
        log("source", rr.TextLog(row.action.source.name.lower()))
        self._recording.set_time("step", sequence=row.observation.step + 1)
        elapsed_ns = row.observation.stamp_ns - self._start_ns + spec.step_period_ns
        self._recording.set_time("time", duration=timedelta(microseconds=elapsed_ns / 1e3))
        self._log_world()

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None:
        """The last observation and how it ended; closes the file."""
        self._set_time(final.observation)
        self._log_observation(final.observation)
        self._recording.log("source", self._rerun.TextLog(f"end: {end.reason}"))
        self._recording.flush()
        self._recording.disconnect()
        self._recording = None

    def _open(self) -> EnvSpec:
        assert self._spec is not None, "on_reset comes first"
        return self._spec

    def _set_time(self, observation: Observation) -> None:
        self._recording.set_time("step", sequence=observation.step)
        elapsed = timedelta(microseconds=(observation.stamp_ns - self._start_ns) / 1e3)
        self._recording.set_time("time", duration=elapsed)

    def _log_world(self) -> None:
        if self._geometry is not None:
            self._geometry.log_poses(self._recording, self._physics.data)
        if self._render is not None:
            image = self._rerun.Image(np.ascontiguousarray(self._render()))
            self._recording.log("cameras/picture", image.compress(jpeg_quality=85))

    def _log_observation(self, observation: Observation) -> None:
        rr, log = self._rerun, self._recording.log
        for name, frame in observation.frames.items():
            log(f"cameras/{name}", _image(rr, frame))
        for name, value in observation.state.items():
            log(f"state/{name}", rr.Scalars(value.reshape(-1).astype(np.float64)))
            if name.endswith("/tcp_pose"):
                way = self._way.setdefault(name, [])
                way.append(value[:3])
                log(f"{_WORLD}/{name}", rr.Points3D([value[:3]], radii=0.006, colors=[_PATH_RGB]))
                log(f"{_WORLD}/{name}/path", rr.LineStrips3D([np.array(way)], radii=0.002, colors=[_PATH_RGB]))

    def _log_names(self, spec: EnvSpec) -> None:
        """What the lines of the plots are called."""
        rr, log = self._rerun, self._recording.log
        for part in spec.action.parts:
            names = [f"{part.name}[{i}] {part.unit}" for i in range(part.size)]
            log(f"action/{part.name}", rr.SeriesLines(names=names), static=True)
        for name, array in spec.observation.items():
            size = int(np.prod(array.shape))
            names = array.names if len(array.names) == size else [f"{name}[{i}] {array.unit}" for i in range(size)]
            log(f"state/{name}", rr.SeriesLines(names=list(names)), static=True)

    def _layout(self, spec: EnvSpec) -> Any:
        import rerun.blueprint as rrb

        pictures = [*spec.cameras, *(["picture"] if self._render is not None else [])]
        views = [rrb.Spatial2DView(origin=f"cameras/{name}", name=name) for name in pictures]
        plots = [rrb.TimeSeriesView(origin=name, name=name) for name in ("action", "reward", "state")]
        scene = [rrb.Spatial3DView(origin=_WORLD, name="scene")] if self._geometry or not views else []
        left = rrb.Vertical(*scene, *([rrb.Horizontal(*views)] if views else []))
        return rrb.Blueprint(rrb.Horizontal(left, rrb.Vertical(*plots), column_shares=[2, 1]))


def _image(rr: Any, frame: Frame) -> Any:
    """A camera's frame as it came, where rerun can show it."""
    if frame.codec == DEPTH_CODEC:
        return rr.DepthImage(decode(frame)[..., 0], meter=1000.0)
    if frame.codec == "raw":
        return rr.Image(decode(frame)).compress(jpeg_quality=95)
    return rr.EncodedImage(contents=frame.data, media_type=f"image/{frame.codec}")
