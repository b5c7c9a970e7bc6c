"""Wrappers that make demonstrations worse, around a policy whose action is its observation."""

import numpy as np
import pytest

from robot_rl.errors import ConfigError
from robot_rl.teleop.degraded import Biased, Delayed, Noisy, degraded
from robot_rl.types import ActContext, ActionChunk, ActionKind, ActionPart, ActionSpec, ArraySpec, PolicySpec

pytestmark = pytest.mark.robot
DELTA = ActionPart("arm0/tcp", ActionKind.TCP_POSITION_DELTA, (-0.02,) * 3, (0.02,) * 3, "m", "base")
GRIPPER = ActionPart("arm0/gripper", ActionKind.GRIPPER, (0,), (1,), "opening")
ACTION = ActionSpec((GRIPPER, DELTA))
WISH = np.array([0.5, 0.01, -0.01, 0.0], dtype=np.float32)


class Echo:
    """Does what the observation ``wish`` says, and remembers its resets."""

    def __init__(self, action: ActionSpec = ACTION, execute: int = 1) -> None:
        self.spec = PolicySpec({"wish": ArraySpec((action.size,))}, action, execute=execute)
        self.resets: list[tuple[list[int], list[int]]] = []

    def reset(self, rows, seeds) -> None:
        self.resets.append((rows.tolist(), seeds.tolist()))

    def act(self, window, context) -> ActionChunk:
        return ActionChunk(window["wish"][:, -1:], execute=1)


def act(policy, wish, step: int = 0) -> np.ndarray:
    """Actions [B, A] for wishes [B, A]."""
    wish = np.asarray(wish, dtype=np.float32)
    zero = np.zeros(len(wish), dtype=np.int64)
    context = ActContext(zero + step, zero, zero, zero.astype(bool))
    return policy.act({"wish": wish[:, None]}, context).actions[:, 0]


def test_a_bias_adds_exactly_and_spares_the_gripper():
    policy = Biased(Echo(), (0.001, 0.0, -0.002))
    for step in range(3):
        np.testing.assert_allclose(act(policy, [WISH], step)[0], [0.5, 0.011, -0.01, -0.002], atol=1e-8)


def test_a_biased_action_stays_within_the_limits():
    actions = act(Biased(Echo(), (0.015, 0.0, 0.0)), [WISH])
    np.testing.assert_allclose(actions[0], [0.5, 0.02, -0.01, 0.0], atol=1e-8)


def test_a_delayed_policy_acts_on_what_was_seen_that_many_steps_ago():
    policy, rng = Delayed(Echo(), 3), np.random.default_rng(0)
    policy.reset(np.array([0, 1]), np.array([0, 0]))
    wishes = rng.uniform(0, 0.02, (8, 2, 4)).astype(np.float32)
    actions = np.array([act(policy, wish, step) for step, wish in enumerate(wishes)])
    np.testing.assert_array_equal(actions[3:], wishes[:-3])
    np.testing.assert_array_equal(actions[:3], np.repeat(wishes[:1], 3, axis=0))


def test_a_reset_forgets_what_its_rows_have_seen_and_no_others():
    inner = Echo()
    policy = Delayed(inner, 2)
    policy.reset(np.array([0, 1]), np.array([5, 6]))
    old, new = np.stack([WISH, WISH]), np.stack([-WISH, -WISH])
    act(policy, old)
    policy.reset(np.array([1]), np.array([7]))
    np.testing.assert_array_equal(act(policy, new), [WISH, -WISH])
    assert inner.resets == [([0, 1], [5, 6]), ([1], [7])]


def test_noise_is_of_seed_and_step_and_spares_the_gripper():
    policy = Noisy(Echo(), 0.002)
    policy.reset(np.array([0, 1, 2]), np.array([7, 8, 7]))
    first, later = act(policy, [WISH] * 3), act(policy, [WISH] * 3, step=1)
    np.testing.assert_array_equal(first, act(policy, [WISH] * 3))
    np.testing.assert_array_equal(first[0], first[2])
    assert np.abs(first[0] - first[1]).max() > 1e-4
    assert np.abs(first - later).max() > 1e-4
    np.testing.assert_array_equal(first[:, 0], 0.5)


def test_noise_has_the_named_standard_deviation_and_no_mean():
    policy = Noisy(Echo(), 0.002)
    drawn = np.array([act(policy, [WISH], step)[0, 1:] for step in range(2000)]) - WISH[1:]
    np.testing.assert_allclose(drawn.std(axis=0), 0.002, rtol=0.05)
    np.testing.assert_allclose(drawn.mean(axis=0), 0.0, atol=0.00015)


def test_absolute_and_rotating_actions_have_their_translation_changed_alone():
    pose = ActionPart("arm0/tcp", ActionKind.TCP_POSE, (-1,) * 7, (1,) * 7, "m, quat_xyzw", "base")
    here = np.array([0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0])
    actions = act(Biased(Echo(ActionSpec((pose,))), (0.01, 0.0, 0.02)), [here])
    np.testing.assert_allclose(actions[0], [0.51, 0.0, 0.22, 1.0, 0.0, 0.0, 0.0], atol=1e-7)


def test_nothing_asked_for_is_the_policy_itself():
    policy = Echo()
    assert degraded(policy) is policy
    assert isinstance(degraded(policy, noise_m=0.001), Noisy)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Noisy(Echo(), -0.1), "noise"),
        (lambda: Biased(Echo(), (0.0, 1.0)), "bias"),
        (lambda: Biased(Echo(), (0.0, 0.0, np.nan)), "bias"),
        (lambda: Delayed(Echo(), -1), "delayed"),
        (lambda: Delayed(Echo(execute=4), 1), "every step"),
        (lambda: Noisy(Echo(ActionSpec((GRIPPER,))), 0.1), "moves a TCP"),
    ],
)
def test_what_cannot_work_is_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()
