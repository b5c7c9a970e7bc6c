"""Pictures of the tasks for the README: ``python -m sim.picture [task ...] [--folder sim/docs]``, all without names.

Each shows the start of an episode and, where the task has an expert, how it ends.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import robot_rl.conf
from robot_rl.apps.main import compose, instantiate
from robot_rl.errors import ConfigError, RobotRlError
from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.rollout import run_episode
from robot_rl.runtime.video import Rendering
from robot_rl.types import Array
from sim.cameras import Profile, encode_jpeg
from sim.mujoco_robot import MujocoRobot
from sim.overview import CAMERA, Overview

_HEIGHT, _WIDTH, _GAP = 300, 400, 6
_QUALITY = 85
_SEED = 3  # nothing hides what the task is about


def draw(task: str) -> Array:
    """Start and end of an episode of ``task`` side by side, RGB uint8 [300, w, 3].

    Raises ConfigError for a task that does not exist, cannot be built here or cannot draw itself.
    """
    config = compose("record", [f"task={task}"])
    with ExitStack() as stack:
        env = stack.enter_context(closing(instantiate(config.env)))
        picture = _drawing(env, stack)
        env.reset(_SEED)
        panels = [picture()]
        if config.get("expert"):
            run_episode(env, instantiate(config.teleop), seed=_SEED)
            panels.append(picture())
    gap = np.full((_HEIGHT, _GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([part for panel in panels for part in (gap, _fitted(panel))][1:], axis=1)


def tasks() -> list[str]:
    """The options of the group task/."""
    return sorted(path.stem for path in (Path(robot_rl.conf.__file__).parent / "task").glob("*.yaml"))


def _drawing(env: Any, stack: ExitStack) -> Callable[[], Array]:
    """What draws the present of an env: our arms with everything there is to see, others as they do; closed by the
    stack."""
    robot = env.robot if isinstance(env, RobotEnv) else env
    if isinstance(robot, MujocoRobot):
        built = robot.physics.built
        camera = replace(CAMERA, height=_HEIGHT, width=_WIDTH)
        overview = stack.enter_context(closing(Overview(built.scene, built.arm, Profile.FULL, camera)))
        return lambda: overview.draw(robot.physics)
    if isinstance(robot, Rendering):
        return robot.render
    raise ConfigError(f"task '{env.spec.task}' cannot draw itself")


def _fitted(image: Array) -> Array:
    import cv2

    width = round(image.shape[1] * _HEIGHT / image.shape[0])
    return image if image.shape[0] == _HEIGHT else cv2.resize(image, (width, _HEIGHT), interpolation=cv2.INTER_AREA)


def main(words: Sequence[str] | None = None) -> None:
    """Write ``<folder>/<task>.jpg`` of the tasks named, of all that can be drawn here without names."""
    parser = argparse.ArgumentParser(prog="python -m sim.picture", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="task")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "docs")
    given = parser.parse_args(words)
    given.folder.mkdir(parents=True, exist_ok=True)
    for task in given.tasks or tasks():
        try:
            path = given.folder / f"{task}.jpg"
            path.write_bytes(encode_jpeg(draw(task), _QUALITY))
            print(f"{path} {path.stat().st_size / 1e3:.0f} kB")
        except RobotRlError as error:
            if given.tasks:
                raise
            print(f"no picture of {task}: {error}")


if __name__ == "__main__":
    main()
