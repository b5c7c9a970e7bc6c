"""Tracking of the control laws against robosuite's OSC_POSE: ``python -m tests.benchmarks.tracking``.

Same compiled model of the Panda, same start, physics and laws at 500 Hz, targets at 20 Hz given one at a time, 0.5 s of
rest at the last one. robosuite's controller is the installed one with the gains of its Panda (kp 150), and as stiff as
ours (kp 300). Errors are those between the target of a step and the TCP at its end; torques are those applied, in every
tick. Ours are behind the safety chain.

Keys of the JSON line (``ours`` is controller=operational_space, on trajectories that move given eight rows at a time as
policies send them; the numbers are the worst over the trajectories):
  ours_final_mm, robosuite_final_mm        distance after the rest
  ours_final_mrad, robosuite_final_mrad    angle after the rest
  ours_rms_mm, robosuite_rms_mm            root mean square over the steps before the rest
  ours_peak_torque_n_m, robosuite_peak_torque_n_m  largest torque of any joint in any tick
  ours_peak_torque_share, robosuite_peak_torque_share  the same over the joint's limit
  larger_final, larger_torque                    trajectories on which ours is larger than robosuite's, ours over theirs
  larger_final_as_stiff, larger_torque_as_stiff  the same against robosuite's controller with our stiffness
  trajectories           name -> law -> final_mm, final_mrad, rms_mm, peak_torque_n_m, peak_torque_share; all laws,
                         robosuite_as_stiff, and operational_space_plan for the eight rows at a time

Writes controllers/docs/tracking.png.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import controllers
from controllers.inverse_kinematics import inverse_kinematics
from controllers.kinematics import SerialChain
from controllers.operational_space import OperationalSpaceGains
from robot_rl.apps.main import compose, instantiate
from robot_rl.geometry import (
    geodesic_angle,
    quat_xyzw_from_rotvec,
    quat_xyzw_multiply,
    quat_xyzw_normalize,
    rotvec_from_quat_xyzw,
)
from robot_rl.types import Array, ResetRequest, TargetChunk
from sim.arms.panda import panda
from tests.contracts.options import options

STEP_NS, TICK_NS, TICKS, REST, PLAN = 50_000_000, 2_000_000, 25, 10, 8
OURS, PLANNED, THEIRS, STIFF = "operational_space", "operational_space_plan", "robosuite", "robosuite_as_stiff"
FIGURE = Path(controllers.__file__).parent / "docs" / "tracking.png"


# --- trajectories: targets [H, 7] from the pose at the start ---------------------------------------------------------


def jump(start: Array, by_m: Array, turn_rad: Array, steps: int) -> Array:
    """One far set point, held."""
    pose = np.concatenate((start[:3] + by_m, quat_xyzw_multiply(quat_xyzw_from_rotvec(turn_rad), start[3:])))
    return np.repeat(pose[None], steps, axis=0)


def circle(start: Array, radius_m: float, speed_m_s: float) -> Array:
    """Once around in the plane of the table, sped up and slowed down within a second."""
    length, accelerate = 2.0 * np.pi * radius_m, 1.0
    whole = length / speed_m_s + accelerate
    time_s = np.arange(1, int(np.ceil(whole / 0.05)) + 1) * 0.05
    up, down = np.minimum(time_s, accelerate), np.clip(time_s - (whole - accelerate), 0.0, accelerate)
    way = speed_m_s * (0.5 * up**2 + np.maximum(time_s - accelerate, 0.0) - 0.5 * down**2)
    angle = np.minimum(way, length) / radius_m
    poses = np.repeat(start[None], len(angle), axis=0)
    poses[:, 0] += radius_m * (1.0 - np.cos(angle))
    poses[:, 1] += radius_m * np.sin(angle)
    return poses


def turn(start: Array, by_m: Array, turn_rad: Array, steps: int) -> Array:
    """Straight on while turning, at rest at both ends."""
    share = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, steps + 1) / steps)
    rotation = quat_xyzw_multiply(quat_xyzw_from_rotvec(share[:, None] * turn_rad), start[3:])
    return np.concatenate((start[:3] + share[:, None] * by_m, quat_xyzw_normalize(rotation)), axis=1)


TRAJECTORIES: dict[str, Callable[[Array], Array]] = {
    "step 5 cm": lambda start: jump(start, np.array([0.0, 0.0, 0.05]), np.zeros(3), 20),
    "step 10 cm": lambda start: jump(start, np.array([0.06, 0.07, 0.04]), np.zeros(3), 30),
    "step 5 cm, 0.4 rad": lambda start: jump(start, np.array([0.0, 0.05, 0.0]), np.array([0.0, 0.25, 0.3]), 30),
    "circle 0.25 m/s": lambda start: circle(start, 0.08, 0.25),
    "turn 0.9 rad": lambda start: turn(start, np.array([0.05, 0.1, 0.1]), np.array([0.3, 0.4, 0.7]), 40),
}


# --- two ways to follow them: TCP poses [ticks, 7] and torques [ticks, n] ---------------------------------------------


def follow_ours(robot: Any, targets: Array, ahead: int = 1) -> tuple[Array, Array]:
    """Send row by row, each when its step begins, with ``ahead`` - 1 of those after it; to an arm that takes joints,
    those that reach the pose."""
    chain, arm, poses, torques = robot.servo.chain, robot.physics.arm, [], []
    observation, part = robot.read(), robot.connect().action.parts[0].name
    rows = targets if part == "arm0/tcp" else joint_rows(chain, targets, arm.q.copy())
    for step in range(len(rows)):
        robot.command(TargetChunk({part: rows[step : step + ahead]}, observation.step, observation.stamp_ns))
        for tick in range(1, TICKS + 1):
            robot.clock.wait_until(observation.stamp_ns + tick * TICK_NS)
            poses.append(chain.pose(arm.q))
            torques.append(arm.ctrl.copy())
        observation = robot.read()
    return np.array(poses), np.array(torques)


def joint_rows(chain: SerialChain, targets: Array, start: Array) -> Array:
    """Joint positions [H, n] for poses [H, 7], each near the one before."""
    rows = [start]
    for pose in targets:
        found = inverse_kinematics(chain, pose, rows[-1])
        assert found is not None
        rows.append(found)
    return np.array(rows[1:])


def follow_robosuite(robot: Any, targets: Array, **gains: float) -> tuple[Array, Array]:
    """robosuite's controller in its own simulation of the same model, from the same state."""
    sim, controller = osc_pose(robot, gains)
    chain, n, poses, torques = robot.servo.chain, robot.physics.built.dof, [], []
    for target in targets:
        sim.step1()
        controller.set_goal(np.concatenate((target[:3], rotvec_from_quat_xyzw(target[3:]))))
        for tick in range(TICKS):
            if tick > 0:
                sim.step1()
            sim.data.ctrl[:n] = controller.clip_torques(controller.run_controller())
            sim.step2()
            poses.append(chain.pose(np.array(sim.data.qpos[:n])))
            torques.append(np.array(sim.data.ctrl[:n]))
    return np.array(poses), np.array(torques)


