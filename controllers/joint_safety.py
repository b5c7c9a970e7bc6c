"""The safety chain of an arm that is commanded by joint positions: the same layers, the same counts, in joint space.

At step rate a set point passes finite -> joint limits -> jump (and ramp) -> workspace, the TCP's by forward kinematics
along the way there. At control rate the reference keeps speed, acceleration and jerk of every joint, and is at every
tick in a state from which it can still brake within its joint limits and with the TCP in the workspace.
"""

from __future__ import annotations

import math

import numpy as np

from controllers import rotation
from controllers.compiled import kernel
from controllers.kinematics import ChainArrays, SerialChain, solve_chain
from controllers.law import JointReference
from controllers.safety import FINITE, JOINT, JUMP, LAYERS, WORKSPACE, SafetyChain
from controllers.safety_limits import LimitArrays, SafetyLimits
from robot_rl.types import Array

_ROUNDING = 1e-9
_CORNER_RAD = 1e-3  # less than this off the path is the rounding of its corners, no intervention
_JOIN_RAD = 0.3  # whoever starts to command further than this from the arm is ramped until near,
_RAMP_RAD = 0.05  # by this much in a step: 1 rad/s at 20 Hz
_MARGIN = 0.01  # [m, rad] kept from the edge of the workspace: braking joints lead the TCP along no straight line
_PIECES = 8  # of the way between two set points, looked at one by one


class JointSafetyChain:
    """The step-rate part: what comes in is a wish, what comes out is executed."""

    def __init__(self, limits: SafetyLimits, chain: SerialChain) -> None:
        self.limits = limits
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

    def set_point(self, position: Array, opening: float) -> tuple[Array, float]:
        """The set point nearest to the wish that is finite, within the joint limits, within one jump (or one step of
        the ramp) of the last, and with the TCP in the workspace on the straight way there."""
        wish = np.array(position, dtype=np.float64)
        check_joint_set_point(self.arrays, self._chain, self._last, wish, self._joining, self.counts)
        bounded = min(max(opening, 0.0), 1.0) if math.isfinite(opening) else self._opening
        self.counts[FINITE] += not abs(bounded - opening) <= _ROUNDING
        self._last[:], self._opening = wish, bounded
        return self.last


