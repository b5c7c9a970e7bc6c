"""The safety chain of an arm that is commanded by joint positions: the same layers, the same counts, in joint space.

At step rate a set point passes finite -> joint limits -> jump (or ramp; and ahead of the arm) -> workspace, the TCP's
by forward kinematics along the way there. At control rate the reference keeps speed, acceleration and jerk of every
joint, and is at every tick in a state from which it can still brake within its joint limits, with the TCP in the
workspace and within its limits of speed.
"""

from __future__ import annotations

import math

import numpy as np

from controllers import rotation
from controllers.compiled import kernel
from controllers.kinematics import ChainArrays, SerialChain, solve_chain
from controllers.law import JointReference
from controllers.motion import follow, keep_inside, stop, stop_travel
from controllers.safety import FINITE, JOINT, JUMP, LAYERS, WORKSPACE, SafetyChain
from controllers.safety_limits import LimitArrays, SafetyLimits
from controllers.workspace import sphere_room
from robot_rl.types import Array

_ROUNDING = 1e-9
_CORNER_RAD = 1e-3  # less than this off the path is the rounding of its corners, no intervention
_JOIN_RAD = 0.3  # whoever starts to command further than this from the arm is ramped until near
_RAMP_RAD_S = 1.0
_MARGIN = 0.01  # [m, rad] kept from the edge of the workspace: braking joints lead the TCP along no straight line
_FASTEST = 0.95  # of the TCP's limits of speed: joints that brake, each in its own time, may make it faster at first
_PIECES = 8  # of the way between two set points, looked at one by one


class JointSafetyChain:
    """The step-rate part: what comes in is a wish, what comes out is executed."""

    def __init__(self, limits: SafetyLimits, chain: SerialChain, step_s: float = 0.05) -> None:
        self.limits, self._ramp = limits, _RAMP_RAD_S * step_s
        self.arrays = limits.arrays()
        self.counts = np.zeros(len(LAYERS), dtype=np.int64)
        self._chain, self._tcp = chain.arrays, SafetyChain(limits)
        self._last, self._opening = np.zeros(chain.dof), 0.0
        self._joining = np.ones(1, dtype=np.bool_)

    def reset(self, position: Array, opening: float) -> None:
        """Latch onto the joint position [n] rad and opening the arm is at; joints are put within limits first."""
        self._last[:] = np.clip(position, *self.arrays.joint)
        self._opening = min(max(opening, 0.0), 1.0)
        self.counts[:] = 0
        self.join()

    def join(self) -> None:
        """Somebody else commands from now on: the way to a set point far from the last one is ramped."""
        self._joining[0] = True

    def inside(self, pose: Array) -> Array:
        """The pose [7] of the workspace nearest to ``pose``."""
        return self._tcp.inside(pose)

    def latch(self, position: Array) -> None:
        """What the motion layer made of the last set point [n]: jumps are measured from there."""
        self._last[:] = position

    @property
    def last(self) -> tuple[Array, float]:
        """The last set point: joint position [n] and opening."""
        return self._last.copy(), self._opening

    def set_point(self, position: Array, opening: float, measured: Array | None = None) -> tuple[Array, float]:
        """The set point nearest to the wish that is finite, within the joint limits, within one jump (or one step of
        the ramp) of the last, no further than the lead ahead of the ``measured`` joints [n], where they are measured,
        and with the TCP in the workspace on the straight way there."""
        wish, near = np.array(position, dtype=np.float64), self._last if measured is None else measured
        check_joint_set_point(self.arrays, self._chain, self._last, wish, near, self._ramp, self._joining, self.counts)
        bounded = min(max(opening, 0.0), 1.0) if math.isfinite(opening) else self._opening
        self.counts[FINITE] += not abs(bounded - opening) <= _ROUNDING
        self._last[:], self._opening = wish, bounded
        return self.last


