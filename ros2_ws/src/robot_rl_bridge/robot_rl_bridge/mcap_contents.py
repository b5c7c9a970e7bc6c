"""What a recording says of itself: of which arm it is, which episodes it holds, who was in command when."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robot_rl.errors import ConfigError, StoreError
from robot_rl.types import EnvSpec, EpisodeEvent, Phase
from robot_rl_bridge.arm_description import ArmDescription, arm_from
from robot_rl_bridge.mcap_messages import ABOUT, Message, end_ns, messages, metadata, topics
from robot_rl_bridge.modes import ENABLED, Mode

_PHASES = {Mode.TRACKING: Phase.POLICY, Mode.TELEOP: Phase.HUMAN}
_VERDICTS = (EpisodeEvent.SUCCESS, EpisodeEvent.FAILURE, EpisodeEvent.DISCARD, EpisodeEvent.RERECORD)


@dataclass
class Span:
    """One episode: when, and how it ended."""

    begin_ns: int
    end_ns: int = 0
    event: EpisodeEvent | None = None
    cause: str = "end of recording"


@dataclass(frozen=True)
class Contents:
    """What a file says of itself."""

    path: Path
    spec: EnvSpec
    arm: ArmDescription
    namespace: str
    started: str
    spans: Sequence[Span] = field(default=())
    modes: Sequence[tuple[int, Mode]] = field(default=())

    @staticmethod
    def of(path: Path) -> Contents:
        """Read description, modes and events of a file. Raises StoreError."""
        spec_topic = next((topic for topic in topics(path) if topic.endswith("/spec")), "")
        told = next((each.content.data for each in messages(path, [spec_topic])), "") if spec_topic else ""
        if not told:
            raise StoreError(f"'{path}' does not say what arm it is of", remedy="Record while the node bridge runs")
        described = json.loads(told)
        try:
            arm, spec = arm_from(described["arm"], str(path)), EnvSpec.from_json(described["spec"])
        except (ConfigError, KeyError, TypeError) as error:
            raise StoreError(f"the description of the arm in '{path}' cannot be read: {error}") from error
        namespace = spec_topic.removesuffix("/spec").rpartition("/")[0]
        marks = list(messages(path, [f"{namespace}/mode", f"{namespace}/episode/event"]))
        modes = [(each.received_ns, Mode(each.content.message)) for each in marks if each.topic.endswith("/mode")]
        started = metadata(path, ABOUT).get("started_ns", path.stem)
        return Contents(path, spec, arm, namespace, started, _spans(marks, end_ns(path)), modes)

    @property
    def period_ns(self) -> int:
        return self.spec.step_period_ns

    def steps(self, span: Span) -> int:
        return max(0, (span.end_ns - span.begin_ns) // self.period_ns)

    def topic(self, name: str) -> str:
        """The full name of a topic of the description."""
        return name if name.startswith("/") else f"{self.namespace}/{name}"

    def phase(self, time_ns: int) -> Phase:
        """Who was in command at a time."""
        mode = next((mode for stamp, mode in reversed(self.modes) if stamp <= time_ns), Mode.IDLE)
        return _PHASES.get(mode, Phase.HOLD)


def _spans(marks: Sequence[Message], end_ns: int) -> list[Span]:
    """Episodes by what the bridge told. A verdict that comes after the end still counts for the episode before."""
    spans: list[Span] = []
    running: Span | None = None
    before = Mode.IDLE

    def close(time_ns: int, cause: str) -> None:
        nonlocal running
        if running is not None:
            running.end_ns, running.cause, running = time_ns, cause, None

    for mark in marks:
        if mark.topic.endswith("/mode"):
            mode = Mode(mark.content.message)
            if mode not in ENABLED:
                close(mark.received_ns, str(mode))
            elif running is None and before is Mode.RESETTING:
                spans.append(running := Span(mark.received_ns))
            before = mode
            continue
        event = EpisodeEvent(json.loads(mark.content.data)["event"])
        if event is EpisodeEvent.START and running is None and before in ENABLED:
            spans.append(running := Span(mark.received_ns))
        elif event in _VERDICTS and spans and spans[-1].event is None:
            spans[-1].event = event
            close(mark.received_ns, str(event))
    close(end_ns, "end of recording")
    return spans
