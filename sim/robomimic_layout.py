"""robosuite's observations as the files of robomimic hold them, so that policies trained on those can be run.

Files recorded with robosuite up to 1.4 (the first releases) and since 1.5 tell of objects in different orders and with
different signs; there is a layout for each. Everything is in robosuite's world frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from robot_rl.data.formats.columns import select
from robot_rl.data.formats.robosuite_names import array_spec, observation_names
from robot_rl.errors import ConfigError
from robot_rl.geometry import pose_inverse, pose_multiply
from robot_rl.types import Array, ArraySpec

LAYOUTS = {"robomimic": "1.4", "robomimic_1_5": "1.5"}  # -> version of robosuite
_OBJECTS = {"Lift": "cube", "PickPlaceCan": "Can", "NutAssemblySquare": "SquareNut"}


class RobomimicLayout:
    """Observations of ``env``, an environment ``env_name`` of robosuite with one arm.

    Raises ConfigError for an environment whose old order of values is not known here.
    """

    def __init__(self, env: Any, env_name: str, layout: str) -> None:
        self._env, self._version = env, LAYOUTS[layout]
        self._object = None if layout == "robomimic_1_5" else _OBJECTS.get(env_name)
        if layout == "robomimic" and self._object is None:
            known = ", ".join(_OBJECTS)
            remedy = "Choose layout=named or robomimic_1_5"
            raise ConfigError(f"what robosuite 1.4 told of '{env_name}' is not known", limit=known, remedy=remedy)

    def observe(self, seen: Mapping[str, Any]) -> dict[str, Array]:
        """Our names -> vectors, from robosuite's ``seen`` of the present."""
        columns = {key: np.asarray(value) for key, value in seen.items() if key.startswith("robot0_")}
        columns = {key: value for key, value in columns.items() if value.ndim == 1 and not key.endswith("-state")}
        body = self._env.robots[0].robot_model.eef_name["right"]
        columns["robot0_eef_vel_lin"] = np.array(self._env.sim.data.get_body_xvelp(body))
        columns["robot0_eef_vel_ang"] = np.array(self._env.sim.data.get_body_xvelr(body))
        columns["object"] = self._object_state(seen)
        rows = {key: value[None] for key, value in columns.items()}
        names = observation_names({key: value.shape for key, value in columns.items()})
        return {name: select(expression, rows)[0] for name, expression in names.items()}

    def specs(self, seen: Mapping[str, Any]) -> dict[str, ArraySpec]:
        """The spec of each observation."""
        return {name: array_spec(name, len(value), self._version) for name, value in self.observe(seen).items()}

    def _object_state(self, seen: Mapping[str, Any]) -> Array:
        """1.4: Lift has position, quaternion, way from cube to gripper, others pose in the world, pose in the hand."""
        if self._object is None:
            return np.asarray(seen["object-state"])
        pose = np.concatenate((seen[f"{self._object}_pos"], seen[f"{self._object}_quat"]))
        if self._object == "cube":
            return np.concatenate((pose, seen["robot0_eef_pos"] - pose[:3]))
        hand = np.concatenate((seen["robot0_eef_pos"], seen["robot0_eef_quat"]))
        in_hand = pose_multiply(pose_inverse(hand), pose)
        in_hand[3:] *= 1.0 if in_hand[6] >= 0 else -1.0  # robosuite's quaternions have w >= 0
        return np.concatenate((pose, in_hand))