@kernel
def check_joint_set_point(
    limits: LimitArrays, chain: ChainArrays, last: Array, wish: Array, measured: Array, ramp: float, joining: Array,
    counts: Array,
) -> None:  # fmt: skip
    """Change ``wish`` [n] rad in place; ``last`` [n] is the set point in force, ``measured`` [n] where the arm is;
    ``joining`` [1] holds until a wish is near, steps are at most ``ramp`` rad until then."""
    n = wish.shape[0]
    furthest, clipped = 0.0, False
    for i in range(n):
        if not math.isfinite(wish[i]):
            wish[:] = last
            counts[FINITE] += 1
            break
    for i in range(n):
        inside = min(max(wish[i], limits.joint[0, i]), limits.joint[1, i])
        clipped |= abs(inside - wish[i]) > _ROUNDING
        wish[i] = inside
        furthest = max(furthest, abs(wish[i] - last[i]))
    counts[JOINT] += clipped
    joining[0] = joining[0] and furthest > _JOIN_RAD
    most = min(limits.joint_motion[2], ramp) if joining[0] else limits.joint_motion[2]
    if furthest > most:
        counts[JUMP] += furthest - most > _ROUNDING
        for i in range(n):
            wish[i] = last[i] + (wish[i] - last[i]) * (most / furthest)
    led = False
    for i in range(n):
        near = min(max(wish[i], measured[i] - limits.joint_motion[3]), measured[i] + limits.joint_motion[3])
        led |= abs(near - wish[i]) > _ROUNDING
        wish[i] = near
    counts[JUMP] += led
    counts[WORKSPACE] += joint_workspace_layer(limits, chain, last, wish)


@kernel
def joint_workspace_layer(limits: LimitArrays, chain: ChainArrays, last: Array, wish: Array) -> bool:
    """Shorten the way from ``last`` to ``wish`` [n] rad to the part along which the TCP stays in the workspace."""
    n = wish.shape[0]
    way, at = wish - last, np.empty(n)
    allowed = max(tcp_outside(limits, chain, last) + _ROUNDING, -_MARGIN)
    good = 0.0
    for piece in range(1, _PIECES + 1):
        share = piece / _PIECES
        at[:] = last + share * way
        if tcp_outside(limits, chain, at) > allowed:
            bad = share
            for _ in range(12):
                middle = 0.5 * (good + bad)
                at[:] = last + middle * way
                if tcp_outside(limits, chain, at) > allowed:
                    bad = middle
                else:
                    good = middle
            wish[:] = last + good * way
            return True
        good = share
    return False


@kernel
def tcp_outside(limits: LimitArrays, chain: ChainArrays, position: Array) -> float:
    """How far [m or rad, the larger] TCP and spheres are outside at ``position`` [n] rad; negative inside."""
    pose = np.empty(7)
    solve_chain(chain, position, pose, np.empty((6, position.shape[0])))
    return _pose_outside(limits, pose)


@kernel
def _pose_outside(limits: LimitArrays, pose: Array) -> float:
    turn = np.empty(3)
    far = -math.inf
    for a in range(3):
        far = max(far, pose[a] - limits.box[1, a], limits.box[0, a] - pose[a])
    far = max(far, -sphere_room(limits, pose))
    rotation.difference(limits.upright, pose[3:], turn)
    return max(far, math.sqrt(turn[0] ** 2 + turn[1] ** 2 + turn[2] ** 2) - limits.tilt[0])


# --- control rate ---------------------------------------------------------------------------------------------------