def osc_pose(robot: Any, gains: dict[str, float]) -> tuple[Any, Any]:
    """robosuite's OSC_POSE with the gains of its Panda or ``gains``, given absolute goals in the world frame."""
    import robosuite
    from robosuite.controllers.parts.arm.osc import OperationalSpaceController
    from robosuite.utils.binding_utils import MjSim

    built, data, n = robot.physics.built, robot.physics.data, robot.physics.built.dof
    sim = MjSim(built.model)
    sim.data.qpos[:], sim.data.qvel[:], sim.data.ctrl[:] = data.qpos, data.qvel, data.ctrl
    sim.data.mocap_pos[:], sim.data.mocap_quat[:] = data.mocap_pos, data.mocap_quat
    still = {"get_site_xvelp": sim.data.get_site_xvelp, "get_site_xvelr": sim.data.get_site_xvelr}
    for name, measure in still.items():  # of the base, which has no site in our model
        setattr(sim.data, name, lambda site, measure=measure: np.zeros(3) if site == "base_center" else measure(site))
    default = Path(robosuite.__file__).parent / "controllers/config/robots/default_panda.json"
    settings = json.loads(default.read_text())["body_parts"]["arms"]["right"]
    settings |= {"input_type": "absolute", "input_ref_frame": "world", **gains}
    limit = built.arm.torque_n_m
    controller = OperationalSpaceController(
        sim, ref_name=tcp_site(built.model), joint_indexes={key: list(range(n)) for key in ("joints", "qpos", "qvel")},
        actuator_range=(-np.array(limit), np.array(limit)), naming_prefix="base", part_name="", **settings
    )  # fmt: skip
    controller.update_initial_joints(np.array(built.arm.home_rad))
    return sim, controller


def tcp_site(model: Any) -> str:
    return next(model.site(i).name for i in range(model.nsite) if model.site(i).name.endswith("tcp"))


# --- judging ---------------------------------------------------------------------------------------------------------


