"""Names of robosuite's observations, which robomimic files carry, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from robot_rl.data.formats.columns import flat_name, names_in
from robot_rl.types import Array, ArraySpec, EnvSpec

# ours (of arm i) -> expression over robosuite's keys (of robot i), unit
_ROBOSUITE = {
    "arm{}/joint_position": ("robot{}_joint_pos", "rad"),
    "arm{}/joint_velocity": ("robot{}_joint_vel", "rad/s"),
    "arm{}/tcp_pose": ("robot{}_eef_pos + robot{}_eef_quat", "m, quat_xyzw"),
    "arm{}/finger_position": ("robot{}_gripper_qpos", "m"),
    "arm{}/finger_velocity": ("robot{}_gripper_qvel", "m/s"),
    "object/state": ("object", ""),
}

_TASKS = {"PickPlaceCan": "robosuite_can", "NutAssemblySquare": "robosuite_square"}  # as robomimic calls them


def task_of(env_name: str) -> str:
    """Our name of a robosuite environment, which is that of the task option that runs it."""
    return _TASKS.get(env_name, f"robosuite_{env_name.lower()}")


def robot_of(robots: str | Sequence[str]) -> str:
    """Our name of a robosuite environment's arms."""
    return "robosuite_" + "+".join([robots] if isinstance(robots, str) else robots).lower()


def observation_names(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Our name -> expression over the file's low-dimensional keys; keys that nothing matches keep their name."""
    keys = [key for key, shape in shapes.items() if len(shape) <= 1]
    names, used = {}, set()
    for arm in range(4):
        for name, (expression, _) in _ROBOSUITE.items():
            wanted = expression.replace("{}", str(arm))
            if used.isdisjoint(names_in(wanted)) and set(names_in(wanted)) <= set(keys):
                names[name.replace("{}", str(arm))] = wanted
                used |= set(names_in(wanted))
    return names | {key: key for key in keys if key not in used}


def foreign_columns(spec: EnvSpec, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The file's keys [N, ...] from our arrays: robosuite's names where there are any, else ours made flat."""
    columns = {}
    for name in spec.observation:
        value = arrays[f"obs/{name}"]
        keys = names_in(expression_for(name))
        parts = [value] if len(keys) == 1 else [value[:, :3], value[:, 3:]]
        columns |= dict(zip(keys, parts, strict=True))
    return columns


def expression_for(name: str) -> str:
    """What to select from the file for our observation ``name``."""
    known = _ROBOSUITE.get(_any_arm(name))
    return known[0].replace("{}", name[3:4]) if known else flat_name(name)


def unit_of(name: str) -> str:
    """Unit of one of our observations, where robosuite's convention fixes it."""
    return _ROBOSUITE.get(_any_arm(name), ("", ""))[1]


def array_spec(name: str, width: int, version: str = "") -> ArraySpec:
    """The spec of one of our observations as robomimic's files hold it: everything in robosuite's world frame.

    ``version`` is that of the robosuite that recorded it: since 1.5 it tells of objects in another order and with other
    signs, which must not be taken for the same.
    """
    other = name == "object/state" and _since_1_5(version)
    frame = "world, robosuite 1.5" if other else "world"
    return ArraySpec((width,), unit=unit_of(name), frame=frame, privileged=name.startswith("object"))


def _since_1_5(version: str) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= (1, 5)


def width_of(expression: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Columns that ``expression`` selects."""
    return sum(int(np.prod(shapes[key])) for key in names_in(expression))


def _any_arm(name: str) -> str:
    return re.sub(r"^arm\d/", "arm{}/", name)
