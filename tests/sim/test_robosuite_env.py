"""robosuite's tasks: human demonstrations run in them, targets mean what they say, starts come from the seed alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from robot_rl.apps.main import compose, instantiate
from robot_rl.data.formats.robomimic import RobomimicFormat
from robot_rl.data.formats.robosuite_demos import RobosuiteDemosFormat
from robot_rl.data.formats.robosuite_replay import RobosuiteReplay
from robot_rl.errors import ConfigError, ResetError, SimulationDivergedError
from robot_rl.geometry import geodesic_angle, pose_inverse, pose_multiply, quat_xyzw_from_rotvec, quat_xyzw_multiply
from robot_rl.runtime.frame_codec import decode
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import ActionKind, ActionPart, ActionSpec, Array, Observation, compare_specs
from sim.adapted_env import AdaptedEnv
from sim.robosuite_env import robosuite_env
from tests.contracts.options import build_env
from tests.shared_data import shared_data

SOFT = "env.hard_reset=false"  # the model stays as it is: quick


@pytest.fixture(scope="module")
def lift() -> Iterator[AdaptedEnv]:
    env = build_env("robosuite_lift", "env.max_steps=600", SOFT)
    yield env
    env.close()


def inner(env: AdaptedEnv) -> Any:
    """robosuite's own environment."""
    return env.simulator._env  # type: ignore[attr-defined]


def drive(env: AdaptedEnv, observation: Observation, action: Array, steps: int) -> Observation:
    plan = env.anchor(np.tile(action, (steps, 1)), observation)
    for _ in range(steps):
        observation = env.step(plan).observation
    return observation


def pose_action(pose: Array, opening: float = 1.0) -> Array:
    return np.array([*pose, opening])


# --- demonstrations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("imported", "action", "steps"), [("tcp_pose", "tcp_pose", 392), ("raw", "osc_pose", 60)])
def test_a_human_demonstration_fits_and_goes_as_it_went(imported: str, action: str, steps: int) -> None:
    """Recorded with robosuite 1.4 by keyboard; the importer's spec is the env's, its actions lift the cube here."""
    source = shared_data("robosuite_human") / "v1.4.1" / "lift" / "demo.hdf5"
    found = RobosuiteDemosFormat(action=imported).read(source)
    env = build_env("robosuite_lift", f"env.max_steps={steps}", f"action={action}", SOFT)
    assert compare_specs(found.spec, env.spec) == ([], [])
    demonstration = min(found.recordings, key=lambda recording: recording.steps).load().arrays
    recorded = {name: demonstration[f"obs/{name}"] for name in found.spec.observation}
    observation = env.restore({name: rows[0] for name, rows in recorded.items()})
    for name, rows in recorded.items():
        np.testing.assert_allclose(observation.state[name], rows[0], atol=1e-6)
    for row, commanded in enumerate(demonstration["action/commanded"][:-1]):
        result = env.step(env.anchor(commanded[None], observation))
        observation = result.observation
        difference = np.abs(observation.state["arm0/tcp_pose"] - recorded["arm0/tcp_pose"][row + 1])[:3].max()
        assert difference < 0.02, f"step {row}"
        if result.terminated or result.truncated:
            break
    assert result.success == (steps == 392)
    env.close()


def released_columns(env: AdaptedEnv, name: str) -> dict[str, Array]:
    """What robosuite 1.4 gave robomimic at the present of ``env``, from its documented definitions."""
    seen = inner(env)._get_observations(force_update=True)
    pose = np.concatenate((seen[f"{name}_pos"], seen[f"{name}_quat"]))
    hand = np.concatenate((seen["robot0_eef_pos"], seen["robot0_eef_quat"]))
    if name == "cube":
        state = np.concatenate((pose, hand[:3] - pose[:3]))
    else:
        in_hand = pose_multiply(pose_inverse(hand), pose)
        state = np.concatenate((pose, in_hand[:3], in_hand[3:] * (1 if in_hand[6] >= 0 else -1)))
    keys = ("eef_pos", "eef_quat", "gripper_qpos", "gripper_qvel", "joint_pos", "joint_pos_cos", "joint_vel")
    return {"object": state, **{f"robot0_{key}": np.asarray(seen[f"robot0_{key}"]) for key in keys}}


