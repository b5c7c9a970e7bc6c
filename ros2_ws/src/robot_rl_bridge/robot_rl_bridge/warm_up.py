"""Every kernel of control run once: compiling them takes seconds, in which an arm would not be held."""

from __future__ import annotations

import numpy as np

from robot_rl.types import EnvSpec, TargetChunk
from robot_rl_bridge.arm_control import ArmControl
from robot_rl_bridge.arm_description import GRIPPER, ArmDescription
from robot_rl_bridge.arm_state import Measured


def warm_up(arm: ArmDescription, spec: EnvSpec) -> None:
    """Drive an arm that is not there: activated, enabled, a plan of three steps, a hold."""
    scratch, home = ArmControl(arm, spec), arm.home
    measured = Measured(home, np.zeros(len(home)), 1.0, 0, np.zeros(len(home)))
    scratch.activate(measured, 0)
    target = {scratch.part: np.tile(scratch.servo.reference, (3, 1)), GRIPPER: np.ones((3, 1))}
    scratch.enable(measured, 0, "warm")
    scratch.submit(TargetChunk(target, 0, 0), 0)
    tick_ns = round(1e9 * scratch.tick_s)
    for tick in range(3 * scratch.period_ns // tick_ns):
        scratch.heartbeat(tick * tick_ns)
        scratch.tick(tick * tick_ns, measured)
    scratch.hold("warm", 0)
    scratch.tick(3 * scratch.period_ns, measured)
