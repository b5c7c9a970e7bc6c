"""Third-order motion: what follows a path within limits of speed, acceleration and jerk, and can always stop in time.

All in differences of ticks, so that limits hold for what is sent: v' = v + a' dt, x' = x + v' dt, |a' - a| <= J dt.

- ``stop`` is the fastest way to rest. It looks at speed and acceleration alone, so going on with it is what was
  foreseen when it was foreseen.
- A tick is taken only if after it a stop stays inside the workspace; the stop itself is then such a tick for the next
  time. So the walls are never passed, whatever comes in, and no limit has to be broken for it.
- Speed is to acceleration what distance is to speed: the same braking law keeps the speed limit under bounded jerk.
"""

from __future__ import annotations

import math

import numpy as np

from controllers import rotation
from controllers.compiled import kernel, lean_kernel
from controllers.safety_limits import LimitArrays
from controllers.scratch import scratch
from controllers.workspace import sphere_room, spheres_free, tilt_cosine, workspace_layer
from robot_rl.types import Array

_ROUNDING = 1e-9  # changes below it are not interventions
_SNAP = 1e-14  # [m, rad] off the path is rounding
_CATCH_UP = 100.0  # 1/s: rate at which the last of a lag goes away
_SHARE = 0.5  # of acceleration and jerk that catching up may take; the rest is the path's own
_HALVINGS = 8  # of what is asked of an axis, until it can stop in front of its wall


@kernel
def braking_speed(distance: float, acceleration: float, dt: float) -> float:
    """Largest speed from which steps of ``dt``, each slower by ``acceleration * dt``, end within ``distance``.

    With one such change of speed as unit, a speed k + r (k whole, 0 <= r < 1) leads (k + 1) (k / 2 + r) units far.
    """
    units = max(distance, 0.0) / (acceleration * dt * dt)
    whole = math.floor(0.5 * (math.sqrt(1.0 + 8.0 * units) - 1.0))
    rest = units / (whole + 1.0) - 0.5 * whole
    return (whole + rest) * acceleration * dt


@kernel
def stop(speed: float, acceleration: float, most: float, jerk: float, dt: float) -> float:
    """The next acceleration on the fastest way to rest with |acceleration| <= ``most`` that does not turn back."""
    wanted = -math.copysign(min(braking_speed(abs(speed), jerk, dt), most), speed)
    return min(max(wanted, acceleration - jerk * dt), acceleration + jerk * dt)


@kernel
def stop_travel(speed: float, acceleration: float, most: float, jerk: float, dt: float) -> tuple[float, float]:
    """How far a stop leads forwards and backwards at most, both >= 0."""
    ticks = math.floor(most / (jerk * dt))
    ramp = dt * ((ticks + 1) * most - 0.5 * jerk * dt * ticks * (ticks + 1))  # speed that is shed from ``most`` to 0
    moved = forwards = backwards = 0.0
    while abs(speed) > 1e-12 or abs(acceleration) > 1e-9:
        if speed * acceleration < 0.0 and abs(acceleration) >= most and abs(speed) > ramp + most * dt:
            ticks = math.floor((abs(speed) - ramp) / (most * dt))  # all at ``most``
            moved += math.copysign(dt * (ticks * abs(speed) - 0.5 * most * dt * ticks * (ticks + 1)), speed)
            speed -= math.copysign(ticks * most * dt, speed)
        acceleration = stop(speed, acceleration, most, jerk, dt)
        speed += acceleration * dt
        moved += speed * dt
        forwards, backwards = max(forwards, moved), max(backwards, -moved)
    return forwards, backwards


@kernel
def stop_bound(speed: float, acceleration: float, most: float, jerk: float, dt: float) -> float:
    """More than the length of the way of a stop, quickly."""
    peak = abs(speed) + 0.5 * acceleration * acceleration / jerk + abs(acceleration) * dt
    return peak * ((abs(acceleration) + most) / jerk + 0.5 * peak / most + 3.0 * dt)


# --- one axis -------------------------------------------------------------------------------------------------------


@kernel
def catch_up(gap: float, acceleration: float, jerk: float, dt: float) -> tuple[float, float]:
    """Speed at which a ``gap`` >= 0 is closed, and its slope over the gap: on a way that comes to rest where it ends.

    From there back in time: exponential (100/s, at most 0.2 per tick), jerk constant, acceleration constant.
    """
    jerk *= 0.5  # the exponential end takes twice the jerk of the curve that it replaces
    rate = min(_CATCH_UP, 0.2 / dt)
    corner, corner_speed = acceleration**3 / (6.0 * jerk * jerk), 0.5 * acceleration**2 / jerk
    join_speed = acceleration / rate
    if join_speed >= corner_speed:
        join = corner + (join_speed**2 - corner_speed**2) / (2.0 * acceleration)
    else:
        join = 4.5 * jerk * (2.0 / (3.0 * rate)) ** 3
        join_speed = 1.5 * rate * join
    if gap * rate <= join_speed:
        return gap * rate, rate
    along = gap - join_speed / rate + join
    if along > corner:
        speed = math.sqrt(corner_speed**2 + 2.0 * acceleration * (along - corner))
        return speed, acceleration / speed
    speed = (4.5 * jerk * along * along) ** (1.0 / 3.0)
    return speed, 2.0 * speed / (3.0 * along)


