"""A lab's own arm, scene and task: each one file and one YAML in a folder outside of the package, not registered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robot_rl.apps.main import main
from robot_rl.data.store import EpisodeStore

ARM = '''
import mujoco

from sim.arms.arm import Arm

MODEL = """
<mujoco>
  <compiler angle="radian" autolimits="true"/>
  <worldbody>
    <body name="lower" pos="0 0 0.4">
      <joint name="a" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0.35 0 0" size="0.03" mass="1"/>
      <body name="upper" pos="0.35 0 0">
        <joint name="b" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 0.4 0 0" size="0.03" mass="1"/>
        <body name="palm" pos="0.4 0 0">
          <joint name="c" axis="0 1 0"/>
          <geom type="box" size="0.03 0.05 0.02" pos="0.05 0 0" mass="0.3"/>
          <body name="tip" pos="0.12 0 0"/>
          <body name="finger" pos="0.12 0 0">
            <joint name="grip" type="slide" axis="0 1 0" range="0 0.05" damping="20" armature="0.1"/>
            <geom name="pad" type="box" size="0.012 0.004 0.01" mass="0.05"/>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor joint="a"/> <motor joint="b"/> <motor joint="c"/>
    <position joint="grip" kp="500" ctrlrange="0 0.05"/>
  </actuator>
</mujoco>
"""


def crane(payload_kg: float = 0.0) -> Arm:
    return Arm(
        name="crane", load=lambda: mujoco.MjSpec.from_string(MODEL), joints=("a", "b", "c"), hand_body="palm",
        tcp_body="tip", tcp_quat_wxyz=(0.0, 0.70710678, 0.0, 0.70710678), fingers=("grip",), finger_open=(0.05,),
        finger_closed=(0.0,), pads=("pad",), home_rad=(-0.85, 1.6, 0.82079633),
        joint_lower_rad=(-2.5, 0.1, -2.2), joint_upper_rad=(1.0, 2.9, 2.4), joint_speed_rad_s=(3.0, 3.0, 3.0),
        torque_n_m=(80.0, 60.0, 20.0), box_lower_m=(0.2, -0.001, 0.05), box_upper_m=(0.7, 0.001, 0.6),
        axes=(True, False, True, False, True, False),
    )
'''
SCENE = """
from sim.objects import Part, SceneObject
from sim.scene import Scene


def tower(floors: int) -> Scene:
    parts = [Part("box", (0.02, 0.02, 0.01), (0.0, 0.0, 0.01 + 0.02 * floor)) for floor in range(floors)]
    return Scene([SceneObject("tower", parts=parts, mass_kg=0.5)])
"""
TASK = """
import numpy as np

from robot_rl.types import ArraySpec, Judgement, ResetRequest

TOWER, TCP = "object/tower_pose", "arm0/tcp_pose"
DOWN = (1.0, 0.0, 0.0, 0.0)


class Touch:
    name = "touch"
    requires = frozenset((TOWER, TCP))

    def __init__(self, height_m: float) -> None:
        self.height_m = height_m

    def reset_request(self, seed):
        x = np.random.default_rng(seed).uniform(0.42, 0.55)
        return ResetRequest(simulator_state={TOWER: np.array([x, 0, 0, 0, 0, 0, 1.0])}, seed=seed)

    def judge(self, observation, action, next_observation):
        state = next_observation.state
        gap = state[TCP][:3] - state[TOWER][:3] - [0.0, 0.0, self.height_m + 0.02]
        done = bool(np.linalg.norm(gap) < 0.015)
        return Judgement(float(done), done, done)


class TouchExpert:
    observation = {
        TCP: ArraySpec((7,), unit="m, quat_xyzw", frame="base"),
        TOWER: ArraySpec((7,), unit="m, quat_xyzw", frame="base", privileged=True),
    }

    def __init__(self, height_m: float) -> None:
        self.height_m = height_m

    def set_point(self, state):
        goal = state[TOWER][:3] + [0.0, 0.0, self.height_m + 0.02]
        way = goal - state[TCP][:3]
        step = way * min(1.0, 0.015 / max(np.linalg.norm(way), 1e-9))
        return {"arm0/tcp": np.array([*(state[TCP][:3] + step), *DOWN]), "arm0/gripper": np.zeros(1)}
"""
FILES = {
    "my_arm.py": ARM,
    "my_scene.py": SCENE,
    "my_task.py": TASK,
    "conf/robot/crane.yaml": """
defaults: [sim_panda]
arm:
  _target_: my_arm.crane
  payload_kg: 0.0
box_lower_m: [0.3, -0.001, 0.06]
box_upper_m: [0.65, 0.001, 0.5]
""",
    "conf/scene/tower.yaml": "{_target_: my_scene.tower, floors: 3}",
    "conf/task/touch.yaml": """
# @package _global_
defaults: [/robot: crane, /scene: tower, /action: tcp_position_delta, /controller: operational_space, /camera: none]
task: {_target_: my_task.Touch, height_m: 0.06}
expert: {_target_: my_task.TouchExpert, height_m: 0.06}
env: {_target_: robot_rl.runtime.env.RobotEnv, robot: "${robot}", task: "${task}", action: "${action}", max_steps: 60}
""",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip())
    return tmp_path / "site"


def robot_rl(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The installed command, as a lab runs it."""
    environment = {**os.environ, "ROBOT_RL_SITE": str(site), "ROBOT_RL_ROOT": str(site.parent)}
    command = [sys.executable, "-m", "robot_rl.apps.main", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_an_arm_a_scene_and_a_task_from_a_folder_are_recorded_like_any_other(site: Path) -> None:
    done = robot_rl(site, "record", "task=touch", "episodes=3", "randomization=moderate")
    assert done.returncode == 0, done.stderr
    store = EpisodeStore.open(site.parent / "data" / "touch")
    assert [info.success for info in store.infos()] == [True] * 3
    assert store.spec is not None
    assert store.spec.robot == "sim_crane"
    assert store.spec.observation["arm0/joint_position"].names == ("a", "b", "c")
    arrays = store.read(store.ids()[0]).arrays
    (tower,) = (value for name, value in arrays.items() if name.endswith("object/tower_pose"))
    np.testing.assert_allclose(tower[:, 2], 0.0, atol=2e-3)


def test_options_of_the_package_and_of_the_folder_go_together(site: Path) -> None:
    done = robot_rl(site, "record", "task=touch", "robot=sim_planar", "scene.floors=2", "episodes=1", "name=mixed")
    assert done.returncode == 0, done.stderr
    assert EpisodeStore.open(site.parent / "data" / "mixed").infos()[0].success
    done = robot_rl(site, "record", "task=tuch", "episodes=1")
    assert done.returncode == 2
    assert "Did you mean 'touch'" in done.stderr


def test_a_folder_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROBOT_RL_SITE", str(tmp_path / "nowhere"))
    assert main(["record", "task=lift"]) == 2
    assert "is no folder" in capsys.readouterr().err
