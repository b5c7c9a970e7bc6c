"""Starts, rules and rewards of the tasks, on states written by hand."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.errors import ConfigError
from robot_rl.types import Judgement, Observation
from sim.tasks.lift import Lift
from sim.tasks.peg_insert import PegInsert
from sim.tasks.pick_place import PickPlace
from sim.tasks.push import Push
from sim.tasks.reach import Reach

DOWN = [1.0, 0.0, 0.0, 0.0]
UPRIGHT = [0.0, 0.0, 0.0, 1.0]
TASKS: list[Any] = [Reach, Lift, PickPlace, PegInsert, Push]


STEP_NS = 50_000_000  # 20 Hz


def observed(**state: Any) -> Observation:
    """An observation of float32 arrays; ``object__cube_pose`` stands for ``object/cube_pose``."""
    return Observation(1, 0, {k.replace("__", "/"): np.array(v, dtype=np.float32) for k, v in state.items()})


def judged(task: Any, before: Observation, after: Observation, step_ns: int = STEP_NS) -> Judgement:
    return task.judge(before, np.zeros(4), replace(after, step=before.step + 1, stamp_ns=before.stamp_ns + step_ns))


# --- reach and lift -----------------------------------------------------------------------------------------------


def lifted(height: float, tcp_height: float | None = None, opening: float = 0.5) -> Observation:
    tcp = height if tcp_height is None else tcp_height
    return observed(
        object__cube_pose=[0.5, 0, height, *UPRIGHT],
        arm0__tcp_pose=[0.5, 0, tcp, *DOWN],
        arm0__gripper_opening=[opening],
    )


@pytest.mark.parametrize(
    ("observation", "success"),
    [
        (lifted(0.0705), True),
        (lifted(0.069), False),  # 2 cm of half edge and 5 cm of lift are not reached
        (lifted(0.2, tcp_height=0.25), False),  # flies beside the hand
        (lifted(0.2, opening=0.1), False),  # the fingers are closed: nothing between them
    ],
)
def test_lift_is_success_when_the_cube_is_held_high(observation, success):
    verdict = judged(Lift(), lifted(0.02), observation)
    assert (verdict.reward, verdict.success, verdict.terminated) == (float(success), success, success)


def test_a_throw_is_no_lift():
    """The cube flies on while the hand slows down: 6 mm apart within a step."""
    before, flying = lifted(0.05, tcp_height=0.05), lifted(0.08, tcp_height=0.074)
    assert not judged(Lift(), before, flying).success
    assert judged(Lift(), before, lifted(0.08, tcp_height=0.079)).success


def reaching(distance: float, speed: float = 0.0) -> Observation:
    return observed(
        object__target_position=[0.5, 0.0, 0.2],
        arm0__tcp_pose=[0.5 + distance, 0.0, 0.2, *DOWN],
        arm0__tcp_velocity=[0, speed, 0, 0, 0, 0],
    )


@pytest.mark.parametrize(("distance", "speed", "success"), [(0.019, 0.1, True), (0.021, 0.1, False), (0.0, 0.3, False)])
def test_reach_is_success_at_the_target_and_slow(distance, speed, success):
    observation = reaching(distance, speed)
    assert judged(Reach(), observation, observation).success is success


# --- pick and place -----------------------------------------------------------------------------------------------


def placed(cube: tuple[float, float, float], above: float = 0.1) -> Observation:
    """A bin at (0.5, 0.2), the TCP ``above`` the cube."""
    x, y, z = cube
    return observed(
        object__cube_pose=[x, y, z, *UPRIGHT],
        object__bin_pose=[0.5, 0.2, 0.0, *UPRIGHT],
        arm0__tcp_pose=[x, y, z + above, *DOWN],
    )


INSIDE = (0.5, 0.24, 0.024)


@pytest.mark.parametrize(
    ("before", "after", "success"),
    [
        (placed(INSIDE), placed(INSIDE), True),
        (placed(INSIDE, 0.04), placed(INSIDE, 0.04), False),  # still at hand
        (placed((0.5, 0.24, 0.026)), placed(INSIDE), False),  # still falling
        (placed((0.5, 0.27, 0.024)), placed((0.5, 0.27, 0.024)), False),  # beside the bin
        (placed((0.5, 0.24, 0.05)), placed((0.5, 0.24, 0.05)), False),  # over the bin
    ],
)
def test_placed_is_at_rest_in_the_bin_and_let_go(before, after, success):
    assert judged(PickPlace(), before, after).success is success


def test_progress_of_pick_place_is_reach_rise_and_nearness_then_all():
    task = PickPlace()
    on_table, raised = placed((0.5, -0.1, 0.02), above=0.0), placed((0.5, -0.1, 0.045), above=0.0)
    near = 0.3 * (1 - math.tanh(0.3 / 0.2))
    assert task.progress(on_table.state) == pytest.approx(0.3 + near, abs=1e-6)
    assert task.progress(raised.state) == pytest.approx(0.3 + 0.3 * 0.5 + near, abs=1e-6)
    assert task.progress(placed((0.5, 0.2, 0.02), above=0.3).state) == pytest.approx(1.0)
    assert task.progress(placed((0.5, 0.2, 0.06), above=0.3).state) == pytest.approx(0.9)


# --- peg insertion ------------------------------------------------------------------------------------------------


def inserted(depth: float, beside: float = 0.0, tilt: float = 0.0) -> Observation:
    """The tip ``depth`` below a rim 4 cm high and ``beside`` its axis along x, the peg of 6 cm tilted about y."""
    quat = [0.0, math.sin(tilt / 2), 0.0, math.cos(tilt / 2)]
    up = np.array([math.sin(tilt), 0.0, math.cos(tilt)])
    middle = np.array([0.5 + beside, 0.0, 0.04 - depth]) + 0.03 * up
    return observed(object__peg_pose=[*middle, *quat], object__hole_pose=[0.5, 0.0, 0.04, *UPRIGHT])


@pytest.mark.parametrize(
    ("after", "success"),
    [
        (inserted(0.0201), True),
        (inserted(0.0199), False),
        (inserted(-0.05), False),
        (inserted(0.03, beside=0.06), False),  # on the table beside the block
        (inserted(0.0201, tilt=0.3), True),  # it is the tip that counts
    ],
)
def test_inserted_is_a_tip_deep_below_the_rim(after, success):
    assert judged(PegInsert(), inserted(-0.05), after).success is success


def test_progress_of_the_peg_is_nearness_above_and_share_of_depth_below():
    task = PegInsert()
    assert task.progress(inserted(-0.1).state) == pytest.approx(0.5 * (1 - math.tanh(1.0)), abs=1e-6)
    assert task.progress(inserted(0.0).state) == pytest.approx(0.5, abs=1e-5)
    assert task.progress(inserted(0.01).state) == pytest.approx(0.75, abs=1e-5)
    assert task.progress(inserted(0.02).state) == pytest.approx(1.0, abs=1e-5)
    assert task.progress(inserted(0.02, beside=0.06).state) < 0.5


def test_the_peg_starts_in_the_fingers_above_the_block():
    for seed in range(50):
        request = PegInsert().reset_request(seed)
        held, hole = request.simulator_state["object/peg_held"], request.simulator_state["object/hole_pose"]
        assert request.gripper_opening == 0.0
        np.testing.assert_allclose(held[:3], [0.0, 0.0, 0.02], atol=0.002)
        assert request.tcp_pose is not None
        assert request.tcp_pose[2] - 0.02 - 0.002 - 0.03 > hole[2] + 0.05


# --- push ---------------------------------------------------------------------------------------------------------


def pushed(beside: float, y: float = 0.0) -> Observation:
    return observed(
        object__puck_pose=[0.6 - beside, y, 0.015, *UPRIGHT],
        object__goal_position=[0.6, 0.0, 0.001],
        arm0__tcp_pose=[0.6 - beside - 0.04, y, 0.015, *DOWN],
    )


@pytest.mark.parametrize(
    ("before", "after", "success"),
    [
        (pushed(0.012), pushed(0.010), True),
        (pushed(0.016), pushed(0.0155), False),
        (pushed(0.012), pushed(0.007), False),  # slides past at 10 cm/s
        (pushed(0.012, 0.012), pushed(0.012, 0.012), False),  # 17 mm off
    ],
)
def test_pushed_is_a_puck_at_rest_on_the_goal(before, after, success):
    assert judged(Push(), before, after).success is success


def test_progress_of_push_is_nearness_of_hand_and_of_goal():
    expected = 0.2 * (1 - math.tanh(0.4)) + 0.8 * (1 - math.tanh(0.5))
    assert Push().progress(pushed(0.1).state) == pytest.approx(expected, abs=1e-6)


def test_a_puck_held_over_the_goal_is_not_pushed_there() -> None:
    """The hand is as wide as the puck: it could carry it."""
    for pose in ([0.6, 0.0, 0.1, *UPRIGHT], [0.6, 0.0, 0.03, math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)]):  # on its edge
        up = observed(
            object__puck_pose=pose, object__goal_position=[0.6, 0.0, 0.001], arm0__tcp_pose=[0.6, 0.0, 0.1, *DOWN]
        )
        assert not judged(Push(), up, up).success


# --- reward -------------------------------------------------------------------------------------------------------


def test_a_sparse_reward_is_one_at_success_alone():
    assert judged(Reach(), reaching(0.2), reaching(0.1)).reward == 0.0
    assert judged(Reach(), reaching(0.1), reaching(0.01)).reward == 1.0


def test_a_dense_reward_adds_the_gain_in_progress():
    task = Reach(reward="dense")
    gain = math.tanh(2.0) - math.tanh(1.0)
    assert judged(task, reaching(0.2), reaching(0.1)).reward == pytest.approx(gain, abs=1e-6)
    assert judged(task, reaching(0.1), reaching(0.2)).reward == pytest.approx(-gain, abs=1e-6)
    assert judged(task, reaching(0.1), reaching(0.0)).reward == pytest.approx(1.0 + math.tanh(1.0), abs=1e-6)


def test_waiting_earns_nothing_anywhere():
    for task, here in (
        (Lift(reward="dense"), lifted(0.06)),
        (PickPlace(reward="dense"), placed((0.5, 0.2, 0.06))),
        (PegInsert(reward="dense"), inserted(0.01)),
        (Push(reward="dense"), pushed(0.05)),
    ):
        assert judged(task, here, here).reward == 0.0


def test_the_lift_gains_by_coming_near_and_by_rising():
    task = Lift()
    assert task.progress(lifted(0.02, tcp_height=0.12).state) == pytest.approx(0.5 * (1 - math.tanh(1.0)), abs=1e-6)
    assert task.progress(lifted(0.045).state) == pytest.approx(0.75, abs=1e-6)
    assert task.progress(lifted(0.5).state) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("make", TASKS)
def test_a_reward_of_another_name_is_refused(make):
    with pytest.raises(ConfigError, match="'dense'"):
        make(reward="dens")


# --- starts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", TASKS)
def test_equal_seeds_give_equal_starts_and_others_differ(make):
    for seed in range(5):
        once, again, other = (make().reset_request(s) for s in (seed, seed, seed + 100))
        for name, value in once.simulator_state.items():
            np.testing.assert_array_equal(value, again.simulator_state[name])
        assert max(np.abs(v - other.simulator_state[n]).max() for n, v in once.simulator_state.items()) > 1e-3
        np.testing.assert_array_equal(once.tcp_pose, again.tcp_pose)
        assert once.seed == seed


def drawn(task: Any, seeds: int = 300) -> dict[str, np.ndarray]:
    """Every number that the starts of a task set, [seeds, k]."""
    requests = [task.reset_request(seed) for seed in range(seeds)]
    names = requests[0].simulator_state
    return {name: np.array([r.simulator_state[name] for r in requests]) for name in names} | {
        "tcp": np.array([r.tcp_pose for r in requests])
    }


@pytest.mark.parametrize("rate", [0.5, 2.0])
@pytest.mark.parametrize(
    ("task", "slow", "fast"),
    [
        (Lift(), (lifted(0.08, tcp_height=0.08), lifted(0.08, tcp_height=0.0781)), lifted(0.08, tcp_height=0.0779)),
        (PickPlace(), (placed(INSIDE), placed((0.5, 0.2409, 0.024))), placed((0.5, 0.2411, 0.024))),
        (Push(), (pushed(0.0), pushed(0.0029)), pushed(0.0031)),
    ],
)
def test_rest_is_a_speed_whatever_the_step_rate(task, slow, fast, rate) -> None:
    """What moves by so much within a step of 20 Hz moves at half the speed in a step twice as long."""
    before, after = slow
    assert judged(task, before, after).success
    assert not judged(task, before, fast).success
    assert judged(task, before, fast, round(STEP_NS * rate)).success is (rate > 1.0)
    assert judged(task, before, after, round(STEP_NS * rate)).success is (rate > 1.0)


def test_lifts_start_all_over_the_declared_range():
    cubes = drawn(Lift())["object/cube_pose"]
    assert (np.abs(cubes[:, :2] - [0.5, 0.0]) <= 0.1).all()
    assert (np.ptp(cubes[:, :2], axis=0) > 0.19).all()
    yaw = 2 * np.arctan2(cubes[:, 5], cubes[:, 6])
    assert yaw.min() < -3.0
    assert yaw.max() > 3.0
    np.testing.assert_array_equal(cubes[:, 2], 0.02)


@pytest.mark.parametrize(
    ("make", "name", "low", "high"),
    [
        (Reach, "object/target_position", (0.4, -0.2, 0.08), (0.62, 0.2, 0.35)),
        (PickPlace, "object/cube_pose", (0.4, -0.2), (0.6, -0.06)),
        (PickPlace, "object/bin_pose", (0.42, 0.1), (0.58, 0.22)),
        (PegInsert, "object/hole_pose", (0.47, -0.05), (0.57, 0.05)),
        (Push, "object/puck_pose", (0.41, -0.12), (0.49, 0.12)),
        (Push, "object/goal_position", (0.56, -0.12), (0.64, 0.12)),
        (PegInsert, "tcp", (0.45, -0.03, 0.15), (0.51, 0.03, 0.21)),
    ],
)
def test_starts_fill_their_range_and_stay_inside(make, name, low, high):
    low, high = np.array(low), np.array(high)
    values = drawn(make())[name][:, : len(low)]
    assert ((values >= low - 1e-9) & (values <= high + 1e-9)).all()
    assert (np.ptp(values, axis=0) > 0.95 * (high - low)).all()


@given(make=st.sampled_from(TASKS), narrow=st.floats(0.0, 1.0), seed=st.integers(0, 10**6))
def test_a_narrowed_start_lies_between_the_middle_and_the_wide_one(make, narrow, seed):
    wide, middle, narrowed = (make(narrow=share).reset_request(seed) for share in (1.0, 0.0, narrow))
    for name in wide.simulator_state:
        far, centre, ours = (request.simulator_state[name][:3] for request in (wide, middle, narrowed))
        np.testing.assert_allclose(ours, centre + narrow * (far - centre), atol=1e-9)
    np.testing.assert_allclose(
        narrowed.tcp_pose, middle.tcp_pose + narrow * (wide.tcp_pose - middle.tcp_pose), atol=1e-9
    )


@pytest.mark.parametrize("make", TASKS)
def test_starts_are_not_widened(make):
    with pytest.raises(ConfigError, match="narrowed"):
        make(narrow=1.5)


def test_a_turned_block_stands_on_the_table():
    turned = drawn(PegInsert(hole_yaw_rad=0.1))["object/hole_pose"]
    yaw = 2 * np.arctan2(turned[:, 5], turned[:, 6])
    assert 0.09 < np.abs(yaw).max() <= 0.1
    np.testing.assert_array_equal(turned[:, 3:5], 0.0)


@pytest.mark.parametrize(
    ("task", "observation"),
    [
        (Reach(), reaching(0.1)),
        (Lift(), lifted(0.07)),
        (PickPlace(), placed(INSIDE)),
        (PegInsert(), inserted(0.0)),
        (Push(), pushed(0.1)),
    ],
)
def test_what_the_rule_reads_is_what_it_requires(task, observation):
    assert task.requires == set(observation.state)
    judged(task, observation, observation)