@kernel
def follow(
    lag: float, path_speed: float, path_acceleration: float, exact: float, pace: float, speed: float,
    acceleration: float, most_speed: float, most: float, jerk: float, dt: float,
) -> float:  # fmt: skip
    """The next acceleration of an axis that is ``lag`` behind a path of that speed and acceleration, within limits.

    ``exact`` is the speed that leads onto the path at once. It is taken where staying there asks no more than the share
    of the jerk; otherwise the lag is closed at the speed of ``catch_up`` (times ``pace``).
    """
    ahead = exact - path_speed  # speed to shed once on the path, then the acceleration
    wanted = (exact - speed) / dt
    excess = wanted - path_acceleration
    on_path = abs(ahead / dt + excess) <= _SHARE * jerk * dt + _ROUNDING and abs(ahead) <= _SHARE * jerk * dt * dt
    if not (on_path and abs(wanted - acceleration) <= jerk * dt * (1.0 + _ROUNDING)):
        closing, slope = catch_up(abs(lag), _SHARE * most, _SHARE * jerk, dt)
        if abs(path_acceleration) > most:
            path_acceleration = 0.0  # a path that jumps is not to be kept up with, only to be found again
        aim = path_speed + pace * math.copysign(closing, lag)
        aim = min(max(aim, -most_speed), most_speed)
        wanted = path_acceleration + pace * slope * (path_speed - speed)
        rest = aim - (speed + wanted * dt)
        wanted += math.copysign(braking_speed(abs(rest), _SHARE * jerk, dt), rest)
    wanted = min(max(wanted, acceleration - jerk * dt), acceleration + jerk * dt)
    wanted = min(wanted, braking_speed(most_speed - speed, jerk, dt), most)
    return max(wanted, -braking_speed(most_speed + speed, jerk, dt), -most)


@kernel
def stops_inside(below: float, above: float, wanted: float, speed: float, most: float, jerk: float, dt: float) -> bool:
    """Whether after a tick with acceleration ``wanted`` a stop stays ``below`` and ``above`` [m] around here."""
    speed += wanted * dt
    moved = speed * dt
    bound = stop_bound(speed, wanted, most, jerk, dt)
    if moved + bound <= above and bound - moved <= below:
        return True
    forwards, backwards = stop_travel(speed, wanted, most, jerk, dt)
    return moved + forwards <= above and backwards - moved <= below


@kernel
def keep_inside(
    below: float, above: float, wanted: float, speed: float, acceleration: float, most: float, jerk: float, dt: float
) -> float:
    """The acceleration nearest to ``wanted`` after which a stop stays inside, between it and that of a stop."""
    if stops_inside(below, above, wanted, speed, most, jerk, dt):
        return wanted
    safe = stop(speed, acceleration, most, jerk, dt)
    for _ in range(_HALVINGS):
        middle = 0.5 * (safe + wanted)
        if stops_inside(below, above, middle, speed, most, jerk, dt):
            safe = middle
        else:
            wanted = middle
    return safe


# --- all axes -------------------------------------------------------------------------------------------------------


