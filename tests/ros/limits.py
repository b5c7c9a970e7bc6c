"""What the simulated plant measured of itself, held against the limits of its arm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from robot_rl_bridge.arm_description import load_arm
from tests.ros.graph import told

LIMITS = load_arm("sim_panda").safety_limits
OUTSIDE_M = 0.003  # that the arm itself may be off its set point


def check_within_limits(extremes: Iterable[Any]) -> None:
    """Speed, acceleration and workspace of all messages of sim/extremes."""
    seen = [told(message) for message in list(extremes)]
    assert seen, "no extremes were measured"
    for name, limit in (
        ("speed_m_s", LIMITS.max_speed_m_s),
        ("acceleration_m_s2", LIMITS.max_acceleration_m_s2),
        ("speed_rad_s", LIMITS.max_speed_rad_s),
    ):
        largest = max(seen, key=lambda e, name=name: e[name])
        assert largest[name] < limit, f"{name} is not below {limit}: {largest}"
    lower, upper = np.min([e["lower_m"] for e in seen], axis=0), np.max([e["upper_m"] for e in seen], axis=0)
    assert (lower > np.array(LIMITS.box_lower_m) - OUTSIDE_M).all(), f"the TCP was at {lower}"
    assert (upper < np.array(LIMITS.box_upper_m) + OUTSIDE_M).all(), f"the TCP was at {upper}"
