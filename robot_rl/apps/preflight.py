"""What is looked at before a policy moves an arm. Nothing here moves it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from robot_rl.apps.findings import FAIL, OK, WARN, Finding
from robot_rl.apps.site import VARIABLE
from robot_rl.runtime.calibration_in_use import calibration_in_use
from robot_rl.runtime.dry_run import DryRun
from robot_rl.types import EnvSpec

JUMP_M, JUMP_RAD = 0.05, 0.2  # beyond these a first command is refused or ramped
_SHOWN = ("max_speed", "max_jump", "max_contact_force")  # of the limits; all of them are in the spec


@dataclass(frozen=True)
class Limits:
    """What is asked of calibration and disk."""

    oldest_calibration_h: float
    least_disk_gb: float


def look(spec: EnvSpec, made_for: EnvSpec, found: DryRun, folder: Path, limits: Limits) -> Iterator[Finding]:
    """Everything, for the arm of ``spec`` and a policy that was made for ``made_for``; ``folder`` is recorded to."""
    yield _spec(spec, made_for)
    yield calibration(spec, limits.oldest_calibration_h, os.environ.get(VARIABLE))
    yield from _safety(spec, made_for)
    yield from _rates(spec, found)
    yield _decisions(spec, found)
    yield _first_command(found)
    free_gb = shutil.disk_usage(folder).free / 1e9
    low = free_gb < limits.least_disk_gb
    remedy = f"Free some: least_disk_gb={limits.least_disk_gb}" if low else ""
    yield Finding("disk", FAIL if low else OK, f"{free_gb:.1f} GB free under {folder}", remedy)


def _spec(spec: EnvSpec, made_for: EnvSpec) -> Finding:
    where = "simulated" if spec.simulated else "REAL"
    told = f"{where} {spec.robot}, task {spec.task or 'unnamed'}, {spec.step_rate_hz:g} Hz; made for {made_for.robot}"
    return Finding("spec", OK if spec.robot == made_for.robot else WARN, told)


def calibration(spec: EnvSpec, oldest_h: float, site: str | None) -> Finding:
    """How old the calibration is that the arm names, by the file of that hash in the ``site`` folder."""
    name, wanted = "calibration", spec.calibration_sha256
    in_use = calibration_in_use(spec.robot)
    if wanted and in_use.sha256 == wanted:
        file, age_days = max(in_use.ages_days().items(), key=lambda pair: pair[1])
        return _aged(name, f"{file}.yaml", 24.0 * age_days, oldest_h)
    if not wanted:
        needed = bool(spec.cameras) and not spec.simulated
        remedy = "Calibrate: robot-rl calibrate" if needed else ""
        return Finding(name, WARN if needed else OK, "the arm names none", remedy)
    found = (
        next((path for path in sorted(Path(site).rglob("*.yaml")) if _digest(path) == wanted), None) if site else None
    )
    if found is None:
        return Finding(name, WARN, f"{wanted[:12]} is not in ${VARIABLE}", "Its age cannot be told; set the variable")
    try:
        made = datetime.fromisoformat(yaml.safe_load(found.read_text())["date"])
    except (KeyError, TypeError, ValueError, yaml.YAMLError):
        return Finding(name, WARN, f"{found.name} has no date", "Calibrate anew")
    made = made if made.tzinfo else made.replace(tzinfo=UTC)
    return _aged(name, found.name, (datetime.now(UTC) - made).total_seconds() / 3600.0, oldest_h)


def _aged(name: str, file: str, age_h: float, oldest_h: float) -> Finding:
    old = age_h > oldest_h
    remedy = f"Check or repeat it; oldest_calibration_h={oldest_h:g}" if old else ""
    return Finding(name, WARN if old else OK, f"{file}, {age_h:.1f} h old", remedy)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _safety(spec: EnvSpec, made_for: EnvSpec) -> Iterator[Finding]:
    shown = ", ".join(f"{name} {value:g}" for name, value in sorted(spec.limits.items()) if name.startswith(_SHOWN))
    wider = [name for name, value in spec.limits.items() if value > made_for.limits.get(name, value) + 1e-9]
    remedy = f"Wider than the policy was made for: {', '.join(wider)}" if wider else ""
    yield Finding("limits", WARN if wider else OK, shown or "the arm tells none", remedy)
    unguarded = spec.force_source == "none" and not spec.simulated
    remedy = "Nothing stops the arm by force: keep a hand on the emergency stop" if unguarded else ""
    yield Finding("force stop", WARN if unguarded else OK, f"force_source: {spec.force_source}", remedy)


def _rates(spec: EnvSpec, found: DryRun) -> Iterator[Finding]:
    slow = found.late > 0 or found.observed_hz < 0.9 * spec.step_rate_hz
    told = f"{found.observed_hz:.1f} Hz of {spec.step_rate_hz:g}, {found.late} late"
    yield Finding(
        "observations", FAIL if slow else OK, told, "Look at the arm's streams: robot-rl doctor ros" if slow else ""
    )
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