@kernel
def motion_layer(
    limits: LimitArrays, point: Array, point_twist: Array, after: Array, pace: float, pose: Array, twist: Array,
    acceleration: Array, dt: float,
) -> bool:  # fmt: skip
    """Move a reference (``pose`` [7], ``twist`` and ``acceleration`` [6]) on by ``dt`` after a path.

    The path stood at ``point`` [7] with rate ``point_twist`` [6], both updated, and goes on to ``after`` [7], which is
    put into the workspace. A path within the limits is followed exactly; ``pace`` (0 to 1) slows down catching up.
    """
    changed = _no_pose(after)
    if changed:
        after[:] = point
    changed = workspace_layer(limits, after) or changed
    lag, rate, exact, wanted = scratch(6), scratch(6), scratch(6), scratch(6)
    for i in range(3):
        lag[i], rate[i], exact[i] = point[i] - pose[i], (after[i] - point[i]) / dt, (after[i] - pose[i]) / dt
    rotation.difference(pose[3:], point[3:], lag[3:])
    rotation.difference(point[3:], after[3:], rate[3:])
    rotation.difference(pose[3:], after[3:], exact[3:])
    for i in range(3, 6):
        rate[i] /= dt
        exact[i] /= dt
    for i in range(6):
        wanted[i] = follow(
            lag[i], rate[i], (rate[i] - point_twist[i]) / dt, exact[i], pace, twist[i], acceleration[i],
            limits.speed[i], limits.acceleration[i], limits.jerk[i], dt,
        )  # fmt: skip
        if i < 3:
            below = max(pose[i] - limits.box[0, i], 0.0) + _ROUNDING
            above = max(limits.box[1, i] - pose[i], 0.0) + _ROUNDING
            wanted[i] = keep_inside(
                below, above, wanted[i], twist[i], acceleration[i], limits.acceleration[i], limits.jerk[i], dt
            )
    _keep_hand_inside(limits, pose, twist, acceleration, wanted, dt)
    point[:] = after
    point_twist[:] = rate
    off_path = 0.0
    turn = scratch(3)
    for i in range(6):
        acceleration[i] = wanted[i]
        twist[i] += wanted[i] * dt
        off_path = max(off_path, abs(exact[i] - twist[i]) * dt)
        if i < 3:
            pose[i] += twist[i] * dt
        else:
            turn[i - 3] = twist[i] * dt
    rotation.rotate_by(turn, pose[3:], pose[3:])
    if off_path <= _SNAP:
        pose[:] = after  # the exact path, free of rounding that would add up
    return changed or off_path > _ROUNDING


@kernel
def _no_pose(after: Array) -> bool:
    """Whether a path is not finite or without rotation; its quaternion is brought to unit length."""
    if not math.isfinite(np.sum(after)):
        return True
    square = after[3] ** 2 + after[4] ** 2 + after[5] ** 2 + after[6] ** 2
    return not abs(square - 1.0) <= _ROUNDING and not rotation.normalize(after[3:])


@lean_kernel
def _keep_hand_inside(
    limits: LimitArrays, pose: Array, twist: Array, acceleration: Array, wanted: Array, dt: float
) -> None:
    """Change ``wanted`` [6] towards a stop of all axes until after it a stop keeps the ball of rotations and the walls
    for the spheres."""
    trial, share = scratch(6), 1.0
    for i in range(6):
        trial[i] = wanted[i]
    while not _hand_stops_inside(limits, pose, twist, trial, dt):
        share = 0.5 * share if share > 0.1 else 0.0
        for i in range(6):
            safe = stop(twist[i], acceleration[i], limits.acceleration[i], limits.jerk[i], dt)
            trial[i] = safe + share * (wanted[i] - safe)
        if share == 0.0:
            break
    for i in range(6):
        wanted[i] = trial[i]


@lean_kernel
def _hand_stops_inside(limits: LimitArrays, pose: Array, twist: Array, wanted: Array, dt: float) -> bool:
    """Whether after a tick with accelerations ``wanted`` [6] a stop of all axes keeps ball and spheres inside."""
    speed, reach = scratch(6), scratch(6)
    turned = 0.0
    for i in range(6):
        speed[i] = twist[i] + wanted[i] * dt
        reach[i] = abs(speed[i]) * dt + stop_bound(speed[i], wanted[i], limits.acceleration[i], limits.jerk[i], dt)
        if i >= 3:
            turned += reach[i]
    cosine, spheres = tilt_cosine(limits, pose), limits.spheres.shape[0] > 0
    if 2.0 * math.acos(min(cosine, 1.0)) + turned <= limits.tilt[0] and (
        not spheres or spheres_free(limits, pose, reach, turned)
    ):
        return True
    # exactly, tick by tick; what is outside already must not go further
    least = min(math.cos(0.5 * limits.tilt[0]), cosine) - _ROUNDING
    room = min(sphere_room(limits, pose), 0.0) - _ROUNDING
    here, rate, turn = scratch(7), scratch(6), scratch(3)
    for i in range(7):
        here[i] = pose[i]
    for i in range(6):
        rate[i] = wanted[i]
    moving = True
    while moving:
        for i in range(3):
            here[i] += speed[i] * dt
            turn[i] = speed[3 + i] * dt
        rotation.rotate_by(turn, here[3:], here[3:])
        if tilt_cosine(limits, here) < least or (spheres and sphere_room(limits, here) < room):
            return False
        moving = False
        for i in range(6):
            rate[i] = stop(speed[i], rate[i], limits.acceleration[i], limits.jerk[i], dt)
            speed[i] += rate[i] * dt
            moving |= abs(speed[i]) > 1e-12 or abs(rate[i]) > 1e-9
    return True