@pytest.mark.parametrize(
    ("task", "env_name", "name"),
    [("lift", "Lift", "cube"), ("can", "PickPlaceCan", "Can"), ("square", "NutAssemblySquare", "SquareNut")],
)
def test_files_of_robomimic_fit_and_hold_what_the_env_shows(
    task: str, env_name: str, name: str, tmp_path: Path
) -> None:
    env = build_env(f"robosuite_{task}", "env.layout=robomimic", "action=osc_pose", SOFT)
    observations = [env.reset(3)]
    rows = [released_columns(env, name)]
    observations.append(drive(env, observations[0], np.array([0.5, -0.2, -0.4, 0.1, 0.2, 0.3, 1.0]), 4))
    rows.append(released_columns(env, name))
    with h5py.File(tmp_path / "low_dim.hdf5", "w") as file:
        about = {"env_name": env_name, "type": 1, "env_kwargs": {"robots": ["Panda"], "control_freq": 20}}
        file.create_group("data").attrs["env_args"] = json.dumps(about)
        file["data/demo_0/actions"] = np.zeros((2, 7))
        for key in rows[0]:
            file[f"data/demo_0/obs/{key}"] = np.stack([row[key] for row in rows])
    found = RobomimicFormat().read(tmp_path / "low_dim.hdf5")
    assert compare_specs(found.spec, env.spec) == ([], [])
    arrays = found.recordings[0].load().arrays
    for row, observation in enumerate(observations):
        for key in found.spec.observation:
            np.testing.assert_allclose(observation.state[key], arrays[f"obs/{key}"][row], atol=1e-5, err_msg=key)
    env.close()


def test_files_of_robosuite_1_5_are_told_from_older_ones(tmp_path: Path) -> None:
    """The same numbers in another order would fit, and mislead."""
    with h5py.File(tmp_path / "low_dim.hdf5", "w") as file:
        about = {"env_name": "Lift", "type": 1, "env_version": "1.5.1", "env_kwargs": {"robots": ["Panda"]}}
        file.create_group("data").attrs["env_args"] = json.dumps(about)
        file["data/demo_0/actions"] = np.zeros((2, 7))
        file["data/demo_0/obs/object"] = np.zeros((2, 10))
    found = RobomimicFormat().read(tmp_path / "low_dim.hdf5")
    old, new = (
        build_env("robosuite_lift", f"env.layout={x}", "action=osc_pose") for x in ("robomimic", "robomimic_1_5")
    )
    assert compare_specs(found.spec, new.spec) == ([], [])
    assert [text for text in compare_specs(found.spec, old.spec)[0] if "object/state" in text]
    state = new.reset(1).state["object/state"]
    cube, gripper = state[:3], new.reset(1).state["arm0/tcp_pose"][:3]
    np.testing.assert_allclose(state[7:], cube - gripper, atol=1e-6)
    for env in (old, new):
        env.close()


# --- targets ----------------------------------------------------------------------------------------------------------


def test_the_tcp_goes_where_it_is_told_and_stays(lift: AdaptedEnv) -> None:
    first = lift.reset(0)
    goal = first.state["arm0/tcp_pose"].astype(float)
    goal[:3] += (0.05, -0.08, 0.06)
    goal[3:] = quat_xyzw_multiply(quat_xyzw_from_rotvec(np.array([0.0, 0.1, 0.3])), goal[3:])
    after = drive(lift, first, pose_action(goal), 40)
    for observation in (after, lift.step(lift.hold()).observation):
        pose = observation.state["arm0/tcp_pose"]
        np.testing.assert_allclose(pose[:3], goal[:3], atol=4e-3)
        assert geodesic_angle(pose[3:], goal[3:]) < 0.02


def test_a_far_target_is_approached_in_a_straight_line(lift: AdaptedEnv) -> None:
    """The controller takes 5 cm per step and axis; what is beyond is shortened, not bent."""
    first = lift.reset(0)
    start = first.state["arm0/tcp_pose"].astype(float)
    way = np.array([0.3, 0.15, 0.15])
    after = drive(lift, first, pose_action([*(start[:3] + way), *start[3:]]), 6).state["arm0/tcp_pose"]
    moved = after[:3] - start[:3]
    assert np.linalg.norm(moved) > 0.05
    np.testing.assert_allclose(moved / np.linalg.norm(moved), way / np.linalg.norm(way), atol=0.1)


