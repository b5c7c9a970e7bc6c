"""What an actor has to say: remarks about episodes that ended (outcome, exclusion, deletion), and reports.

One small file each until the learner has heard it.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from robot_rl.data.episode_id import new_id
from robot_rl.data.file_lock import replace_file
from robot_rl.errors import ConfigError
from robot_rl.transport.messages import Message

EDITS = ("success", "exclude", "note", "deleted")
RESEND_S = 3.0

_log = logging.getLogger(__name__)


def check_edits(edits: Mapping[str, Any]) -> None:
    """Raise ConfigError for what cannot be said about an episode."""
    if not edits or not edits.keys() <= set(EDITS):
        raise ConfigError(f"cannot note {sorted(edits)} about an episode", limit=", ".join(EDITS))


class Notes:
    """The files ``<note>.note`` in ``folder``, told in order, one at a time, once their episode has arrived."""

    def __init__(self, folder: Path) -> None:
        self.problem = ""
        self._folder = folder
        self._waiting: dict[str, tuple[Message, Path]] = {}
        self._told_s = -math.inf

    def __len__(self) -> int:
        return len(self._waiting)

    def write(self, episode: str, edits: Mapping[str, Any]) -> None:
        """Add a note, durable on return; any thread. Raises ConfigError."""
        check_edits(edits)
        self._write({"episode": episode, "edits": dict(edits)})

    def report(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Add a report, durable on return; any thread."""
        self._write({"report": kind, "payload": dict(payload)})

    def _write(self, content: Mapping[str, Any]) -> None:
        replace_file(self._folder / f"{new_id()}.note", json.dumps(content).encode())

    def take(self, path: Path) -> None:
        """Take note of a file in the folder."""
        if path.stem in self._waiting:
            return
        try:
            content = json.loads(path.read_bytes())
            self._waiting[path.stem] = _message(path.stem, content), path
        except (ValueError, KeyError, TypeError) as error:
            self._refuse(path, f"the note {path.name} cannot be read: {error}")

    def ask_again(self) -> None:
        """What was told last may be lost."""
        self._told_s = -math.inf

    def next_message(self, now_s: float, on_their_way: Collection[str]) -> Message | None:
        """The next note to tell; those about episodes ``on_their_way`` wait."""
        if now_s - self._told_s < RESEND_S:
            return None
        for message, _ in self._waiting.values():
            if message.fields.get("episode") not in on_their_way:
                self._told_s = now_s
                return message
        return None

    def heard(self, note: str, reason: str) -> None:
        """The learner has applied a note, or refuses it for ``reason``."""
        if note not in self._waiting:
            return
        message, path = self._waiting.pop(note)
        self._told_s = -math.inf
        if reason:
            self._refuse(path, f"note about episode {message.fields.get('episode', '?')}: {reason}")
        else:
            path.unlink(missing_ok=True)

    def _refuse(self, path: Path, problem: str) -> None:
        self.problem = problem
        _log.warning("%s", problem)
        path.rename(path.with_suffix(".refused"))


def _message(note: str, content: Mapping[str, Any]) -> Message:
    if "report" in content:
        return Message("report", {"note": note, "report": str(content["report"]), "payload": dict(content["payload"])})
    return Message("note", {"note": note, "episode": str(content["episode"]), "edits": dict(content["edits"])})