def score(targets: Array, poses: Array, torques: Array, limits: Array) -> dict[str, float]:
    at_end = poses[TICKS - 1 :: TICKS]
    distance = np.linalg.norm(at_end[:, :3] - targets[:, :3], axis=1)
    return {
        "final_mm": round(1e3 * float(distance[-1]), 4),
        "final_mrad": round(1e3 * float(geodesic_angle(at_end[-1, 3:], targets[-1, 3:])), 4),
        "rms_mm": round(1e3 * float(np.sqrt(np.mean(distance[:-REST] ** 2))), 3),
        "peak_torque_n_m": round(float(np.abs(torques).max()), 2),
        "peak_torque_share": round(float((np.abs(torques) / limits).max()), 3),
    }


def run(robot: Any, law: str, name: str) -> tuple[Array, Array, Array]:
    robot.reset(ResetRequest())
    start = robot.servo.chain.pose(robot.physics.arm.q)
    targets = TRAJECTORIES[name](start)
    targets = np.concatenate((targets, np.repeat(targets[-1:], REST, axis=0)))
    if law == THEIRS:
        return targets, *follow_robosuite(robot, targets)
    if law == STIFF:
        return targets, *follow_robosuite(robot, targets, kp=OperationalSpaceGains().position_stiffness_1_s2)
    return targets, *follow_ours(robot, targets, PLAN if law == PLANNED else 1)


def all_runs() -> dict[str, dict[str, tuple[Array, Array, Array]]]:
    """trajectory -> law -> targets, poses, torques."""
    runs: dict[str, dict[str, tuple[Array, Array, Array]]] = {name: {} for name in TRAJECTORIES}
    for law in [THEIRS, STIFF, *options("controller")]:
        controller = OURS if law in (THEIRS, STIFF) else law
        robot = instantiate(compose("view", ["task=reach", "robot=sim_panda", f"controller={controller}"]).robot)
        with robot:
            for name in TRAJECTORIES:
                runs[name][law] = run(robot, law, name)
                if law == OURS and not name.startswith("step"):  # a far set point has no rows after it
                    runs[name][PLANNED] = run(robot, PLANNED, name)
    return runs


def draw(runs: dict[str, dict[str, tuple[Array, Array, Array]]]) -> None:
    """Distance to the target and largest torque over time, every law on every trajectory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.0 * len(runs), 4.8), layout="constrained")
    axes = figure.subplots(2, len(runs), sharex="col")
    for column, (name, laws) in enumerate(runs.items()):
        for law, (targets, poses, torques) in laws.items():
            time_s = np.arange(1, len(poses) + 1) * 1e-9 * TICK_NS
            distance = np.linalg.norm(poses[TICKS - 1 :: TICKS, :3] - targets[:, :3], axis=1)
            style = {"linewidth": 1.6 if law in (OURS, THEIRS) else 0.8, "label": law.replace("_", " ")}
            style |= {"color": {OURS: "tab:blue", THEIRS: "tab:red"}[law]} if law in (OURS, THEIRS) else {}
            axes[0, column].semilogy(time_s[TICKS - 1 :: TICKS], 1e3 * distance + 1e-3, **style)
            axes[1, column].plot(time_s, np.abs(torques).max(axis=1), **style)
        axes[0, column].set_title(name, fontsize=10)
        axes[1, column].set_xlabel("time [s]")
    axes[0, 0].set_ylabel("distance to the target [mm]")
    axes[1, 0].set_ylabel("largest joint torque [N m]")
    handles, labels = axes[0, -1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=64)


def main() -> dict[str, Any]:
    runs = all_runs()
    draw(runs)
    limits = np.array(panda().torque_n_m)
    scores = {name: {law: score(*outcome, limits) for law, outcome in laws.items()} for name, laws in runs.items()}
    return {**summary(scores), "trajectories": scores}


def summary(scores: dict[str, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """The worst over the trajectories, and where ours is larger."""
    ours = {name: laws.get(PLANNED, laws[OURS]) for name, laws in scores.items()}
    result: dict[str, Any] = {}
    for key in ("final_mm", "final_mrad", "rms_mm", "peak_torque_n_m", "peak_torque_share"):
        result[f"ours_{key}"] = max(score[key] for score in ours.values())
        result[f"robosuite_{key}"] = max(laws[THEIRS][key] for laws in scores.values())
    for suffix, peer in (("", THEIRS), ("_as_stiff", STIFF)):
        for name, key in (("final", "final_mm"), ("torque", "peak_torque_n_m")):
            ratios = {where: ours[where][key] / laws[peer][key] for where, laws in scores.items()}
            result[f"larger_{name}{suffix}"] = {w: round(ratio, 3) for w, ratio in ratios.items() if ratio > 1.0}
    return result


if __name__ == "__main__":
    print(json.dumps(main()))