def test_the_gripper_opens_closes_and_stops_in_between(lift: AdaptedEnv) -> None:
    first = lift.reset(0)
    pose = first.state["arm0/tcp_pose"].astype(float)
    opened = drive(lift, first, pose_action(pose, 1.0), 15)
    assert opened.state["arm0/gripper_opening"][0] > 0.95
    closed = drive(lift, opened, pose_action(pose, 0.0), 15)
    assert closed.state["arm0/gripper_opening"][0] < 0.05


def test_delta_actions_are_integrated_onto_the_target() -> None:
    env = build_env("robosuite_lift", "action=tcp_position_delta", SOFT)
    first = env.reset(0)
    start = first.state["arm0/tcp_pose"]
    after = drive(env, first, np.array([0.01, 0.0, -0.005, 1.0]), 10)
    after = drive(env, after, np.array([0.0, 0.0, 0.0, 1.0]), 10)
    np.testing.assert_allclose(after.state["arm0/tcp_pose"][:3] - start[:3], [0.1, 0.0, -0.05], atol=5e-3)
    env.close()


def test_two_arms_on_turned_bases_each_go_their_way() -> None:
    """The bases face each other, so that the same number of the two means opposite directions in the world."""
    reach = (-2.0,) * 3 + (-1.0,) * 4
    parts = []
    for arm in ("arm0", "arm1"):
        parts.append(ActionPart(f"{arm}/tcp", ActionKind.TCP_POSE, reach, tuple(-v for v in reach), frame="base"))
        parts.append(ActionPart(f"{arm}/gripper", ActionKind.GRIPPER, (0.0,), (1.0,)))
    env = robosuite_env("TwoArmLift", ActionSpec(tuple(parts)), 100, robots=["Panda", "UR5e"], hard_reset=False)
    first = env.reset(0)
    goals = []
    for arm, way in (("arm0", (0.04, 0.03, 0.02)), ("arm1", (0.03, 0.04, -0.02))):
        goal = first.state[f"{arm}/tcp_pose"].astype(float)
        goal[:3] += way
        goals.append(goal)
    after = drive(env, first, np.concatenate([pose_action(goal) for goal in goals]), 25)
    for arm, goal in zip(("arm0", "arm1"), goals, strict=True):
        np.testing.assert_allclose(after.state[f"{arm}/tcp_pose"][:3], goal[:3], atol=5e-3)
    env.close()


def test_velocity_is_the_rate_of_the_pose(lift: AdaptedEnv) -> None:
    first = lift.reset(0)
    goal = first.state["arm0/tcp_pose"].astype(float)
    goal[:3] += (0.1, -0.05, 0.0)
    plan = lift.anchor(np.tile(pose_action(goal), (8, 1)), first)
    seen = [lift.step(plan).observation.state for _ in range(8)]
    before, now, after = seen[3], seen[4], seen[5]
    rate = (after["arm0/tcp_pose"][:3] - before["arm0/tcp_pose"][:3]) / 0.1
    assert np.linalg.norm(rate) > 0.1
    np.testing.assert_allclose(now["arm0/tcp_velocity"][:3], rate, atol=0.1 * np.linalg.norm(rate))


def test_our_expert_lifts_robosuites_cube() -> None:
    config = compose("record", ["task=robosuite_lift", "teleop=scripted", SOFT])
    env, expert = instantiate(config.env), instantiate(config.teleop)
    assert run_episode(env, expert, seed=7).reason == "success"
    env.close()


# --- starts and ends --------------------------------------------------------------------------------------------------


def test_a_start_depends_on_the_seed_alone_and_leaves_numpys_generator_as_it_was() -> None:
    one, other = build_env("robosuite_lift"), build_env("robosuite_lift")
    np.random.seed(1)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    a = one.reset(5)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # type: ignore[index]
    np.random.seed(2)
    other.reset(6)
    other.step(other.hold())
    b = other.reset(5)
    for name, value in a.state.items():
        np.testing.assert_array_equal(value, b.state[name])
    sizes = [inner(env).sim.model.geom_size[inner(env).sim.model.geom_name2id("cube_g0")] for env in (one, other)]
    np.testing.assert_array_equal(*sizes)
    one.reset(6)
    assert not np.array_equal(
        inner(one).sim.model.geom_size[inner(one).sim.model.geom_name2id("cube_g0")], sizes[1]
    )  # drawn with the model
    one.close()
    other.close()


