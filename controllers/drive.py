"""What drives one arm: the safety chain at step rate and the servo at control rate that belong to a law."""

from __future__ import annotations

from controllers.joint_safety import JointSafetyChain
from controllers.joint_servo import JointServo
from controllers.kinematics import SerialChain
from controllers.law import Gains
from controllers.operational_space import OperationalSpaceGains
from controllers.safety import SafetyChain
from controllers.safety_limits import SafetyLimits
from controllers.servo import Servo
from robot_rl.types import ActionKind, Array


def build_drive(
    chain: SerialChain, limits: SafetyLimits, gains: Gains | None, posture: Array, step_s: float
) -> tuple[SafetyChain, Servo] | tuple[JointSafetyChain, JointServo]:
    """For the law of ``gains`` (operational-space control unless given), with set points every ``step_s`` seconds; the
    spare joints of a redundant arm stay near ``posture`` [n] rad."""
    law = gains or OperationalSpaceGains()
    if law.takes is ActionKind.JOINT_POSITION:
        return JointSafetyChain(limits, chain, step_s), JointServo(chain, limits, law, step_s)
    return SafetyChain(limits, step_s), Servo(chain, limits, law, posture, step_s)