@kernel
def joint_motion_layer(
    limits: LimitArrays, chain: ChainArrays, before: Array, after: Array, curvature: Array, reference: JointReference,
    dt: float,
) -> tuple[bool, bool]:  # fmt: skip
    """Move ``reference`` on by ``dt`` after a path that went from ``before`` to ``after`` [n] rad, accelerating by
    ``curvature`` [n] rad/s^2.

    A path within the limits is followed exactly, the corners of its acceleration rounded; otherwise each joint catches
    up as an axis of the TCP does (``motion``). Returns whether a joint left the path or the TCP would have become too
    fast, and whether all braked because the TCP would have come to rest outside of the workspace.
    """
    n, most, jerk = before.shape[0], limits.joint_motion[0], limits.joint_motion[1]
    wanted = np.empty(n)
    left = False
    for i in range(n):
        p, v, a = reference.position[i], reference.velocity[i], reference.acceleration[i]
        wanted[i] = follow(
            before[i] - p, (after[i] - before[i]) / dt, curvature[i], (after[i] - p) / dt, 1.0, v, a,
            limits.joint_speed[i], most, jerk, dt,
        )  # fmt: skip
        below, above = max(p - limits.joint[0, i], 0.0) + _ROUNDING, max(limits.joint[1, i] - p, 0.0) + _ROUNDING
        wanted[i] = keep_inside(below, above, wanted[i], v, a, most, jerk, dt)
        left |= abs(p + (v + wanted[i] * dt) * dt - after[i]) > _CORNER_RAD
    trial, share = wanted.copy(), 1.0
    outside, fastest = _while_stopping(limits, chain, reference, trial, dt)
    allowed = -_MARGIN
    if outside > allowed:
        allowed = max(allowed, tcp_outside(limits, chain, reference.position) + _ROUNDING)
    left |= fastest > _FASTEST
    braked = outside > allowed
    while share > 0.0 and (outside > allowed or fastest > _FASTEST):
        share = 0.5 * share if share > 0.1 else 0.0
        for i in range(n):
            safe = stop(reference.velocity[i], reference.acceleration[i], most, jerk, dt)
            trial[i] = safe + share * (wanted[i] - safe)
        outside, fastest = _while_stopping(limits, chain, reference, trial, dt)
    for i in range(n):
        reference.acceleration[i] = trial[i]
        reference.velocity[i] += trial[i] * dt
        reference.position[i] += reference.velocity[i] * dt
    return left, braked


@kernel
def _while_stopping(
    limits: LimitArrays, chain: ChainArrays, reference: JointReference, wanted: Array, dt: float
) -> tuple[float, float]:
    """How far outside of the workspace the TCP comes, and which share of its speed limits it has, when every joint
    stops after a tick with accelerations ``wanted`` [n], each in its own time: looked at when none, a third, two thirds
    and all of the longest time are over."""
    n = wanted.shape[0]
    start, speed, way, whole, at, rate = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    pose, jacobian = np.empty(7), np.empty((6, n))
    longest = 0.0
    for i in range(n):
        speed[i] = reference.velocity[i] + wanted[i] * dt
        start[i] = reference.position[i] + speed[i] * dt
        forwards, backwards = stop_travel(speed[i], wanted[i], limits.joint_motion[0], limits.joint_motion[1], dt)
        way[i] = forwards - backwards
        whole[i] = 2.0 * abs(way[i]) / max(abs(speed[i]), _ROUNDING)
        longest = max(longest, whole[i])
    far, fastest = -math.inf, 0.0
    for third in range(4):
        for i in range(n):
            left = 1.0 - min(longest * third / 3.0 / max(whole[i], _ROUNDING), 1.0)
            at[i] = start[i] + way[i] * (1.0 - left * left)
            rate[i] = speed[i] * left
        solve_chain(chain, at, pose, jacobian)
        far = max(far, _pose_outside(limits, pose))
        fastest = max(fastest, _speed_share(limits, jacobian, rate))
    return far, fastest


@kernel
def _speed_share(limits: LimitArrays, jacobian: Array, rate: Array) -> float:
    """The TCP's speed at joint rates ``rate`` [n], as a share of its limits: the larger of translation's and
    rotation's."""
    square, turning = 0.0, 0.0
    for a in range(3):
        speed, turn = 0.0, 0.0
        for i in range(rate.shape[0]):
            speed += jacobian[a, i] * rate[i]
            turn += jacobian[3 + a, i] * rate[i]
        square += (speed / limits.speed[a]) ** 2
        turning += (turn / limits.speed[3 + a]) ** 2
    return math.sqrt(max(square, turning) / 3.0)  # limits per axis are 1 / sqrt(3) of those of the norm
