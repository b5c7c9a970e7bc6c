"""Recordings of the node recorder as episodes, through the very code that aligns the streams of a live arm.

An episode lasts from the end of a reset, or the key start, to the key that judges it, or to the next reset, stop or
fault. Messages are fed to ``Sensors`` in the order in which they were received, and the arm is observed at its step
rate, as the bridge does. What was executed are the set points that were sent to the arm; nobody recorded what was asked
for before the safety chain, so that they stand for the commands as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from robot_rl.data.formats.interchange import Recording, RecordingSet, require
from robot_rl.errors import SpecMismatchError, StoreError
from robot_rl.types import ActionSpec, EnvSpec, EpisodeEvent, target_kind
from robot_rl_bridge.mcap_contents import Contents
from robot_rl_bridge.mcap_replay import NAME, Replay

_UNWANTED = (EpisodeEvent.DISCARD, EpisodeEvent.RERECORD)


@dataclass(frozen=True)
class McapFormat:
    """``action`` is what the set points are expressed in (None: as they were sent), ``task`` the name of the task in
    the dataset's spec."""

    action: ActionSpec | None = None
    task: str = ""

    def read(self, source: Path) -> RecordingSet:
        """The episodes of a file, or of all files of a folder. Raises StoreError where there is none."""
        require(source, "recording")
        paths = sorted(source.glob("**/*.mcap")) if source.is_dir() else [source]
        if not paths:
            raise StoreError(f"no .mcap file in '{source}'", remedy="Check the path given as source=")
        files = [Contents.of(path) for path in paths]
        for other in files[1:]:
            if other.spec != files[0].spec:
                raise StoreError(f"'{other.path}' is of another arm than '{paths[0]}'", remedy="Import them apart")
        spec = self._spec(files[0].spec)
        recordings = [
            Recording(
                f"{NAME}/{file.started}/{span.begin_ns}", file.steps(span),
                lambda file=file, span=span: Replay(file, span, spec).episode(),
            )
            for file in files
            for span in file.spans
            if file.steps(span) > 0 and span.event not in _UNWANTED
        ]  # fmt: skip
        if not recordings:
            raise StoreError(f"no episode in '{source}'", remedy="Was the arm reset, or the key start pressed?")
        return RecordingSet(spec, recordings, ["streams that the arm's description does not name"])

    def write(self, recordings: RecordingSet, target: Path) -> Sequence[str]:
        """Not possible: episodes hold no raw streams. Raises StoreError."""
        raise StoreError("mcap can only be imported", remedy="Export with format=robomimic")

    def _spec(self, recorded: EnvSpec) -> EnvSpec:
        """The recorded spec with the action and the task that the dataset is to have."""
        offered = {part.name: target_kind(part.kind) for part in recorded.action.parts}
        for part in self.action.parts if self.action is not None else ():
            if offered.get(part.name) is not target_kind(part.kind):
                raise SpecMismatchError(
                    f"'{part.name}' of kind {part.kind.value} cannot be told from what was recorded",
                    limit=", ".join(f"{name}: {kind.value}" for name, kind in offered.items()),
                )
        return replace(recorded, action=self.action or recorded.action, task=self.task or recorded.task)
