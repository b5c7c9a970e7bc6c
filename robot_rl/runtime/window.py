"""What a policy sees: the last T_o observations, padded by repetition, decoded frames among them."""

from __future__ import annotations

from collections import deque

import numpy as np

from robot_rl.errors import SpecMismatchError, StaleObservationError, valid_choices
from robot_rl.runtime.frame_codec import decode, scaled
from robot_rl.types import Array, EnvSpec, Observation, PolicySpec

_IMAGES = "images/"


class ObservationWindow:
    """The last T_o observations of one episode, as the arrays {name: [1, T_o, ...]} that ``policy`` reads.

    Frames are decoded when a window is asked for, once each, and scaled to the size the policy declares.
    """

    def __init__(self, policy: PolicySpec) -> None:
        self._spec = policy
        self._observations: deque[Observation] = deque(maxlen=policy.history)
        self._images: dict[tuple[str, int], Array] = {}

    def reset(self) -> None:
        """Forget the episode."""
        self._observations.clear()
        self._images.clear()

    def push(self, observation: Observation) -> None:
        """Add the newest observation; the first of an episode fills the whole window."""
        if not self._observations:
            self._observations.extend([observation] * self._spec.history)
        else:
            self._observations.append(observation)

    def arrays(self) -> dict[str, Array]:
        """{name: [1, T_o, ...]}, float32 states and uint8 images. Raises StaleObservationError for a lost camera."""
        seen = {
            name: np.array([self._value(name, row) for row in self._observations])[None]
            for name in self._spec.observation
        }
        if self._images:
            live = {(name, frame.sequence) for row in self._observations for name, frame in row.frames.items()}
            self._images = {key: image for key, image in self._images.items() if key in live}
        return seen

    def _value(self, name: str, observation: Observation) -> Array:
        if not name.startswith(_IMAGES):
            return observation.state[name]
        camera = name.removeprefix(_IMAGES)
        frame = observation.frames.get(camera)
        if frame is None:
            raise StaleObservationError(
                f"camera '{camera}' gave no frame for step {observation.step}", remedy="Check the camera"
            )
        key = (camera, frame.sequence)
        if key not in self._images:
            self._images[key] = scaled(decode(frame), self._spec.observation[name].shape)
        return self._images[key]


def check_inputs(policy: PolicySpec, env: EnvSpec) -> None:
    """Raise SpecMismatchError unless ``env`` measures all that ``policy`` reads and takes the actions it makes."""
    cameras = {f"{_IMAGES}{name}" for name in env.cameras}
    for name, wanted in policy.observation.items():
        if name in cameras:
            continue
        if name not in env.observation:
            choices = {*env.observation, *cameras}
            raise SpecMismatchError(f"the policy reads '{name}'", remedy=valid_choices(name, choices))
        found = env.observation[name]
        if found.shape != wanted.shape:
            raise SpecMismatchError(f"the policy reads '{name}' as {list(wanted.shape)}", limit=str(list(found.shape)))
        if found.privileged and not env.simulated:
            raise SpecMismatchError(f"the policy reads '{name}', which only a simulator knows")
    if policy.action != env.action:
        raise SpecMismatchError(
            f"the policy makes actions {[part.name for part in policy.action.parts]} "
            f"({[part.kind.value for part in policy.action.parts]})",
            limit=f"{[(part.name, part.kind.value) for part in env.action.parts]} of the env",
            remedy="Use the action option that the policy was trained with",
        )
