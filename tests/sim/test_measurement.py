"""What is measured, against MuJoCo's own kinematics."""

import mujoco
import numpy as np
import pytest

from controllers.kinematics import SerialChain
from robot_rl.geometry import quat_xyzw_rotate
from sim.arms.panda import panda
from sim.arms.ur5e import ur5e
from sim.measurement import Measurement, observation_specs
from sim.objects import SceneObject
from sim.physics import Physics
from sim.scene import TCP_SITE, Scene, arm_chain, build_scene

SCENE = Scene(
    [
        SceneObject("target", "sphere", (0.01,), position_m=(0.4, 0.1, 0.3), marker=True),
        SceneObject("cube", "box", (0.02, 0.02, 0.02), position_m=(0.5, 0.2, 0.02)),
        SceneObject("wall", "box", (0.1, 0.01, 0.1), position_m=(0.6, -0.3, 0.1), quat_xyzw=(0, 0, 1, 0), fixed=True),
    ]
)


@pytest.fixture(params=[panda, ur5e])
def physics(request: pytest.FixtureRequest) -> Physics:
    """Somewhere, moving, with the cube turned by 120 degrees about the diagonal."""
    built = build_scene(SCENE, request.param())
    physics = Physics(built)
    rng = np.random.default_rng(5)
    physics.data.qpos[: built.dof] = np.array(built.arm.home_rad) + rng.uniform(-0.2, 0.2, built.dof)
    physics.data.qvel[: built.dof] = rng.uniform(-1.0, 1.0, built.dof)
    address = built.object_qpos["cube"]
    physics.data.qpos[address : address + 7] = [0.1, 0.2, 0.3, 0.5, 0.5, 0.5, 0.5]
    physics.refresh()
    return physics


def chain(physics: Physics) -> SerialChain:
    return arm_chain(physics.built)


def test_the_tcp_is_where_mujoco_has_it_and_moves_as_there(physics):
    state = Measurement(physics, chain(physics).arrays).read()
    site = physics.data.site(TCP_SITE)
    np.testing.assert_allclose(state["arm0/tcp_pose"][:3], site.xpos, atol=1e-6)
    pointing = quat_xyzw_rotate(state["arm0/tcp_pose"][3:], np.eye(3))
    np.testing.assert_allclose(pointing, site.xmat.reshape(3, 3).T, atol=1e-6)
    assert state["arm0/tcp_pose"][3:] @ np.array(physics.built.arm.upright_quat_xyzw) > 0.0
    velocity = np.zeros(6)
    mujoco.mj_objectVelocity(physics.model, physics.data, mujoco.mjtObj.mjOBJ_SITE, site.id, velocity, 0)
    np.testing.assert_allclose(state["arm0/tcp_velocity"], np.concatenate((velocity[3:], velocity[:3])), atol=1e-5)


def test_joints_fingers_and_objects_have_their_names(physics):
    arm = physics.built.arm
    half_open = 0.5 * (np.array(arm.finger_open) + np.array(arm.finger_closed))
    for name, value in zip(arm.fingers, half_open, strict=True):
        physics.data.joint(name).qpos[0] = value
    state = Measurement(physics, chain(physics).arrays).read()
    np.testing.assert_allclose(state["arm0/joint_position"], physics.arm.q, rtol=1e-6)
    np.testing.assert_allclose(state["arm0/joint_velocity"], physics.arm.dq, rtol=1e-6)
    np.testing.assert_allclose(state["arm0/gripper_opening"], [0.5], atol=1e-6)
    np.testing.assert_allclose(state["object/target_position"], [0.4, 0.1, 0.3], rtol=1e-6)
    np.testing.assert_allclose(state["object/cube_pose"], [0.1, 0.2, 0.3, 0.5, 0.5, 0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(state["object/wall_pose"], [0.6, -0.3, 0.1, 0, 0, 1, 0], atol=1e-6)
    for name, spec in observation_specs(SCENE, arm).items():
        spec.check(name, state[name])


def test_an_opening_stays_between_closed_and_open(physics):
    arm = physics.built.arm
    for beyond, opening in ((1.2, 1.0), (-0.2, 0.0)):
        for name, closed, opened in zip(arm.fingers, arm.finger_closed, arm.finger_open, strict=True):
            physics.data.joint(name).qpos[0] = closed + beyond * (opened - closed)
        assert Measurement(physics, chain(physics).arrays).read()["arm0/gripper_opening"] == opening


def test_quaternions_stay_near_the_last_and_begin_near_the_scenes(physics):
    measurement = Measurement(physics, chain(physics).arrays)
    address = physics.built.object_qpos["cube"]
    quat = physics.data.qpos[address + 3 : address + 7]
    first = measurement.read()
    quat *= -1.0  # the same rotation
    np.testing.assert_array_equal(measurement.read(first)["object/cube_pose"], first["object/cube_pose"])
    np.testing.assert_array_equal(measurement.read()["object/cube_pose"], first["object/cube_pose"])
    flipped = {**first, "object/cube_pose": -first["object/cube_pose"]}
    np.testing.assert_array_equal(measurement.read(flipped)["object/cube_pose"][3:], [-0.5] * 4)


def test_what_was_read_does_not_change_afterwards(physics):
    measurement = Measurement(physics, chain(physics).arrays)
    first = measurement.read()
    kept = {name: value.copy() for name, value in first.items()}
    physics.data.qpos += 0.1
    measurement.read(first)
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)
