"""gymnasium's spaces as the vectors, cameras and limits of the Env contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from robot_rl.errors import ConfigError
from robot_rl.types import ActionKind, ActionPart, Array, ArraySpec, CameraSpec

_VECTORS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class ActionVector:
    """An action as one vector: of a Box its numbers; of a Discrete a score in 0 to 1 for each choice, the highest of
    which is taken (the first, where they are equal), of a MultiDiscrete those of all its choices in turn; of a
    MultiBinary a number each, on above 0.5. Raises ConfigError for any other space and for one without limits."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        if not isinstance(space, _VECTORS) or (
            isinstance(space, spaces.Box) and not np.issubdtype(space.dtype, np.floating)
        ):
            raise ConfigError(
                f"the action is {space}",
                limit="a Box of floating-point numbers, Discrete, MultiDiscrete or MultiBinary",
                remedy="Map it to one with gymnasium.wrappers.TransformAction in env.wrappers",
            )
        if isinstance(space, spaces.Box) and not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise ConfigError(
                f"the action has no limits: {space}",
                limit="finite bounds",
                remedy="Bound it with gymnasium.wrappers.RescaleAction or TransformAction in env.wrappers",
            )
        self._space = space

    def part(self, name: str) -> ActionPart:
        """Its raw part of an ActionSpec."""
        flat: Any = spaces.flatten_space(self._space)
        low, high = (tuple(np.asarray(limit, dtype=float).reshape(-1).tolist()) for limit in (flat.low, flat.high))
        return ActionPart(name, ActionKind.RAW, low, high)

    def action(self, vector: Array) -> Any:
        """What the environment takes, from the vector [A]."""
        space = self._space
        if isinstance(space, spaces.Box):
            return np.clip(vector.reshape(space.shape).astype(space.dtype), space.low, space.high)
        if isinstance(space, spaces.Discrete):
            return space.start + np.argmax(vector)
        if isinstance(space, spaces.MultiDiscrete):
            choices = np.split(vector, np.cumsum(space.nvec.reshape(-1))[:-1])
            chosen = np.array([np.argmax(scores) for scores in choices], dtype=space.dtype)
            return chosen.reshape(space.shape) + space.start
        return (vector > 0.5).astype(space.dtype).reshape(space.shape)


def leaves(space: spaces.Space[Any], path: str = "") -> Iterator[tuple[str, spaces.Space[Any]]]:
    """The parts of an observation, those of Dicts and Tuples by their names or numbers joined by ``/``. Raises
    ConfigError for those that no vector holds."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        children = space.items() if isinstance(space, spaces.Dict) else enumerate(space)
        for key, child in children:
            yield from leaves(child, _joined(path, key))
    elif isinstance(space, _VECTORS):
        yield path, space
    else:
        raise ConfigError(
            f"observation '{path or 'state'}' is a {type(space).__name__}",
            limit="Box, Discrete, MultiDiscrete, MultiBinary, or Dicts and Tuples of them",
            remedy="Turn it into one with gymnasium.wrappers.TransformObservation in env.wrappers",
        )


def values(observation: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The parts of an observation of such a space, by the same names."""
    if isinstance(observation, Mapping | tuple):
        children = observation.items() if isinstance(observation, Mapping) else enumerate(observation)
        for key, child in children:
            yield from values(child, _joined(path, key))
    else:
        yield path, observation


def is_image(space: spaces.Space[Any]) -> bool:
    """Whether a part is seen as a camera: bytes [h, w, 1 or 3]."""
    return space.dtype == np.uint8 and space.shape is not None and len(space.shape) == 3 and space.shape[2] in (1, 3)


def camera(space: spaces.Space[Any], rate_hz: float) -> CameraSpec:
    """The spec of an image."""
    assert space.shape is not None
    height, width, channels = space.shape
    return CameraSpec(height, width, rate_hz, channels)


def vector(name: str, space: spaces.Space[Any]) -> ArraySpec:
    """The spec of any other part; choices are one-hot. Raises ConfigError for an empty one."""
    size = spaces.flatdim(space)
    if not size:
        raise ConfigError(f"observation '{name}' of shape {space.shape} is empty")
    return ArraySpec((size,))


def _joined(path: str, key: object) -> str:
    return f"{path}/{key}" if path else str(key)
