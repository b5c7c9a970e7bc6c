"""The error tree: every error says what was wrong, the limit it broke and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RobotRlError(Exception):
    """Root of all errors raised on purpose by this project.

    ``what`` names the thing and the place, ``limit`` the bound it broke (with its unit) and ``remedy`` the next
    action of the reader, or the valid choices. Apps print the message and exit with code 2, without a traceback.
    """

    def __init__(self, what: str, *, limit: str | None = None, remedy: str | None = None) -> None:
        self.what, self.limit, self.remedy = what, limit, remedy
        message = what
        if limit:
            message += f" (limit: {limit})"
        if remedy:
            message += f". {remedy}"
        super().__init__(message)


class ConfigError(RobotRlError):
    """A mistyped key, a value of the wrong type or an impossible combination in a configuration."""


class SpecMismatchError(RobotRlError):
    """Two parts that must agree (robot, data, checkpoint) differ in names, shapes, units, frames or rates."""


class InvalidArrayError(RobotRlError, ValueError):
    """An array has the wrong shape or dtype, or holds a value that is not finite."""


class RobotError(RobotRlError):
    """The robot, or the way to it, failed."""


class RobotConnectionError(RobotError, ConnectionError):
    """A robot cannot be reached or has gone away."""


class StaleObservationError(RobotError, TimeoutError):
    """A sensor stream has been silent for longer than allowed."""


class CommandRefusedError(RobotError):
    """A command never reached the arm: unknown frame, wrong kind, not finite, no lease, or the robot is stopped."""


class FarPlanError(CommandRefusedError):
    """A held robot was sent a plan that starts too far from it; one that starts near goes on."""


class DeviceError(RobotRlError):
    """A teleoperation device cannot be found, opened or read."""


class ResetError(RobotError, TimeoutError):
    """A reset did not reach its verified end in time."""


class SimulationDivergedError(RobotError):
    """Physics produced a value that is not finite."""


class ProtocolError(RobotRlError):
    """A message from another process is malformed, too large or of another version."""


class StoreError(RobotRlError):
    """An episode store, or a file in it, cannot be used."""


class EpisodeError(StoreError):
    """Data of one episode is wrong; names episode, array and row."""

    def __init__(
        self,
        what: str,
        *,
        episode: str | None = None,
        array: str | None = None,
        row: int | None = None,
        limit: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.episode, self.array, self.row = episode, array, row
        place = [f"episode {episode}"] if episode else []
        place += [f"array '{array}'"] if array else []
        place += [f"row {row}"] if row is not None else []
        super().__init__(f"{', '.join(place)}: {what}" if place else what, limit=limit, remedy=remedy)


class CorruptEpisodeError(EpisodeError):
    """Stored bytes are not what was written: a truncated file, a flipped bit, a missing entry."""


class SchemaVersionError(EpisodeError):
    """A file was written by a newer or foreign schema."""


class RecordingOverflowError(StoreError):
    """The recorder's bounded ring is full: the disk or the encoder cannot keep up."""


class DiskFullError(StoreError, OSError):
    """The disk, or the file size limit, does not take any more bytes."""


class CheckpointError(RobotRlError):
    """A checkpoint is missing, damaged, of another kind, or does not fit the robot and task at hand."""


class CalibrationError(RobotRlError):
    """Samples that give no calibration to be trusted, or a calibration that does not fit what it is used for."""


def valid_choices(given: str, choices: Iterable[str]) -> str:
    """Remedy text for an unknown name: the nearest valid one first, then all of them."""
    names = sorted(choices)
    nearest = difflib.get_close_matches(given, names, n=1)
    hint = f"Did you mean '{nearest[0]}'? " if nearest else ""
    return f"{hint}Valid: {', '.join(names) or '(none)'}"
