"""What arrives from an arm counts as long as it is heard."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.errors import StaleObservationError
from robot_rl_bridge.arm_description import load_arm
from robot_rl_bridge.arm_state import still
from robot_rl_bridge.sensors import EXTERNAL, Sensors
from tests.ros.driven_arm import MS

pytestmark = pytest.mark.robot

NOW = 10_000 * MS


def told(sensors: Sensors, now_ns: int, torque: float | None) -> None:
    """One message of each stream of an FR3 at home."""
    arm = load_arm("fr3")
    sensors.joints(
        {name: (float(q), 0.0) for name, q in zip(arm.chain.names, arm.home, strict=True)}, now_ns, now_ns, now_ns
    )
    sensors.gripper(0.02, now_ns, now_ns, now_ns)
    if torque is not None:
        sensors.external(dict.fromkeys(arm.chain.names, torque), now_ns, now_ns, now_ns)


def test_a_force_stop_that_hears_nothing_is_no_force_stop() -> None:
    sensors = Sensors(load_arm("fr3"), [], [])
    told(sensors, NOW, None)
    assert sensors.silent(NOW) == EXTERNAL
    assert "has not been heard yet" in "; ".join(sensors.missing(NOW))
    with pytest.raises(StaleObservationError, match=EXTERNAL):
        sensors.require(NOW)


@pytest.mark.parametrize("torque", [None, float("nan")])
def test_torques_that_stop_coming_or_are_none_are_silent(torque: float | None) -> None:
    sensors = Sensors(load_arm("fr3"), [], [])
    told(sensors, NOW, 1.0)
    assert (sensors.silent(NOW), sensors.missing(NOW)) == ("", [])
    measured = sensors.measured()
    assert measured is not None and measured.external is not None
    np.testing.assert_allclose(measured.external, np.ones(7))
    for tick in range(1, 30):
        told(sensors, NOW + 10 * tick * MS, torque)
    assert sensors.silent(NOW + 290 * MS) == EXTERNAL
    assert sum(n for what, n in sensors.counts.items() if EXTERNAL in what) == (29 if torque else 0)


def test_an_arm_without_force_stop_needs_no_torques() -> None:
    sensors = Sensors(load_arm("sim_panda"), [], [])
    assert EXTERNAL not in sensors.arrivals


def test_an_arm_that_tells_no_velocities_is_not_taken_for_one_at_rest() -> None:
    arm, sensors = load_arm("sim_panda"), Sensors(load_arm("sim_panda"), [], [])
    for tick in range(3):
        values = {
            name: (float(q) + 0.001 * tick, float("nan")) for name, q in zip(arm.chain.names, arm.home, strict=True)
        }
        now_ns = NOW + 10 * tick * MS
        sensors.joints(values, now_ns, now_ns, now_ns)
        sensors.gripper(0.02, now_ns, now_ns, now_ns)
    measured = sensors.measured()
    assert measured is not None
    np.testing.assert_allclose(measured.velocity, np.full(7, 0.1), rtol=1e-6)
    assert not still(arm.chain, measured)
