import importlib.util
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from robot_rl.errors import ConfigError
from sim.arms.arm import Arm
from sim.arms.panda import panda
from sim.arms.planar import planar
from sim.arms.ur5e import ur5e
from sim.cameras import Profile, SceneCamera
from sim.objects import SceneObject
from sim.scene import TCP_SITE, Scene, arm_chain, build_scene, chain_table
from tests.controllers.panda import ROWS, TCP_POSE, panda_chain

CUBE = SceneObject("cube", "box", (0.02, 0.02, 0.02), position_m=(0.5, 0.0, 0.02))
MARKER = SceneObject("goal", "sphere", (0.01,), position_m=(0.5, 0.0, 0.2), marker=True)
SCENE = Scene([CUBE, MARKER])
PANDA = panda()
ARMS = [panda(), ur5e(), planar()]


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_kinematics_agrees_with_the_simulator(arm: Arm):
    built = build_scene(SCENE, arm)
    model, data, chain = built.model, mujoco.MjData(built.model), arm_chain(built)
    site, rng = model.site(TCP_SITE).id, np.random.default_rng(0)
    jacobian = np.zeros((6, model.nv))
    for _ in range(20):
        q = rng.uniform(chain.lower, chain.upper)
        data.qpos[: built.dof] = q
        mujoco.mj_forward(model, data)
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
        np.testing.assert_allclose(chain.pose(q)[:3], data.site_xpos[site], atol=1e-12)
        np.testing.assert_allclose(chain.jacobian(q), jacobian[:, : built.dof], atol=1e-12)


def test_the_frozen_table_is_that_of_the_installed_arm():
    rows, tcp = chain_table(build_scene(SCENE, PANDA))
    for row, frozen in zip(rows, ROWS, strict=True):
        assert row["name"] == frozen["name"]
        for key in ("position", "quat_xyzw", "axis", "lower_rad", "upper_rad"):
            np.testing.assert_allclose(row[key], frozen[key], atol=1e-5)
    np.testing.assert_allclose(tcp, TCP_POSE, atol=1e-5)
    np.testing.assert_allclose(panda_chain().lower, PANDA.joint_lower_rad)
    np.testing.assert_allclose(panda_chain().upper, PANDA.joint_upper_rad)


@pytest.mark.parametrize("look", [Profile.FAST, Profile.FULL])
def test_the_dressed_model_has_the_same_coordinates(look):
    lean, dressed = build_scene(SCENE, PANDA), build_scene(SCENE, PANDA, look=look)
    assert [lean.model.joint(i).name for i in range(lean.model.njnt)] == [
        dressed.model.joint(i).name for i in range(dressed.model.njnt)
    ]
    assert lean.object_qpos == dressed.object_qpos
    assert lean.object_mocap == dressed.object_mocap
    for model in (lean.model, dressed.model):
        model.opt.timestep = 0.002
    np.testing.assert_allclose(lean.model.body_mass.sum(), dressed.model.body_mass.sum())


def test_a_marker_touches_nothing():
    model = build_scene(SCENE, PANDA).model
    goal = model.geom("goal")
    assert (goal.contype[0], goal.conaffinity[0]) == (0, 0)


def test_an_arm_whose_joints_do_not_come_first_is_refused():
    with pytest.raises(ConfigError, match="Order them"):
        build_scene(SCENE, replace(planar(), joints=("elbow", "shoulder", "wrist")))


def test_missing_meshes_name_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"robot-rl\[sim\]"):
        build_scene(SCENE, PANDA)


def test_wrong_descriptions_are_refused():
    with pytest.raises(ConfigError, match="Did you mean 'box'"):
        SceneObject("cube", "boxx", (0.02,) * 3)
    with pytest.raises(ConfigError, match="3 positive sizes"):
        SceneObject("cube", "box", (0.02,))
    with pytest.raises(ConfigError, match="share a name"):
        Scene([CUBE, CUBE])
    with pytest.raises(ConfigError, match="cube, goal"):
        SCENE.object("cup")
    with pytest.raises(ConfigError, match="up direction"):
        build_scene(SCENE, PANDA, [SceneCamera("top", (0.5, 0, 1), (0.5, 0, 0))], look=Profile.FAST)
