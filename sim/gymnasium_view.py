"""Our Env as a gymnasium.Env, for learning libraries that expect one."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from robot_rl.errors import ConfigError, valid_choices
from robot_rl.interfaces import Env
from robot_rl.runtime.frame_codec import decode
from robot_rl.types import DEPTH_CODEC, Array, CameraSpec, EnvSpec, Observation, StepResult

RENDER_MODES = ["rgb_array"]
IMAGES = "images/"  # prefix of cameras in the observation, as in a policy's window


class GymnasiumView(gymnasium.Env[dict[str, Array], Array]):
    """Owns ``env``. Observation: {name: float32 [k]} and {images/<camera>: uint8 [h, w, c], of depth uint16 mm}.

    The action is the policy's, float32 [A] in physical units within the limits of the spec.
    The seed of a reset is the env's reset seed; without one it is drawn from the generator that the last seed started.
    Measured values have no limits, so their Boxes are unbounded; RescaleAction gives a learner actions in [-1, 1].
    ``info`` tells ``is_success``, the action ``commanded`` and ``executed``, and what the env itself tells.
    """

    def __init__(self, env: Env, render_mode: str | None = None) -> None:
        """Raises ConfigError for a mode other than ``rgb_array``, and for an env that cannot draw itself."""
        self._env, self.render_mode = env, render_mode
        self.metadata = {"render_modes": RENDER_MODES, "render_fps": env.spec.step_rate_hz}
        self.observation_space: spaces.Space[Any] = _observation_space(env.spec)
        self.action_space = spaces.Box(env.spec.action.low, env.spec.action.high, dtype=np.float32)
        self._draw = getattr(getattr(env, "robot", env), "render", None)
        if render_mode is not None and (render_mode not in RENDER_MODES or self._draw is None):
            env.close()
            offered = RENDER_MODES if self._draw is not None else ()
            raise ConfigError(f"no render mode '{render_mode}'", remedy=valid_choices(render_mode, offered))
        self._observation: Observation | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Start the episode of ``seed``. ``options`` knows no keys. Raises what the env's reset raises."""
        super().reset(seed=seed)
        wanted = seed if seed is not None else int(self.np_random.integers(2**31))
        self._observation = self._env.reset(wanted)
        return _arrays(self._observation), {"seed": wanted}

    def step(self, action: Array) -> tuple[dict[str, Array], float, bool, bool, dict[str, Any]]:
        """One control step under a plan of one step. Raises what the env's step raises."""
        if self._observation is None:
            raise gymnasium.error.ResetNeeded("reset comes before the first step")
        result = self._env.step(self._env.anchor(np.asarray(action)[None], self._observation))
        self._observation = result.observation
        return _arrays(result.observation), result.reward, result.terminated, result.truncated, _info(result)

    def render(self) -> Array | None:  # type: ignore[override]
        """RGB uint8 [h, w, 3] of the present; None without a render mode."""
        return None if self.render_mode is None or self._draw is None else self._draw()

    def close(self) -> None:
        """Close the env; idempotent."""
        self._env.close()


def _observation_space(spec: EnvSpec) -> spaces.Dict:
    vectors = {
        name: spaces.Box(-np.inf, np.inf, array.shape, dtype=np.dtype(array.dtype).type)
        for name, array in spec.observation.items()
    }
    images = {f"{IMAGES}{name}": _image_space(camera) for name, camera in spec.cameras.items()}
    return spaces.Dict({**vectors, **images})


def _image_space(camera: CameraSpec) -> spaces.Box:
    pixel = np.uint16 if camera.codec == DEPTH_CODEC else np.uint8
    return spaces.Box(0, np.iinfo(pixel).max, (camera.height, camera.width, camera.channels), dtype=pixel)


def _arrays(observation: Observation) -> dict[str, Array]:
    """Copies: what a learner does with them must not reach the env's own."""
    images = {f"{IMAGES}{name}": np.array(decode(frame)) for name, frame in observation.frames.items()}
    return {**{name: np.array(value) for name, value in observation.state.items()}, **images}


def _info(result: StepResult) -> dict[str, Any]:
    action = result.action
    told = {"is_success": result.success, "commanded": action.commanded.copy(), "executed": action.executed.copy()}
    return {**result.info, **told}