@kernel
def check_joint_set_point(
    limits: LimitArrays, chain: ChainArrays, last: Array, wish: Array, joining: Array, counts: Array
) -> None:
    """Change ``wish`` [n] rad in place; ``last`` [n] is the set point in force; ``joining`` [1] holds until a wish is
    near."""
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
    most = min(limits.joint_motion[2], _RAMP_RAD) if joining[0] else limits.joint_motion[2]
    if furthest > most:
        counts[JUMP] += furthest - most > _ROUNDING
        for i in range(n):
            wish[i] = last[i] + (wish[i] - last[i]) * (most / furthest)
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
    """How far [m or rad, the larger] the TCP is outside of the workspace at ``position`` [n] rad; negative inside."""
    pose, turn = np.empty(7), np.empty(3)
    solve_chain(chain, position, pose, np.empty((6, position.shape[0])))
    far = -math.inf
    for a in range(3):
        far = max(far, pose[a] - limits.box[1, a], limits.box[0, a] - pose[a])
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
    up at a pace from which it can still brake. Returns whether a joint left the path, and whether all braked because
    the TCP would have come to rest outside of the workspace.
    """
    n = before.shape[0]
    position, velocity, acceleration, way = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    left = False
    for i in range(n):
        step = _joint_step(
            limits, i, before[i], after[i], curvature[i], reference.position[i], reference.velocity[i],
            reference.acceleration[i], dt,
        )  # fmt: skip
        position[i], velocity[i], acceleration[i] = step
        left |= abs(position[i] - after[i]) > _CORNER_RAD
        way[i] = _braking_way(limits, velocity[i], acceleration[i])
        way[i] -= _braking_way(limits, -velocity[i], -acceleration[i])
    outside = _outside_while_braking(limits, chain, position, velocity, way)
    braked = outside > -_MARGIN and outside > tcp_outside(limits, chain, reference.position) + _ROUNDING
    for i in range(n):
        if braked:
            rate = _braked(limits, reference.velocity[i], reference.acceleration[i], dt)
            acceleration[i] = (rate - reference.velocity[i]) / dt
            velocity[i] = rate
            position[i] = reference.position[i] + rate * dt
        reference.position[i], reference.velocity[i] = position[i], velocity[i]
        reference.acceleration[i] = acceleration[i]
    return left, braked


@kernel
def _outside_while_braking(
    limits: LimitArrays, chain: ChainArrays, position: Array, velocity: Array, way: Array
) -> float:
    """How far outside of the workspace the TCP comes while each joint brakes along its ``way`` [n] rad, each in its own
    time: looked at when a third, two thirds and all of the longest time are over."""
    n = position.shape[0]
    longest = 0.0
    for i in range(n):
        longest = max(longest, 2.0 * abs(way[i]) / max(abs(velocity[i]), _ROUNDING))
    at, far = np.empty(n), -math.inf
    for third in range(1, 4):
        for i in range(n):
            whole = 2.0 * abs(way[i]) / max(abs(velocity[i]), _ROUNDING)
            left = 1.0 - min(longest * third / 3.0 / max(whole, _ROUNDING), 1.0)
            at[i] = position[i] + way[i] * (1.0 - left * left)
        far = max(far, tcp_outside(limits, chain, at))
    return far


@kernel
def _joint_step(
    limits: LimitArrays, i: int, before: float, after: float, curvature: float, p: float, v: float, a: float, dt: float
) -> tuple[float, float, float]:
    """Position, rate and acceleration of joint ``i`` after the next tick, now at ``p``, ``v``, ``a``."""
    most, jerk = limits.joint_motion[0], limits.joint_motion[1]
    rate = (after - p) / dt
    change = (rate - v) / dt
    if abs(change) <= most and abs(change - a) <= jerk * dt and _holds(limits, i, after, rate, change, dt):
        return after, rate, change
    lag = before - p
    pace = min(abs(lag) / dt, _pace(limits, 0.5 * abs(lag)))
    wanted = (after - before) / dt + math.copysign(pace, lag)
    wanted = min(max(wanted, -limits.joint_speed[i]), limits.joint_speed[i])
    rate = _towards(limits, wanted, curvature, v, a, dt)
    if not _holds(limits, i, p + rate * dt, rate, (rate - v) / dt, dt):
        rate = _braked(limits, v, a, dt)
    return p + rate * dt, rate, (rate - v) / dt


@kernel
def _towards(limits: LimitArrays, wanted: float, feed: float, v: float, a: float, dt: float) -> float:
    """The rate after ``dt`` on the way to a ``wanted`` one, which itself changes by ``feed`` rad/s^2. The acceleration
    decays with the difference at J / (2 A), slowly enough for the jerk J and so without passing it."""
    most, jerk = limits.joint_motion[0], limits.joint_motion[1]
    change = min(max(feed + 0.5 * jerk / most * (wanted - v), -most), most)
    return v + min(max(change, a - jerk * dt), a + jerk * dt) * dt


@kernel
def _braked(limits: LimitArrays, v: float, a: float, dt: float) -> float:
    return _towards(limits, 0.0, 0.0, v, a, dt)


@kernel
def _holds(limits: LimitArrays, i: int, p: float, v: float, a: float, dt: float) -> bool:
    """Whether speed and joint limits can still be kept from this state."""
    jerk = limits.joint_motion[1]
    peak = abs(v) if v * a <= 0.0 else abs(v) + 0.5 * a * a / jerk + abs(a) * dt
    above = p + _braking_way(limits, v, a) + max(v, 0.0) * dt
    below = p - _braking_way(limits, -v, -a) + min(v, 0.0) * dt
    return peak <= limits.joint_speed[i] and above <= limits.joint[1, i] and below >= limits.joint[0, i]


@kernel
def _braking_way(limits: LimitArrays, v: float, a: float) -> float:
    """An upper bound of how far in the positive direction ``_braked`` leads from rate ``v`` and acceleration ``a``:
    turning the acceleration round, braking, and the decay at the end. It shrinks by at least v dt with every tick."""
    most, jerk = limits.joint_motion[0], limits.joint_motion[1]
    peak = v + 0.5 * max(a, 0.0) ** 2 / jerk
    if peak <= 0.0:
        return 0.0
    return peak * ((a + most) / jerk + 0.5 * peak / most + 2.0 * most / jerk)


@kernel
def _pace(limits: LimitArrays, way: float) -> float:
    """The rate from which braking takes ``way`` rad, as ``_braking_way`` has it for no acceleration."""
    most, jerk = limits.joint_motion[0], limits.joint_motion[1]
    decay = 3.0 * most / jerk
    return most * (math.sqrt(decay * decay + 2.0 * way / most) - decay)
