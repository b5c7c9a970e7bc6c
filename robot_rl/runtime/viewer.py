"""How an episode is shown: in a live window, as a rerun recording, as a video."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from robot_rl.errors import ConfigError, valid_choices
from robot_rl.interfaces import Env, Listener
from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.gl_faults import display_answers
from robot_rl.runtime.mujoco_window import MujocoWindow
from robot_rl.runtime.rerun_log import RerunLog
from robot_rl.runtime.video import Rendering, VideoListener, video_of


class Show(StrEnum):
    """``auto`` is the window where there is a display, else rerun where it is installed, else the video."""

    AUTO = "auto"
    WINDOW = "window"
    RERUN = "rerun"
    VIDEO = "video"


@runtime_checkable
class MujocoSimulated(Protocol):
    """A robot or env that lives in MuJoCo."""

    @property
    def physics(self) -> Any:
        """Object with ``model`` (MjModel) and ``data`` (MjData)."""
        ...


@dataclass(frozen=True)
class Viewer:
    """A listener that shows episodes, and what it is; close it at the end."""

    show: Show
    listener: Listener

    @property
    def written(self) -> Sequence[Path]:
        """Files, one per episode so far."""
        return self.listener.written if isinstance(self.listener, RerunLog | VideoListener) else []

    def hint(self) -> str:
        """How to look at what was written; '' for a window."""
        how = "open with: rerun" if self.show is Show.RERUN else str(self.show)
        return "\n".join(f"{how} {path}" for path in self.written)

    def close(self) -> None:
        if isinstance(self.listener, MujocoWindow):
            self.listener.close()


def viewer_of(env: Env, show: str, path: Path) -> Viewer:
    """What shows the episodes of ``env``; ``path`` without suffix is where files go, ``{seed}`` in it is replaced.

    Raises ConfigError where ``show`` is not possible, with what is.
    """
    if show not in list(Show):
        raise ConfigError(f"show={show}", remedy=valid_choices(show, list(Show)))
    wanted = Show(show)
    if wanted is Show.AUTO:
        wanted = _best(env)
    if wanted is Show.WINDOW:
        return Viewer(wanted, _window(env))
    if wanted is Show.RERUN:
        physics, drawn = physics_of(env), _simulator(env)
        render = drawn.render if physics is None and not env.spec.cameras and isinstance(drawn, Rendering) else None
        return Viewer(wanted, RerunLog(f"{path}.rrd", physics, render))
    video = video_of(env, Path(f"{path}.mp4"))
    if video is None:
        raise ConfigError(
            "the env has no camera and cannot draw itself", remedy="Add a camera=... option, or show=rerun"
        )
    return Viewer(wanted, video)


def physics_of(env: Env) -> Any | None:
    """The MuJoCo world behind an env, if there is one."""
    simulator = _simulator(env)
    return simulator.physics if isinstance(simulator, MujocoSimulated) else None


def has_display(environ: Mapping[str, str]) -> bool:
    """Whether a window can be opened."""
    if sys.platform != "linux" or environ.get("WAYLAND_DISPLAY"):
        return True
    display = environ.get("DISPLAY")
    return bool(display) and display_answers(display or "")


def _simulator(env: Env) -> Any:
    return env.robot if isinstance(env, RobotEnv) else env


def _best(env: Env) -> Show:
    if physics_of(env) is not None and has_display(os.environ):
        return Show.WINDOW
    return Show.RERUN if importlib.util.find_spec("rerun") is not None else Show.VIDEO


def _window(env: Env) -> MujocoWindow:
    physics = physics_of(env)
    if physics is None:
        raise ConfigError("no window: the env has no MuJoCo world to show", remedy="show=rerun or show=video")
    if not has_display(os.environ):
        raise ConfigError("no window: there is no display that answers", remedy="show=rerun or show=video")
    return MujocoWindow(physics)
