"""``robot-rl doctor``: check this machine and say what to fix. Moves no robot."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.apps.findings import Finding, report
from robot_rl.errors import ConfigError, valid_choices
from robot_rl.runtime.priority import run_first

EXTRAS = {
    "learn": ("torch", "zarr", "hydra-core", "gymnasium", "safetensors", "opencv-python", "av"),
    "sim": ("mujoco", "dm-control", "robosuite", "imageio"),
    "pusht": ("gym-pusht",),
    "formats": ("h5py", "pyarrow", "mcap", "imagecodecs"),
    "viz": ("rerun-sdk",),
    "ros": ("ros-jazzy-rclpy",),
}
FSYNC_LIMIT_MS = 50.0
FREE_LIMIT_GB = 5.0
RENDER_LIMIT_FPS = 20.0
_TRIAL_S = 120
_FINDING = "finding: "  # what a line of the inspection begins with
_OTHER_LIBRARY = "Update the graphics driver, or draw in software: install libgl1-mesa-dri, or MUJOCO_GL=osmesa"


@dataclass
class Config:
    """Keys of ``robot-rl doctor``."""

    root: str = "."
    subcommand: str = "all"


def run(config: Any) -> None:
    """Run all checks, or the one named, print a table and raise RobotRlError when one failed."""
    if config.subcommand != "all" and config.subcommand not in CHECKS:
        raise ConfigError(f"no check '{config.subcommand}'", remedy=valid_choices(config.subcommand, ["all", *CHECKS]))
    names = list(CHECKS) if config.subcommand == "all" else [config.subcommand]
    report("robot-rl doctor", (finding for name in names for finding in _safely(name, Path(config.root))))


def _safely(name: str, root: Path) -> list[Finding]:
    """A check that itself breaks is a finding, not a traceback."""
    try:
        return CHECKS[name](root)
    except Exception as error:
        return [
            Finding(name, "fail", f"{type(error).__name__}: {error}", "See the message; reinstall if it is an import")
        ]


def check_python(root: Path) -> list[Finding]:
    """Interpreter, processors, memory."""
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    cores = len(os.sched_getaffinity(0))
    return [
        Finding(
            "python", "ok" if supported else "fail", platform.python_version(), "" if supported else "Use 3.11 to 3.13"
        ),
        Finding(
            "processors", "ok" if cores > 1 else "warn", f"{cores} cores", "" if cores > 1 else "Recording wants two"
        ),
        _check_priority(),
    ]


def _check_priority() -> Finding:
    """Tried in a thread that then ends."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(run_first()))
    thread.start()
    thread.join()
    if found == [True]:
        return Finding("priority", "ok", "control threads run first")
    remedy = "Add '<user> - rtprio 50' to /etc/security/limits.conf and log in again"
    return Finding("priority", "warn", "control threads wait for their turn among all others", remedy)


def check_packages(root: Path) -> list[Finding]:
    """Which extras are installed, and in which versions."""
    return [_extra(name, packages) for name, packages in EXTRAS.items()]


def _extra(name: str, packages: tuple[str, ...]) -> Finding:
    found, missing = [], []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        remedy = f"pip install -c constraints.txt 'robot-rl[{name}]'"
        return Finding(f"extra {name}", "warn", f"missing: {', '.join(missing)}", remedy)
    return Finding(f"extra {name}", "ok", ", ".join(found))


def check_accelerator(root: Path) -> list[Finding]:
    """Whether torch sees a GPU."""
    if importlib.util.find_spec("torch") is None:
        return [Finding("accelerator", "warn", "no torch", "pip install 'robot-rl[learn]' where policies are trained")]
    import torch

    if torch.cuda.is_available():
        return [Finding("accelerator", "ok", torch.cuda.get_device_name(0))]
    return [Finding("accelerator", "ok", f"CPU only, {torch.get_num_threads()} torch threads")]


def check_rendering(root: Path) -> list[Finding]:
    """Draw a scene without a display, in a process of its own: a broken driver may end it."""
    if importlib.util.find_spec("mujoco") is None:
        return [Finding("rendering", "warn", "no mujoco", "pip install 'robot-rl[sim]' to simulate")]
    command = [sys.executable, "-m", "robot_rl.runtime.gl_trial"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TRIAL_S, check=False)
    except subprocess.TimeoutExpired:
        return [Finding("rendering", "fail", f"no image within {_TRIAL_S} s", _OTHER_LIBRARY)]
    if done.returncode != 0:
        said = (done.stderr.strip() or "nothing said").splitlines()[-1]
        told = f"the driver ended the process by signal {-done.returncode}" if done.returncode < 0 else said
        return [Finding("rendering", "fail", f"MUJOCO_GL={os.environ.get('MUJOCO_GL', '')}: {told}", _OTHER_LIBRARY)]
    return _trial_findings(json.loads(done.stdout.splitlines()[-1]))


def _trial_findings(trial: dict[str, Any]) -> list[Finding]:
    if trial.get("faults"):
        return [Finding("rendering", "fail", told, remedy) for told, remedy in trial["faults"]]
    told = f"MUJOCO_GL={trial['library']}, {trial['renderer']}: {trial['fps']:.0f} frames/s of 128 px with shadows"
    if trial["black"]:
        return [Finding("rendering", "fail", f"{told}; they are black", _OTHER_LIBRARY)]
    software = any(word in trial["renderer"].lower() for word in ("llvmpipe", "softpipe", "swrast"))
    if software and list(Path("/dev").glob("nvidia[0-9]*")):
        remedy = "Install libnvidia-gl of the driver's version; in a container set NVIDIA_DRIVER_CAPABILITIES=all"
        return [Finding("rendering", "warn", f"{told}; the GPU is not used", remedy)]
    slow = trial["fps"] < RENDER_LIMIT_FPS
    return [Finding("rendering", "warn" if slow else "ok", told, "Use camera.profile=fast (default)" if slow else "")]


