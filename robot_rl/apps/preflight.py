"""What is looked at before a policy moves an arm. Nothing here moves it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robot_rl.apps.findings import FAIL, OK, WARN, Finding
from robot_rl.errors import CalibrationError
from robot_rl.runtime.calibration_in_use import MAX_AGE, calibration_in_use, max_age_days
from robot_rl.runtime.dry_run import DryRun
from robot_rl.types import EnvSpec

JUMP_M, JUMP_RAD = 0.05, 0.2  # beyond these a first command is refused or ramped
_SHOWN = ("max_speed", "max_jump", "max_contact_force")  # of the limits; all of them are in the spec


def look(spec: EnvSpec, made_for: EnvSpec, found: DryRun, folder: Path, least_disk_gb: float) -> Iterator[Finding]:
    """Everything, for the arm of ``spec`` and a policy that was made for ``made_for``; ``folder`` is recorded to."""
    yield _spec(spec, made_for)
    yield calibration(spec)
    yield from _safety(spec, made_for)
    yield from _rates(spec, found)
    yield _decisions(spec, found)
    yield _first_command(found)
    free_gb = shutil.disk_usage(folder).free / 1e9
    low = free_gb < least_disk_gb
    remedy = f"Free some: least_disk_gb={least_disk_gb}" if low else ""
    yield Finding("disk", FAIL if low else OK, f"{free_gb:.1f} GB free under {folder}", remedy)


def _spec(spec: EnvSpec, made_for: EnvSpec) -> Finding:
    where = "simulated" if spec.simulated else "REAL"
    told = f"{where} {spec.robot}, task {spec.task or 'unnamed'}, {spec.step_rate_hz:g} Hz; made for {made_for.robot}"
    return Finding("spec", OK if spec.robot == made_for.robot else WARN, told)


def calibration(spec: EnvSpec) -> Finding:
    """How old the calibration is that the arm is used with."""
    name = "calibration"
    in_use, limit = calibration_in_use(spec.robot), max_age_days()
    if not spec.calibration_sha256:
        needed = bool(spec.cameras) and not spec.simulated
        remedy = "Calibrate: robot-rl calibrate" if needed else ""
        return Finding(name, WARN if needed else OK, "none is in use", remedy)
    if in_use.sha256 != spec.calibration_sha256:
        told = f"the arm names {spec.calibration_sha256[:12]}, which the site does not have"
        return Finding(name, WARN, told, "Its age cannot be told; set ROBOT_RL_SITE to where it lies")
    try:
        ages = in_use.ages_days()
    except CalibrationError as error:
        return Finding(name, FAIL, error.what, error.remedy or "Calibrate anew: robot-rl calibrate")
    old = max(ages.values()) > limit
    told = ", ".join(f"{part} {days:.1f} days old" for part, days in ages.items())
    remedy = f"Calibrate anew: robot-rl calibrate; {MAX_AGE}={limit:g} is the limit" if old else ""
    return Finding(name, WARN if old else OK, told, remedy)


def _safety(spec: EnvSpec, made_for: EnvSpec) -> Iterator[Finding]:
    shown = ", ".join(f"{name} {value:g}" for name, value in sorted(spec.limits.items()) if name.startswith(_SHOWN))
    wider = [name for name, value in spec.limits.items() if value > made_for.limits.get(name, value) + 1e-9]
    remedy = f"Wider than the policy was made for: {', '.join(wider)}" if wider else ""
    yield Finding("limits", WARN if wider else OK, shown or "the arm tells none", remedy)
    unguarded = spec.force_source == "none" and not spec.simulated
    remedy = "Nothing stops the arm by force: keep a hand on the emergency stop" if unguarded else ""
    yield Finding("force stop", WARN if unguarded else OK, f"force_source: {spec.force_source}", remedy)


def _rates(spec: EnvSpec, found: DryRun) -> Iterator[Finding]:
    share = found.observed_hz / spec.step_rate_hz
    level = FAIL if share < 0.5 else WARN if found.late or share < 0.9 else OK
    told = f"{found.observed_hz:.1f} Hz of {spec.step_rate_hz:g}, {found.late} late"
    remedy = "" if level == OK else "Look at the arm's streams, robot-rl doctor ros, and at what else this machine does"
    yield Finding("observations", level, told, remedy)
    for name, camera in spec.cameras.items():
        rate, wanted = found.frames_hz[name], min(camera.rate_hz, spec.step_rate_hz)
        told = f"{rate:.1f} new pictures a second of {wanted:g}"
        low = rate < 0.8 * wanted
        yield Finding(f"camera {name}", WARN if low else OK, told, "Look at the camera and its driver" if low else "")


def _decisions(spec: EnvSpec, found: DryRun) -> Finding:
    told = f"first {found.first_ms:.0f} ms, then {found.latency_p50_ms:.1f} ms (largest {found.latency_max_ms:.1f})"
    if not found.finite:
        return Finding("policy", FAIL, "gives what is no number", "Look at its training, and at what it sees")
    slow = found.latency_max_ms > 1e3 / spec.step_rate_hz
    remedy = "Longer than a step: fewer sampler steps with changes=, or a faster machine" if slow else ""
    return Finding("policy", WARN if slow else OK, told, remedy)


def _first_command(found: DryRun) -> Finding:
    told = (
        f"{1e3 * found.jump_m:.1f} mm, {found.jump_rad:.3f} rad from where the arm is; {found.at_limits:.0%} at limits"
    )
    far = found.jump_m > JUMP_M or found.jump_rad > JUMP_RAD
    remedy = f"Beyond {JUMP_M} m, {JUMP_RAD} rad it is ramped or refused: is this the start it was trained from?"
    return Finding("first target", WARN if far else OK, told, remedy if far else "")


def waived(config: Any) -> list[str]:
    """What the configuration leaves out of the usual care, in words."""
    told = []
    if config.confirm == "none":
        told.append("resets are not confirmed (confirm=none)")
    if config.speed >= 1.0:
        told.append("the first episode runs at full speed (speed=1)")
    return told
