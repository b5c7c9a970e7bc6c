"""Many Envs in one process as a gymnasium VectorEnv, stepped by threads: physics releases the interpreter's lock.

envs = ThreadedVectorEnv([lambda: instantiate(config.env)] * 8)
observations, infos = envs.reset(seed=0)
observations, rewards, terminations, truncations, infos = envs.step(actions)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from robot_rl.errors import ConfigError, InvalidArrayError, SimulationDivergedError, SpecMismatchError
from robot_rl.interfaces import Env
from robot_rl.runtime.workers import Workers
from robot_rl.types import Array
from sim.gymnasium_view import GymnasiumView

_Infos = dict[str, Any]
_Step = tuple[Any, float, bool, bool, _Infos]


class ThreadedVectorEnv(VectorEnv[dict[str, Array], Array, Array]):
    """Owns the Envs that ``factories`` make, each made, stepped and closed by one and the same of ``threads`` threads
    (one per core unless given). Every env behaves as its ``GymnasiumView`` alone does, bit for bit.

    ``autoreset`` is gymnasium's: ``SameStep`` starts the next episode within the step that ends one and returns its
    first observation; ``final_obs`` and ``final_info`` of ``infos`` keep what the ended one showed last, which a
    bootstrap at a truncation needs. With ``NextStep`` the last observation is returned as any other and the next step
    resets, with ``Disabled`` the caller does, by ``options={"reset_mask": ...}``.

    An env whose physics diverges ends its episode truncated, with ``fault`` in its (final) info and the last finite
    observation; the others go on.
    """

    def __init__(
        self,
        factories: Sequence[Callable[[], Env]],
        threads: int | None = None,
        autoreset: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
    ) -> None:
        """Raises ConfigError without factories, SpecMismatchError for envs of different spaces."""
        if not factories:
            raise ConfigError("a vector of no envs", limit="at least one factory")
        self.num_envs, self._mode = len(factories), AutoresetMode(autoreset)
        self._workers = Workers(threads)
        self._lanes: list[_Lane] = []
        made: dict[int, _Lane] = {}

        one_at_a_time = threading.Lock()  # factories need not bear threads

        def make(index: int) -> None:
            with one_at_a_time:
                made[index] = _Lane(GymnasiumView(factories[index](), render_mode), self._mode)

        try:
            self._workers.run(make, self.num_envs)
        finally:
            self._lanes = [made[index] for index in sorted(made)]
            if len(made) < self.num_envs:
                self.close()
        first = self._lanes[0].view
        self.metadata = {**first.metadata, "autoreset_mode": self._mode}
        self.render_mode = render_mode
        self.single_observation_space, self.single_action_space = first.observation_space, first.action_space
        self.observation_space = batch_space(first.observation_space, self.num_envs)
        self.action_space = batch_space(first.action_space, self.num_envs)
        for index, lane in enumerate(self._lanes):
            spaces = lane.view.observation_space, lane.view.action_space
            if spaces != (first.observation_space, first.action_space):
                self.close()
                raise SpecMismatchError(f"env {index} of the vector has the spaces {spaces}, env 0 other ones")

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], _Infos]:
        """Start an episode in every env, or in those of ``options["reset_mask"]`` [N]: with seeds ``seed``,
        ``seed`` + 1, ..., with the one given for each, or with drawn ones. Raises what an env's reset raises."""
        seeds = [seed + index if isinstance(seed, int) else None for index in range(self.num_envs)]
        if isinstance(seed, Sequence):
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise InvalidArrayError(f"{len(seeds)} seeds", limit=f"{self.num_envs}, one for each env")
        wanted = self._reset_mask(options)
        infos = self._workers.run(
            lambda index: self._lanes[index].reset(seeds[index]) if wanted[index] else {}, self.num_envs
        )
        return self._observations(), self._batched(infos)

    def step(self, actions: Array) -> tuple[dict[str, Array], Array, Array, Array, _Infos]:
        """One control step of every env under ``actions`` [N, A]. Raises what an env's step or reset raises, after the
        others are done."""
        actions = np.asarray(actions, dtype=np.float32)
        if actions.shape != self.action_space.shape:
            raise InvalidArrayError(f"actions have shape {list(actions.shape)}", limit=str(self.action_space.shape))
        steps = self._workers.run(lambda index: self._lanes[index].step(actions[index]), self.num_envs)
        rewards, terminations, truncations, infos = zip(*steps, strict=True)
        return (
            self._observations(), np.array(rewards, dtype=np.float64), np.array(terminations), np.array(truncations),
            self._batched(infos),
        )  # fmt: skip

    def render(self) -> tuple[Array | None, ...]:  # type: ignore[override]
        """An RGB image uint8 [h, w, 3] of each env; None without a render mode."""
        return tuple(self._workers.run(lambda index: self._lanes[index].view.render(), self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Close every env in its thread."""
        try:
            self._workers.run(lambda index: self._lanes[index].view.close(), len(self._lanes))
        finally:
            self._workers.close()

    def _reset_mask(self, options: dict[str, Any] | None) -> Array:
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, dtype=np.bool_)))
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise InvalidArrayError(f"reset_mask is {mask}", limit=f"bool [{self.num_envs}], one of them true")
        return mask

    def _observations(self) -> dict[str, Array]:
        space = self.single_observation_space
        rows = [lane.observation for lane in self._lanes]
        return concatenate(space, rows, create_empty_array(space, self.num_envs))  # type: ignore[return-value]

    def _batched(self, infos: Sequence[_Infos]) -> _Infos:
        batched: _Infos = {}
        for index, info in enumerate(infos):
            batched = self._add_info(batched, info, index)
        return batched


class _Lane:
    """One env of the vector."""

    def __init__(self, view: GymnasiumView, mode: AutoresetMode) -> None:
        self.view, self._mode = view, mode
        self.observation: dict[str, Array] = {}
        self._ended = True

    def reset(self, seed: int | None = None) -> _Infos:
        self.observation, info = self.view.reset(seed=seed)
        self._ended = False
        return info

    def step(self, action: Array) -> tuple[float, bool, bool, _Infos]:
        if self._ended and (self._mode is not AutoresetMode.NEXT_STEP or not self.observation):
            raise gymnasium.error.ResetNeeded("an env of the vector has ended, or was not reset yet")
        if self._ended:
            return 0.0, False, False, self.reset()
        self.observation, reward, terminated, truncated, info = self._advanced(action)
        self._ended = terminated or truncated
        if self._ended and self._mode is AutoresetMode.SAME_STEP:
            final = {"final_obs": self.observation, "final_info": info}
            info = {**self.reset(), **final}
        return reward, terminated, truncated, info

    def _advanced(self, action: Array) -> _Step:
        try:
            return self.view.step(action)
        except SimulationDivergedError as error:
            return self.observation, 0.0, False, True, {"fault": str(error), "is_success": False}