def check_disk(root: Path) -> list[Finding]:
    """Free space, write speed and sync time where episodes are recorded."""
    root.mkdir(parents=True, exist_ok=True)
    free_gb = shutil.disk_usage(root).free / 1e9
    low = free_gb < FREE_LIMIT_GB
    findings = [
        Finding(
            "disk space", "warn" if low else "ok", f"{free_gb:.0f} GB free under {root}",
            "Set ROBOT_RL_ROOT to a larger disk" if low else "",
        )
    ]  # fmt: skip
    block, waits = np.random.default_rng(0).bytes(120_000), []
    with tempfile.TemporaryFile(dir=root) as file:
        began = time.perf_counter()
        for _ in range(50):
            file.write(block)
            file.flush()
            before = time.perf_counter()
            os.fdatasync(file.fileno())
            waits.append(1e3 * (time.perf_counter() - before))
        speed = 50 * len(block) / 1e6 / (time.perf_counter() - began)
    slow = statistics.median(waits) > FSYNC_LIMIT_MS
    told = f"{speed:.0f} MB/s synced, sync {statistics.median(waits):.1f} ms (max {max(waits):.0f})"
    remedy = "Record to a local disk; a slow sync delays commits, not control" if slow else ""
    return [*findings, Finding("disk speed", "warn" if slow else "ok", told, remedy)]


def check_clock(root: Path) -> list[Finding]:
    """Resolution of the monotonic clock and how late a 1 ms sleep ends: the floor of control jitter."""
    late_ms = []
    for _ in range(100):
        before = time.monotonic_ns()
        time.sleep(1e-3)
        late_ms.append((time.monotonic_ns() - before) / 1e6 - 1.0)
    worst, p50 = max(late_ms), statistics.median(late_ms)
    resolution_ns = time.get_clock_info("monotonic").resolution * 1e9
    level = "warn" if worst > 10.0 else "ok"
    told = f"resolution {resolution_ns:.0f} ns, sleep ends {p50:.2f} ms late (max {worst:.1f})"
    return [
        Finding(
            "clock", level, told, "Close other programs; real-time control wants an idle core" if worst > 10 else ""
        )
    ]


def check_ros(root: Path) -> list[Finding]:
    """Distribution, domain and reach of ROS 2, and what a process of its own finds in the graph."""
    if importlib.util.find_spec("rclpy") is None:
        return [Finding("ROS 2", "warn", "no rclpy", "Source a ROS 2 Jazzy setup, or pip install 'robot-rl[ros]'")]
    return [_distribution(), _reach(), *_graph()]


def _distribution() -> Finding:
    distribution = os.environ.get("ROS_DISTRO", "")
    try:
        told = f"rclpy {version('rclpy')} of {distribution or 'pip wheels'}"
    except PackageNotFoundError:
        told = f"rclpy of {distribution or 'an unknown distribution'}"
    other = distribution not in ("", "jazzy")
    return Finding("ROS 2", "warn" if other else "ok", told, "It was tested with jazzy alone" if other else "")


def _reach() -> Finding:
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    if not domain.isdigit() or int(domain) > 232:
        return Finding("ROS domain", "fail", f"ROS_DOMAIN_ID={domain}", "A number from 0 to 232, best below 102")
    told, remedy = f"domain {domain}, range {reach}", ""
    if os.environ.get("ROS_LOCALHOST_ONLY"):
        told, remedy = f"{told}, ROS_LOCALHOST_ONLY", "Unset it: ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST took its place"
    elif reach == "OFF":
        remedy = "Nodes do not find each other: set ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST"
    elif reach != "LOCALHOST":
        remedy = "Set ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST unless other hosts take part"
    return Finding("ROS domain", "warn" if remedy else "ok", told, remedy)


def _graph() -> list[Finding]:
    """What ``robot_rl_bridge.inspection`` finds; rclpy is imported there alone."""
    environment = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", **os.environ}
    command = [sys.executable, "-m", "robot_rl_bridge.inspection"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TRIAL_S, check=False)
    except subprocess.TimeoutExpired:
        return [Finding("ROS graph", "fail", f"no answer within {_TRIAL_S} s", "Is lo up? ip link set lo up")]
    found = [line.removeprefix(_FINDING) for line in done.stdout.splitlines() if line.startswith(_FINDING)]
    if done.returncode != 0 or not found:
        said = (done.stderr.strip() or "nothing said").splitlines()[-1]
        return [Finding("ROS graph", "fail", f"cannot be looked at: {said}", "See the message; is the setup sourced?")]
    return [Finding(**json.loads(text)) for text in found]


def check_devices(root: Path) -> list[Finding]:
    """Teleoperation devices that this user may open."""
    found = []
    for pattern, name in (("hidraw*", "HID (SpaceMouse)"), ("input/js*", "gamepad"), ("video*", "camera")):
        paths = sorted(Path("/dev").glob(pattern))
        closed = [str(path) for path in paths if not os.access(path, os.R_OK)]
        if closed:
            found.append(Finding(name, "warn", f"no permission for {', '.join(closed)}", "Add a udev rule or a group"))
        else:
            found.append(Finding(name, "ok", ", ".join(map(str, paths)) or "none connected"))
    return found


CHECKS: dict[str, Callable[[Path], list[Finding]]] = {
    "python": check_python,
    "packages": check_packages,
    "accelerator": check_accelerator,
    "rendering": check_rendering,
    "disk": check_disk,
    "clock": check_clock,
    "ros": check_ros,
    "devices": check_devices,
}