def test_the_first_success_ends_with_reward_one(lift: AdaptedEnv) -> None:
    first = lift.reset(1)
    assert lift.step(lift.hold()).reward == 0.0
    raised = {name: value.copy() for name, value in first.state.items()}
    raised["object/cube_pose"][2] += 0.1
    lift.restore(raised)
    result = lift.step(lift.hold())
    assert (result.reward, result.success, result.terminated, result.truncated) == (1.0, True, True, False)


def test_the_dense_reward_is_robosuites() -> None:
    env = build_env("robosuite_lift", "env.reward=dense", SOFT)
    first = env.reset(1)
    far = env.step(env.hold()).reward
    goal = first.state["arm0/tcp_pose"].astype(float)
    goal[:3] = np.add(first.state["object/cube_pose"][:3], [0.0, 0.0, 0.03])
    first = env.reset(1)
    plan = env.anchor(np.tile(pose_action(goal), (25, 1)), first)
    near = [env.step(plan).reward for _ in range(25)][-1]
    assert 0.0 < far < near < 1.0
    env.close()


def test_the_doors_observations_tell_of_hinge_and_handle_but_not_how_to_start_from_them() -> None:
    env = build_env("robosuite_door", SOFT)
    first = env.reset(0)
    assert {name for name in env.spec.observation if name.startswith("object/")} == {
        "object/door_position",
        "object/handle_position",
        "object/handle_angle",
        "object/hinge_angle",
    }
    assert all(env.spec.observation[name].privileged for name in env.spec.observation if name.startswith("object/"))
    assert first.state["object/hinge_angle"] == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(ResetError, match="Only by seed"):
        env.restore(first.state)
    env.close()


def test_a_divergence_ends_the_step_with_an_error_and_a_reset_goes_on(
    lift: AdaptedEnv, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lift.reset(0)
    inner(lift).sim.data.qvel[:] = 1e30
    with pytest.raises(SimulationDivergedError, match="robosuite_lift"), np.errstate(all="ignore"):
        lift.step(lift.hold())
    lift.reset(0)
    assert not lift.step(lift.hold()).terminated
    assert "huge value in QVEL" in caplog.text
    assert list(tmp_path.iterdir()) == []  # MuJoCo would write a file here


# --- looks and mistakes -----------------------------------------------------------------------------------------------


def test_images_are_the_ones_that_demonstrations_are_imported_with() -> None:
    cameras = ["+env.cameras.front=agentview", "env.image_size_px=64", SOFT]
    env = build_env("robosuite_lift", *cameras)
    first = env.reset(4)
    assert first.frames["front"].data != env.reset(5).frames["front"].data
    assert first.frames["front"].data == env.reset(4).frames["front"].data
    replay = RobosuiteReplay("Lift", ["Panda"], None, cameras=True)
    data = replay._env.sim.data
    data.qpos[:] = inner(env).sim.data.qpos
    replay._env.sim.forward()
    expected = replay.image("agentview", 64).astype(int)
    assert np.abs(decode(first.frames["front"]).astype(int) - expected).mean() < 3.0
    for closable in (env, replay):
        closable.close()


SCRIPT = """
import threading
import numpy as np
from tests.contracts.options import build_env

def work():
    env = build_env("robosuite_lift", "+env.cameras.front=agentview", "env.image_size_px=32", "env.hard_reset=false")
    env.reset(0)
    assert env.step(env.hold()).observation.frames["front"].data
    assert env.render().any()
    env.close()
    env.close()
    done.append(True)

done = []
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert done
"""


def test_it_runs_off_the_main_thread_and_ends_without_a_word() -> None:
    """Neither robosuite's advice at import nor a warning nor a complaint of OpenGL at the end."""
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["env.name=Lft"], "Did you mean 'Lift'"),
        (["env.robots=Pandas"], "Did you mean 'Panda'"),
        (["env.layout=named_"], "Did you mean 'named'"),
        (["env.reward=dens"], "Did you mean 'dense'"),
        (["+env.options.use_latches=true"], "use_latches"),
        (["+env.cameras.front=agentview_"], "Did you mean 'agentview'"),
        (["env.name=TwoArmLift", "env.robots=[Panda,Panda]"], "arm1/tcp"),
        (["env.name=TwoArmLift", "env.robots=[Panda,Panda]", "action=osc_pose"], "limit: 14"),
        (["env.name=Stack", "env.layout=robomimic"], "robosuite 1.4 told of 'Stack'"),
    ],
)
def test_mistakes_are_named(changes: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        build_env("robosuite_lift", *changes)
