"""What node ``bridge`` tells of itself once a second."""

from __future__ import annotations

import time
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticStatus

from robot_rl.robots.server import RobotServer
from robot_rl_bridge.bridged_arm import BridgedArm
from robot_rl_bridge.modes import Mode
from robot_rl_bridge.spinning import status


def bridge_status(
    name: str, lifecycle: str, arm: BridgedArm, server: RobotServer, mismatches: Mapping[str, int]
) -> list[DiagnosticStatus]:
    """Of the node ``name``: itself, its control thread, every stream, and last its safety."""
    now_ns, modes, sensors, parts = time.monotonic_ns(), arm.control.modes, arm.sensors, list[DiagnosticStatus]()
    missing = arm.unready()
    level = DiagnosticStatus.ERROR if modes.mode is Mode.FAULT else DiagnosticStatus.OK
    values = [("lifecycle", lifecycle), ("force_source", arm.spec.force_source), *server.counts.items()]
    values += [(f"missing {index}", what) for index, what in enumerate(missing)]
    level = DiagnosticStatus.WARN if missing and modes.mode is not Mode.FAULT else level
    parts.append(status(name, level, modes.text, values))
    reached_ns, braked_ns = arm.control.halted_ns
    pace = {**arm.pace.statistics(), "halt_after_limit_ms": max(braked_ns - reached_ns, 0) * 1e-6}
    parts.append(status(f"{name}: control", DiagnosticStatus.OK, "", pace.items()))
    for stream, arrivals in sensors.arrivals.items():
        age_s = arrivals.age_s(now_ns)
        told = {"age_s": age_s, "header_age_s": arrivals.offset_ns * 1e-9, **arrivals.statistics()}
        if age_s > arm.arm.stream_timeout_s:
            parts.append(status(f"{name}: {stream}", DiagnosticStatus.STALE, "silent", told.items()))
        else:
            parts.append(status(f"{name}: {stream}", DiagnosticStatus.OK, "", told.items()))
    counts = [*arm.control.counts.items(), *arm.control.arbiter.refused.items()]
    counts += [*sensors.counts.items(), *((f"QoS {topic}", count) for topic, count in mismatches.items())]
    return [*parts, status(f"{name}: safety", DiagnosticStatus.OK, modes.text, counts)]
