"""Models of arms and grippers that the robosuite package carries; it is not imported."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

import importlib.util
from pathlib import Path

import mujoco

from robot_rl.errors import ConfigError

GRIPPER = "gripper_"  # prefix of a gripper's names on its arm


def asset_root() -> Path:
    """Folder of robosuite's models, found without importing robosuite. Raises ConfigError naming the extra."""
    found = importlib.util.find_spec("robosuite")
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            "the arm's meshes are missing: robosuite is not installed", remedy="pip install 'robot-rl[sim]'"
        )
    return Path(found.submodule_search_locations[0]) / "models" / "assets"


def robosuite_model(file: str) -> mujoco.MjSpec:
    """A model below the assets, its mesh files named in full. Raises ConfigError when there is none."""
    path = asset_root() / file
    if not path.is_file():
        raise ConfigError(f"robosuite has no {path}", remedy="pip install 'robot-rl[sim]' (robosuite 1.5.1)")
    spec = mujoco.MjSpec.from_string(_without_repeats(path.read_text()))
    spec.compiler.degree = False  # robosuite merges them into a model in rad, not all say so themselves
    for mesh in spec.meshes:
        mesh.file = str(path.parent / mesh.file)
    return spec


def with_gripper(arm: mujoco.MjSpec, hand_body: str, gripper: mujoco.MjSpec) -> mujoco.MjSpec:
    """The arm with a gripper on its hand, whose names get the prefix ``gripper_``."""
    arm.attach(gripper, frame=arm.body(hand_body).add_frame(), prefix=GRIPPER)
    return arm


def _without_repeats(xml: str) -> str:
    """The text without meshes whose name was there before: robotiq_gripper_85.xml names one twice, the second time
    with a file that is not installed, and robosuite's own loader takes the first as well."""
    seen: set[str] = set()
    lines = []
    for line in xml.splitlines():
        name = line.split('name="')[1].split('"')[0] if "<mesh " in line else None
        if name is None or name not in seen:
            lines.append(line)
        seen.add(name or "")
    return "\n".join(lines)
